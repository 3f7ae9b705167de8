"""Smaller chunks are exactly the rows of the one that they replace, in its order; what can't be split is left."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from uuid import UUID

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from snowmelt.attempts import given_up
from snowmelt.chunking.chunks import (
    Chunk,
    Key,
    KeyKind,
    KeyRange,
    NullKeys,
    QueryOnce,
    Range,
    ResultBatches,
    Span,
    WholeTable,
)
from snowmelt.chunking.histogram import KeyHistogram
from snowmelt.errors import CountMismatch, RetriableError, TooHeavy
from snowmelt.model import ChunkKey, Column, LoadTable, SourceTable, TableJob, Tag, TargetTable
from snowmelt.resizing import LEVELS, PARTS, keys_within, smaller
from snowmelt.sources.duckdb import DuckDBSource

K, U, ID = Key("k", KeyKind.NUMBER), Key("u", KeyKind.TEXT), Key("id", KeyKind.NUMBER)
COLUMNS = (
    Column("k", pa.int64(), source_type="BIGINT"),
    Column("u", pa.string(), source_type="VARCHAR"),
    Column("id", pa.int64(), nullable=False, source_type="BIGINT"),
)
Row = tuple[int | None, str | None, int]


def table_of(
    *keys: str, row_key: tuple[str, ...] = (), chunk_rows: int = 10, snapshot: object = None
) -> LoadTable:
    source = SourceTable("", "", "t.parquet")
    job = TableJob(
        "s", source, TargetTable("", "public", "t"), keys=tuple(ChunkKey(k, None) for k in keys)
    )
    return LoadTable(
        1,
        job,
        COLUMNS,
        snapshot if isinstance(snapshot, dict) else {},
        row_key,
        chunk_rows=chunk_rows,
    )


def holds(range: Range, row: Row) -> bool:
    match range:
        case KeyRange(key, low, high, within):
            value = row[("k", "u", "id").index(key.column)]
            inside = value is not None and (
                (low is None or value >= low) and (high is None or value < high)  # type: ignore[operator]
            )
        case NullKeys(key, within):
            inside = row[("k", "u", "id").index(key.column)] is None
        case _:
            raise AssertionError(range)
    return inside and (within is None or holds(within, row))


class NotAsked:
    """A source that nobody may ask."""

    def refine(self, *_: object) -> tuple[KeyHistogram, ...]:
        raise AssertionError("the source was asked")


NOBODY: DuckDBSource = NotAsked()  # type: ignore[assignment]


# --- ranges ---------------------------------------------------------------------------------------

words = st.sampled_from(["", "a", "aa", "ab", "b", "é", "B"])
numbers = st.integers(-3, 12)


@st.composite
def tables(draw: st.DrawFn) -> list[Row]:
    """Some values are heavy, some rows have none."""
    several = draw(st.lists(st.tuples(st.none() | numbers, st.none() | words), max_size=40))
    heavy = draw(st.tuples(st.none() | numbers, st.none() | words))
    pairs = several + [heavy] * draw(st.sampled_from([0, 0, 20, 60]))
    return [(k, u, n) for n, (k, u) in enumerate(pairs)]


@st.composite
def spans(draw: st.DrawFn) -> Span:
    low, high = draw(st.none() | numbers), draw(st.none() | numbers)
    if low is not None and high is not None and low >= high:
        low, high = high, low + 1
    outers: list[Span] = [KeyRange(K, low, high), NullKeys(K)]
    outer = draw(st.sampled_from(outers))
    inner: list[Span] = [KeyRange(U, draw(st.none() | words), None, outer), NullKeys(U, outer)]
    return draw(st.sampled_from([outer, outer, *inner]))


def neighbours(parts: Sequence[Chunk]) -> list[Row]:
    """Rows that are not there, beside every bound."""
    ks: set[int | None] = {None, -(10**6), 10**6}
    us: set[str | None] = {None, "", "\U0010ffff"}
    for part in parts:
        range: Range | None = part.range
        while isinstance(range, KeyRange | NullKeys):
            for bound in (range.low, range.high) if isinstance(range, KeyRange) else ():
                if isinstance(bound, int):
                    ks |= {bound - 1, bound, bound + 1}
                if isinstance(bound, str):
                    us |= {bound, bound + "\0", bound + "a", bound[:-1]}
            range = range.within
    return [(k, u, id) for k in ks for u in us for id in (-1, 3, 10**6)]


def read(source: DuckDBSource, table: LoadTable, parts: Sequence[Chunk]) -> list[list[int]]:
    found = []
    for part in parts:
        of = (table.job.source, part, COLUMNS, table.snapshot, Tag(UUID(int=0)))
        with source.read(*of) as reading:
            found.append([id for batch in reading for id in batch.column("id").to_pylist()])
    return found


@settings(
    max_examples=settings().max_examples * 4 // 10,  # each writes a file and reads it many times
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(
    rows=tables(),
    span=spans(),
    keys=st.sampled_from([(), ("k",), ("k", "u")]),
    row_key=st.sampled_from([(), ("id",)]),
    exact=st.booleans(),
    chunk_rows=st.integers(1, 100),
)
def test_parts_are_exactly_the_range(
    tmp_path: Path,
    rows: list[Row],
    span: Span,
    keys: tuple[str, ...],
    row_key: tuple[str, ...],
    exact: bool,
    chunk_rows: int,
) -> None:
    columns = [[row[place] for row in rows] for place in range(3)]
    schema = pa.schema([pa.field(column.name, column.type) for column in COLUMNS])
    pq.write_table(pa.table(columns, schema=schema), tmp_path / "t.parquet")
    source = DuckDBSource("files", tmp_path)
    snapshot = source.describe(SourceTable("", "", "t.parquet")).snapshot
    table = table_of(*keys, row_key=row_key, chunk_rows=chunk_rows, snapshot=snapshot)
    inside = [row for row in rows if holds(span, row)]

    parts = smaller(Chunk(7, span, len(inside) if exact else None), table, source)

    ranged = ["k", "u", "id"]
    used = [ranged.index(key.column) for key in keys_within(span, table)]
    values = {tuple(row[place] for place in used) for row in inside}
    assert (parts is None) == (len(values) < 2), (parts, values)
    if parts is not None:
        assert [part.id for part in parts] == list(range(len(parts)))
        for row in (*rows, *neighbours(parts)):
            owners = [part.id for part in parts if holds(part.range, row)]
            assert len(owners) == holds(span, row), (row, parts)
        loaded = read(source, table, parts)
        assert sorted(id for ids in loaded for id in ids) == [row[2] for row in inside]
        sizes = [len(ids) if exact else None for ids in loaded]
        assert [part.planned_rows for part in parts] == sizes
        assert max(len(ids) for ids in loaded) < len(inside)
        for part, ids in zip(parts, loaded, strict=True):
            mine = {tuple(row[place] for place in used) for row in inside if holds(part.range, row)}
            assert len(ids) < 2 * max(len(inside) // PARTS, 1) or len(mine) == 1
    source.close()


def test_keys_are_the_range_s_own_then_chunking_columns_then_those_of_a_row() -> None:
    table = table_of("k", "u", row_key=("u", "id"))
    assert keys_within(KeyRange(K), table) == (K, U, ID)
    assert keys_within(NullKeys(K), table) == (K, U, ID)
    assert keys_within(KeyRange(U, None, "b", KeyRange(K, 1, 2)), table) == (U, ID)
    assert keys_within(NullKeys(ID, KeyRange(K, 1, 2)), table_of("k")) == (ID,)
    number = Key("u", KeyKind.TEXT_NUMBER)
    assert keys_within(KeyRange(number), table_of())[0].kind is KeyKind.TEXT_NUMBER


@pytest.mark.parametrize(
    "chunk",
    [
        Chunk(0, WholeTable(), 10**6),
        Chunk(0, QueryOnce(), 0),
        Chunk(0, ResultBatches("q", 3, (10**6,)), 10**6),
        Chunk(0, KeyRange(K), 1),
        Chunk(0, KeyRange(K), 0),
        Chunk(0, NullKeys(K), 10**6),
        Chunk(0, NullKeys(K), None),
    ],
)
def test_what_can_not_be_split_is_left_without_a_question(chunk: Chunk) -> None:
    assert smaller(chunk, table_of("k"), NOBODY) is None


def test_a_chunk_far_below_the_planned_size_is_not_split_further() -> None:
    """It is not for its rows that it is too heavy, and every level costs a timeout more."""
    size = 10 * PARTS**LEVELS
    assert smaller(Chunk(0, KeyRange(K), 9), table_of("k", chunk_rows=size), NOBODY) is None
    with pytest.raises(AssertionError, match="the source was asked"):
        smaller(Chunk(0, KeyRange(K), 10), table_of("k", chunk_rows=size), NOBODY)


def test_other_rows_than_planned_stop_the_table(tmp_path: Path) -> None:
    rows = "SELECT range AS k, 'x' AS u, range AS id FROM range(100)"
    duckdb.execute(f"COPY ({rows}) TO '{tmp_path / 't.parquet'}'")
    source = DuckDBSource("files", tmp_path)
    snapshot = source.describe(SourceTable("", "", "t.parquet")).snapshot
    table = table_of("k", snapshot=snapshot)
    with pytest.raises(CountMismatch, match="100 rows were counted, 99 were planned"):
        smaller(Chunk(0, KeyRange(K), 99), table, source)
    source.close()


# --- batches of a result --------------------------------------------------------------------------


@given(st.lists(st.integers(0, 500), min_size=2, max_size=60), st.booleans())
def test_batches_keep_their_order_in_groups(rows: list[int], exact: bool) -> None:
    assume(sum(rows) > max(rows))
    batches = ResultBatches("q", 5, tuple(rows))

    parts = smaller(Chunk(0, batches, sum(rows) if exact else None), table_of(), NOBODY)

    assert parts is not None
    assert len(parts) > 1
    first = 5
    for place, part in enumerate(parts):
        assert isinstance(part.range, ResultBatches)
        assert (part.id, part.range.query_id, part.range.first) == (place, "q", first)
        assert part.planned_rows == (sum(part.range.rows) if exact else None)
        assert len(part.range.rows) == 1 or sum(part.range.rows) <= max(sum(rows) // PARTS, 1)
        first += len(part.range.rows)
    assert [n for part in parts for n in part.range.rows] == rows  # type: ignore[union-attr]


# --- the end of it --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("range", "help"),
    [
        (KeyRange(K), "a further column in chunking_columns"),
        (NullKeys(K), "a further column in chunking_columns"),
        (WholeTable(), "a smaller batch_size"),
        (QueryOnce(), "extraction: query_per_chunk"),
        (ResultBatches("q", 0, (1,)), "extraction: query_per_chunk"),
    ],
)
def test_the_last_error_says_what_would_help(range: Range, help: str) -> None:
    heavy = TooHeavy(
        "it ran for an hour", remedy="raise statement_timeout_seconds", sqlstate="57014"
    )
    told = given_up(heavy, 6, Chunk(0, range, 100), table_of("k"))
    assert told.what == "gave up after 6 attempts: it ran for an hour"
    assert told.sqlstate == "57014"
    assert told.remedy is not None
    assert told.remedy.startswith(
        "raise statement_timeout_seconds, then run again: it resumes; or "
    )
    assert help in told.remedy
    other = given_up(RetriableError("deadlock"), 6, Chunk(0, range, 100), table_of("k"))
    assert other.remedy == "mend the cause, then run again: it resumes"


def test_of_a_chunk_with_few_rows_no_fewer_are_asked_for() -> None:
    heavy = TooHeavy("it ran for an hour", remedy="raise statement_timeout_seconds")
    table = table_of("k", chunk_rows=100 * PARTS**LEVELS)
    told = given_up(heavy, 6, Chunk(0, KeyRange(K), 99), table)
    assert told.remedy == "raise statement_timeout_seconds, then run again: it resumes"
