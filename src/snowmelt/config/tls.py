"""What the postgres block says of TLS: whether it is of one piece, and its files are there."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import MappingProxyType

from snowmelt.config.document import Finding
from snowmelt.config.dsn import read_dsn
from snowmelt.config.models import Postgres

SYSTEM = "system"
"""As `sslrootcert`: the CAs that this machine trusts."""
_FILES: Mapping[str, str] = MappingProxyType(
    {
        "sslrootcert": "put the certificates of the server's CA there, or correct the path",
        "sslcert": "put the client's certificate there, or correct the path",
        "sslkey": "put the client's private key there, or correct the path",
    }
)
_VERIFIES = ("require", "verify-ca", "verify-full")
"""The modes that never go on without TLS. With a CA at hand, libpq has require verify it as well."""


def is_pem(text: str) -> bool:
    """Whether it is a certificate or key itself, and no path."""
    return "-----BEGIN" in text


def tls_findings(block: Postgres | None) -> Iterator[Finding]:
    """Of the block with its variables filled in.

    libpq itself goes on without a file of `sslcert`, and with `sslmode: require` without one of
    `sslrootcert`.
    """
    if block is None:
        return
    yield from _contradictions(block)
    given = _given(block)
    for key, remedy in _FILES.items():
        text = given.get(key)
        if not text or is_pem(text) or (key == "sslrootcert" and text == SYSTEM):
            continue
        wrong = _wrong_file(text)
        if wrong is None:
            continue
        if block.dsn is not None:
            yield Finding(("postgres", "dsn"), f"has as {key} {wrong}", remedy)
        else:
            yield Finding(("postgres", key), f"names {wrong}", remedy)


def _contradictions(block: Postgres) -> Iterator[Finding]:
    if block.sslrootcert == SYSTEM and block.sslmode not in (None, "verify-full"):
        yield Finding(
            ("postgres", "sslmode"),
            f"is {block.sslmode}, and sslrootcert: system goes with verify-full alone, since those CAs "
            "sign for any host",
            "set sslmode: verify-full",
        )
    elif block.sslrootcert and block.sslrootcert != SYSTEM and block.sslmode not in _VERIFIES:
        yield Finding(
            ("postgres", "sslrootcert"),
            f"does nothing with sslmode {block.sslmode or 'prefer, which is the default'}: what can't be verified "
            "goes on without TLS",
            "set sslmode: verify-full",
        )
    if block.dsn is None and (block.sslcert is None) != (block.sslkey is None):
        lone, other = ("sslcert", "sslkey") if block.sslcert else ("sslkey", "sslcert")
        yield Finding(("postgres", lone), f"is given without {other}", f"give {other} as well")


def _given(block: Postgres) -> Mapping[str, str]:
    if block.dsn is not None:
        facts = read_dsn(block.dsn.get_secret_value())
        return facts.tls if facts else {}
    key = block.sslkey.get_secret_value() if block.sslkey else None
    found = {"sslrootcert": block.sslrootcert, "sslcert": block.sslcert, "sslkey": key}
    return {name: text for name, text in found.items() if text}


def _wrong_file(name: str) -> str | None:
    """What is wrong with it. A name that is too long for one may be part of a key, and is not shown."""
    shown = f"the file {name}" if len(name) < 256 and "\n" not in name else "a file"
    try:
        if not Path(name).is_file():
            return f"{shown}, which is not there"
    except (OSError, ValueError):
        return f"{shown}, which can't be looked at"
    return None if os.access(name, os.R_OK) else f"{shown}, which this user may not read"
