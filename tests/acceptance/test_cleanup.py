"""Upkeep of ledgers: what ended runs have left is removed, and nothing that somebody needs."""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any, LiteralString

import pytest

from snowmelt.standin.server import StandIn
from tests.acceptance.nights import NOON, Nights
from tests.acceptance.processes import Background, Gate, by_day, create_target, wait_until
from tests.acceptance.snowflake import DATABASE, minutes, snowflake_config
from tests.support import Database, snowmelt

ROWS = f"INSERT INTO T SELECT i, {NOON} + INTERVAL (i) MINUTE, 'n' FROM range(100) r(i)"
STAGING: LiteralString = """
    SELECT relname::text FROM pg_class WHERE relname LIKE 'stage!_%' ESCAPE '!' AND relkind = 'r' ORDER BY 1
"""
TABLES = ("run", "load", "chunk", "worker", "high_water_mark")


@pytest.fixture
def nights(database: Database, tmp_path: Path) -> Nights:
    found = Nights(
        database, tmp_path, mode="upsert", uniqueness_columns=["id"], source_watermark="seen"
    )
    found.run(ROWS)
    return found


def cleanup(nights: Nights, *options: str, code: int = 0) -> dict[str, Any]:
    done = snowmelt(nights.config(), "cleanup", "--json", *options)
    assert done.returncode == code, done.stderr + done.stdout
    (of_database,) = json.loads(done.stdout)
    found: dict[str, Any] = of_database
    return found


def contents(database: Database) -> list[Any]:
    return [database.execute(f"SELECT * FROM migration_status.{t} ORDER BY 1") for t in TABLES]


def staging(database: Database) -> list[str]:
    return [name for (name,) in database.execute(STAGING)]


def test_staging_of_a_killed_run_goes_and_that_of_a_live_one_stays(nights: Nights) -> None:
    database = nights.database
    database.execute('CREATE TABLE "T" (id bigint PRIMARY KEY, seen timestamp, note text)')
    with Gate.before(database, "T") as gate:
        with Background(nights.config(parallel_threads=1), "migrate") as run:
            gate.holds(1)
            (name,) = staging(database)
            assert cleanup(nights)["staging"] == []
            run.send(signal.SIGKILL)
            wait_until(lambda: not run.running, "the run to be gone")
            database.execute("UPDATE migration_status.worker SET heartbeat_at = '2020-01-01'")
            told = cleanup(nights, code=1)
            assert (told["staging"], told["left"]) == (
                [],
                [{"name": name, "why": "another session works with it"}],
            )
        gate.open()
    wait_until(
        lambda: database.value(
            "SELECT count(*) = 0 FROM pg_stat_activity WHERE application_name LIKE 'snowmelt table%'"
        ),
        "the backend to notice",
    )
    assert cleanup(nights, "--dry-run")["staging"] == [name]
    assert staging(database) == [name]
    assert cleanup(nights)["staging"] == [name]
    assert staging(database) == []
    nights.migrate()
    assert nights.loaded() == nights.rows()
    assert staging(database) == []


def test_old_runs_go_by_age_and_the_newest_load_of_a_table_stays(
    database: Database, tmp_path: Path
) -> None:
    nights = Nights(database, tmp_path, mode="truncate")
    nights.run(ROWS)
    for _ in range(3):
        nights.migrate()
    old = "SET ended_at = ended_at - interval '40 days', active_at = active_at - interval '40 days'"
    database.execute(f"UPDATE migration_status.run {old}")

    before = contents(database)
    assert cleanup(nights)["runs"] == [], "without a retention all stay"
    assert cleanup(nights, "--older-than", "41")["runs"] == []
    assert contents(database) == before
    told = cleanup(nights, "--older-than", "30", "--dry-run")
    assert (len(told["runs"]), len(told["loads"])) == (2, 2)
    assert contents(database) == before

    assert cleanup(nights, "--older-than", "30") == told
    assert database.value("SELECT count(*) FROM migration_status.run") == 1
    nights.migrate()
    assert nights.decision()["row"] == "ours"


def test_the_retention_is_the_configs_too(database: Database, tmp_path: Path) -> None:
    nights = Nights(database, tmp_path, mode="truncate")
    nights.run(ROWS)
    nights.migrate()
    nights.migrate()
    database.execute("UPDATE migration_status.run SET ended_at = ended_at - interval '3 days'")
    path = nights.config()
    document = json.loads(path.read_text()) | {"retention_days": 2}
    path.write_text(json.dumps(document))
    done = snowmelt(path, "cleanup")
    assert (done.returncode, "1 run removed" in done.stdout) == (0, True)


