"""A process that has only so long moves what it can in that time, gives the rest back, and says why it left."""

from __future__ import annotations

import json
import re
import time
from pathlib import Path
from typing import Any

import pytest

from snowmelt.demo.proof import prove
from tests.acceptance.processes import (
    Gate,
    by_day,
    chunk_states,
    completed,
    create_target,
    minutes,
    run_state,
)
from tests.support import Database, config_for, snowmelt, write_config

ROWS, CHUNKS, THREADS = 14_400, 11, 2  # ten days, and the chunk of NULL keys
BEGUN = "4s"
"""Enough for a slow machine to plan, and to have chunks under way in the first half of it."""
OVERRAN = "SELECT count(*) FROM migration_status.chunk WHERE overran_seconds > 2"


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return minutes(tmp_path / "source.duckdb", ROWS, "T")


@pytest.fixture
def config(database: Database, source: Path, tmp_path: Path) -> Path:
    create_target(database, "T", primary_key=True)
    return write_config(
        tmp_path, config_for(database, source, by_day("T"), parallel_threads=THREADS)
    )


def migrate(config: Path, *arguments: str) -> tuple[int, dict[str, Any]]:
    ended = snowmelt(config, "migrate", "--json", *arguments)
    assert "Traceback" not in ended.stderr, ended.stderr
    return ended.returncode, json.loads(ended.stdout)


def slow(database: Database, seconds: float) -> None:
    """Each chunk takes so long."""
    database.execute(
        "CREATE FUNCTION linger() RETURNS trigger LANGUAGE plpgsql AS "
        f"'BEGIN PERFORM pg_sleep({seconds}); RETURN NULL; END'"
    )
    database.execute(
        'CREATE TRIGGER linger BEFORE INSERT ON "T" FOR EACH STATEMENT EXECUTE FUNCTION linger()'
    )


def backends(database: Database) -> int:
    """Sessions of snowmelt on the server."""
    return int(
        database.value(
            "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() "
            "AND pid <> pg_backend_pid() AND backend_type = 'client backend'"
        )
    )


def test_slices_move_all_rows_once(database: Database, config: Path, source: Path) -> None:
    slow(database, 1.5)
    slices = []
    for _ in range(12):
        code, report = migrate(config, "--stop-after", "6s")
        slices.append(report["slice"])
        if code == 0:
            break
        assert (code, report["status"]) == (3, "partial")
        assert re.search(
            r"a chunk of public.T takes \d+ s|cut off: chunk \d+ of public.T after \d+ s",
            report["slice"]["reason"],
        )
    assert code == 0, slices
    assert len(slices) >= 2
    assert sum(one["chunks"] for one in slices) == CHUNKS
    assert sum(one["rows"] for one in slices) == ROWS
    proof = prove(source, "T", database.dsn, "public", "T")
    assert proof.agrees, str(proof)
    told = database.execute(
        "SELECT extract(epoch FROM deadline)::int, ended_at IS NOT NULL, stopped_because IS NULL "
        "FROM migration_status.worker ORDER BY started_at"
    )
    assert told == [*[(66, True, False)] * (len(slices) - 1), (66, True, True)]


def test_what_is_in_flight_is_cut_off_and_given_back(
    database: Database, config: Path, source: Path
) -> None:
    with Gate.before(database, "T"):
        started = time.monotonic()
        code, report = migrate(config, "--stop-after", BEGUN)
        assert time.monotonic() - started < 30
        assert backends(database) == 1  # the gate's own
    assert (code, report["status"]) == (3, "partial")
    assert report["slice"]["reason"].startswith("the time was up, and cut off: chunk 0 of public.T")
    assert (report["slice"]["progress"], report["slice"]["idle"]) == (False, 1)
    assert chunk_states(database) == {"pending": CHUNKS}
    assert (
        database.value("SELECT count(*) FROM migration_status.chunk WHERE token IS NOT NULL") == 0
    )
    code, report = migrate(config)
    assert (code, report["resumed"]) == (0, True)
    proof = prove(source, "T", database.dsn, "public", "T")
    assert proof.agrees, str(proof)


def test_a_chunk_that_had_not_the_time_is_split_by_the_next_slice(
    database: Database, config: Path, source: Path
) -> None:
    with Gate.before(database, "T"):
        migrate(config, "--stop-after", BEGUN)
    assert database.value(OVERRAN) == THREADS
    # Less than three times what they had.
    code, report = migrate(config, "--stop-after", "6s")
    assert code == 0
    (table,) = report["tables"]
    assert table["resized"] == THREADS
    assert table["chunks"] > CHUNKS
    proof = prove(source, "T", database.dsn, "public", "T")
    assert proof.agrees, str(proof)


def test_with_more_time_a_chunk_is_moved_as_it_is(database: Database, config: Path) -> None:
    with Gate.before(database, "T"):
        migrate(config, "--stop-after", BEGUN)
    assert database.value(OVERRAN) == THREADS
    code, report = migrate(config, "--stop-after", "10m")
    assert code == 0
    assert report["tables"][0]["resized"] == 0


def test_three_slices_without_progress_fail_the_run(
    database: Database, config: Path, source: Path
) -> None:
    with Gate.before(database, "T"):
        ends = [migrate(config, "--stop-after", seconds) for seconds in ("1s", "1s", BEGUN)]
        assert [code for code, _ in ends] == [3, 3, 1]
        _, last = ends[-1]
        assert last["status"] == "failed"
        assert last["slice"]["idle"] == 3
        assert "3 slices in a row brought run" in last["errors"][0]
        assert "chunk" in last["errors"][0]
        assert run_state(database) == (last["run_id"], "failed")
        # A person who starts it again may have mended it: it counts anew.
        code, again = migrate(config, "--stop-after", "1s")
        assert (code, again["slice"]["idle"], again["run_id"]) == (3, 1, last["run_id"])
    code, report = migrate(config)
    assert (code, report["run_id"]) == (0, last["run_id"])
    assert completed(database) >= CHUNKS


def test_slices_that_were_killed_count_as_well(database: Database, config: Path) -> None:
    with Gate.before(database, "T"):
        _, first = migrate(config, "--stop-after", "1s")
    database.execute(
        "INSERT INTO migration_status.worker (worker_id, run_id, host, pid, lease, stall, deadline, heartbeat_at) "
        "SELECT gen_random_uuid(), run_id, host, pid, '1 s', stall, deadline, now() - interval '1 h' "
        "FROM migration_status.worker, generate_series(1, 2)"
    )
    code, report = migrate(config, "--stop-after", "10s")
    assert (code, report["run_id"]) == (1, first["run_id"])
    assert "3 slices in a row" in report["errors"][0]
    assert report["slice"]["chunks"] == 0


def test_progress_begins_the_count_anew(database: Database, config: Path) -> None:
    with Gate.before(database, "T") as gate:
        migrate(config, "--stop-after", "1s")
        migrate(config, "--stop-after", "1s")
        gate.lets(1)
        code, report = migrate(config, "--stop-after", BEGUN)
        assert (code, report["slice"]["idle"], completed(database)) == (3, 0, 1)
        code, report = migrate(config, "--stop-after", "1s")
        assert (code, report["slice"]["idle"]) == (3, 1)
