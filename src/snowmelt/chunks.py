"""Key histogram -> chunks.

A chunk is a typed range over one key column: half open, `low <= key < high`, with None for an open end. The
chunks of a table are disjoint and total: the first has no low end, the last no high end, and rows whose key is
NULL have a chunk of their own. Bounds are Python values, never SQL text, and survive the ledger's JSON exactly.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from typing import Literal

Bound = date | datetime
"""A naive datetime is a timestamp without zone; an aware one is an instant, always in UTC."""

DAY_US = 86_400_000_000
FAR_OVER = 2
"""A day is split by time of day when it holds more than this many batches: below that, the parts of an
unknown distribution would be no better balanced than the whole."""


@dataclass(frozen=True, slots=True)
class KeyRange:
    """Rows with `low <= column < high`; an end of None is open. NULL keys are not in it."""

    column: str
    low: Bound | None = None
    high: Bound | None = None


@dataclass(frozen=True, slots=True)
class NullKeys:
    """Rows whose key is NULL."""

    column: str


@dataclass(frozen=True, slots=True)
class WholeTable:
    """Every row."""


Range = KeyRange | NullKeys | WholeTable


@dataclass(frozen=True, slots=True)
class Chunk:
    """A fixed set of source rows. `planned_rows` is None where only its group was counted."""

    id: int
    range: Range
    planned_rows: int | None


KeyKind = Literal["date", "timestamp", "instant"]


@dataclass(frozen=True, slots=True)
class DayHistogram:
    """Rows per day of a key, from one aggregated query; days ascend, an instant's days are UTC days.

    Keys outside the years 1 to 9999 are counted on the first or last day that Python has, which keeps them in
    the open-ended chunks.
    """

    column: str
    kind: KeyKind
    days: tuple[tuple[date, int], ...]
    nulls: int
    nullable: bool = True

    @property
    def rows(self) -> int:
        return sum(count for _, count in self.days) + self.nulls


@dataclass(frozen=True, slots=True)
class DateRangeStrategy:
    """Days merged up to `batch_size` rows; a day far over it is split by time of day."""

    batch_size: int

    def chunks(self, histogram: DayHistogram) -> tuple[Chunk, ...]:
        """Chunks that cover every key there is or could be, NULL included."""
        pieces = list(self._pieces(histogram)) or [(None, 0)]
        lows = [None, *(low for low, _ in pieces[1:])]
        highs = [*lows[1:], None]
        ranges: list[tuple[Range, int | None]] = [
            (KeyRange(histogram.column, low, high), rows)
            for low, high, (_, rows) in zip(lows, highs, pieces, strict=True)
        ]
        if histogram.nullable or histogram.nulls:
            ranges.append((NullKeys(histogram.column), histogram.nulls))
        return tuple(Chunk(id, range, rows) for id, (range, rows) in enumerate(ranges))

    def _pieces(self, histogram: DayHistogram) -> Iterator[tuple[Bound | None, int | None]]:
        """(low bound, planned rows) of each piece, ascending; a piece ends where the next begins."""
        start: date | None = None
        rows = 0
        for day, count in histogram.days:
            splits = histogram.kind != "date" and count > FAR_OVER * self.batch_size
            if start is not None and (splits or rows + count > self.batch_size):
                yield _midnight(start, histogram.kind), rows
                start, rows = None, 0
            if splits:
                yield from self._parts(day, count, histogram.kind)
            else:
                start = start or day
                rows += count
        if start is not None:
            yield _midnight(start, histogram.kind), rows

    def _parts(self, day: date, count: int, kind: KeyKind) -> Iterator[tuple[Bound, None]]:
        parts = -(-count // self.batch_size)
        midnight = datetime.combine(day, time(), UTC if kind == "instant" else None)
        for part in range(parts):
            yield midnight + timedelta(microseconds=DAY_US * part // parts), None


def whole_table(rows: int) -> tuple[Chunk, ...]:
    """The one chunk of a table without a key."""
    return (Chunk(0, WholeTable(), rows),)


def _midnight(day: date, kind: KeyKind) -> Bound:
    if kind == "date":
        return day
    return datetime.combine(day, time(), UTC if kind == "instant" else None)


def range_to_json(range: Range) -> dict[str, object]:
    """A range as the ledger stores it; `range_from_json` gives the same range back."""
    match range:
        case KeyRange(column, low, high):
            return {
                "kind": "range",
                "column": column,
                "low": _bound_to_json(low),
                "high": _bound_to_json(high),
            }
        case NullKeys(column):
            return {"kind": "null", "column": column}
        case WholeTable():
            return {"kind": "table"}


def range_from_json(value: Mapping[str, object]) -> Range:
    """Raises ValueError on a kind or a type of bound that this release does not know."""
    kind, column = value.get("kind"), value.get("column")
    if kind == "table":
        return WholeTable()
    if kind == "null" and isinstance(column, str):
        return NullKeys(column)
    if kind == "range" and isinstance(column, str):
        return KeyRange(
            column, _bound_from_json(value.get("low", "")), _bound_from_json(value.get("high", ""))
        )
    raise ValueError(f"not a chunk range: {value!r}")


def _bound_to_json(bound: Bound | None) -> list[str] | None:
    match bound:
        case None:
            return None
        case datetime(tzinfo=None):
            return ["timestamp", bound.isoformat()]
        case datetime():
            return ["instant", bound.astimezone(UTC).isoformat()]
        case date():
            return ["date", bound.isoformat()]


def _bound_from_json(value: object) -> Bound | None:
    match value:
        case None:
            return None
        case ["date", str(text)]:
            return date.fromisoformat(text)
        case ["timestamp" | "instant", str(text)]:
            return datetime.fromisoformat(text)
    raise ValueError(f"not a bound: {value!r}")
