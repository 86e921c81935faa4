"""The source of the package as the tests of its shape see it: modules, the imports between them, sizes."""

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

PACKAGE = Path(__file__).parents[2] / "src" / "aob"


@dataclass(frozen=True)
class Module:
    """One file of the package."""

    name: str
    path: Path
    package: bool

    @cached_property
    def text(self) -> str:
        return self.path.read_text(encoding="utf-8")

    @cached_property
    def tree(self) -> ast.Module:
        return ast.parse(self.text)

    @property
    def lines(self) -> int:
        return self.text.count("\n")

    def functions(self) -> Iterator[tuple[str, int]]:
        """The qualified name and the length in lines of each function; one inside another has its own entry."""

        def visit(node: ast.AST, prefix: str) -> Iterator[tuple[str, int]]:
            for child in ast.iter_child_nodes(node):
                name = prefix
                if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
                    name = f"{prefix}.{child.name}"
                if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef):
                    yield name, (child.end_lineno or child.lineno) - child.lineno + 1
                yield from visit(child, name)

        yield from visit(self.tree, self.name)

    def imports(self) -> Iterator[tuple[str, ast.stmt]]:
        """Every module name that this one imports when it runs, with the statement; `from a import b` is a and a.b."""
        for_types = {
            node
            for branch in ast.walk(self.tree)
            if isinstance(branch, ast.If) and "TYPE_CHECKING" in ast.unparse(branch.test)
            for statement in branch.body
            for node in ast.walk(statement)
        }
        for node in ast.walk(self.tree):
            if node in for_types:
                continue
            if isinstance(node, ast.Import):
                yield from ((alias.name, node) for alias in node.names)
            elif isinstance(node, ast.ImportFrom):
                origin = self._origin(node)
                yield origin, node
                yield from ((f"{origin}.{alias.name}", node) for alias in node.names)

    def _origin(self, node: ast.ImportFrom) -> str:
        if not node.level:
            return node.module or ""
        here = self.name.split(".")
        kept = here[: len(here) - node.level + self.package]
        return ".".join([*kept, *([node.module] if node.module else [])])


def modules(package: Path = PACKAGE) -> dict[str, Module]:
    """Every module of the package by its dotted name."""
    found: dict[str, Module] = {}
    for path in sorted(package.rglob("*.py")):
        parts = [package.name, *path.relative_to(package).with_suffix("").parts]
        is_package = parts[-1] == "__init__"
        name = ".".join(parts[:-1] if is_package else parts)
        found[name] = Module(name, path, is_package)
    return found


def edges(found: dict[str, Module]) -> dict[str, set[str]]:
    """For each module those of its own package that it imports, by their most precise names."""
    graph: dict[str, set[str]] = {}
    for module in found.values():
        named = {name for name, _ in module.imports() if name in found and name != module.name}
        graph[module.name] = {n for n in named if not any(other.startswith(f"{n}.") for other in named)}
    return graph


def cycles(graph: dict[str, set[str]]) -> list[list[str]]:
    """Groups of modules that reach each other."""

    def reachable(start: str) -> set[str]:
        seen: set[str] = set()
        waiting = [start]
        while waiting:
            for target in graph[waiting.pop()] - seen:
                seen.add(target)
                waiting.append(target)
        return seen

    reach = {name: reachable(name) for name in graph}
    groups = {tuple(sorted(b for b in reach[a] if a in reach[b])) for a in graph if a in reach[a]}
    return sorted(list(group) for group in groups)
