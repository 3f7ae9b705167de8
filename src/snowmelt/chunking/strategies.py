"""Key histogram -> chunks, a strategy for each kind of key.

A strategy says by which grain the first query counts. What it finds to hold more than FAR_OVER chunks is counted
again by the key's own values. Neighbouring buckets are then merged up to a chunk's rows, so that no chunk has more
than twice these unless a single value of its key has.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from snowmelt.chunking.bounds import Bound
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
    Grain,
    KeyHistogram,
    Loaded,
    Prefixes,
)

FAR_OVER = 2
"""A bucket of more than so many chunks' rows is counted again, finer."""
BUCKETS = 200_000
"""At most so many buckets are asked for: a client reads as many in about a second."""
SPANS = 256
"""At most so many parts of a table are counted again, each by itself: each is a branch of the query."""
UNKNOWN_BUCKETS = 1_000
"""Where nobody knows how many rows a filter leaves."""


class RangeStrategy(Protocol):
    """How the first query counts a key; `rows` is None where the rows are not known."""

    def grain(self, rows: int | None, chunk_rows: int) -> Grain: ...


@dataclass(frozen=True, slots=True)
class DateRangeStrategy:
    """Dates and timestamps, by days."""

    def grain(self, rows: int | None, chunk_rows: int) -> Grain:
        return Days()


@dataclass(frozen=True, slots=True)
class NumericRangeStrategy:
    """Numbers, by equal widths: two for each chunk, as even keys have it."""

    def grain(self, rows: int | None, chunk_rows: int) -> Grain:
        wanted = UNKNOWN_BUCKETS if rows is None else 2 * rows // chunk_rows
        return EqualWidths(min(max(wanted, 64), BUCKETS))


@dataclass(frozen=True, slots=True)
class UUIDRangeStrategy:
    """UUIDs as text, by prefixes of as many of their 16 digits as the number of chunks asks for."""

    def grain(self, rows: int | None, chunk_rows: int) -> Grain:
        wanted = UNKNOWN_BUCKETS if rows is None else rows / chunk_rows
        digits = math.ceil(math.log(max(wanted, 1), 16))
        return Prefixes(min(max(digits, 1), 5))


@dataclass(frozen=True, slots=True)
class StringRangeStrategy:
    """Any text, by two bytes: at most 65,536 buckets, whatever the alphabet is."""

    def grain(self, rows: int | None, chunk_rows: int) -> Grain:
        return BytePrefixes(2)


def strategy_of(kind: KeyKind) -> RangeStrategy:
    """The strategy for a kind of key."""
    if kind.is_time:
        return DateRangeStrategy()
    if kind is KeyKind.UUID:
        return UUIDRangeStrategy()
    return StringRangeStrategy() if kind is KeyKind.TEXT else NumericRangeStrategy()


