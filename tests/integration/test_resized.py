"""The ledger goes by the chunks that stand, not by retired ones; and what makes a chunk too heavy."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any
from uuid import UUID

import duckdb
import psycopg
import pyarrow as pa
import pytest

from snowmelt.attempts import Resized, attempt
from snowmelt.chunking.chunks import Chunk, KeyRange, NullKeys, ResultBatches
from snowmelt.chunking.histogram import Loaded
from snowmelt.errors import (
    RetriableError,
    TooHeavy,
)
from snowmelt.model import Identity, LoadTable, Outcome, Reading, SourceTable
from snowmelt.ports import Replan, Settled
from snowmelt.postgres.claims import PostgresClaims, Pulse
from snowmelt.postgres.connect import Server, Session
from snowmelt.postgres.loads import PostgresLoads
from snowmelt.postgres.migrations import migrate_ledger
from snowmelt.postgres.queries import migrations as numbered_migrations
from snowmelt.postgres.runs import PostgresRuns
from snowmelt.postgres.target import PostgresTarget
from snowmelt.sources.duckdb import DuckDBSource
from snowmelt.status import State
from tests.integration.resizing import (
    CHUNKS,
    KEY,
    PLANNED,
    SIZE,
    WHY,
    Desk,
    chunks_of,
)
from tests.support import Database


@pytest.fixture
def desk(database: Database) -> Iterator[Desk]:
    with ExitStack() as stack:
        yield Desk(database, stack)


# --- the rest of the ledger -----------------------------------------------------------------------


def test_a_resume_goes_on_with_the_parts(desk: Desk) -> None:
    claims = desk.claims()
    claim = desk.claimed(claims)
    claims.resize(claim, chunks_of(None, 4, 10, 16), WHY)
    claims.drop(claim)
    desk.load(desk.claimed(claims))
    failed = desk.claimed(claims)
    assert claims.fail(failed, "no") is Settled.CLOSED
    desk.loads.fail(desk.table_id, "no")
    assert desk.runs.end(desk.run_id) is State.FAILED
    work = claims.work(desk.table_id)
    assert (work.open_chunks, work.failed_chunks, work.closed) == (3, 1, True)

    desk.runs.open(desk.run_id, Identity("c", "e", ("s",)), 1, {})
    desk.loads.reopen(desk.run_id, [desk.table_id])

    (stored,) = desk.loads.of(desk.run_id)
    assert (stored.chunks, stored.completed_chunks, stored.completed_rows) == (5, 1, 4)
    work = claims.work(desk.table_id)
    assert (work.open_chunks, work.failed_chunks, work.closed) == (4, 0, False)
    assert desk.load_rest() == [4, 5, 1, 2]
    assert desk.loads.finish(desk.table_id)
    assert desk.runs.end(desk.run_id) is State.COMPLETED
    assert desk.numbers() == list(range(48))


def test_views_and_status_leave_a_retired_chunk_out_and_count_it(desk: Desk) -> None:
    claims = desk.claims()
    claim = desk.claimed(claims)
    claims.settle(claim, "deadlock", 0)
    claims.resize(desk.claimed(claims), chunks_of(None, 4, 10, 16), WHY)

    shown = desk.database.execute(
        "SELECT chunk_id, status, parent_id, error_message "
        "FROM migration_status.migration_chunk_status ORDER BY chunk_id"
    )
    assert shown == [
        (1, "pending", None, None),
        (2, "pending", None, None),
        (3, "pending", 0, None),
        (4, "pending", 0, None),
        (5, "pending", 0, None),
    ]
    sums = (
        "SELECT status, total_chunks, completed_chunks, failed_chunks, in_progress_chunks, resized_chunks, "
        "total_rows_copied, retries, started_at IS NOT NULL FROM migration_status.migration_table_status"
    )
    assert desk.database.execute(sums) == [("in_progress", 5, 0, 0, 0, 1, 0, 1, True)]

    desk.load_rest()

    assert desk.loads.finish(desk.table_id)
    assert desk.database.execute(sums) == [("completed", 5, 5, 0, 0, 1, 48, 1, True)]
    progress = "SELECT total_chunks, percent_completed FROM migration_status.v_table_progress"
    assert desk.database.execute(progress) == [(5, 100)]
    ((table,),) = [run.tables for run in desk.runs.status(desk.run_id)]
    assert (table.chunks, table.completed_chunks, table.resized, table.rows) == (5, 5, 1, 48)


def test_an_abort_holds_nothing_of_a_retired_chunk(desk: Desk) -> None:
    claims = desk.claims()
    claims.resize(desk.claimed(claims), chunks_of(None, 4, 16), WHY)
    desk.load(desk.claimed(claims))
    before = desk.database.execute("SELECT * FROM migration_status.chunk WHERE chunk_id = 0")

    assert desk.runs.abort(desk.run_id)

    assert claims.claim(desk.table_id) is None
    after = desk.database.execute("SELECT * FROM migration_status.chunk WHERE chunk_id = 0")
    assert after == before


def test_batches_that_were_regrouped_are_no_reason_to_plan_again(desk: Desk) -> None:
    """Only open ones are, and then all chunks go, retired ones too."""
    desk.database.execute("DELETE FROM migration_status.load")
    table_id = desk.plan([Chunk(0, ResultBatches("q", 0, (24, 24)), 48)])
    claims = desk.claims()
    claim = claims.claim(table_id)
    assert claim is not None
    groups = [Chunk(n, ResultBatches("q", n, (24,)), 24) for n in range(2)]
    claims.resize(claim, groups, WHY)
    whole = [(Chunk(0, KeyRange(KEY), 48), False), (Chunk(1, NullKeys(KEY), 0), False)]

    def chunks(_: Loaded) -> list[tuple[Chunk, bool]]:
        return whole

    done = "SET completed_at = now(), rows_read = 0, rows_written = 0, rows_skipped = 0"
    desk.database.execute(f"UPDATE migration_status.chunk {done} WHERE retired_at IS NULL")
    assert desk.loads.replan(table_id, "q", Replan(chunks)) is None
    desk.database.execute(
        "UPDATE migration_status.chunk SET completed_at = NULL, rows_read = NULL, rows_written = NULL, "
        "rows_skipped = NULL WHERE chunk_id = 2"
    )

    assert desk.loads.replan(table_id, "q", Replan(chunks)) is not None

    rows = "SELECT chunk_id, parent_id, retired_at FROM migration_status.chunk ORDER BY chunk_id"
    assert desk.database.execute(rows) == [(3, None, None), (4, None, None)]


@pytest.mark.parametrize(
    "wrong",
    [
        "token = gen_random_uuid()",
        "failed_at = now()",
        "completed_at = now(), rows_read = 1, rows_written = 1, rows_skipped = 0",
        "rows_written = 0",
        "parent_id = chunk_id",
    ],
)
def test_a_retired_chunk_has_no_owner_no_rows_and_no_other_end(desk: Desk, wrong: str) -> None:
    claims = desk.claims()
    claims.resize(desk.claimed(claims), chunks_of(None, 4, 16), WHY)
    statement = f"UPDATE migration_status.chunk SET {wrong} WHERE retired_at IS NOT NULL"
    with pytest.raises(psycopg.errors.CheckViolation):
        desk.database.execute(statement)


def test_a_ledger_of_the_release_before_is_read_upgraded_and_goes_on(database: Database) -> None:
    database.execute("CREATE SCHEMA migration_status")
    database.execute(
        "CREATE TABLE migration_status.ledger_version "
        "(version integer PRIMARY KEY, applied_at timestamptz NOT NULL DEFAULT clock_timestamp())"
    )
    with database.connect() as connection:
        for number, script in numbered_migrations()[:2]:
            connection.execute(script)
            connection.execute("INSERT INTO migration_status.ledger_version VALUES (%s)", [number])
        connection.execute(
            "INSERT INTO migration_status.run (run_id, config_hash, execution_hash, source_names, total_tables) "
            "VALUES ('00000000-0000-0000-0000-000000000001', '', '', '{s}', 1)"
        )
        connection.execute(
            "INSERT INTO migration_status.load (run_id, source_name, source_database, source_schema, "
            "source_table, target_database, target_schema, target_table, table_hash) "
            "VALUES ('00000000-0000-0000-0000-000000000001', 's', '', '', 't', 'd', 'public', 't', 'h')"
        )
        connection.execute(
            "INSERT INTO migration_status.chunk (table_id, chunk_id, range, planned_rows, completed_at, "
            "failed_at, rows_read, rows_written, rows_skipped, token, attempts, claimed_at) VALUES "
            '(1, 0, \'{"kind": "table"}\', 5, now(), NULL, 5, 5, 0, gen_random_uuid(), 3, now()), '
            '(1, 1, \'{"kind": "table"}\', 5, NULL, now(), NULL, NULL, NULL, NULL, 1, now()), '
            '(1, 2, \'{"kind": "table"}\', 5, NULL, NULL, NULL, NULL, NULL, NULL, 0, NULL)'
        )
    views = (
        "migration_chunk_status",
        "migration_table_status",
        "migration_runs",
        "v_table_progress",
    )
    session = Session(Server.of({}, dsn=database.dsn))
    runs, loads = PostgresRuns(session), PostgresLoads(session)
    seen = [database.execute(f"SELECT * FROM migration_status.{view}") for view in views]
    before = runs.status(), loads.of(UUID(int=1))

    migrate_ledger(session)

    assert (runs.status(), loads.of(UUID(int=1))) == before
    assert before[1][0].chunks == 3
    after = [database.execute(f"SELECT * FROM migration_status.{view}") for view in views]
    for old_rows, new_rows in zip(seen, after, strict=True):
        assert [new[: len(old)] for old, new in zip(old_rows, new_rows, strict=True)] == old_rows
    claims = PostgresClaims(session, Pulse())
    claim = claims.claim(1)
    assert claim is not None
    assert claim.chunk.id == 2
    claims.resize(claim, chunks_of(0, 2, 5), WHY)
    assert loads.of(UUID(int=1))[0].chunks == 4
    assert runs.status()[0].tables[0].resized == 1
    session.close()


# --- what is too heavy ----------------------------------------------------------------------------


def test_a_copy_that_takes_longer_than_the_role_may_is_too_heavy(desk: Desk) -> None:
    desk.database.execute(
        "CREATE FUNCTION nap() RETURNS trigger LANGUAGE plpgsql AS "
        "'BEGIN PERFORM pg_sleep(60); RETURN NEW; END'"
    )
    desk.database.execute(
        "CREATE TRIGGER nap BEFORE INSERT ON t FOR EACH ROW EXECUTE FUNCTION nap()"
    )
    desk.database.execute(f"ALTER DATABASE {desk.database.name} SET statement_timeout = '1s'")
    claim = desk.claimed(desk.claims())

    with pytest.raises(TooHeavy) as caught:
        desk.load(claim)

    assert caught.value.sqlstate == "57014"
    assert "statement_timeout" in str(caught.value.remedy)
    assert desk.numbers() == []


def test_a_wait_for_a_lock_that_takes_too_long_is_not(desk: Desk) -> None:
    desk.database.execute(f"ALTER DATABASE {desk.database.name} SET statement_timeout = '1s'")
    claim = desk.claimed(desk.claims())
    with desk.database.connect() as other, other.transaction():
        other.execute("LOCK TABLE t IN ACCESS EXCLUSIVE MODE")
        with pytest.raises(RetriableError) as caught:
            desk.load(claim)
    assert type(caught.value) is RetriableError
    assert caught.value.sqlstate == "57014"


class Forgetful(DuckDBSource):
    """Has not the memory for chunks of more rows than `limit`."""

    limit = 4
    error: type[MemoryError] = MemoryError

    @contextmanager
    def read(self, table: SourceTable, chunk: Chunk, *rest: Any) -> Iterator[Reading]:
        with super().read(table, chunk, *rest) as reading:
            yield Reading(self._limited(reading, chunk))

    def _limited(self, reading: Reading, chunk: Chunk) -> Iterator[pa.RecordBatch]:
        yield from reading
        if (chunk.planned_rows or 0) > self.limit:
            raise self.error("no memory")


@pytest.mark.parametrize("error", [MemoryError, pa.ArrowMemoryError])
def test_without_memory_for_a_chunk_its_parts_are_moved(
    desk: Desk, tmp_path: Path, error: type[MemoryError]
) -> None:
    duckdb.execute(f"COPY (SELECT range AS n FROM range(48)) TO '{tmp_path / 't.parquet'}'")
    source = Forgetful("files", tmp_path)
    source.error = error
    relation = source.describe(desk.job.source)
    table = LoadTable(desk.table_id, desk.job, relation.columns, relation.snapshot, chunk_rows=SIZE)
    claims, target = desk.claims(), PostgresTarget(desk.session())
    done: list[object] = []
    while (claim := claims.claim(desk.table_id)) is not None:
        done.append(attempt(claim, table, source, claims, target, lambda *_: None))
        claims.drop(claim)
    source.close()

    assert sum(isinstance(one, Resized) for one in done) == CHUNKS
    assert sum(one.rows_written for one in done if isinstance(one, Outcome)) == 48
    assert desk.loads.finish(desk.table_id)
    assert desk.numbers() == list(range(48))
    assert "memory" in desk.database.value(
        "SELECT min(error_message) FROM migration_status.chunk WHERE retired_at IS NOT NULL"
    )


def test_what_can_not_be_split_is_told_and_the_claim_stands(desk: Desk, tmp_path: Path) -> None:
    duckdb.execute(f"COPY (SELECT 1 AS n FROM range(16)) TO '{tmp_path / 't.parquet'}'")
    source = Forgetful("files", tmp_path)
    relation = source.describe(desk.job.source)
    table = LoadTable(desk.table_id, desk.job, relation.columns, relation.snapshot)
    claims = desk.claims()
    claim = desk.claimed(claims)
    with pytest.raises(TooHeavy, match="ran out of memory"):
        attempt(claim, table, source, claims, PostgresTarget(desk.session()), lambda *_: None)
    source.close()

    assert desk.chunks() == PLANNED
    assert claims.settle(claim, "no", 0) is Settled.CLOSED
