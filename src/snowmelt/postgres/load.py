"""One chunk into one table: rows and their record in a single transaction.

Rows are copied into the target, or into a staging table and merged from there, as the mode has it.
"""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager
from types import TracebackType
from typing import LiteralString, Self

import psycopg
import pyarrow as pa
from psycopg import errors as pg
from psycopg import sql

from snowmelt.choices import Mode
from snowmelt.errors import (
    ClaimLost,
    ConnectionLost,
    NeedsStaging,
    RetriableError,
    SnowmeltError,
    TableError,
)
from snowmelt.model import Claim, LoadTable, Piece, TargetColumn, TargetTable, into
from snowmelt.postgres import ddl
from snowmelt.postgres.claims import evict_within
from snowmelt.postgres.connect import BEGIN, Session, SessionSettings
from snowmelt.postgres.encode import EncodedColumn, Encoder
from snowmelt.postgres.failures import translate, translate_move
from snowmelt.postgres.merge import Merge
from snowmelt.postgres.queries import query
from snowmelt.postgres.staging import Staging
from snowmelt.types import loadable, target_type

_log = logging.getLogger(__name__)

LOCK_PATIENCE_SECONDS = 20.0
LOCK_POLL_SECONDS = 0.05
KEY_PATIENCE_MS = 10_000
"""For a row of another worker with the same key, which is there as soon as that worker has committed its chunk."""


def _encoded(table: LoadTable, columns: Iterable[TargetColumn]) -> list[EncodedColumn]:
    """The columns as they will be encoded; raises TableError when the target changed after planning."""
    found = {column.name: column for column in columns}
    encoded = []
    for column in table.columns:
        target = found.get(column.into)
        wire = target_type(target.type) if target and not target.generated else None
        if wire is None or not loadable(column.type, wire):
            raise TableError(
                f'the target has no loadable column "{column.into}" any more',
                table=str(table.job.target),
                remedy="put the column back as it was planned, or start the table anew",
            )
        nullable = target is None or target.nullable
        encoded.append(EncodedColumn(column.name, column.type, wire, nullable))
    return encoded


