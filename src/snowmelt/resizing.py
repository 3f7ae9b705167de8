"""A chunk that proved too heavy, in smaller ones that together are exactly its rows."""

from __future__ import annotations

from snowmelt.chunking.chunks import (
    Chunk,
    Key,
    KeyRange,
    NullKeys,
    QueryOnce,
    ResultBatches,
    Span,
    WholeTable,
)
from snowmelt.chunking.keys import KeyProblem, key_of
from snowmelt.chunking.strategies import ResultSetStrategy, parts_of
from snowmelt.errors import CountMismatch
from snowmelt.model import ChunkKey, LoadTable, Relation
from snowmelt.ports import Source

PARTS = 8
"""Of a chunk, about: so many that a part is clearly lighter, and so few that a chunk which was a little too heavy
is not made many."""
LEVELS = 3
"""A part of a part of a part has a 512th of a chunk's rows. What is too heavy even so is not so for its rows, and
each further attempt would cost a timeout."""
KEYS = 3
"""By so many at most is counted: each sorts all rows of the chunk's values once more."""


def smaller(chunk: Chunk, table: LoadTable, source: Source) -> tuple[Chunk, ...] | None:
    """The chunk in smaller ones, numbered by their places; None where nothing splits it.

    Of ranges the source is asked, by one aggregated query, or two where no rows were planned; of a result the
    batches are known. Parts have planned rows where the chunk has.

    Raises CountMismatch where the source has not the rows that were planned, and what `Source.refine` raises.
    """
    match chunk.range:
        case ResultBatches() as batches:
            parts = _groups(batches)
        case KeyRange() | NullKeys() as span:
            parts = _of_span(span, chunk, table, source)
        case _:
            return None
    rows = [part.planned_rows or 0 for part in parts]
    if max(rows, default=0) == sum(rows):
        return None  # one part has them all
    if chunk.planned_rows is None:
        return tuple(Chunk(part.id, part.range, None) for part in parts)
    return parts


def _groups(batches: ResultBatches) -> tuple[Chunk, ...]:
    strategy = ResultSetStrategy(max(sum(batches.rows) // PARTS, 1))
    return tuple(
        Chunk(place, group, sum(group.rows)) for place, group in enumerate(strategy.groups(batches))
    )


def _of_span(span: Span, chunk: Chunk, table: LoadTable, source: Source) -> tuple[Chunk, ...]:
    """Parts with the rows that were counted just now; none where the range is not worth a question."""
    keys = keys_within(span, table)
    if isinstance(span, NullKeys) and len(keys) == 1:
        return ()  # all its rows have one value
    planned = chunk.planned_rows
    if planned is None:
        return _uncounted(span, keys, table, source)
    if not _is_worth_it(planned, table):
        return ()
    part_rows = max(planned // PARTS, 1)
    (found,) = source.refine(table.job.source, keys, table.snapshot, [span], part_rows)
    if found.rows != planned:
        raise CountMismatch(
            f"{found.rows:,} rows were counted, {planned:,} were planned",
            table=str(table.job.source),
            chunk=chunk.id,
            remedy="the source changed under the plan: load the table anew with --restart-table",
        )
    return parts_of(span, found, part_rows)


def _uncounted(
    span: Span, keys: tuple[Key, ...], table: LoadTable, source: Source
) -> tuple[Chunk, ...]:
    """Nobody knows how many rows the range has now: asked as if it had a chunk's, the source tells."""
    part_rows = max(table.chunk_rows // PARTS, 1)
    (found,) = source.refine(table.job.source, keys, table.snapshot, [span], part_rows)
    if not _is_worth_it(found.rows, table):
        return ()
    wanted = max(found.rows // PARTS, 1)
    if wanted < part_rows:
        (found,) = source.refine(table.job.source, keys, table.snapshot, [span], wanted)
    return parts_of(span, found, wanted)


def _is_worth_it(rows: int, table: LoadTable) -> bool:
    return rows > 1 and rows * PARTS**LEVELS >= table.chunk_rows


def keys_within(span: Span, table: LoadTable) -> tuple[Key, ...]:
    """The range's own key, then what may split one value of it: the other chunking columns, and columns that
    tell a row, as far as they can be ranged over and the range is not one of theirs already."""
    ranged = set(_columns(span))
    keys = [span.key]
    relation = Relation(table.columns, table.key, table.snapshot)
    for chosen in (*table.job.keys, *(ChunkKey(name, None) for name in table.key)):
        key = key_of(chosen, relation)
        if not isinstance(key, KeyProblem) and key.column not in ranged:
            ranged.add(key.column)
            keys.append(key)
    return tuple(keys[:KEYS])


def _columns(span: Span | None) -> list[str]:
    return [] if span is None else [span.key.column, *_columns(span.within)]


def what_helps(chunk: Chunk, table: LoadTable) -> str | None:
    """What a person can do where nothing splits a chunk, beside giving it more time or memory; None if its rows
    are few already."""
    rows = chunk.planned_rows
    match chunk.range:
        case KeyRange() | NullKeys() if rows is not None and not _is_worth_it(rows, table):
            return None
        case KeyRange() | NullKeys():
            change = "name a further column in chunking_columns"
        case WholeTable():
            change = "name chunking_columns, or a smaller batch_size where the table has a key"
        case QueryOnce():
            change = "set extraction: query_per_chunk"
        case ResultBatches():
            change = "set extraction: query_per_chunk with a smaller batch_size"
    return f"{change}, and load the table anew with --restart-table"
