"""Key histogram -> chunks.

A chunk is a typed range over one key column: half open, `low <= key < high`, with None for an open end. The
chunks of a table are disjoint and total: the first has no low end, the last no high end, and rows whose key is
NULL have a chunk of their own. Bounds are Python values, never SQL text, and survive the ledger's JSON exactly.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
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


@dataclass(frozen=True, slots=True)
class QueryOnce:
    """No rows yet: the step that runs the table's one query. Its result makes the chunks after it."""


@dataclass(frozen=True, slots=True)
class ResultBatches:
    """Consecutive batches of a query's kept result, from the `first` on; `rows` has the rows of each."""

    query_id: str
    first: int
    rows: tuple[int, ...]


Range = KeyRange | NullKeys | WholeTable | QueryOnce | ResultBatches


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

    def whole_in(self, loaded: DayHistogram) -> Loaded:
        """The days, and whether the NULL keys, of which `loaded` has as many rows as this has."""
        there = dict(loaded.days)
        days = frozenset(day for day, count in self.days if there.get(day) == count)
        return Loaded(days, nulls=bool(self.nulls) and loaded.nulls == self.nulls)


@dataclass(frozen=True, slots=True)
class Loaded:
    """What of a table is in its target already, as whole days of the key; `nulls` are its NULL keys."""

    days: frozenset[date] = frozenset()
    nulls: bool = False

    def __bool__(self) -> bool:
        return bool(self.days) or self.nulls


@dataclass(frozen=True, slots=True)
class DateRangeStrategy:
    """Days merged up to `batch_size` rows; a day far over it is split by time of day."""

    batch_size: int

    def chunks(self, histogram: DayHistogram) -> tuple[Chunk, ...]:
        """Chunks that cover every key there is or could be, NULL included."""
        return tuple(chunk for chunk, _ in self.chunks_beside(histogram, Loaded()))

    def chunks_beside(
        self, histogram: DayHistogram, loaded: Loaded
    ) -> tuple[tuple[Chunk, bool], ...]:
        """The same, each with whether its rows are loaded: no chunk has loaded days beside others."""
        pieces = list(self._pieces(histogram, loaded.days)) or [(None, 0, False)]
        lows = [None, *(low for low, _, _ in pieces[1:])]
        highs = [*lows[1:], None]
        ranges: list[tuple[Range, int | None, bool]] = [
            (KeyRange(histogram.column, low, high), rows, done)
            for low, high, (_, rows, done) in zip(lows, highs, pieces, strict=True)
        ]
        if histogram.nullable or histogram.nulls:
            ranges.append((NullKeys(histogram.column), histogram.nulls, loaded.nulls))
        return tuple(
            (Chunk(id, range, rows), done) for id, (range, rows, done) in enumerate(ranges)
        )

    def _pieces(
        self, histogram: DayHistogram, loaded: frozenset[date]
    ) -> Iterator[tuple[Bound | None, int | None, bool]]:
        """(low bound, planned rows, loaded) of each piece, ascending; one ends where the next begins."""
        start: date | None = None
        rows, done = 0, False
        for day, count in histogram.days:
            is_done = day in loaded
            splits = not is_done and histogram.kind != "date" and count > FAR_OVER * self.batch_size
            full = not is_done and rows + count > self.batch_size
            if start is not None and (splits or full or is_done != done):
                yield _midnight(start, histogram.kind), rows, done
                start, rows = None, 0
            if splits:
                yield from self._parts(day, count, histogram.kind)
            else:
                start, done = start or day, is_done
                rows += count
        if start is not None:
            yield _midnight(start, histogram.kind), rows, done

    def _parts(self, day: date, count: int, kind: KeyKind) -> Iterator[tuple[Bound, None, bool]]:
        parts = -(-count // self.batch_size)
        midnight = datetime.combine(day, time(), UTC if kind == "instant" else None)
        for part in range(parts):
            yield midnight + timedelta(microseconds=DAY_US * part // parts), None, False


@dataclass(frozen=True, slots=True)
class ResultSetStrategy:
    """One query, whose result's batches are grouped up to `batch_size` rows."""

    batch_size: int

    def chunks(self, query_id: str, rows: Sequence[int]) -> tuple[Chunk, ...]:
        """Chunks that cover the batches, whose rows are given in order; a chunk has one batch at least."""
        chunks: list[Chunk] = []
        first = 0
        while first < len(rows):
            end = first + 1
            total = rows[first]
            while end < len(rows) and total + rows[end] <= self.batch_size:
                total += rows[end]
                end += 1
            batches = ResultBatches(query_id, first, tuple(rows[first:end]))
            chunks.append(Chunk(len(chunks), batches, total))
            first = end
        return tuple(chunks)


def query_once() -> tuple[Chunk, ...]:
    """The one step of a table whose query has not run yet."""
    return (Chunk(0, QueryOnce(), 0),)


def whole_table(rows: int | None) -> tuple[Chunk, ...]:
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
        case QueryOnce():
            return {"kind": "query"}
        case ResultBatches(query_id, first, rows):
            return {"kind": "result", "query_id": query_id, "first": first, "rows": list(rows)}


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
    if kind == "query":
        return QueryOnce()
    match value:
        case {"kind": "result", "query_id": str(query_id), "first": int(first), "rows": list(rows)}:
            return ResultBatches(query_id, first, tuple(rows))
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
