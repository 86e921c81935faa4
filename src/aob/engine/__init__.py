"""The native engine: owns a partition, keeps its active runs in memory, commits their events in groups."""
