"""Decisions asked of people, made of steps, timers and tickets alone."""
