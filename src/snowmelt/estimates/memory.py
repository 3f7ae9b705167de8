"""What a run may hold in memory, against what there is.

A process holds what it has loaded, and for each worker the batches of its source, the pieces that they are encoded
into, and the keys of rows that were sent: each bounded by a constant, none by the size of a table or a run.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

CACHE_SHARE = 0.8
"""Of the machine's memory, what DuckDB takes at most: https://duckdb.org/docs/stable/configuration/overview"""


class Cache(StrEnum):
    """What keeps the files of a source in memory, once they were read, while there is room."""

    NONE = "none"
    PROCESS = "process"
    WORKER = "worker"
    """Each worker keeps its own."""


@dataclass(frozen=True, slots=True)
class Flow:
    """The bounds of what is under way from one kind of source, all in bytes."""

    base: int
    """Of the process, before a row moves."""
    batch: int
    """Of a batch of the source, at most."""
    batches: int
    """So many at the same time in a worker."""
    encoded: int
    """Of pieces on the way to COPY, in a worker."""
    trail: int
    """Of rows that were sent and whose keys are remembered, in a worker."""
    engine: int = 0
    """What the source's client holds beside its batches, in a worker."""
    batch_rows: int = 1
    """A batch has so many rows at least, however wide they are."""
    cache: Cache = Cache.NONE


@dataclass(frozen=True, slots=True)
class Load:
    """What of a table decides how much of it is in memory. `chunk_bytes` is None where it is not known."""

    row_bytes: int
    key_bytes: int
    """Of a row's key, which is remembered after the row was sent."""
    chunk_bytes: int | None = None
    """Of its largest chunk."""


@dataclass(frozen=True, slots=True)
class MemoryLimit:
    """How much there is, in bytes, and who says so."""

    bytes: int
    what: str
    shared: bool = False
    """Whether other processes live on it too."""


@dataclass(frozen=True, slots=True)
class Memory:
    """What a run may hold at most, in bytes: `base`, and `per_worker` for each of its `workers`."""

    base: int
    per_worker: int
    workers: int
    cache: int = 0
    """What files that were read take beside that, while there is room; it is given up where there is none."""
    limit: MemoryLimit | None = None

    @property
    def bytes(self) -> int:
        return self.base + self.workers * self.per_worker

    @property
    def fits(self) -> bool | None:
        """None where nobody knows how much there is."""
        return None if self.limit is None else self.bytes <= self.limit.bytes

    @property
    def fitting_workers(self) -> int | None:
        """As many workers as there is room for: 0 where one is too many, None where the limit is not known."""
        if self.limit is None:
            return None
        room = self.limit.bytes - self.base
        return max(room // self.per_worker, 0) if self.per_worker else self.workers


def worker_bytes(flow: Flow, load: Load) -> int:
    """What one worker may hold of a table. A batch is no larger than its chunk, and no smaller than a row."""
    batch = max(flow.batch, flow.batch_rows * load.row_bytes)
    if load.chunk_bytes is not None:
        batch = min(batch, max(load.chunk_bytes, load.row_bytes))
    remembered = flow.trail * min(load.key_bytes, load.row_bytes) // max(load.row_bytes, 1)
    return flow.batches * batch + flow.encoded + remembered + flow.engine


def cached_bytes(files: Iterable[tuple[Cache, int]], workers: int, memory: int | None) -> int:
    """Of files, each with its bytes, what is kept in memory at most; `memory` is all there is, if known."""
    times = {Cache.NONE: 0, Cache.PROCESS: 1, Cache.WORKER: workers}
    kept = sum(times[cache] * bytes for cache, bytes in files)
    return kept if memory is None else min(kept, int(CACHE_SHARE * memory))
