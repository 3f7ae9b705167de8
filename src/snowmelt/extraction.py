"""How a table's rows leave the source: a query per chunk, or one query whose kept result is read in parts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import pyarrow as pa

from snowmelt.chunks import Chunk, DateRangeStrategy, Loaded, ResultSetStrategy, query_once
from snowmelt.errors import CountMismatch
from snowmelt.model import (
    ChunkKey,
    Claim,
    Column,
    Extraction,
    LoadTable,
    Relation,
    TableJob,
)
from snowmelt.ports import QuerySource, Replan, Source


@dataclass(frozen=True, slots=True)
class Way:
    """The way that was picked, and why."""

    extraction: Extraction
    reason: str


def pick(job: TableJob, relation: Relation, source: Source) -> Way:
    """`query_per_chunk` or `one_query`, as the config says or else by what the table has.

    One query scans the table once and needs no key, but its result is kept for a day only: after that, what
    was not loaded is read again by a key, or all of it without one. It needs a source that keeps results.
    """
    if job.extraction is not Extraction.AUTO:
        return Way(job.extraction, "the config says so")
    if job.keys:
        return Way(Extraction.QUERY_PER_CHUNK, "chunking_columns names a key")
    if not isinstance(source, QuerySource):
        return Way(Extraction.QUERY_PER_CHUNK, "chunking_columns names none")
    if relation.rows is not None and relation.rows <= job.batch_size:
        return Way(Extraction.QUERY_PER_CHUNK, "the table fits into one chunk")
    return Way(
        Extraction.ONE_QUERY,
        "without chunking_columns one query scans the table once, "
        "and its result is loaded in parallel",
    )


def day_key(job: TableJob, columns: Sequence[Column]) -> ChunkKey | None:
    """The chunking column if days can be made of it."""
    for key in job.keys[:1]:
        for column in columns:
            if column.name == key.column and (
                pa.types.is_date(column.type) or pa.types.is_timestamp(column.type)
            ):
                return key
    return None


def run_query(claim: Claim, table: LoadTable, source: QuerySource) -> tuple[Chunk, ...]:
    """Run the table's one query; returns the chunks of its result. Raises CountMismatch."""
    tag = table.tag.chunk(claim.chunk.id)
    result = source.extract(table.job.source, table.columns, table.snapshot, tag)
    rows = sum(result.rows)
    if table.planned_rows is not None and rows != table.planned_rows:
        raise CountMismatch(
            f"the query gave {rows:,} rows, {table.planned_rows:,} were planned",
            table=str(table.job.source),
            remedy="the source changed under the plan: load the table anew with --restart-table",
        )
    return ResultSetStrategy(table.job.batch_size).chunks(result.query_id, result.rows)


def replan(table: LoadTable, source: Source) -> Replan:
    """How to go on when the result is gone: what is not loaded in whole days is read by ranges of the key on
    the same snapshot; without a key, or with no day whole, the query runs again for all of it.

    Raises SourceChanged when the snapshot is gone too.
    """
    key = day_key(table.job, table.columns)
    if (
        key is None or table.planned_rows is None
    ):  # nothing held the rows still: no day is comparable
        return Replan(_again)
    histogram = source.days(table.job.source, key, table.snapshot)
    strategy = DateRangeStrategy(table.job.batch_size)

    def chunks(loaded: Loaded) -> Sequence[tuple[Chunk, bool]]:
        return strategy.chunks_beside(histogram, loaded) if loaded else _again(loaded)

    return Replan(chunks, histogram)


def _again(_loaded: Loaded) -> Sequence[tuple[Chunk, bool]]:
    return [(chunk, False) for chunk in query_once()]
