"""Cleaning a ledger: whatever is in it, what somebody needs stays."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any, LiteralString
from uuid import UUID, uuid4

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from psycopg.conninfo import make_conninfo

from snowmelt.app import Mover
from snowmelt.cleaning import Cleaned, cleaned
from snowmelt.config import load_config
from snowmelt.demo.postgres import LocalPostgres
from snowmelt.errors import Refused
from snowmelt.model import Identity, TargetTable, Writer
from snowmelt.origin import Origins
from snowmelt.postgres.claims import Pulse
from snowmelt.postgres.connect import Server, Session
from snowmelt.postgres.heartbeat import Heartbeat
from snowmelt.postgres.load import PostgresLoad
from snowmelt.postgres.loads import PostgresLoads
from snowmelt.postgres.migrations import migrate_ledger
from snowmelt.postgres.runs import PostgresRuns
from snowmelt.postgres.staging import staging_name
from snowmelt.postgres.upkeep import Cleaning, drop_staging
from snowmelt.survey import Choice
from tests.acceptance.nights import NOON, Nights
from tests.support import Database, config_for, duckdb_file, write_config

TARGETS = ("a", "b", "c")
LEASE_HOURS = 0.5
HOUR = "interval '1 hour'"
TABLES: tuple[LiteralString, ...] = ("run", "load", "chunk", "worker", "high_water_mark")
_numbers = itertools.count(1)


@dataclasses.dataclass(frozen=True)
class Worker:
    """A process of a run: hours since it was heard of, and since it ended, if it told so."""

    silent: float
    ended: float | None = None

    @property
    def lives(self) -> bool:
        return self.ended is None and self.silent < LEASE_HOURS


@dataclasses.dataclass(frozen=True)
class Run:
    """A run that began `began` hours ago; `loads` are targets, each with whether it is completed."""

    ending: str | None
    began: float
    ended: float
    loads: tuple[tuple[str, bool], ...] = ()
    workers: tuple[Worker, ...] = ()

    @property
    def may_go_on(self) -> bool:
        return self.ending not in ("completed", "aborted")

    @property
    def silent(self) -> float:
        """Hours since it was active."""
        active = self.began if self.ending is None else self.ended
        return min([active, *(worker.silent for worker in self.workers)])


class Ledger:
    """A ledger of made-up runs, with a mover over it."""

    def __init__(self, database: Database, folder: Path) -> None:
        self.database = database
        source = duckdb_file(folder / "s.duckdb", "CREATE TABLE a (id BIGINT)")
        path = write_config(folder, config_for(database, source, {"source": "a"}))
        self.origins = Origins(load_config(path, environ={}))
        self.session = Session(Server.of({}, dsn=database.dsn))
        migrate_ledger(self.session)
        self.loads = PostgresLoads(self.session)
        self.runs = PostgresRuns(self.session)

    def clean(
        self, days: int | None = None, *, dry_run: bool = False, resume_hours: float = 168
    ) -> Cleaned:
        found = Cleaning(self.session, days=days, resume_hours=resume_hours)
        return cleaned(self.database.name, found, self.origins, dry_run=dry_run)

    def add(self, run: Run) -> UUID:
        run_id = uuid4()
        over = None if run.ending is None else run.ended
        self.execute(
            f"INSERT INTO migration_status.run (run_id, config_hash, execution_hash, source_names, total_tables,"
            f" started_at, active_at, ended_at, ending) SELECT %s, 'c', %s, '{{s}}', %s,"
            f" now() - %s * {HOUR}, now() - %s * {HOUR}, now() - %s::float * {HOUR}, %s",
            [run_id, str(run_id), len(run.loads), run.began, over or run.began, over, run.ending],
        )
        for target, completed in run.loads:
            self.execute(
                "WITH l AS (INSERT INTO migration_status.load (run_id, source_name, source_database,"
                " source_schema, source_table, target_database, target_schema, target_table, table_hash,"
                " completed_at) VALUES (%s, 's', '', '', %s, %s, 'public', %s, 'h', CASE WHEN %s THEN now() END)"
                " RETURNING table_id) INSERT INTO migration_status.chunk (table_id, chunk_id, range)"
                " SELECT table_id, 0, '{}' FROM l",
                [run_id, target, self.database.name, target, completed],
            )
        for worker in run.workers:
            self.execute(
                f"INSERT INTO migration_status.worker (worker_id, run_id, host, pid, lease, stall, heartbeat_at,"
                f" ended_at) SELECT %s, %s, 'host', 1, %s * {HOUR}, {HOUR}, now() - %s * {HOUR},"
                f" now() - %s::float * {HOUR}",
                [uuid4(), run_id, LEASE_HOURS, worker.silent, worker.ended],
            )
        return run_id

    def stage(self, run_id: UUID) -> str:
        """A staging table of the run's first load and worker."""
        ((table_id, worker_id),) = self.database.execute(
            "SELECT table_id, worker_id FROM migration_status.load JOIN migration_status.worker USING (run_id)"
            " WHERE run_id = %s ORDER BY 1 LIMIT 1",
            [run_id],
        )
        name = staging_name(table_id, worker_id, 0)
        self.execute(f"CREATE UNLOGGED TABLE migration_status.{name} (id int)")
        return name

    def execute(self, statement: str, parameters: list[Any] | None = None) -> None:
        with self.session.transaction() as connection:
            connection.execute(statement, parameters)

    def run_ids(self) -> set[UUID]:
        return {
            run_id for (run_id,) in self.database.execute("SELECT run_id FROM migration_status.run")
        }

    def newest(self) -> dict[str, Writer]:
        """By target, the run that wrote it last."""
        found = {
            t: self.loads.writers(TargetTable(self.database.name, "public", t)) for t in TARGETS
        }
        return {target: writers[0] for target, writers in found.items() if writers}

    def contents(self) -> list[Any]:
        return [
            self.database.execute(f"SELECT * FROM migration_status.{t} ORDER BY 1, 2")
            for t in TABLES
        ]


