"""Addresses of stores, as people may see them."""

from __future__ import annotations

from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit


def without_password(url: str) -> str:
    """The URL without what nobody should read in a log."""
    if "@" not in url and "?" not in url:
        return url
    try:
        parts = urlsplit(url)
    except ValueError:  # not a URL; whatever it is, it may hold a password
        return url.partition("://")[0] + "://…"
    user, at, host = parts.netloc.rpartition("@")
    given = parse_qsl(parts.query, keep_blank_values=True)
    kept = [(name, value) for name, value in given if name not in ("password", "passfile", "sslpassword")]
    netloc = f"{user.partition(':')[0]}{at}{host}"
    query = parts.query if len(kept) == len(given) else urlencode(kept)
    return urlunsplit((parts.scheme, netloc, parts.path, query, "")) if parts.netloc or len(kept) < len(given) else url
