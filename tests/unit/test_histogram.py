"""Histograms of keys: bounds that tell buckets apart, and the days that a target has whole."""

from __future__ import annotations

from collections import Counter
from datetime import date, datetime
from itertools import pairwise
from random import Random
from unittest.mock import patch

from hypothesis import given
from hypothesis import strategies as st

from snowmelt.chunking import strategies
from snowmelt.chunking.bounds import Timestamp
from snowmelt.chunking.chunks import Chunk, Key, KeyKind, KeyRange, NullKeys
from snowmelt.chunking.histogram import Bucket, DayHistogram, Days, KeyHistogram, Loaded
from snowmelt.chunking.strategies import chunks_beside, chunks_of
from tests.unit.key_tables import Row, Table, Value, bound, day_of, in_order, start_of
from tests.unit.key_values import columns, grains, tables, texts

TIMES = [kind for kind in KeyKind if kind.is_time]
TEXT = Key("k", KeyKind.TEXT)

# --- bounds ---------------------------------------------------------------------------------------


def shortened(below: str, text: str) -> str:
    histogram = KeyHistogram.of(TEXT, [Bucket("", 1, below), Bucket(text, 1, text)])
    low = histogram.buckets[1].low
    assert isinstance(low, str)
    return low


@given(texts, texts)
def test_text_gets_the_shortest_bound_that_tells_two_buckets_apart(one: str, other: str) -> None:
    below, text = sorted((one, other))
    if below == text:
        return
    low = shortened(below, text)
    assert text.startswith(low)
    assert below.encode() < low.encode() <= text.encode()
    assert not below.encode() < low[:-1].encode()


def test_a_bound_is_no_longer_than_it_must_be() -> None:
    assert shortened("CUSTOMER-0001-ZZZ", "CUSTOMER-0002-AAA") == "CUSTOMER-0002"
    assert shortened("a", "ab\0c") == "ab"
    assert shortened("", "\0\0") == "\0"
    assert shortened("a", "a\U0010ffff") == "a\U0010ffff"


@given(tables([KeyKind.TEXT, KeyKind.UUID], most_keys=1), st.data())
def test_buckets_of_text_are_told_apart_as_before(table: Table, data: st.DataObject) -> None:
    histogram = table.histogram(data.draw(grains(table.keys[0].kind, len(table.rows), 1)))
    for one, other in pairwise(histogram.buckets):
        assert isinstance(one.high, str)
        assert isinstance(other.low, str)
        assert isinstance(other.high, str)
        assert one.high < other.low <= other.high


@given(
    st.lists(
        st.tuples(st.none() | st.just(1), st.integers(1, 9), st.booleans(), st.booleans()),
        max_size=8,
    )
)
def test_values_without_a_bound_join_the_bucket_before(
    counted: list[tuple[int | None, int, bool, bool]],
) -> None:
    key = Key("k", KeyKind.NUMBER)
    split = KeyHistogram(key, ())
    buckets = [
        Bucket(place if has_low else None, rows, single=single, split=split if is_split else None)
        for place, (has_low, rows, single, is_split) in enumerate(counted)
    ]
    histogram = KeyHistogram.of(key, buckets, nulls=2)
    assert histogram.rows == sum(bucket.rows for bucket in buckets) + 2
    assert all(bucket.low is not None for bucket in histogram.buckets[1:])
    lows = [
        bucket.low for place, bucket in enumerate(buckets) if not place or bucket.low is not None
    ]
    assert [bucket.low for bucket in histogram.buckets] == lows
    for bucket in histogram.buckets:
        # One that has taken in another has more than one value, and no split counts both.
        assert bucket in buckets or not (bucket.single or bucket.split)


# --- days -----------------------------------------------------------------------------------------


@given(tables(TIMES, most_keys=1))
def test_the_days_of_a_histogram_are_those_of_its_rows(table: Table) -> None:
    days = table.histogram(Days()).days()
    counts = Counter(day_of(value) for (value,) in table.rows)
    assert days.key == table.keys[0]
    assert days.nulls == counts.pop(None, 0)
    assert dict(days.days) == counts
    assert list(days.days) == sorted(days.days)
    assert days.rows == len(table.rows)


@st.composite
def half_loaded(draw: st.DrawFn) -> tuple[Table, KeyHistogram, int, DayHistogram]:
    """A table over a key of time as it was counted, the rows of a chunk, and the days of a target that has some
    of the days whole, some in part, some not at all."""
    kind = draw(st.sampled_from(TIMES))
    values: list[Value] = draw(columns(kind, draw(st.integers(0, 60) | st.integers(30, 60))))
    key = Key("k", kind, None in values or draw(st.booleans()))
    table = Table((key,), tuple((value,) for value in values))
    chunk_rows = draw(st.integers(1, 3) | st.integers(1, 12))
    with patch.object(strategies, "SPANS", draw(st.sampled_from([1, 2, 256]))):
        histogram = table.planned(chunk_rows, Days(), Random(draw(st.integers())))
    counts = Counter(day_of(value) for value in values)
    shares = {
        day: draw(st.sampled_from([0, count, count, draw(st.integers(0, count))]))
        for day, count in counts.items()
    }
    nulls = shares.pop(None, 0)
    there = sorted((day, share) for day, share in shares.items() if day and share)
    return table, histogram, chunk_rows, DayHistogram(key, tuple(there), nulls)


