"""Each mode ends in the rows that its definition says: fresh, run again, with changed rows, and after a kill.

The definitions are said here once more, in Python; keys repeat, within a chunk and across chunks.
"""

from __future__ import annotations

import signal
import tempfile
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import duckdb
import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import snowmelt
from snowmelt.config import load_config
from snowmelt.demo.postgres import LocalPostgres
from snowmelt.postgres import load
from tests.acceptance.processes import Background, end_leases, wait_until
from tests.support import Database, config_for, write_config

NOON = datetime(2024, 5, 1, 12)
Row = tuple[int, str, datetime | None, str]
"""Two columns of a key, a watermark, and what tells rows apart."""

rows = st.lists(
    st.tuples(
        st.integers(0, 9),
        st.sampled_from(["a", "b"]),
        st.none() | st.integers(0, 6).map(lambda hour: NOON + timedelta(hours=hour)),
    ),
    max_size=40,
)


def numbered(found: Sequence[tuple[Any, ...]], night: str) -> list[Row]:
    return [(*row, f"{night} {place}") for place, row in enumerate(found)]


def by_key(found: Sequence[Row]) -> dict[tuple[int, str], list[Row]]:
    groups: defaultdict[tuple[int, str], list[Row]] = defaultdict(list)
    for row in found:
        groups[row[:2]].append(row)
    return groups


def newest(found: Sequence[Row]) -> list[Row]:
    """Those with the greatest watermark; none is older than any."""
    greatest = max(row[2] or datetime.min for row in found)
    return [row for row in found if (row[2] or datetime.min) == greatest]


@dataclass(frozen=True)
class Kind:
    """Settings of a table, and what is allowed to be in its target."""

    name: str
    table: dict[str, Any]
    truncates: bool = False

    def allowed(
        self, before: Sequence[Row], source: Sequence[Row]
    ) -> dict[tuple[int, str], list[Row]]:
        """For each key that must be there, the rows of which one is."""
        there = by_key([] if self.truncates else before)
        coming = by_key(source)
        found = {}
        for key in {**there, **coming}:
            old, new = there.get(key, []), coming.get(key, [])
            if self.table["mode"] == "insert_only":
                found[key] = old or new
            else:
                best = newest([*old, *new])
                # Of equal ones the one that comes takes the place of the one that is there.
                found[key] = [row for row in best if row in new] or best
        return found


KEYED = {"uniqueness_columns": ["k1", "k2"], "source_watermark": "seen"}
KINDS = [
    Kind("upsert", {"mode": "upsert", **KEYED}),
    Kind("insert_only", {"mode": "insert_only", **KEYED}),
    Kind("truncate and upsert", {"mode": "upsert", "truncate_onstart": True, **KEYED}, True),
    Kind(
        "truncate and insert_only", {"mode": "insert_only", "truncate_onstart": True, **KEYED}, True
    ),
]


