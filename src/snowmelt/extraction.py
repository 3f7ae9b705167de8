"""How a table's rows leave the source: a query per chunk, or one query whose kept result is read in parts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from snowmelt.choices import Extraction
from snowmelt.chunking.chunks import Chunk, Key, query_once
from snowmelt.chunking.histogram import KeyHistogram, Loaded
from snowmelt.chunking.keys import FoundKey, KeyProblem, keys_of, own_key
from snowmelt.chunking.strategies import (
    ResultSetStrategy,
    chunks_beside,
    heavy_spans,
    refined,
    strategy_of,
)
from snowmelt.errors import CountMismatch
from snowmelt.model import Claim, LoadTable, Relation, SourceTable, TableJob, into
from snowmelt.ports import QuerySource, Replan, Source

ROWS_PER_SECOND = 100_000
"""For the expected duration that retentions are held against: a fifth of what one machine of 2 cores moved."""
RESULT_HOURS = 24.0
"""Snowflake keeps a result for so long: https://docs.snowflake.com/en/user-guide/querying-persisted-results"""
RESULT_SHARE = 0.25
"""Of the time that a result is kept, what a load may be expected to take of it: the rest is for stops."""


@dataclass(frozen=True, slots=True)
class Way:
    """The way that was picked, by which keys if it is by chunks of a key, and why."""

    extraction: Extraction
    keys: tuple[Key, ...]
    reason: str


def pick(
    job: TableJob, keys: tuple[Key, ...], relation: Relation, source: Source, chunk_rows: int
) -> Way:
    """`query_per_chunk` or `one_query`, as the config says or else by what the table has.

    One query scans the table once and needs no key, but its result is kept for a day only: after that, what
    was not loaded is read again by a key, or all of it without one. It needs a source that keeps results.
    """
    if job.extraction is Extraction.ONE_QUERY:
        return Way(Extraction.ONE_QUERY, (), "the config says so")
    if keys:
        return Way(Extraction.QUERY_PER_CHUNK, keys, "chunking_columns names it")
    rows = relation.rows
    if rows is not None and rows <= chunk_rows:
        return Way(Extraction.QUERY_PER_CHUNK, (), "the table fits into one chunk")
    own = own_key(relation, job.source_watermark)
    keeps_results = isinstance(source, QuerySource) and job.extraction is Extraction.AUTO
    hours = (rows or 0) / ROWS_PER_SECOND / 3600
    if keeps_results and (own is None or hours <= RESULT_HOURS * RESULT_SHARE):
        return Way(Extraction.ONE_QUERY, (), _why_one_query(own))
    if own is None:
        return Way(
            Extraction.QUERY_PER_CHUNK,
            (),
            "chunking_columns names no key, and the table has none to make chunks of: it is streamed as one",
        )
    reason = f"chunking_columns names none: by {own.what}"
    if keeps_results:
        reason += f", since the result of one query is kept for {RESULT_HOURS:.0f} hours only"
    return Way(Extraction.QUERY_PER_CHUNK, own.keys, reason)


def _why_one_query(own: FoundKey | None) -> str:
    reason = (
        "chunking_columns names none: one query scans the table once, and its result is loaded "
        "in parallel"
    )
    if own is None:
        return f"{reason}; the table has no key of its own to make chunks of"
    return f"{reason} (by {own.what}, each chunk would be a query)"


def counted(
    table: SourceTable,
    keys: Sequence[Key],
    source: Source,
    snapshot: Mapping[str, object],
    chunk_rows: int,
    rows: int | None = None,
) -> KeyHistogram:
    """The rows by ranges of the first key, by one aggregated query. `rows` is about how many there are."""
    grain = strategy_of(keys[0].kind).grain(rows, chunk_rows)
    return source.histogram(table, keys[0], snapshot, grain)


def recounted(
    histogram: KeyHistogram,
    table: SourceTable,
    keys: Sequence[Key],
    source: Source,
    snapshot: Mapping[str, object],
    chunk_rows: int,
) -> KeyHistogram:
    """The same, with what is too heavy for a chunk counted by the keys' own values, by one query if any is."""
    spans = heavy_spans(histogram, keys, chunk_rows)
    if not spans:
        return histogram
    return refined(histogram, spans, source.refine(table, keys, snapshot, spans, chunk_rows))


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
    return ResultSetStrategy(table.chunk_rows).chunks(result.query_id, result.rows)


def replan(table: LoadTable, source: Source) -> Replan:
    """How to go on when the result is gone: what is not loaded in whole days is read by ranges of the key on
    the same snapshot; without a key, or with no day whole, the query runs again for all of it.

    Raises SourceChanged when the snapshot is gone too.
    """
    key = _time_key(table)
    if (
        key is None or table.planned_rows is None
    ):  # nothing held the rows still: no day is comparable
        return Replan(_again)
    of = (table.job.source, (key,), source, table.snapshot, table.chunk_rows)
    histogram = recounted(counted(*of), *of)

    def chunks(loaded: Loaded) -> Sequence[tuple[Chunk, bool]]:
        return chunks_beside(histogram, table.chunk_rows, loaded) if loaded else _again(loaded)

    days = histogram.days()
    (there,) = into(table.columns, (key.column,))
    return Replan(chunks, replace(days, key=replace(days.key, column=there)))


def _time_key(table: LoadTable) -> Key | None:
    """The first chunking column if days can be made of it."""
    relation = Relation(table.columns, table.key, table.snapshot)
    keys = keys_of(table.job.keys[:1], relation)
    if isinstance(keys, KeyProblem):
        return None
    return next((key for key in keys if key.kind.is_time), None)


def _again(_loaded: Loaded) -> Sequence[tuple[Chunk, bool]]:
    return [(chunk, False) for chunk in query_once()]
