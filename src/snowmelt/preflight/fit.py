"""What the types of a source may have, and what those of a target hold: numbers, digits, characters, bytes."""

from __future__ import annotations

import re
from dataclasses import dataclass
from decimal import Decimal

import pyarrow as pa

from snowmelt.model import Column, Relation, TargetColumn, TargetState
from snowmelt.types import (
    TargetType,
    Wire,
    created_type,
    loadable,
    snowflake_fact,
    target_type,
)

VALUE_BYTES = 0x3FFFFFFF - 4
"""MaxAllocSize of PostgreSQL less a value's header: the longest text or bytea, and about the longest row."""
_SNOWFLAKE_BYTES = 134_217_728
"""The longest text of Snowflake, whatever length in characters is declared:
https://docs.snowflake.com/en/sql-reference/data-types-text"""
UUID_CHARACTERS = 36


@dataclass(frozen=True, slots=True)
class Pair:
    """A column of the source and the column of the target that takes it."""

    source: Column
    target: TargetColumn
    type: TargetType


def pairs(relation: Relation, target: TargetState) -> tuple[Pair, ...]:
    """Each column that can be loaded beside the one that takes it, which is there or is to be created."""
    there = {column.name: column for column in target.columns}
    found = []
    for column in relation.columns:
        # What is not there by now is added before the load.
        one = there.get(column.into) or _created(column)
        type = target_type(one.type) if one and not one.generated else None
        if one and type and loadable(column.type, type):
            found.append(Pair(column, one, type))
    return tuple(found)


_FULL = {
    "timestamp": Wire.TIMESTAMP.value,
    "timestamptz": Wire.TIMESTAMPTZ.value,
    "time": Wire.TIME.value,
}
"""Types by the names that `created_type` gives them -> by those of `format_type`."""


def _created(column: Column) -> TargetColumn | None:
    type = created_type(column.type, column.source_type)
    return TargetColumn(column.into, _FULL.get(type, type), column.nullable) if type else None


@dataclass(frozen=True, slots=True)
class Numbers:
    """The numbers of a type, from `low` to `high`, with so many digits after the point; None for no bound."""

    low: int | Decimal | None
    high: int | Decimal | None
    digits: int


def _decimals(precision: int, scale: int) -> Numbers:
    # Made of digits: arithmetic on Decimal would round to 28 of them.
    high = Decimal((0, (9,) * precision, -scale))
    return Numbers(high.copy_negate(), high, scale)


def _integers(bits: int) -> Numbers:
    half = 1 << bits - 1
    return Numbers(-half, half - 1, 0)


def source_numbers(column: Column) -> Numbers | None:
    """None for what is no number of whole or decimal digits."""
    type = column.type
    if pa.types.is_decimal(type):
        # These have more than the 38 digits of their Arrow type.
        if column.source_type.upper() in {"HUGEINT", "UHUGEINT"}:
            return Numbers(None, None, 0)
        return _decimals(type.precision, type.scale)
    if pa.types.is_unsigned_integer(type):
        return Numbers(0, (1 << type.bit_width) - 1, 0)
    return _integers(type.bit_width) if pa.types.is_integer(type) else None


_INTEGER_BITS = {Wire.INT2: 16, Wire.INT4: 32, Wire.INT8: 64}


def target_numbers(pair: Pair) -> Numbers | None:
    """None for a type that holds all numbers that can be loaded into it."""
    wire = pair.type.wire
    if wire in _INTEGER_BITS:
        return _integers(_INTEGER_BITS[wire])
    given = typmod(pair.target.type) if wire is Wire.NUMERIC else None
    return _decimals(*given) if given else None


_TYPMOD = re.compile(r"\((\d+)(?:,\s*(-?\d+))?\)")


def typmod(spelling: str) -> tuple[int, int] | None:
    """The numbers in a type's parentheses; the second is 0 where there is one only.

    >>> typmod("numeric(5,-2)"), typmod("timestamp(3) without time zone"), typmod("text")
    ((5, -2), (3, 0), None)
    """
    match = _TYPMOD.search(spelling)
    return (int(match[1]), int(match[2] or 0)) if match else None


_SECOND_DIGITS = {"s": 0, "ms": 3, "us": 6, "ns": 6}
"""Of nanoseconds the digits below the microsecond are dropped on the way."""


def second_digits(column: Column) -> int:
    """Digits of a second that the column's times may have where they are loaded."""
    given = typmod(column.source_type)
    return min(_SECOND_DIGITS[column.type.unit], given[0] if given else 9)


_BASE = re.compile(r"[A-Z_ ]*")
_TEXTS = frozenset({"", "VARCHAR", "STRING", "TEXT", "CHAR", "CHARACTER", "ENUM"})
_BINARIES = frozenset({"", "BLOB", "BINARY", "VARBINARY"})


def _base(column: Column) -> str:
    """The source type's name, without what stands in parentheses."""
    match = _BASE.match(column.source_type.upper())
    return match[0].strip() if match else ""


def is_text(column: Column) -> bool:
    """Text that is one in the source too, not only on its way."""
    type = column.type.value_type if pa.types.is_dictionary(column.type) else column.type
    texts = (pa.types.is_string, pa.types.is_large_string, pa.types.is_string_view)
    return any(test(type) for test in texts) and _base(column) in _TEXTS


def is_binary(column: Column) -> bool:
    """Bytes that are such in the source too."""
    binaries = (pa.types.is_binary, pa.types.is_large_binary, pa.types.is_binary_view)
    return any(test(column.type) for test in binaries) and _base(column) in _BINARIES


def is_json(column: Column) -> bool:
    """What the source has as JSON."""
    base = _base(column)
    return base in {"JSON", "VARIANT"} or snowflake_fact(base).json


def most_characters(column: Column) -> int | None:
    """Of a value, by its type; None where the type sets no end."""
    return UUID_CHARACTERS if _base(column) == "UUID" else _declared(column)


def most_bytes(column: Column) -> int | None:
    """Of a text or binary value, by its type; None where the type sets no end."""
    length = _declared(column)
    if length is None or is_binary(column):
        return length
    return min(4 * length, _SNOWFLAKE_BYTES)


def _declared(column: Column) -> int | None:
    """The length that a type of Snowflake is declared with; no other source holds to one."""
    given = typmod(column.source_type)
    return given[0] if given and _base(column) in (_TEXTS | _BINARIES) - {"ENUM"} else None


_LONG = frozenset({Wire.TEXT, Wire.JSON, Wire.JSONB, Wire.BYTEA})


def is_long(pair: Pair) -> bool:
    """Whether values may have any number of bytes, which the source can tell."""
    return pair.type.wire in _LONG and (is_text(pair.source) or is_binary(pair.source))


_WIDTHS = {
    Wire.BOOL: 1,
    Wire.INT2: 2,
    Wire.INT4: 4,
    Wire.INT8: 8,
    Wire.FLOAT4: 4,
    Wire.FLOAT8: 8,
    Wire.DATE: 4,
    Wire.TIME: 8,
    Wire.TIMESTAMP: 8,
    Wire.TIMESTAMPTZ: 8,
    Wire.UUID: 16,
}


def width(pair: Pair) -> int | None:
    """Bytes of each value of the column on a page; None where they differ, and are one at least."""
    return _WIDTHS.get(pair.type.wire)


def alignment(pair: Pair) -> int:
    """Of each value on a page, in bytes; 1 where short values have none.

    By `typalign` of pg_type, where 16 bytes of a UUID stand anywhere.
    """
    return 1 if pair.type.wire is Wire.UUID else width(pair) or 1