class Place:
    """A source file and a database of a kind's own."""

    def __init__(self, database: Database, folder: Path, table: dict[str, Any]) -> None:
        self.database, self.folder = database, folder
        self.source = folder / "s.duckdb"
        self.table = {"source": "T", "chunking_columns": ["n"], "batch_size": 5, **table}

    def write(self, found: Sequence[Row]) -> None:
        """The source has these rows, and in this order they are cut into chunks."""
        self.source.unlink(missing_ok=True)
        with duckdb.connect(self.source) as connection:
            connection.execute(
                "CREATE TABLE T (k1 BIGINT, k2 VARCHAR, seen TIMESTAMP, note VARCHAR, n BIGINT)"
            )
            if found:
                connection.executemany(
                    "INSERT INTO T VALUES (?, ?, ?, ?, ?)",
                    [(*row, number) for number, row in enumerate(found)],
                )

    def config(self, **top: Any) -> Path:
        # All of what is new is read: the window is another test's matter.
        document = config_for(
            self.database, self.source, {**self.table, "overlap_seconds": 10**8}, **top
        )
        if self.table.get("truncate_onstart") or "source_watermark" not in self.table:
            del document["sources"][0]["tables"][0]["overlap_seconds"]  # type: ignore[index]
        return write_config(self.folder, document)

    def migrate(self, threads: int = 3) -> None:
        config = load_config(self.config(parallel_threads=threads), environ={})
        with snowmelt.open(config) as mover:
            report = mover.run(mover.plan())
        report.raise_for_failures()

    def loaded(self) -> list[Row]:
        return [tuple(row) for row in self.database.execute('SELECT k1, k2, seen, note FROM "T"')]

    def counts(self) -> tuple[int, int, int]:
        """Read, written and skipped by the newest load."""
        found = self.database.execute(
            "SELECT coalesce(sum(rows_read), 0), coalesce(sum(rows_written), 0), "
            "coalesce(sum(rows_skipped), 0) FROM migration_status.chunk WHERE table_id = "
            "(SELECT max(table_id) FROM migration_status.load)"
        )
        read, written, skipped = found[0]
        return int(read), int(written), int(skipped)

    def check(self, kind: Kind, before: Sequence[Row], source: Sequence[Row]) -> None:
        loaded = self.loaded()
        allowed = kind.allowed(before, source)
        assert len(loaded) == len(allowed)
        for row in loaded:
            assert row in allowed[row[:2]], f"{row} is not one of {allowed[row[:2]]}"
        read, written, skipped = self.counts()
        assert (read, read) == (len(source), written + skipped)
        staging = "SELECT count(*) FROM pg_class WHERE relname LIKE 'stage!_%' ESCAPE '!'"
        assert self.database.value(staging) == 0


@contextmanager
def placed(database: Database, table: dict[str, Any]) -> Iterator[Place]:
    """A target that is not there, and no ledger."""
    database.execute('DROP TABLE IF EXISTS "T"')
    database.execute("DROP SCHEMA IF EXISTS migration_status CASCADE")
    with tempfile.TemporaryDirectory() as folder:
        yield Place(database, Path(folder), table)


