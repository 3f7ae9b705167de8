"""What every source owes: a snapshot, one histogram, and chunks that give each row once."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator, Sequence
from datetime import UTC, date, datetime, timedelta, timezone
from pathlib import Path
from uuid import UUID

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from snowmelt.chunks import Chunk, DateRangeStrategy, ResultSetStrategy, WholeTable
from snowmelt.errors import SourceChanged, TableError
from snowmelt.model import ChunkKey, KeyType, SourceTable, Tag
from snowmelt.ports import QuerySource
from snowmelt.sources.duckdb import DuckDBSource
from snowmelt.standin.server import StandIn
from tests.contracts.places import LIVE, LIVE_SECRETS, Files, Made, Place, Snowflake
from tests.support import duckdb_file

TAG = Tag(UUID(int=1), "db", 1)
EVERYTHING = Chunk(0, WholeTable(), None)
_UNSET = [name for name in LIVE if name not in os.environ]
_LIVE = pytest.param(
    "live",
    marks=pytest.mark.skipif(
        bool(_UNSET) or not any(name in os.environ for name in LIVE_SECRETS),
        reason=f"no live account: set {', '.join(LIVE)} and one of {', '.join(LIVE_SECRETS)}",
    ),
)

KEYS = {
    "date": lambda i: str(date(2024, 1, 1) + timedelta(days=i % 40)),
    "timestamp": lambda i: str(datetime(2023, 12, 31, 23, 59, 59, 999999) + timedelta(hours=i)),
    # A zone per row: the same hours, written down in other places.
    "instant": lambda i: str(
        (datetime(2024, 1, 1, 23, 30, tzinfo=UTC) + timedelta(hours=i)).astimezone(
            timezone(timedelta(minutes=30 * (i % 50 - 24)))
        )
    ),
}
EDGES = {
    "date": ["0001-01-01", "9999-12-31", "1969-12-31"],
    "timestamp": [
        "0001-01-01 00:00:00",
        "9999-12-31 23:59:59.999999",
        "1969-12-31 23:59:59.999999",
    ],
    "instant": ["0001-01-02 00:00:00+05:30", "9999-12-30 23:59:59.999999-11:00"],
}


@pytest.fixture(scope="module")
def standin() -> Iterator[StandIn]:
    with StandIn.start() as server:
        yield server


@pytest.fixture(params=["duckdb", "parquet", "standin", _LIVE])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Place]:
    """Each kind of source that there is."""
    if request.param in ("standin", "live"):
        yield from _snowflake(request)
        return
    made = Files(tmp_path, parquet=request.param == "parquet")
    yield made
    made.close()


@pytest.fixture(params=["standin", _LIVE])
def query_place(request: pytest.FixtureRequest) -> Iterator[Snowflake]:
    """Each kind of source that keeps the results of its queries."""
    yield from _snowflake(request)


def _snowflake(request: pytest.FixtureRequest) -> Iterator[Snowflake]:
    live = request.param == "live"
    made = Snowflake.live() if live else Snowflake.stood_in(request.getfixturevalue("standin"))
    yield made
    made.close()


def _read(made: Made, chunk: Chunk, table: SourceTable | None = None) -> list[tuple[object, ...]]:
    table = table or made.table
    relation = made.source.describe(table)
    with made.source.read(table, chunk, relation.columns, relation.snapshot, TAG) as reading:
        return _rows(list(reading), [column.type for column in relation.columns])


def _rows(
    batches: Sequence[pa.RecordBatch], types: Sequence[pa.DataType]
) -> list[tuple[object, ...]]:
    """Rows with times as numbers: Python has no infinite dates. Their types must be the planned ones."""
    rows: list[tuple[object, ...]] = []
    for batch in batches:
        assert batch.schema.types == list(types)
        columns = [
            column.view(pa.int32() if column.type == pa.date32() else pa.int64()).to_pylist()
            if pa.types.is_temporal(column.type)
            else column.to_pylist()
            for column in batch.columns
        ]
        rows.extend(zip(*columns, strict=True))
    return rows


def _numbered(kind: str, rows: int) -> list[tuple[str, str | None]]:
    """Rows (i, k) of which each thirteenth has no key; then the kind's edges."""
    numbered = [(str(i), KEYS[kind](i) if i % 13 else None) for i in range(rows)]
    return [*numbered, *((str(1_000 + n), edge) for n, edge in enumerate(EDGES[kind]))]


