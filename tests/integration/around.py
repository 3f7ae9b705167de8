"""A database and a role without rights in it, on either version of PostgreSQL: for tests of what stands there."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from typing import LiteralString

import pytest
from psycopg import sql

from snowmelt.demo.postgres import LocalPostgres
from snowmelt.model import TargetTable
from snowmelt.postgres.connect import Server, Session
from snowmelt.postgres.surroundings import look
from snowmelt.preflight.surroundings import TargetSurroundings, problems
from tests.conftest import SETTINGS
from tests.support import Database, memory

PASSWORD = "melt"
_numbers = itertools.count(1)


@dataclass(frozen=True, slots=True)
class Place:
    """A database, and a role without rights in it."""

    database: Database
    role: str
    stack: ExitStack

    def run(self, *statements: LiteralString) -> None:
        """As the superuser."""
        for statement in statements:
            self.database.execute(statement)

    def session(self, role: str | None = None) -> Session:
        parameters = {"user": role, "password": PASSWORD} if role else {}
        session = Session(Server.of(parameters, dsn=self.database.dsn))
        self.stack.callback(session.close)
        return session

    def look(
        self, table: str, role: str | None = None, schema: str = "public"
    ) -> TargetSurroundings:
        session = self.session(role)
        try:
            return look(session, TargetTable(self.database.name, schema, table))
        finally:
            session.close()

    def as_role(self, statement: LiteralString) -> None:
        with self.session(self.role).connection as connection:
            connection.execute(sql.SQL(statement))

    def copy(self, table: str, line: str, role: str | None = None) -> None:
        """One row, by COPY."""
        with self.session(role).connection as connection:
            statement = sql.SQL("COPY {} FROM STDIN").format(sql.Identifier(table))
            with connection.cursor().copy(statement) as copy:
                copy.write(line + "\n")


@pytest.fixture(scope="module", params=[16, 18])
def server(request: pytest.FixtureRequest) -> Iterator[LocalPostgres]:
    if request.param == 18:
        yield request.getfixturevalue("postgres")
        return
    with LocalPostgres.temporary(version=16, settings=SETTINGS, within=memory()) as started:
        yield started


@pytest.fixture
def place(server: LocalPostgres) -> Iterator[Place]:
    name = f"around_{next(_numbers)}"
    with ExitStack() as stack:
        made = Place(Database(name, server.create_database(name)), f"few_{name}", stack)
        made.run(f"CREATE ROLE {made.role} LOGIN PASSWORD '{PASSWORD}'")
        yield made


def notes(around: TargetSurroundings) -> str:
    return "\n".join(problems(around).notes)
