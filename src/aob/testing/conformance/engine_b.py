"""The second half of the suite that every engine passes: errors, messages, control, forks, limits, approvals, sagas, children."""

from __future__ import annotations

from aob.testing.conformance.engine_b_errors import ErrorTests


class EngineConformanceB(ErrorTests):
    """Subclass it beside `EngineConformance`."""
