"""Equal values have equal bytes, in every process."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from aob.errors import BadPayload
from aob.kernel.codec import canonical, checksum, codec_for
from tests.unit.kernel.shapes import Model, Point

PROGRAM = """
import dataclasses, datetime, decimal, enum, typing, uuid
import msgspec, pydantic
from aob.kernel.codec import SignatureCodec, checksum, codec_for

class Color(enum.Enum):
    RED = "red"; BLUE = "blue"; GREEN = "green"

class Mixed(enum.Enum):
    ONE = 1; TWO = "two"; THREE = (3,)

class Model(pydantic.BaseModel):
    names: set[str]; sets: set[frozenset[str]]; by_color: dict[Color, set[str]]; pairs: list[tuple[set[str], int]]

@dataclasses.dataclass(frozen=True)
class Left:
    x: str

@dataclasses.dataclass(frozen=True)
class Right:
    x: str

@dataclasses.dataclass
class Holder:
    z: set[str]; a: dict[str, set[Color]]; models: list[Model]; ids: dict[uuid.UUID, set[Mixed]]
    sets: frozenset[frozenset[str]]; union: set[Left | Right]

class Struct(msgspec.Struct):
    b: set[decimal.Decimal]; a: dict[int, set[frozenset[int]]]

def fetch(tags: set[str], *more: set[Color], **rest: frozenset[str]) -> None: ...

words = [chr(97 + n) * 3 for n in range(20)]
sets = {frozenset(words[:n]) for n in range(6)} | {frozenset("xyz")}
model = Model(names=set(words), sets=sets, by_color={c: set(words) for c in {*Color}}, pairs=[(set(words), 1)])
holder = Holder(set(words), {w: {*Color} for w in set(words)}, [model], {uuid.UUID(int=n): {*Mixed} for n in range(9)},
                frozenset(sets), {k(w) for w in words for k in (Left, Right)})
numbers = {n: {frozenset({1, n}), frozenset({2, 1}), frozenset()} for n in (10, 9)}
struct = Struct({decimal.Decimal(n) for n in range(9)}, numbers)
mixed = set[int | str | None], {1, "a", None, "b"}
for annotation, value in ((Holder, holder), (Model, model), (Struct, struct), mixed):
    data, back = codec_for(annotation, "w").encode_checked(value)
    print(data.decode(), checksum(data))
print(SignatureCodec(fetch, "w").encode_args((set(words), {*Color}), {w: frozenset(words) for w in {*words}}).decode())
"""


def run_under(seed: str) -> str:
    env = os.environ | {"PYTHONHASHSEED": seed, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    return subprocess.run([sys.executable, "-c", PROGRAM], env=env, capture_output=True, text=True, check=True).stdout


def test_bytes_are_the_same_under_every_hash_seed() -> None:
    first = run_under("1")
    assert len(first.splitlines()) == 5
    assert first == run_under("2") == run_under("3")


def test_insertion_order_does_not_show() -> None:
    codec = codec_for(dict[str, set[int]], "w")
    assert codec.encode({"b": {3, 1}, "a": set()}) == codec.encode({"a": set(), "b": {1, 3}}) == b'{"a":[],"b":[1,3]}'
    model = codec_for(Model, "w")
    assert model.encode(Model(x=1, tags={"b", "a"})).startswith(b'{"count":3,"extra":null,"ratio":0.5,"tags":["a","b"]')
    assert codec_for(Point, "w").encode(Point(1, {10: "b", 2: "a"})) == b'{"names":{"10":"b","2":"a"},"x":1}'


def test_canonical_sorts_any_json() -> None:
    assert canonical(b' { "b" : [ 1.0 , {"z":1, "a":2} ], "a" : 1e2 } ') == b'{"a":100.0,"b":[1.0,{"a":2,"z":1}]}'
    assert canonical(b'{"a":1,"a":2}') == b'{"a":2}'


@pytest.mark.parametrize("data", [b"", b"{", b"NaN", b'"\xff"', b"[" * 100_000])
def test_canonical_refuses_what_is_not_json(data: bytes) -> None:
    with pytest.raises(BadPayload):
        canonical(data)


def test_checksums_are_fixed() -> None:
    assert checksum(b"") == 0
    assert checksum(b'{"a":1}') == 1444654255
