"""A query's result, batch by batch: downloaded ahead of its use, checked, and cast to the planned types.

The width of an integer, the unit of a timestamp and even the presence of an Arrow stream vary from batch to
batch of one result, and the connector notices no batch that is short. So each batch is held against the rows
that were declared for it, and each column against the types that its planned type may arrive as.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import pyarrow as pa
import pyarrow.compute as pc
from snowflake.connector.cursor import SnowflakeCursor
from snowflake.connector.result_batch import ArrowResultBatch, ResultBatch

from snowmelt.ahead import read_ahead
from snowmelt.errors import (
    ConnectionLost,
    RetriableError,
    SnowmeltError,
    SourceChanged,
    TableError,
)
from snowmelt.memory.governor import UNLIMITED, Flight, Governor, Lease
from snowmelt.model import Column, Reading
from snowmelt.sources.snowflake.bodies import DECODING_BYTES, Fetched, fetched_bytes, row_bytes
from snowmelt.sources.snowflake.failures import NETWORK_ERRORS, translate
from snowmelt.sources.snowflake.login import FORBIDDEN
from snowmelt.sources.snowflake.statements import watched

_log = logging.getLogger(__name__)

BATCHES_AHEAD = 1
"""Fetched while the one before is decoded and encoded, where there is memory for it."""
URL_SECONDS = 3_600.0
"""The age from which URLs are asked for anew; they expire after about six hours
(https://github.com/snowflakedb/snowflake-jdbc/issues/2023)."""


@dataclass(slots=True)
class Result:
    """One query's result as the server keeps it, and how to ask for its URLs anew. For one thread at a time."""

    cursor: SnowflakeCursor
    refresh: Callable[[], SnowflakeCursor]
    batches: list[ResultBatch] = field(init=False)
    asked_at: float = field(init=False)

    def __post_init__(self) -> None:
        self._take(self.cursor)

    def _take(self, cursor: SnowflakeCursor) -> None:
        self.cursor, self.batches, self.asked_at = cursor, batches_of(cursor), time.monotonic()

    @property
    def query_id(self) -> str:
        return str(self.cursor.sfqid)

    @property
    def rows(self) -> tuple[int, ...]:
        """The rows declared for each batch."""
        return tuple(batch.rowcount for batch in self.batches)

    def batch(self, number: int) -> ResultBatch:
        """A batch with a URL that is still good as far as its age tells. Raises SourceChanged if the result has
        not as many batches as it had."""
        if time.monotonic() - self.asked_at > URL_SECONDS:
            self.renew()
        if number >= len(self.batches):
            raise SourceChanged(
                f"the result of query {self.query_id} has {len(self.batches)} batches, "
                f"and number {number} is expected",
                remedy="load the table anew with --restart-table",
            )
        return self.batches[number]

    def renew(self) -> None:
        """Ask for the result again by its query id."""
        self._take(self.refresh())


def batches_of(cursor: SnowflakeCursor) -> list[ResultBatch]:
    """The result's batches in order. Raises RetriableError if they don't add up to the rows of the query."""
    batches = list(cursor.get_result_batches() or [])
    declared = sum(batch.rowcount for batch in batches)
    if cursor.rowcount is None or declared != cursor.rowcount:
        raise RetriableError(
            f"the batches of query {cursor.sfqid} have {declared:,} rows, the query {cursor.rowcount}"
        )
    return batches


@contextmanager
def reading(
    result: Result,
    first: int,
    rows: Sequence[int],
    columns: Sequence[Column],
    table: str,
    memory: Governor = UNLIMITED,
    before_waiting: Callable[[], None] | None = None,
) -> Iterator[Reading]:
    """The result's batches from `first` on, which must have so many `rows` each, as record batches of the planned
    types, and what was cut off of their values.

    Waits until `memory` has room for the heaviest of them, and calls `before_waiting` if it has none now.
    """
    wanted = [(first + place, count) for place, count in enumerate(rows) if count]
    heaviest = max((fetched_bytes(result.batches[number]) for number, _ in wanted), default=0)
    with memory.flight(heaviest + DECODING_BYTES, before_waiting) as flight:
        bodies = (_fetch(result, number, count, table, flight) for number, count in wanted)
        with read_ahead(bodies, BATCHES_AHEAD) as fetched:
            try:
                read = Reading(iter(()))
                read.batches = _planned(fetched, columns, table, read)
                yield read
            finally:
                flight.close()  # the thread may wait for room


def _planned(
    fetched: Iterator[Fetched], columns: Sequence[Column], table: str, read: Reading
) -> Iterator[pa.RecordBatch]:
    schema = pa.schema([pa.field(column.name, column.type) for column in columns])
    widths = row_bytes(columns)
    for body in fetched:
        for part in body.tables(widths):
            yield from _cast(part, columns, schema, table, read).to_batches()
            del part  # before the next one is made
        body.release()
        del body  # before the next one is waited for


def _cast(
    part: pa.Table, columns: Sequence[Column], schema: pa.Schema, table: str, read: Reading
) -> pa.Table:
    found = part.columns
    if len(found) != len(columns) + len(watched(columns)):
        raise SourceChanged(
            f"the result has {len(found)} columns, {len(columns)} were planned", table=table
        )
    for finer in found[len(columns) :]:
        read.floored += pc.sum(finer).as_py() or 0
    arrays = [
        planned(array, column, table)
        for array, column in zip(found[: len(columns)], columns, strict=True)
    ]
    return pa.Table.from_arrays(arrays, schema=schema)


def _fetch(result: Result, number: int, rows: int, table: str, flight: Flight) -> Fetched:
    """One batch, with fresh URLs if its own has expired. Raises RetriableError if it is not whole."""
    lease = flight.lease(fetched_bytes(result.batches[number]))
    try:
        return _body(result, number, rows, lease)
    except NETWORK_ERRORS as error:
        if getattr(error, "errno", None) not in FORBIDDEN:
            raise _located(error, number, table) from None
    _log.info(
        "asking for fresh URLs", extra={"action": "urls_expired", "table": table, "batch": number}
    )
    result.renew()
    try:
        return _body(result, number, rows, lease)
    except NETWORK_ERRORS as error:
        raise _located(error, number, table) from None


def _body(result: Result, number: int, rows: int, lease: Lease) -> Fetched:
    batch = result.batch(number)
    if not isinstance(batch, ArrowResultBatch):
        raise TableError(
            f"query {result.query_id} gave its result as JSON, not as Arrow",
            remedy="set PYTHON_CONNECTOR_QUERY_RESULT_FORMAT to ARROW for the user or the account",
        )
    return Fetched.of(
        batch, result.cursor.connection, rows, f"batch {number} of query {result.query_id}", lease
    )


def _located(error: Exception, number: int, table: str) -> SnowmeltError:
    """A download that failed, without its URL."""
    known = translate(error)
    if isinstance(known, TableError):
        # Not a matter of the table: the store that keeps results did not give this one.
        known = ConnectionLost(known.what)
    known.what = f"batch {number} of the result could not be downloaded: {known.what}"
    return known.located(table=table)


def planned(array: pa.ChunkedArray, column: Column, table: str) -> pa.ChunkedArray:
    """The array as the planned type, value for value. Raises SourceChanged for a type that it can't come from,
    TableError for a value that the planned type can't hold."""
    target = column.type
    if array.type == target:
        return array
    if not _comes_as(array.type, target):
        raise SourceChanged(
            f"{array.type} came where {column.source_type} was planned",
            table=table,
            column=f'"{column.name}"',
            remedy="load the table anew with --restart-table",
        )
    try:
        if pa.types.is_decimal128(array.type) and pa.types.is_decimal128(target):
            # Same scale: only how many digits there may be is told in another way.
            chunks = [chunk.view(target) for chunk in array.chunks]
            return pa.chunked_array(chunks, type=target)
        return array.cast(target)
    except pa.ArrowInvalid as error:
        raise TableError(
            f"a value does not fit {target}: {str(error).splitlines()[0]}",
            table=table,
            column=f'"{column.name}"',
            remedy="the source changed under the plan: load the table anew with --restart-table",
        ) from error


def _comes_as(arrived: pa.DataType, target: pa.DataType) -> bool:
    """Whether an Arrow type is one that Snowflake sends values of the planned type in."""
    types = pa.types
    if types.is_decimal(target):
        if types.is_decimal128(arrived):
            return bool(arrived.scale == target.scale)
        return bool(target.scale == 0 and types.is_signed_integer(arrived))
    if types.is_signed_integer(target):
        whole = types.is_decimal128(arrived) and arrived.scale == 0
        return bool(types.is_signed_integer(arrived) or whole)
    if types.is_timestamp(target):
        return bool(types.is_timestamp(arrived) and (arrived.tz is None) == (target.tz is None))
    if types.is_time64(target):
        return bool(types.is_time(arrived))
    return bool(
        types.is_null(arrived) or (types.is_large_string(arrived) and types.is_string(target))
    )
