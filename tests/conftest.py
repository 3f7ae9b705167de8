"""Servers and databases that tests share. Each test has a database of its own."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator
from contextlib import suppress

import psycopg
import pytest
from hypothesis import HealthCheck, settings
from psycopg import sql

from snowmelt.demo.postgres import LocalPostgres
from tests.support import Database, let_go, memory

settings.register_profile(
    "default", deadline=None, suppress_health_check=[HealthCheck.too_slow], print_blob=True
)
settings.register_profile("long", parent=settings.get_profile("default"), max_examples=500)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "default"))

# fsync is off: these servers never meet a power cut. A crash of the server alone loses nothing by it, since
# the kernel keeps what was written.
SETTINGS = {"fsync": "off", "max_connections": "60", "max_wal_size": "1GB"}

_numbers = itertools.count(1)


@pytest.fixture(scope="session")
def postgres() -> Iterator[LocalPostgres]:
    """The server that most tests share; it is never stopped in between."""
    with LocalPostgres.temporary(settings=SETTINGS, within=memory()) as server:
        yield server


@pytest.fixture(autouse=True)
def _connections() -> Iterator[None]:
    yield
    let_go()


@pytest.fixture
def own_postgres() -> Iterator[LocalPostgres]:
    """A server that the test may stop and kill."""
    with LocalPostgres.temporary(settings=SETTINGS, within=memory()) as server:
        yield server


@pytest.fixture
def database(postgres: LocalPostgres) -> Iterator[Database]:
    """A new, empty database."""
    name = f"test_{next(_numbers)}"
    yield Database(name, postgres.create_database(name))
    if memory() is not None:
        _drop(postgres, name)


def _drop(server: LocalPostgres, name: str) -> None:
    """Give the memory of a database back, unless something that can't be ended holds it."""
    statement = sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name))
    with (
        suppress(psycopg.errors.ObjectInUse),
        psycopg.connect(server.dsn(over_socket=True), autocommit=True) as connection,
    ):
        connection.execute(statement)
