"""A table with keys, in plain Python: its rows, which of them a range has, and what a source counts of them.

Nothing here is taken from the code under test but its values: each count is made by looking at every row.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import date
from decimal import Decimal
from itertools import groupby
from random import Random

from snowmelt.chunking.bounds import Bound, Timestamp
from snowmelt.chunking.chunks import (
    Chunk,
    Key,
    KeyKind,
    KeyRange,
    NullKeys,
    Range,
    Span,
    WholeTable,
)
from snowmelt.chunking.histogram import (
    Bucket,
    BytePrefixes,
    Days,
    EqualWidths,
    Grain,
    KeyHistogram,
    Prefixes,
)
from snowmelt.chunking.strategies import heavy_spans, refined

FINITE = 1e300


@dataclass(frozen=True, slots=True, order=True)
class Beyond:
    """A time that Python has none for: before the year 1 if `years` is negative, else after 9999."""

    years: int


Value = Bound | Beyond | None
Row = tuple[Value, ...]
Order = tuple[int, object]


def order(value: Value) -> Order:
    """By which values compare as they do in a server: NaN last and equal to itself."""
    if isinstance(value, Beyond):
        return (-1 if value.years < 0 else 1, value)
    return (1, "NaN") if is_nan(value) else (0, value)


def is_nan(value: Value) -> bool:
    return isinstance(value, float) and math.isnan(value)


def below(one: Value, other: Value) -> bool:
    """one < other, of two that are not NULL."""
    (rank, value), (other_rank, other_value) = order(one), order(other)
    if rank == other_rank:
        return value != other_value and bool(value < other_value)  # type: ignore[operator]
    return rank < other_rank


def in_order(values: Iterable[Value]) -> list[Value]:
    """The different values that are not NULL, ascending."""
    different = {order(value): value for value in values if value is not None}
    return [different[place] for place in sorted(different)]


def day_of(value: Value) -> date | None:
    """The day of a time, cut to those that Python has."""
    match value:
        case Beyond(years):
            return date.min if years < 0 else date.max
        case Timestamp(at):
            return at.date()
        case date():
            return value
    return None


def start_of(day: date, kind: KeyKind) -> Bound:
    """The bound at which a day begins."""
    if kind is KeyKind.DATE:
        return day
    return Timestamp.midnight(day, utc=kind is KeyKind.INSTANT)


@dataclass(frozen=True, slots=True)
class Table:
    """Rows with a value for each key."""

    keys: tuple[Key, ...]
    rows: tuple[Row, ...]

    def holds(self, range: Range, row: Row) -> bool:
        """Whether a source that compares as the range says would read the row."""
        match range:
            case WholeTable():
                return True
            case NullKeys(key, within):
                inside = self.value(row, key) is None
            case KeyRange(key, low, high, within):
                value = self.value(row, key)
                inside = (
                    value is not None
                    and not (low is not None and below(value, low))
                    and (high is None or below(value, high))
                )
            case _:
                raise AssertionError(f"no range of keys: {range!r}")
        return inside and (within is None or self.holds(within, row))

    def value(self, row: Row, key: Key) -> Value:
        return row[[known.column for known in self.keys].index(key.column)]

    def of(self, range: Range) -> list[Row]:
        return [row for row in self.rows if self.holds(range, row)]

    def owners(self, chunks: Sequence[Chunk], row: Row) -> list[Chunk]:
        return [chunk for chunk in chunks if self.holds(chunk.range, row)]

    def histogram(self, grain: Grain) -> KeyHistogram:
        """As `ports.Source.histogram` counts the first key."""
        key = self.keys[0]
        values = [row[0] for row in self.rows]
        there = [value for value in values if value is not None]
        place = _places(grain, key.kind, there)
        buckets = []
        for _, group in groupby(sorted(there, key=order), place):
            bucket = list(group)
            day = day_of(bucket[0])
            is_day = isinstance(grain, Days) and day is not None
            low = start_of(day, key.kind) if is_day and day else bound(bucket[0])
            buckets.append(_bucket(key, low, bucket))
        return KeyHistogram.of(key, buckets, len(values) - len(there))

    def refine(self, spans: Sequence[Span], rows: int, random: Random) -> tuple[KeyHistogram, ...]:
        """As the contract of `ports.Source.refine` lets a source count: where it leaves a choice, any is made."""
        return tuple(_by_values(self.keys, self.of(span), rows, random) for span in spans)

    def planned(self, chunk_rows: int, grain: Grain, random: Random) -> KeyHistogram:
        """Counted, and counted again where it is too heavy."""
        histogram = self.histogram(grain)
        spans = heavy_spans(histogram, self.keys, chunk_rows)
        if not spans:
            return histogram
        return refined(histogram, spans, self.refine(spans, chunk_rows, random))


def bound(value: Value) -> Bound | None:
    return None if isinstance(value, Beyond) else value


def _bucket(key: Key, low: Bound | None, values: Sequence[Value]) -> Bucket:
    single = order(values[0]) == order(values[-1])
    high = bound(values[-1]) if key.kind.is_text else None
    return Bucket(low, len(values), high, single)


def _places(grain: Grain, kind: KeyKind, values: Sequence[Value]) -> Callable[[Value], object]:
    """The bucket that a grain puts a value in."""
    match grain:
        case Days():
            return day_of
        case EqualWidths(count):
            return _width(count, kind, values)
        case Prefixes(characters):
            same = _common([str(value) for value in values])
            return lambda value: str(value)[: same + characters]
        case BytePrefixes(size):
            texts = [str(value) for value in values]
            prefix = len(texts[0][: _common(texts)].encode()) if texts else 0
            return lambda value: str(value).encode()[: prefix + size]


def _common(texts: Sequence[str]) -> int:
    least, greatest = min(texts, default=""), max(texts, default="")
    same = 0
    while same < min(len(least), len(greatest)) and least[same] == greatest[same]:
        same += 1
    return min(same, 32)


def _width(count: int, kind: KeyKind, values: Sequence[Value]) -> Callable[[Value], object]:
    def number(value: Value) -> float:
        assert isinstance(value, int | float | Decimal)
        return float(value)

    inner = [number(value) for value in values if abs(number(value)) <= FINITE]
    low, high = min(inner, default=0.0), max(inner, default=0.0)

    def place(value: Value) -> object:
        if is_nan(value) or number(value) > FINITE:
            return count + 1
        if number(value) < -FINITE:
            return -1
        return math.floor((number(value) - low) / (high - low) * count) if high > low else 0

    return place


def _by_values(
    keys: Sequence[Key], rows: Sequence[Row], limit: int, random: Random
) -> KeyHistogram:
    """The rows, whose first values are those of the first key, by these values."""
    key, further = keys[0], keys[1:]
    nulls = [row[1:] for row in rows if row[0] is None]
    there = sorted((row for row in rows if row[0] is not None), key=lambda row: order(row[0]))
    buckets = []
    for group in _grouped(there, limit, random):
        bucket = _bucket(key, bound(group[0][0]), [row[0] for row in group])
        if bucket.single and bucket.rows > limit and further:
            split = _by_values(further, [row[1:] for row in group], limit, random)
            bucket = replace(bucket, split=split)
        buckets.append(bucket)
    histogram = KeyHistogram.of(key, buckets, len(nulls))
    if len(nulls) > limit and further:
        histogram = replace(histogram, null_split=_by_values(further, nulls, limit, random))
    return histogram


def _grouped(rows: Sequence[Row], limit: int, random: Random) -> Iterator[list[Row]]:
    """Rows of whole values, less than twice `limit` of them; a value of more than `limit` is alone."""
    pending: list[Row] = []
    for _, group in groupby(rows, key=lambda row: order(row[0])):
        members = list(group)
        alone = len(members) > limit
        full = len(pending) + len(members) >= 2 * limit
        if pending and (alone or full or random.random() < 0.2):
            yield pending
            pending = []
        if alone:
            yield members
        else:
            pending = pending + members
    if pending:
        yield pending