@pytest.fixture
def ledger(database: Database, tmp_path: Path) -> Iterator[Ledger]:
    ledger = Ledger(database, tmp_path)
    yield ledger
    ledger.session.close()


# --- whatever there is ----------------------------------------------------------------------------

HOURS = st.sampled_from([0.1, 2.0, 30.0, 100.0, 300.0, 1000.0])


@st.composite
def runs(draw: st.DrawFn) -> Run:
    ended, more = draw(HOURS), draw(HOURS)
    ending = draw(st.sampled_from([None, "completed", "failed", "partial", "aborted"]))
    targets = draw(st.lists(st.sampled_from(TARGETS), unique=True, max_size=3))
    completed = st.just(True) if ending == "completed" else st.booleans()
    workers = st.builds(Worker, HOURS, st.none() | HOURS)
    return Run(
        ending,
        ended + more,
        ended,
        tuple((target, draw(completed)) for target in targets),
        tuple(draw(st.lists(workers, max_size=2))),
    )


@example(
    [Run("completed", 1001, 1000, (("a", True),)), Run(None, 1000, 0, (("a", False),))], 1, 168
)
@given(
    st.lists(runs(), max_size=5),
    st.none() | st.sampled_from([0, 1, 5, 30]),
    st.sampled_from([24, 168]),
)
@settings(max_examples=60)
def test_cleaning_at_any_age_keeps_what_is_asked_of_the_ledger(
    ledger_of_examples: Ledger, found: list[Run], days: int | None, resume_hours: int
) -> None:
    ledger = ledger_of_examples
    ledger.execute("TRUNCATE migration_status.run CASCADE")
    ids = {ledger.add(run): run for run in found}
    newest = ledger.newest()
    resumable = {id for id in ids if _find(ledger, id, resume_hours) is not None}
    before = ledger.contents()

    told = ledger.clean(days, dry_run=True, resume_hours=resume_hours)
    assert ledger.contents() == before
    done = ledger.clean(days, resume_hours=resume_hours)

    assert done == told
    assert done.left == ()
    assert ledger.newest() == newest, "the truncation protection asks it"
    gone = ids.keys() - ledger.run_ids()
    assert {str(run_id) for run_id in gone} == set(done.runs)
    live = {id for id, run in ids.items() if any(worker.lives for worker in run.workers)}
    assert not gone & (resumable | live)
    assert all(_find(ledger, run_id, resume_hours) == run_id for run_id in resumable)
    assert not gone or days is not None
    assert all(ids[run_id].silent >= 24 * (days or 0) or ids[run_id].workers for run_id in gone)
    again = ledger.clean(days, resume_hours=resume_hours)
    assert (again.runs, again.loads, again.workers, again.ended) == ((), (), (), ())


