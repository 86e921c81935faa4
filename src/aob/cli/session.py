"""What the global options say, and the client that they lead to."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from shlex import quote
from typing import Annotated

from cyclopts import Parameter

from aob.cli.output import note
from aob.client.client import Client, connect
from aob.engine.payloads import PayloadCodec
from aob.errors import CallerError
from aob.settings import load
from aob.stores.urls import without_password


class Misuse(CallerError):
    """The command line cannot be understood, or asks for something that cannot be; exit code 2."""

    code = "usage"


class CommandFailed(CallerError):
    """The command did what it could, and the answer is no; exit code 1."""

    code = "failed"


@dataclass(frozen=True)
class Session:
    """The global options.

    Args:
        store: URL of the store; None: `AOB_STORE`, else `sqlite:///aob.db`.
        tenant: None: `AOB_TENANT`, else `default`.
        json: print JSON for programs.
        debug: show tracebacks and the engine's log.
        codec: what encrypts values.
        codec_name: where it is, as `module:object`.
    """

    store: str | None = None
    tenant: str | None = None
    json: bool = False
    debug: bool = False
    codec: PayloadCodec | None = None
    codec_name: str | None = None

    @property
    def url(self) -> str:
        """The store's URL."""
        return self.store or load().store

    @property
    def name(self) -> str:
        """The store's URL as it may be shown."""
        return without_password(self.url)

    @property
    def file(self) -> Path | None:
        """The store's file, where it is one."""
        path = self.url.removeprefix("sqlite:///")
        return Path(path) if path and path != self.url else None

    @property
    def exists(self) -> bool:
        """Whether there is a store yet; only a file can be missing."""
        return self.file is None or self.file.exists()

    def connect(self, build: str | None = None) -> Client:
        """A client; the store is made when it is not there.

        Args:
            build: of the code that is served through it; None: `AOB_BUILD`.
        """
        return connect(self.url, tenant=self.tenant, codec=self.codec, settings=load(build=build))

    def existing(self) -> Client:
        """A client of a store that is there.

        Raises:
            CommandFailed: there is none.
        """
        if not self.exists:
            raise CommandFailed(f"there is no store at {self.file} yet: start a run, or name another one with --store")
        return self.connect()

    def tokens(self) -> list[str]:
        """The global options again, for a command of another process that has this one's environment."""
        values = {"--store": self._typed_store, "--tenant": self._typed_tenant, "--codec": self.codec_name}
        given = [token for name, value in values.items() if value is not None for token in (name, value)]
        return given + ["--json"] * self.json + ["--debug"] * self.debug

    def option(self, tenant: bool = True) -> str:
        """The global options again, for the end of a command that is shown to be typed; empty where none is needed. A
        password is not shown: a comment says how to give it.

        Args:
            tenant: that one, too.
        """
        store = self._typed_store and without_password(self._typed_store)
        values = {"--store": store, "--tenant": self._typed_tenant if tenant else None, "--codec": self.codec_name}
        given = "".join(f" {name} {quote(value)}" for name, value in values.items() if value is not None)
        return given if store == self._typed_store else f"{given}  # and its password in PGPASSWORD"

    @property
    def _typed_store(self) -> str | None:
        """The store's URL, unless the environment or the default says the same: a password there stays there."""
        return None if self.store == load().store else self.store

    @property
    def _typed_tenant(self) -> str | None:
        return None if self.tenant == load().tenant else self.tenant


Given = Annotated[str, Parameter(allow_leading_hyphen=True)]
"""The type of a parameter whose value may begin with a hyphen, such as `-5`, or `-` for standard input."""

Here = Annotated[Session, Parameter(parse=False)]
"""The type of the parameter through which a command gets its session."""


def confirmed(what: str) -> bool:
    """Whether the user wants it.

    Raises:
        Misuse: there is nobody to ask.
    """
    if not sys.stdin.isatty():
        raise Misuse(f"it would {what}: say --yes")
    if input(f"{what}? [y/N] ").strip().lower() in ("y", "yes"):
        return True
    note("nothing was done")
    return False