def _table(place: Place, kind: str, rows: Sequence[tuple[str, str | None]]) -> Made:
    return place.make([("i", "whole"), ("k", kind)], rows)


@pytest.mark.parametrize("kind", KEYS)
def test_chunks_give_each_row_once(place: Place, kind: str) -> None:
    made = _table(place, kind, _numbered(kind, 300))
    relation = made.source.describe(made.table)
    everything = _read(made, EVERYTHING)
    histogram = made.source.days(made.table, ChunkKey("k", KeyType.TIMESTAMP), relation.snapshot)

    assert len(everything) == 300 + len(EDGES[kind])
    assert histogram.rows == len(everything) == made.source.count(made.table, relation.snapshot)
    for batch_size in (7, 100, 10_000):
        chunks = DateRangeStrategy(batch_size).chunks(histogram)
        by_chunk = [_read(made, chunk) for chunk in chunks]
        assert Counter(row for rows in by_chunk for row in rows) == Counter(everything)
        for chunk, rows in zip(chunks, by_chunk, strict=True):
            assert chunk.planned_rows in (None, len(rows)), chunk


@settings(max_examples=10, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    offsets=st.lists(st.none() | st.integers(-(10**16), 10**16), max_size=40),
    size=st.integers(1, 9),
)
def test_chunks_of_any_timestamps_give_each_row_once(
    place: Place, offsets: list[int | None], size: int
) -> None:
    epoch = datetime(1970, 1, 1)
    at = [None if us is None else str(epoch + timedelta(microseconds=us)) for us in [0, *offsets]]
    made = _table(place, "timestamp", [(str(n), text) for n, text in enumerate(at)])
    relation = made.source.describe(made.table)

    histogram = made.source.days(made.table, ChunkKey("k", None), relation.snapshot)
    chunks = DateRangeStrategy(size).chunks(histogram)
    seen = [int(str(row[0])) for chunk in chunks for row in _read(made, chunk)]

    assert sorted(seen) == list(range(len(offsets) + 1))


def test_a_filter_stands_in_every_query(place: Place) -> None:
    made = _table(place, "date", _numbered("date", 100))
    table = SourceTable(
        made.table.database, made.table.schema, made.table.name, '"i" <= 50 -- the first ones'
    )
    relation = made.source.describe(table)

    histogram = made.source.days(table, ChunkKey("k", None), relation.snapshot)
    chunks = DateRangeStrategy(10).chunks(histogram)

    assert made.source.count(table, relation.snapshot) == histogram.rows == 51
    assert sum(len(_read(made, chunk, table)) for chunk in chunks) == 51


@pytest.mark.parametrize(
    "filter",
    ["random() < 0.5", "1 = 1) OR (1 = 1", "1 = 1; DROP TABLE t", '"i" = '],
)
def test_a_filter_that_can_not_be_fixed_or_is_no_condition_is_refused(
    place: Place, filter: str
) -> None:
    made = _table(place, "date", _numbered("date", 10))
    table = SourceTable(made.table.database, made.table.schema, made.table.name, filter)

    with pytest.raises(TableError):
        made.source.describe(table)


@pytest.mark.parametrize("filter", ["k > current_date - 7", "k > now()", "k > today()"])
def test_a_clock_in_a_filter_of_files_is_refused(tmp_path: Path, filter: str) -> None:
    made = _table(Files(tmp_path, parquet=False), "date", _numbered("date", 10))
    with pytest.raises(TableError, match="changes by itself"):
        made.source.describe(SourceTable("", "", made.table.name, filter))


def test_a_clock_in_a_filter_of_snowflake_stands_still(standin: StandIn) -> None:
    place = Snowflake.stood_in(standin)
    today = datetime.now(UTC).date()
    made = _table(place, "date", [(str(i), str(today - timedelta(days=i))) for i in range(20)])
    table = SourceTable(
        made.table.database,
        made.table.schema,
        made.table.name,
        '"k" > DATEADD(DAY, -7, CURRENT_DATE) AND "k" < CURRENT_TIMESTAMP()',
    )

    relation = made.source.describe(table)

    assert "CURRENT" not in str(relation.snapshot["filter"])
    assert made.source.count(table, relation.snapshot) == 7
    place.close()


