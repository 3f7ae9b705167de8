"""What a plan says that it takes: more of anything never takes less, and what fits is what there is room for."""

from __future__ import annotations

import itertools
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from snowmelt.estimates.chunk_sizes import MOST_BINS, chunk_sizes
from snowmelt.estimates.credits import CREDITS_PER_HOUR, WarehouseTime
from snowmelt.estimates.disk import DiskNeed, table_disk
from snowmelt.estimates.estimate import (
    FAST_SERVER,
    NOTHING_KNOWN,
    SLOW_SERVER,
    Circumstances,
    SourceKind,
    estimate,
    load_seconds,
)
from snowmelt.estimates.memory import (
    Cache,
    Flow,
    Load,
    Memory,
    MemoryLimit,
    cached_bytes,
    worker_bytes,
)
from snowmelt.estimates.ranges import Range
from snowmelt.model import TargetState
from snowmelt.preflight.surroundings import TargetSurroundings
from snowmelt.table_plan import TablePlan
from tests.unit.planned import FLOW, ROW_BYTES, one_query, resumed, table_plan

COUNTS = st.integers(0, 10**12)
BYTES = st.integers(0, 10**15)
WORKERS = st.integers(1, 200)
SIZES = st.lists(st.one_of(st.integers(0, 60), st.integers(0, 10**7)), min_size=1, max_size=60)
TABLES = st.lists(
    st.builds(
        table_plan,
        st.lists(st.integers(0, 10**7), min_size=1, max_size=9),
        threads=st.integers(1, 9),
    ),
    min_size=1,
    max_size=5,
)
ON_WAREHOUSE = Circumstances(sources={"s": SourceKind(FLOW, on_warehouse=True)})
FILES = Circumstances(sources={"s": SourceKind(FLOW)})


@given(SIZES)
def test_each_chunk_is_in_one_bin(rows: list[int]) -> None:
    sizes = chunk_sizes(rows)

    assert (sizes.smallest, sizes.largest) == (min(rows), max(rows))
    assert sizes.median in rows
    assert 1 <= len(sizes.bins) <= MOST_BINS
    for one in sizes.bins:
        assert one.chunks == sum(one.low <= count <= one.high for count in rows)
    assert sum(one.chunks for one in sizes.bins) == len(rows)
    assert all(a.high < b.low for a, b in zip(sizes.bins, sizes.bins[1:], strict=False))


@given(SIZES)
def test_a_bar_is_as_high_as_its_bin_is_full(rows: list[int]) -> None:
    sizes = chunk_sizes(rows)
    bars = sizes.bars
    assert len(bars) == len(sizes.bins)
    assert bars[max(range(len(bars)), key=lambda n: sizes.bins[n].chunks)] == "█"
    for bar, one in zip(bars, sizes.bins, strict=True):
        assert (bar == "·") == (one.chunks == 0)
    # The characters are in the order of their heights.
    for (low, few), (high, many) in itertools.permutations(zip(bars, sizes.bins, strict=True), 2):
        assert few.chunks > many.chunks or low <= high


@given(st.integers(1, 10**6), st.integers(2, 50))
def test_sizes_that_hardly_differ_are_one_class(rows: int, chunks: int) -> None:
    assert len(chunk_sizes([rows * 100, *[rows * 100 + rows] * chunks]).bins) == 1


@pytest.mark.parametrize("rows", [[], [None, None]])
def test_of_chunks_that_were_not_counted_nothing_is_said(rows: list[int | None]) -> None:
    sizes = chunk_sizes(rows)
    assert (sizes.smallest, sizes.median, sizes.largest, sizes.bars) == (None, None, None, "")


@given(BYTES, BYTES, WORKERS, WORKERS)
def test_more_bytes_take_no_less_time_and_more_workers_no_more(
    bytes: int, more: int, workers: int, further: int
) -> None:
    time = load_seconds(bytes, workers)
    assert 0 <= time.low <= time.high
    longer, shorter = load_seconds(bytes + more, workers), load_seconds(bytes, workers + further)
    assert time.low <= longer.low
    assert time.high <= longer.high
    assert shorter.low <= time.low
    assert shorter.high <= time.high
    # However many they are, the server takes what it takes.
    assert shorter.low >= bytes / FAST_SERVER * 0.999
    assert shorter.high >= bytes / SLOW_SERVER * 0.999


@given(TABLES)
def test_a_run_takes_as_long_as_its_slowest_table_and_no_longer_than_all_in_turn(
    tables: list[TablePlan],
) -> None:
    for around in (FILES, ON_WAREHOUSE, NOTHING_KNOWN):
        whole = estimate(tables, around)
        alone = [part.seconds for part in whole.tables if part.seconds]
        assert whole.seconds.low >= max(one.low for one in alone)
        assert whole.seconds.high >= max(one.high for one in alone)
        assert whole.seconds.low <= sum(one.low for one in alone) * 1.001
        assert whole.seconds.high <= sum(one.high for one in alone) * 1.001


