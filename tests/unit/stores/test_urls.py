"""Addresses of stores: what of them people may see, and what is refused before anything is tried."""

import pytest

from aob.errors import BadUrl
from aob.stores.postgres.options import address_of
from aob.stores.urls import without_password


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("postgresql://me:secret@host:5432/shop", "postgresql://me@host:5432/shop"),
        ("postgresql://host/shop?password=secret&pool=1", "postgresql://host/shop?pool=1"),
        ("mysql://me:secret@host/shop", "mysql://me@host/shop"),
        ("postgresql://me:sec/ret@host/shop", "postgresql://…@host/shop"),
        ("postgresql://me:sec@ret#secret@host/shop", "postgresql://…@host/shop"),
        ("postgresql://me:sec?ret@host/shop", "postgresql://…@host/shop"),
        ("postgresql://me:secret@[::1/shop", "postgresql://…"),
        ("host=there password=secret user=me", "host=there password=… user=me"),
        ("host=there password='sec ret' user=me", "host=there password=… user=me"),
        ("sqlite:////home/me@host/aob.db", "sqlite:////home/me@host/aob.db"),
        ("sqlite:///aob.db", "sqlite:///aob.db"),
    ],
)
def test_no_password_is_shown(url: str, shown: str) -> None:
    assert without_password(url) == shown


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("postgresql://me:sec/ret@host/shop", "%2F"),
        ("postgresql://me:sec@ret#secret@host/shop", "%23"),
        ("postgresql://me:secret@host/shop#there", "%23"),
        ("postgresql://me:sec?ret@host/shop", "%3F"),
        ("postgresql://me:secret@[::1/shop", "is no address"),
        ("postgresql://me:secret@host:port/shop", "'port' is no port"),
        ("postgresql://me:secret@one,two:99999/shop", "'99999' is no port"),
        ("postgresql://me:secret@host/shop?pool=few", "pool is a whole number"),
        ("postgresql://me:secret@host/shop?listen=maybe", "auto, on or off"),
    ],
)
def test_what_cannot_be_an_address_is_said(url: str, why: str) -> None:
    with pytest.raises(BadUrl) as refused:
        address_of(url)
    assert why in str(refused.value)
    assert "secret" not in str(refused.value) and "ret@" not in str(refused.value)


@pytest.mark.parametrize("host", ["host", "host:5432", "[::1]", "[::1]:5432", "one:5432,two,[::1]:5433", "me:s@host"])
def test_hosts_and_ports_are_passed_on(host: str) -> None:
    assert address_of(f"postgresql://{host}/shop?pool=2").dsn == f"postgresql://{host}/shop"
