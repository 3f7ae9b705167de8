"""Whatever a process is about when its time is up ends at both sides, and the process holds nothing afterwards."""

from __future__ import annotations

import os
import random
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest

import snowmelt
from snowmelt import runner
from snowmelt.attempts import attempt
from snowmelt.chunking.chunks import ResultBatches
from snowmelt.config import load_config
from snowmelt.deadline import Deadline
from snowmelt.errors import ResultGone
from snowmelt.model import Claim
from snowmelt.standin.faults import Faults
from snowmelt.standin.server import StandIn
from snowmelt.status import Report, State
from snowmelt.survey import Choice
from tests.acceptance.nights import NOON, Nights
from tests.acceptance.processes import wait_until
from tests.acceptance.snowflake import (
    expected_minutes,
    minutes,
    snowflake_config,
    target_minutes,
)
from tests.support import Database

GRACE, SOON = 60.0, 15.0
"""Seconds: a process that ends what it is about needs no grace to speak of."""
ROUNDS = int(os.environ.get("SNOWMELT_KILL_ROUNDS", "4"))
SEED = int(os.environ.get("SNOWMELT_KILL_SEED", str(random.randrange(1 << 32))))
LINGER = """
    CREATE FUNCTION linger(x bigint) RETURNS bigint LANGUAGE plpgsql IMMUTABLE AS
    'BEGIN PERFORM pg_sleep(120); RETURN x; END'
"""


@pytest.fixture(scope="module")
def server() -> Iterator[StandIn]:
    with StandIn.start() as server:
        yield server


@pytest.fixture
def standin(server: StandIn) -> Iterator[StandIn]:
    yield server
    server.faults()


def held() -> tuple[set[str], set[Any]]:
    """The threads of this process, and its connections over the network."""
    threads = {one.name for one in threading.enumerate()}
    return threads, {(one.raddr, one.status) for one in psutil.Process().net_connections("inet")}


@contextmanager
def leaving_nothing() -> Iterator[None]:
    """The block ends soon, and this process holds nothing that it did not hold before."""
    before, started = held(), time.monotonic()
    yield
    assert time.monotonic() - started < SOON
    after = held()
    assert (after[0] - before[0], after[1] - before[1]) == (set(), set())


def slice_of(config: Path, seconds: float, choice: Choice | None = None) -> Report:
    """What a process does in so long, in this one."""
    choice = choice or Choice()
    with snowmelt.open(load_config(config, environ={})) as mover:
        plan = mover.plan(choice)
        return mover.run(plan, choice=choice, deadline=Deadline.after(seconds, GRACE))


def backends(database: Database) -> int:
    return int(
        database.value(
            "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() "
            "AND pid <> pg_backend_pid() AND backend_type = 'client backend'"
        )
    )


def end_builds(database: Database) -> None:
    """Those that the server goes on with alone: there is one."""
    ended = database.execute(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() "
        "AND pid <> pg_backend_pid() AND query LIKE '%CREATE%INDEX%'"
    )
    assert ended == [(True,)]


def nothing_is_left(database: Database) -> None:
    wait_until(lambda: not backends(database), "the end of the backends")
    open_claims = "SELECT count(*) FROM migration_status.chunk WHERE token IS NOT NULL AND completed_at IS NULL"
    assert database.value(open_claims) == 0
    assert (
        database.value("SELECT count(*) FROM migration_status.worker WHERE ended_at IS NULL") == 0
    )


