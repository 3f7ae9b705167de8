"""The questions of `monitoring.sql`, asked of a ledger."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import LiteralString

from snowmelt.errors import UnknownName
from snowmelt.postgres.connect import Session

_NAME = re.compile(r"^-- name: (\w+)\n-- (.+)$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Question:
    """A statement with what it answers, in a sentence."""

    name: str
    asks: str
    statement: LiteralString


@dataclass(frozen=True, slots=True)
class Answer:
    """The rows of one database, by the names of their columns."""

    database: str
    columns: tuple[str, ...]
    rows: tuple[tuple[object, ...], ...]


@cache
def questions() -> Mapping[str, Question]:
    """Every question by its name, in the order of the file."""
    text = resources.files("snowmelt.sql").joinpath("monitoring.sql").read_text(encoding="utf-8")
    parts = _NAME.split(text)[1:]
    named = zip(parts[::3], parts[1::3], parts[2::3], strict=True)
    return {name: Question(name, asks, statement.strip()) for name, asks, statement in named}


def question(name: str) -> Question:
    """Raises UnknownName."""
    found = questions().get(name)
    if found is None:
        raise UnknownName(
            f"there is no question {name}", remedy=f"known are {', '.join(questions())}"
        )
    return found


def ask(session: Session, name: str) -> Answer:
    """What the ledger answers; a ledger of an older release may lack what is asked."""
    with session.transaction() as connection:
        cursor = connection.execute(question(name).statement)
        columns = tuple(column.name for column in cursor.description or ())
        return Answer(session.server.database, columns, tuple(cursor.fetchall()))
