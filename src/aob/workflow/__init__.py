"""What authors import: definitions, and the calls that workflow and activity code makes. Re-exported by `aob`."""
