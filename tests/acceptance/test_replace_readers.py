"""What readers of a target see and wait for while it is replaced."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psycopg
import pytest

from tests.acceptance.nights import NOON, Nights
from tests.acceptance.processes import Background, wait_until
from tests.support import Database

BEFORE, AFTER = 3_000, 4_000
QUEUED: Any = """
    SELECT reader.pid, reader.waitstart, swap.waitstart
    FROM pg_locks reader JOIN pg_locks swap USING (database, relation)
    WHERE NOT reader.granted AND reader.mode = 'AccessShareLock' AND reader.waitstart IS NOT NULL
      AND NOT swap.granted AND swap.mode = 'AccessExclusiveLock' AND swap.waitstart IS NOT NULL
"""
"""Each reader that waits, since when, and the beginning of the try at the lock that it waits behind."""


@dataclass(slots=True)
class Seen:
    """What readers have counted, in order, and for each wait for a lock the tries that it was seen to outlast."""

    counts: list[int] = field(default_factory=list)
    behind: dict[tuple[object, object], set[object]] = field(default_factory=dict)


@contextmanager
def reading(database: Database, readers: int = 3) -> Iterator[Seen]:
    """Readers that count the rows of "T" without a pause."""
    seen, stop = Seen(), threading.Event()
    problems: list[BaseException] = []

    def read() -> None:
        try:
            with database.connect() as connection:
                while not stop.is_set():
                    row = connection.execute('SELECT count(*) FROM "T"').fetchone()
                    seen.counts.append(row[0] if row else -1)
        except psycopg.Error as error:
            problems.append(error)

    def watch() -> None:
        with database.connect() as connection:
            while not stop.is_set():
                for pid, since, tried in connection.execute(QUEUED):
                    seen.behind.setdefault((pid, since), set()).add(tried)
                time.sleep(0.005)

    threads = [threading.Thread(target=read) for _ in range(readers)]
    threads.append(threading.Thread(target=watch))
    for thread in threads:
        thread.start()
    try:
        yield seen
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert not problems


@pytest.fixture
def nights(database: Database, tmp_path: Path) -> Nights:
    nights = Nights(database, tmp_path, mode="replace", batch_size=500)
    nights.run(f"INSERT INTO T SELECT i, {NOON}, 'n' || i FROM range({BEFORE}) t(i)")
    nights.migrate()
    database.execute('ALTER TABLE "T" ADD PRIMARY KEY (id)')
    nights.run(f"INSERT INTO T SELECT i, {NOON}, 'n' || i FROM range({BEFORE}, {AFTER}) t(i)")
    return nights


@pytest.mark.parametrize("refilled", [False, True], ids=["swap", "refill"])
def test_readers_see_the_old_rows_or_the_new_ones(nights: Nights, refilled: bool) -> None:
    database = nights.database
    if refilled:
        database.execute('CREATE MATERIALIZED VIEW depends AS SELECT id FROM "T"')
    with reading(database) as seen:
        nights.migrate(keep_previous_hours=0 if refilled else 1)
        wait_until(lambda: seen.counts[-1:] == [AFTER], "a reader of the new rows")
    assert set(seen.counts) == {BEFORE, AFTER}


def test_a_long_reader_is_waited_for_and_nobody_queues_behind(nights: Nights) -> None:
    """The swap asks again and again while somebody reads in a transaction; others read on meanwhile."""
    database = nights.database
    with (
        database.connect() as long_reader,
        reading(database) as seen,
        Background(nights.config(), "migrate") as process,
    ):
        long_reader.execute("BEGIN")
        long_reader.execute('SELECT count(*) FROM "T"')
        tries = "SELECT count(*) FROM pg_locks WHERE NOT granted AND mode = 'AccessExclusiveLock'"
        for _ in range(3):
            wait_until(lambda: database.value(tries), "a try at the lock")
            wait_until(lambda: not database.value(tries), "the end of the try")
        assert process.running
        assert set(seen.counts) == {BEFORE}
        counted = len(seen.counts)
        wait_until(lambda: len(seen.counts) > counted + 10, "readers that go on")
        long_reader.execute("COMMIT")
        assert process.end().code == 0
        wait_until(lambda: seen.counts[-1:] == [AFTER], "a reader of the new rows")
    assert set(seen.counts) == {BEFORE, AFTER}
    assert seen.behind
    assert {len(tries) for tries in seen.behind.values()} == {1}, "a reader outlasts a try"


def test_one_who_writes_is_told_of_when_the_table_is_not_replaced(nights: Nights) -> None:
    """Rows that came while the new ones were loaded would be lost: they stay, and the run says so."""
    database = nights.database
    database.execute('CREATE MATERIALIZED VIEW depends AS SELECT id FROM "T"')
    with (
        database.connect() as writer,
        Background(nights.config(), "migrate") as process,
    ):
        writer.execute("BEGIN")
        writer.execute("""INSERT INTO "T" VALUES (999999, now(), 'by hand')""")
        waits = "SELECT count(*) FROM pg_locks WHERE NOT granted AND mode = 'ShareRowExclusiveLock'"
        wait_until(lambda: database.value(waits), "a lock that keeps writers out")
        writer.execute("COMMIT")
        ended = process.end()
    assert ended.code == 1
    assert "3,000 rows when it was planned, and has 3,001 now" in ended.out
    assert database.value('SELECT count(*) FROM "T"') == BEFORE + 1
    assert nights.command("migrate", "--allow-truncate").returncode == 0
    assert nights.loaded() == nights.rows()
