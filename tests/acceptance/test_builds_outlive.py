"""An index that takes longer than a process has: the server ends it alone, once, and the next process goes on."""

from __future__ import annotations

import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import snowmelt
from snowmelt.app import Mover
from snowmelt.config import load_config
from snowmelt.deadline import Deadline
from snowmelt.errors import Refused
from snowmelt.postgres import locks
from snowmelt.status import Report, State
from snowmelt.survey import Choice
from tests.acceptance.nights import NOON, Nights
from tests.acceptance.processes import Background, wait_until
from tests.acceptance.test_pgbouncer import PGBOUNCER, pooled
from tests.support import Database

ROWS, GRACE = 40, 60.0
SHORT = 1.5
"""Seconds in which a slice moves the rows and begins the build, and no more."""
MADE: Any = """
    CREATE TABLE "T" (id bigint PRIMARY KEY, seen timestamp, note text) WITH (fillfactor = 10);
    CREATE SEQUENCE visited;
    CREATE FUNCTION linger(x bigint) RETURNS bigint LANGUAGE plpgsql IMMUTABLE AS
        'BEGIN PERFORM nextval(''public.visited''); PERFORM pg_sleep({seconds}); '
        'RAISE NOTICE ''row''; RETURN {key}; END';
    CREATE {unique} INDEX slow ON "T" (linger(id));
    ALTER INDEX slow ALTER 1 SET STATISTICS 0;
"""
VISITED = "SELECT CASE WHEN is_called THEN last_value ELSE 0 END FROM visited"
BUILDERS: Any = """SELECT a.pid FROM pg_stat_activity a WHERE a.datname = current_database()
                   AND a.pid <> pg_backend_pid() AND a.query LIKE '%linger%' AND a.state = 'active'"""
BUILT = "SELECT count(*) FROM pg_index WHERE indexrelid = to_regclass('slow') AND indisvalid"
AGED = "UPDATE migration_status.post_data SET begun_at = begun_at - interval '1 min'"


def made(
    database: Database,
    folder: Path,
    *,
    seconds: float = 0.08,
    key: str = "x",
    unique: str = "",
    **settings: Any,
) -> Nights:
    """A table with an index that takes so long for each row; its rows have a page each, or several share one."""
    database.execute(MADE.format(seconds=seconds, key=key, unique=unique))
    given = {"mode": "truncate", "disable_index": True, "parallel_threads": 2, **settings}
    nights = Nights(database, folder, **given)
    nights.run(f"INSERT INTO T SELECT i, {NOON}, repeat('n', 700) || i FROM range({ROWS}) t(i)")
    return nights


def slice_of(config: Path, seconds: float = SHORT, choice: Choice | None = None) -> Report:
    """What a process does in so long, in this one."""
    choice = choice or Choice()
    with snowmelt.open(load_config(config, environ={})) as mover:
        plan = mover.plan(choice)
        return mover.run(plan, choice=choice, deadline=Deadline.after(seconds, GRACE))


def reason(report: Report) -> str:
    assert report.state is State.PARTIAL, report.errors
    assert report.slice is not None
    return report.slice.reason or ""


def builder(database: Database) -> int:
    """The backend that builds, once there is one."""
    wait_until(lambda: database.execute(BUILDERS), "a backend that builds")
    return int(database.value(BUILDERS))


def visited(database: Database) -> int:
    return int(database.value(VISITED))


@pytest.mark.parametrize("mode", ["truncate", "replace"])
def test_it_is_built_once_by_the_server_alone(
    database: Database, tmp_path: Path, mode: str
) -> None:
    nights = made(database, tmp_path, mode=mode)
    first = slice_of(nights.config())
    pid = builder(database)
    assert f"the server builds the index slow of public.T (pid {pid}, for" in reason(first)
    assert "building index: scanning table" in reason(first)
    assert "cut off" not in reason(first)
    told = "SELECT stopped_because FROM migration_status.worker"
    assert database.value(told) == reason(first)
    report = slice_of(nights.config(), 60)
    assert report.state is State.COMPLETED, report.errors
    assert report.run_id == first.run_id
    assert nights.loaded() == nights.rows()
    assert visited(database) == ROWS
    assert database.value(BUILT) == 1


def test_a_killed_process_does_not_end_it(database: Database, tmp_path: Path) -> None:
    nights = made(database, tmp_path, seconds=0.05)
    with Background(nights.config(), "migrate", "--stop-after", "60s") as process:
        pid = builder(database)
        process.send(signal.SIGKILL)
        process.end()
    report = slice_of(nights.config(), 60)
    assert report.state is State.COMPLETED, report.errors
    assert visited(database) == ROWS
    assert database.value(BUILT) == 1
    wait_until(
        lambda: not database.execute("SELECT FROM pg_stat_activity WHERE pid = %s", [pid]),
        "the end of the backend",
    )


@pytest.mark.skipif(PGBOUNCER is None, reason="pgbouncer is not installed")
@pytest.mark.parametrize("end", ["cut", "kill"])
def test_behind_a_pooler(database: Database, tmp_path: Path, end: str) -> None:
    with pooled(database, 8) as pool:
        nights = made(pool, tmp_path, seconds=0.05)
        if end == "cut":
            slice_of(nights.config())
        else:
            with Background(nights.config(), "migrate", "--stop-after", "60s") as process:
                builder(database)
                process.send(signal.SIGKILL)
                process.end()
        report = slice_of(nights.config(), 60)
        assert report.state is State.COMPLETED, report.errors
    assert visited(database) == ROWS
    assert database.value(BUILT) == 1


