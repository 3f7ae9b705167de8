"""What the config needs to know of a PostgreSQL connection string.

The adapter hands the string to libpq as it is; this reads both of libpq's spellings, URL and
`key=value`, only as far as that.
https://www.postgresql.org/docs/current/libpq-connect.html#LIBPQ-CONNSTRING
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import parse_qs, unquote

_URL = re.compile(
    r"postgres(?:ql)?://(?:[^:@/]*(?::(?P<password>[^@/]*))?@)?[^/?]*(?:/(?P<database>[^?]*))?"
    r"(?:\?(?P<parameters>.*))?",
    re.DOTALL,
)
_PAIR = re.compile(r"\s*(\w+)\s*=\s*('(?:[^'\\]|\\.)*'|(?!')(?:[^\s\\]|\\.?)*)(?:\s+|$)", re.DOTALL)

_TLS_FILES = ("sslrootcert", "sslcert", "sslkey")


@dataclass(frozen=True, slots=True)
class Dsn:
    """Nothing secret is kept."""

    database: str | None
    has_password: bool
    tls: Mapping[str, str] = field(default_factory=dict)
    """The files of a TLS connection, by libpq's names."""


def read_dsn(text: str) -> Dsn | None:
    """None for text that is neither a URL nor `key=value` pairs."""
    if "://" in text.split("=", 1)[0]:
        return _read_url(text)
    return _read_pairs(text)


def _read_url(text: str) -> Dsn | None:
    match = _URL.fullmatch(text)
    if match is None:
        return None
    parameters = parse_qs(match["parameters"] or "")
    database = (
        parameters["dbname"][-1] if "dbname" in parameters else unquote(match["database"] or "")
    )
    has_password = bool(match["password"] or parameters.get("password"))
    tls = {key: parameters[key][-1] for key in _TLS_FILES if key in parameters}
    return Dsn(database.strip() or None, has_password, tls)


def _read_pairs(text: str) -> Dsn | None:
    pairs: dict[str, str] = {}
    at = 0
    while at < len(text):
        match = _PAIR.match(text, at)
        if match is None:
            return None
        value = match[2][1:-1] if match[2].startswith("'") else match[2]
        pairs[match[1]] = re.sub(r"\\(.?)", r"\1", value)
        at = match.end()
    if not pairs:
        return None
    tls = {key: pairs[key] for key in _TLS_FILES if pairs.get(key)}
    return Dsn(pairs.get("dbname") or None, bool(pairs.get("password")), tls)
