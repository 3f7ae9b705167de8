"""The ledger's views answer under the running system's names, and every statement of it is used and valid."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, LiteralString
from uuid import UUID, uuid4

import pyarrow as pa
import pytest
from psycopg.rows import dict_row

from snowmelt.chunking.chunks import Chunk, WholeTable
from snowmelt.model import (
    Claim,
    Column,
    Identity,
    Relation,
    SourceTable,
    TableJob,
    TargetState,
    TargetTable,
)
from snowmelt.plan import TablePlan
from snowmelt.postgres import queries
from snowmelt.postgres.claims import PostgresClaims, Pulse
from snowmelt.postgres.connect import Server, Session
from snowmelt.postgres.heartbeat import Heartbeat
from snowmelt.postgres.loads import PostgresLoads
from snowmelt.postgres.migrations import migrate_ledger
from snowmelt.postgres.queries import query
from snowmelt.postgres.runs import PostgresRuns
from snowmelt.status import State
from snowmelt.truncation import TargetFacts, decide
from tests.support import Database

ROOT = Path(__file__).parents[2]

# What the running system's users have in their queries.
OLD_NAMES = {
    "migration_runs": "run_id started_at completed_at status config_hash total_sources total_tables "
    "completed_tables failed_tables total_rows_copied error_message metadata created_by",
    "migration_table_status": "run_id source_name source_database source_schema source_table "
    "target_database target_schema target_table status started_at completed_at total_chunks "
    "completed_chunks failed_chunks total_rows_copied indexes_disabled indexes_restored error_message metadata",
    "migration_chunk_status": "run_id source_database source_schema source_table chunk_id chunk_range "
    "status rows_copied started_at completed_at retry_count error_message",
    "v_active_migrations": "run_id",
    "v_table_progress": "run_id source_table",
}
WHO = Identity("c" * 32, "e" * 32, ("analytics", "conflict"))


class Bench:
    """A ledger, and one worker that does to it what the code does."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self.server = Server.of({}, dsn=database.dsn)
        self.session = Session(self.server)
        migrate_ledger(self.session)
        self.runs = PostgresRuns(self.session)
        self.loads = PostgresLoads(self.session)
        self.pulse = Pulse()
        self.claims = PostgresClaims(self.session, self.pulse)

    def run(self, tables: int) -> UUID:
        run_id = uuid4()
        self.runs.open(run_id, WHO, tables, {"snowmelt": "test"})
        return run_id

    def table(
        self, run_id: UUID, name: str, chunks: int, *, target: str = "", rows: int = 10
    ) -> int:
        """A planned table of that many chunks, each of `rows` rows; the target is there, and empty."""
        target = target or name.lower()
        self.database.execute(f'CREATE TABLE IF NOT EXISTS public."{target}" (x integer)')
        job = TableJob(
            source_name="analytics",
            source=SourceTable("ANALYTICS", "BI", name),
            target=TargetTable(self.database.name, "public", target),
        )
        plan = TablePlan(
            job=job,
            table_hash="v1:hash",
            facts={},
            relation=Relation((Column("x", pa.int32()),), (), {}),
            target=TargetState(exists=True),
            strategy="test",
            reason="test",
            chunks=tuple(Chunk(number, WholeTable(), rows) for number in range(chunks)),
            planned_rows=chunks * rows,
            truncation=decide(TargetFacts(False, False, False, False)),
        )
        self.loads.add(run_id, plan)
        return int(
            self.database.value(
                "SELECT table_id FROM migration_status.load"
                " WHERE run_id = %s AND source_table = %s AND target_table = %s",
                [run_id, name, target],
            )
        )

    def claim(self, table_id: int) -> Claim:
        claim = self.claims.claim(table_id)
        assert claim is not None
        return claim

    def complete(self, claim: Claim) -> None:
        """What a move does last in its transaction."""
        rows = claim.chunk.planned_rows
        with self.session.transaction(durable=True) as connection:
            done = connection.execute(
                query("complete_chunk"),
                {
                    "table_id": claim.table_id,
                    "chunk_id": claim.chunk.id,
                    "token": claim.token,
                    "rows_read": rows,
                    "rows_written": rows,
                    "rows_skipped": 0,
                    "bytes": 1_000,
                    "values_floored": 2,
                    "values_changed": 1,
                },
            )
        assert done.rowcount == 1
        self.claims.drop(claim)

    def view(self, name: LiteralString, run_id: UUID) -> list[dict[str, Any]]:
        with self.database.connect() as connection:
            cursor = connection.cursor(row_factory=dict_row)
            return cursor.execute(
                f"SELECT * FROM migration_status.{name} WHERE run_id = %s", [run_id]
            ).fetchall()


