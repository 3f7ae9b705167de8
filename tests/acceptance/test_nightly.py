"""A full refresh night after night: as the running system has it, after a kill or an upgrade, from Snowflake."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Any, LiteralString

import pytest

import snowmelt
from snowmelt.config import load_config
from snowmelt.postgres.queries import migrations
from snowmelt.standin.server import StandIn
from snowmelt.survey import Choice
from tests.acceptance.nights import NOON, Nights
from tests.acceptance.processes import Background, end_leases, wait_until
from tests.acceptance.snowflake import expected_minutes, minutes, snowflake_config, target_minutes
from tests.support import Database
from tests.support import snowmelt as command

RUNNING_SYSTEM = {
    "truncate_onstart": True,
    "insert_only_mode": True,
    "uniqueness_columns": ["id"],
    "source_watermark": "seen",
    "target_watermark": "seen",
    "chunking_columns": ["seen"],
    "chunking_column_types": ["timestamp"],
}
UPSERT = {"truncate_onstart": True, "uniqueness_columns": ["id"], "source_watermark": "seen"}
KINDS: dict[str, dict[str, Any]] = {
    "of the running system": RUNNING_SYSTEM,
    "without keys": {"mode": "truncate"},
    "upserted": UPSERT,
}
CREATE: LiteralString = 'CREATE TABLE "T" (id bigint PRIMARY KEY, seen timestamp, note text)'


def tonight(nights: Nights, number: int) -> None:
    """Other rows, and another number of them; of the night before one is gone, ten are new, the others differ."""
    nights.run(
        "DELETE FROM T",
        f"INSERT INTO T SELECT i, {NOON} + INTERVAL (i) HOUR, 'night {number}' "
        f"FROM range({number}, {100 + 10 * number}) r(i)",
    )


def decisions(nights: Nights) -> list[Any]:
    """(row, rows removed) of each load, the first first."""
    return nights.database.execute(
        "SELECT truncation ->> 'row', (truncation ->> 'rows_removed')::int FROM migration_status.load "
        "ORDER BY table_id"
    )


@pytest.fixture(params=KINDS)
def nights(request: pytest.FixtureRequest, database: Database, tmp_path: Path) -> Nights:
    database.execute(CREATE)
    return Nights(database, tmp_path, **KINDS[request.param])


def test_night_after_night(nights: Nights) -> None:
    for number in range(3):
        tonight(nights, number)
        nights.migrate()
        assert nights.loaded() == nights.rows()
    assert decisions(nights) == [("fresh", None), ("ours", 100), ("ours", 109)]


# --- a night that was killed ----------------------------------------------------------------------

HOLD: LiteralString = """
    CREATE FUNCTION hold() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
        IF (SELECT count(*) FROM "T") >= 40 THEN PERFORM pg_advisory_xact_lock(78); END IF;
        RETURN NULL;
    END $$;
    CREATE TRIGGER hold BEFORE INSERT ON "T" FOR EACH STATEMENT EXECUTE FUNCTION hold()
"""
HELD: LiteralString = """
    SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted
    AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
"""


def killed(nights: Nights) -> int:
    """Start a run, kill it at about 40 %, and let its lease be over; gives the rows that it leaves."""
    nights.database.execute(HOLD)
    with nights.database.connect() as other, other.transaction():
        other.execute("SELECT pg_advisory_xact_lock(78)")
        with Background(nights.config(parallel_threads=1), "migrate") as run:
            wait_until(lambda: nights.database.value(HELD), "some chunks to be done")
            run.send(signal.SIGKILL)
            wait_until(lambda: not run.running, "the run to be gone")
    nights.database.execute('DROP TRIGGER hold ON "T"; DROP FUNCTION hold()')
    end_leases(nights.database)
    left = len(nights.loaded())
    assert 40 <= left < 80
    return left


def test_a_night_that_was_killed_is_gone_on_with(nights: Nights) -> None:
    """The night after it is as all others."""
    tonight(nights, 0)
    nights.migrate()
    tonight(nights, 1)
    killed(nights)
    assert nights.migrate()["resumed"]
    assert nights.loaded() == nights.rows()
    tonight(nights, 2)
    assert not nights.migrate()["resumed"]
    assert nights.loaded() == nights.rows()
    assert decisions(nights) == [("fresh", None), ("ours", 100), ("ours", 109)]


def test_a_killed_night_whose_source_has_changed_is_begun_anew(nights: Nights) -> None:
    """As the message says: the rows of the killed run are its own, and go without further leave."""
    tonight(nights, 0)
    nights.migrate()
    tonight(nights, 1)
    left = killed(nights)
    tonight(nights, 2)
    (told,) = nights.migrate(code=1)["errors"]
    assert "the source's files changed after planning" in told
    assert "load the table anew with --restart-table" in told
    assert len(nights.loaded()) == left
    done = command(nights.config(), "migrate", "--restart-table", "T")
    assert done.returncode == 0, done.stderr
    assert nights.loaded() == nights.rows()
    tonight(nights, 3)
    nights.migrate()
    assert nights.loaded() == nights.rows()
    assert decisions(nights) == [("fresh", None), ("ours", left), ("ours", 118)]


def test_of_an_upsert_that_wrote_a_row_twice_nobody_knows_which_rows_are_its_own(
    database: Database, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """They stay, with a warning, and the next night removes them with leave."""
    database.execute(CREATE)
    nights = Nights(database, tmp_path, **UPSERT, chunking_columns=["seen"])
    tonight(nights, 0)
    # Of another chunk, newer, and of a row that was loaded before.
    nights.run(f"INSERT INTO T VALUES (3, {NOON} + INTERVAL 30 HOUR, 'newer')")
    killed(nights)
    tonight(nights, 4)
    nights.migrate(choice=Choice(restart=("T",)))
    assert "public.T: the rows are preserved" in caplog.text
    assert {row[0] for row in nights.loaded()} - {row[0] for row in nights.rows()} == {0, 1, 2, 3}
    nights.migrate(choice=Choice(allow_truncate=True))
    assert nights.loaded() == nights.rows()


# --- the first night after an upgrade -------------------------------------------------------------

RUN: LiteralString = """
    INSERT INTO migration_status.run
        (run_id, config_hash, execution_hash, source_names, total_tables, ended_at, ending)
    VALUES (gen_random_uuid(), '', '', '{s}', 1, now(), 'completed') RETURNING run_id
