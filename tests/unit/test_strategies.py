"""Chunks of any keys: disjoint, total, as many rows as planned, as large as was asked for."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from datetime import date, datetime, timedelta
from decimal import Decimal
from itertools import groupby, pairwise
from random import Random
from unittest.mock import patch

from hypothesis import example, given
from hypothesis import strategies as st

from snowmelt.chunking import strategies
from snowmelt.chunking.bounds import Timestamp
from snowmelt.chunking.chunks import (
    Chunk,
    Key,
    KeyKind,
    KeyRange,
    NullKeys,
    ResultBatches,
    Span,
)
from snowmelt.chunking.histogram import (
    Bucket,
    BytePrefixes,
    Days,
    EqualWidths,
    KeyHistogram,
    Loaded,
    Prefixes,
)
from snowmelt.chunking.strategies import (
    BUCKETS,
    FAR_OVER,
    SPANS,
    DateRangeStrategy,
    NumericRangeStrategy,
    ResultSetStrategy,
    StringRangeStrategy,
    UUIDRangeStrategy,
    chunks_beside,
    chunks_of,
    heavy_spans,
    refined,
    strategy_of,
)
from tests.unit.key_tables import Beyond, Table, Value, order
from tests.unit.key_values import bounds_of, grains, probes, samples, some_row, tables

chunk_sizes = st.integers(1, 6) | st.integers(1, 100)
few_spans = st.sampled_from([1, 2, 3, SPANS])
"""How many spans are asked for at most."""


@st.composite
def histograms(
    draw: st.DrawFn, tables: st.SearchStrategy[Table]
) -> tuple[Table, KeyHistogram, int]:
    """A table, what was counted of it, and the rows that a chunk should have."""
    table, chunk_rows = draw(tables), draw(chunk_sizes)
    grain = draw(grains(table.keys[0].kind, len(table.rows), chunk_rows))
    with patch.object(strategies, "SPANS", draw(few_spans)):
        return table, table.planned(chunk_rows, grain, Random(draw(st.integers()))), chunk_rows


# --- disjoint and total ---------------------------------------------------------------------------


@given(histograms(tables()), st.data())
def test_every_row_that_could_be_is_in_exactly_one_chunk(
    made: tuple[Table, KeyHistogram, int], data: st.DataObject
) -> None:
    table, histogram, chunk_rows = made
    chunks = chunks_of(histogram, chunk_rows)
    others = data.draw(st.lists(probes(table), max_size=10))
    nulls = [some_row(table)]
    for row in (*table.rows, *samples(table, chunks), *others, *nulls):
        assert len(table.owners(chunks, row)) == 1, row


@given(histograms(tables()))
def test_what_was_planned_is_what_is_read(made: tuple[Table, KeyHistogram, int]) -> None:
    """Over the rows: each chunk reads as many as it was planned with, and all of them read every row once."""
    table, histogram, chunk_rows = made
    chunks = chunks_of(histogram, chunk_rows)
    read = Counter(chunk.id for row in table.rows for chunk in table.owners(chunks, row))
    assert [chunk.planned_rows for chunk in chunks] == [read[chunk.id] for chunk in chunks]
    assert histogram.rows == len(table.rows) == sum(read.values())


@given(histograms(tables()))
def test_no_chunk_is_above_twice_the_target_unless_it_has_one_value_of_all_its_keys(
    made: tuple[Table, KeyHistogram, int],
) -> None:
    table, histogram, chunk_rows = made
    for chunk in chunks_of(histogram, chunk_rows):
        rows = table.of(chunk.range)
        # What can't be a bound can't be told apart from its neighbours.
        bounded = not any(isinstance(value, Beyond) for row in rows for value in row)
        if len(rows) > FAR_OVER * chunk_rows and bounded:
            assert len({tuple(order(value) for value in row) for row in rows}) == 1, chunk


@given(histograms(tables()))
def test_chunks_are_numbered_and_adjoin(made: tuple[Table, KeyHistogram, int]) -> None:
    table, histogram, chunk_rows = made
    chunks = chunks_of(histogram, chunk_rows)
    assert [chunk.id for chunk in chunks] == list(range(len(chunks)))
    check_level([path_of(chunk) for chunk in chunks], table.keys)


def path_of(chunk: Chunk) -> list[Span]:
    """The chunk's ranges, the outermost first."""
    span = chunk.range
    assert isinstance(span, KeyRange | NullKeys)
    path: list[Span] = [span]
    while path[0].within is not None:
        path.insert(0, path[0].within)
    return path


