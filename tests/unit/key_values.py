"""Bounds of each kind of key, and tables whose keys have them: extremes, gaps, neighbours, repeats and NULL."""

from __future__ import annotations

import math
from collections.abc import Sequence
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from random import Random
from typing import TypeVar

from hypothesis import strategies as st

from snowmelt.chunking.bounds import Bound, Timestamp
from snowmelt.chunking.chunks import Chunk, Key, KeyKind, KeyRange, NullKeys
from snowmelt.chunking.histogram import BytePrefixes, Days, EqualWidths, Grain, Prefixes
from snowmelt.chunking.strategies import strategy_of
from tests.unit.key_tables import Beyond, Row, Table, Value

V = TypeVar("V")
LONGEST = 10**38 - 1
"""The greatest whole number of 38 digits."""

nanoseconds = st.sampled_from([0, 0, 1, 999]) | st.integers(0, 999)
texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=20) | st.sampled_from(
    ["", "\0", "a\0b", "\\x00", "'; --", "\\'", '"', "\n", "\U0010ffff", "é", "e\u0301"]
)
decimals = st.decimals(-(10**27), 10**27, allow_nan=False, places=10)
# A time of a server is no second one of an hour that comes twice.
wall_clocks = st.datetimes().map(lambda at: at.replace(fold=0))
moments = wall_clocks.map(lambda at: at.replace(tzinfo=UTC))
BOUNDS: dict[KeyKind, st.SearchStrategy[Bound]] = {
    KeyKind.DATE: st.dates(),
    KeyKind.TIMESTAMP: st.builds(Timestamp, wall_clocks, nanoseconds),
    KeyKind.INSTANT: st.builds(Timestamp, moments, nanoseconds),
    KeyKind.NUMBER: st.integers(-LONGEST, LONGEST) | decimals,
    KeyKind.FLOAT: st.floats(),
    KeyKind.TEXT: texts,
    KeyKind.UUID: st.uuids().map(str),
    KeyKind.TEXT_NUMBER: st.integers(-LONGEST, LONGEST),
}
"""Every bound that a key of the kind could have."""

names = st.sampled_from(["k", "Visit Updated Timestamp", 'a "b"', "é"]) | st.text(
    st.characters(exclude_categories=["Cs"]), min_size=1, max_size=10
)
keys = st.builds(Key, names, st.sampled_from(KeyKind), st.booleans())


def grains(kind: KeyKind, rows: int, chunk_rows: int) -> st.SearchStrategy[Grain]:
    """The grain of the kind's strategy, or one that is coarser."""
    if kind.is_time:
        return st.just(Days())
    chosen = st.just(strategy_of(kind).grain(rows, chunk_rows))
    if kind is KeyKind.UUID:
        return chosen | st.builds(Prefixes, st.integers(1, 3))
    if kind.is_text:
        return chosen | st.just(BytePrefixes(1))
    return chosen | st.builds(EqualWidths, st.integers(1, 6))


_beyond: st.SearchStrategy[Value] = st.builds(Beyond, st.sampled_from([-2, -1, 1, 2]))
_near_times = st.builds(
    lambda day, time, nanosecond: Timestamp(
        datetime.combine(day, time.replace(fold=0)), nanosecond
    ),
    st.integers(1, 6).map(lambda day: date(2025, 1, day)),
    st.times() | st.sampled_from([time.min, time.max]),
    nanoseconds,
)
_least = Timestamp(datetime.min)
_greatest = Timestamp(datetime.max, 999)
_times = _near_times | st.sampled_from([_least, _greatest])
_VALUES: dict[KeyKind, st.SearchStrategy[Value]] = {
    KeyKind.DATE: st.dates(date(2025, 1, 1), date(2025, 1, 12))
    | st.sampled_from([date.min, date.max]),
    KeyKind.TIMESTAMP: _times,
    KeyKind.INSTANT: _times.map(lambda one: Timestamp(one.at.replace(tzinfo=UTC), one.nanosecond)),
    KeyKind.NUMBER: st.integers(-30, 30)
    | st.sampled_from([-LONGEST, LONGEST, LONGEST - 1, 2**63])
    | st.sampled_from([Decimal("0.0000000001"), Decimal("-0.5")])
    | st.decimals(-2, 2, allow_nan=False, places=10),
    KeyKind.FLOAT: st.floats(-3, 3)
    | st.sampled_from(
        [-0.0, 0.0, 5e-324, 1.7e308, -1.7e308, float("inf"), float("-inf"), float("nan")]
    ),
    KeyKind.TEXT: st.text("aAb\0é\U0010ffff' ", max_size=4)
    | st.sampled_from(["CUSTOMER-0001", "CUSTOMER-00012", "CUSTOMER-0002", "CUSTOMER-"]),
    KeyKind.UUID: st.uuids().map(str) | st.integers(0, 40).map(lambda n: f"00000000-{n:04x}"),
    KeyKind.TEXT_NUMBER: st.integers(-30, 30) | st.sampled_from([-LONGEST, LONGEST]),
}


