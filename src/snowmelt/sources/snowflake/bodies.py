"""A batch of a result: fetched as the server sends it, and decoded some megabytes at a time.

Decoded at once a batch may weigh eight times what is sent: a number with digits after the point is an integer of
one byte or two on its way, and sixteen in Arrow. So it is held as it came, and cut before it is decoded.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Self

import pyarrow as pa
from snowflake.connector.constants import IterUnit
from snowflake.connector.result_batch import ArrowResultBatch, ResultBatch

from snowmelt.errors import RetriableError
from snowmelt.memory.governor import Lease
from snowmelt.model import Column
from snowmelt.sources.snowflake.failures import NETWORK_ERRORS

PART_BYTES = 8 << 20
"""Of decoded rows that are made at a time."""
DECODING_BYTES = 2 * PART_BYTES
"""A part as it is handed to the decoder, decoded, and cast to the planned types. With a batch of 50 MB and what is
encoded of it, a worker had 65 to 85 MB, whatever the columns and texts."""
_GROWN = 1.15
"""A body weighs so much more while it arrives, since its buffer grows ahead of it."""
_INLINE_BYTES = 4 << 20
"""What comes with the answer to a query has no declared size."""


def fetched_bytes(batch: ResultBatch) -> int:
    """What a batch takes while and after it is fetched, as far as the server declared it."""
    return int(_GROWN * (batch.uncompressed_size or 0)) or _INLINE_BYTES


def row_bytes(columns: Sequence[Column]) -> int:
    """What the values of fixed width of a row take when they are decoded."""
    return sum(_width(column.type) for column in columns)


def _width(type: pa.DataType) -> int:
    try:
        return int(type.bit_width) // 8 + 1
    except ValueError:
        return 0


@dataclass(slots=True)
class Fetched:
    """A batch's body, and what is known of it. `name` is for messages."""

    batch: ArrowResultBatch
    body: bytes
    rows: int
    name: str
    lease: Lease

    @classmethod
    def of(
        cls, batch: ArrowResultBatch, connection: Any, rows: int, name: str, lease: Lease
    ) -> Self:
        """Fetch it. Raises NETWORK_ERRORS."""
        if batch.uncompressed_size is None:  # it came with the answer
            return cls(batch, b"", rows, name, lease)
        body: bytes = batch._download(connection=connection).content
        lease.resize(len(body))
        return cls(batch, body, rows, name, lease)

    def tables(self, widths: int) -> Iterator[pa.Table]:
        """The rows, part by part; `widths` is what `row_bytes` tells. Raises RetriableError if they are not
        whole."""
        found = 0
        parts = self._parts(widths)
        while (part := self._next(parts)) is not None:
            found += part.num_rows
            yield part
            part = None
        if not found == self.rows == self.batch.rowcount:
            raise self._short(found)

    def _next(self, parts: Iterator[pa.Table]) -> pa.Table | None:
        try:
            return next(parts, None)
        except (*NETWORK_ERRORS, MemoryError, RetriableError):
            raise
        except Exception as error:  # noqa: BLE001
            # The decoder raises Exception itself for bytes that it can't read. Fetched again, they may be whole.
            raise RetriableError(f"{self.name} can't be read: {type(error).__name__}") from None

    def _parts(self, widths: int) -> Iterator[pa.Table]:
        if not self.body:
            try:
                yield self.batch.to_arrow()
            except (IndexError, ValueError):
                # The connector's answers to a batch without any stream, and to a stream without any batch.
                raise self._short(0) from None
            return
        with pa.ipc.open_stream(self.body) as stream:
            batches = list(stream)  # views of the body
        found = sum(batch.num_rows for batch in batches)
        if found != self.rows:
            raise self._short(found)
        for batch in batches:
            batch.validate()
            weight = widths + batch.nbytes // max(batch.num_rows, 1)
            rows = max(1, PART_BYTES // max(weight, 1))
            if len(batches) == 1 and batch.num_rows <= rows:
                yield self._decoded(self.body)
                return
            for start in range(0, batch.num_rows, rows):
                yield self._decoded(_stream(batch.slice(start, rows)))

    def _decoded(self, body: bytes) -> pa.Table:
        tables = self.batch._from_data(body, IterUnit.TABLE_UNIT)
        return next(tables)

    def _short(self, found: int) -> RetriableError:
        return RetriableError(
            f"{self.name} came with {found:,} rows, "
            f"{self.batch.rowcount:,} were declared and {self.rows:,} expected"
        )

    def release(self) -> None:
        """Let go of the body."""
        self.body = b""
        self.lease.release()


def _stream(batch: pa.RecordBatch) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, batch.schema) as writer:
        writer.write_batch(batch)
    return bytes(sink.getvalue().to_pybytes())
