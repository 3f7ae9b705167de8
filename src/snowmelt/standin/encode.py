"""Results as Arrow the way Snowflake sends them: scaled integers, structs for times, metadata."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from snowmelt.standin.types import UTC_OFFSET, SfType

Ints = npt.NDArray[np.int64]

_WIDTHS = ((pa.int8(), np.int8), (pa.int16(), np.int16), (pa.int32(), np.int32))
_NO_FRACTION = 6  # up to so many digits of a second a timestamp is one integer
_FRACTION_DIGITS = 9
# Nanoseconds since 1970 fit 64 bits for so many microseconds: years 1678 to 2261.
_NANOSECOND_RANGE = 9_223_372_036_854_775


@dataclass(frozen=True, slots=True)
class Output:
    """A column of a result: its name, its type, and where the rows are in DuckDB's answer."""

    name: str
    type: SfType
    nullable: bool
    position: int
    companion: int | None = None


def stream(table: pa.Table) -> bytes:
    """The table as an Arrow IPC stream; without rows it has no batch. Snowflake sends no batch without rows, and
    the connector, read row by row, takes one for a row that is not there and may end the process."""
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return bytes(sink.getvalue().to_pybytes())


def encoded(table: pa.Table, outputs: Sequence[Output], *, compact: bool = False) -> pa.Table:
    """One chunk, from DuckDB's rows of it.

    `compact` sends nanosecond timestamps as one integer where the chunk's values fit.
    """
    arrays, fields = [], []
    for output in outputs:
        values = table.column(output.position).combine_chunks()
        companion = None
        if output.companion is not None:
            companion = table.column(output.companion).combine_chunks()
        if isinstance(values, pa.ChunkedArray):  # of no rows: older versions of pyarrow
            values = pa.array([], values.type)
        array, extra = _column(values, companion, output.type, compact)
        metadata = {
            "logicalType": output.type.kind,
            "precision": str(output.type.precision or 38),
            "scale": str(output.type.scale),
            "charLength": str(output.type.length if output.type.kind == "TEXT" else 0),
            "byteLength": extra or str(output.type.length),
            "finalType": "T",
        }
        arrays.append(array)
        fields.append(pa.field(output.name, array.type, output.nullable, metadata))
    schema = pa.schema(fields)
    if not fields:
        return pa.table({})
    return pa.Table.from_arrays(arrays, schema=schema)


def _column(values: Any, companion: Any, of: SfType, compact: bool) -> tuple[Any, str | None]:
    """The encoded column, and its byteLength where that says how it is encoded."""
    if of.kind == "TIMESTAMP_TZ":
        return _timestamp_tz(values, companion, of.scale)
    if of.is_timestamp:
        return _timestamp(values, companion, of.scale, compact), None
    plain = _PLAIN.get(of.kind)
    if plain is not None:
        return pc.cast(values, plain), None
    if of.kind == "FIXED":
        return _fixed(values, of), None
    if of.kind == "TIME":
        return _time(values, companion, of.scale), None
    return _texts(values), None


_PLAIN = {"REAL": pa.float64(), "BOOLEAN": pa.bool_(), "DATE": pa.date32(), "BINARY": pa.binary()}


def _texts(values: Any) -> Any:
    if pa.types.is_string(values.type):
        return values
    if pa.types.is_nested(values.type):
        return pa.array([None if v is None else str(v) for v in values.to_pylist()], pa.string())
    return pc.cast(values, pa.string())


def _fixed(values: Any, of: SfType) -> Any:
    if pa.types.is_null(values.type):
        return pa.nulls(len(values), pa.int8())
    decimal = pa.decimal128(38, of.scale)
    if not pa.types.is_decimal(values.type) or values.type.scale != of.scale:
        values = pc.cast(values, decimal)
    missing, halves = _mask(values), _halves(values)
    low, high = np.where(missing, 0, halves[:, 0]), np.where(missing, 0, halves[:, 1])
    if not np.array_equal(low >> 63, high):
        return values.cast(decimal)
    return _narrow(low, missing)


def _halves(values: Any) -> Ints:
    """The 128-bit integers of a decimal array, low words and high words."""
    data = values.buffers()[1]
    if data is None:
        return np.zeros((len(values), 2), np.int64)
    words = np.frombuffer(data, np.int64)[2 * values.offset :]
    return words[: 2 * len(values)].reshape(-1, 2)