@pytest.fixture
def bench(database: Database) -> Iterator[Bench]:
    bench = Bench(database)
    yield bench
    bench.session.close()


def part(row: dict[str, Any], names: str) -> dict[str, Any]:
    return {name: row[name] for name in names.split()}


# --- names ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("relation", OLD_NAMES)
def test_every_old_name_is_there(bench: Bench, relation: str) -> None:
    missing = set(OLD_NAMES[relation].split()) - set(columns(bench.database, relation))
    assert not missing


def test_every_name_in_the_documentation_is_there(bench: Bench) -> None:
    text = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    section = text.partition("\n## The ledger\n")[2].partition("\n## ")[0]
    told = re.findall(r"`(\w+)\(([\w\s,]+)\)`", section)
    named = set(re.findall(r"`(v_\w+)`", section)) | {name for name, _ in told}
    assert named >= set(OLD_NAMES) | {"run", "load", "chunk", "worker", "ledger_version"}
    for relation, names in told:
        written, there = set(re.findall(r"\w+", names)), set(columns(bench.database, relation))
        assert not written - there, relation
        # Of views the page has the running system's columns; of tables all.
        assert relation in OLD_NAMES or not there - written, relation
    assert all(columns(bench.database, relation) for relation in named)


def columns(database: Database, relation: str) -> list[str]:
    return [
        name
        for (name,) in database.execute(
            "SELECT column_name FROM information_schema.columns"
            " WHERE table_schema = 'migration_status' AND table_name = %s",
            [relation],
        )
    ]


# --- values ---------------------------------------------------------------------------------------


def test_a_run_with_a_table_in_each_state(bench: Bench) -> None:
    run_id = bench.run(tables=5)
    bench.table(run_id, "TODO", 2)
    doing = bench.table(run_id, "DOING", 4)
    bench.complete(bench.claim(doing))
    broken_chunk = bench.claim(doing)
    bench.claims.settle(broken_chunk, "deadlock", 0)
    bench.claims.fail(bench.claim(doing), "again")
    bench.claim(doing)
    done = bench.table(run_id, "DONE", 2)
    bench.complete(bench.claim(done))
    bench.complete(bench.claim(done))
    assert bench.loads.finish(done)
    broken = bench.table(run_id, "BROKEN", 1)
    bench.claims.fail(bench.claim(broken), "disk on fire")
    bench.loads.fail(broken, "disk on fire")
    skipped = bench.table(run_id, "SKIPPED", 0)
    bench.database.execute(
        "UPDATE migration_status.load SET skipped_at = now() WHERE table_id = %s", [skipped]
    )

    tables = {row["source_table"]: row for row in bench.view("migration_table_status", run_id)}
    sums = "status total_chunks completed_chunks failed_chunks in_progress_chunks total_rows_copied retries"
    found = {name: tuple(part(row, sums).values()) for name, row in tables.items()}
    assert found == {
        "TODO": ("pending", 2, 0, 0, 0, 0, 0),
        "DOING": ("in_progress", 4, 1, 1, 1, 10, 1),
        "DONE": ("completed", 2, 2, 0, 0, 20, 0),
        "BROKEN": ("failed", 1, 0, 1, 0, 0, 0),
        "SKIPPED": ("skipped", 0, 0, 0, 0, 0, 0),
    }
    assert tables["TODO"]["started_at"] is None
    assert tables["DONE"]["started_at"] < tables["DONE"]["completed_at"]
    assert tables["BROKEN"]["completed_at"] is None
    assert tables["BROKEN"]["error_message"] == "disk on fire"
    assert part(
        tables["DONE"], "source_name source_database source_schema target_schema target_table"
    ) == {
        "source_name": "analytics",
        "source_database": "ANALYTICS",
        "source_schema": "BI",
        "target_schema": "public",
        "target_table": "done",
    }
    assert tables["DONE"]["target_database"] == bench.database.name
    assert (tables["DONE"]["indexes_disabled"], tables["DONE"]["indexes_restored"]) == (
        False,
        False,
    )

    chunks = [
        row for row in bench.view("migration_chunk_status", run_id) if row["table_id"] == doing
    ]
    facts = "chunk_id status rows_copied retry_count error_message chunk_range"
    assert [tuple(part(row, facts).values()) for row in chunks] == [
        (0, "completed", 10, 0, None, {"kind": "table"}),
        (1, "failed", 0, 1, "again", {"kind": "table"}),
        (2, "in_progress", 0, 0, None, {"kind": "table"}),
        (3, "pending", 0, 0, None, {"kind": "table"}),
    ]
    assert chunks[0]["started_at"] < chunks[0]["completed_at"]
    assert chunks[3]["started_at"] is None

    progress = {row["source_table"]: row for row in bench.view("v_table_progress", run_id)}
    percents = {name: row["percent_completed"] for name, row in progress.items()}
    assert percents == {"TODO": 0, "DOING": 25, "DONE": 100, "BROKEN": 0, "SKIPPED": None}

    (run,) = bench.view("migration_runs", run_id)
    sums = "status total_sources total_tables completed_tables failed_tables total_rows_copied config_hash"
    assert tuple(part(run, sums).values()) == ("running", 2, 5, 1, 1, 30, WHO.config_hash)
    assert run["metadata"] == {
        "snowmelt": "test",
        "source_names": ["analytics", "conflict"],
        "execution_hash": WHO.execution_hash,
    }
    assert run["created_by"] == "postgres"


