"""A run that is told to stop, stops: after the chunks in flight, at once, or for good."""

from __future__ import annotations

import json
import signal
import time
from pathlib import Path

import pytest

from snowmelt.demo.proof import prove
from tests.acceptance.processes import (
    Background,
    Gate,
    by_day,
    chunk_states,
    completed,
    create_target,
    minutes,
    run_state,
    wait_until,
)
from tests.support import Database, config_for, snowmelt, write_config

ROWS, CHUNKS, THREADS = 14_400, 11, 2  # ten days, and the chunk of NULL keys
LEASE_SECONDS = 600
"""So long that a test which has to wait for a lease fails."""
STOPS = (signal.SIGINT, signal.SIGTERM)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return minutes(tmp_path / "source.duckdb", ROWS, "T")


@pytest.fixture
def config(database: Database, source: Path, tmp_path: Path) -> Path:
    create_target(database, "T", primary_key=True)
    return write_config(
        tmp_path,
        config_for(
            database, source, by_day("T"), parallel_threads=THREADS, lease_seconds=LEASE_SECONDS
        ),
    )


def assert_completes(config: Path, database: Database, source: Path, run_id: object) -> None:
    """Running again resumes the same run and ends exact."""
    ended = snowmelt(config, "migrate", "--json")
    assert ended.returncode == 0, ended.stderr
    report = json.loads(ended.stdout)
    assert (report["run_id"], report["resumed"]) == (run_id, True)
    assert run_state(database) == (run_id, "completed")
    assert chunk_states(database) == {"completed": CHUNKS}
    proof = prove(source, "T", database.dsn, "public", "T")
    assert proof.agrees, str(proof)


@pytest.mark.parametrize("number", STOPS)
def test_a_signal_stops_after_the_chunks_in_flight(
    database: Database, config: Path, source: Path, number: signal.Signals
) -> None:
    with Gate.before(database, "T") as gate, Background(config, "migrate") as migrate:
        gate.holds(THREADS)
        migrate.send(number)
        migrate.says("stopping after the chunks in flight")
        assert migrate.running
        gate.open()
        ended = migrate.end()

    assert ended.code == 3, ended.err
    assert "run again to resume" in ended.out
    assert "Traceback" not in ended.err
    assert chunk_states(database) == {"completed": THREADS, "pending": CHUNKS - THREADS}
    assert (
        database.value("SELECT count(*) FROM migration_status.worker WHERE ended_at IS NULL") == 0
    )
    run_id, ending = run_state(database)
    assert ending == "partial"
    assert_completes(config, database, source, run_id)


@pytest.mark.parametrize("number", STOPS)
def test_a_second_signal_exits_at_once_and_frees_the_claims(
    database: Database, config: Path, source: Path, number: signal.Signals
) -> None:
    with Gate.before(database, "T") as gate:
        with Background(config, "migrate") as migrate:
            left_behind = gate.holds(THREADS)
            migrate.send(number)
            migrate.says("once more stops at once")
            migrate.send(number)
            ended = migrate.end(10)
        assert ended.code == 3, ended.err
        assert chunk_states(database) == {"in_progress": THREADS, "pending": CHUNKS - THREADS}
        run_id, ending = run_state(database)
        assert ending is None

        # The server has not noticed that its clients are gone; the next process must not wait for them.
        started = time.monotonic()
        with Background(config, "migrate", "--threads", str(CHUNKS)) as again:
            wait_until(lambda: chunk_states(database) == {"in_progress": CHUNKS}, "every claim")
            wait_until(lambda: not gate.held() & left_behind, "the backends of the first process")
            gate.holds(CHUNKS)
            gate.open()
            ended_again = again.end()
        assert ended_again.code == 0, ended_again.err
        assert time.monotonic() - started < LEASE_SECONDS / 10
    assert run_state(database) == (run_id, "completed")
    proof = prove(source, "T", database.dsn, "public", "T")
    assert proof.agrees, str(proof)


def test_a_signal_while_planning_moves_nothing(
    database: Database, config: Path, source: Path
) -> None:
    with database.connect() as other, Background(config, "migrate") as migrate:
        with other.transaction():
            other.execute('LOCK TABLE "T" IN ACCESS EXCLUSIVE MODE')
            wait_until(
                lambda: database.execute("SELECT 1 FROM pg_locks WHERE NOT granted"), "the planner"
            )
            migrate.send(signal.SIGTERM)
        ended = migrate.end()

    assert ended.code == 3, ended.err
    assert chunk_states(database) == {"pending": CHUNKS}
    run_id, ending = run_state(database)
    assert ending == "partial"
    assert_completes(config, database, source, run_id)


def test_abort_ends_a_running_migration_for_good(
    database: Database, config: Path, source: Path
) -> None:
    with Gate.before(database, "T") as gate:
        with Background(config, "migrate") as migrate:
            gate.holds(THREADS)
            gate.lets(1)
            wait_until(lambda: completed(database), "a first chunk")
            gate.holds(THREADS)
            run_id, _ = run_state(database)

            aborted = snowmelt(config, "abort", str(run_id))

            done = completed(database)
            assert aborted.returncode == 0, aborted.stderr
            assert "is aborted" in aborted.stdout
            assert gate.held() == set(), "abort left a chunk in flight"
            ended = migrate.end(30)
        gate.open()
    assert ended.code == 1
    assert "aborted" in ended.out
    assert "Traceback" not in ended.err
    assert chunk_states(database) == {"completed": done, "pending": CHUNKS - done}
    assert run_state(database) == (run_id, "aborted")
    rows = database.value('SELECT count(*) FROM "T"')
    assert rows == database.value("SELECT sum(rows_written) FROM migration_status.chunk")

    for arguments in ((), ("--no-resume",), ("--resume-run-id", str(run_id))):
        later = snowmelt(config, "migrate", *arguments)
        assert later.returncode == 1
        said = "was aborted" if "--resume-run-id" in arguments else "the target has rows"
        assert said in later.stderr
        assert str(run_id) in later.stderr
    assert database.value('SELECT count(*) FROM "T"') == rows
    again = snowmelt(config, "abort", str(run_id))
    assert (again.returncode, "had ended already" in again.stdout) == (0, True)

    database.execute('TRUNCATE "T"')
    anew = snowmelt(config, "migrate", "--json")
    assert anew.returncode == 0, anew.stderr
    assert json.loads(anew.stdout)["run_id"] != run_id
    proof = prove(source, "T", database.dsn, "public", "T")
    assert proof.agrees, str(proof)