def _narrow(numbers: Ints, missing: npt.NDArray[np.bool_]) -> Any:
    least, most = (int(numbers.min()), int(numbers.max())) if len(numbers) else (0, 0)
    for arrow, width in _WIDTHS:
        limits = np.iinfo(width)
        if limits.min <= least and most <= limits.max:
            return pa.array(numbers.astype(width), arrow, mask=missing)
    return pa.array(numbers, pa.int64(), mask=missing)


def _mask(values: Any) -> npt.NDArray[np.bool_]:
    mask: npt.NDArray[np.bool_] = pc.is_null(values).to_numpy(zero_copy_only=False)
    return mask


def _ints(values: Any) -> Ints:
    """The integers of an array, 0 where there is no value."""
    filled = pc.fill_null(pc.cast(values, pa.int64()), 0)
    result: Ints = filled.to_numpy(zero_copy_only=False)
    return result


def _micros(values: Any) -> Ints:
    if pa.types.is_timestamp(values.type) and values.type.unit != "us":
        values = pc.cast(values, pa.timestamp("us", values.type.tz), safe=False)
    return _ints(values)


def _nanoseconds(companion: Any, rows: int) -> Ints:
    return _ints(companion) % 1000 if companion is not None else np.zeros(rows, np.int64)


def _parts(micros: Ints, nanoseconds: Ints, scale: int) -> tuple[Ints, Ints]:
    """Whole seconds, rounded down, and the nanoseconds after them cut to the scale."""
    fraction = (micros % 1_000_000) * 1000 + nanoseconds
    return micros // 1_000_000, fraction - fraction % 10 ** (_FRACTION_DIGITS - scale)


def _time(values: Any, companion: Any, scale: int) -> Any:
    missing, micros = _mask(values), _ints(values)
    nanos = micros * 1000 + _nanoseconds(companion, len(values))
    numbers = nanos // 10 ** (_FRACTION_DIGITS - scale)
    # 86,400 seconds with four digits of fraction are the last that 32 bits hold.
    if not len(numbers) or int(numbers.max()) < 2**31:
        return pa.array(numbers.astype(np.int32), pa.int32(), mask=missing)
    return pa.array(numbers, pa.int64(), mask=missing)


def _timestamp(values: Any, companion: Any, scale: int, compact: bool) -> Any:
    missing, micros = _mask(values), _micros(values)
    if scale <= _NO_FRACTION:
        return pa.array(micros // 10 ** (_NO_FRACTION - scale), pa.int64(), mask=missing)
    nanoseconds = _nanoseconds(companion, len(values))
    if compact and (not len(micros) or int(np.abs(micros).max()) < _NANOSECOND_RANGE):
        whole = (micros * 1000 + nanoseconds) // 10 ** (_FRACTION_DIGITS - scale)
        return pa.array(whole, pa.int64(), mask=missing)
    epoch, fraction = _parts(micros, nanoseconds, scale)
    return _struct({"epoch": epoch, "fraction": fraction}, missing)


def _timestamp_tz(values: Any, companion: Any, scale: int) -> tuple[Any, str]:
    missing, micros = _mask(values), _micros(values)
    if companion is None:
        zone = np.full(len(values), UTC_OFFSET, np.int64)
    else:
        zone = np.where(missing, UTC_OFFSET, _ints(companion) // 1000)
    if scale <= 3:
        epoch = micros // 10 ** (_NO_FRACTION - scale)
        return _struct({"epoch": epoch, "timezone": zone}, missing), "8"
    epoch, fraction = _parts(micros, _nanoseconds(companion, len(values)), scale)
    return _struct({"epoch": epoch, "fraction": fraction, "timezone": zone}, missing), "16"


def _struct(children: dict[str, Ints], missing: npt.NDArray[np.bool_]) -> Any:
    types = {"epoch": pa.int64(), "fraction": pa.int32(), "timezone": pa.int32()}
    fields = [pa.field(name, types[name], nullable=False) for name in children]
    arrays = [pa.array(numbers).cast(types[name]) for name, numbers in children.items()]
    return pa.StructArray.from_arrays(arrays, fields=fields, mask=pa.array(missing))


_JSON: dict[str, Callable[[object], str]] = {
    "BOOLEAN": lambda value: "1" if value else "0",
}


def json_value(value: object, of: SfType) -> str | None:
    """A value in a JSON rowset, which carries text only. Timestamps are microseconds since 1970."""
    if value is None:
        return None
    if of.is_timestamp:
        assert isinstance(value, int)
        return f"{value // 1_000_000}.{value % 1_000_000:06d}000"
    return _JSON.get(of.kind, str)(value)
