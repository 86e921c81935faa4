"""A world in one event loop: many processes on one store, every fault drawn from a seed."""
