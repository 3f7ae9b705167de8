"""The questions of monitoring.sql, over runs of snowmelt and of the running system."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg.rows import dict_row

from snowmelt.postgres.connect import Server, Session
from snowmelt.postgres.migrations import migrate_ledger
from snowmelt.postgres.monitoring import ask, questions
from tests.support import Database, config_for, duckdb_file, snowmelt, write_config

OLD = Path(__file__).parents[1] / "data" / "running_system_ledger.sql"


@pytest.fixture
def session(database: Database) -> Iterator[Session]:
    session = Session(Server.of({}, dsn=database.dsn))
    yield session
    session.close()


def rows(session: Session, name: str) -> list[dict[str, Any]]:
    answer = ask(session, name)
    return [dict(zip(answer.columns, row, strict=True)) for row in answer.rows]


@pytest.mark.parametrize("name", questions())
def test_each_question_can_be_asked_of_an_empty_ledger(session: Session, name: str) -> None:
    migrate_ledger(session)
    assert ask(session, name).rows == ()
    assert questions()[name].asks.endswith("?")


@pytest.mark.parametrize("name", questions())
def test_each_question_can_be_asked_of_the_running_systems_ledger(
    database: Database, session: Session, name: str
) -> None:
    database.execute(OLD.read_text(encoding="utf-8"))
    migrate_ledger(session)
    found = ask(session, name).rows
    # What it had no word for it has no row of.
    none = {"progress", "stuck_chunks", "skipped_rows", "truncations", "marks"}
    none |= {"index_builds", "replaced_tables", "slices"}
    assert bool(found) is (name not in none)


@pytest.fixture
def moved(database: Database, tmp_path: Path) -> Path:
    """Two nights of a table that is emptied first, an incremental one, and one that fails."""
    source = duckdb_file(
        tmp_path / "s.duckdb",
        "CREATE TABLE full_one AS SELECT i AS id, i AS n FROM range(100) r(i)",
        "CREATE TABLE news AS SELECT i % 80 AS id, i AS n FROM range(100) r(i)",
        "CREATE TABLE bad AS SELECT i AS id, i AS n FROM range(10) r(i)",
    )
    database.execute("CREATE TABLE bad (id bigint, n bigint CHECK (n < 5))")
    database.execute("CREATE TABLE news (id bigint PRIMARY KEY, n bigint)")
    key = {"chunking_columns": ["id"], "batch_size": 10}
    tables = [
        {"source": "full_one", "mode": "truncate", **key},
        {"source": "news", "uniqueness_columns": ["id"], "source_watermark": "n", **key},
        {"source": "bad", **key},
    ]
    config = write_config(tmp_path, config_for(database, source, *tables))
    assert snowmelt(config, "migrate", "--table", "full_one").returncode == 0
    assert snowmelt(config, "migrate").returncode == 1
    return config


def test_what_is_answered(session: Session, moved: Path) -> None:
    (failed,) = rows(session, "failed_tables")
    assert (failed["target"], failed["failed_chunks"]) == ("public.bad", 1)
    assert "bad_n_check" in failed["error_message"]
    assert {one["target"] for one in rows(session, "failed_chunks")} == {"public.bad"}
    (skipped,) = rows(session, "skipped_rows")
    assert skipped["target"] == "public.news"
    assert skipped["rows_skipped"] == 20
    (truncated,) = rows(session, "truncations")
    assert (truncated["target"], truncated["rows_removed"]) == ("public.full_one", 100)
    (mark,) = rows(session, "marks")
    assert (mark["target"], mark["mark"], mark["adopted"]) == ("public.news", "99", False)
    compared = [one for one in rows(session, "comparison") if one["target"] == "public.full_one"]
    assert [one["rows"] for one in compared] == [100, 100]
    assert [one["more_rows"] for one in compared] == [0, None]
    assert {one["status"] for one in rows(session, "throughput")} == {"completed", "failed"}
    assert sum(one["rows"] for one in rows(session, "throughput_by_hour")) == 280
    assert rows(session, "slowest_chunks")[0]["took"] is not None
    assert rows(session, "progress") == []

    told = snowmelt(moved, "monitoring", "truncations", "--json")
    (answer,) = json.loads(told.stdout)
    assert answer["rows"][0]["rows_removed"] == 100
    shown = snowmelt(moved, "monitoring", "comparison")
    assert (shown.returncode, "public.full_one" in shown.stdout) == (0, True)
    wrong = snowmelt(moved, "monitoring", "nothing")
    assert (wrong.returncode, "known are progress" in wrong.stderr) == (2, True)


def test_a_run_under_way_and_a_chunk_that_is_stuck(
    database: Database, session: Session, moved: Path
) -> None:
    with psycopg.connect(database.dsn, autocommit=True, row_factory=dict_row) as connection:
        connection.execute(
            "UPDATE migration_status.run SET ending = NULL, ended_at = NULL WHERE ending = 'failed'"
        )
        connection.execute(
            "UPDATE migration_status.load SET failed_at = NULL WHERE source_table = 'bad'"
        )
        connection.execute(
            "UPDATE migration_status.chunk SET failed_at = NULL, token = gen_random_uuid(), attempts = 3, "
            "claimed_at = clock_timestamp() - interval '1 hour', "
            "worker_id = (SELECT worker_id FROM migration_status.worker LIMIT 1) WHERE failed_at IS NOT NULL"
        )
    progress = {one["target"]: one for one in rows(session, "progress")}
    assert progress["public.bad"]["status"] == "in_progress"
    assert progress["public.news"]["percent_completed"] == 100
    stuck = rows(session, "stuck_chunks")
    assert stuck
    assert {(one["target"], one["worker_is_alive"]) for one in stuck} == {("public.bad", False)}
    assert all(one["worker"] and one["retry_count"] == 2 for one in stuck)
    assert moved.exists()


def test_the_questions_are_listed_and_printed(tmp_path: Path) -> None:
    listed = snowmelt(tmp_path / "none.json", "monitoring")
    assert all(name in listed.stdout for name in questions())
    sql = snowmelt(tmp_path / "none.json", "monitoring", "marks", "--sql")
    assert sql.stdout.split() == questions()["marks"].statement.split()
