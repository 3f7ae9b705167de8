"""disable_index: what is dropped for a load comes back as it was, whatever becomes of the load."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

import snowmelt
from snowmelt.config import load_config
from snowmelt.errors import Refused
from snowmelt.postgres import locks
from tests import support
from tests.acceptance.nights import NOON, Nights
from tests.acceptance.processes import end_leases
from tests.support import Database, config_for, write_config

RICH = """
    CREATE TABLE other (id bigint PRIMARY KEY);
    CREATE TABLE "T" (id bigint NOT NULL, seen timestamp, note varchar(20), extra int DEFAULT 1);
    ALTER TABLE "T" ADD CONSTRAINT "The key" PRIMARY KEY (id) INCLUDE (seen) WITH (fillfactor = 80);
    ALTER TABLE "T" ADD CONSTRAINT late UNIQUE (id, seen) DEFERRABLE INITIALLY DEFERRED;
    CREATE INDEX by_note ON "T" (lower(note) text_pattern_ops DESC NULLS LAST) WHERE id > 3;
    CREATE INDEX "By Seen" ON "T" USING brin (seen) WITH (pages_per_range = 4);
    CREATE UNIQUE INDEX unique_seen ON "T" (seen, id) NULLS NOT DISTINCT;
    ALTER TABLE "T" CLUSTER ON unique_seen;
    ALTER INDEX by_note ALTER COLUMN 1 SET STATISTICS 77;
    COMMENT ON INDEX by_note IS 'an index';
    COMMENT ON CONSTRAINT "The key" ON "T" IS 'a key';
"""
DESCRIBED: Any = """
    SELECT indexrelid::regclass::text, pg_get_indexdef(indexrelid), indisclustered, indisvalid, indisprimary,
           obj_description(indexrelid), c.conname, c.contype, c.condeferrable, c.condeferred,
           pg_get_constraintdef(c.oid), obj_description(c.oid, 'pg_constraint'),
           (SELECT array_agg(attstattarget ORDER BY attnum) FROM pg_attribute WHERE attrelid = indexrelid)
    FROM pg_index i LEFT JOIN pg_constraint c ON c.conindid = indexrelid AND c.conrelid = indrelid
    WHERE indrelid = '"T"'::regclass ORDER BY 1
