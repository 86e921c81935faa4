"""For tests of workflows: an engine in virtual time, a crash at every write, and replay of recorded histories."""

from aob.testing.crash import Crashes, CrashFailed, crash_everywhere
from aob.testing.environment import Environment, Stuck, environment
from aob.testing.replays import BadHistory, replay, save
from aob.testing.simulation.users import Simulated, SimulationFailed, simulate

__all__ = [
    "BadHistory",
    "CrashFailed",
    "Crashes",
    "Environment",
    "Simulated",
    "SimulationFailed",
    "Stuck",
    "crash_everywhere",
    "environment",
    "replay",
    "save",
    "simulate",
]
