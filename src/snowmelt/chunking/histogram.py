"""How many rows a table has by ranges of a key, as aggregated queries count them.

A first query counts by a grain: days, equal widths, prefixes. What it finds too heavy for a chunk, a second one
counts by the key's own values. Bounds are values that the queries saw: no arithmetic here has to repeat theirs.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import date

from snowmelt.chunking.bounds import Bound, day_of
from snowmelt.chunking.chunks import Key


@dataclass(frozen=True, slots=True)
class Days:
    """A bucket for each day; of an instant, for each day in UTC."""


@dataclass(frozen=True, slots=True)
class EqualWidths:
    """`count` buckets of equal width between the least and the greatest number."""

    count: int


@dataclass(frozen=True, slots=True)
class Prefixes:
    """A bucket for each prefix of `characters` after what all keys begin with."""

    characters: int


@dataclass(frozen=True, slots=True)
class BytePrefixes:
    """A bucket for each prefix of `bytes` of UTF-8 after what all keys begin with."""

    bytes: int


Grain = Days | EqualWidths | Prefixes | BytePrefixes


@dataclass(frozen=True, slots=True)
class Bucket:
    """Rows with neighbouring values of a key."""

    low: Bound | None
    """A bound above all values of the bucket before and at or below all of this. None where a value can't be
    a bound, such as a date before the year 1: the rows then belong to the bucket before."""
    rows: int
    high: Bound | None = None
    """The greatest value, where it is known."""
    single: bool = False
    """All rows have the same value: only another key can split them."""
    pieces: tuple[Bucket, ...] = ()
    """The same rows in finer buckets."""
    joined: tuple[Bucket, ...] = ()
    """The buckets of the first query that were counted again as one, if they were several."""
    split: KeyHistogram | None = None
    """The rows of a single value by the next key."""


@dataclass(frozen=True, slots=True)
class KeyHistogram:
    """Rows by ranges of a key: buckets ascend, and each begins where the one before ends."""

    key: Key
    buckets: tuple[Bucket, ...]
    nulls: int = 0
    null_split: KeyHistogram | None = None
    """The rows without a key by the next key."""

    @classmethod
    def of(cls, key: Key, buckets: Iterable[Bucket], nulls: int = 0) -> KeyHistogram:
        """From buckets as they were counted, ascending. Text gets the shortest bounds that tell them apart."""
        return cls(key, tuple(_bounded(buckets)), nulls)

    @property
    def rows(self) -> int:
        return sum(bucket.rows for bucket in self.buckets) + self.nulls

    def days(self) -> DayHistogram:
        """The buckets that are days, for a comparison with days counted elsewhere; only of keys of time."""
        first_counted = (one for bucket in self.buckets for one in bucket.joined or (bucket,))
        days = ((_day(bucket), bucket.rows) for bucket in first_counted)
        return DayHistogram(
            self.key, tuple((day, rows) for day, rows in days if day is not None), self.nulls
        )


@dataclass(frozen=True, slots=True)
class DayHistogram:
    """Rows per day of a key, ascending; an instant's days are UTC days.

    Keys outside the years 1 to 9999 are counted on the first or last day that Python has.
    """

    key: Key
    days: tuple[tuple[date, int], ...]
    nulls: int

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

    def has(self, bucket: Bucket) -> bool:
        """Whether the bucket is one of the days."""
        return bool(self.days) and _day(bucket) in self.days


def _day(bucket: Bucket) -> date | None:
    return None if bucket.joined or bucket.low is None else day_of(bucket.low)


def _bounded(buckets: Iterable[Bucket]) -> Iterator[Bucket]:
    before: Bucket | None = None
    for bucket in buckets:
        if before is None:
            before = bucket
        elif bucket.low is None:
            # No bound tells the two apart, so a split of one of them would be counted for both.
            rows = before.rows + bucket.rows
            before = dataclasses.replace(
                before, rows=rows, high=bucket.high, single=False, split=None
            )
        else:
            yield before
            before = _shortened(bucket, before.high)
    if before is not None:
        yield before


def _shortened(bucket: Bucket, below: Bound | None) -> Bucket:
    if not (isinstance(bucket.low, str) and isinstance(below, str)):
        return bucket
    shortest = _shortest_between(below, bucket.low)
    return bucket if shortest == bucket.low else dataclasses.replace(bucket, low=shortest)


def _shortest_between(below: str, text: str) -> str:
    """The shortest prefix of `text` that comes after `below`. Code points order as their UTF-8 bytes do."""
    for place, (one, other) in enumerate(zip(below, text, strict=False)):
        if one != other:
            return text[: place + 1]
    return text[: len(below) + 1]