def check_level(paths: Sequence[Sequence[Span]], keys: Sequence[Key]) -> None:
    """Ranges of the first key that adjoin and end with NULL; within each the same of the next key."""
    groups = [(span, list(group)) for span, group in groupby(paths, lambda path: path[0])]
    spans = [span for span, _ in groups]
    assert all(span.key == keys[0] for span in spans)
    ranges = [span for span in spans if isinstance(span, KeyRange)]
    assert spans == [*ranges, *(span for span in spans if isinstance(span, NullKeys))]
    assert len(spans) - len(ranges) <= 1
    assert len(ranges) == len(spans) or keys[0].nullable
    assert ranges[0].low is None
    assert ranges[-1].high is None
    for one, other in pairwise(ranges):
        assert one.high is other.low is not None
    lows = [order(one.low) for one in ranges[1:]]
    assert all(low < high for low, high in pairwise(lows))
    for _, group in groups:
        inner = [path[1:] for path in group]
        assert inner == [[]] or keys[1:]
        if inner != [[]]:
            check_level(inner, keys[1:])


@given(histograms(tables()))
def test_bounds_are_of_the_key_s_type(made: tuple[Table, KeyHistogram, int]) -> None:
    _, histogram, chunk_rows = made
    types: dict[KeyKind, tuple[type, ...]] = {
        KeyKind.DATE: (date,),
        KeyKind.TIMESTAMP: (Timestamp,),
        KeyKind.INSTANT: (Timestamp,),
        KeyKind.NUMBER: (int, Decimal),
        KeyKind.FLOAT: (float,),
        KeyKind.TEXT: (str,),
        KeyKind.UUID: (str,),
        KeyKind.TEXT_NUMBER: (int,),
    }
    for span, bound in bounds_of(chunks_of(histogram, chunk_rows)):
        assert type(bound) in types[span.key.kind]
        if isinstance(bound, Timestamp):
            assert bound.is_instant == (span.key.kind is KeyKind.INSTANT)


def test_an_empty_table_has_a_chunk_for_keys_that_come_and_one_for_null() -> None:
    for kind in KeyKind:
        key = Key("k", kind)
        assert chunks_of(KeyHistogram.of(key, ()), 10) == (
            Chunk(0, KeyRange(key), 0),
            Chunk(1, NullKeys(key), 0),
        )
        assert len(chunks_of(KeyHistogram.of(Key("k", kind, nullable=False), ()), 10)) == 1


# --- sizes ----------------------------------------------------------------------------------------


@given(histograms(tables(most_keys=1)))
def test_neighbours_are_merged_as_long_as_they_fit(made: tuple[Table, KeyHistogram, int]) -> None:
    _, histogram, chunk_rows = made
    chunks = [c for c in chunks_of(histogram, chunk_rows) if isinstance(c.range, KeyRange)]
    for one, other in pairwise(chunks):
        assert (one.planned_rows or 0) + (other.planned_rows or 0) > chunk_rows


@given(tables(most_keys=1), chunk_sizes, chunk_sizes, st.data())
def test_a_larger_target_never_makes_more_chunks_of_what_was_counted_once(
    table: Table, one: int, other: int, data: st.DataObject
) -> None:
    histogram = table.histogram(data.draw(grains(table.keys[0].kind, len(table.rows), one)))
    small, large = sorted((one, other))
    assert len(chunks_of(histogram, large)) <= len(chunks_of(histogram, small))


@given(tables([KeyKind.DATE], most_keys=1, beyond=False), chunk_sizes)
def test_a_day_of_dates_is_never_split(table: Table, chunk_rows: int) -> None:
    histogram = table.histogram(Days())
    assert heavy_spans(histogram, table.keys, chunk_rows) == ()


