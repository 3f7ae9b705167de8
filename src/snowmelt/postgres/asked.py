"""Questions to the server's catalogue, of which a role may not ask each."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, LiteralString

import psycopg
from psycopg import errors as pg


class Asked:
    """Answers within a transaction that is open; `names` are the parameters of all its queries.

    `unknown` gathers what this role may not ask.
    """

    def __init__(
        self, connection: psycopg.Connection, names: Mapping[str, object] | None = None
    ) -> None:
        self.connection = connection
        self.names: dict[str, object] = dict(names or {})
        self.unknown: list[str] = []

    def rows(self, statement: LiteralString) -> list[Any]:
        return self.connection.execute(statement, self.names or None).fetchall()

    def one(self, statement: LiteralString) -> Any:
        """The only row."""
        (row,) = self.rows(statement)
        return row

    def told(self, what: str, statement: LiteralString) -> Any | None:
        """The only row; None, and `what` is among `unknown`, where this role may not ask."""
        try:
            with self.connection.transaction():
                return self.one(statement)
        except pg.InsufficientPrivilege as error:
            self.unknown.append(f"{what} ({error.diag.message_primary})")
            return None
