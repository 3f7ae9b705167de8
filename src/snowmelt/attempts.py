"""One attempt at a claimed chunk: its rows move, or other chunks take its place."""

from __future__ import annotations

import logging
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

from snowmelt.chunking.chunks import Chunk, QueryOnce
from snowmelt.errors import (
    NeedsStaging,
    RetriableError,
    RunError,
    SnowmeltError,
    TableError,
    TooHeavy,
)
from snowmelt.extraction import run_query
from snowmelt.formats import duration
from snowmelt.model import Claim, LoadTable, Outcome
from snowmelt.periodic import every
from snowmelt.ports import Claims, QuerySource, Source, Target
from snowmelt.resizing import smaller, what_helps
from snowmelt.worker import OnBytes, move

_log = logging.getLogger(__name__)

BEAT_SECONDS = 0.5
"""Between two signs of life of a claim that waits for a query to run: no bytes move meanwhile. They are kept in
memory, for the next heartbeat."""
MUCH_LONGER = 3.0
"""Times what a chunk had when it was cut off: in so long it may well be moved as it is."""


@dataclass(frozen=True, slots=True)
class Expanded:
    """The table's one query ran, and its result is `chunks` chunks."""

    chunks: int


@dataclass(frozen=True, slots=True)
class Resized:
    """The chunk was too heavy, and `chunks` smaller ones are in its place."""

    chunks: int


def attempt(
    claim: Claim,
    table: LoadTable,
    source: Source,
    claims: Claims,
    target: Target,
    on_bytes: OnBytes,
    seconds_left: float | None = None,
) -> Outcome | Expanded | Resized:
    """Move the claimed chunk, or replace it. Raises what `worker.move` raises, and TooHeavy only for a chunk
    that nothing splits.

    `seconds_left`: how long the process may go on, where something ends it. A chunk for which another process had
    not the time is replaced where this one has hardly more.
    """
    if claim.taken_over:
        _cancel_left_behind(source, table, claim)
    if isinstance(claim.chunk.range, QueryOnce):
        return _expand(claim, table, source, claims)
    if _overruns(claim, seconds_left):
        reason = f"{duration(claim.overran_seconds or 0)} were not enough for it"
        if resized := resize(claim, table, source, claims, reason):
            return resized
    try:
        try:
            return move(claim, table, source, target, on_bytes, signs_of_life(claims, claim))
        except NeedsStaging as error:
            _stage(claim, table, claims, error)
            return move(claim, table, source, target, on_bytes, signs_of_life(claims, claim))
    except TooHeavy as error:
        resized = resize(claim, table, source, claims, str(error))
        if resized is None:
            raise
        return resized


def _overruns(claim: Claim, seconds_left: float | None) -> bool:
    if claim.overran_seconds is None or seconds_left is None:
        return False
    return seconds_left < MUCH_LONGER * claim.overran_seconds


def _stage(claim: Claim, table: LoadTable, claims: Claims, error: NeedsStaging) -> None:
    """From the first row that is there already the table's chunks are merged, whoever moves them."""
    if claims.stage(claim):
        _log.info(
            "%s: %s; its chunks go through staging from here on",
            table.job,
            error.what,
            extra={"action": "staged", "table": str(table.job.target), "chunk_id": claim.chunk.id},
        )


def _expand(claim: Claim, table: LoadTable, source: Source, claims: Claims) -> Expanded:
    """Run the table's one query, and write the chunks of its result."""
    if not isinstance(source, QuerySource):
        raise TableError(
            "the chunks are those of a query's result, and this source keeps none",
            remedy="put the source's connection back, or run with --restart-table",
        )
    with signs_of_life(claims, claim):
        chunks = run_query(claim, table, source)
    claims.expand(claim, chunks)
    _log.info(
        "the query of %s gave %s chunks",
        table.job,
        f"{len(chunks):,}",
        extra={"action": "query_extracted", "table": str(table.job.target)},
    )
    return Expanded(len(chunks))


def resize(
    claim: Claim, table: LoadTable, source: Source, claims: Claims, reason: str
) -> Resized | None:
    """Put smaller chunks in the place of the claimed one, whose claim is over then; None where nothing splits
    it, and the claim stands. Any holder of a claim may ask for it, after an error or without one.

    Raises ClaimLost, and what the source and the ledger raise: then nothing has changed, except after
    ConnectionLost, where only the ledger knows.
    """
    with labelled(source, table, claim), signs_of_life(claims, claim):
        parts = smaller(claim.chunk, table, source)
    if parts is None:
        return None
    claims.resize(claim, parts, reason)
    _log.warning(
        "chunk %s of %s is replaced by %s smaller ones: %s",
        claim.chunk.id,
        table.job,
        f"{len(parts):,}",
        reason,
        extra={
            "action": "chunk_resized",
            "table": str(table.job.target),
            "chunk_id": claim.chunk.id,
            "chunks": len(parts),
        },
    )
    return Resized(len(parts))


def labelled(source: Source, table: LoadTable, claim: Claim) -> AbstractContextManager[None]:
    """What is counted for a chunk is found by its tag, as the query for its rows is, when its worker is gone."""
    if isinstance(source, QuerySource):
        return source.labelled(table.tag.chunk(claim.chunk.id))
    return nullcontext()


def given_up(error: RetriableError, attempts: int, chunk: Chunk, table: LoadTable) -> TableError:
    """What a table is told after the last attempt at one of its chunks."""
    remedy = "mend the cause, then run again: it resumes"
    if isinstance(error, TooHeavy):
        remedy = f"{error.remedy or 'mend the cause'}, then run again: it resumes"
        other = what_helps(chunk, table)
        remedy += f"; or {other}" if other else ""
    return TableError(
        f"gave up after {attempts} attempts: {error.what}", sqlstate=error.sqlstate, remedy=remedy
    )


def _cancel_left_behind(source: Source, table: LoadTable, claim: Claim) -> None:
    """End the query of the worker that had the chunk before: it burns credits for nobody."""
    if not isinstance(source, QuerySource):
        return
    try:
        source.cancel(table.job.source, table.tag.chunk(claim.chunk.id))
    except RunError:
        raise
    except SnowmeltError as error:
        _log.warning("%s", error, extra={"action": "cancel_failed", "table": str(table.job.target)})


def signs_of_life(claims: Claims, claim: Claim) -> AbstractContextManager[None]:
    """Beat for a claim while a query runs; how long that may take is the source's to limit."""
    return every(BEAT_SECONDS, lambda: claims.beat(claim), "waiting")
