"""Killed and started again, reading from Snowflake in either way, a run ends with the source's rows."""

from __future__ import annotations

import random
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from snowmelt.standin.faults import Faults
from snowmelt.standin.server import StandIn
from tests.acceptance.processes import (
    FAILED,
    Background,
    Gate,
    chunk_states,
    completed,
    create_target,
    wait_until,
)
from tests.acceptance.snowflake import (
    DATABASE,
    SCHEMA,
    expected_minutes,
    minutes,
    snowflake_config,
    target_minutes,
)
from tests.acceptance.test_kill import ROUNDS, SEED
from tests.support import Database, snowmelt

ROWS = 12_000
TABLE = "VISITS"
NAME = f'"{DATABASE}"."{SCHEMA}"."{TABLE}"'
PLAIN: dict[str, object] = {"source": TABLE, "batch_size": 700}
BY_DAY: dict[str, object] = {**PLAIN, "chunking_columns": ["at"]}
WAYS: dict[str, dict[str, object]] = {"query_per_chunk": BY_DAY, "one_query": PLAIN}


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


@pytest.mark.parametrize("way", WAYS)
def test_killed_again_and_again(
    standin: StandIn, database: Database, tmp_path: Path, way: str
) -> None:
    dice = random.Random(SEED)
    standin.faults(Faults(chunk_latency_seconds=0.02))
    config = snowflake_config(tmp_path, database, standin, WAYS[way], extraction=way)
    create_target(database, TABLE)
    for _ in range(ROUNDS):
        with Background(config, "migrate") as run:
            # A run that has ended stays ended: nothing is appended to it by another start.
            _wait_for_progress(run, database, dice.randrange(4))
            time.sleep(dice.uniform(0, 0.3))
            if run.running:
                run.send(signal.SIGKILL)
    ended = snowmelt(config, "migrate")

    told = f"seed {SEED}\n{ended.stderr}"
    if database.value("SELECT count(*) FROM migration_status.run WHERE ending = 'completed'") == 0:
        assert ended.returncode == 0, told
    assert target_minutes(database, TABLE) == expected_minutes(ROWS), told


def _wait_for_progress(run: Background, database: Database, chunks: int) -> None:
    target: int | None = None
    deadline = time.monotonic() + 60
    while run.running:
        assert time.monotonic() < deadline, "no progress within a minute"
        ledger = database.value("SELECT to_regclass('migration_status.chunk') IS NOT NULL")
        if ledger:
            done = completed(database)
            target = done + chunks if target is None else target
            if done >= target:
                return
        time.sleep(0.02)


def _killed_in_the_middle(config: Path, database: Database, chunks: int) -> None:
    """Leave a run with some of its chunks done, and others in flight."""
    create_target(database, TABLE)
    with Gate.before(database, TABLE) as gate, Background(config, "migrate") as run:
        gate.holds(2)
        gate.lets(chunks + 1)
        wait_until(lambda: completed(database) > chunks, "some chunks")
        gate.holds(2)
        run.send(signal.SIGKILL)


@pytest.mark.parametrize("days", ["in order", "mixed up"])
@pytest.mark.parametrize("key", [True, False], ids=["key", "no key"])
def test_a_result_that_is_gone_at_the_resume(
    standin: StandIn, database: Database, tmp_path: Path, key: bool, days: str
) -> None:
    """What is loaded in whole days of the key stays; the rest is read again, at the same moment."""
    minutes(standin, TABLE, ROWS, shuffled=days == "mixed up")
    table = {**(BY_DAY if key else PLAIN), "extraction": "one_query", "batch_size": 1_000}
    config = snowflake_config(tmp_path, database, standin, table, parallel_threads=2)
    _killed_in_the_middle(config, database, 6)
    before = database.value(f'SELECT count(*) FROM "{TABLE}"')
    standin.execute(f'DELETE FROM {NAME} WHERE "id" % 2 = 0')
    standin.forget_results()
    standin.reset_stats()

    ended = snowmelt(config, "migrate", "-v")

    assert ended.returncode == 0, ended.stderr
    assert target_minutes(database, TABLE) == expected_minutes(ROWS)
    ((replans,),) = database.execute("SELECT replanned FROM migration_status.load")
    assert len(replans) == 1
    kept, removed = replans[0]["rows_kept"], replans[0]["rows_removed"]
    assert before > 0
    assert kept + removed == before
    assert (kept > 0) == (key and days == "in order")
    if kept:
        assert kept % 1_440 == 0  # whole days
    queries = [text for text in standin.stats().statements if text.startswith('SELECT "id"')]
    assert all("AT (TIMESTAMP" in text for text in queries)
    by_ranges = [text for text in queries if '"at" >=' in text or '"at" <' in text]
    assert bool(by_ranges) == (kept > 0)
    sums = (
        "SELECT sum(rows_read), sum(rows_written), count(*) FILTER (WHERE completed_at IS NULL) "
        "FROM migration_status.chunk"
    )
    assert database.execute(sums) == [(ROWS, ROWS, 0)]


