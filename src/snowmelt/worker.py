"""Move ONE chunk."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext

from snowmelt.ahead import read_ahead
from snowmelt.errors import CountMismatch, SnowmeltError, TooHeavy
from snowmelt.model import Claim, LoadTable, Outcome, Piece, Reading
from snowmelt.ports import Load, Source, Target

PIECES_AHEAD = 2
"""Encoded pieces that wait while one is sent: reading and encoding go on beside the server's work."""

OnBytes = Callable[[Claim, int, int], None]
"""Called as rows move: claim, rows, bytes on the wire. It may raise to stop the move."""


def move(
    claim: Claim,
    table: LoadTable,
    source: Source,
    target: Target,
    on_bytes: OnBytes,
    waiting: AbstractContextManager[None] | None = None,
) -> Outcome:
    """Read the claimed chunk and commit its rows together with the record that it is done.

    `waiting` is entered while the source gets the rows ready, when no bytes move.

    Raises ClaimLost, RetriableError or a FatalError; then nothing of this attempt is in the target, except
    after ConnectionLost from the commit itself, where only the ledger knows.
    """
    started = time.monotonic()
    rows = wire = 0
    tag = table.tag.chunk(claim.chunk.id)
    # The source first: a transaction of the target that is open while a query runs holds back its vacuum.
    with _within_memory(), ExitStack() as stack:
        from_source = stack.enter_context(ExitStack())
        with waiting or nullcontext():
            reading = from_source.enter_context(
                source.read(table.job.source, claim.chunk, table.columns, table.snapshot, tag)
            )
        load = stack.enter_context(target.load(claim, table))
        with read_ahead(_encoded(reading, load), PIECES_AHEAD) as pieces:
            for piece in pieces:
                load.send(piece)
                rows += piece.rows
                wire += len(piece.data)
                on_bytes(claim, piece.rows, len(piece.data))
                del piece  # before the next one is waited for
        from_source.close()  # it may have a last word on its snapshot
        planned = claim.chunk.planned_rows
        if planned is not None and rows != planned:
            raise CountMismatch(
                f"{rows:,} rows were read, {planned:,} were planned",
                table=str(table.job.source),
                chunk=claim.chunk.id,
                remedy="the source changed under the plan: load the table anew with --restart-table",
            )
        written = load.complete(rows, reading.floored)
        load.commit()
    return Outcome(claim.table_id, claim.chunk.id, rows, written, wire, time.monotonic() - started)


def _encoded(reading: Reading, load: Load) -> Iterator[Piece]:
    for batch in reading:
        yield from load.encode(batch)
        del batch  # before the next one is waited for


@contextmanager
def _within_memory() -> Iterator[None]:
    """Raise TooHeavy where memory ran out. Arrow's errors of this kind are MemoryErrors too, and a source may
    have put a name of its own to one that passed through it."""
    try:
        yield
    except (MemoryError, SnowmeltError) as error:
        if not isinstance(error, MemoryError) and not isinstance(error.__cause__, MemoryError):
            raise
        raise TooHeavy(
            "this process ran out of memory",
            remedy="lower parallel_threads, or give the process more memory",
        ) from error
