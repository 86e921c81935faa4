"""The sans-IO core: events in, commands out. No clock, socket, store or thread."""
