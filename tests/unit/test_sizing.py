"""How many rows a chunk gets: never none, as the config says, and never so many that workers idle."""

from __future__ import annotations

import math

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from snowmelt.chunking.sizing import (
    BYTES_PER_SECOND,
    CHUNK_SECONDS,
    CHUNKS_PER_WORKER,
    LEAST_SECONDS,
    TEXT_BYTES,
    chunk_size,
    row_bytes,
)
from snowmelt.model import Column

widths = st.integers(0, 2000) | st.integers(0, 10**11)
counts = st.none() | st.integers(0, 10**7) | st.integers(0, 10**13)
workers = st.integers(1, 64)
deadlines = st.none() | st.floats(0, 10**5)


@given(st.none() | st.integers(1, 10**12), widths, counts, workers, deadlines)
def test_a_chunk_has_a_row_at_least_and_there_is_a_reason(
    batch_size: int | None, width: int, rows: int | None, threads: int, deadline: float | None
) -> None:
    size = chunk_size(batch_size, width, rows=rows, workers=threads, deadline_seconds=deadline)
    assert size.rows >= 1
    assert size.reason


@given(st.integers(1, 10**12), widths, counts, workers, deadlines)
def test_batch_size_is_taken_as_it_is(
    batch_size: int, width: int, rows: int | None, threads: int, deadline: float | None
) -> None:
    size = chunk_size(batch_size, width, rows=rows, workers=threads, deadline_seconds=deadline)
    assert size.rows == batch_size
    assert "batch_size" in size.reason


@given(widths, counts, workers, workers, deadlines)
def test_more_workers_never_make_larger_chunks(
    width: int, rows: int | None, one: int, other: int, deadline: float | None
) -> None:
    few, many = (
        chunk_size(None, width, rows=rows, workers=threads, deadline_seconds=deadline).rows
        for threads in sorted((one, other))
    )
    assert many <= few


@given(widths, counts, workers, st.floats(0, 10**5), st.none() | st.floats(0, 10**5))
def test_a_nearer_deadline_never_makes_larger_chunks(
    width: int, rows: int | None, threads: int, one: float, other: float | None
) -> None:
    near, far = (one, None) if other is None else sorted((one, other))
    soon, late = (
        chunk_size(None, width, rows=rows, workers=threads, deadline_seconds=deadline).rows
        for deadline in (near, far)
    )
    assert soon <= late


@given(widths, widths, counts, workers, deadlines)
def test_wider_rows_never_make_chunks_of_more_rows(
    one: int, other: int, rows: int | None, threads: int, deadline: float | None
) -> None:
    narrow, wide = (
        chunk_size(None, width, rows=rows, workers=threads, deadline_seconds=deadline).rows
        for width in sorted((one, other))
    )
    assert wide <= narrow


@given(widths, counts, workers, deadlines)
def test_a_chunk_is_no_more_than_some_seconds_of_work(
    width: int, rows: int | None, threads: int, deadline: float | None
) -> None:
    size = chunk_size(None, width, rows=rows, workers=threads, deadline_seconds=deadline)
    assert size.rows == 1 or size.rows * max(width, 1) <= CHUNK_SECONDS * BYTES_PER_SECOND
    if deadline is not None:
        seconds = max(deadline / 10, LEAST_SECONDS)
        assert size.rows == 1 or size.rows * max(width, 1) <= seconds * BYTES_PER_SECOND * 1.000001


@given(widths, st.integers(1, 10**13), workers, deadlines)
def test_each_worker_has_chunks_enough_if_there_is_the_work(
    width: int, rows: int, threads: int, deadline: float | None
) -> None:
    """Else the least chunk decides, so that no query is asked for less than its start costs."""
    size = chunk_size(None, width, rows=rows, workers=threads, deadline_seconds=deadline)
    least = LEAST_SECONDS * BYTES_PER_SECOND / max(width, 1)
    share = rows / (threads * CHUNKS_PER_WORKER)
    if share >= max(least, 1):
        assert math.ceil(rows / size.rows) >= threads * CHUNKS_PER_WORKER
    else:
        assert size.rows <= max(least, 1)
    assert size.rows + 1 > 0.9 * least


@pytest.mark.parametrize(
    ("width", "rows", "threads", "deadline", "expected", "reason"),
    [
        (200, None, 8, None, 3_000_000, "30 s of work"),
        (200, 10**9, 8, None, 3_000_000, "30 s of work"),
        (200, 10**9, 8, 100.0, 1_000_000, "10 s of work, as the deadline asks for"),
        (200, 10**9, 8, 1.0, 200_000, "2 s of work, as the deadline asks for"),
        (200, 10**9, 8, 301.0, 3_000_000, "30 s of work"),
        (200, 64_100_000, 8, None, 1_000_000, "8 chunks for each of 8 workers"),
        (200, 64_100_000, 8, 50.0, 500_000, "5 s of work, as the deadline asks for"),
        (200, 1_000_000, 8, None, 200_000, "2 s of work, the least"),
        (200, 0, 1, None, 200_000, "2 s of work, the least"),
        (2_700, None, 1, None, 220_000, "30 s of work"),
        (10**10, None, 1, None, 1, "30 s of work"),
    ],
)
def test_the_reason_is_the_one_that_decided(
    width: int, rows: int | None, threads: int, deadline: float | None, expected: int, reason: str
) -> None:
    size = chunk_size(None, width, rows=rows, workers=threads, deadline_seconds=deadline)
    assert (size.rows, size.reason) == (expected, reason)


# --- the width of a row ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("type", "width"),
    [
        (pa.bool_(), 1),
        (pa.int8(), 1),
        (pa.int64(), 8),
        (pa.float64(), 8),
        (pa.decimal128(38, 0), 27),
        (pa.decimal128(10, 2), 13),
        (pa.date32(), 4),
        (pa.time64("us"), 8),
        (pa.timestamp("ns", tz="UTC"), 8),
        (pa.string(), TEXT_BYTES),
        (pa.large_string(), TEXT_BYTES),
        (pa.binary(), TEXT_BYTES),
        (pa.binary(16), 16),
        (pa.list_(pa.int64()), TEXT_BYTES),
        (pa.struct([("a", pa.int64())]), TEXT_BYTES),
        (pa.null(), TEXT_BYTES),
    ],
)
def test_a_row_weighs_what_its_types_say(type: pa.DataType, width: int) -> None:
    """COPY has two bytes for each row, and four for the length of each value."""
    assert row_bytes([]) == 2
    assert row_bytes([Column("a", type)]) == 2 + 4 + width
    assert row_bytes([Column("a", type), Column("b", pa.int32())]) == 2 + 4 + width + 4 + 4
