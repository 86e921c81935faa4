"""The suite that every engine passes: a test for each decision in what two readers could take in two ways.

Subclass `EngineConformance` in a test module and say how a new engine is made; see `engine_harness`. The tests are
plain coroutine methods; pytest runs them with `pytest-asyncio` in auto mode.
"""

from __future__ import annotations

from aob.testing.conformance.engine_asyncio import OrderTests
from aob.testing.conformance.engine_attempts import AttemptTests, KeyTests
from aob.testing.conformance.engine_harness import EngineUnderTest as EngineUnderTest
from aob.testing.conformance.engine_identity import IdentityTests
from aob.testing.conformance.engine_replay import ChangedTests, ReplayTests
from aob.testing.conformance.engine_starts import StartTests
from aob.testing.conformance.engine_steps import RecordTests, StepIdTests
from aob.testing.conformance.engine_time import TimeTests, ValueTests


class EngineConformance(
    IdentityTests, StartTests, TimeTests, ValueTests, StepIdTests, RecordTests, OrderTests, ReplayTests, ChangedTests,
    AttemptTests, KeyTests,
):  # fmt: skip
    """Everything that is asked of an engine."""
