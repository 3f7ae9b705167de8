"""Runs on one database: side by side, in each other's way, and one that takes part in another."""

from __future__ import annotations

import json
import re
import signal
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

import snowmelt
from snowmelt.config import load_config
from snowmelt.errors import SnowmeltError
from snowmelt.status import Report, RunStatus, State
from snowmelt.survey import ANEW_OR_RESUMED, Choice
from tests.acceptance.processes import (
    FAILED,
    USAGE,
    Background,
    Gate,
    create_target,
    minutes,
    wait_until,
)
from tests.support import Database, config_for, write_config
from tests.support import snowmelt as command

ROWS, CHUNKS = 7_200, 6  # five days, and the chunk of NULL keys
DAYS: dict[str, object] = {"chunking_columns": ["at"], "batch_size": 1_440}
LIVE = """
    SELECT host || ':' || pid FROM migration_status.worker w JOIN migration_status.run r USING (run_id)
    WHERE w.ended_at IS NULL AND heartbeat_at > clock_timestamp() - lease AND r.source_names = ARRAY[%s]
"""
JOIN, ALLOW = Choice(join=True), Choice(allow_truncate=True)


class Work:
    """A config with one source of its own, that moves the table `T` of its own file."""

    def __init__(
        self, database: Database, folder: Path, name: str, lease_seconds: int = 2, **table: Any
    ) -> None:
        folder.joinpath(name).mkdir()
        self.database, self.name = database, name
        file = minutes(folder / name / "source.duckdb", ROWS, "T")
        moved = {"source": "T", **DAYS, **table}
        document: Any = config_for(
            database, file, moved, parallel_threads=1, lease_seconds=lease_seconds
        )
        document["sources"][0]["source_name"] = name
        self.config = write_config(folder / name, document)

    @property
    def run_id(self) -> UUID:
        """Of the oldest run of this source."""
        of = "FROM migration_status.run WHERE source_names = ARRAY[%s] ORDER BY started_at LIMIT 1"
        found: UUID = self.database.value(f"SELECT run_id {of}", [self.name])
        return found

    def workers(self) -> list[str]:
        """The live processes of its runs, as the ledger has them."""
        return [place for (place,) in self.database.execute(LIVE, [self.name])]

    def migrate(self, choice: Choice = ANEW_OR_RESUMED) -> Report:
        """In this process, to the end."""
        with snowmelt.open(load_config(self.config, environ={})) as mover:
            report = mover.run(mover.plan(choice), choice=choice)
        report.raise_for_failures()
        return report

    def refused(self, choice: Choice = ANEW_OR_RESUMED) -> str:
        """The message with which a run is not begun."""
        with pytest.raises(SnowmeltError) as caught:
            self.migrate(choice)
        return str(caught.value)

    def status(self) -> RunStatus:
        with snowmelt.open(load_config(self.config, environ={})) as mover:
            (found,) = mover.status(self.run_id)
        return found

    def abort(self, run_id: UUID) -> None:
        with snowmelt.open(load_config(self.config, environ={})) as mover:
            assert mover.abort(run_id)

    def is_left_alone(self, background: Background) -> None:
        """Kill the process, and wait until its lease is over."""
        background.send(signal.SIGKILL)
        wait_until(lambda: not background.running, "the process to be gone")
        wait_until(lambda: not self.workers(), "its lease to be over")


@pytest.fixture
def gate(database: Database) -> Iterator[Gate]:
    """A gate before the tables `mine` and `theirs`, which have a key."""
    for table in ("mine", "theirs"):
        create_target(database, table, primary_key=True)
    with Gate.before(database, "mine", "theirs") as gate:
        yield gate


@pytest.fixture
def mine(database: Database, tmp_path: Path) -> Work:
    return Work(database, tmp_path, "mine", target="mine")


def assert_whole(database: Database, table: str) -> None:
    assert database.execute(f'SELECT count(*), count(DISTINCT id) FROM "{table}"') == [(ROWS, ROWS)]


def test_two_runs_side_by_side_do_not_see_each_other(
    database: Database, tmp_path: Path, gate: Gate, mine: Work
) -> None:
    """Neither in what is shown of them, nor in what is resumed, nor in what they load."""
    upsert: dict[str, Any] = {"mode": "upsert", "uniqueness_columns": ["id"]}
    theirs = Work(database, tmp_path, "theirs", target="theirs", **upsert)
    with Background(mine.config, "migrate") as one, Background(theirs.config, "migrate") as other:
        gate.holds(2)
        for work in (mine, theirs):
            status = work.status()
            assert (status.state, status.live_workers) == (State.RUNNING, 1)
            assert [table.target for table in status.tables] == [f"public.{work.name}"]
        one.send(signal.SIGKILL)
        other.send(signal.SIGKILL)
    gate.open()
    with (
        Background(theirs.config, "migrate", "--json") as other,
        Background(mine.config, "migrate", "--json") as one,
    ):
        ends = {"mine": one.end(), "theirs": other.end()}
    for work in (mine, theirs):
        end = ends[work.name]
        assert end.code == 0, end.err
        report = json.loads(end.out)
        assert (report["run_id"], report["resumed"]) == (str(work.run_id), True)
        assert [table["target"] for table in report["tables"]] == [f"public.{work.name}"]
        assert_whole(database, work.name)