"""
LOAD: LiteralString = """
    INSERT INTO migration_status.load
        (run_id, source_name, source_database, source_schema, source_table, target_database, target_schema,
         target_table, table_hash, plan, truncation, planned_rows, completed_at)
    VALUES (%s, 's', '', '', 'T', current_database(), 'public', 'T', 'v1:', '{"strategy": "whole table"}',
            '{"action": "truncate", "row": "fresh"}', 100, now())
    RETURNING table_id
"""
CHUNKS: LiteralString = """
    INSERT INTO migration_status.chunk
        (table_id, chunk_id, range, planned_rows, token, attempts, claimed_at, completed_at,
         rows_read, rows_written, rows_skipped)
    SELECT %s, n, '{"kind": "table"}', 50, gen_random_uuid(), 1, now(), now(), 50, 50, 0
    FROM generate_series(0, 1) n
"""


@pytest.fixture
def upgraded(database: Database, tmp_path: Path) -> Nights:
    """A table and the ledger of its first night as release 0.3.0 left them."""
    nights = Nights(database, tmp_path, mode="truncate")
    tonight(nights, 0)
    with database.connect() as connection, connection.transaction():
        connection.execute("CREATE SCHEMA migration_status")
        connection.execute(
            "CREATE TABLE migration_status.ledger_version "
            "(version integer PRIMARY KEY, applied_at timestamptz NOT NULL DEFAULT clock_timestamp())"
        )
        for number, script in migrations()[:3]:
            connection.execute(script)
            connection.execute("INSERT INTO migration_status.ledger_version VALUES (%s)", [number])
        connection.execute(CREATE)
        for row in nights.rows():
            connection.execute('INSERT INTO "T" VALUES (%s, %s, %s)', row)
        run_id = connection.execute(RUN).fetchone()
        table_id = connection.execute(LOAD, run_id).fetchone()
        connection.execute(CHUNKS, table_id)
    return nights


def test_the_first_night_after_an_upgrade(upgraded: Nights) -> None:
    """What release 0.3.0 loaded was all that was there."""
    for number in (1, 2):
        tonight(upgraded, number)
        upgraded.migrate()
        assert upgraded.loaded() == upgraded.rows()
    assert decisions(upgraded) == [("fresh", None), ("ours", 100), ("ours", 109)]


def test_rows_that_were_added_before_the_upgrade_are_preserved(upgraded: Nights) -> None:
    upgraded.database.execute("INSERT INTO \"T\" VALUES (-1, '2020-01-01', 'foreign')")
    before = upgraded.loaded()
    assert "rows that may not be ours" in upgraded.migrate(code=1)["error"]
    assert upgraded.loaded() == before


# --- from Snowflake -------------------------------------------------------------------------------


def test_two_nights_from_snowflake(database: Database, tmp_path: Path) -> None:
    by_day = {"source": "VISITS", "chunking_columns": ["at"], "batch_size": 1_440}
    with StandIn.start(rows_per_chunk=500, inline_rows=100) as standin:
        path = snowflake_config(tmp_path, database, standin, by_day, mode="truncate")
        config = load_config(path, environ={})
        for rows in (5_000, 4_000):
            minutes(standin, "VISITS", rows)
            with snowmelt.open(config) as mover:
                mover.run(mover.plan()).raise_for_failures()
            assert target_minutes(database, "VISITS") == expected_minutes(rows)
    removed = "SELECT truncation ->> 'rows_removed' FROM migration_status.load ORDER BY table_id"
    assert database.execute(removed) == [(None,), ("5000",)]