def test_slices_that_wait_for_it_are_not_idle(database: Database, tmp_path: Path) -> None:
    nights = made(database, tmp_path, seconds=0.2)
    for seconds in (SHORT, 0.3, 0.3, 0.3):
        report = slice_of(nights.config(), seconds)
        assert "the server builds the index slow" in reason(report)
        assert report.slice is not None
        assert (report.slice.idle, report.slice.progress) == (0, True)
    assert database.value("SELECT count(*) FROM migration_status.worker") == 4


def test_one_that_comes_no_further_does_not_count_for_ever(
    database: Database, tmp_path: Path
) -> None:
    nights = made(database, tmp_path, seconds=0)
    database.execute(
        "CREATE OR REPLACE FUNCTION linger(x bigint) RETURNS bigint LANGUAGE plpgsql IMMUTABLE AS "
        "'BEGIN PERFORM pg_sleep(100); RETURN x; END'"
    )
    reports = [slice_of(nights.config(), seconds) for seconds in (SHORT, 0.3, 0.3)]
    assert [report.slice and report.slice.idle for report in reports] == [0, 1, 2]
    pid = builder(database)
    report = slice_of(nights.config(), 0.3)
    assert report.state is State.FAILED
    (error,) = report.errors
    assert "3 slices in a row brought run" in error
    assert f"the server builds the index slow of public.T (pid {pid}, for" in error
    assert builder(database) == pid


def test_what_fails_with_nobody_there_is_told_by_the_next(
    database: Database, tmp_path: Path
) -> None:
    nights = made(database, tmp_path, seconds=0.06, key="x / 39", unique="UNIQUE")
    first = slice_of(nights.config())
    wait_until(lambda: not database.execute(BUILDERS), "the end of the build")
    assert visited(database) == ROWS
    report = slice_of(nights.config(), 60)
    assert (report.state, report.run_id) == (State.FAILED, first.run_id)
    assert "slow: could not create unique index" in report.errors[0]
    assert "(Key (public.linger(id))=(0) is duplicated.)" in report.errors[0]
    assert visited(database) == 2 * ROWS  # after a run that has failed it is tried once


@pytest.mark.parametrize("end", ["pg_terminate_backend", "pg_cancel_backend"])
def test_one_that_is_ended_again_and_again_fails(
    database: Database, tmp_path: Path, end: str
) -> None:
    nights = made(database, tmp_path, seconds=0.5)
    ending: Any = f"SELECT {end}(%s)"
    for _ in range(3):
        reason(slice_of(nights.config()))
        database.execute(ending, [builder(database)])
        wait_until(lambda: not database.execute(BUILDERS), "the end of the build")
        database.execute(AGED)
    report = slice_of(nights.config())
    assert report.state is State.FAILED
    why = "ended before it had" if end == "pg_terminate_backend" else "canceling statement"
    assert "slow: " in report.errors[0]
    assert why in report.errors[0]
    assert database.value(BUILT) == 0


def test_an_abort_ends_it(database: Database, tmp_path: Path) -> None:
    nights = made(database, tmp_path, seconds=0.3, mode="replace")
    report = slice_of(nights.config())
    pid = builder(database)
    with snowmelt.open(load_config(nights.config(), environ={})) as mover:
        assert mover.abort(report.run_id)
    assert not database.execute("SELECT FROM pg_stat_activity WHERE pid = %s", [pid])
    assert database.value("SELECT count(*) FROM migration_status.post_data") == 0
    left = "SELECT count(*) FROM pg_class WHERE relname LIKE 'snowmelt_new_%%'"
    assert database.value(left) == 0


def _restart(mover: Mover) -> None:
    choice = Choice(restart=("T",))
    mover.run(mover.plan(choice), choice=choice)


def _anew(mover: Mover) -> None:
    choice = Choice(resume=False)
    mover.run(mover.plan(choice), choice=choice)


def _forget(mover: Mover) -> None:
    mover.upkeep.give_up("T", ())


@pytest.mark.parametrize(
    ("tried", "mode"), [(_restart, "replace"), (_anew, "truncate"), (_forget, "truncate")]
)
def test_what_is_in_its_way_says_so(
    database: Database,
    tmp_path: Path,
    tried: Callable[[Mover], None],
    mode: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(locks, "PATIENCE_SECONDS", 0.5)
    nights = made(database, tmp_path, seconds=0.2, mode=mode)
    run_id = slice_of(nights.config()).run_id
    pid = builder(database)
    noted = database.execute("SELECT post_data_id FROM migration_status.post_data")
    with (
        snowmelt.open(load_config(nights.config(), environ={})) as mover,
        pytest.raises(Refused, match=str(run_id) if tried is _anew else f"pid {pid}"),
    ):
        tried(mover)
    assert builder(database) == pid
    assert database.execute("SELECT post_data_id FROM migration_status.post_data") == noted


def test_a_cleanup_leaves_a_table_that_is_built_on(database: Database, tmp_path: Path) -> None:
    nights = made(database, tmp_path, seconds=0.2, mode="replace")
    slice_of(nights.config())
    pid = builder(database)
    database.execute("UPDATE migration_status.run SET ending = 'aborted'")
    with snowmelt.open(load_config(nights.config(), environ={})) as mover:
        (done,) = mover.upkeep.cleanup()
    assert any(f"pid {pid} (" in left.why for left in done.left), done
    assert builder(database) == pid


def test_an_index_that_is_restored_waits_for_it(database: Database, tmp_path: Path) -> None:
    nights = made(database, tmp_path)
    slice_of(nights.config())
    builder(database)
    database.execute("UPDATE migration_status.worker SET ended_at = clock_timestamp()")
    with snowmelt.open(load_config(nights.config(), environ={})) as mover:
        (done,) = mover.upkeep.restore((), 2)
    assert set(done.back) == {"slow", "T_pkey"}
    assert visited(database) == ROWS