def test_what_may_be_resumed_stays_and_marks_always_do(nights: Nights) -> None:
    nights.migrate()
    mark = nights.mark()
    nights.database.execute('ALTER TABLE "T" ADD CHECK (id < 500)')
    nights.run(f"INSERT INTO T VALUES (700, {NOON} + INTERVAL 5 HOUR, 'bad')")
    nights.migrate(code=1)
    nights.database.execute(
        "UPDATE migration_status.run SET ended_at = ended_at - interval '2 days'"
    )
    told = cleanup(nights, "--older-than", "1")
    assert len(told["runs"]) == 1, "the completed one; the failed one may be resumed"
    assert nights.mark() == mark
    nights.database.execute('ALTER TABLE "T" DROP CONSTRAINT "T_id_check"')
    assert nights.migrate()["resumed"]
    assert nights.loaded() == nights.rows()


def test_workers_that_are_long_gone_are_forgotten(nights: Nights) -> None:
    nights.migrate()
    assert cleanup(nights)["workers"] == []
    nights.database.execute("UPDATE migration_status.worker SET heartbeat_at = '2020-01-01'")
    assert len(cleanup(nights)["workers"]) == 1
    assert nights.database.value("SELECT count(*) FROM migration_status.worker") == 0


# --- clones at the source -------------------------------------------------------------------------

CLONES = f"""
    SELECT table_name FROM "{DATABASE}".INFORMATION_SCHEMA.TABLES WHERE table_schema = 'CLONES'
"""


@pytest.fixture
def standin() -> Iterator[StandIn]:
    """With a table, and a schema for clones of it."""
    with StandIn.start(rows_per_chunk=300, inline_rows=100) as server:
        minutes(server, "VISITS", 2_000)
        server.execute(f'CREATE SCHEMA "{DATABASE}"."CLONES"')
        yield server


def told(config: Path, *options: str, code: int = 0) -> dict[str, Any]:
    done = snowmelt(config, "cleanup", "--json", *options)
    assert done.returncode == code, done.stderr + done.stdout
    (found,) = json.loads(done.stdout)
    return dict(found)


def test_a_clone_that_an_ended_run_left_is_dropped_once(
    standin: StandIn, database: Database, tmp_path: Path
) -> None:
    """And no load is forgotten before its clone is gone."""

    def config(source: str = "s", **account: object) -> Path:
        return snowflake_config(
            tmp_path,
            database,
            standin,
            {**by_day("VISITS"), "parallel_threads": 1},
            account={"clone_schema": f"{DATABASE}.CLONES", **account},
            source={"source_name": source},
            snapshot="clone",
            lease_seconds=600,
        )

    create_target(database, "VISITS")
    with Gate.before(database, "VISITS") as gate, Background(config(), "migrate"):
        gate.holds(1)
    ((clone,),) = standin.execute(CLONES)
    named = f"{DATABASE}.CLONES.{clone}"
    # As a process that ended it would, had it been killed before it tidied up.
    database.execute(
        "UPDATE migration_status.run SET ending = 'aborted', ended_at = now() - interval '9 days'"
    )
    assert told(config())["clones"] == [], "its worker's lease is not over"
    database.execute("UPDATE migration_status.worker SET ended_at = now()")
    # A newer load of the target, so that this one may go.
    database.execute(
        "WITH r AS (INSERT INTO migration_status.run (run_id, config_hash, execution_hash, source_names,"
        " total_tables, ending, ended_at) VALUES (gen_random_uuid(), 'c', 'e', '{s}', 1, 'completed', now())"
        " RETURNING run_id) INSERT INTO migration_status.load (run_id, source_name, source_database,"
        " source_schema, source_table, target_database, target_schema, target_table, table_hash)"
        " SELECT run_id, 's', '', '', 'T', 'd', 'public', 'VISITS', 'h' FROM r"
    )

    before = contents(database)
    dry = told(config(), "--older-than", "7", "--dry-run")
    assert (dry["clones"], len(dry["runs"])) == ([named], 1)
    assert (standin.execute(CLONES), contents(database)) == ([(clone,)], before)
    refused = told(config(password="wrong"), "--older-than", "7", code=1)
    assert (refused["clones"], refused["runs"], refused["loads"]) == ([], [], [])
    assert [left["name"] for left in refused["left"]] == [f"clone {named}"]
    other = told(config(source="other"), "--older-than", "7")
    assert (other["elsewhere"], other["clones"], other["runs"]) == ([named], [], [])

    assert told(config())["clones"] == [named]
    assert standin.execute(CLONES) == []
    again = told(config(), "--older-than", "7")
    assert (again["clones"], len(again["runs"])) == ([], 1)