@pytest.mark.parametrize("extraction", ["query_per_chunk", "one_query"])
def test_a_query_at_the_source(
    database: Database, standin: StandIn, tmp_path: Path, extraction: str
) -> None:
    minutes(standin, "T", 3_000)
    table = {"source": "T", "chunking_columns": ["id"], "batch_size": 1_000}
    config = snowflake_config(
        tmp_path, database, standin, table, extraction=extraction, parallel_threads=2
    )
    standin.faults(Faults(query_latency_seconds=120, slow_match=r'SELECT .*"note".* FROM'))
    with leaving_nothing():
        report = slice_of(config, 2)
    assert report.state is State.PARTIAL
    assert report.slice is not None
    assert "the time was up, and cut off: chunk 0 of public.T after" in (report.slice.reason or "")
    assert standin.running() == ()
    nothing_is_left(database)
    standin.faults()
    assert slice_of(config, 60).state is State.COMPLETED
    assert target_minutes(database, "T") == expected_minutes(3_000)


def test_a_count_at_the_source_for_smaller_chunks(
    database: Database, standin: StandIn, tmp_path: Path
) -> None:
    minutes(standin, "T", 3_000)
    table = {"source": "T", "chunking_columns": ["id"], "batch_size": 1_000}
    config = snowflake_config(tmp_path, database, standin, table, parallel_threads=2)
    standin.faults(Faults(query_latency_seconds=120, slow_match=r'SELECT .*"note".* FROM'))
    slice_of(config, 2)
    standin.faults(Faults(query_latency_seconds=120, slow_match="GROUP BY"))
    with leaving_nothing():
        report = slice_of(config, 3)
    assert report.state is State.PARTIAL
    assert standin.running() == ()
    nothing_is_left(database)
    standin.faults()
    assert slice_of(config, 60).state is State.COMPLETED
    assert target_minutes(database, "T") == expected_minutes(3_000)