@pytest.mark.parametrize("ending", ["running", "completed", "failed", "partial", "aborted"])
def test_a_run_in_each_state(bench: Bench, ending: str) -> None:
    run_id = bench.run(tables=1)
    table_id = bench.table(run_id, "T", 2)
    bench.complete(bench.claim(table_id))
    claim = bench.claim(table_id)
    if ending == "completed":
        bench.complete(claim)
        assert bench.loads.finish(table_id)
    if ending == "failed":
        bench.claims.fail(claim, "no")
        bench.loads.fail(table_id, "no")
    if ending == "aborted":
        assert bench.runs.abort(run_id)
    elif ending != "running":
        assert bench.runs.end(run_id) == State(ending)

    (run,) = bench.view("migration_runs", run_id)
    assert run["status"] == {"aborted": "failed"}.get(ending, ending)
    assert (run["completed_at"] is None) == (ending == "running")
    assert run["total_rows_copied"] == (20 if ending == "completed" else 10)
    errors = {"failed": "T: no", "aborted": "aborted by postgres"}
    assert run["error_message"] == errors.get(ending)
    assert len(bench.view("v_active_migrations", run_id)) == (ending == "running")


def test_an_active_run_shows_its_live_workers(bench: Bench) -> None:
    run_id = bench.run(tables=0)
    heartbeat = Heartbeat(
        bench.server,
        run_id,
        bench.pulse,
        lease_seconds=30,
        stall_seconds=60,
        on_abort=lambda: None,
    )
    heartbeat.start()
    (active,) = bench.view("v_active_migrations", run_id)
    heartbeat.stop()
    (idle,) = bench.view("v_active_migrations", run_id)
    assert (active["live_workers"], idle["live_workers"]) == (1, 0)
    assert active["running_for"] > timedelta(0)


def test_one_source_table_with_two_targets_is_two_rows(bench: Bench) -> None:
    run_id = bench.run(tables=2)
    for target in ("one", "two"):
        bench.complete(bench.claim(bench.table(run_id, "T", 1, target=target)))
    for view in ("migration_table_status", "migration_chunk_status"):
        targets = {row["target_table"] for row in bench.view(view, run_id)}
        assert targets == {"one", "two"}


def test_times_are_instants(bench: Bench) -> None:
    (run,) = bench.view("migration_runs", bench.run(tables=0))
    assert isinstance(run["started_at"], datetime)
    assert run["started_at"].tzinfo is not None


# --- statements -----------------------------------------------------------------------------------


def test_every_statement_is_used_and_every_used_statement_is_there() -> None:
    """A name is given to `query`, or to what hands it on."""
    asked: set[str] = set()
    for path in (ROOT / "src" / "snowmelt").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and called(node.func) in HAND_ON:
                asked |= {a.value for a in node.args if isinstance(a, ast.Constant)}  # type: ignore[misc]
    assert asked == queries.names()


HAND_ON = frozenset({"query", "_fenced", "_close_claim", "_carry", "_column"})


def called(function: ast.expr) -> str:
    match function:
        case ast.Name(name) | ast.Attribute(attr=name):
            return name
    return ""


@pytest.mark.parametrize("name", sorted(queries.names() - {"copy_chunks"}))
def test_the_server_takes_the_statement(bench: Bench, name: str) -> None:
    """With every parameter's type found by the server, and a plan made for it."""
    parameters: dict[str, int] = {}

    def number(match: re.Match[str]) -> str:
        return f"${parameters.setdefault(match.group(1), len(parameters) + 1)}"

    statement = re.sub(r"%\((\w+)\)s", number, query(name)).replace("%%", "%")
    assert "%(" not in statement
    with bench.database.connect() as connection:
        connection.execute(f"PREPARE tried AS {statement}")
        nulls = ", ".join(["NULL"] * len(parameters))
        plan = connection.execute(f"EXPLAIN EXECUTE tried {f'({nulls})' if nulls else ''}")
        assert plan.fetchall()


def test_the_server_takes_chunks(bench: Bench) -> None:
    with bench.database.connect() as connection, connection.cursor().copy(query("copy_chunks")):
        pass
