"""What every source owes: a snapshot, one histogram, and chunks that give each row once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from datetime import UTC, date, datetime, timedelta, timezone
from pathlib import Path
from uuid import UUID

import pyarrow as pa
import pytest

from snowmelt.chunking.chunks import Chunk, Key, KeyKind, WholeTable
from snowmelt.chunking.histogram import Days, KeyHistogram
from snowmelt.chunking.keys import key_of
from snowmelt.chunking.strategies import ResultSetStrategy, chunks_of
from snowmelt.errors import SourceChanged, TableError
from snowmelt.model import ChunkKey, Relation, SourceTable, Tag
from snowmelt.ports import QuerySource
from snowmelt.preflight.questions import ROWS
from snowmelt.sources.duckdb import DuckDBSource
from snowmelt.standin.server import StandIn
from tests.contracts.places import Files, Made, Place, Snowflake
from tests.support import duckdb_file

TAG = Tag(UUID(int=1), "db", 1)
EVERYTHING = Chunk(0, WholeTable(), None)
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


def _count(made: Made, table: SourceTable, relation: Relation) -> object:
    (rows,) = made.source.measure(table, (ROWS,), relation.snapshot)
    return rows


def _by_day(made: Made, table: SourceTable | None = None, column: str = "k") -> KeyHistogram:
    """Rows per day of a key, however it is called."""
    table = table or made.table
    relation = made.source.describe(table)
    key = key_of(ChunkKey(column, None), relation)
    assert isinstance(key, Key)
    return made.source.histogram(table, key, relation.snapshot, Days())


def _numbered(kind: str, rows: int) -> list[tuple[str, str | None]]:
    """Rows (i, k) of which each thirteenth has no key; then the kind's edges."""
    numbered = [(str(i), KEYS[kind](i) if i % 13 else None) for i in range(rows)]
    return [*numbered, *((str(1_000 + n), edge) for n, edge in enumerate(EDGES[kind]))]


def _table(place: Place, kind: str, rows: Sequence[tuple[str, str | None]]) -> Made:
    return place.make([("i", "whole"), ("k", kind)], rows)


def test_a_filter_stands_in_every_query(place: Place) -> None:
    made = _table(place, "date", _numbered("date", 100))
    table = SourceTable(
        made.table.database, made.table.schema, made.table.name, '"i" <= 50 -- the first ones'
    )
    relation = made.source.describe(table)

    histogram = _by_day(made, table)
    chunks = chunks_of(histogram, 10)

    assert _count(made, table, relation) == histogram.rows == 51
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
    assert _count(made, table, relation) == 7
    place.close()


def test_what_changes_after_planning_is_not_read(place: Place) -> None:
    """The rows of the plan come, or none: never others."""
    made = _table(place, "date", _numbered("date", 20))
    relation = made.source.describe(made.table)
    key = Key("k", KeyKind.DATE)
    place.change(made)

    def seen() -> int:
        with made.source.read(
            made.table, EVERYTHING, relation.columns, relation.snapshot, TAG
        ) as reading:
            return sum(batch.num_rows for batch in reading)

    if isinstance(made.source, QuerySource):
        assert seen() == _count(made, made.table, relation) == 23
        assert made.source.histogram(made.table, key, relation.snapshot, Days()).rows == 23
        return
    looks: tuple[Callable[[], object], ...] = (
        seen,
        lambda: _count(made, made.table, relation),
        lambda: made.source.histogram(made.table, key, relation.snapshot, Days()).rows,
    )
    for look in looks:
        with pytest.raises(SourceChanged):
            look()


@pytest.mark.parametrize(
    "name", ["key_day", 'say "hi"', "select", "a b", "Ümlaut", "it's", "back\\slash", "%s"]
)
def test_names_do_no_harm(place: Place, name: str) -> None:
    made = place.make([(name, "date"), ("i", "whole")], [("2024-01-01", "1"), (None, "2")], name)
    relation = made.source.describe(made.table)

    histogram = _by_day(made, column=name)
    chunks = chunks_of(histogram, 1)

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
        histogram = _by_day(made)
        chunks = chunks_of(histogram, 1)
        assert sum(len(_read(made, chunk)) for chunk in chunks) == histogram.rows == 3
        made.source.close()
