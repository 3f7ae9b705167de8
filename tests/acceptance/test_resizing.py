"""Chunks that take too long are replaced by smaller ones, and the run ends with the source's rows."""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from snowmelt.standin.faults import Faults
from snowmelt.standin.server import StandIn
from tests.acceptance import processes
from tests.acceptance.processes import (
    FAILED,
    Background,
    by_day,
    create_target,
    wait_until,
)
from tests.acceptance.snowflake import (
    expected_minutes,
    minutes,
    snowflake_config,
    target_minutes,
)
from tests.support import Database, config_for, snowmelt, write_config

DAY = 1_440
ROWS = 4 * DAY
TABLE = "VISITS"
BY_DAY: dict[str, object] = {"source": TABLE, "chunking_columns": ["at"], "batch_size": DAY}
SECOND_DAY = r"'2024-01-02T00:00:00'[\s\S]*'2024-01-03T00:00:00'"
RESIZED = "SELECT count(*) FROM migration_status.chunk WHERE retired_at IS NOT NULL"
PARTS = """
    SELECT planned_rows, attempts FROM migration_status.chunk
    WHERE parent_id IS NOT NULL AND retired_at IS NULL ORDER BY chunk_id
"""


@pytest.fixture(scope="module")
def server() -> Iterator[StandIn]:
    with StandIn.start(rows_per_chunk=300, inline_rows=100) as server:
        yield server


@pytest.fixture
def standin(server: StandIn) -> Iterator[StandIn]:
    minutes(server, TABLE, ROWS)
    server.reset_stats()
    yield server
    server.faults()


def _reads_second_day(but: str = "") -> str:
    """Statements that read the chunk of the second day whole, or match `but`."""
    whole = rf'^SELECT "id"[\s\S]*{SECOND_DAY}'
    return f"{whole}|{but}" if but else whole


def _of_a_second(
    tmp_path: Path, database: Database, standin: StandIn, table: dict[str, object], **top: int
) -> Path:
    """A statement of Snowflake may run for a second."""
    account = {"statement_timeout_seconds": 1}
    return snowflake_config(tmp_path, database, standin, table, account=account, source=None, **top)


def _impatient(database: Database, rows: int) -> None:
    """A target whose role may run a statement for two seconds, in which it gets so many rows of a COPY."""
    create_target(database, TABLE)
    database.execute(
        "CREATE FUNCTION nap() RETURNS trigger LANGUAGE plpgsql AS $$ "
        "DECLARE place int := coalesce(nullif(current_setting('test.rows', true), '')::int, 0) + 1; "
        "BEGIN PERFORM set_config('test.rows', place::text, true); "
        f"IF place > {rows} THEN PERFORM pg_sleep(60); END IF; RETURN NEW; END $$"
    )
    database.execute(
        f'CREATE TRIGGER nap BEFORE INSERT ON "{TABLE}" FOR EACH ROW EXECUTE FUNCTION nap()'
    )
    database.execute(
        f"ALTER ROLE CURRENT_USER IN DATABASE {database.name} SET statement_timeout = '2s'"
    )


def _table_of(report: str) -> dict[str, Any]:
    (table,) = json.loads(report)["tables"]
    found: dict[str, Any] = table
    return found


@pytest.mark.parametrize("snapshot", ["time_travel", "none"])
def test_a_query_that_reaches_its_timeout(
    standin: StandIn, database: Database, tmp_path: Path, snapshot: str
) -> None:
    table = {**BY_DAY, "snapshot": snapshot}
    config = _of_a_second(tmp_path, database, standin, table, parallel_threads=2)
    standin.faults(Faults(query_latency_seconds=60, slow_match=_reads_second_day()))

    ended = snowmelt(config, "migrate", "--json", "-v")

    assert ended.returncode == 0, ended.stderr
    assert target_minutes(database, TABLE) == expected_minutes(ROWS)
    told = _table_of(ended.stdout)
    parts = database.execute(PARTS)
    assert len(parts) > 3
    assert {attempts for _, attempts in parts} == {1}
    planned = [rows for rows, _ in parts]
    assert planned == [None] * len(parts) if snapshot == "none" else sum(planned) == DAY
    assert told["resized"] == database.value(RESIZED) == 1
    assert told["chunks"] == told["completed_chunks"]
    assert told["rows"] == ROWS
    assert "replaced by" in ended.stderr
    why = "SELECT error_message FROM migration_status.chunk WHERE retired_at IS NOT NULL"
    assert "timeout of 1 second" in database.value(why)
    shown = snowmelt(config, "status")
    assert "resized" in shown.stdout


