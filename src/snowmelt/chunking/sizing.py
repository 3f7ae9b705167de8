"""How many rows a chunk gets where the config leaves it open: by time, and so that no worker idles at the end.

Rows stream, so memory has no say. A chunk is what is done again after a failure, and what a worker finishes before
it stops; each costs a query of the source.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import pyarrow as pa

from snowmelt.model import Column

BYTES_PER_SECOND = 20_000_000
"""What one worker moves, counted as bytes of COPY. PostgreSQL 18 took 50 to 60 MB/s from one on 2 cores, at 200
bytes a row and at 2.7 kB; a network and other work leave less."""
CHUNK_SECONDS = 30.0
LEAST_SECONDS = 2.0
"""Below this the start of a chunk's query costs more than its rows."""
CHUNKS_PER_WORKER = 8
"""With so many for each, the last ones end within an eighth of the run of one another."""
DEADLINE_SHARE = 0.1
"""Of the time until a deadline: what is left undone there is done again."""
TEXT_BYTES = 32
"""A guess, for text whose length nobody measured."""


@dataclass(frozen=True, slots=True)
class ChunkSize:
    """Rows of a chunk, about, and why."""

    rows: int
    reason: str


def chunk_size(
    batch_size: int | None,
    row_bytes: int,
    *,
    rows: int | None,
    workers: int,
    deadline_seconds: float | None = None,
) -> ChunkSize:
    """`batch_size` if the config names it; else what `workers` move in some seconds, of rows of `row_bytes`.

    `rows` is how many there are, if that is known; `deadline_seconds` how long a process may run.
    """
    if batch_size is not None:
        return ChunkSize(batch_size, "batch_size says so")
    per_second = BYTES_PER_SECOND / max(row_bytes, 1)
    seconds, reason = CHUNK_SECONDS, f"{CHUNK_SECONDS:.0f} s of work"
    if deadline_seconds is not None and deadline_seconds * DEADLINE_SHARE < seconds:
        seconds = max(deadline_seconds * DEADLINE_SHARE, LEAST_SECONDS)
        reason = f"{seconds:.0f} s of work, as the deadline asks for"
    wanted = per_second * seconds
    if rows is not None and rows / (workers * CHUNKS_PER_WORKER) < wanted:
        wanted = rows / (workers * CHUNKS_PER_WORKER)
        reason = f"{CHUNKS_PER_WORKER} chunks for each of {workers} workers"
    if wanted < per_second * LEAST_SECONDS:
        wanted = per_second * LEAST_SECONDS
        reason = f"{LEAST_SECONDS:.0f} s of work, the least"
    return ChunkSize(max(_rounded(wanted), 1), reason)


def row_bytes(columns: Iterable[Column], texts: Mapping[str, float] | None = None) -> int:
    """What a row weighs on the way to PostgreSQL, by the types of its columns: a guess where there is text, unless
    `texts` has the mean bytes of a column's values."""
    known = texts or {}
    return int(sum(4 + known.get(one.name, _value_bytes(one.type)) for one in columns)) + 2


def _value_bytes(type: pa.DataType) -> int:
    if pa.types.is_decimal(type):
        return 8 + int(type.precision) // 2
    try:
        return max(int(type.bit_width) // 8, 1)
    except ValueError:
        return TEXT_BYTES


def _rounded(rows: float) -> int:
    """To two digits: nobody means 123,457."""
    whole = int(rows)
    step: int = 10 ** max(len(str(whole)) - 2, 0)
    return whole // step * step
