"""Between the plan and the truncation, and between its steps: what others do there, and a kill."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import LiteralString, Self

import pytest
from psycopg import sql

import snowmelt
from snowmelt.config import load_config
from snowmelt.errors import Refused
from snowmelt.postgres import locks
from tests.acceptance.nights import Nights
from tests.acceptance.processes import Background, Gate, end_leases, wait_until
from tests.acceptance.test_truncation import CHANGED, ROWS, RUNS, assert_recorded, completed
from tests.support import Database, config_for, duckdb_file, write_config


@pytest.fixture
def nights(database: Database, tmp_path: Path) -> Nights:
    found = Nights(database, tmp_path, mode="truncate")
    found.run(ROWS)
    return found


def test_rows_that_come_after_the_plan_are_not_removed(nights: Nights) -> None:
    completed(nights)
    with snowmelt.open(load_config(nights.config(), environ={})) as mover:
        plan = mover.plan()
        nights.database.execute("INSERT INTO \"T\" VALUES (-1, '2020-01-01', 'foreign')")
        with pytest.raises(Refused, match="had 100 rows when it was planned, and has 101 now"):
            mover.run(plan)
    assert len(nights.loaded()) == 101
    assert nights.database.value(RUNS) == 1


@pytest.mark.parametrize("holder", ["reader", "writer"])
def test_a_lock_that_is_not_to_be_had_stops_with_who_holds_it(
    nights: Nights, monkeypatch: pytest.MonkeyPatch, holder: str
) -> None:
    """Nobody who reads the table meanwhile waits longer than one try at the lock takes."""
    completed(nights)
    before = nights.loaded()
    held: LiteralString = (
        'SELECT count(*) FROM "T"'
        if holder == "reader"
        else 'UPDATE "T" SET note = note WHERE id = 1'
    )
    with nights.database.connect() as other:
        other.execute("SET application_name = 'a long report'")
        pid = other.info.backend_pid
        with other.transaction(), reading(nights.database, "T") as reads:
            other.execute(held)
            pauses = Pauses.of(reads, monkeypatch)
            told = nights.migrate(code=1)["error"]
            assert nights.loaded() == before
    assert f"it is held by pid {pid} (postgres, a long report" in told
    assert "pg_terminate_backend(pid); then run again" in told
    assert pauses.count == PAUSES
    assert nights.database.value(RUNS) == 1
    monkeypatch.undo()
    nights.run(CHANGED)
    nights.migrate()
    assert nights.loaded() == nights.rows()
    assert_recorded(nights, "ours", None, 100)


PATIENCE_SECONDS = 2.0
PAUSES = int(PATIENCE_SECONDS / locks.PAUSE_SECONDS) + 1


class Pauses:
    """In place of the module `time`: between two tries the time of the pause passes, and a reader comes through.

    One who waits longer than a try takes waits in a pause, and holds it up until the test fails.
    """

    def __init__(self, reads: Sequence[float]) -> None:
        self._reads = reads
        self._passed = 0.0
        self.count = 0

    @classmethod
    def of(cls, reads: Sequence[float], monkeypatch: pytest.MonkeyPatch) -> Self:
        pauses = cls(reads)
        monkeypatch.setattr(locks, "time", pauses)
        monkeypatch.setattr(locks, "PATIENCE_SECONDS", PATIENCE_SECONDS)
        return pauses

    def monotonic(self) -> float:
        return self._passed

    def sleep(self, seconds: float) -> None:
        began = time.monotonic()
        self._passed += seconds
        self.count += 1
        wait_until(
            lambda: self._reads and self._reads[-1] > began,
            "a query of a reader that began in the pause",
        )


@contextmanager
def reading(database: Database, table: str) -> Iterator[Sequence[float]]:
    """One reads the table again and again; gives when each query began that has its answer."""
    count = sql.SQL("SELECT count(*) FROM {}").format(sql.Identifier(table))
    reads: list[float] = []
    done = threading.Event()

    def read() -> None:
        with database.connect() as reader:
            while not done.is_set():
                started = time.monotonic()
                reader.execute(count).fetchone()
                reads.append(started)
                done.wait(0.01)

    thread = threading.Thread(target=read)
    thread.start()
    try:
        yield reads
    finally:
        done.set()
        thread.join()


def test_of_two_tables_both_are_truncated_or_neither(
    database: Database, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Nor is one of them locked for its readers while the lock of the other is waited for."""
    rows = "AS SELECT range AS id FROM range(10)"
    source = duckdb_file(tmp_path / "s.duckdb", f"CREATE TABLE A {rows}", f"CREATE TABLE B {rows}")
    document = config_for(database, source, {"source": "A"}, {"source": "B"}, mode="truncate")
    config = load_config(write_config(tmp_path, document), environ={})
    with snowmelt.open(config) as mover:
        mover.run(mover.plan()).raise_for_failures()
    with database.connect() as other, other.transaction(), reading(database, "A") as reads:
        other.execute('SELECT count(*) FROM "B"')
        pauses = Pauses.of(reads, monkeypatch)
        with snowmelt.open(config) as mover, pytest.raises(Refused) as caught:
            mover.run(mover.plan())
        assert str(caught.value).startswith("table public.B: the lock to truncate")
        assert f"pid {other.info.backend_pid}" in str(caught.value)
    assert pauses.count == PAUSES
    monkeypatch.undo()
    left = 'SELECT (SELECT count(*) FROM "A"), (SELECT count(*) FROM "B")'
    assert (database.execute(left), database.value(RUNS)) == ([(10, 10)], 1)
    with snowmelt.open(config) as mover:
        mover.run(mover.plan()).raise_for_failures()
    removed = "SELECT target_table, truncation ->> 'rows_removed' FROM migration_status.load"
    expected = [("A", None), ("A", "10"), ("B", None), ("B", "10")]
    assert sorted(database.execute(removed), key=str) == sorted(expected, key=str)


