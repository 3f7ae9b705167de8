"""A run is failed for slices without progress where they had their chance, and for nothing else."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

import snowmelt
from snowmelt.config import load_config
from snowmelt.deadline import Deadline
from snowmelt.demo.postgres import LocalPostgres
from snowmelt.model import Claim, LoadTable, Outcome
from snowmelt.observer import Silence
from snowmelt.status import Report, State
from snowmelt.stop import Stop
from snowmelt.survey import Choice
from tests.acceptance.processes import Background, Gate, by_day, create_target, minutes
from tests.support import Database, config_for, write_config

ROWS, GRACE = 4_320, 60.0  # three days
SHORT = 0.4


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return minutes(tmp_path / "source.duckdb", ROWS, "T", "U")


def config_of(database: Database, source: Path, folder: Path, *names: str) -> Path:
    for name in names:
        create_target(database, name)
    tables = [by_day(name) for name in names]
    return write_config(folder, config_for(database, source, *tables, parallel_threads=1))


def slice_of(
    config: Path, seconds: float = SHORT, choice: Choice | None = None, *tables: str
) -> Report:
    """What a process does in so long, in this one."""
    choice = choice or Choice()
    settings = load_config(config, environ={}).with_overrides(tables=tables)
    with snowmelt.open(settings) as mover:
        plan = mover.plan(choice)
        return mover.run(plan, choice=choice, deadline=Deadline.after(seconds, GRACE))


def idle(report: Report) -> int:
    assert report.slice is not None
    assert report.state is State.PARTIAL, report.errors
    return report.slice.idle


class OneChunk(Silence):
    """Ends a slice as soon as it has committed something."""

    def __init__(self) -> None:
        self.stop = Stop()

    def completed(self, table: LoadTable, claim: Claim, outcome: Outcome) -> None:
        self.stop("enough")


def chunk_of(config: Path) -> Report:
    """A slice that commits one chunk."""
    one = OneChunk()
    with snowmelt.open(load_config(config, environ={})) as mover:
        plan = mover.plan()
        deadline = Deadline.after(60, GRACE)
        return mover.run(plan, observer=one, stop=one.stop, deadline=deadline)


def test_a_table_that_is_planned_anew_counts_anew(
    database: Database, source: Path, tmp_path: Path
) -> None:
    """What slices before that moved is not in the ledger any more."""
    config = config_of(database, source, tmp_path, "T")
    assert [idle(chunk_of(config)) for _ in range(3)] == [0, 0, 0]
    database.execute('TRUNCATE "T"')
    again = Choice(restart=("T",))
    assert slice_of(config, 60, again).state is State.COMPLETED
    assert database.value('SELECT count(*) FROM "T"') == ROWS


def test_a_run_that_failed_otherwise_counts_anew(
    database: Database, source: Path, tmp_path: Path
) -> None:
    config = config_of(database, source, tmp_path, "T")
    database.execute('ALTER TABLE "T" ADD CONSTRAINT wrong CHECK (id < 0)')
    for _ in range(4):
        report = slice_of(config, 60)
        assert report.state is State.FAILED
        assert "wrong" in report.errors[0]
    database.execute('ALTER TABLE "T" DROP CONSTRAINT wrong')
    assert slice_of(config, 60).state is State.COMPLETED


def test_tables_of_one_database_are_progress_where_another_waits(
    postgres: LocalPostgres, database: Database, source: Path, tmp_path: Path
) -> None:
    """A slice that moved the last rows of one database has come further, and so had those before."""
    name = f"{database.name}_other"
    other = Database(name, postgres.create_database(name))
    create_target(database, "T")
    create_target(other, "U")
    sources = [
        {
            "source_name": table.lower(),
            "connection": f"duckdb:///{source}",
            "target_pg_database": place.name,
            "tables": [by_day(table)],
        }
        for table, place in (("T", database), ("U", other))
    ]
    document = config_for(database, source, parallel_threads=1)
    config = write_config(tmp_path, {**document, "sources": sources})
    with Gate.before(other, "U"):
        assert [idle(chunk_of(config)) for _ in range(3)] == [0, 0, 0]
        report = slice_of(config, 8)
        assert database.value("SELECT completed_at IS NOT NULL FROM migration_status.load")
        assert idle(report) == 0
        assert idle(slice_of(config)) == 1
    assert slice_of(config, 60).state is State.COMPLETED
    assert other.value('SELECT count(*) FROM "U"') == ROWS


def test_slices_beside_a_process_that_has_its_time_fail_nothing(
    database: Database, source: Path, tmp_path: Path
) -> None:
    config = config_of(database, source, tmp_path, "T")
    with Gate.before(database, "T") as gate, Background(config, "migrate") as beside:
        gate.holds(1)
        for _ in range(4):
            assert idle(slice_of(config)) == 0
        gate.open()
        assert beside.end().code == 0
    assert database.value('SELECT count(*) FROM "T"') == ROWS


def test_slices_at_the_same_time_are_one_in_a_row(
    database: Database, source: Path, tmp_path: Path
) -> None:
    config = config_of(database, source, tmp_path, "T")
    began = threading.Barrier(2)

    def twin(_: int) -> Report:
        choice = Choice()
        with snowmelt.open(load_config(config, environ={})) as mover:
            plan = mover.plan(choice)
            began.wait()
            return mover.run(plan, choice=choice, deadline=Deadline.after(2, GRACE))

    with Gate.before(database, "T"), ThreadPoolExecutor(2) as threads:
        assert idle(slice_of(config)) == 1
        counts = [idle(report) for report in threads.map(twin, range(2))]
        assert max(counts) == 2
        assert slice_of(config).state is State.FAILED


def test_a_table_that_is_done_is_no_idle_slice(
    database: Database, source: Path, tmp_path: Path
) -> None:
    """Others of the run are left, which nobody asked for."""
    config = config_of(database, source, tmp_path, "T", "U")
    with Gate.before(database, "U"):
        assert idle(chunk_of(config)) == 0
        for _ in range(5):
            report = slice_of(config, 60, None, "T")
            assert (report.errors, report.slice and report.slice.idle) == ((), 0)
    assert slice_of(config, 60).state is State.COMPLETED


def test_an_abort_is_told_as_one(database: Database, source: Path, tmp_path: Path) -> None:
    config = config_of(database, source, tmp_path, "T")
    with Gate.before(database, "T") as gate, ThreadPoolExecutor(1) as threads:
        for _ in range(2):
            run = slice_of(config)
        last = threads.submit(slice_of, config, 60)
        gate.holds(1)
        with snowmelt.open(load_config(config, environ={})) as mover:
            mover.abort(run.run_id)
        report = last.result()
    assert report.state is State.FAILED
    assert "aborted by" in report.errors[0]
    assert database.value("SELECT ending FROM migration_status.run") == "aborted"
