"""Servers and databases that tests share. Each test has a database of its own."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, settings

from snowmelt.demo.postgres import LocalPostgres
from tests.support import Database

settings.register_profile(
    "default", deadline=None, suppress_health_check=[HealthCheck.too_slow], print_blob=True
)
settings.register_profile("long", parent=settings.get_profile("default"), max_examples=500)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "default"))

# fsync is off: these servers never meet a power cut. A crash of the server alone loses nothing by it, since
# the kernel keeps what was written.
SETTINGS = {"fsync": "off", "max_connections": "60", "max_wal_size": "4GB"}

_numbers = itertools.count(1)


@pytest.fixture(scope="session")
def postgres() -> Iterator[LocalPostgres]:
    """The server that most tests share; it is never stopped in between."""
    with LocalPostgres.temporary(settings=SETTINGS) as server:
        yield server


@pytest.fixture
def own_postgres() -> Iterator[LocalPostgres]:
    """A server that the test may stop and kill."""
    with LocalPostgres.temporary(settings=SETTINGS) as server:
        yield server


@pytest.fixture
def database(postgres: LocalPostgres) -> Database:
    """A new, empty database."""
    name = f"test_{next(_numbers)}"
    return Database(name, postgres.create_database(name))