def _find(ledger: Ledger, run_id: UUID, hours: float) -> UUID | None:
    return ledger.runs.find(Identity("c", str(run_id), ("s",)), hours)


@pytest.fixture(scope="module")
def ledger_of_examples(
    postgres: LocalPostgres, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Ledger]:
    name = f"upkeep_{next(_numbers)}"
    ledger = Ledger(Database(name, postgres.create_database(name)), tmp_path_factory.mktemp(name))
    yield ledger
    ledger.session.close()


def test_a_run_that_is_too_old_to_be_resumed_goes_once_its_tables_have_newer_loads(
    ledger: Ledger,
) -> None:
    killed = ledger.add(Run(None, 900, 0, (("a", True), ("b", True)), (Worker(800),)))
    assert ledger.clean(7).runs == ()
    ledger.add(Run("completed", 2, 1, (("a", True),)))
    told = ledger.clean(7)
    assert (told.runs, told.loads) == ((), (f"public.a of run {killed}",)), "b has none"
    ledger.add(Run("completed", 2, 1, (("b", True),)))
    assert ledger.clean(7).runs == (str(killed),)


# --- runs that go on ------------------------------------------------------------------------------


def test_a_run_is_as_old_as_its_workers_were_after_they_are_forgotten(ledger: Ledger) -> None:
    """Its own activity is its start: the workers of a killed run know better."""
    killed = ledger.add(Run(None, 300, 0, (("a", False),), (Worker(48),)))
    ended = ledger.add(Run("partial", 300, 250, (("b", False),), (Worker(48),)))
    ledger.clean()
    for run_id in (killed, ended):
        assert _find(ledger, run_id, 168) == run_id
        assert _find(ledger, run_id, 40) is None


def test_a_run_that_is_recorded_just_now_is_left(ledger: Ledger) -> None:
    run_id = ledger.add(Run("completed", 900, 800))
    with ledger.database.connect() as other, other.transaction():
        other.execute("SELECT pg_advisory_xact_lock(hashtextextended('snowmelt recording', 0))")
        told = ledger.clean(7)
    assert (told.runs, [left.name for left in told.left]) == ((), [f"run {run_id}"])
    assert ledger.clean(7).runs == (str(run_id),)


def test_a_run_that_is_removed_after_it_was_planned_is_refused(
    database: Database, tmp_path: Path
) -> None:
    nights = Nights(database, tmp_path, mode="upsert", uniqueness_columns=["id"])
    nights.run(f"INSERT INTO T VALUES (700, {NOON}, 'bad')")
    database.execute(
        'CREATE TABLE "T" (id bigint PRIMARY KEY CHECK (id < 500), seen timestamp, note text)'
    )
    nights.migrate(code=1)
    run_id = database.value("SELECT run_id FROM migration_status.run")
    choice = Choice(run_id=run_id)
    with Mover(load_config(nights.config(), environ={})) as mover:
        plan = mover.plan(choice)
        database.execute("DELETE FROM migration_status.run")
        with pytest.raises(Refused, match="removed"):
            mover.run(plan, choice=choice)
    assert database.value("SELECT count(*) FROM migration_status.run") == 0


# --- workers --------------------------------------------------------------------------------------


