"""Arrow record batches -> the bytes of binary COPY, each column encoded for its target column's exact type.

A value that the target type can't hold is found here, before COPY, and named with its column and key: `values`
looks for what would be refused, casts for what would become another value. What only the server can judge, such as
constraints, comes back from COPY as a row number, for which the keys of the rows sent last are kept.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc

from snowmelt.choices import NulCharacters
from snowmelt.errors import ValueDoesNotFit
from snowmelt.model import Piece, TargetTable
from snowmelt.postgres.misfits import Misfit, shown_key
from snowmelt.postgres.nuls import Changes, without_nuls
from snowmelt.postgres.values import NULS, Check, Fault, check, unconvertible
from snowmelt.postgres.writers import writer_of
from snowmelt.types import TargetType, Wire

_HEADER = b"PGCOPY\n\xff\r\n\0" + bytes(8)
PIECE_BYTES = 4 << 20
"""Arrow bytes encoded at a time; what is in flight per worker is a small multiple of it."""
TRAIL_BYTES = 32 << 20
"""Arrow bytes whose keys are remembered from when they are encoded: more than what waits to be sent, and what
libpq and sockets buffer."""

Convert = Callable[[pa.Array], pa.Array]

_US_MIN = -210_866_803_200_000_000  # 4713-11-24 BC, the first timestamp that PostgreSQL has
_INFINITE = (1 << 63) - 1  # what DuckDB keeps for 'infinity'; PostgreSQL would read it as a year
_DAY_MIN, _DAY_MAX = -2_440_588, 2_145_042_905

_ARROW = {
    Wire.BOOL: pa.bool_(),
    Wire.INT2: pa.int16(),
    Wire.INT4: pa.int32(),
    Wire.INT8: pa.int64(),
    Wire.FLOAT4: pa.float32(),
    Wire.FLOAT8: pa.float64(),
    Wire.TEXT: pa.string(),
    Wire.BYTEA: pa.binary(),
    Wire.DATE: pa.date32(),
    Wire.TIME: pa.time64("us"),
    Wire.TIMESTAMP: pa.timestamp("us"),
    Wire.TIMESTAMPTZ: pa.timestamp("us", tz="UTC"),
    Wire.UUID: pa.binary(16),
    Wire.JSON: pa.string(),
    Wire.JSONB: pa.string(),
}


@dataclass(frozen=True, slots=True)
class EncodedColumn:
    """A column on its way: the Arrow type it arrives in, and the target type it is encoded for."""

    name: str
    type: pa.DataType
    target: TargetType
    nullable: bool = True


@dataclass(frozen=True, slots=True)
class _Sent:
    """Rows that were encoded: where they begin in this COPY, how many they are, what they weighed in Arrow, and
    their keys as the bytes of a record batch of the schema."""

    first: int
    rows: int
    bytes: int
    schema: pa.Schema
    keys: pa.Buffer | None


class Encoder:
    """Encodes the batches of one COPY: `header`, then `pieces` of each batch, then `trailer`.

    Batches must have the columns given, in their order and of their types; `key` names the columns that
    identify a row in messages, and `table` is the one that remedies name.
    """

    def __init__(
        self,
        columns: Sequence[EncodedColumn],
        key: Sequence[str],
        table: TargetTable | None = None,
        nul_characters: NulCharacters = NulCharacters.FAIL,
    ) -> None:
        self._columns = tuple(columns)
        self._key = tuple(key)
        self._table = table
        self._nul_characters = nul_characters
        self._converts = tuple(_convert(column) for column in columns)
        self.floored = 0
        """Values so far whose digits below the microsecond were dropped."""
        self.changes = Changes(nul_characters)
        """Values so far that lost their NUL characters."""
        self._schema = pa.schema([(column.name, _wire_type(column)) for column in columns])
        self._checks = tuple(
            check(column.target, field.type, nullable=column.nullable)
            for column, field in zip(columns, self._schema, strict=True)
        )
        self._trail: deque[_Sent] = deque()
        self._trail_bytes = 0
        self._rows = 0
        self._writer = writer_of(self._schema, [column.target.wire for column in columns])

    def header(self) -> bytes:
        return _HEADER

    def pieces(self, batch: pa.RecordBatch) -> Iterator[Piece]:
        """The batch's rows as COPY tuples, some megabytes at a time. Raises ValueDoesNotFit."""
        pieces = max(1, round(batch.nbytes / PIECE_BYTES))
        rows = max(1, -(-batch.num_rows // pieces))
        for start in range(0, batch.num_rows, rows):
            piece = batch.slice(start, rows)
            self._remember(piece)
            yield Piece(piece.num_rows, self._writer.write(self._converted(piece)))

    def trailer(self) -> bytes:
        return self._writer.trailer()

    def _converted(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        arrays = []
        for column, convert, checked, array in zip(
            self._columns, self._converts, self._checks, batch.columns, strict=True
        ):
            try:
                converted = convert(array)
            except pa.ArrowInvalid as error:
                row, fault = unconvertible(convert, array).first()
                raise self._misfit(batch, column, array, row, fault) from error
            arrays.append(self._fitting(batch, column, checked, converted))
            if _in_nanoseconds(column.type):
                self.floored += _finer_than_microseconds(array)
        return pa.RecordBatch.from_arrays(arrays, schema=self._schema)

    def _fitting(
        self, batch: pa.RecordBatch, column: EncodedColumn, checked: Check, array: pa.Array
    ) -> pa.Array:
        """The column as it is sent, without its NUL characters if they are not to fail. Raises ValueDoesNotFit."""
        faults = checked.faults(array)
        if faults is None:
            return array
        rows, instead = faults.mask(*NULS), self._nul_characters.replacement
        if instead is not None and pc.any(rows).as_py():
            escapes = column.target.wire is Wire.JSONB
            array = without_nuls(array, rows, instead, escapes=escapes)
            self.changes.note(column.name, rows, lambda row: self._key_of(batch, row))
            faults = checked.faults(array)  # of what is left
            if faults is None:
                return array
        row, fault = faults.first()
        raise self._misfit(batch, column, array, row, fault)

    def _misfit(
        self,
        batch: pa.RecordBatch,
        column: EncodedColumn,
        array: pa.Array,
        row: int,
        fault: Fault,
    ) -> ValueDoesNotFit:
        """The error of a row; the array may be the column as it came, or as it would be sent."""
        text = array.slice(row, 1)
        if not pa.types.is_binary(array.type):
            text = text.cast(pa.string())
        misfit = Misfit(column.name, column.type, column.target, text[0].as_py(), self._table)
        return ValueDoesNotFit(
            misfit.what(fault),
            column=f'"{column.name}"',
            key=self._key_of(batch, row),
            remedy=misfit.remedy(fault),
        )

    def _remember(self, batch: pa.RecordBatch) -> None:
        keys = batch.select([name for name in self._key if name in batch.schema.names])
        # As bytes of their own: a slice would keep the whole batch's columns.
        kept = keys.serialize() if keys.num_columns else None
        self._trail.append(_Sent(self._rows, batch.num_rows, batch.nbytes, keys.schema, kept))
        self._trail_bytes += batch.nbytes
        self._rows += batch.num_rows
        while self._trail_bytes - self._trail[0].bytes > TRAIL_BYTES:
            self._trail_bytes -= self._trail.popleft().bytes

    def key_of_row(self, line: int) -> str:
        """The key of the line-th row of this COPY (from 1, as the server counts), as far as remembered."""
        for sent in self._trail:
            if sent.first < line <= sent.first + sent.rows and sent.keys is not None:
                keys = pa.ipc.read_record_batch(sent.keys, sent.schema)
                return self._key_of(keys, line - 1 - sent.first)
        return f"row {line} of the chunk"

    def _key_of(self, batch: pa.RecordBatch, row: int) -> str:
        names = [name for name in self._key if name in batch.schema.names]
        if not names:
            return f"row {self._rows - batch.num_rows + row + 1} of the chunk"
        return ", ".join(f'"{name}" = {shown_key(batch.column(name), row)}' for name in names)


def _wire_type(column: EncodedColumn) -> pa.DataType:
    if column.target.wire is not Wire.NUMERIC:
        return _ARROW[column.target.wire]
    if pa.types.is_decimal(column.type):
        scale = column.target.scale
        if scale is not None and column.type.scale > scale:
            return pa.decimal128(38, max(scale, 0))
        if column.type.scale < 0:
            return pa.decimal128(38, 0)
        # As it is: rewriting a column only to widen its precision cost a third of the encoding.
        return (
            column.type
            if pa.types.is_decimal128(column.type)
            else pa.decimal128(38, column.type.scale)
        )
    return pa.decimal128(20, 0)


def _convert(column: EncodedColumn) -> Convert:
    """The safe cast from the column's type to what is encoded; it raises ArrowInvalid on a misfit."""
    wire = _wire_type(column)
    decode = _decoded if pa.types.is_dictionary(column.type) else _same
    match column.target.wire:
        case Wire.UUID if not pa.types.is_fixed_size_binary(column.type):
            return lambda array: _uuid_bytes(decode(array))
        case Wire.TIMESTAMP | Wire.TIMESTAMPTZ if pa.types.is_timestamp(column.type):
            return lambda array: _microseconds(array, wire)
        case Wire.DATE:
            return lambda array: _within(array.cast(wire), pa.int32(), _DAY_MIN, _DAY_MAX)
        case Wire.TIME if column.type == pa.time64("ns"):
            return lambda array: _floored(array.cast(pa.int64())).cast(wire)
    if column.type == wire:
        return _same
    return lambda array: decode(array).cast(wire)


def _same(array: pa.Array) -> pa.Array:
    return array


def _decoded(array: pa.Array) -> pa.Array:
    return array.dictionary_decode()


def _microseconds(array: pa.Array, wire: pa.DataType) -> pa.Array:
    """Any unit to microseconds; nanoseconds by floor, since a cast would round toward zero before 1970."""
    whole = array.cast(pa.int64())
    if array.type.unit == "ns":
        # What stands for infinity is the last number there is: it would become a time of the year 2262.
        whole = _floored(_within(whole, pa.int64(), 1 - _INFINITE, _INFINITE - 1))
    elif array.type.unit != "us":
        whole = array.cast(wire).cast(pa.int64())
    return _within(whole, pa.int64(), _US_MIN, _INFINITE - 1).cast(wire)


def _in_nanoseconds(type: pa.DataType) -> bool:
    return bool((pa.types.is_timestamp(type) or pa.types.is_time64(type)) and type.unit == "ns")


def _finer_than_microseconds(array: pa.Array) -> int:
    whole = array.cast(pa.int64())
    finer = pc.not_equal(pc.multiply(pc.divide(whole, 1000), 1000), whole)
    return int(pc.sum(finer).as_py() or 0)


def _floored(nanoseconds: pa.Array) -> pa.Array:
    quotient = pc.divide(nanoseconds, 1000)
    short = pc.less(nanoseconds, pc.multiply(quotient, 1000))
    return pc.subtract(quotient, short.cast(pa.int64()))


def _within(array: pa.Array, integer: pa.DataType, low: int, high: int) -> pa.Array:
    bounds = pc.min_max(array.cast(integer))
    smallest, largest = bounds["min"].as_py(), bounds["max"].as_py()
    if smallest is not None and (smallest < low or largest > high):
        raise pa.ArrowInvalid("outside of PostgreSQL's range")
    return array


def _uuid_bytes(array: pa.Array) -> pa.Array:
    """Text such as 8-4-4-4-12 hexadecimal digits, dashes optional, to the 16 bytes that PostgreSQL reads."""
    digits = pc.replace_substring(array, "-", "")
    well_formed = pc.match_substring_regex(digits, "^[0-9a-fA-F]{32}$")
    if not pc.all(well_formed, min_count=0).as_py():
        raise pa.ArrowInvalid("not a UUID")
    filled = pc.fill_null(digits, "0" * 32)
    start = filled.offset * 32
    text = filled.buffers()[2].slice(start, 32 * len(filled)).to_pybytes() if len(filled) else b""
    raw = bytes.fromhex(text.decode("ascii"))
    values = pa.FixedSizeBinaryArray.from_buffers(
        pa.binary(16), len(array), [None, pa.py_buffer(raw)]
    )
    if not array.null_count:
        return values
    return pc.if_else(pc.is_valid(array), values, pa.scalar(None, pa.binary(16)))
