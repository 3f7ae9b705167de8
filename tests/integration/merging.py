"""Chunks of made-up rows that are moved one by one into a target with rows, in any mode."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any, LiteralString
from uuid import uuid4

import pyarrow as pa
from psycopg import sql

from snowmelt.choices import Mode
from snowmelt.chunking.chunks import Chunk, Key, KeyKind, KeyRange
from snowmelt.errors import NeedsStaging
from snowmelt.model import (
    Column,
    Identity,
    LoadTable,
    Relation,
    SourceTable,
    TableJob,
    TargetState,
    TargetTable,
)
from snowmelt.plan import TablePlan
from snowmelt.postgres.claims import PostgresClaims, Pulse
from snowmelt.postgres.connect import Server, Session
from snowmelt.postgres.load import PostgresLoad
from snowmelt.postgres.loads import PostgresLoads
from snowmelt.postgres.migrations import migrate_ledger
from snowmelt.postgres.runs import PostgresRuns
from snowmelt.postgres.target import PostgresTarget
from snowmelt.truncation import TargetFacts, decide
from tests.support import Database

CHUNKS = 6
UPSERT, INSERT_ONLY = Mode.UPSERT, Mode.INSERT_ONLY


class Worker:
    """A thread of a process of its own: its session, its claims and its staging tables."""

    def __init__(self, session: Session, table: TargetTable, table_id: int, **job: Any) -> None:
        self._session, self._table_id = session, table_id
        self._target = PostgresTarget(session)
        self._claims = PostgresClaims(session, Pulse())
        self._job = TableJob("s", SourceTable("", "", "t.parquet"), table, **job)

    @contextmanager
    def moving(self, batch: pa.RecordBatch) -> Iterator[PostgresLoad]:
        """The next chunk, with these rows: all sent, and none recorded. An error gives it back."""
        claim = self._claims.claim(self._table_id)
        assert claim is not None
        columns = tuple(Column(field.name, field.type) for field in batch.schema)
        table = LoadTable(self._table_id, self._job, columns, {})
        try:
            with self._target.load(claim, table) as load:
                load.write(batch)
                yield load
        except NeedsStaging:
            self._claims.stage(claim)
            self._claims.settle(claim, "staged", 0)
            raise
        except Exception as error:
            self._claims.settle(claim, str(error), 0)
            raise

    def load(self, batch: pa.RecordBatch) -> int:
        """Move a chunk of these rows; how many were written."""
        with self.moving(batch) as load:
            written = load.complete(batch.num_rows)
            load.commit()
        return written


class Bench:
    """A target, a plan of six chunks, and any number of workers in one mode."""

    def __init__(
        self, database: Database, stack: ExitStack, mode: Mode, *keys: str, name: str, **job: Any
    ) -> None:
        self.database, self._stack = database, stack
        self.table = TargetTable(database.name, "public", name)
        self._job = {"mode": mode, "uniqueness_columns": keys, **job}
        session = self.session()
        migrate_ledger(session)
        run_id = uuid4()
        PostgresRuns(session).open(run_id, Identity("c", "e", ("s",)), 1, {})
        key = Key("n", KeyKind.NUMBER)
        plan = TablePlan(
            job=TableJob("s", SourceTable("", "", "t.parquet"), self.table, **self._job),
            table_hash="v1:hash",
            facts={},
            relation=Relation((), (), {}),
            target=TargetState(exists=True),
            strategy="test",
            reason="test",
            chunks=tuple(Chunk(n, KeyRange(key, n, n + 1), None) for n in range(CHUNKS)),
            planned_rows=None,
            truncation=decide(TargetFacts(False, False, False, False)),
        )
        PostgresLoads(session).add(run_id, plan)
        self.worker = self.another()

    def session(self) -> Session:
        session = Session(Server.of({}, dsn=self.database.dsn))
        self._stack.callback(session.close)
        return session

    def another(self) -> Worker:
        table_id = int(self.database.value("SELECT max(table_id) FROM migration_status.load"))
        return Worker(self.session(), self.table, table_id, **self._job)

    def load(self, **values: Sequence[object]) -> int:
        return self.worker.load(batch(**values))

    def insist(self, **values: Sequence[object]) -> int:
        """Move a chunk, by staging where it is asked for."""
        try:
            return self.load(**values)
        except NeedsStaging:
            return self.load(**values)

    def rows(self, what: LiteralString = "*", order: LiteralString = "1, 2") -> list[Any]:
        statement: LiteralString = "SELECT " + what + " FROM {} ORDER BY " + order
        with self.database.connect() as connection:
            name = sql.Identifier(self.table.schema, self.table.name)
            return connection.execute(sql.SQL(statement).format(name)).fetchall()

    def versions(self) -> list[Any]:
        """Which row versions are there."""
        return self.rows("xmin::text, ctid::text", "ctid")

    def counts(self) -> list[tuple[int, int, int]]:
        """Read, written and skipped, for each chunk that is done."""
        return self.database.execute(
            "SELECT rows_read, rows_written, rows_skipped FROM migration_status.chunk "
            "WHERE completed_at IS NOT NULL ORDER BY chunk_id"
        )

    def staging(self) -> list[str]:
        found = self.database.execute(
            "SELECT relname::text FROM pg_class WHERE relname LIKE 'stage!_%' ESCAPE '!' ORDER BY oid"
        )
        return [name for (name,) in found]


def batch(**values: Sequence[object]) -> pa.RecordBatch:
    """Columns by name; Arrow's types are those of the values, or their own."""
    arrays = [
        column if isinstance(column, pa.Array) else pa.array(column) for column in values.values()
    ]
    return pa.record_batch(arrays, names=list(values))


class Benches:
    """Makes a bench for a target that a statement creates."""

    def __init__(self, database: Database, stack: ExitStack) -> None:
        self._database, self._stack = database, stack

    def __call__(
        self, create: LiteralString, mode: Mode, *keys: str, name: str = "t", **job: Any
    ) -> Bench:
        self._database.execute(create)
        return Bench(self._database, self._stack, mode, *keys, name=name, **job)
