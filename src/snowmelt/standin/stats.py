"""What the server has been asked for since the counts were reset."""

from __future__ import annotations

import dataclasses
import threading
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Stats:
    """Counts since the last reset; `statements` and `tags` are the texts and QUERY_TAGs received.

    `bytes` is of chunk bodies; `max_inflight` the most GETs of chunks at one time.
    """

    chunk_gets: int = 0
    bytes: int = 0
    queries: int = 0
    logins: int = 0
    max_inflight: int = 0
    statements: tuple[str, ...] = ()
    tags: tuple[str, ...] = ()


class Counts:
    """The counts as they grow; thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._stats = Stats()
        self._inflight = 0

    @property
    def now(self) -> Stats:
        return self._stats

    def reset(self) -> None:
        with self._lock:
            self._stats = Stats()

    def login(self) -> None:
        with self._lock:
            self._stats = dataclasses.replace(self._stats, logins=self._stats.logins + 1)

    def query(self, statement: str, tag: str) -> None:
        with self._lock:
            old = self._stats
            self._stats = dataclasses.replace(
                old,
                queries=old.queries + 1,
                statements=(*old.statements, statement),
                tags=(*old.tags, tag),
            )

    def chunk_starts(self) -> None:
        with self._lock:
            self._inflight += 1
            old = self._stats
            self._stats = dataclasses.replace(
                old,
                chunk_gets=old.chunk_gets + 1,
                max_inflight=max(old.max_inflight, self._inflight),
            )

    def chunk_ends(self, size: int) -> None:
        with self._lock:
            self._inflight -= 1
            self._stats = dataclasses.replace(self._stats, bytes=self._stats.bytes + size)