# --- what is counted again ------------------------------------------------------------------------


@given(tables(), chunk_sizes, few_spans, st.data())
def test_spans_cover_whole_buckets_and_all_that_is_too_heavy(
    table: Table, chunk_rows: int, most: int, data: st.DataObject
) -> None:
    grain = data.draw(grains(table.keys[0].kind, len(table.rows), chunk_rows))
    histogram = table.histogram(grain)
    with patch.object(strategies, "SPANS", most):
        spans = heavy_spans(histogram, table.keys, chunk_rows)
    ranges = [span for span in spans if isinstance(span, KeyRange)]
    assert len(ranges) <= most
    assert all(len([s for s in spans if table.holds(s, row)]) <= 1 for row in table.rows)
    lows = [None, *(bucket.low for bucket in histogram.buckets[1:])]
    limit = FAR_OVER * chunk_rows
    for bucket, (low, high) in zip(histogram.buckets, pairwise([*lows, None]), strict=False):
        rows = table.of(KeyRange(table.keys[0], low, high))
        owners = {place for place, s in enumerate(spans) for row in rows if table.holds(s, row)}
        assert bucket.rows == len(rows)
        covered = sum(table.holds(s, row) for s in spans for row in rows)
        assert covered in (0, len(rows))
        if bucket.rows > limit and (len(table.keys) > 1 or not bucket.single):
            assert len(owners) == 1
        elif most == SPANS:
            assert not owners
    has_nulls = NullKeys(table.keys[0]) in spans
    assert has_nulls == (histogram.nulls > limit and len(table.keys) > 1)


def test_more_heavy_parts_than_spans_are_counted_together() -> None:
    """300 days of three rows each and two of one row, over chunks of one row."""
    key = Key("k", KeyKind.TIMESTAMP, nullable=False)
    days = [date(2024, 1, 1) + timedelta(days=n) for n in range(302)]
    moments = [Timestamp.midnight(day, utc=False) for day in days]
    rows = [(Timestamp(at.at, n),) for at in moments for n in range(3)]
    rows = [
        row for row in rows if row[0].at.date() not in (days[1], days[200]) or not row[0].nanosecond
    ]
    table = Table((key,), tuple(rows))

    spans = heavy_spans(table.histogram(Days()), table.keys, 1)
    chunks = chunks_of(table.planned(1, Days(), Random(0)), 1)

    assert 100 < len(spans) <= SPANS
    assert [chunk.planned_rows for chunk in chunks] == [1] * len(rows)
    assert all(len(table.owners(chunks, row)) == 1 for row in rows[::7])


def test_a_heavy_bucket_of_values_without_a_bound_begins_where_it_was_counted() -> None:
    """Its first piece has no bound of its own, and is not the first of all."""
    key = Key("k", KeyKind.TIMESTAMP, nullable=False)
    values: list[Value] = [
        Timestamp(datetime(2025, 1, 1)),
        *[Beyond(years) for years in (1, 2, 3, 4)],
    ]
    table = Table((key,), tuple((value,) for value in values))
    chunks = chunks_of(table.planned(1, Days(), Random(0)), 1)
    last = Timestamp(datetime(9999, 12, 31))
    assert chunks == (Chunk(0, KeyRange(key, None, last), 1), Chunk(1, KeyRange(key, last), 4))


def test_a_float_that_is_no_number_can_be_where_a_span_begins_or_ends() -> None:
    """NaN is no value that Python finds in a list by comparing it."""
    nan = float("nan")
    for columns, heavy in (((1,), (1.0, 2.0, 3.0)), ((1, 2), (nan, nan, nan))):
        keys = tuple(Key(f"k{n}", KeyKind.FLOAT, nullable=False) for n in columns)
        rows = [(value, float(n)) for n, value in enumerate((0.0, *heavy, nan))]
        table = Table(keys, tuple(row[: len(keys)] for row in rows))
        chunks = chunks_of(table.planned(1, EqualWidths(1), Random(0)), 1)
        assert all(len(table.owners(chunks, row)) == 1 for row in table.rows)
        assert [chunk.planned_rows for chunk in chunks] == [1] * 5