@given(TABLES)
def test_a_run_is_the_sum_of_its_tables(tables: list[TablePlan]) -> None:
    whole = estimate(tables, FILES)
    assert whole.rows == sum(table.planned_rows or 0 for table in tables)
    assert whole.bytes == whole.rows * ROW_BYTES
    assert whole.chunks == sum(len(table.chunks) for table in tables)
    assert whole.workers == max(table.job.parallel_threads for table in tables)
    assert whole.busy == min(whole.workers, whole.chunks)
    assert whole.disk.tables == sum(part.disk.tables for part in whole.tables if part.disk)
    assert whole.uncounted == 0


def test_a_table_that_is_not_planned_counts_for_nothing() -> None:
    """Nor do the threads that it asks for: a refused table must not spoil the verdict on the others."""
    planned = table_plan([100] * 20)
    whole = estimate([planned, table_plan(threads=50)], FILES)
    alone = estimate([planned], FILES)
    assert replace(whole, tables=()) == replace(alone, tables=())
    assert whole.tables[1].rows is None


def test_what_is_not_counted_is_said_to_be_missing() -> None:
    whole = estimate([table_plan([None, None]), table_plan([10])], FILES)
    assert (whole.uncounted, whole.rows, whole.chunks) == (1, 10, 3)
    assert whole.tables[0].seconds is None


@given(COUNTS, COUNTS, st.integers(1, 10_000), st.integers(0, 10_000))
def test_of_a_resumed_table_what_is_left_counts(
    rows: int, more: int, done_chunks: int, left: int
) -> None:
    table = resumed(rows + more, rows, done_chunks + left, done_chunks)
    part = estimate([table], FILES).tables[0]
    assert part.chunks == left
    assert part.rows == (more if left else 0)
    assert part.bytes == part.rows * ROW_BYTES
    assert part.workers == min(4, left)