def test_a_result_that_is_gone_with_the_history(
    standin: StandIn, database: Database, tmp_path: Path
) -> None:
    """Then there is no same moment any more: the table stops, and nothing is removed."""
    config = snowflake_config(
        tmp_path, database, standin, {**PLAIN, "extraction": "one_query"}, parallel_threads=2
    )
    _killed_in_the_middle(config, database, 4)
    before = database.value(f'SELECT count(*) FROM "{TABLE}"')
    standin.execute(f'DELETE FROM {NAME} WHERE "id" = 1')
    standin.forget_history(DATABASE, SCHEMA, TABLE)
    standin.forget_results()

    ended = snowmelt(config, "migrate")

    assert ended.returncode == FAILED
    assert "history at the moment of its snapshot is gone" in ended.stdout + ended.stderr
    # Without a key the target is emptied before the query is tried again; never is it half of each.
    after = database.value(f'SELECT count(*) FROM "{TABLE}"')
    assert after in (0, before)
    written = "SELECT coalesce(sum(rows_written), 0) FROM migration_status.chunk"
    assert database.value(written) == after


def test_rows_of_others_in_the_target_are_not_removed(
    standin: StandIn, database: Database, tmp_path: Path
) -> None:
    config = snowflake_config(
        tmp_path, database, standin, {**PLAIN, "extraction": "one_query"}, parallel_threads=2
    )
    _killed_in_the_middle(config, database, 4)
    database.execute(f"""INSERT INTO "{TABLE}" VALUES (-1, now(), 'mine')""")
    before = database.value(f'SELECT count(*) FROM "{TABLE}"')
    standin.forget_results()

    ended = snowmelt(config, "migrate")

    assert ended.returncode == FAILED
    assert "nothing is removed" in ended.stdout + ended.stderr
    assert database.value(f'SELECT count(*) FROM "{TABLE}"') == before


def test_two_processes_whose_result_is_gone(
    standin: StandIn, database: Database, tmp_path: Path
) -> None:
    """Both find out; one plans again, once."""
    table = {**PLAIN, "extraction": "one_query"}
    config = snowflake_config(tmp_path, database, standin, table, parallel_threads=2)
    _killed_in_the_middle(config, database, 4)
    standin.forget_results()
    with Background(config, "migrate") as one, Background(config, "migrate") as other:
        codes = {one.end().code, other.end().code}

    assert codes == {0}
    assert target_minutes(database, TABLE) == expected_minutes(ROWS)
    assert database.value("SELECT jsonb_array_length(replanned) FROM migration_status.load") == 1


def _asked_for_rows(standin: StandIn) -> int:
    return sum(text.startswith('SELECT "id"') for text in standin.stats().statements)


@pytest.mark.parametrize("way", WAYS)
def test_queries_of_a_killed_worker_are_cancelled(
    standin: StandIn, database: Database, tmp_path: Path, way: str
) -> None:
    """They burn credits: the one who takes a chunk over ends them."""
    config = snowflake_config(
        tmp_path, database, standin, WAYS[way], extraction=way, parallel_threads=1
    )
    # Of ranges the one without a low end: others go on meanwhile.
    first = r"""^SELECT "id"(?![\s\S]*"at" >=)(?![\s\S]*IS NULL)"""
    standin.faults(Faults(query_latency_seconds=100, slow_match=first))
    with Background(config, "migrate") as run:
        wait_until(lambda: _asked_for_rows(standin) == 1, "a query that runs")
        run.send(signal.SIGKILL)
    (left,) = standin.running()
    standin.faults(Faults(query_latency_seconds=0.7, slow_match='^SELECT "id"'))
    with Background(config, "migrate") as run:
        wait_until(lambda: left not in standin.running(), "the end of what was left behind")
        standin.faults()
        ended = run.end()

    assert ended.code == 0, ended.err
    assert standin.running() == ()
    assert target_minutes(database, TABLE) == expected_minutes(ROWS)


def test_a_query_that_takes_longer_than_a_stall_is_waited_for(
    standin: StandIn, database: Database, tmp_path: Path
) -> None:
    """No bytes move while it runs, and that is no sign of a hung worker."""
    config = snowflake_config(
        tmp_path, database, standin, {**BY_DAY, "batch_size": 10_000}, stall_seconds=2
    )
    standin.faults(Faults(query_latency_seconds=9, slow_match='^SELECT "id"'))

    ended = snowmelt(config, "migrate")

    assert ended.returncode == 0, ended.stderr
    assert database.value("SELECT max(attempts) FROM migration_status.chunk") == 1
    assert target_minutes(database, TABLE) == expected_minutes(ROWS)


