"""What the queries of `key_sql` answer -> histograms."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import date
from itertools import groupby
from typing import Any

from snowmelt.chunking.bounds import Bound, Timestamp, number
from snowmelt.chunking.chunks import Key, KeyKind
from snowmelt.chunking.histogram import Bucket, KeyHistogram
from snowmelt.errors import TableError
from snowmelt.ports import Latest

Row = Sequence[Any]
_SPAN, _ROWS, _FIRST_KEY, _PER_KEY = 0, 1, 2, 6


def bound_of(value: object, kind: KeyKind) -> Bound | None:
    """The bound of a key's value as a `Dialect` shows it, or of a day."""
    match value:
        case None | float():
            return value
        case date():
            if kind is KeyKind.DATE:
                return value
            return Timestamp.midnight(value, utc=kind is KeyKind.INSTANT)
    text = str(value)
    match kind:
        case KeyKind.DATE:
            return date.fromisoformat(text)
        case KeyKind.TIMESTAMP:
            return Timestamp.parse(text)
        case KeyKind.INSTANT:
            return Timestamp.parse(f"{text}Z")
        case KeyKind.NUMBER | KeyKind.TEXT_NUMBER:
            return number(text)
    return text


def latest_of(key: Key, row: Row, table: str) -> Latest:
    """Of the row that `key_sql.newest` asks for. Raises TableError for a greatest value that no bound holds."""
    shown, rows, valued = row
    value = bound_of(shown, key.kind)
    if value is None and valued:
        raise TableError(
            "the greatest value is outside of the years 1 to 9999, and no mark can be set at it",
            table=table,
            column=f'"{key.column}"',
            remedy="filter such rows out with source_filter",
        )
    return Latest(value, int(rows), int(rows) - int(valued))


def coarse_histogram(key: Key, rows: Iterable[Row]) -> KeyHistogram:
    """Of the rows that `key_sql.coarse` asks for."""
    buckets: list[Bucket] = []
    nulls = 0
    for low, high, count, single, is_null in rows:
        if is_null:
            nulls += int(count)
        else:
            buckets.append(Bucket(bound_of(low, key.kind), int(count), high, bool(single)))
    return KeyHistogram.of(key, buckets, nulls)


def fine_histograms(
    keys: Sequence[Key],
    rows: Iterable[Row],
    *,
    spans: int,
) -> tuple[KeyHistogram, ...]:
    """Of the rows that `key_sql.fine` asks for: one for each span."""
    reading = _Reading(tuple(keys))
    by_span: dict[int, list[Row]] = {}
    for row in rows:
        by_span.setdefault(int(row[_SPAN]), []).append(row)
    return tuple(reading.histogram(by_span.get(span, ()), 0) for span in range(spans))


@dataclass(frozen=True, slots=True)
class _Reading:
    keys: tuple[Key, ...]

    def histogram(self, rows: Sequence[Row], place: int) -> KeyHistogram:
        """The rows of one value of each key before `place`, by the key there."""
        buckets: list[Bucket] = []
        nulls, null_split = 0, None
        for (_, is_heavy, is_null), group in groupby(rows, _facts(place)):
            several = list(group)
            count = sum(int(row[_ROWS]) for row in several)
            further = is_heavy and place + 1 < len(self.keys)
            split = self.histogram(several, place + 1) if further else None
            if is_null:
                nulls, null_split = count, split
                continue
            at = _FIRST_KEY + _PER_KEY * place
            low, high, single = several[0][at + 3 : at + 6]
            bound = bound_of(low, self.keys[place].kind)
            buckets.append(Bucket(bound, count, high, bool(single), split=split))
        key = self.keys[place]
        return replace(KeyHistogram.of(key, buckets, nulls), null_split=null_split)


def _facts(place: int) -> Callable[[Row], tuple[object, object, object]]:
    at = _FIRST_KEY + _PER_KEY * place

    def facts(row: Row) -> tuple[object, object, object]:
        return row[at], row[at + 1], row[at + 2]

    return facts
