"""How a Postgres store is reached and behaves: what its URL says."""

from __future__ import annotations

import re
from typing import Literal
from urllib.parse import SplitResult, parse_qsl, quote, urlencode, urlsplit, urlunsplit

import msgspec

from aob.errors import BadUrl
from aob.stores.urls import cut_short, without_password

_SCHEMA = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,49}")
_VALUES = "pool is a whole number, patience a number of seconds, listen and prepared auto, on or off, durable on or off"
_OURS = ("schema", "pool", "listen", "prepared", "patience", "durable")


class PostgresOptions(msgspec.Struct, frozen=True, kw_only=True):
    """Options of a Postgres store; a store's URL gives the first six as `?name=value`.

    Args:
        schema: where its tables are.
        pool: connections that one process opens at most, beside the one that listens.
        listen: hear of news by LISTEN. `auto`: unless a proxy stands between; `off`: look every `poll` seconds.
        prepared: keep prepared statements. `auto`: unless a proxy stands between, which may be too old for that;
            without, each statement has a transaction of its own around it, and takes four round trips.
        durable: `off`: also use a server whose settings let a crash lose what was acknowledged; for tests.
        patience: seconds for which reads and messages wait for a database that went away.
        poll, safety_poll: seconds between looks for news, where nothing is heard of it and where it is.
        tries: how often a statement is tried that met somebody else's lock or a deadlock.
        timeout: seconds after which a statement counts as lost with its connection.
    """

    schema: str = "aob"
    pool: int = 4
    listen: Literal["auto", "on", "off"] = "auto"
    prepared: Literal["auto", "on", "off"] = "auto"
    durable: Literal["on", "off"] = "on"
    patience: float = 30.0
    poll: float = 0.05
    safety_poll: float = 1.0
    tries: int = 10
    timeout: float = 60.0


class Address(msgspec.Struct, frozen=True, kw_only=True):
    """Where a store is.

    Args:
        dsn: what the driver connects to.
        name: the same for people: without a password.
    """

    dsn: str
    name: str
    options: PostgresOptions

    @property
    def channel(self) -> str:
        """What news of this store is told on."""
        return f"aob:{self.options.schema}"


def address_of(url: str) -> Address:
    """What a `postgresql://` URL says.

    Raises:
        BadUrl: it does not say where, or has an option that cannot be.
    """
    parts = _parts(url)
    query = parse_qsl(parts.query, keep_blank_values=True)
    given = {name: value for name, value in query if name in _OURS}
    if not parts.netloc and not any(name == "host" for name, _ in query):
        raise BadUrl(f"{without_password(url)!r} names no server: write postgresql://user@host:5432/database")
    try:
        options = msgspec.convert(given, PostgresOptions, strict=False)
    except msgspec.ValidationError:
        raise BadUrl(f"{without_password(url)!r}: {_VALUES}") from None
    if not _SCHEMA.fullmatch(options.schema):
        raise BadUrl(f"{options.schema!r} cannot be a schema: use 1 to 50 letters, digits and underscores")
    if options.pool < 1 or options.patience < 0:
        raise BadUrl(f"{without_password(url)!r}: pool must be 1 or more, patience 0 or more")
    theirs = urlencode([(name, value) for name, value in query if name not in _OURS], quote_via=quote)
    dsn = urlunsplit(("postgresql", parts.netloc, parts.path, theirs, ""))
    return Address(dsn=dsn, name=without_password(url), options=options)


def _parts(url: str) -> SplitResult:
    shown = without_password(url)
    try:
        parts = urlsplit(url)
        cut = cut_short(url)
    except ValueError as e:
        raise BadUrl(f"{shown!r} is no address: {e}") from None
    if cut or parts.fragment:
        raise BadUrl(f"{shown!r}: in a name or password write %2F for a /, %3F for a ?, %23 for a # and %40 for an @")
    for host in parts.netloc.rpartition("@")[2].split(","):
        port = host.rpartition("]")[2].partition(":")[2]
        if port and not (port.isdecimal() and 0 < int(port) < 1 << 16):
            raise BadUrl(f"{shown!r}: {port!r} is no port")
    return parts
