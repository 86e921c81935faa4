"""Behaviour flags: how the kernel acted when a run was started. Written into `run_started`, so that a fix of ours never
changes what an old history replays to. A flag is a bit; a bit is never used again."""

from __future__ import annotations

CURRENT = 0
"""Flags of runs that are started now."""