def test_a_reader_of_the_target_only_delays_planning_again(
    standin: StandIn, database: Database, tmp_path: Path
) -> None:
    config = snowflake_config(
        tmp_path, database, standin, {**PLAIN, "extraction": "one_query"}, parallel_threads=2
    )
    _killed_in_the_middle(config, database, 4)
    standin.forget_results()
    with database.connect() as reader:
        reader.execute("BEGIN")
        reader.execute(f'SELECT count(*) FROM "{TABLE}"')
        with Background(config, "migrate") as run:
            run.says("another session holds the target")
            run.says("another session holds the target")
            reader.execute("COMMIT")
            ended = run.end()

    assert ended.code == 0, ended.err
    assert target_minutes(database, TABLE) == expected_minutes(ROWS)


def test_a_result_that_is_gone_with_its_urls_is_asked_again_for_a_chunk(
    standin: StandIn, database: Database, tmp_path: Path
) -> None:
    """With a query per chunk nothing is planned again: the chunk's query is."""
    config = snowflake_config(tmp_path, database, standin, BY_DAY, parallel_threads=2)
    create_target(database, TABLE)
    with Gate.before(database, TABLE) as gate, Background(config, "migrate") as run:
        gate.holds(2)
        standin.forget_results()
        standin.expire_urls()
        gate.open()
        ended = run.end()

    assert ended.code == 0, ended.err
    assert target_minutes(database, TABLE) == expected_minutes(ROWS)
    assert database.value("SELECT replanned FROM migration_status.load") == []


def test_an_abort_cancels_what_a_killed_worker_left(
    standin: StandIn, database: Database, tmp_path: Path
) -> None:
    config = snowflake_config(tmp_path, database, standin, BY_DAY, parallel_threads=2)
    standin.faults(Faults(query_latency_seconds=120, slow_match='^SELECT "id"'))
    with Background(config, "migrate") as run:
        wait_until(lambda: _asked_for_rows(standin) == 2, "two queries that run")
        run.send(signal.SIGKILL)
    assert len(standin.running()) == 2
    run_id = str(database.value("SELECT run_id FROM migration_status.run"))

    aborted = snowmelt(config, "abort", run_id)

    assert aborted.returncode == 0, aborted.stderr
    assert standin.running() == ()


def test_a_statement_that_takes_too_long_is_tried_again_then_given_up(
    standin: StandIn, database: Database, tmp_path: Path
) -> None:
    config = snowflake_config(
        tmp_path,
        database,
        standin,
        BY_DAY,
        account={"statement_timeout_seconds": 1},
        parallel_threads=1,
        max_retry_attempts=1,
    )
    standin.faults(Faults(query_latency_seconds=30, slow_match='^SELECT "id"'))

    ended = snowmelt(config, "migrate")

    assert ended.returncode == FAILED
    told = ended.stdout + ended.stderr
    assert "gave up after 2 attempts" in told
    assert "statement or warehouse timeout of 1 second" in told


def test_sessions_are_kept_and_warehouses_are_used(
    standin: StandIn, database: Database, tmp_path: Path
) -> None:
    minutes(standin, "OTHER", 3_000)
    tables = (
        {**BY_DAY, "batch_size": 1_440},
        {"source": "OTHER", "chunking_columns": ["at"], "batch_size": 1_440, "warehouse": "BIG"},
    )
    config = snowflake_config(tmp_path, database, standin, *tables, parallel_threads=2)

    ended = snowmelt(config, "migrate")

    assert ended.returncode == 0, ended.stderr
    stats = standin.stats()
    assert stats.logins == 3  # the planner's and each worker's
    assert _asked_for_rows(standin) == 14
    assert sum(text.startswith("USE ") for text in stats.statements) <= 2 * 3
    assert 'USE WAREHOUSE "BIG"' in stats.statements
    tags = [tag for tag in stats.tags if tag.startswith("snowmelt/")]
    run_id = database.value("SELECT run_id FROM migration_status.run")
    assert len(tags) == len(set(tags)) == 14
    assert all(tag.startswith(f"snowmelt/{run_id}/{database.name}/") for tag in tags)


def test_one_query_is_one_scan_and_its_chunks_are_in_the_ledger_without_secrets(
    standin: StandIn, database: Database, tmp_path: Path
) -> None:
    config = snowflake_config(tmp_path, database, standin, PLAIN, parallel_threads=3)

    planned = snowmelt(config, "plan")
    ended = snowmelt(config, "migrate")

    assert "ResultSetStrategy: chunking_columns names none: one query" in planned.stdout
    assert ended.returncode == 0, ended.stderr
    assert _asked_for_rows(standin) == 1
    assert target_minutes(database, TABLE) == expected_minutes(ROWS)
    ranges = database.execute("SELECT range FROM migration_status.chunk ORDER BY chunk_id")
    (first,), *others = ranges
    assert first == {"kind": "query"}
    assert len(others) > 3
    assert {key for (range,) in others for key in range} == {"kind", "query_id", "first", "rows"}
    assert chunk_states(database) == {"completed": len(ranges)}