class PostgresLoad:
    """The transaction that moves one chunk. Nothing else of the ledger is touched in it: a stalled holder
    of any wider lock would block every other worker."""

    _encoder: Encoder
    _cursor: psycopg.Cursor
    _copy: AbstractContextManager[psycopg.Copy]
    _writer: psycopg.Copy

    def __init__(
        self, session: Session, claim: Claim, table: LoadTable, staging: Staging | None = None
    ) -> None:
        self._claim = claim
        self._table = table
        self._session = session
        self._staging = staging or Staging(session)
        self._target = ddl.identifier(table.into)
        self._stage: TargetTable | None = None
        self._connection = session.connection
        self._fence = {
            "table_id": claim.table_id,
            "chunk_id": claim.chunk.id,
            "token": claim.token,
        }
        self._bytes = 0

    def __enter__(self) -> Self:
        try:
            self._stage = self._staged()
            self._begin()
        except BaseException as error:
            self._leave(error)
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._leave(error)

    def _staged(self) -> TargetTable | None:
        """The staging table, where rows go through one. Rows that are to be skipped where they are there do so
        from the first that was found to be."""
        job = self._table.job
        if job.mode is Mode.APPEND:
            return None
        if job.mode is Mode.INSERT_ONLY:
            with self._session.transaction() as connection:
                row = connection.execute(query("is_staged"), self._fence).fetchone()
            if not (row and row[0]):
                return None
        columns = [column.into for column in self._table.columns]
        claim = self._claim
        return self._staging.emptied(claim.table_id, claim.worker_id, job.target, columns)

    def _begin(self) -> None:
        try:
            self._connection.execute(BEGIN)
            self._configure(self._session.server.settings)
            self._lock()
            self._own()
            self._encoder = self._plan_encoding()
            self._cursor = self._connection.cursor()
            self._copy = self._cursor.copy(self._statement())
            self._writer = self._opened()
            self._send(self._encoder.header())
        except psycopg.Error as error:
            raise translate(error) from error  # waiting for locks is no matter of the chunk's size

    def _opened(self) -> psycopg.Copy:
        try:
            return self._copy.__enter__()
        except pg.UndefinedTable as error:
            if self._stage is None:
                raise
            # This worker slept, and was taken for gone. The next attempt makes another.
            raise RetriableError("the staging table is gone", sqlstate=error.sqlstate) from error

    def _configure(self, settings: SessionSettings) -> None:
        run = f"snowmelt table {self._claim.table_id} chunk {self._claim.chunk.id}"
        for name, value in (
            ("application_name", run),
            ("synchronous_commit", settings.synchronous_commit),
            ("work_mem", settings.work_mem),
        ):
            if value is not None:
                self._connection.execute("SELECT set_config(%s, %s, true)", [name, value])
        if self._table.job.mode is not Mode.APPEND:
            # Two workers may meet on a key. One that is frozen there is only ended by a worker that looks for
            # chunks to take over, so none waits for long.
            self._connection.execute(f"SET LOCAL lock_timeout = {KEY_PATIENCE_MS}")

    def _lock(self) -> None:
        """Take the chunk's advisory lock. Whoever else holds it lost the claim to us, and is ended: unless it is
        the other way round, and we wake after our claim was taken over."""
        deadline = time.monotonic() + LOCK_PATIENCE_SECONDS
        while True:
            row = self._connection.execute(query("lock_chunk"), self._fence).fetchone()
            if row and row[0]:
                return
            if time.monotonic() > deadline:
                raise RetriableError("the backend that held this chunk before does not end")
            self._own()
            evict_within(self._connection, self._fence)
            time.sleep(LOCK_POLL_SECONDS)

    def _own(self) -> None:
        """Raises ClaimLost unless the claim stands."""
        owned = self._connection.execute(query("owns_claim"), self._fence).fetchone()
        if not (owned and owned[0]):
            raise self._lost()

    def _plan_encoding(self) -> Encoder:
        """An encoder for the target's columns as they are and, by the lock that COPY would take anyway, stay:
        bytes encoded for a type that has changed meanwhile could be read as another value."""
        target = self._table.into
        # ONLY: the partitions have the columns of their table, and may be more than locks are to be had.
        lock: LiteralString = "LOCK TABLE ONLY {} IN ROW EXCLUSIVE MODE"
        self._connection.execute(sql.SQL(lock).format(self._target))
        columns = ddl.columns(self._connection, target)
        if self._stage is not None:
            self._require_same_types(self._stage, columns)
        nuls = self._table.job.nul_characters
        return Encoder(_encoded(self._table, columns), self._table.key, target, nuls)

    def _require_same_types(self, stage: TargetTable, columns: Iterable[TargetColumn]) -> None:
        """Give the chunk back where the target was altered after its staging table was made: bytes for the one
        could be read as another value by the other. The next attempt makes a staging table anew."""
        staged = {column.name: column.type for column in ddl.columns(self._connection, stage)}
        now = {column.name: column.type for column in columns if column.name in staged}
        if staged != now:
            self._staging.forget(self._claim.table_id)
            raise RetriableError("a column of the target has changed while it is loaded")

    def _statement(self) -> sql.Composed:
        names = sql.SQL(", ").join(sql.Identifier(column.into) for column in self._table.columns)
        statement: LiteralString = "COPY {} ({}) FROM STDIN (FORMAT binary)"
        into = ddl.identifier(self._stage or self._table.into)
        return sql.SQL(statement).format(into, names)

    def encode(self, batch: pa.RecordBatch) -> Iterator[Piece]:
        """The batch for the target columns' exact types, some megabytes at a time."""
        return self._encoder.pieces(batch)

    def send(self, piece: Piece) -> None:
        """Send encoded rows to COPY."""
        try:
            self._send(piece.data)
        except psycopg.Error as error:
            raise self._translated(error) from error

    def write(self, batch: pa.RecordBatch) -> None:
        """Encode and send in turn."""
        for piece in self.encode(batch):
            self.send(piece)

    def _send(self, data: bytes) -> None:
        self._writer.write(data)
        self._bytes += len(data)

    def complete(self, rows_read: int, floored: int = 0) -> int:
        """End COPY, then mark the chunk completed as the last statement; returns rows written."""
        try:
            self._send(self._encoder.trailer())
            self._end_copy()
            written = self._cursor.rowcount if self._stage is None else self._merge(self._stage)
            done = self._connection.execute(
                query("complete_chunk"),
                {
                    **self._fence,
                    "rows_read": rows_read,
                    "rows_written": written,
                    "rows_skipped": rows_read - written,
                    "bytes": self._bytes,
                    "values_floored": floored + self._encoder.floored,
                    "values_changed": self._encoder.changes.count,
                },
            ).rowcount
        except psycopg.Error as error:
            raise self._translated(error) from error
        if done != 1:
            raise self._lost()
        return written

    def _merge(self, staged: TargetTable) -> int:
        """Merge the staged rows into the target; returns how many were inserted or updated."""
        job, stage = self._table.job, ddl.identifier(staged)
        columns = self._table.columns
        keys = into(columns, job.uniqueness_columns)
        (newer,) = into(columns, [job.source_watermark]) if job.source_watermark else (None,)
        merge = Merge(
            self._target,
            [column.into for column in columns],
            keys,
            newer,
            updates=job.mode is Mode.UPSERT,
        )
        keyless = merge.null_keys(stage)
        if keyless is not None and not ddl.nulls_meet(self._connection, job.target, keys):
            row = self._connection.execute(keyless).fetchone()
            if row and row[0]:
                raise TableError(
                    f"{row[0]:,} rows have no value in a key column, so no unique index finds them again",
                    table=str(job.target),
                    chunk=self._claim.chunk.id,
                    remedy="leave them out with source_filter, or make the unique index NULLS NOT DISTINCT",
                )
        return self._connection.execute(merge.statement(stage)).rowcount

    def _end_copy(self) -> None:
        try:
            self._copy.__exit__(None, None, None)
        except ValueError as error:
            # psycopg unpacks one answer here, and a pooler whose server was terminated gives two.
            self._session.close()
            raise ConnectionLost("the connection was lost at the end of COPY") from error

    def commit(self) -> None:
        """Commit rows and record together. After ConnectionLost only the ledger knows whether it happened."""
        try:
            self._connection.execute("COMMIT")
        except psycopg.Error as error:
            raise self._translated(error) from error
        if self._encoder.changes.count:
            target, chunk = self._table.job.target, self._claim.chunk.id
            _log.warning(
                "table %s, chunk %d: %s",
                target,
                chunk,
                self._encoder.changes,
                extra={"action": "values_changed", "table": str(target), "chunk_id": chunk},
            )

    def _leave(self, error: BaseException | None) -> None:
        """Roll back what was not committed. A connection in mid-COPY is closed: the server then rolls back."""
        if error is None and self._connection.pgconn.transaction_status == _IDLE:
            return
        if self._connection.pgconn.transaction_status in (_IN_TRANSACTION, _IN_ERROR):
            try:
                self._connection.execute("ROLLBACK")
            except psycopg.Error:
                self._session.close()
        elif self._connection.pgconn.transaction_status != _IDLE:
            self._session.close()

    def _translated(self, error: psycopg.Error) -> SnowmeltError:
        """The error with its place; COPY's context tells row and column of a value that it refused."""
        straight = self._table.job.mode is Mode.INSERT_ONLY and self._stage is None
        # Workers that meet on keys in different orders may deadlock as well.
        if straight and isinstance(error, pg.UniqueViolation | pg.DeadlockDetected):
            return NeedsStaging("rows of the chunk are there already", sqlstate=error.sqlstate)
        known = translate_move(error)
        row, column = _place_in_copy(error.diag.context or "")
        known.column = known.column or column
        if row is not None:
            known.key = self._encoder.key_of_row(row)
        return known

    def _lost(self) -> ClaimLost:
        return ClaimLost("another worker owns the chunk now", chunk=self._claim.chunk.id)


_PLACE = re.compile(r"^COPY .*?, \D*(\d+)(?:, [^\s,]+ (.+))?$", re.MULTILINE)
_IDLE = psycopg.pq.TransactionStatus.IDLE
_IN_TRANSACTION = psycopg.pq.TransactionStatus.INTRANS
_IN_ERROR = psycopg.pq.TransactionStatus.INERROR


def _place_in_copy(context: str) -> tuple[int | None, str | None]:
    """Row (from 1) and quoted column out of `COPY t, line 7, column "x"`, as far as it is told.

    The words are in the server's language; the order of table, row and column is not.
    """
    place = _PLACE.search(context)
    if place is None:
        return None, None
    return int(place.group(1)), f'"{place.group(2)}"' if place.group(2) else None
