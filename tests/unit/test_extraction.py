"""A query per chunk or one query for all: which of them, by which keys, and why."""

from __future__ import annotations

from unittest.mock import Mock

import pyarrow as pa
import pytest

from snowmelt.choices import Extraction
from snowmelt.chunking.chunks import Key, KeyKind
from snowmelt.extraction import RESULT_HOURS, RESULT_SHARE, ROWS_PER_SECOND, Way, pick
from snowmelt.model import Column, Relation, SourceTable, TableJob, TargetTable
from snowmelt.ports import QuerySource, Source
from snowmelt.sources.duckdb import DuckDBSource
from snowmelt.sources.snowflake.source import SnowflakeSource

SIZE = 1_000
LONG = int(RESULT_HOURS * RESULT_SHARE * 3600 * ROWS_PER_SECOND)
"""So many rows are loaded in the time that a result may be relied on."""
AT, ID = Key("at", KeyKind.DATE), Key("id", KeyKind.NUMBER)
COLUMNS = (
    Column("at", pa.date32()),
    Column("id", pa.int64()),
    Column("json", pa.string(), True, "VARIANT"),
)
CHUNKED, ONE = Extraction.QUERY_PER_CHUNK, Extraction.ONE_QUERY
ONCE = "chunking_columns names none: one query scans the table once, and its result is loaded in parallel"
KEYLESS = (
    "chunking_columns names no key, and the table has none to make chunks of: it is streamed as one"
)
KEPT = "since the result of one query is kept for 24 hours only"


def relation(rows: int | None, clustering: str = "", primary_key: str = "") -> Relation:
    return Relation(
        COLUMNS, tuple(primary_key.split()), {}, rows=rows, clustering=tuple(clustering.split())
    )


def picked(
    source: type[Source],
    of: Relation,
    keys: tuple[Key, ...] = (),
    extraction: Extraction = Extraction.AUTO,
    watermark: str | None = None,
) -> Way:
    job = TableJob(
        "s",
        SourceTable("", "", "t"),
        TargetTable("d", "public", "t"),
        extraction=extraction,
        source_watermark=watermark,
    )
    return pick(job, keys, of, Mock(spec=source), SIZE)


def test_one_of_the_sources_keeps_results() -> None:
    assert isinstance(Mock(spec=SnowflakeSource), QuerySource)
    assert not isinstance(Mock(spec=DuckDBSource), QuerySource)


@pytest.mark.parametrize(
    ("rows", "clustering", "primary_key", "way"),
    [
        (SIZE, "at", "id", Way(CHUNKED, (), "the table fits into one chunk")),
        (0, "", "", Way(CHUNKED, (), "the table fits into one chunk")),
        (SIZE + 1, "", "", Way(CHUNKED, (), KEYLESS)),
        (None, "", "", Way(CHUNKED, (), KEYLESS)),
        (SIZE + 1, "", "json", Way(CHUNKED, (), KEYLESS)),
        (SIZE + 1, "at", "id",
         Way(CHUNKED, (AT,), "chunking_columns names none: by the clustering key at")),
        (LONG * 9, "", "id",
         Way(CHUNKED, (ID,), "chunking_columns names none: by the primary key id")),
        (None, "", "at id",
         Way(CHUNKED, (AT, ID), "chunking_columns names none: by the primary key at, id")),
    ],
)  # fmt: skip
def test_files(rows: int | None, clustering: str, primary_key: str, way: Way) -> None:
    """They keep no result: a key of the table's own is taken, if it has one."""
    of = relation(rows, clustering, primary_key)
    for extraction in (Extraction.AUTO, CHUNKED):
        assert picked(DuckDBSource, of, extraction=extraction) == way


@pytest.mark.parametrize(
    ("rows", "clustering", "primary_key", "way"),
    [
        (SIZE, "at", "id", Way(CHUNKED, (), "the table fits into one chunk")),
        (SIZE + 1, "", "",
         Way(ONE, (), f"{ONCE}; the table has no key of its own to make chunks of")),
        (LONG * 9, "", "json",
         Way(ONE, (), f"{ONCE}; the table has no key of its own to make chunks of")),
        (SIZE + 1, "at", "id",
         Way(ONE, (), f"{ONCE} (by the clustering key at, each chunk would be a query)")),
        (LONG, "", "id", Way(ONE, (), f"{ONCE} (by the primary key id, each chunk would be a query)")),
        (None, "at", "", Way(ONE, (), f"{ONCE} (by the clustering key at, each chunk would be a query)")),
        (LONG + 1, "at", "id",
         Way(CHUNKED, (AT,), f"chunking_columns names none: by the clustering key at, {KEPT}")),
        (LONG * 9, "", "at id",
         Way(CHUNKED, (AT, ID), f"chunking_columns names none: by the primary key at, id, {KEPT}")),
    ],
)  # fmt: skip
def test_a_source_that_keeps_results(
    rows: int | None, clustering: str, primary_key: str, way: Way
) -> None:
    """One query, unless the table is so large that its result may be gone, and it has a key of its own."""
    assert picked(SnowflakeSource, relation(rows, clustering, primary_key)) == way


@pytest.mark.parametrize(
    ("rows", "clustering", "way"),
    [
        (SIZE, "at", Way(CHUNKED, (), "the table fits into one chunk")),
        (SIZE + 1, "", Way(CHUNKED, (), KEYLESS)),
        (SIZE + 1, "at", Way(CHUNKED, (AT,), "chunking_columns names none: by the clustering key at")),
    ],
)  # fmt: skip
def test_query_per_chunk_is_as_the_config_says(rows: int, clustering: str, way: Way) -> None:
    assert picked(SnowflakeSource, relation(rows, clustering), extraction=CHUNKED) == way


@pytest.mark.parametrize("source", [DuckDBSource, SnowflakeSource])
@pytest.mark.parametrize("rows", [None, 0, SIZE, LONG * 9])
def test_the_config_s_own_wishes_come_first(source: type[Source], rows: int | None) -> None:
    of = relation(rows, "at", "id")
    for extraction in (Extraction.AUTO, CHUNKED):
        by_key = picked(source, of, (ID, AT), extraction)
        assert by_key == Way(CHUNKED, (ID, AT), "chunking_columns names it")
    for keys in ((), (ID,)):
        assert picked(source, of, keys, ONE) == Way(ONE, (), "the config says so")


def test_a_watermark_is_a_key_of_the_table_s_own() -> None:
    way = picked(DuckDBSource, relation(SIZE + 1, "", "id"), watermark="at")
    assert way == Way(CHUNKED, (AT,), "chunking_columns names none: by the watermark at")