@pytest.fixture(scope="module")
def shared(postgres: LocalPostgres) -> Database:
    return Database("modes", postgres.create_database("modes"))


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
@settings(
    max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(first=rows, second=rows)
def test_fresh_again_and_changed(
    kind: Kind, shared: Database, first: list[Any], second: list[Any]
) -> None:
    with placed(shared, kind.table) as place:
        source = numbered(first, "first")
        place.write(source)
        place.migrate()
        place.check(kind, [], source)
        # The same once more: only ties may be decided anew.
        before = place.loaded()
        place.migrate()
        place.check(kind, before, source)
        before, source = place.loaded(), numbered(second, "second")
        place.write(source)
        place.migrate()
        place.check(kind, before, source)


@settings(
    max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(first=rows, second=rows)
def test_truncate(shared: Database, first: list[Any], second: list[Any]) -> None:
    """Exactly the rows of the source, doubles and all."""
    with placed(shared, {"mode": "truncate"}) as place:
        for source in (numbered(first, "first"), numbered(second, "second")):
            for _ in range(2):
                place.write(source)
                place.migrate()
                assert sorted(place.loaded(), key=str) == sorted(source, key=str)


def test_append_is_refused_onto_rows(shared: Database) -> None:
    with placed(shared, {"mode": "append"}) as place:
        source = numbered([(1, "a", NOON), (1, "a", NOON)], "first")
        place.write(source)
        place.migrate()
        assert sorted(place.loaded()) == source
        place.write(numbered([(2, "b", NOON)], "second"))
        with pytest.raises(snowmelt.SnowmeltError, match="mode append could double them"):
            place.migrate()
        assert sorted(place.loaded()) == source


def test_upsert_without_a_watermark(shared: Database) -> None:
    """The source's row; a key that repeats there is refused."""
    with placed(shared, {"mode": "upsert", "uniqueness_columns": ["k1"]}) as place:
        place.write(numbered([(key, "a", NOON) for key in range(30)], "first"))
        place.migrate()
        source = numbered([(key, "b", None) for key in range(20, 50)], "second")
        place.write(source)
        place.migrate()
        loaded = {row[0]: row for row in place.loaded()}
        assert [loaded[row[0]] for row in source] == source
        assert len(loaded) == 50
        place.write(numbered([(1, "a", NOON), (1, "b", NOON)], "third"))
        with pytest.raises(snowmelt.SnowmeltError, match="nothing tells which of them"):
            place.migrate()


MANY = numbered(
    [
        (number * 7 % 61, "ab"[number % 2], NOON + timedelta(hours=number * 5 % 11))
        for number in range(300)
    ],
    "first",
)


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_killed_in_the_middle(kind: Kind, database: Database, tmp_path: Path) -> None:
    place = Place(database, tmp_path, {**kind.table, "batch_size": 20})
    database.execute(
        'CREATE TABLE "T" (k1 bigint, k2 text, seen timestamp, note text, n bigint, UNIQUE (k1, k2))'
    )
    place.write(MANY)
    database.execute(
        "CREATE FUNCTION hold() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN "
        'IF (SELECT count(*) FROM "T") >= 40 THEN PERFORM pg_advisory_xact_lock(78); END IF; '
        "RETURN NULL; END $$"
    )
    database.execute(
        'CREATE TRIGGER hold BEFORE INSERT ON "T" FOR EACH STATEMENT EXECUTE FUNCTION hold()'
    )
    with psycopg.connect(database.dsn) as other:
        other.execute("SELECT pg_advisory_xact_lock(78)")
        with Background(place.config(parallel_threads=2), "migrate") as run:
            wait_until(
                lambda: database.value(
                    "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"
                ),
                "some chunks to be done",
            )
            run.send(signal.SIGKILL)
            wait_until(lambda: not run.running, "the run to be gone")
    database.execute('DROP TRIGGER hold ON "T"')
    end_leases(database)
    place.migrate()
    loaded, allowed = place.loaded(), kind.allowed([], MANY)
    assert {row[:2] for row in loaded} == set(allowed)
    assert len(loaded) == len(allowed)
    assert all(row in allowed[row[:2]] for row in loaded)
    read, written, skipped = place.counts()
    assert (read, written + skipped) == (len(MANY), len(MANY))


def test_one_process_frozen_while_it_holds_a_key_that_another_needs(
    database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The other waits for the key, gives its chunk back, and ends the frozen one when its lease is over."""
    monkeypatch.setattr(load, "KEY_PATIENCE_MS", 3_000)  # longer than the lease
    kind = KINDS[0]
    place = Place(database, tmp_path, {**kind.table, "batch_size": 20})
    database.execute(
        'CREATE TABLE "T" (k1 bigint, k2 text, seen timestamp, note text, n bigint, UNIQUE (k1, k2))'
    )
    place.write(MANY)
    database.execute(
        "CREATE FUNCTION hold() RETURNS trigger LANGUAGE plpgsql AS "
        "'BEGIN PERFORM pg_advisory_xact_lock_shared(79); RETURN NULL; END'"
    )
    database.execute(
        'CREATE TRIGGER hold AFTER INSERT ON "T" FOR EACH STATEMENT EXECUTE FUNCTION hold()'
    )
    with psycopg.connect(database.dsn) as other:
        other.execute("SELECT pg_advisory_xact_lock(79)")
        config = place.config(parallel_threads=1)
        with Background(config, "migrate") as frozen:
            wait_until(
                lambda: database.value(
                    "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"
                ),
                "a chunk to be merged",
            )
            frozen.send(signal.SIGSTOP)
            other.rollback()
            # Merged, but its process does not say COMMIT any more.
            place.migrate(threads=1)
            frozen.send(signal.SIGCONT)
            frozen.send(signal.SIGKILL)
    place.check(kind, [], MANY)