"""


def described(database: Database) -> list[Any]:
    return database.execute(DESCRIBED)


@pytest.fixture
def nights(database: Database, tmp_path: Path) -> Nights:
    nights = Nights(database, tmp_path, disable_index=True)
    nights.run(f"INSERT INTO T SELECT i, {NOON}, 'n' || i FROM range(200) t(i)")
    database.execute(RICH)
    return nights


def named(database: Database) -> set[str]:
    return {row[0].strip('"') for row in described(database)}


def test_they_come_back_as_they_were(nights: Nights) -> None:
    database = nights.database
    before = described(database)
    nights.migrate()
    assert described(database) == before
    assert nights.loaded() == nights.rows()
    dropped = database.execute(
        "SELECT name FROM migration_status.post_data WHERE dropped_at IS NOT NULL AND attached_at IS NOT NULL"
    )
    assert {name for (name,) in dropped} == named(database)
    status = (
        "SELECT indexes_disabled, indexes_restored FROM migration_status.migration_table_status"
    )
    assert database.execute(status) == [(True, True)]


@pytest.mark.parametrize(
    ("settings", "stays"),
    [
        ({"mode": "upsert", "uniqueness_columns": ["id"]}, {"The key"}),
        ({"mode": "insert_only", "uniqueness_columns": ["seen", "id"]}, {"unique_seen"}),
        ({"mode": "insert_only"}, {"The key", "unique_seen", "late"}),
        ({"mode": "append"}, set()),
    ],
)
def test_what_the_mode_finds_rows_by_stays(
    nights: Nights, settings: dict[str, Any], stays: set[str]
) -> None:
    database = nights.database
    if "late" not in stays and settings.get("uniqueness_columns") == ["seen", "id"]:
        database.execute('ALTER TABLE "T" DROP CONSTRAINT late')
    before = described(database)
    nights.migrate(**settings)
    assert described(database) == before
    assert nights.loaded() == nights.rows()
    dropped = database.execute("SELECT name FROM migration_status.post_data")
    assert named(database) - {name for (name,) in dropped} == stays


def test_what_forbids_rows_stays_where_rows_are(nights: Nights) -> None:
    database = nights.database
    settings: dict[str, Any] = {"mode": "append", "source_watermark": "id"}
    nights.migrate(**settings)
    nights.run(f"INSERT INTO T SELECT i, {NOON}, 'n' FROM range(200, 240) t(i)")
    nights.migrate(**settings)
    dropped = database.execute(
        "SELECT name FROM migration_status.post_data WHERE table_id = 2 ORDER BY name"
    )
    assert [name for (name,) in dropped] == ["By Seen", "by_note"]


def test_what_others_go_by_stays(nights: Nights) -> None:
    database = nights.database
    database.execute('CREATE TABLE child (id bigint REFERENCES "T")')
    database.execute('ALTER TABLE "T" ALTER seen SET NOT NULL')
    database.execute('ALTER TABLE "T" REPLICA IDENTITY USING INDEX unique_seen')
    before = described(database)
    nights.migrate()
    assert described(database) == before
    dropped = database.execute("SELECT name FROM migration_status.post_data")
    assert {name for (name,) in dropped} == {"late", "By Seen", "by_note"}


def test_one_that_fails_stops_no_other(nights: Nights) -> None:
    database = nights.database
    before = described(database)
    nights.run(f"INSERT INTO T VALUES (7, {NOON} + INTERVAL 1 DAY, 'again')")
    told = nights.migrate(code=1)
    assert "The key" in str(told)
    assert "(id)=(7)" in str(told)
    assert named(database) == {"by_note", "By Seen", "unique_seen", "late"}
    missing = nights.command("indexes", "missing")
    assert "The key" in missing.stdout
    failed = nights.command("indexes", "restore")
    assert failed.returncode == 1
    database.execute("""DELETE FROM "T" WHERE note = 'again'""")
    restored = nights.command("indexes", "restore")
    assert (restored.returncode, "The key is built" in restored.stdout) == (0, True)
    assert described(database) == before
    assert nights.command("indexes", "missing").stdout == "no index is missing\n"


def test_a_failed_run_gives_them_back(nights: Nights) -> None:
    database = nights.database
    before = described(database)
    nights.run("UPDATE T SET note = repeat('x', 30) WHERE id = 150")
    nights.migrate(code=1)
    assert described(database) == before
    nights.run("UPDATE T SET note = 'short' WHERE id = 150")


def test_after_a_kill_the_next_run_or_a_command_gives_them_back(nights: Nights) -> None:
    database = nights.database
    before = described(database)
    process = subprocess.Popen(
        support.command(nights.config(batch_size=1, parallel_threads=1), "migrate"),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    done = "SELECT count(*) FROM migration_status.chunk WHERE completed_at IS NOT NULL"
    there = "SELECT to_regclass('migration_status.post_data') IS NOT NULL"
    deadline = time.monotonic() + 60
    while not database.value(there) or database.value(done) < 5:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert described(database) == []
    end_leases(database)
    restored = nights.command("indexes", "restore", "--threads", "2")
    assert restored.returncode == 0, restored.stderr
    assert described(database) == before
    nights.migrate(batch_size=1)
    assert described(database) == before
    assert nights.loaded() == nights.rows()


def test_a_person_who_was_first_is_no_obstacle(nights: Nights) -> None:
    database = nights.database
    before = described(database)
    nights.run(f"INSERT INTO T VALUES (7, {NOON} + INTERVAL 1 DAY, 'again')")
    nights.migrate(code=1)
    database.execute("""DELETE FROM "T" WHERE note = 'again'""")
    database.execute(
        'CREATE UNIQUE INDEX "The key" ON "T" (id) INCLUDE (seen) WITH (fillfactor = 80)'
    )
    assert nights.command("indexes", "restore").returncode == 0
    assert described(database) == before


def test_what_is_refused_in_the_middle_gives_them_back(
    nights: Nights, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of two tables the second is held by a reader: the run ends, and the first has its indexes."""
    monkeypatch.setattr(locks, "PATIENCE_SECONDS", 1.0)
    database = nights.database
    database.execute('CREATE TABLE "U" (id bigint); CREATE INDEX of_u ON "U" (id)')
    nights.run("CREATE TABLE U AS SELECT id FROM T")
    before = described(database)
    tables = [nights.table, {"source": "U", "disable_index": True}]
    config = load_config(
        write_config(nights.folder, config_for(database, nights.source, *tables)), environ={}
    )
    with database.connect() as reader, reader.transaction(), snowmelt.open(config) as mover:
        reader.execute('SELECT count(*) FROM "U"')
        plan = mover.plan()
        with pytest.raises(Refused) as caught:
            mover.run(plan)
    assert "drop indexes of the target" in str(caught.value)
    assert described(database) == before
    with snowmelt.open(config) as mover:
        mover.run(mover.plan()).raise_for_failures()
    assert described(database) == before
    assert nights.loaded() == nights.rows()