def test_one_query_rests_its_warehouse_and_a_query_for_each_chunk_does_not() -> None:
    rows, chunk_rows = 100_000_000, 500_000
    once = one_query(rows, chunk_rows, warehouse="WH")
    ranges = table_plan([chunk_rows] * (rows // chunk_rows), warehouse="WH")
    one, each = (estimate([table], ON_WAREHOUSE).tables[0] for table in (once, ranges))

    assert one.chunks == each.chunks == 200
    assert each.warehouse is not None
    assert each.warehouse.seconds == each.seconds
    assert one.warehouse is not None
    assert one.seconds is not None
    assert one.warehouse.seconds.high < one.seconds.high


def test_tables_of_one_warehouse_share_its_time() -> None:
    tables = [
        table_plan([10**6] * 8, name=name, warehouse=warehouse)
        for name, warehouse in (("A", "WH"), ("B", "WH"), ("C", "BIG"), ("D", None))
    ]
    around = replace(ON_WAREHOUSE, warehouse_sizes={"BIG": "Large"})
    found = {one.name: one for one in estimate(tables, around).warehouses}

    assert list(found) == ["WH", "BIG", None]
    assert found["BIG"].size == "Large"
    assert found["WH"].seconds.high == pytest.approx(2 * found["BIG"].seconds.high)


def test_files_cost_no_credits() -> None:
    whole = estimate([table_plan([10**6])], FILES)
    assert whole.warehouses == ()
    assert whole.tables[0].warehouse is None


def test_credits_are_those_of_the_size_for_a_minute_at_least() -> None:
    (one,) = WarehouseTime("WH", Range(30, 7_200), "Large").credits
    assert (one.size, one.credits) == ("Large", Range(8 / 60, 16))
    usual = WarehouseTime("WH", Range(3_600, 3_600)).credits
    assert [(one.size, one.credits.low) for one in usual] == [
        ("X-Small", 1),
        ("Small", 2),
        ("Medium", 4),
        ("Large", 8),
    ]
    assert list(CREDITS_PER_HOUR.values()) == [2**place for place in range(10)]


FLOWS = st.builds(
    Flow,
    base=st.integers(0, 10**9),
    batch=st.integers(0, 10**8),
    batches=st.integers(1, 4),
    encoded=st.integers(0, 10**8),
    trail=st.integers(0, 10**8),
    engine=st.integers(0, 10**8),
    batch_rows=st.integers(1, 4_096),
)
LOADS = st.builds(Load, st.integers(1, 10**6), st.integers(0, 10**6), st.none() | BYTES)


@given(FLOWS, LOADS)
def test_a_worker_holds_no_more_of_a_large_chunk_than_its_constants_allow(
    flow: Flow, load: Load
) -> None:
    batch = max(flow.batch, flow.batch_rows * load.row_bytes)
    most = flow.batches * batch + flow.encoded + flow.trail + flow.engine
    assert worker_bytes(flow, load) <= most
    assert worker_bytes(flow, replace(load, chunk_bytes=None, key_bytes=load.row_bytes)) == most


@given(FLOWS, LOADS, BYTES)
def test_a_larger_chunk_takes_no_less(flow: Flow, load: Load, more: int) -> None:
    larger = replace(
        load, chunk_bytes=None if load.chunk_bytes is None else load.chunk_bytes + more
    )
    assert worker_bytes(flow, load) <= worker_bytes(flow, larger)


@given(BYTES, st.integers(1, 10**9), st.integers(0, 500), BYTES)
def test_memory_fits_where_there_is_as_much_and_with_no_more_workers_than_said(
    base: int, per_worker: int, workers: int, there: int
) -> None:
    memory = Memory(base, per_worker, workers, limit=MemoryLimit(there, "a test"))
    assert memory.fits == (base + workers * per_worker <= there)
    fitting = memory.fitting_workers
    assert fitting is not None
    if fitting:
        assert replace(memory, workers=fitting).fits
    assert not replace(memory, workers=fitting + 1).fits


def test_without_a_limit_there_is_no_verdict() -> None:
    memory = Memory(1, 1, 1)
    assert (memory.fits, memory.fitting_workers) == (None, None)
    assert (DiskNeed(1, 1).fits, DiskNeed(1, 1).fits_without_wal) == (None, None)


def test_memory_is_that_of_the_heaviest_table_for_each_worker_that_has_a_chunk() -> None:
    light, heavy = table_plan([1] * 8), table_plan([10**6] * 8, name="H", threads=6)
    around = replace(FILES, memory_limit=MemoryLimit(10**9, "a test"))
    both, alone = estimate([light, heavy], around).memory, estimate([heavy], around).memory
    assert both == alone
    assert both is not None
    remembered = FLOW.trail * 8 // ROW_BYTES  # of the key, 8 bytes of each row
    assert both.per_worker == 3 * ROW_BYTES + 30 + remembered  # a row weighs more than a batch
    assert (both.base, both.workers) == (FLOW.base, 6)
    single = estimate([table_plan([10**6], threads=6)], around).memory
    assert single is not None
    assert single.workers == 1


def test_files_are_cached_once_for_all_tables_that_read_them() -> None:
    snapshot = {"files": [["a.parquet", 500, 1], ["b.parquet", 700, 1]]}
    tables = [table_plan([10] * 4, name=name, snapshot=snapshot, threads=3) for name in "AB"]
    found = {}
    for cache in Cache:
        kind = SourceKind(replace(FLOW, cache=cache))
        memory = estimate(tables, Circumstances(sources={"s": kind})).memory
        assert memory is not None
        found[cache] = memory.cache
    assert found == {Cache.NONE: 0, Cache.PROCESS: 1_200, Cache.WORKER: 3 * 1_200}
    assert cached_bytes([(Cache.PROCESS, 1_200)], 1, 1_000) == 800


@given(st.integers(0, 10**9), st.integers(0, 10**9), BYTES, st.integers(0, 10**4))
def test_more_rows_take_no_less_disk(rows: int, more: int, bytes: int, key: int) -> None:
    one, larger = table_disk(rows, bytes, [key]), table_disk(rows + more, bytes, [key])
    assert one.heap <= larger.heap
    assert one.indexes <= larger.indexes
    assert one.wal == one.tables == one.heap + one.indexes
    assert table_disk(rows, bytes, [key], logged=False).wal == 0
    assert table_disk(rows, bytes, []).indexes == 0


@given(BYTES, BYTES, BYTES)
def test_a_disk_is_large_enough_where_it_has_as_much_free(tables: int, wal: int, free: int) -> None:
    need = DiskNeed(tables, wal, free)
    assert need.fits == (tables + wal <= free)
    assert need.fits_without_wal == (tables <= free)


def test_a_row_of_three_small_columns_takes_what_postgresql_gives_it() -> None:
    """bigint, date and integer: a header of 24 bytes, 16 of values, and a line pointer."""
    assert table_disk(1, 16, []).heap == 44


def test_the_indexes_of_a_table_that_exists_are_its_own() -> None:
    created = table_plan([1_000])
    there = replace(
        created, create=False, target=TargetState(True, unique_keys=(("id",), ("id", "at")))
    )
    logged = TargetSurroundings("public.t", "loader", exists=True)
    parts = estimate([created, there, replace(there, surroundings=logged)], FILES).tables
    disks = [part.disk for part in parts]
    unlogged = replace(there, surroundings=replace(logged, unlogged=True))
    last = estimate([unlogged], FILES).tables[0].disk

    assert [disk and disk.indexes for disk in disks] == [26_666, 26_666 + 35_555, 26_666 + 35_555]
    assert last is not None
    assert last.wal == 0
