"""One config that writes to two target databases is one run, and each ledger has its own part of it."""

from __future__ import annotations

import json
import signal
from pathlib import Path

import pytest

from snowmelt.demo.postgres import LocalPostgres
from snowmelt.demo.proof import prove
from tests.acceptance.processes import (
    Background,
    Gate,
    by_day,
    chunk_states,
    create_target,
    minutes,
    run_state,
    wait_until,
)
from tests.support import Database, config_for, snowmelt, write_config

ROWS, CHUNKS, THREADS = 7_200, 6, 2  # five days, and the chunk of NULL keys


@pytest.fixture
def other_database(postgres: LocalPostgres, database: Database) -> Database:
    name = f"{database.name}_other"
    return Database(name, postgres.create_database(name))


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return minutes(tmp_path / "source.duckdb", ROWS, "HERE", "THERE")


@pytest.fixture
def config(database: Database, other_database: Database, source: Path, tmp_path: Path) -> Path:
    """Source `here` goes to the first database, `there` to the other."""
    create_target(database, "HERE")
    create_target(other_database, "THERE", primary_key=True)
    connection = f"duckdb:///{source}"
    sources = [
        {
            "source_name": name,
            "connection": connection,
            "target_pg_database": place.name,
            "tables": [by_day(name.upper())],
        }
        for name, place in (("here", database), ("there", other_database))
    ]
    document = config_for(database, source, parallel_threads=THREADS)
    return write_config(tmp_path, {**document, "sources": sources})


def assert_exact(source: Path, *tables: tuple[Database, str]) -> None:
    for database, table in tables:
        proof = prove(source, table, database.dsn, "public", table)
        assert proof.agrees, str(proof)


def own_tables(database: Database) -> list[tuple[str, str]]:
    return database.execute("SELECT source_table, target_database FROM migration_status.load")


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_an_interrupted_run_is_resumed_as_one(
    database: Database, other_database: Database, config: Path, source: Path, number: signal.Signals
) -> None:
    with Gate.before(other_database, "THERE") as gate, Background(config, "migrate") as migrate:
        gate.holds(THREADS)
        wait_until(lambda: chunk_states(database) == {"completed": CHUNKS}, "the first database")
        migrate.send(number)
        if number is signal.SIGTERM:
            migrate.says("stopping")
            gate.open()
        ended = migrate.end()
    assert ended.code == (3 if number is signal.SIGTERM else -number)
    run_id, _ = run_state(database)
    assert run_state(other_database)[0] == run_id

    listed = json.loads(snowmelt(config, "runs", "--json").stdout)
    assert [run["run_id"] for run in listed] == [run_id] * 2
    states = {run["database"]: run["status"] for run in listed}
    assert states[other_database.name] == ("partial" if number is signal.SIGTERM else "running")

    resumed = snowmelt(config, "migrate")

    assert resumed.returncode == 0, resumed.stderr
    assert f"resuming run {run_id}" in resumed.stderr
    assert f"{2 * ROWS:,} rows" in resumed.stdout
    assert_exact(source, (database, "HERE"), (other_database, "THERE"))
    for place, table in ((database, "HERE"), (other_database, "THERE")):
        assert own_tables(place) == [(table, place.name)]
        assert run_state(place) == (run_id, "completed")
        assert chunk_states(place) == {"completed": CHUNKS}
    assert database.value("SELECT max(attempts) FROM migration_status.chunk") == 1


def test_status_shows_both_parts(
    database: Database, other_database: Database, config: Path, source: Path
) -> None:
    migrated = snowmelt(config, "migrate")
    assert migrated.returncode == 0, migrated.stderr
    # Both tables have the number 1 in their own ledgers.
    assert "public.HERE: completed" in migrated.stderr
    assert "public.THERE: completed" in migrated.stderr
    run_id, _ = run_state(database)
    assert_exact(source, (database, "HERE"), (other_database, "THERE"))

    for arguments in ((), (str(run_id),)):
        shown = json.loads(snowmelt(config, "status", "--json", *arguments).stdout)
        assert {run["database"]: (run["run_id"], run["status"]) for run in shown} == {
            place.name: (run_id, "completed") for place in (database, other_database)
        }
        assert [len(run["tables"]) for run in shown] == [1, 1]
    for verb in ("runs", "status"):
        text = snowmelt(config, verb).stdout
        assert text.count(str(run_id)) == 2
        assert database.name in text
        assert other_database.name in text


def test_a_table_that_fails_in_one_database_fails_the_run(
    database: Database, other_database: Database, config: Path, source: Path
) -> None:
    other_database.execute('ALTER TABLE "THERE" ADD CHECK (id <> 4000)')
    failed = snowmelt(config, "migrate", "--json")
    assert failed.returncode == 1
    report = json.loads(failed.stdout)
    assert {(t["database"], t["target"]): t["state"] for t in report["tables"]} == {
        (database.name, "public.HERE"): "completed",
        (other_database.name, "public.THERE"): "failed",
    }
    assert len(report["errors"]) == 1
    assert run_state(other_database) == (report["run_id"], "failed")

    other_database.execute('ALTER TABLE "THERE" DROP CONSTRAINT "THERE_id_check"')
    resumed = snowmelt(config, "migrate", "--json")
    assert resumed.returncode == 0, resumed.stderr
    assert json.loads(resumed.stdout)["run_id"] == report["run_id"]
    assert_exact(source, (database, "HERE"), (other_database, "THERE"))
