"""The SQL of the ledger, read from its files and found by name."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cache
from importlib import resources
from typing import LiteralString

FILES = ("ledger.sql", "upkeep.sql", "post_data.sql", "replacement.sql")
_NAME = re.compile(r"^-- name: (\w+)\s*$", re.MULTILINE)


@cache
def _statements() -> Mapping[str, LiteralString]:
    folder = resources.files("snowmelt.sql")
    texts = (folder.joinpath(name).read_text(encoding="utf-8") for name in FILES)
    parts = [part for text in texts for part in _NAME.split(text)[1:]]
    return dict(zip(parts[::2], (body.strip() for body in parts[1::2]), strict=True))


def query(name: str) -> LiteralString:
    """A statement of the ledger. It ships with the package, hence literal for psycopg's typing."""
    return _statements()[name]


def names() -> frozenset[str]:
    """Every statement there is; a test holds that each is used."""
    return frozenset(_statements())


def migrations() -> tuple[tuple[int, str], ...]:
    """(version, SQL) of each numbered migration, ascending."""
    folder = resources.files("snowmelt.sql").joinpath("migrations")
    scripts = sorted(
        (entry for entry in folder.iterdir() if entry.name.endswith(".sql")),
        key=lambda entry: entry.name,
    )
    return tuple((int(script.name[:4]), script.read_text(encoding="utf-8")) for script in scripts)
