"""Activities and workflows as declared: the decorators and what they make of a function."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Awaitable, Callable, Coroutine
from datetime import timedelta
from typing import Any, Generic, Literal, ParamSpec, TypedDict, TypeVar, Unpack, cast, overload

import msgspec

from aob.errors import BadDefinition
from aob.kernel.codec import SignatureCodec
from aob.kernel.limits import Limits
from aob.kernel.loop import running_workflow_loop
from aob.kernel.machine import Machine
from aob.kernel.retry import Retry
from aob.kernel.steps import StepCall

P = ParamSpec("P")
R = TypeVar("R")
Seconds = float | timedelta


class ActivityPlan(msgspec.Struct, frozen=True, kw_only=True):
    """How to carry out an activity. Times are in seconds; None is without limit."""

    name: str
    fn: Callable[..., Any]
    codec: SignatureCodec
    is_async: bool
    retry: Retry | None = None
    timeout: float | None = None
    total_timeout: float | None = None
    heartbeat_timeout: float | None = None
    queue: str | None = None
    on_cancel: Literal["abandon", "wait"] = "abandon"
    local: bool = False


class ActivityOptions(TypedDict, total=False):
    """What `.options(…)` may override."""

    retry: Retry | None
    timeout: Seconds | None
    total_timeout: Seconds | None
    heartbeat_timeout: Seconds | None
    queue: str | None
    on_cancel: Literal["abandon", "wait"]
    local: bool


class Activity(Generic[P, R]):
    """A function with side effects. Called in a workflow it is a durable step; called elsewhere it is the plain
    function."""

    def __init__(self, fn: Callable[P, Any], plan: ActivityPlan) -> None:
        self.plan = plan
        self.name = plan.name
        self._encode = plan.codec.encode_args
        self._decode = plan.codec.result.decode
        self._wait = plan.on_cancel == "wait"
        functools.update_wrapper(self, fn)

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> Coroutine[Any, Any, R]:
        loop = running_workflow_loop()
        if loop is None:
            return self.plan.fn(*args, **kwargs)
        machine = cast(Machine, loop.owner)
        call = StepCall(machine, "activity", self.name, self._encode(args, kwargs), self.plan, self._decode, self._wait)
        return cast("Coroutine[Any, Any, R]", call)

    def options(self, **options: Unpack[ActivityOptions]) -> Activity[P, R]:
        """The same activity with other options, for one call."""
        changed: dict[str, Any] = {**options}
        for key in ("timeout", "total_timeout", "heartbeat_timeout"):
            if key in changed:
                changed[key] = _seconds(changed[key])
        unknown = set(changed) - set(ActivityOptions.__annotations__)
        if unknown:
            raise BadDefinition(f"activity {self.name}: unknown options {', '.join(sorted(unknown))}")
        return Activity(self.plan.fn, msgspec.structs.replace(self.plan, **changed))

    def __repr__(self) -> str:
        return f"<activity {self.name}>"


@overload
def activity(fn: Callable[P, Awaitable[R]], /) -> Activity[P, R]: ...
@overload
def activity(fn: Callable[P, R], /) -> Activity[P, R]: ...
@overload
def activity(
    *,
    name: str | None = None,
    retry: Retry | None = None,
    timeout: Seconds | None = None,
    total_timeout: Seconds | None = None,
    heartbeat_timeout: Seconds | None = None,
    queue: str | None = None,
    on_cancel: Literal["abandon", "wait"] = "abandon",
    local: bool = False,
) -> _ActivityDecorator: ...
def activity(fn: Callable[..., Any] | None = None, /, **options: Any) -> Any:
    """Declare an activity.

    Args:
        name: the step's name; default: the function's.
        retry: how it is tried again; without it an error is final.
        timeout: seconds (or a timedelta) for one attempt.
        total_timeout: from first scheduling to the end, retries included.
        heartbeat_timeout: between two heartbeats.
        queue: which workers run it; without it the worker that owns the run.
        on_cancel: `abandon` raises at once in the workflow; `wait` when the attempt has stopped.
        local: on Temporal, run as a local activity.

    Raises:
        BadDefinition: the function or an option cannot work.
    """
    if fn is not None:
        return _make_activity(fn, {})
    return functools.partial(_make_activity, options=options)


class _ActivityDecorator:
    """The type of `@aob.activity(…)`."""

    @overload
    def __call__(self, fn: Callable[P, Awaitable[R]], /) -> Activity[P, R]: ...
    @overload
    def __call__(self, fn: Callable[P, R], /) -> Activity[P, R]: ...
    def __call__(self, fn: Any, /) -> Any: ...


def _make_activity(fn: Callable[..., Any], options: dict[str, Any]) -> Activity[..., Any]:
    if inspect.isasyncgenfunction(fn) or inspect.isgeneratorfunction(fn):
        raise BadDefinition(f"activity {fn.__qualname__} is a generator: return the values, or emit them with aob.emit")
    name = _name(options.pop("name", None) or fn.__name__, "activity")
    if options.get("on_cancel", "abandon") not in ("abandon", "wait"):
        raise BadDefinition(f"activity {name}: on_cancel is 'abandon' or 'wait', not {options['on_cancel']!r}")
    for key in ("timeout", "total_timeout", "heartbeat_timeout"):
        if key in options:
            options[key] = _seconds(options[key])
    try:
        plan = ActivityPlan(
            name=name,
            fn=fn,
            codec=SignatureCodec(fn, f"activity {name}"),
            is_async=inspect.iscoroutinefunction(fn),
            **options,
        )
    except TypeError as e:
        raise BadDefinition(f"activity {name}: {e}") from e
    return Activity(fn, plan)


class ChildHandle(msgspec.Struct, frozen=True):
    """A detached child run, as its parent sees it."""

    run_id: str


class ChildPlan(msgspec.Struct, frozen=True, kw_only=True):
    """How to start a child run."""

    workflow: Workflow[..., Any]
    run_id: str | None = None
    detached: bool = False


class Workflow(Generic[P, R]):
    """A deterministic async function. Called in a workflow it is a child run; called elsewhere it runs in memory.

    Args:
        timeout: seconds from start to end.
        limits: what the run and its children may use up.
        cancel_grace: seconds that cleanup may take after a cancel.
        fidelity: `fast` records a step when it finishes; `full` also when it was scheduled and started, with its input.
        pinned: a run stays with the build whose worker began it, until it ends; else it moves on to whatever build
            owns its partition.
    """

    def __init__(
        self,
        fn: Callable[P, Coroutine[Any, Any, R]],
        *,
        name: str | None = None,
        timeout: Seconds | None = None,
        limits: Limits | None = None,
        cancel_grace: Seconds = 60.0,
        fidelity: Literal["fast", "full"] = "fast",
        pinned: bool = False,
        child: ChildPlan | None = None,
    ) -> None:
        self.fn = fn
        self.name = _name(name or fn.__name__, "workflow")
        if not inspect.iscoroutinefunction(fn):
            raise BadDefinition(f"workflow {self.name} must be an async def")
        if fidelity not in ("fast", "full"):
            raise BadDefinition(f"workflow {self.name}: fidelity is 'fast' or 'full', not {fidelity!r}")
        self.timeout = _seconds(timeout)
        self.limits = limits or Limits()
        self.cancel_grace = _seconds(cancel_grace) or 0.0
        self.fidelity: Literal["fast", "full"] = fidelity
        self.pinned = pinned
        self.codec = SignatureCodec(fn, f"workflow {self.name}")
        self._child = child
        functools.update_wrapper(self, fn)

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> Coroutine[Any, Any, R]:
        loop = running_workflow_loop()
        if loop is None:
            return self.fn(*args, **kwargs)
        plan = self._child or ChildPlan(workflow=self)
        decode = _decode_handle if plan.detached else self.codec.result.decode
        machine = cast(Machine, loop.owner)
        call = StepCall(machine, "child", self.name, self.codec.encode_input(args, kwargs), plan, decode)
        return cast("Coroutine[Any, Any, R]", call)

    def options(self, *, run_id: str | None = None, detached: bool = False) -> Workflow[P, Any]:
        """This workflow as a child with other options.

        Args:
            run_id: the child's id; default `{parent}~{name}.{k}`.
            detached: the await returns a `ChildHandle` once the start is durable; the child outlives its parent.
        """
        clone: Workflow[P, Any] = object.__new__(Workflow)  # pyright: ignore[reportUnknownVariableType]
        clone.__dict__.update(self.__dict__)
        clone._child = ChildPlan(workflow=self, run_id=run_id, detached=detached)
        return clone

    def __repr__(self) -> str:
        return f"<workflow {self.name}>"


class WorkflowOptions(TypedDict, total=False):
    """What `@aob.workflow(…)` takes."""

    name: str | None
    timeout: Seconds | None
    limits: Limits | None
    cancel_grace: Seconds
    fidelity: Literal["fast", "full"]
    pinned: bool


@overload
def workflow(fn: Callable[P, Coroutine[Any, Any, R]], /) -> Workflow[P, R]: ...
@overload
def workflow(
    **options: Unpack[WorkflowOptions],
) -> Callable[[Callable[P, Coroutine[Any, Any, R]]], Workflow[P, R]]: ...
def workflow(fn: Callable[..., Any] | None = None, /, **options: Any) -> Any:
    """Declare a workflow; see `Workflow` for the options.

    Raises:
        BadDefinition: the function is not an `async def`, or an option cannot work.
    """
    if fn is not None:
        return Workflow(fn)  # pyright: ignore[reportUnknownArgumentType, reportUnknownVariableType]
    unknown = set(options) - set(WorkflowOptions.__annotations__)
    if unknown:
        raise BadDefinition(f"aob.workflow: unknown options {', '.join(sorted(unknown))}")
    return lambda f: Workflow(f, **options)  # pyright: ignore


def _decode_handle(data: Any) -> ChildHandle:
    return ChildHandle(msgspec.json.decode(data, type=str))


def _name(name: str, what: str) -> str:
    if not name or "#" in name or "~" in name or "/" in name or len(name) > 100:
        raise BadDefinition(f"{what} name {name!r}: 1 to 100 characters without # ~ /")
    return name


def _seconds(value: Seconds | None) -> float | None:
    if value is None:
        return None
    seconds = value.total_seconds() if isinstance(value, timedelta) else float(value)
    if seconds < 0:
        raise BadDefinition(f"a time must not be negative: {value}")
    return seconds
