"""Type facts: which Arrow type becomes which PostgreSQL type, and which may be loaded into which.

One table, so that the encoder, the DDL and the plan can't disagree. A pair that is not here is refused at
planning: nothing is approximated on the way.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum

import pyarrow as pa


class Wire(StrEnum):
    """The binary COPY formats there are; each is the PostgreSQL type it is read into."""

    BOOL = "boolean"
    INT2 = "smallint"
    INT4 = "integer"
    INT8 = "bigint"
    NUMERIC = "numeric"
    FLOAT4 = "real"
    FLOAT8 = "double precision"
    TEXT = "text"
    BYTEA = "bytea"
    DATE = "date"
    TIME = "time without time zone"
    TIMESTAMP = "timestamp without time zone"
    TIMESTAMPTZ = "timestamp with time zone"
    UUID = "uuid"
    JSON = "json"
    JSONB = "jsonb"


@dataclass(frozen=True, slots=True)
class TargetType:
    """A PostgreSQL type as `format_type` spells it, taken apart; `scale` is None for unbounded numeric."""

    wire: Wire
    scale: int | None = None


_SAME_WIRE = {"character varying": Wire.TEXT, "character": Wire.TEXT, "citext": Wire.TEXT}
_TYPMOD = re.compile(r"\((\d+)(?:,(-?\d+))?\)")


def target_type(spelling: str) -> TargetType | None:
    """Take a `format_type` spelling apart; None for a type that can't be loaded.

    >>> target_type("numeric(18,4)")
    TargetType(wire=<Wire.NUMERIC: 'numeric'>, scale=4)
    >>> target_type("point") is None
    True
    """
    modifier = _TYPMOD.search(spelling)
    base = _TYPMOD.sub("", spelling).strip()
    base = re.sub(r"\s+", " ", base)
    wire = _SAME_WIRE.get(base) or next((known for known in Wire if known.value == base), None)
    if wire is None:
        return None
    if wire is Wire.NUMERIC and modifier:
        return TargetType(wire, int(modifier.group(2) or 0))
    return TargetType(wire)


def created_type(type: pa.DataType, source_type: str = "") -> str | None:
    """The PostgreSQL type of a column that is created for this source type; None if there is none.

    >>> created_type(pa.decimal128(18, 4))
    'numeric(18,4)'
    """
    if source_type.upper() == "UUID":
        return "uuid"
    if source_type.upper() in {"JSON", "VARIANT"}:
        return "jsonb"
    if source_type.upper() in {"HUGEINT", "UHUGEINT"}:
        return "numeric"
    if pa.types.is_decimal(type):
        return f"numeric({type.precision},{type.scale})"
    if pa.types.is_dictionary(type):
        return created_type(type.value_type)
    if pa.types.is_timestamp(type):
        return "timestamptz" if type.tz else "timestamp"
    return next((name for test, name in _CREATED if test(type)), None)


def loadable(type: pa.DataType, target: TargetType) -> bool:
    """Whether every value of the Arrow type either becomes the same value in the target, or is refused by
    name: a range is checked row by row, a rounding or a reinterpretation is not loadable at all."""
    if pa.types.is_dictionary(type):
        return loadable(type.value_type, target)
    if pa.types.is_null(type):
        return True
    return any(test(type) for test in _LOADABLE[target.wire])


def _is_text(type: pa.DataType) -> bool:
    tests = (pa.types.is_string, pa.types.is_large_string, pa.types.is_string_view)
    return any(test(type) for test in tests)


def _is_binary(type: pa.DataType) -> bool:
    tests = (
        pa.types.is_binary,
        pa.types.is_large_binary,
        pa.types.is_fixed_size_binary,
        pa.types.is_binary_view,
    )
    return any(test(type) for test in tests)


def _is_small_integer(type: pa.DataType) -> bool:
    return bool(pa.types.is_integer(type) and type.bit_width <= 32)


def _is_naive(type: pa.DataType) -> bool:
    return bool(pa.types.is_timestamp(type) and type.tz is None)


def _is_instant(type: pa.DataType) -> bool:
    return bool(pa.types.is_timestamp(type) and type.tz is not None)


def _is_small_float(type: pa.DataType) -> bool:
    return type in (pa.float16(), pa.float32())


_CREATED = (
    (pa.types.is_boolean, "boolean"),
    (lambda t: t in (pa.int8(), pa.uint8(), pa.int16()), "smallint"),
    (lambda t: t in (pa.uint16(), pa.int32()), "integer"),
    (lambda t: t in (pa.uint32(), pa.int64()), "bigint"),
    (lambda t: t == pa.uint64(), "numeric(20,0)"),
    (lambda t: t in (pa.float16(), pa.float32()), "real"),
    (pa.types.is_float64, "double precision"),
    (lambda t: _is_text(t) or pa.types.is_null(t), "text"),
    (_is_binary, "bytea"),
    (pa.types.is_date, "date"),
    (pa.types.is_time, "time"),
)
_INTEGERS = (pa.types.is_integer, pa.types.is_decimal)
_LOADABLE = {
    Wire.BOOL: (pa.types.is_boolean,),
    Wire.INT2: _INTEGERS,
    Wire.INT4: _INTEGERS,
    Wire.INT8: _INTEGERS,
    Wire.NUMERIC: _INTEGERS,
    Wire.FLOAT4: (_is_small_float,),
    Wire.FLOAT8: (pa.types.is_floating, _is_small_integer),
    Wire.TEXT: (_is_text,),
    Wire.BYTEA: (_is_binary,),
    Wire.DATE: (pa.types.is_date,),
    Wire.TIME: (pa.types.is_time,),
    Wire.TIMESTAMP: (_is_naive,),
    Wire.TIMESTAMPTZ: (_is_instant,),
    Wire.UUID: (_is_text, lambda t: pa.types.is_fixed_size_binary(t) and t.byte_width == 16),
    Wire.JSON: (_is_text,),
    Wire.JSONB: (_is_text,),
}
