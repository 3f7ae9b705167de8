"""The primary key of a table that snowmelt creates: built when all rows are there, as any other index."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import snowmelt
from snowmelt.config import load_config
from snowmelt.deadline import Deadline
from snowmelt.model import Claim, LoadTable, Outcome
from snowmelt.observer import Silence
from snowmelt.ports import Building
from snowmelt.standin.server import StandIn
from snowmelt.status import Report, State
from snowmelt.stop import Stop
from tests.acceptance.nights import NOON, Nights
from tests.acceptance.processes import wait_until
from tests.acceptance.snowflake import DATABASE, SCHEMA, snowflake_config, table_of
from tests.support import Database

KEYS: Any = """SELECT c.conname, pg_get_constraintdef(c.oid) FROM pg_constraint c
               WHERE c.conrelid = '"T"'::regclass AND c.contype = 'p'"""
NOTED = """SELECT name, built_at IS NOT NULL, attached_at IS NOT NULL, attempts, dropped_at IS NULL
           FROM migration_status.post_data"""


class Ear(Silence):
    """Hears what is built, and ends the process at its first chunk if it is to."""

    def __init__(self, *, one_chunk: bool = False) -> None:
        self.built: set[str] = set()
        self.stop = Stop()
        self._one_chunk = one_chunk

    def building(self, table: LoadTable, progress: Building) -> None:
        self.built.add(progress.name)

    def completed(self, table: LoadTable, claim: Claim, outcome: Outcome) -> None:
        if self._one_chunk:
            self.stop("enough")


def slice_of(config: Path, ear: Ear, seconds: float = 60) -> Report:
    with snowmelt.open(load_config(config, environ={})) as mover:
        deadline = Deadline.after(seconds, 60)
        return mover.run(mover.plan(), observer=ear, stop=ear.stop, deadline=deadline)


@pytest.fixture
def nights(database: Database, tmp_path: Path) -> Nights:
    nights = Nights(database, tmp_path, parallel_threads=1)
    nights.run(
        "DROP TABLE T",
        "CREATE TABLE T (id BIGINT PRIMARY KEY, seen TIMESTAMP, note VARCHAR)",
        f"INSERT INTO T SELECT i, {NOON}, 'n' || i FROM range(100) t(i)",
    )
    return nights


def test_it_is_built_and_seen_like_any_other(nights: Nights) -> None:
    ear = Ear()
    assert slice_of(nights.config(), ear).state is State.COMPLETED
    assert ear.built == {"T_pkey"}
    assert nights.database.execute(KEYS) == [("T_pkey", "PRIMARY KEY (id)")]
    assert nights.database.execute(NOTED) == [("T_pkey", True, True, 0, True)]
    assert nights.command("indexes", "missing").stdout == "no index is missing\n"


def test_the_server_goes_on_with_it(nights: Nights) -> None:
    database = nights.database
    config = nights.config()
    slice_of(config, Ear(one_chunk=True))
    with database.connect() as writer:
        writer.execute("BEGIN")
        writer.execute('LOCK TABLE "T" IN ROW EXCLUSIVE MODE')
        report = slice_of(config, Ear(), 2)
        assert report.slice is not None
        assert "the server builds the index T_pkey of public.T" in (report.slice.reason or "")
        assert "waiting for a lock" in (report.slice.reason or "")
        # Whoever holds it may do so for days.
        waits = [slice_of(config, Ear(), 0.5).slice for _ in range(2)]
        assert [one and one.idle for one in waits] == [1, 2]
    built = "SELECT built_at IS NOT NULL FROM migration_status.post_data"
    wait_until(lambda: database.value(built), "the index")
    ear = Ear()
    assert slice_of(config, ear).state is State.COMPLETED
    assert ear.built == set()
    assert database.execute(KEYS) == [("T_pkey", "PRIMARY KEY (id)")]


def test_its_name_may_be_taken(nights: Nights) -> None:
    nights.database.execute('CREATE TABLE "T_pkey" (n int)')
    nights.migrate()
    assert nights.database.execute(KEYS) == [("T_pkey1", "PRIMARY KEY (id)")]


def test_its_name_may_be_taken_and_long(nights: Nights) -> None:
    """The server cuts off what is over 63 bytes, a number at its end too."""
    name = "é" * 30
    taken: Any = f'CREATE TABLE "{"é" * 29}_pkey" (n int)'
    nights.database.execute(taken)
    nights.migrate(target=name)
    keys = "SELECT conname FROM pg_constraint WHERE contype = 'p' AND conrelid = to_regclass(%s)"
    assert nights.database.value(keys, [f'"{name}"']) == f"{'é' * 28}_pkey1"


def test_one_that_somebody_has_given_it_stays(nights: Nights) -> None:
    slice_of(nights.config(), Ear(one_chunk=True))
    nights.database.execute('ALTER TABLE "T" ADD CONSTRAINT mine PRIMARY KEY (id)')
    nights.migrate()
    assert nights.database.execute(KEYS) == [("mine", "PRIMARY KEY (id)")]
    assert nights.loaded() == nights.rows()


def test_a_run_that_release_0_6_0_began_gets_it(nights: Nights) -> None:
    slice_of(nights.config(), Ear(one_chunk=True))
    for statement in (
        "ALTER TABLE migration_status.post_data DROP begun_at, DROP ended_at",
        "ALTER TABLE migration_status.load DROP building, DROP advanced_at",
        "DELETE FROM migration_status.ledger_version WHERE version = 8",
    ):
        nights.database.execute(statement)
    assert slice_of(nights.config(), Ear()).resumed
    assert nights.database.execute(KEYS) == [("T_pkey", "PRIMARY KEY (id)")]
    assert nights.loaded() == nights.rows()


def test_one_of_an_aborted_run_is_not_built_by_another(nights: Nights) -> None:
    database = nights.database
    slice_of(nights.config(), Ear(one_chunk=True))
    with database.connect() as writer:
        writer.execute("BEGIN")
        writer.execute('LOCK TABLE "T" IN ROW EXCLUSIVE MODE')
        report = slice_of(nights.config(), Ear(), 2)
        nights.command("abort", str(report.run_id))
    assert database.execute(NOTED) == []
    database.execute('TRUNCATE "T"')
    nights.migrate()
    assert database.execute(KEYS) == []
    assert nights.loaded() == nights.rows()


@pytest.fixture
def standin() -> Iterator[StandIn]:
    with StandIn.start() as server:
        yield server


@pytest.mark.parametrize(
    ("given", "name"),
    [
        (None, "T_pkey"),
        ('ALTER TABLE "T" ADD PRIMARY KEY (id)', "T_pkey"),
        ('CREATE UNIQUE INDEX "T_pkey" ON "T" (id)', "T_pkey"),
        ('ALTER TABLE "T" ADD CONSTRAINT mine PRIMARY KEY (id)', "mine"),
    ],
)
def test_a_key_that_repeats_is_told_and_can_be_mended(
    database: Database, standin: StandIn, tmp_path: Path, given: Any, name: str
) -> None:
    """Snowflake does not hold its keys to be unique."""
    declared, rows = table_of({"id": ("NUMBER(18,0)", [1, 2, 2]), "n": ("NUMBER(9,0)", [1, 2, 3])})
    standin.create_table(DATABASE, SCHEMA, "T", declared, rows, primary_key=["id"])
    config = snowflake_config(tmp_path, database, standin, {"source": "T"})
    with snowmelt.open(load_config(config, environ={})) as mover:
        report = mover.run(mover.plan())
    assert report.state is State.FAILED
    (error,) = report.errors
    assert "T_pkey: could not create unique index" in error
    assert "Key (id)=(2) is duplicated" in error
    database.execute('DELETE FROM "T" WHERE n = 3')
    if given is not None:
        database.execute(given)
    with snowmelt.open(load_config(config, environ={})) as mover:
        assert mover.run(mover.plan()).state is State.COMPLETED
    assert database.execute(KEYS) == [(name, "PRIMARY KEY (id)")]
