"""The parts of the store suite, one idea each; `aob.testing.conformance.store` puts them together."""