def check_beside(
    table: Table, chunks: tuple[tuple[Chunk, bool], ...], chunk_rows: int, loaded: Loaded
) -> set[Row]:
    """Each row in one chunk, none loaded beside one that is not; returns the rows of those that are."""
    listed = [chunk for chunk, _ in chunks]
    assert [chunk.id for chunk in listed] == list(range(len(chunks)))
    kept: list[Row] = []
    for chunk, done in chunks:
        rows = table.of(chunk.range)
        assert chunk.planned_rows == len(rows)
        if done:
            kept += rows
        elif len(rows) > 2 * chunk_rows and isinstance(chunk.range, KeyRange):
            values = [value for (value,) in rows]
            # Or a day whole, which was counted together with one that is loaded.
            a_day = loaded and len({day_of(value) for value in values}) == 1
            assert (
                a_day or len(in_order(values)) == 1 or any(bound(value) is None for value in values)
            )
        for (value,) in rows if done else ():
            assert loaded.nulls if value is None else day_of(value) in loaded.days
    assert all(len(table.owners(listed, row)) == 1 for row in table.rows)
    return set(kept)


@given(half_loaded())
def test_what_is_loaded_in_whole_days_stays_and_all_else_is_read(
    half: tuple[Table, KeyHistogram, int, DayHistogram],
) -> None:
    table, histogram, chunk_rows, target = half
    loaded = histogram.days().whole_in(target)
    chunks = chunks_beside(histogram, chunk_rows, loaded)
    kept = check_beside(table, chunks, chunk_rows, loaded)
    assert kept == {
        row
        for row in table.rows
        if (loaded.nulls if row[0] is None else day_of(row[0]) in loaded.days)
    }
    counts = Counter(day_of(value) for (value,) in table.rows)
    there = dict(target.days)
    assert all(there[day] == counts[day] for day in loaded.days)
    assert loaded.nulls == (bool(counts[None]) and target.nulls == counts[None])
    for day in loaded.days:
        for value in (start_of(day, table.keys[0].kind), _last_of(day, table.keys[0].kind)):
            assert [done for chunk, done in chunks if table.holds(chunk.range, (value,))] == [True]


def _last_of(day: date, kind: KeyKind) -> Value:
    start = start_of(day, kind)
    if not isinstance(start, Timestamp):
        return start
    return Timestamp(start.at.replace(hour=23, minute=59, second=59, microsecond=999999), 999)


@given(half_loaded())
def test_every_whole_day_is_known_where_heavy_days_were_counted_by_themselves(
    half: tuple[Table, KeyHistogram, int, DayHistogram],
) -> None:
    table, _, chunk_rows, target = half
    histogram = table.planned(chunk_rows, Days(), Random(0))
    counts = Counter(day_of(value) for (value,) in table.rows)
    whole = {day for day, count in target.days if counts[day] == count}
    assert histogram.days().whole_in(target).days == whole


@given(half_loaded(), st.booleans())
def test_days_that_were_counted_together_are_never_taken_for_the_first_of_them(
    half: tuple[Table, KeyHistogram, int, DayHistogram], nulls: bool
) -> None:
    """Whoever says which days are loaded: the chunks that stay have rows of these days only."""
    table, histogram, chunk_rows, target = half
    counts = Counter(day_of(value) for (value,) in table.rows)
    whole = frozenset(day for day, count in target.days if counts[day] == count)
    loaded = Loaded(whole, nulls and bool(counts[None]))
    check_beside(table, chunks_beside(histogram, chunk_rows, loaded), chunk_rows, loaded)


@given(half_loaded())
def test_with_nothing_loaded_the_chunks_are_those_of_a_plan(
    half: tuple[Table, KeyHistogram, int, DayHistogram],
) -> None:
    _, histogram, chunk_rows, _ = half
    beside = chunks_beside(histogram, chunk_rows, Loaded())
    assert tuple(chunk for chunk, _ in beside) == chunks_of(histogram, chunk_rows)
    assert not any(done for _, done in beside)


def test_nothing_loaded_is_nothing() -> None:
    key = Key("k", KeyKind.DATE)
    day = date(2025, 1, 1)
    histogram = DayHistogram(key, ((day, 3),), 0)
    assert not histogram.whole_in(DayHistogram(key, ((day, 2),), 0))
    assert histogram.whole_in(histogram) == Loaded(frozenset({day}))
    assert not Loaded()
    assert Loaded(nulls=True)


def test_loaded_days_are_one_chunk_and_null_keys_another() -> None:
    key = Key("k", KeyKind.TIMESTAMP)
    lows = [Timestamp(datetime(2025, 1, day)) for day in (1, 2, 3, 4)]
    histogram = KeyHistogram.of(key, [Bucket(low, 7) for low in lows], nulls=2)
    loaded = Loaded(frozenset({date(2025, 1, 2), date(2025, 1, 3)}), nulls=True)
    assert chunks_beside(histogram, 10, loaded) == (
        (Chunk(0, KeyRange(key, None, lows[1]), 7), False),
        (Chunk(1, KeyRange(key, lows[1], lows[3]), 14), True),
        (Chunk(2, KeyRange(key, lows[3], None), 7), False),
        (Chunk(3, NullKeys(key), 2), True),
    )