def test_what_changes_after_planning_is_not_read(place: Place) -> None:
    """The rows of the plan come, or none: never others."""
    made = _table(place, "date", _numbered("date", 20))
    relation = made.source.describe(made.table)
    key = ChunkKey("k", None)
    place.change(made)

    def seen() -> int:
        with made.source.read(
            made.table, EVERYTHING, relation.columns, relation.snapshot, TAG
        ) as reading:
            return sum(batch.num_rows for batch in reading)

    if isinstance(made.source, QuerySource):
        assert seen() == made.source.count(made.table, relation.snapshot) == 23
        assert made.source.days(made.table, key, relation.snapshot).rows == 23
        return
    for look in (
        seen,
        lambda: made.source.count(made.table, relation.snapshot),
        lambda: made.source.days(made.table, key, relation.snapshot).rows,
    ):
        with pytest.raises(SourceChanged):
            look()


def test_a_key_that_is_no_date_is_refused(place: Place) -> None:
    made = place.make([("k", "whole")], [("1",)])
    snapshot = made.source.describe(made.table).snapshot
    with pytest.raises(TableError, match="chunks are made by date"):
        made.source.days(made.table, ChunkKey("k", None), snapshot)


@pytest.mark.parametrize(
    "name", ["key_day", 'say "hi"', "select", "a b", "Ümlaut", "it's", "back\\slash", "%s"]
)
def test_names_do_no_harm(place: Place, name: str) -> None:
    made = place.make([(name, "date"), ("i", "whole")], [("2024-01-01", "1"), (None, "2")], name)
    relation = made.source.describe(made.table)

    histogram = made.source.days(made.table, ChunkKey(name, None), relation.snapshot)
    chunks = DateRangeStrategy(1).chunks(histogram)

    assert [column.name for column in relation.columns] == [name, "i"]
    assert sorted(str(row[1]) for chunk in chunks for row in _read(made, chunk)) == ["1", "2"]


def test_one_query_gives_each_row_once_in_parts(query_place: Snowflake) -> None:
    made = _table(query_place, "timestamp", _numbered("timestamp", 3_000))
    source = made.source
    assert isinstance(source, QuerySource)
    relation = source.describe(made.table)

    result = source.extract(made.table, relation.columns, relation.snapshot, TAG)
    chunks = ResultSetStrategy(500).chunks(result.query_id, result.rows)
    other = query_place.another()  # as another worker has
    seen = []
    for number, chunk in enumerate(chunks):
        reader = source if number % 2 else other
        with reader.read(made.table, chunk, relation.columns, relation.snapshot, TAG) as reading:
            rows = _rows(list(reading), [column.type for column in relation.columns])
        assert len(rows) == chunk.planned_rows
        seen += rows

    assert Counter(seen) == Counter(_read(made, EVERYTHING))


def test_keys_beyond_the_calendar_are_in_a_chunk(tmp_path: Path) -> None:
    """DuckDB has infinite dates and years before Christ."""
    edges = {
        "DATE": "('infinity'::DATE), ('0044-03-15 (BC)'::DATE)",
        "TIMESTAMP": "('infinity'::TIMESTAMP), ('-infinity'::TIMESTAMP)",
        "TIMESTAMPTZ": "('infinity'::TIMESTAMPTZ), ('0044-03-15 (BC) 00:00:00+00'::TIMESTAMPTZ)",
    }
    for number, (type, values) in enumerate(edges.items()):
        path = tmp_path / f"{number}.duckdb"
        duckdb_file(
            path,
            f"CREATE TABLE t AS SELECT k FROM (VALUES {values}, (NULL::{type})) e(k)",
        )
        made = Made(DuckDBSource("duckdb", path), SourceTable("", "", "t"))
        relation = made.source.describe(made.table)
        histogram = made.source.days(made.table, ChunkKey("k", None), relation.snapshot)
        chunks = DateRangeStrategy(1).chunks(histogram)
        assert sum(len(_read(made, chunk)) for chunk in chunks) == histogram.rows == 3
        made.source.close()
