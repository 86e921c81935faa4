"""Addresses of stores, as people may see them."""

from __future__ import annotations

import re
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

_WORD = re.compile(r"(password\s*=\s*)('[^']*'?|\S+)")


def without_password(url: str) -> str:
    """The URL without what nobody should read in a log."""
    if "://" not in url:  # not a URL, but the driver's own form may have been meant: `host=… password=…`
        return _WORD.sub(r"\1…", url)
    if "@" not in url and "?" not in url:
        return url
    try:
        parts = urlsplit(url)
    except ValueError:  # not a URL; whatever it is, it may hold a password
        return url.partition("://")[0] + "://…"
    if cut_short(url):
        return f"{parts.scheme}://…@{url.rpartition('@')[2]}"
    user, at, host = parts.netloc.rpartition("@")
    given = parse_qsl(parts.query, keep_blank_values=True)
    kept = [(name, value) for name, value in given if name not in ("password", "passfile", "sslpassword")]
    netloc = f"{user.partition(':')[0]}{at}{host}"
    query = parts.query if len(kept) == len(given) else urlencode(kept)
    return urlunsplit((parts.scheme, netloc, parts.path, query, "")) if parts.netloc or len(kept) < len(given) else url


def cut_short(url: str) -> bool:
    """Whether a `/`, `?` or `#` inside a password ends the URL's host, so that the rest of the password seems to be a
    path: an `@` follows."""
    parts = urlsplit(url)
    behind = parts.path + parts.fragment + ("" if "@" in parts.netloc else parts.query)
    return bool(parts.netloc) and "@" in behind
