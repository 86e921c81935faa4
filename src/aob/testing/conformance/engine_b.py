"""The second half of the suite that every engine passes: errors, messages, control, forks, limits, approvals, sagas."""

from __future__ import annotations

from aob.testing.conformance.engine_b_approvals import ApprovalTests
from aob.testing.conformance.engine_b_calls import CallTests
from aob.testing.conformance.engine_b_cancel import CancelTests
from aob.testing.conformance.engine_b_checkpoint import CheckpointTests
from aob.testing.conformance.engine_b_children import ChildTests
from aob.testing.conformance.engine_b_effects import EffectTests
from aob.testing.conformance.engine_b_errors import ErrorTests
from aob.testing.conformance.engine_b_exporters import ExporterTests
from aob.testing.conformance.engine_b_fork import ForkTests
from aob.testing.conformance.engine_b_gaps import GapTests
from aob.testing.conformance.engine_b_limits import LimitTests
from aob.testing.conformance.engine_b_pause import PauseTests
from aob.testing.conformance.engine_b_pins import PinTests
from aob.testing.conformance.engine_b_retry import RetryTests
from aob.testing.conformance.engine_b_sagas import SagaTests
from aob.testing.conformance.engine_b_signals import SignalTests
from aob.testing.conformance.engine_b_unserved import UnservedTests


class EngineConformanceB(
    ErrorTests,
    EffectTests,
    SignalTests,
    CallTests,
    CancelTests,
    PauseTests,
    CheckpointTests,
    GapTests,
    ForkTests,
    RetryTests,
    LimitTests,
    ApprovalTests,
    SagaTests,
    ChildTests,
    ExporterTests,
    UnservedTests,
    PinTests,
):
    """Subclass it beside `EngineConformance`."""
