"""Chunks: fixed sets of source rows, as typed values.

A range of a key is half open, `low <= key < high`, with None for an open end; rows whose key is NULL have a chunk
of their own. Both may lie within a range of another key, where one value of that one is too heavy for a chunk.
The chunks of a table are disjoint and total.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from snowmelt.chunking.bounds import Bound, bound_from_json, bound_to_json


class KeyKind(StrEnum):
    """What a key is ordered by. The kind of a key decides the types of its bounds."""

    DATE = "date"
    TIMESTAMP = "timestamp"
    INSTANT = "instant"
    """A timestamp with a zone: ordered, bounded and counted by its instant in UTC."""
    NUMBER = "number"
    FLOAT = "float"
    """NaN is equal to itself and comes last, as in Snowflake, DuckDB and PostgreSQL."""
    TEXT = "text"
    """In the binary order of UTF-8, whatever the column's collation."""
    UUID = "uuid"
    TEXT_NUMBER = "text_number"
    """Text read as a whole number of up to 38 digits; what is none counts as NULL."""

    @property
    def is_time(self) -> bool:
        return self in (KeyKind.DATE, KeyKind.TIMESTAMP, KeyKind.INSTANT)

    @property
    def is_text(self) -> bool:
        return self in (KeyKind.TEXT, KeyKind.UUID)


@dataclass(frozen=True, slots=True)
class Key:
    """A column that is ranged over, and how it is ordered.

    Where it is not `nullable`, no chunk for NULL is made; a range that exists does not depend on that.
    """

    column: str
    kind: KeyKind
    nullable: bool = field(default=True, compare=False)


@dataclass(frozen=True, slots=True)
class KeyRange:
    """Rows with `low <= key < high`; an end of None is open. NULL keys are not in it.

    `within` narrows it to rows of a range of another key.
    """

    key: Key
    low: Bound | None = None
    high: Bound | None = None
    within: KeyRange | NullKeys | None = None


@dataclass(frozen=True, slots=True)
class NullKeys:
    """Rows whose key is NULL, or is text that is no number where the key is read as one."""

    key: Key
    within: KeyRange | NullKeys | None = None


@dataclass(frozen=True, slots=True)
class WholeTable:
    """Every row."""


@dataclass(frozen=True, slots=True)
class QueryOnce:
    """No rows yet: the step that runs the table's one query. Its result makes the chunks after it."""


@dataclass(frozen=True, slots=True)
class ResultBatches:
    """Consecutive batches of a query's kept result, from the `first` on; `rows` has the rows of each."""

    query_id: str
    first: int
    rows: tuple[int, ...]


Span = KeyRange | NullKeys
Range = KeyRange | NullKeys | WholeTable | QueryOnce | ResultBatches


@dataclass(frozen=True, slots=True)
class Chunk:
    """A fixed set of source rows. `planned_rows` is None where nothing holds the rows still."""

    id: int
    range: Range
    planned_rows: int | None


def query_once() -> tuple[Chunk, ...]:
    """The one step of a table whose query has not run yet."""
    return (Chunk(0, QueryOnce(), 0),)


def whole_table(rows: int | None) -> tuple[Chunk, ...]:
    """The one chunk of a table without a key."""
    return (Chunk(0, WholeTable(), rows),)


def range_to_json(range: Range) -> dict[str, object]:
    """A range as the ledger stores it; `range_from_json` gives the same range back."""
    match range:
        case KeyRange(key, low, high, within):
            value: dict[str, object] = {
                "kind": "range",
                "column": key.column,
                "key": key.kind.value,
                "low": None if low is None else bound_to_json(low),
                "high": None if high is None else bound_to_json(high),
            }
            return value if within is None else {**value, "within": range_to_json(within)}
        case NullKeys(key, within):
            value = {"kind": "null", "column": key.column, "key": key.kind.value}
            return value if within is None else {**value, "within": range_to_json(within)}
        case WholeTable():
            return {"kind": "table"}
        case QueryOnce():
            return {"kind": "query"}
        case ResultBatches(query_id, first, rows):
            return {"kind": "result", "query_id": query_id, "first": first, "rows": list(rows)}


def range_from_json(value: Mapping[str, object]) -> Range:
    """Raises ValueError on a kind or a type of bound that this release does not know."""
    match value:
        case {"kind": "table"}:
            return WholeTable()
        case {"kind": "query"}:
            return QueryOnce()
        case {"kind": "null", "column": str(column)}:
            return NullKeys(Key(column, _kind(value)), _within(value))
        case {"kind": "range", "column": str(column), "low": low, "high": high}:
            return KeyRange(
                Key(column, _kind(value)),
                None if low is None else bound_from_json(low),
                None if high is None else bound_from_json(high),
                _within(value),
            )
        case {"kind": "result", "query_id": str(query_id), "first": int(first), "rows": list(rows)}:
            return ResultBatches(query_id, first, tuple(rows))
    raise ValueError(f"not a chunk range: {value!r}")


def _kind(value: Mapping[str, object]) -> KeyKind:
    """Release 0.2.0 had keys of time only, and did not store what they are: their bounds tell."""
    if "key" in value:
        return KeyKind(str(value["key"]))
    for end in (value.get("low"), value.get("high")):
        match end:
            case ["date" | "timestamp" | "instant" as kind, _]:
                return KeyKind(kind)
            case list():
                raise ValueError(f"not a bound of release 0.2.0: {end!r}")
    return KeyKind.TIMESTAMP


def _within(value: Mapping[str, object]) -> Span | None:
    outer = value.get("within")
    if outer is None:
        return None
    if isinstance(outer, Mapping):
        span = range_from_json(outer)
        if isinstance(span, KeyRange | NullKeys):
            return span
    raise ValueError(f"not a range to lie within: {outer!r}")