# --- killed ---------------------------------------------------------------------------------------

LOCKS: dict[str, LiteralString] = {
    "before it is recorded": "LOCK TABLE migration_status.run IN SHARE MODE",
    "before the truncation": 'LOCK TABLE "T" IN ACCESS SHARE MODE',
    "before its record": "LOCK TABLE migration_status.high_water_mark IN SHARE MODE",
}


@pytest.mark.parametrize("place", LOCKS)
def test_killed_between_two_steps(nights: Nights, place: str) -> None:
    """Nothing has happened until the truncation and its record have."""
    completed(nights)
    nights.run(CHANGED)
    before = nights.loaded()
    with nights.database.connect() as other, other.transaction():
        other.execute(LOCKS[place])
        with Background(nights.config(), "migrate") as run:
            wait_until(lambda: nights.database.value(WAITING), "the run to wait for the lock")
            run.send(signal.SIGKILL)
            wait_until(lambda: not run.running, "the run to be gone")
    wait_until(lambda: nights.database.value(ALONE), "the server to notice")
    assert (nights.database.value(RUNS), nights.loaded()) == (1, before)
    nights.migrate()
    assert nights.loaded() == nights.rows()
    assert_recorded(nights, "ours", None, 100)


WAITING: LiteralString = """
    SELECT count(*) FROM pg_locks WHERE NOT granted
    AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
"""
ALONE: LiteralString = """
    SELECT count(*) = 0 FROM pg_stat_activity WHERE datname = current_database()
    AND backend_type = 'client backend' AND pid <> pg_backend_pid()
"""


def test_killed_right_after_the_truncation(nights: Nights) -> None:
    """It is recorded, and the next start goes on with the run."""
    completed(nights)
    nights.run(CHANGED)
    with (
        Gate.before(nights.database, "T") as gate,
        Background(nights.config(parallel_threads=2), "migrate") as run,
    ):
        gate.holds(2)
        run.send(signal.SIGKILL)
        wait_until(lambda: not run.running, "the run to be gone")
    end_leases(nights.database)
    assert nights.loaded() == []
    assert_recorded(nights, "ours", None, 100)
    assert nights.migrate()["resumed"]
    assert nights.loaded() == nights.rows()
    assert_recorded(nights, "ours", None, 100)
