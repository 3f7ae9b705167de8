"""What every source owes: a snapshot, one histogram, and chunks that give each row once."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from snowmelt.chunks import Chunk, DateRangeStrategy, WholeTable
from snowmelt.errors import SourceChanged, TableError
from snowmelt.model import ChunkKey, KeyType, SourceTable
from snowmelt.ports import Source
from snowmelt.sources.duckdb import DuckDBSource
from tests.support import duckdb_file

Made = tuple[Source, SourceTable, Path]
Make = Callable[[str], Made]

KEYS = {
    "DATE": "DATE '2024-01-01' + (i % 40)::INT",
    "TIMESTAMP": "TIMESTAMP '2023-12-31 23:59:59.999999' + to_hours(i::INT)",
    "TIMESTAMP WITH TIME ZONE": "TIMESTAMPTZ '2024-01-01 23:30:00-05' + to_hours(i::INT)",
}
EDGES = {
    "DATE": "('infinity'::DATE), (DATE '0001-01-01'), (DATE '9999-12-31'), ('0044-03-15 (BC)'::DATE)",
    "TIMESTAMP": "('infinity'::TIMESTAMP), ('-infinity'::TIMESTAMP), (TIMESTAMP '1969-12-31 23:59:59.999999')",
    "TIMESTAMP WITH TIME ZONE": "('infinity'::TIMESTAMPTZ), (TIMESTAMPTZ '9999-12-31 23:59:59.999999+00')",
}


@pytest.fixture(params=["duckdb", "parquet"])
def make(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Make]:
    """Makes a source of the rows of a query."""
    opened: list[Source] = []

    def made(query: str) -> Made:
        if request.param == "duckdb":
            path = duckdb_file(tmp_path / "s.duckdb", f"CREATE OR REPLACE TABLE t AS {query}")
            source, table = DuckDBSource("duckdb", path), SourceTable("", "", "t")
        else:
            path = tmp_path / "t.parquet"
            duckdb_file(tmp_path / "scratch.duckdb", f"COPY ({query}) TO '{path}' (FORMAT parquet)")
            source, table = DuckDBSource("files", tmp_path), SourceTable("", "", "*.parquet")
        opened.append(source)
        return source, table, path

    yield made
    for source in opened:
        source.close()


def _rows(source: Source, table: SourceTable, chunk: Chunk) -> list[tuple[object, ...]]:
    relation = source.describe(table)
    with source.read(table, chunk, relation.columns, relation.snapshot) as batches:
        read = list(batches)
    # Keys as text: Python has no infinite dates.
    return [row for batch in read for row in zip(*_texts(batch), strict=True)]


def _texts(batch: pa.RecordBatch) -> list[list[object]]:
    return [column.view(pa.int32() if column.type == pa.date32() else pa.int64()).to_pylist()
             if pa.types.is_temporal(column.type) else column.to_pylist()
             for column in batch.columns]  # fmt: skip


@pytest.mark.parametrize("type", KEYS)
@pytest.mark.parametrize("batch_size", [1, 7, 100, 10_000])
def test_chunks_give_each_row_once(make: Make, type: str, batch_size: int) -> None:
    source, table, _ = make(
        f"SELECT i, CASE WHEN i % 13 > 0 THEN {KEYS[type]} END AS k FROM range(500) t(i) "
        f"UNION ALL SELECT 1000 + row_number() OVER (), k FROM (VALUES {EDGES[type]}) e(k)"
    )
    relation = source.describe(table)

    histogram = source.days(table, ChunkKey("k", KeyType.TIMESTAMP), relation.snapshot)
    chunks = DateRangeStrategy(batch_size).chunks(histogram)
    by_chunk = [_rows(source, table, chunk) for chunk in chunks]

    everything = _rows(source, table, Chunk(0, WholeTable(), None))
    assert Counter(row for rows in by_chunk for row in rows) == Counter(everything)
    assert histogram.rows == len(everything) == source.count(table, relation.snapshot)
    for chunk, rows in zip(chunks, by_chunk, strict=True):
        assert chunk.planned_rows in (None, len(rows)), chunk


@settings(max_examples=25)
@given(
    offsets=st.lists(st.none() | st.integers(-(10**15), 10**15), max_size=40),
    size=st.integers(1, 9),
)
def test_chunks_of_any_timestamps_give_each_row_once(
    tmp_path_factory: pytest.TempPathFactory, offsets: list[int | None], size: int
) -> None:
    path = tmp_path_factory.mktemp("source") / "s.duckdb"
    values = ", ".join(f"({n}, {'NULL' if at is None else f'make_timestamp({at})'})"
                       for n, at in enumerate([0, *offsets]))  # fmt: skip
    duckdb_file(path, f"CREATE TABLE t AS SELECT * FROM (VALUES {values}) v(i, k)")
    source, table = DuckDBSource("duckdb", path), SourceTable("", "", "t")
    relation = source.describe(table)

    histogram = source.days(table, ChunkKey("k", None), relation.snapshot)
    chunks = DateRangeStrategy(size).chunks(histogram)
    seen = [row[0] for chunk in chunks for row in _rows(source, table, chunk)]
    source.close()

    assert sorted(seen, key=str) == sorted(range(len(offsets) + 1), key=str)


def test_a_filter_stands_in_every_query(make: Make) -> None:
    source, table, _ = make("SELECT i, DATE '2024-01-01' + i::INT AS k FROM range(100) t(i)")
    table = SourceTable("", "", table.name, "i % 2 = 0 -- even ones")
    relation = source.describe(table)

    histogram = source.days(table, ChunkKey("k", None), relation.snapshot)
    chunks = DateRangeStrategy(10).chunks(histogram)

    assert source.count(table, relation.snapshot) == histogram.rows == 50
    assert sum(len(_rows(source, table, chunk)) for chunk in chunks) == 50


@pytest.mark.parametrize(
    "filter",
    [
        "k > current_date - 7",
        "k > now()",
        "random() < 0.5",
        "k > today()",
        "1 = 1) OR (1 = 1",
        "1 = 1; DROP TABLE t",
        "i = ",
    ],
)
def test_a_filter_that_moves_or_is_no_condition_is_refused(make: Make, filter: str) -> None:
    source, table, _ = make("SELECT i, DATE '2024-01-01' AS k FROM range(10) t(i)")

    with pytest.raises(TableError):
        source.describe(SourceTable("", "", table.name, filter))


def test_a_changed_source_is_not_read(make: Make) -> None:
    source, table, path = make("SELECT i, DATE '2024-01-01' AS k FROM range(10) t(i)")
    relation = source.describe(table)
    stat = path.stat()
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns + 1))

    chunk = Chunk(0, WholeTable(), None)
    with (
        pytest.raises(SourceChanged),
        source.read(table, chunk, relation.columns, relation.snapshot),
    ):
        pass
    with pytest.raises(SourceChanged):
        source.count(table, relation.snapshot)
    with pytest.raises(SourceChanged):
        source.days(table, ChunkKey("k", None), relation.snapshot)


def test_a_key_that_is_no_date_is_refused(make: Make) -> None:
    source, table, _ = make("SELECT i AS k FROM range(10) t(i)")
    with pytest.raises(TableError, match="chunks are made by date"):
        source.days(table, ChunkKey("k", None), source.describe(table).snapshot)
