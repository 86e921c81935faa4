"""The shape of the source: no cycles, no hidden imports, and sizes that only go down."""

import ast
from pathlib import Path

from tests.architecture.source import cycles, edges, modules

LONGEST_FILE = 800
LONGEST_FUNCTION = 60

# Functions that are longer, and how long: each is one idea that gains nothing by being cut. A number may only go down.
LONG_FUNCTIONS: dict[str, int] = {}


def planted(tmp_path: Path, **files: str) -> Path:
    package = tmp_path / "aob"
    for name, text in files.items():
        path = package / f"{name.replace('__', '/')}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return package


def inner_imports(package: Path | None = None) -> list[str]:
    found = modules(package) if package else modules()
    hidden: set[str] = set()
    for module in found.values():
        functions = [n for n in ast.walk(module.tree) if isinstance(n, ast.FunctionDef | ast.AsyncFunctionDef)]
        inside = {n for function in functions for n in ast.walk(function)}
        own = (node for name, node in module.imports() if name in found and node in inside)
        hidden |= {f"{module.path}:{node.lineno}" for node in own}
    return sorted(hidden)


def test_no_module_reaches_itself_through_its_imports() -> None:
    assert cycles(edges(modules())) == []


def test_a_planted_cycle_is_seen(tmp_path: Path) -> None:
    package = planted(tmp_path, a="from aob import b\n", b="from . import c\n", c="import aob.a\n", d="import aob.a\n")
    assert cycles(edges(modules(package))) == [["aob.a", "aob.b", "aob.c"]]


def test_no_function_imports_our_own_package() -> None:
    assert inner_imports() == []


def test_a_planted_hidden_import_is_seen(tmp_path: Path) -> None:
    package = planted(tmp_path, a="", b="def f():\n    from . import a\n    return a\n")
    assert inner_imports(package) == [f"{package / 'b.py'}:2"]


def test_no_file_is_too_long_to_read_at_once() -> None:
    assert {m.name: m.lines for m in modules().values() if m.lines > LONGEST_FILE} == {}


def test_functions_stay_short_and_the_long_ones_only_shrink() -> None:
    lengths = {name: length for module in modules().values() for name, length in module.functions()}
    too_long = {name: length for name, length in lengths.items() if length > LONG_FUNCTIONS.get(name, LONGEST_FUNCTION)}
    assert too_long == {}, "cut these, or list them in LONG_FUNCTIONS with a reason"
    shrunk = {name: lengths.get(name, 0) for name, limit in LONG_FUNCTIONS.items() if lengths.get(name, 0) < limit}
    assert shrunk == {}, "these became shorter: lower their numbers in LONG_FUNCTIONS"


def test_the_length_of_a_planted_function_is_seen(tmp_path: Path) -> None:
    package = planted(tmp_path, a="class C:\n    def f(self):\n" + "        x = 1\n" * 70)
    assert dict(modules(package)["aob.a"].functions()) == {"aob.a.C.f": 71}
