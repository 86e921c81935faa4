"""Types of every kind that the codec takes, for its tests."""

from __future__ import annotations

import dataclasses
import datetime as dt
import enum
from typing import Any, Generic, Literal, NamedTuple, NewType, TypedDict, TypeVar

import msgspec
import pydantic

T = TypeVar("T")
CustomerId = NewType("CustomerId", str)


class Color(enum.Enum):
    RED = "red"
    BLUE = "blue"


class Level(enum.IntEnum):
    LOW = 1
    HIGH = 2


class Mixed(enum.Enum):
    NUMBER = 1
    TEXT = "x"
    PAIR = (1, 2)


class Model(pydantic.BaseModel):
    x: int
    tags: set[str] = set()
    count: int = pydantic.Field(3, alias="howMany")
    ratio: float = 0.5
    extra: Any = None


class Small(pydantic.BaseModel):
    x: int


class Bigger(Small):
    z: int = 0


@dataclasses.dataclass(frozen=True)
class Approved:
    reason: str


@dataclasses.dataclass(frozen=True)
class Rejected:
    reason: str


@dataclasses.dataclass
class Order:
    outcome: Approved | Rejected
    model: Model
    others: list[Approved | Rejected] = dataclasses.field(default_factory=list)
    small: Small | None = None
    mixed: Mixed = Mixed.NUMBER
    parts: list[Order] = dataclasses.field(default_factory=list)


@dataclasses.dataclass
class Late:
    x: int
    seen: list[int] = dataclasses.field(default_factory=list, init=False)


class Nameless:
    """No `__eq__`, and no JSON form."""


@dataclasses.dataclass(eq=False)
class Incomparable:
    x: int


@dataclasses.dataclass
class Box(Generic[T]):
    item: T
    items: list[T]


@dataclasses.dataclass
class Loose:
    anything: Any


class Point(msgspec.Struct):
    x: int
    names: dict[int, str] = {}


class Line(msgspec.Struct, array_like=True):
    start: int
    end: int


class Cat(msgspec.Struct, tag=True):
    lives: int


class Dog(msgspec.Struct, tag=True):
    age: int


class Visit(TypedDict):
    id: int
    at: dt.datetime


class Outcome(TypedDict, total=False):
    outcome: Approved | Rejected


class Pair(NamedTuple):
    left: int
    right: str


class Verdict(NamedTuple):
    outcome: Approved | Rejected
    note: str


Everything = Approved | Rejected | Model | Point | Visit | list[Approved] | list[Rejected] | dt.datetime | str | None
Mode = Literal["fast", "full", 1]


class Declined(Exception):
    """Its arguments are not its constructor's."""

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(f"declined: {reason}")
        self.code = code
        self.reason = reason


class Holder(Exception):
    """Keeps what has no JSON form."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.thing = object()


class Broken(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no text")


class Hostile(OSError):
    @property
    def filename(self) -> str:
        raise RuntimeError("no name")

    def __str__(self) -> str:
        return "hostile"


class Unloadable(Exception):
    """Its constructor wants what it does not record."""

    def __init__(self, thing: object) -> None:
        super().__init__(f"about {thing}")
        self.thing = thing


class NotAnError:
    made = 0

    def __init__(self, *_args: object) -> None:
        type(self).made += 1