def test_a_copy_that_reaches_the_role_s_timeout(database: Database, tmp_path: Path) -> None:
    source = processes.minutes(tmp_path / "source.duckdb", 2 * DAY, TABLE)
    _impatient(database, DAY // 2)
    document = config_for(database, source, by_day(TABLE), parallel_threads=2)

    ended = snowmelt(write_config(tmp_path, document), "migrate", "--json")

    assert ended.returncode == 0, ended.stderr
    assert target_minutes(database, TABLE) == expected_minutes(2 * DAY)
    told = _table_of(ended.stdout)
    assert told["resized"] == database.value(RESIZED) == 2
    assert sum(rows for rows, _ in database.execute(PARTS)) == 2 * DAY


def test_parts_of_a_result_that_reach_the_role_s_timeout(
    standin: StandIn, database: Database, tmp_path: Path
) -> None:
    """They are regrouped as they are: nothing more is asked of the source."""
    _impatient(database, ROWS // 2)
    table: dict[str, object] = {"source": TABLE, "extraction": "one_query", "batch_size": ROWS}
    config = snowflake_config(tmp_path, database, standin, table, parallel_threads=2)

    ended = snowmelt(config, "migrate", "--json")

    assert ended.returncode == 0, ended.stderr
    assert target_minutes(database, TABLE) == expected_minutes(ROWS)
    assert _table_of(ended.stdout)["resized"] == database.value(RESIZED) == 1
    reads = [text for text in standin.stats().statements if text.startswith('SELECT "id"')]
    assert len(reads) == 1
    assert not any("snowmelt pieces" in text for text in standin.stats().statements)


def test_a_table_that_can_not_be_split_is_given_up_with_what_would_help(
    database: Database, tmp_path: Path
) -> None:
    source = processes.minutes(tmp_path / "source.duckdb", 2 * DAY, TABLE)
    _impatient(database, DAY // 2)
    document = config_for(database, source, {"source": TABLE}, max_retry_attempts=1)

    ended = snowmelt(write_config(tmp_path, document), "migrate")

    assert ended.returncode == FAILED
    told = ended.stdout + ended.stderr
    assert "gave up after 2 attempts: canceling statement due to statement timeout" in told
    assert "raise statement_timeout for the role of the postgres block" in told
    assert "name chunking_columns" in told
    assert database.value(f'SELECT count(*) FROM "{TABLE}"') == 0


def test_a_split_that_takes_too_long_is_an_attempt(
    standin: StandIn, database: Database, tmp_path: Path
) -> None:
    config = _of_a_second(tmp_path, database, standin, BY_DAY, max_retry_attempts=1)
    slow = _reads_second_day(but="snowmelt pieces")
    standin.faults(Faults(query_latency_seconds=60, slow_match=slow))

    ended = snowmelt(config, "migrate")

    assert ended.returncode == FAILED
    told = ended.stdout + ended.stderr
    assert "gave up after 2 attempts: Statement reached its statement" in told
    assert "raise statement_timeout_seconds" in told
    assert "a further column in chunking_columns" in told
    assert database.value(RESIZED) == 0

    standin.faults(Faults(query_latency_seconds=60, slow_match=_reads_second_day()))
    resumed = snowmelt(config, "migrate")

    assert resumed.returncode == 0, resumed.stderr
    assert database.value(RESIZED) == 1
    assert target_minutes(database, TABLE) == expected_minutes(ROWS)


def test_killed_after_a_chunk_was_resized_the_run_goes_on_with_its_parts(
    standin: StandIn, database: Database, tmp_path: Path
) -> None:
    config = _of_a_second(tmp_path, database, standin, BY_DAY, parallel_threads=2)
    standin.faults(
        Faults(query_latency_seconds=60, slow_match=_reads_second_day(), chunk_latency_seconds=0.3)
    )
    with Background(config, "migrate") as run:
        wait_until(
            lambda: (
                database.value("SELECT to_regclass('migration_status.chunk') IS NOT NULL")
                and database.value(RESIZED)
            ),
            "a chunk that is resized",
        )
        run.send(signal.SIGKILL)
    standin.faults()

    ended = snowmelt(config, "migrate", "--json")

    assert ended.returncode == 0, ended.stderr
    assert _table_of(ended.stdout)["resized"] == database.value(RESIZED) == 1
    assert target_minutes(database, TABLE) == expected_minutes(ROWS)
