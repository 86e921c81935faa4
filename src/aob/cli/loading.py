"""From `module:function`, a file or a module to the workflows that it defines."""

from __future__ import annotations

import difflib
import importlib
import os
import sys
import traceback
from pathlib import Path
from types import ModuleType
from typing import Any, cast

from aob.cli.session import CommandFailed, Misuse
from aob.engine.payloads import PayloadCodec
from aob.workflow.definitions import Workflow

AnyWorkflow = Workflow[..., Any]


def resolve(reference: str) -> AnyWorkflow | str:
    """The workflow that is meant: by `module:function`, by a file, or the registered name itself.

    Raises:
        Misuse: there is no such module, or it has no such workflow.
        CommandFailed: its module fails when it is imported.
    """
    if reference.endswith(".json"):
        raise Misuse(
            f"{reference}: workflows as JSON files are not part of this release; give module:function or a name"
        )
    target, colon, attribute = _split(reference)
    if colon:
        return find(load_module(target), attribute)
    if _is_path(target):
        return only(load_module(target))
    return target


def workflows_of(reference: str) -> list[AnyWorkflow]:
    """The workflows of a module or file, or the one that `module:function` names.

    Raises:
        Misuse, CommandFailed: as `resolve`.
    """
    target, colon, attribute = _split(reference)
    module = load_module(target)
    if colon:
        return [find(module, attribute)]
    found = in_module(module)
    if not found:
        raise Misuse(f"{reference} defines no workflow: decorate an async def with @aob.workflow")
    return found


def load_codec(reference: str) -> PayloadCodec:
    """The codec that `module:object` names.

    Raises:
        Misuse: there is no such thing.
        CommandFailed: its module fails when it is imported.
    """
    target, colon, name = _split(reference)
    codec = getattr(load_module(target), name, None) if colon else None
    if not (callable(getattr(codec, "encode", None)) and callable(getattr(codec, "decode", None))):
        raise Misuse(f"--codec {reference}: give module:object, an object with encode(bytes) and decode(bytes)")
    return cast("PayloadCodec", codec)


def in_module(module: ModuleType) -> list[AnyWorkflow]:
    """A module's workflows, in the order of their names in it."""
    found = [v for v in vars(module).values() if isinstance(v, Workflow)]  # pyright: ignore[reportUnknownVariableType]
    return list(dict.fromkeys(found))  # pyright: ignore[reportUnknownArgumentType]


def find(module: ModuleType, attribute: str) -> AnyWorkflow:
    """A module's workflow by the name of its function, or by its registered name.

    Raises:
        Misuse: there is none.
    """
    value: Any = module
    for part in attribute.split("."):
        value = getattr(value, part, None)
    if isinstance(value, Workflow):
        return value  # pyright: ignore[reportUnknownVariableType]
    known = {w.name: w for w in in_module(module)}
    if attribute in known:
        return known[attribute]
    if value is not None:
        raise Misuse(f"{module.__name__}:{attribute} is not a workflow: decorate it with @aob.workflow")
    raise Misuse(f"{module.__name__} has no workflow {attribute!r}{_instead(attribute, list(known))}")


def only(module: ModuleType) -> AnyWorkflow:
    """A module's only workflow.

    Raises:
        Misuse: it has none, or several.
    """
    found = in_module(module)
    if len(found) == 1:
        return found[0]
    if not found:
        raise Misuse(f"{module.__name__} defines no workflow: decorate an async def with @aob.workflow")
    names = ", ".join(f":{w.name}" for w in found)
    raise Misuse(f"{module.__name__} defines several workflows: say which, with one of {names}")


def load_module(target: str) -> ModuleType:
    """Import a module by its name, seen from the current directory, or by its file.

    Raises:
        Misuse: there is no such module.
        CommandFailed: it fails when it is imported; where and why.
    """
    here = os.getcwd()
    if here not in sys.path:
        sys.path.insert(0, here)
    name = _name_of_file(target) if _is_path(target) else target
    if not all(part.isidentifier() for part in name.split(".")):
        raise Misuse(f"{target!r} names no module: write package.module:function, or path/to/file.py:function")
    try:
        module = importlib.import_module(name)
    except ModuleNotFoundError as e:
        if e.name is not None and (name == e.name or name.startswith(e.name + ".")):
            raise Misuse(f"there is no module {name!r} here: is {here} the right directory?") from e
        raise _broken(name, e) from e
    except (Exception, SystemExit) as e:
        raise _broken(name, e) from e
    if _is_path(target) and not _same_file(module, target):
        raise Misuse(f"{target} cannot be imported as {name!r}: another module has that name; rename the file")
    return module


def _split(reference: str) -> tuple[str, str, str]:
    target, colon, attribute = reference.rpartition(":")
    return (target, colon, attribute) if colon else (reference, "", "")


def _is_path(target: str) -> bool:
    return target.endswith(".py") or os.sep in target


def _name_of_file(target: str) -> str:
    """The module's name, with its packages; the directory that holds them goes on the path."""
    path = Path(target).resolve()
    if path.is_dir():
        path = path / "__init__.py"
    if not path.is_file():
        raise Misuse(f"there is no file {target}")
    parts = [] if path.name == "__init__.py" else [path.stem]
    folder = path.parent
    while (folder / "__init__.py").is_file():
        parts.insert(0, folder.name)
        folder = folder.parent
    if str(folder) not in sys.path:
        sys.path.insert(0, str(folder))
    return ".".join(parts)


def _same_file(module: ModuleType, target: str) -> bool:
    path = Path(target).resolve()
    file = Path(module.__file__).resolve() if module.__file__ else None
    return file in (path, path / "__init__.py")


def _broken(name: str, error: BaseException) -> CommandFailed:
    frames = [f for f in traceback.extract_tb(error.__traceback__) if not f.filename.startswith("<frozen")]
    where = f" ({frames[-1].filename}:{frames[-1].lineno})" if len(frames) > 1 else ""
    if isinstance(error, SyntaxError):
        where = f" ({error.filename}:{error.lineno})"
    first = str(error).splitlines()[0] if str(error) else ""
    return CommandFailed(f"importing {name!r} fails: {type(error).__name__}: {first}{where}")


def _instead(wanted: str, known: list[str]) -> str:
    if not known:
        return ": it defines no workflow; decorate an async def with @aob.workflow"
    close = difflib.get_close_matches(wanted, known, 1)
    return f": did you mean {close[0]!r}?" if close else f"; it has {', '.join(map(repr, known))}"