def heavy_spans(histogram: KeyHistogram, keys: Sequence[Key], chunk_rows: int) -> tuple[Span, ...]:
    """What is to be counted again: ranges of the first key that begin and end where buckets do, ascending, then
    the NULL keys. A single value is heavy only where a further key can split it."""
    limit = FAR_OVER * chunk_rows
    buckets = histogram.buckets
    heavy = [
        place
        for place, bucket in enumerate(buckets)
        if bucket.rows > limit and (len(keys) > 1 or not bucket.single)
    ]
    # Neighbours together where there are too many: what lies between them is counted with them.
    size = -(-len(heavy) // SPANS) or 1
    groups = [heavy[first : first + size] for first in range(0, len(heavy), size)]
    spans: list[Span] = [
        KeyRange(
            keys[0],
            buckets[group[0]].low if group[0] else None,
            buckets[group[-1] + 1].low if group[-1] + 1 < len(buckets) else None,
        )
        for group in groups
    ]
    if histogram.nulls > limit and len(keys) > 1:
        spans.append(NullKeys(keys[0]))
    return tuple(spans)


def refined(
    histogram: KeyHistogram, spans: Sequence[Span], found: Sequence[KeyHistogram]
) -> KeyHistogram:
    """The histogram with each span as it was found to be: one bucket with finer pieces in its place."""
    buckets: list[Bucket] = []
    null_split = None
    place = 0
    lows = [bucket.low for bucket in histogram.buckets]
    for span, finer in zip(spans, found, strict=True):
        if isinstance(span, NullKeys):
            null_split = finer.null_split
            continue
        first, end = _places(lows, span, place)
        buckets += histogram.buckets[place:first]
        covered = histogram.buckets[first:end]
        pieces = finer.buckets
        if pieces:
            pieces = (dataclasses.replace(pieces[0], low=covered[0].low), *pieces[1:])
        buckets.append(
            Bucket(
                covered[0].low,
                sum(bucket.rows for bucket in covered),
                covered[-1].high,
                pieces=pieces,
                joined=covered if len(covered) > 1 else (),
            )
        )
        place = end
    buckets += histogram.buckets[place:]
    return dataclasses.replace(histogram, buckets=tuple(buckets), null_split=null_split)


def _places(lows: Sequence[Bound | None], span: KeyRange, start: int) -> tuple[int, int]:
    """Which buckets a span covers, by where they begin: from, and to before."""
    # index() finds the span's own bound, which is a bucket's, also where it is NaN, by what `==` finds none.
    first = start if span.low is None else lows.index(span.low, start)
    return first, len(lows) if span.high is None else lows.index(span.high, first + 1)


def chunks_of(histogram: KeyHistogram, chunk_rows: int) -> tuple[Chunk, ...]:
    """Chunks that cover every key there is or could be, NULL included."""
    return tuple(chunk for chunk, _ in chunks_beside(histogram, chunk_rows, Loaded()))


def chunks_beside(
    histogram: KeyHistogram, chunk_rows: int, loaded: Loaded
) -> tuple[tuple[Chunk, bool], ...]:
    """The same, each with whether its rows are loaded: no chunk has loaded days beside others."""
    return tuple(
        (Chunk(id, range, rows), done)
        for id, (range, rows, done) in enumerate(_ranges(histogram, chunk_rows, loaded, None))
    )


def parts_of(span: Span, found: KeyHistogram, part_rows: int) -> tuple[Chunk, ...]:
    """A span in ranges of about `part_rows` rows that together are exactly it, as `found` within it.

    They are numbered by their places. One alone is the span itself: nothing splits it.
    """
    if isinstance(span, KeyRange):
        ranges = _cut(span, found, part_rows, Loaded())
    else:
        ranges = _cut_nulls(span, found, part_rows, Loaded())
    return tuple(Chunk(place, range, rows) for place, (range, rows, _) in enumerate(ranges))


def _ranges(
    histogram: KeyHistogram, chunk_rows: int, loaded: Loaded, within: Span | None
) -> Iterator[tuple[Span, int, bool]]:
    key = histogram.key
    yield from _cut(KeyRange(key, within=within), histogram, chunk_rows, loaded)
    if key.nullable or histogram.nulls:
        yield from _cut_nulls(NullKeys(key, within), histogram, chunk_rows, loaded)


def _cut(
    span: KeyRange, histogram: KeyHistogram, chunk_rows: int, loaded: Loaded
) -> Iterator[tuple[Span, int, bool]]:
    merged = list(_merged(histogram, chunk_rows, loaded)) or [_Piece(None, 0)]
    lows = [span.low, *(piece.low for piece in merged[1:])]
    highs = [*lows[1:], span.high]
    for piece, low, high in zip(merged, lows, highs, strict=True):
        part = KeyRange(span.key, low, high, span.within)
        if piece.split is None:
            yield part, piece.rows, piece.done
        else:
            yield from _ranges(piece.split, chunk_rows, Loaded(), part)


def _cut_nulls(
    span: NullKeys, histogram: KeyHistogram, chunk_rows: int, loaded: Loaded
) -> Iterator[tuple[Span, int, bool]]:
    if histogram.null_split is None or loaded.nulls:
        yield span, histogram.nulls, loaded.nulls
    else:
        yield from _ranges(histogram.null_split, chunk_rows, Loaded(), span)


@dataclass(slots=True)
class _Piece:
    """A chunk to be: where it begins, and what it holds so far."""

    low: Bound | None
    rows: int
    done: bool = False
    split: KeyHistogram | None = None


def _merged(histogram: KeyHistogram, chunk_rows: int, loaded: Loaded) -> Iterator[_Piece]:
    """Neighbours together up to a chunk's rows; loaded ones, which nobody reads, without an end."""
    piece: _Piece | None = None
    for bucket, done in _flat(histogram, loaded):
        fits = (
            piece is not None
            and piece.split is None
            and bucket.split is None
            and piece.done == done
            and (done or piece.rows + bucket.rows <= chunk_rows)
        )
        if piece is not None and fits:
            piece.rows += bucket.rows
            continue
        if piece is not None:
            yield piece
        piece = _Piece(bucket.low, bucket.rows, done, bucket.split)
    if piece is not None:
        yield piece


def _flat(histogram: KeyHistogram, loaded: Loaded) -> Iterator[tuple[Bucket, bool]]:
    for bucket in histogram.buckets:
        done = loaded.has(bucket)
        if any(loaded.has(day) for day in bucket.joined):
            # Pieces may reach from one day into the next: such days are taken as they were counted first.
            yield from ((day, loaded.has(day)) for day in bucket.joined)
        elif bucket.pieces and not done:
            yield from ((piece, False) for piece in bucket.pieces)
        else:
            yield bucket, done


@dataclass(frozen=True, slots=True)
class ResultSetStrategy:
    """One query, whose result's batches are grouped up to `chunk_rows` rows."""

    chunk_rows: int

    def chunks(self, query_id: str, rows: Sequence[int]) -> tuple[Chunk, ...]:
        """Chunks that cover the batches, whose rows are given in order; a chunk has one batch at least."""
        return tuple(
            Chunk(number, range, sum(range.rows))
            for number, range in enumerate(self.groups(ResultBatches(query_id, 0, tuple(rows))))
        )

    def groups(self, batches: ResultBatches) -> Iterator[ResultBatches]:
        """The same batches in groups."""
        rows, first = batches.rows, 0
        while first < len(rows):
            end = first + 1
            total = rows[first]
            while end < len(rows) and total + rows[end] <= self.chunk_rows:
                total += rows[end]
                end += 1
            yield ResultBatches(batches.query_id, batches.first + first, rows[first:end])
            first = end
