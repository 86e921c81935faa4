"""What users import from `aob`: every name and parameter that the reference promises, and every error to catch."""

import inspect
from collections.abc import Callable
from typing import Any

import pytest

import aob
from aob import errors

CALLS: list[tuple[Callable[..., Any], set[str]]] = [
    (aob.connect, {"url", "tenant", "codec", "api_key"}),
    (aob.Client.serve, {"workflows", "queues", "activities"}),
    (aob.Client.start, {"workflow", "run_id", "tenant", "attributes", "timeout", "start_at", "signal"}),
    (aob.Client.start_many, {"workflow", "inputs", "run_ids", "tenant", "attributes"}),
    (aob.Client.get, {"run_id", "tenant"}),
    (aob.Client.list, {"status", "workflow", "tenant", "attributes", "cursor"}),
    (aob.Client.delete, {"run_id"}),
    (aob.Run.result, {"timeout"}),
    (aob.Run.events, {"after", "live"}),
    (aob.Run.signal, {"name", "payload", "id"}),
    (aob.Run.query, {"name", "args"}),
    (aob.Run.update, {"name", "args", "id"}),
    (aob.Run.cancel, {"reason"}),
    (aob.Run.terminate, {"reason"}),
    (aob.Run.fork, {"at", "overrides", "input", "run_id"}),
    (aob.wait_signal, {"name", "type", "timeout"}),
    (aob.signals, {"name", "type"}),
    (aob.signal_run, {"run_id", "name", "payload"}),
    (aob.wait_until, {"predicate", "timeout"}),
    (aob.approval, {"title", "data", "type", "assignees", "timeout", "on_timeout", "escalate_to"}),
    (aob.checkpoint, {"state"}),
    (aob.checkpoint_state, {"type"}),
    (aob.emit, {"name", "data"}),
    (aob.heartbeat, {"details"}),
    (aob.changed, {"change_id"}),
    (aob.Retry, {"initial", "factor", "max_delay", "max_attempts", "jitter", "no_retry_on", "per_error"}),
    (aob.Limits, {"steps", "children", "depth", "wall_time"}),
    (aob.testing.crash_everywhere, {"workflow", "args"}),
    (aob.testing.replay, {"workflow", "history"}),
    (aob.testing.environment, {"seed"}),
]


@pytest.mark.parametrize(("call", "names"), CALLS, ids=lambda x: getattr(x, "__qualname__", ""))
def test_every_promised_parameter_is_accepted(call: Callable[..., Any], names: set[str]) -> None:
    assert names <= set(inspect.signature(call).parameters)


def test_every_error_can_be_caught_by_its_name_in_aob() -> None:
    tree = {n for n, c in vars(errors).items() if inspect.isclass(c) and issubclass(c, aob.AobError)}
    assert tree <= set(aob.__all__)


def test_all_that_is_listed_is_there_and_listed_once() -> None:
    assert len(aob.__all__) == len(set(aob.__all__))
    assert [name for name in aob.__all__ if not hasattr(aob, name)] == []


def test_what_activity_code_is_told() -> None:
    fields = {"run_id", "tenant", "step", "attempt", "idempotency_key", "heartbeat", "cancelled"}
    assert fields <= {n for n in dir(aob.Info) if not n.startswith("_")}