def test_a_worker_that_was_taken_for_gone_and_is_back_lives(ledger: Ledger) -> None:
    run_id = ledger.add(Run(None, 10, 0, (("a", False),)))
    pulse = Pulse()
    heartbeat = Heartbeat(
        ledger.session.server,
        run_id,
        pulse,
        lease_seconds=1,
        stall_seconds=60,
        on_abort=lambda: None,
    )
    ended: LiteralString = "SELECT ended_at FROM migration_status.worker"
    heartbeat.start()
    try:
        ledger.execute("UPDATE migration_status.worker SET heartbeat_at = now() - interval '2 h'")
        # No beat came in between, or the worker would not have been silent.
        while not (told := ledger.clean()).ended:
            ledger.execute(
                "UPDATE migration_status.worker SET heartbeat_at = now() - interval '2 h'"
            )
        assert len(told.ended) == 1
        deadline = itertools.count()
        while ledger.database.value(ended) is not None:
            assert next(deadline) < 10_000
    finally:
        heartbeat.stop()
    assert ledger.database.value(ended) is not None


# --- staging tables -------------------------------------------------------------------------------


@pytest.mark.parametrize("ending", [None, "failed", "partial", "completed", "aborted"])
@pytest.mark.parametrize("lives", [True, False], ids=["live", "gone"])
def test_a_staging_table_stays_where_a_live_worker_may_use_it(
    ledger: Ledger, ending: str | None, lives: bool
) -> None:
    """A worker that slept through the end of a run which is not final may commit its chunk yet."""
    worker = Worker(0.01) if lives else Worker(1, 0.01)
    name = ledger.stage(ledger.add(Run(ending, 10, 5, (("a", False),), (worker,))))
    needed = lives and ending not in ("completed", "aborted")
    assert ledger.clean(dry_run=True).staging == (() if needed else (name,))
    assert ledger.clean().staging == (() if needed else (name,))


def test_only_tables_that_are_named_as_staging_tables_are_dropped(ledger: Ledger) -> None:
    ledger.add(Run("completed", 10, 5, (("a", True),)))
    for name in ("stage_1", "stage_1_0123456789ab_0_mine", "stage_x_0123456789ab_0"):
        ledger.execute(f"CREATE TABLE migration_status.{name} (id int)")
    gone = "stage_999999999999999999999999_0123456789ab_0"
    ledger.execute(f"CREATE UNLOGGED TABLE migration_status.{gone} (id int)")
    assert ledger.clean().staging == (gone,)


def test_a_staging_table_of_another_role_is_left_and_the_others_go(ledger: Ledger) -> None:
    role = f"cleaner_{next(_numbers)}"
    names = [
        ledger.stage(ledger.add(Run("aborted", 10, 5, (("a", False),), (Worker(5),))))
        for _ in range(2)
    ]
    ledger.execute(f"CREATE ROLE {role} LOGIN PASSWORD 's'")
    ledger.execute(f"GRANT ALL ON SCHEMA migration_status TO {role}")
    ledger.execute(f"GRANT ALL ON ALL TABLES IN SCHEMA migration_status TO {role}")
    ledger.execute(f"ALTER TABLE migration_status.{names[1]} OWNER TO {role}")
    session = Session(
        Server.of({}, dsn=make_conninfo(ledger.database.dsn, user=role, password="s"))
    )
    table_ids = [
        id for (id,) in ledger.database.execute("SELECT table_id FROM migration_status.load")
    ]
    try:
        assert drop_staging(session, table_ids) == ((names[1],), (names[0],))
    finally:
        session.close()


def test_a_staging_table_that_is_dropped_under_its_worker_is_made_anew(
    database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A worker that slept for longer than its lease, just before it copied into it."""
    nights = Nights(database, tmp_path, mode="upsert", uniqueness_columns=["id"])
    nights.run(f"INSERT INTO T SELECT i, {NOON}, 'n' FROM range(40) r(i)")
    dropped: list[str] = []
    begin = PostgresLoad._begin

    def sleeps_before(load: PostgresLoad) -> None:
        stages = database.execute("SELECT relname::text FROM pg_class WHERE relname LIKE 'stage%'")
        if not dropped:
            dropped.extend(name for (name,) in stages)
            database.execute(f"DROP TABLE migration_status.{dropped[0]}")
        begin(load)

    monkeypatch.setattr(PostgresLoad, "_begin", sleeps_before)
    report = nights.migrate(parallel_threads=1)
    assert len(dropped) == 1
    assert report["tables"][0]["retries"] == 1
    assert nights.loaded() == nights.rows()