# --- grains ---------------------------------------------------------------------------------------


def test_each_kind_of_key_has_its_strategy() -> None:
    assert {kind: type(strategy_of(kind)) for kind in KeyKind} == {
        KeyKind.DATE: DateRangeStrategy,
        KeyKind.TIMESTAMP: DateRangeStrategy,
        KeyKind.INSTANT: DateRangeStrategy,
        KeyKind.NUMBER: NumericRangeStrategy,
        KeyKind.FLOAT: NumericRangeStrategy,
        KeyKind.TEXT: StringRangeStrategy,
        KeyKind.UUID: UUIDRangeStrategy,
        KeyKind.TEXT_NUMBER: NumericRangeStrategy,
    }


@given(
    kind=st.sampled_from(KeyKind),
    chunk_rows=st.integers(1, 10**9),
    chunks=st.none() | st.integers(0, 10**4) | st.floats(0, 10**7),
)
@example(KeyKind.UUID, 1, 16**2)
@example(KeyKind.UUID, 10**9, 0)
def test_even_keys_need_one_query_and_no_more_buckets_than_a_client_reads(
    kind: KeyKind, chunk_rows: int, chunks: float | None
) -> None:
    rows = None if chunks is None else int(chunks * chunk_rows)
    grain = strategy_of(kind).grain(rows, chunk_rows)
    match grain:
        case Days():
            assert kind.is_time
            return
        case EqualWidths(count):
            buckets, most = count, BUCKETS
        case Prefixes(characters):
            buckets, most = 16**characters, 16**5
        case BytePrefixes(size):
            buckets, most = 256**size, 256**2
    assert 1 < buckets <= most
    if rows is not None and buckets < most and not isinstance(grain, BytePrefixes):
        assert rows / buckets <= chunk_rows


# --- batches of a result --------------------------------------------------------------------------


@given(st.lists(st.integers(0, 100), max_size=60), st.integers(1, 300))
def test_batches_of_a_result_are_grouped_in_order_and_each_once(
    rows: list[int], chunk_rows: int
) -> None:
    chunks = ResultSetStrategy(chunk_rows).chunks("q", rows)
    seen: list[int] = []
    for chunk in chunks:
        assert isinstance(chunk.range, ResultBatches)
        assert chunk.range.query_id == "q"
        assert chunk.range.first == len(seen)
        assert chunk.planned_rows == sum(chunk.range.rows)
        assert chunk.planned_rows <= chunk_rows or len(chunk.range.rows) == 1
        seen += chunk.range.rows
    assert seen == rows
    assert [chunk.id for chunk in chunks] == list(range(len(chunks)))
    # No two neighbours could have been one.
    for one, other in pairwise(chunks):
        assert isinstance(other.range, ResultBatches)
        assert (one.planned_rows or 0) + other.range.rows[0] > chunk_rows


def test_loaded_days_among_more_heavy_ones_than_are_counted_apart_stay() -> None:
    """Pieces may reach from one day into the next there: the days are then taken as they were counted first."""
    key = Key("at", KeyKind.TIMESTAMP)
    days = [date(2024, 1, 1) + timedelta(days=n) for n in range(3 * SPANS)]
    buckets = [Bucket(Timestamp.midnight(day, utc=False), 100) for day in days]
    coarse = KeyHistogram(key, tuple(buckets))
    spans = heavy_spans(coarse, [key], 10)
    found = []
    for span in spans:
        low = buckets[0].low if isinstance(span, NullKeys) else span.low or buckets[0].low
        assert isinstance(low, Timestamp)
        pieces = tuple(Bucket(Timestamp(low.at, n), 1) for n in range(300))
        found.append(KeyHistogram(key, pieces))
    histogram = refined(coarse, spans, found)
    loaded = Loaded(frozenset(days[::2]))

    beside = chunks_beside(histogram, 10, loaded)

    assert histogram.days().days == tuple((day, 100) for day in days)
    assert sum(chunk.planned_rows or 0 for chunk, done in beside if done) == 100 * len(days[::2])
    assert sum(chunk.planned_rows or 0 for chunk, _ in beside) == 100 * len(days)
