"""Bounds of each kind of key, and tables whose keys have them: extremes, gaps, neighbours, repeats and NULL."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import TypeVar

from hypothesis import strategies as st

from snowmelt.bounds import Bound, Timestamp
from snowmelt.chunks import Key, KeyKind
from snowmelt.histogram import BytePrefixes, Days, EqualWidths, Grain, Prefixes
from snowmelt.strategies import strategy_of
from tests.unit.key_tables import Beyond, Row, Table, Value

V = TypeVar("V")
LONGEST = 10**38 - 1
"""The greatest whole number of 38 digits."""

nanoseconds = st.sampled_from([0, 0, 1, 999]) | st.integers(0, 999)
texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=20) | st.sampled_from(
    ["", "\0", "a\0b", "\\x00", "'; --", "\\'", '"', "\n", "\U0010ffff", "é", "e\u0301"]
)
decimals = st.decimals(-(10**27), 10**27, allow_nan=False, places=10)
moments = st.datetimes(timezones=st.just(UTC))
BOUNDS: dict[KeyKind, st.SearchStrategy[Bound]] = {
    KeyKind.DATE: st.dates(),
    KeyKind.TIMESTAMP: st.builds(Timestamp, st.datetimes(), nanoseconds),
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
    Timestamp,
    st.datetimes(datetime(2025, 1, 1), datetime(2025, 1, 4)),
    nanoseconds,
) | st.sampled_from(
    [
        Timestamp(datetime(2025, 1, 1, 23, 59, 59, 999999), 999),
        Timestamp(datetime(2025, 1, 2)),
        Timestamp(datetime(2025, 1, 2), 1),
    ]
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
    | st.sampled_from([-LONGEST, LONGEST, LONGEST - 1, 2**63, Decimal("0.0000000001")])
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
    pool: list[Value] = draw(st.lists(values, min_size=1, max_size=30))
    if draw(st.booleans()):
        pool.append(None)
    heavy = draw(st.sampled_from(pool))
    share = draw(st.sampled_from([0, 0, 4, 8]))
    chosen = draw(st.lists(st.sampled_from(pool), min_size=rows, max_size=rows))
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
    rows = draw(st.integers(0, 60))
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