def test_a_result_that_is_gone(
    database: Database, standin: StandIn, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its table is planned again, for which the source counts."""
    minutes(standin, "T", 3_000)
    table = {"source": "T", "chunking_columns": ["at"], "batch_size": 500}
    config = snowflake_config(
        tmp_path, database, standin, table, extraction="one_query", parallel_threads=2
    )

    def forgotten(claim: Claim, *rest: Any) -> object:
        if not isinstance(claim.chunk.range, ResultBatches):
            return attempt(claim, *rest)
        standin.faults(Faults(query_latency_seconds=120, slow_match="GROUP BY"))
        gone = ResultGone("the result is gone")
        gone.query_id = claim.chunk.range.query_id
        raise gone

    with monkeypatch.context() as patched, leaving_nothing():
        patched.setattr(runner, "attempt", forgotten)
        report = slice_of(config, 4)
    assert report.state is State.PARTIAL
    assert standin.running() == ()
    nothing_is_left(database)
    standin.faults()
    assert slice_of(config, 60).state is State.COMPLETED
    assert target_minutes(database, "T") == expected_minutes(3_000)


def test_a_download(database: Database, standin: StandIn, tmp_path: Path) -> None:
    minutes(standin, "T", 300_000)
    table = {"source": "T", "chunking_columns": ["id"], "batch_size": 100_000}
    config = snowflake_config(tmp_path, database, standin, table, parallel_threads=2)
    standin.faults(Faults(chunk_latency_seconds=5))
    with leaving_nothing():
        report = slice_of(config, 2)
    assert report.state is State.PARTIAL
    nothing_is_left(database)
    standin.faults()
    assert slice_of(config, 60).state is State.COMPLETED
    assert target_minutes(database, "T") == expected_minutes(300_000)


def _merging(database: Database, folder: Path) -> Nights:
    create_target_of(database)
    database.execute(
        "CREATE FUNCTION late() RETURNS trigger LANGUAGE plpgsql AS "
        "'BEGIN PERFORM pg_sleep(120); RETURN NEW; END'"
    )
    database.execute(
        'CREATE TRIGGER late BEFORE INSERT ON "T" FOR EACH ROW EXECUTE FUNCTION late()'
    )
    return Nights(database, folder, mode="upsert", uniqueness_columns=["id"])


def _building(database: Database, folder: Path) -> Nights:
    create_target_of(database)
    database.execute(LINGER)
    database.execute('CREATE INDEX slow ON "T" (linger(id))')
    return Nights(database, folder, mode="truncate", disable_index=True)


def create_target_of(database: Database) -> None:
    database.execute('CREATE TABLE "T" (id bigint PRIMARY KEY, seen timestamp, note text)')


def test_a_statement_at_the_target(database: Database, tmp_path: Path) -> None:
    nights = _merging(database, tmp_path)
    nights.run(f"INSERT INTO T SELECT i, {NOON}, 'n' || i FROM range(50) t(i)")
    with leaving_nothing():
        report = slice_of(nights.config(parallel_threads=2), 2)
    assert report.state is State.PARTIAL
    assert "cut off: " in ((report.slice and report.slice.reason) or "")
    nothing_is_left(database)
    database.execute('DROP TRIGGER late ON "T"')
    assert slice_of(nights.config(), 60).state is State.COMPLETED
    assert nights.loaded() == nights.rows()


def test_a_build_is_left_to_the_server(database: Database, tmp_path: Path) -> None:
    """The process holds nothing of it; when its session is ended, another builds it."""
    nights = _building(database, tmp_path)
    nights.run(f"INSERT INTO T SELECT i, {NOON}, 'n' || i FROM range(50) t(i)")
    with leaving_nothing():
        report = slice_of(nights.config(parallel_threads=2), 2)
    assert report.state is State.PARTIAL
    assert "the server builds the index slow" in ((report.slice and report.slice.reason) or "")
    end_builds(database)
    nothing_is_left(database)
    database.execute(
        "CREATE OR REPLACE FUNCTION linger(x bigint) RETURNS bigint LANGUAGE sql IMMUTABLE AS 'SELECT x'"
    )
    assert slice_of(nights.config(), 60).state is State.COMPLETED
    assert nights.loaded() == nights.rows()
    assert database.value("SELECT indisvalid FROM pg_index WHERE indexrelid = 'slow'::regclass")


def test_indexes_that_come_back_after_a_failure(database: Database, tmp_path: Path) -> None:
    """The run has failed before its time was up, and what it had dropped takes longer than that: the server goes
    on with it."""
    nights = _building(database, tmp_path)
    database.execute('ALTER TABLE "T" ADD CHECK (id < 40)')
    nights.run(f"INSERT INTO T SELECT i, {NOON}, 'n' || i FROM range(50) t(i)")
    with leaving_nothing():
        report = slice_of(nights.config(parallel_threads=1), 3)
    assert report.state is State.FAILED
    end_builds(database)
    nothing_is_left(database)
    missing = "SELECT count(*) FROM migration_status.post_data WHERE attached_at IS NULL"
    assert database.value(missing) >= 1


@pytest.mark.parametrize(
    "settings",
    [
        {"mode": "append"},
        {"mode": "upsert", "uniqueness_columns": ["id"]},
        {"mode": "replace", "keep_previous_hours": 1, "disable_index": True},
        {"mode": "truncate", "disable_index": True},
    ],
    ids=lambda settings: settings["mode"],
)
def test_cut_off_at_random(database: Database, tmp_path: Path, settings: dict[str, Any]) -> None:
    dice = random.Random(SEED)
    create_target_of(database)
    database.execute('CREATE INDEX noted ON "T" (note)')
    nights = Nights(database, tmp_path, batch_size=1_500, parallel_threads=2, **settings)
    nights.run(f"INSERT INTO T SELECT i, {NOON}, 'n' || i FROM range(20_000) t(i)")
    config = nights.config()
    for _ in range(ROUNDS):
        report = slice_of(config, dice.uniform(0.02, 0.3))
        nothing_is_left(database)
        if report.state is State.COMPLETED:
            break
    else:
        report = slice_of(config, 60)
    assert report.state is State.COMPLETED, (SEED, report.errors)
    assert nights.loaded() == nights.rows(), SEED
    assert database.value("SELECT count(*) FROM pg_index WHERE indrelid = '\"T\"'::regclass") == 2