def test_a_run_that_ended_is_not_taken_for_one_under_way_of_another_config(
    database: Database, tmp_path: Path, gate: Gate, mine: Work
) -> None:
    upsert: dict[str, Any] = {"mode": "upsert", "uniqueness_columns": ["id"]}
    theirs = Work(database, tmp_path, "theirs", target="theirs", **upsert)
    database.execute('DROP TRIGGER gate ON "theirs"')
    with Background(mine.config, "migrate") as one:
        gate.holds(1)
        reports = (theirs.migrate(), theirs.migrate())
        gate.open()
        assert one.end().code == 0
    assert [report.resumed for report in reports] == [False, False]
    assert len({*(report.run_id for report in reports), mine.run_id}) == 3
    assert_whole(database, "mine")
    assert_whole(database, "theirs")


def test_a_target_that_a_run_is_writing_is_refused_with_who_it_is(
    database: Database, tmp_path: Path, gate: Gate
) -> None:
    """Leave to truncate gives none to take a table from a run."""
    # A row that is there, which the gate would hold as well.
    database.execute(
        "SET session_replication_role = replica; INSERT INTO mine VALUES (0, '2024-01-01', 'mine')"
    )
    mine = Work(database, tmp_path, "keyed", target="mine", insert_only_mode=True)
    other = Work(database, tmp_path, "other", target="mine", truncate_onstart=True)
    with Background(mine.config, "migrate") as holder:
        gate.holds(1)
        (place,) = mine.workers()
        assert place.startswith(f"{socket.gethostname()}:")
        for told in (other.refused(), other.refused(ALLOW)):
            for words in (
                f"run {mine.run_id}, begun by postgres, at work in {place} (host:pid)",
                f"--join --resume-run-id {mine.run_id}",
                f"snowmelt abort {mine.run_id}",
            ):
                assert words in told
        assert database.value("SELECT count(*) FROM migration_status.run") == 1
        gate.open()
        assert holder.end().code == 0
    assert_whole(database, "mine")


def test_a_target_of_a_run_that_is_left_is_refused_until_that_run_is_aborted(
    database: Database, tmp_path: Path, gate: Gate, mine: Work
) -> None:
    other = Work(database, tmp_path, "other", target="mine")
    with Background(mine.config, "migrate") as holder:
        gate.holds(1)
        mine.is_left_alone(holder)
    gate.open()
    told = other.refused()
    assert f"run {mine.run_id}, begun by postgres, with no live worker" in told
    (named,) = re.findall(r"snowmelt abort ([0-9a-f-]{36})", told)

    other.abort(UUID(named))
    other.migrate()

    assert_whole(database, "mine")
    assert mine.status().state is State.FAILED


def test_a_run_under_way_is_joined(database: Database, tmp_path: Path, gate: Gate) -> None:
    # No worker is so slow that its chunk is taken for left.
    mine = Work(database, tmp_path, "mine", lease_seconds=600, target="mine")
    with Background(mine.config, "migrate") as first:
        gate.holds(1)
        with Background(mine.config, "migrate", "--join", "--json") as second:
            gate.holds(2)
            gate.open()
            ends = (first.end(), second.end())
    assert [end.code for end in ends] == [0, 0], [end.err for end in ends]
    assert json.loads(ends[1].out)["run_id"] == str(mine.run_id)
    worked = "SELECT count(*), count(DISTINCT worker_id), max(attempts) FROM migration_status.chunk"
    assert database.execute(worked) == [(CHUNKS, 2, 1)]
    assert_whole(database, "mine")


def test_without_a_run_there_is_nothing_to_join(database: Database, mine: Work) -> None:
    refused = command(mine.config, "migrate", "--join")
    assert refused.returncode == FAILED
    assert "no run is under way to join" in refused.stderr
    assert "begin one: leave --join out" in refused.stderr
    assert not database.execute("SELECT 1 FROM pg_namespace WHERE nspname = 'migration_status'")
    mine.migrate()
    assert "no run is under way to join" in mine.refused(JOIN)
    assert database.value("SELECT count(*) FROM migration_status.run") == 1


def test_a_run_without_a_live_worker_is_resumed_and_not_joined(
    database: Database, gate: Gate, mine: Work
) -> None:
    with Background(mine.config, "migrate") as first:
        gate.holds(1)
        mine.is_left_alone(first)
    gate.open()
    told = mine.refused(JOIN)
    assert f"run {mine.run_id} has no live worker to join" in told
    assert "resume it: leave --join out" in told
    assert database.value("SELECT count(*) FROM migration_status.worker") == 1
    assert mine.migrate().resumed
    assert_whole(database, "mine")


def test_a_run_is_joined_as_it_is(mine: Work) -> None:
    refused = command(mine.config, "migrate", "--join", "--no-resume")
    assert refused.returncode == USAGE
    assert "--join takes part in a run as it is" in " ".join(refused.stderr.split())
