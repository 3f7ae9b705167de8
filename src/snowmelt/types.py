"""Type facts: which Snowflake type is read as which Arrow type, which Arrow type becomes which PostgreSQL type,
and which may be loaded into which.

One table for each, so that the source, the encoder, the DDL, the plan and the page of the docs can't disagree. A
pair that is not here is refused at planning: nothing is approximated on the way.
"""

from __future__ import annotations

import re
from collections.abc import Callable
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
    """A PostgreSQL type as `format_type` spells it, taken apart; what the spelling does not say is None.

    `precision` is that of a numeric or of a time, `scale` that of a numeric, and `length` the most characters of a
    text, which are `padded` with blanks to it where the type is char.
    """

    wire: Wire
    scale: int | None = None
    precision: int | None = None
    length: int | None = None
    padded: bool = False


_SAME_WIRE = {"character varying": Wire.TEXT, "character": Wire.TEXT, "citext": Wire.TEXT}
_TYPMOD = re.compile(r"\((\d+)(?:,(-?\d+))?\)")


def target_type(spelling: str) -> TargetType | None:
    """Take a `format_type` spelling apart; None for a type that can't be loaded.

    >>> target_type("numeric(18,4)")
    TargetType(wire=<Wire.NUMERIC: 'numeric'>, scale=4, precision=18, length=None, padded=False)
    >>> target_type("point") is None
    True
    """
    modifier = _TYPMOD.search(spelling)
    base = _TYPMOD.sub("", spelling).strip()
    base = re.sub(r"\s+", " ", base)
    wire = _SAME_WIRE.get(base) or next((known for known in Wire if known.value == base), None)
    if wire is None:
        return None
    if modifier is None:
        return TargetType(wire)
    first = int(modifier[1])
    match wire:
        case Wire.NUMERIC:
            return TargetType(wire, int(modifier[2] or 0), first)
        case Wire.TEXT:
            return TargetType(wire, length=first, padded=base == "character")
        case _:
            return TargetType(wire, precision=first)


def created_type(type: pa.DataType, source_type: str = "") -> str | None:
    """The PostgreSQL type of a column that is created for this source type; None if there is none.

    >>> created_type(pa.decimal128(18, 4))
    'numeric(18,4)'
    """
    if source_type.upper() == "UUID":
        return "uuid"
    if source_type.upper() in {"JSON", "VARIANT"}:
        return "jsonb"
    if _is_text(type) and snowflake_fact(source_type).json:
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


@dataclass(frozen=True, slots=True)
class SnowflakeType:
    """A Snowflake type as DESCRIBE TABLE spells it, taken apart; what the spelling leaves out is Snowflake's
    default: https://docs.snowflake.com/en/sql-reference/intro-summary-data-types"""

    name: str
    precision: int = 38
    scale: int = 0


@dataclass(frozen=True, slots=True)
class SnowflakeFact:
    """What happens to a Snowflake type on its way. `json` and `text` say that it is read as text."""

    names: tuple[str, ...]
    arrow: Callable[[SnowflakeType], pa.DataType]
    note: str = ""
    json: bool = False
    text: bool = False


_SPELLING = re.compile(r"([A-Z][A-Z0-9_ ]*)(?:\(\s*(\d+)\s*(?:,\s*(\d+)\s*)?\))?.*", re.DOTALL)
_SCALED = frozenset({"TIME", "DATETIME"})
INT64_DIGITS = 18
"""An integer of so many digits is always an int64; one of 19 may not be."""


def snowflake_type(spelling: str) -> SnowflakeType:
    """Take a spelling apart. Of times the one number is the scale, 9 if it is left out.

    >>> snowflake_type("NUMBER(38,0)"), snowflake_type("TIMESTAMP_TZ(3)").scale, snowflake_type("TIME").scale
    (SnowflakeType(name='NUMBER', precision=38, scale=0), 3, 9)
    """
    match = _SPELLING.fullmatch(spelling.upper().strip())
    if match is None:
        return SnowflakeType(spelling.upper())
    name, first, second = match[1].strip(), match[2], match[3]
    if name in _SCALED or name.startswith("TIMESTAMP"):
        return SnowflakeType(name, 38, 9 if first is None else int(first))
    return SnowflakeType(name, int(first or 38), int(second or 0))


def snowflake_fact(spelling: str) -> SnowflakeFact:
    """The row of the table for a type; that of other types, read as text, for one that is in no row."""
    name = snowflake_type(spelling).name
    return next((fact for fact in SNOWFLAKE_FACTS if name in fact.names), OTHER_SNOWFLAKE_TYPES)


def _number(type: SnowflakeType) -> pa.DataType:
    if type.scale or type.precision > INT64_DIGITS:
        return pa.decimal128(type.precision, type.scale)
    if type.precision <= 4:
        return pa.int16()
    return pa.int32() if type.precision <= 9 else pa.int64()


def _fraction(type: SnowflakeType) -> str:
    return "ns" if type.scale > 6 else "us"


SNOWFLAKE_FACTS = (
    SnowflakeFact(
        (
            "NUMBER",
            "DECIMAL",
            "NUMERIC",
            "INT",
            "INTEGER",
            "BIGINT",
            "SMALLINT",
            "TINYINT",
            "BYTEINT",
        ),
        _number,
        "over 18 digits without decimal places, as Snowflake's default integer NUMBER(38,0): bigint where the "
        "values of the snapshot fit, else numeric; a value that does not fit the target is an error",
    ),
    SnowflakeFact(
        ("FLOAT", "FLOAT4", "FLOAT8", "DOUBLE", "DOUBLE PRECISION", "REAL"),
        lambda _: pa.float64(),
        "NaN and infinities included",
    ),
    SnowflakeFact(("VARCHAR", "STRING", "TEXT", "CHAR", "CHARACTER"), lambda _: pa.string()),
    SnowflakeFact(("BOOLEAN",), lambda _: pa.bool_()),
    SnowflakeFact(("DATE",), lambda _: pa.date32()),
    SnowflakeFact(
        ("TIME",),
        lambda _: pa.time64("us"),
        "digits below the microsecond are dropped, and the values counted",
    ),
    SnowflakeFact(
        ("TIMESTAMP_NTZ", "DATETIME"),
        lambda type: pa.timestamp(_fraction(type)),
        "digits below the microsecond are dropped, also before 1970, and the values counted",
    ),
    SnowflakeFact(
        ("TIMESTAMP_LTZ",),
        lambda type: pa.timestamp(_fraction(type), tz="UTC"),
        "as TIMESTAMP_NTZ",
    ),
    SnowflakeFact(
        ("TIMESTAMP_TZ",),
        lambda type: pa.timestamp(_fraction(type), tz="UTC"),
        "the instant is kept, the zone that each value was written in is not; else as TIMESTAMP_NTZ",
    ),
    SnowflakeFact(("BINARY", "VARBINARY"), lambda _: pa.binary()),
    SnowflakeFact(
        ("VARIANT", "OBJECT", "ARRAY", "MAP"),
        lambda _: pa.string(),
        "as JSON; what jsonb can't hold, such as NaN, is an error, and so is the character NUL unless "
        "`nul_characters` says what becomes of it",
        json=True,
    ),
)
OTHER_SNOWFLAKE_TYPES = SnowflakeFact(
    (), lambda _: pa.string(), "as text, with a note in the plan", text=True
)