@st.composite
def columns(draw: st.DrawFn, kind: KeyKind, rows: int, *, beyond: bool = True) -> list[Value]:
    """The values of a key: some repeat, one perhaps in most of the rows."""
    values = _VALUES[kind]
    if kind.is_time and beyond and draw(st.booleans()):
        values |= _beyond
    size = draw(st.integers(1, 30))
    pool: list[Value] = draw(st.lists(values, min_size=size, max_size=size))
    if draw(st.booleans()):
        pool.append(None)
    heavy = draw(st.sampled_from(pool))
    share = draw(st.sampled_from([0, 0, 4, 8]))
    # By chance, not drawn one by one: most of what is drawn repeats itself.
    chosen = Random(draw(st.integers())).choices(pool, k=rows)
    return [heavy if place % 10 < share else value for place, value in enumerate(chosen)]


@st.composite
def tables(
    draw: st.DrawFn,
    kinds: Sequence[KeyKind] = tuple(KeyKind),
    *,
    most_keys: int = 3,
    beyond: bool = True,
) -> Table:
    """A table with one key or several."""
    rows = draw(st.integers(0, 60) | st.integers(30, 60))
    found = draw(st.lists(st.sampled_from(kinds), min_size=1, max_size=most_keys))
    listed = [draw(columns(kind, rows, beyond=beyond)) for kind in found]
    made = tuple(
        Key(f"k{place}", kind, None in values or draw(st.booleans()))
        for place, (kind, values) in enumerate(zip(found, listed, strict=True))
    )
    return Table(made, tuple(zip(*listed, strict=True)))


@st.composite
def probes(draw: st.DrawFn, table: Table) -> Row:
    """A row that the table could have: a key without NULL stays without."""
    row = []
    for place, key in enumerate(table.keys):
        values: st.SearchStrategy[Value] = _VALUES[key.kind] | BOUNDS[key.kind]
        if table.rows:
            values |= st.sampled_from([row[place] for row in table.rows])
        if key.nullable:
            values |= st.none()
        row.append(draw(values))
    return tuple(row)


def near(bound: Bound) -> list[Bound]:
    """Values next to a bound, as far as there are any."""
    match bound:
        case float():
            return [math.nextafter(bound, math.inf), math.nextafter(bound, -math.inf)]
        case int():
            return [bound - 1, bound + 1]
        case Decimal():
            step = Decimal("0.0000000001")
            return [bound.next_minus(), bound.next_plus(), bound - step, bound + step]
        case str():
            shorter = bound[:-1]
            before = chr(ord(bound[-1]) - 1) if bound and ord(bound[-1]) not in (0, 0xE000) else ""
            return [shorter, bound + "\0", shorter + before, shorter + before + "\U0010ffff"]
        case Timestamp():
            return [one for step in (-1, 1) for one in _moved(bound, step)]
        case date():
            return [bound + timedelta(days=step) for step in (-1, 1) if date.min < bound < date.max]


def _moved(at: Timestamp, nanoseconds: int) -> list[Timestamp]:
    carry, nanosecond = divmod(at.nanosecond + nanoseconds, 1000)
    try:
        return [Timestamp(at.at + timedelta(microseconds=carry), nanosecond)]
    except OverflowError:
        return []


def bounds_of(chunks: Sequence[Chunk]) -> list[tuple[KeyRange, Bound]]:
    """Every end of every range, also of those that others lie within."""
    found = []
    for chunk in chunks:
        span = chunk.range if isinstance(chunk.range, KeyRange | NullKeys) else None
        while span is not None:
            if isinstance(span, KeyRange):
                found += [(span, end) for end in (span.low, span.high) if end is not None]
            span = span.within
    return found


def samples(table: Table, chunks: Sequence[Chunk]) -> list[Row]:
    """Rows with keys at, just before and just after every bound: beside other keys as rows there have them, or
    without any."""
    columns = [key.column for key in table.keys]
    found = []
    for span, bound in bounds_of(chunks):
        place = columns.index(span.key.column)
        beside = table.of(span.within)[:2] if span.within else table.rows[:2]
        for value in (bound, *near(bound)):
            found += [
                (*row[:place], value, *row[place + 1 :]) for row in (*beside, some_row(table))
            ]
    return found


def some_row(table: Table) -> Row:
    """A row that the table could have: without keys, as far as it may be."""
    return tuple(None if key.nullable else _one(key.kind) for key in table.keys)


def _one(kind: KeyKind) -> Value:
    return Beyond(1) if kind.is_time else "" if kind.is_text else 0
