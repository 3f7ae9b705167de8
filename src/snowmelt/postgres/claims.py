"""The chunks of a run as a queue with fences.

A claim commits on its own, durably, so that others see it. Its token is random: a counter would fall back
after a crash of the server, and two workers could then hold the same number.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, TypeVar, cast
from uuid import UUID, uuid4

import psycopg
from psycopg import errors as pg
from psycopg.rows import dict_row
from psycopg.types.json import Jsonb

from snowmelt.chunking.chunks import Chunk, range_from_json, range_to_json
from snowmelt.errors import ClaimLost, ConnectionLost, RetriableError
from snowmelt.model import Claim
from snowmelt.ports import OpenWork, Settled
from snowmelt.postgres.connect import Session
from snowmelt.postgres.queries import query

# A row lock on a chunk is held for the instant between its last UPDATE and COMMIT. One that outlives this
# belongs to a stalled backend, which is then ended.
LOCK_TIMEOUT_MS = 1_000
FENCING_ATTEMPTS = 5
EXPIRED_FIRST_SECONDS = 5.0
# A process that is stopped within a transaction of the ledger would keep its locks: an uncommitted claim is
# skipped by everyone, an uncommitted finish stops whoever reads the table. Such a transaction has no advisory
# lock to be found by; the server ends it. Of moves it would not: a backend in COPY is not idle.
PAUSE_LIMIT_MS = 30_000

T = TypeVar("T")
_Row = tuple[int, dict[str, object], int, int, float | None]
"""Of a claimed chunk: number, range, planned rows, attempts, and how long it overran a deadline."""


@dataclass(slots=True)
class Pulse:
    """What a worker process works on, shared by its threads and its heartbeat."""

    worker_id: UUID = field(default_factory=uuid4)
    lock: threading.Lock = field(default_factory=threading.Lock)
    moved_at: dict[UUID, float] = field(default_factory=dict)

    def beat(self, token: UUID) -> None:
        """Note that the claim moved bytes just now."""
        if token in self.moved_at:
            self.moved_at[token] = time.monotonic()

    def forget(self, token: UUID) -> None:
        self.moved_at.pop(token, None)

    def idle_seconds(self) -> Mapping[str, float]:
        """Per claim, the seconds since it last moved a byte."""
        now = time.monotonic()
        return {str(token): round(now - at, 1) for token, at in list(self.moved_at.items())}


@contextmanager
def brief(session: Session, *, durable: bool = True) -> Iterator[psycopg.Connection]:
    """A transaction of the ledger that ends, one way or the other, also when its client stops in it."""
    with session.transaction(durable=durable) as connection:
        connection.execute(f"SET LOCAL idle_in_transaction_session_timeout = {PAUSE_LIMIT_MS}")
        yield connection


class PostgresClaims:
    """`ports.Claims` over the chunk table; one per worker thread."""

    def __init__(self, session: Session, pulse: Pulse) -> None:
        self._session = session
        self._pulse = pulse
        self._looked_at: dict[int, float] = {}

    def claim(self, table_id: int) -> Claim | None:
        """Own the next open chunk, or one whose owner is gone.

        The latter comes first every EXPIRED_FIRST_SECONDS, and when nothing is open: what its owner left
        running at the source costs money for as long as nobody takes the chunk over.

        One claim of a process at a time: the tokens that it works on must be known while the ledger is asked
        for claims that nobody works on.
        """
        token = uuid4()
        with self._pulse.lock:
            self._pulse.moved_at[token] = time.monotonic()
            row = None
            taken_over = False
            try:
                if self._is_time_for_expired(table_id):
                    row = self._take_over(table_id, token)
                    taken_over = row is not None
                if row is None:
                    row = self._claim_open(table_id, token)
                if row is None:
                    row = self._take_over(table_id, token)
                    taken_over = row is not None
            finally:
                if row is None:
                    self._pulse.forget(token)
        if row is None:
            return None
        chunk_id, range, planned_rows, attempt, overran = row
        chunk = Chunk(chunk_id, range_from_json(range), planned_rows)
        worker_id = self._pulse.worker_id
        return Claim(table_id, chunk, token, worker_id, attempt, taken_over, overran)

    def _is_time_for_expired(self, table_id: int) -> bool:
        now = time.monotonic()
        # Not at the first claim: what was killed just before has not expired yet.
        due = now - self._looked_at.setdefault(table_id, now) > EXPIRED_FIRST_SECONDS
        if due:
            self._looked_at[table_id] = now
        return due

    def _claim_open(self, table_id: int, token: UUID) -> _Row | None:
        with brief(self._session) as connection:
            return connection.execute(
                query("claim_open"),
                {"table_id": table_id, "token": token, "worker_id": self._pulse.worker_id},
            ).fetchone()

    def _take_over(self, table_id: int, token: UUID) -> _Row | None:
        # Copied in one go: other threads forget their claims meanwhile.
        active = [known for known in list(self._pulse.moved_at) if known != token]
        with self._session.transaction() as connection:
            expired = connection.execute(
                query("expired_claim"),
                {"table_id": table_id, "worker_id": self._pulse.worker_id, "active": active},
            ).fetchone()
        if expired is None:
            return None
        chunk_id, old_token = expired
        return self._fenced(
            "take_over",
            {
                "table_id": table_id,
                "chunk_id": chunk_id,
                "old_token": old_token,
                "token": token,
                "worker_id": self._pulse.worker_id,
            },
        )

    def _fenced(self, name: str, parameters: Mapping[str, object]) -> _Row | None:
        """Run a named update of one chunk, insisting on it."""

        def update(connection: psycopg.Connection) -> Any:
            cursor = connection.execute(query(name), parameters)
            return cursor.fetchone() if cursor.description else (cursor.rowcount or None)

        updated: _Row | None
        updated = self._insisting(parameters, update)
        return updated

    def _insisting(self, chunk: Mapping[str, object], act: Callable[[psycopg.Connection], T]) -> T:
        """Act on a chunk in a durable transaction; who holds its row longer than a commit takes is ended."""
        for _ in range(FENCING_ATTEMPTS):
            try:
                with brief(self._session) as connection:
                    connection.execute(f"SET LOCAL lock_timeout = {LOCK_TIMEOUT_MS}")
                    return act(connection)
            except RetriableError as error:
                if not isinstance(error.__cause__, pg.LockNotAvailable):
                    raise
                evict(self._session, chunk)
        raise RetriableError(
            "another backend holds the chunk's row and does not end",
            chunk=cast(int, chunk["chunk_id"]),
        )

    def settle(
        self,
        claim: Claim,
        error: str,
        backoff_seconds: float,
        overran_seconds: float | None = None,
    ) -> Settled:
        """Reopen the chunk unless its commit had happened or it has another owner.

        The update that takes the token away also waits for a COMMIT that is still under way, so the answer
        can't be overtaken by it.
        """
        return self._close_claim(
            claim,
            "release_chunk",
            {
                "error": error,
                "backoff_seconds": backoff_seconds,
                "overran_seconds": overran_seconds,
            },
        )

    def fail(self, claim: Claim, error: str) -> Settled:
        """Mark the chunk failed unless its commit had happened or it has another owner."""
        return self._close_claim(
            claim, "fail_chunk", {"error": error, "worker_id": claim.worker_id}
        )

    def _close_claim(self, claim: Claim, name: str, more: Mapping[str, object]) -> Settled:
        fence = {"table_id": claim.table_id, "chunk_id": claim.chunk.id, "token": claim.token}
        try:
            while True:
                try:
                    if self._fenced(name, {**fence, **more}):
                        return Settled.CLOSED
                    with self._session.transaction() as connection:
                        row = connection.execute(query("is_completed"), fence).fetchone()
                    return Settled.COMPLETED if row and row[0] else Settled.LOST
                except ConnectionLost:
                    continue  # the next use of the session waits for the server, up to its outage limit
        finally:
            self._pulse.forget(claim.token)

    def work(self, table_id: int) -> OpenWork:
        """What is left to do in a table; a table that is gone from the ledger counts as closed."""
        with self._session.transaction() as connection:
            cursor = connection.cursor(row_factory=dict_row)
            row = cursor.execute(query("work_left"), {"table_id": table_id}).fetchone()
        return OpenWork(**row) if row else OpenWork(0, 0, closed=True)

    def expand(self, claim: Claim, chunks: Sequence[Chunk]) -> None:
        """Write the chunks that a claimed one has become, and complete it, durably. Raises ClaimLost.

        The new chunks go over in one statement, so that a client that stops here leaves no backend that
        waits for it while their keys are taken.
        """
        fence = {"table_id": claim.table_id, "chunk_id": claim.chunk.id, "token": claim.token}
        counts = ("rows_read", "rows_written", "rows_skipped", "bytes")
        nothing = dict.fromkeys((*counts, "values_floored", "values_changed"), 0)
        with brief(self._session) as connection:
            add_chunks(connection, claim.table_id, [(chunk, False) for chunk in chunks])
            if connection.execute(query("complete_chunk"), {**fence, **nothing}).rowcount != 1:
                raise ClaimLost("another worker owns the chunk now", chunk=claim.chunk.id)

    def resize(self, claim: Claim, chunks: Sequence[Chunk], reason: str) -> None:
        """Write the chunks that replace a claimed one, and retire it, durably. Raises ClaimLost.

        Its token goes with it: who moves it still can't complete it, and is ended. The table's row is locked,
        so that two chunks of a table that are replaced at once are given different numbers.
        """
        fence = {"table_id": claim.table_id, "chunk_id": claim.chunk.id, "token": claim.token}

        def replace(connection: psycopg.Connection) -> None:
            connection.execute(query("lock_load"), fence)
            # By this lock whoever takes the chunk over, or aborts, finds this backend, should it stall.
            alone = connection.execute(query("lock_chunk"), fence).fetchone()
            if connection.execute(query("retire_chunk"), {**fence, "reason": reason}).rowcount != 1:
                raise ClaimLost("another worker owns the chunk now", chunk=claim.chunk.id)
            if not (alone and alone[0]):
                evict_within(connection, fence)
            parts = [(chunk, False) for chunk in chunks]
            add_chunks(connection, claim.table_id, parts, parent=claim.chunk.id)

        self._insisting(fence, replace)

    def stage(self, claim: Claim) -> bool:
        """Send all chunks of the claim's table through staging from now on; False if they do so already."""
        with brief(self._session) as connection:
            return bool(
                connection.execute(query("stage_load"), {"table_id": claim.table_id}).rowcount
            )

    def drop(self, claim: Claim) -> None:
        """Forget a claim that is over: committed, or lost."""
        self._pulse.forget(claim.token)

    def beat(self, claim: Claim) -> None:
        """Tell that the claim moved bytes just now."""
        self._pulse.beat(claim.token)


def add_chunks(
    connection: psycopg.Connection,
    table_id: int,
    chunks: Sequence[tuple[Chunk, bool]],
    after: int = -1,
    parent: int | None = None,
) -> None:
    """Write chunks under the numbers that follow the table's last, or `after` if it has none; each comes
    with whether it is done as it is. `parent` is the chunk that they replace."""
    new = [
        {"range": range_to_json(chunk.range), "planned_rows": chunk.planned_rows, "done": done}
        for chunk, done in chunks
    ]
    connection.execute(
        query("add_chunks"),
        {"table_id": table_id, "chunks": Jsonb(new), "after": after, "parent_id": parent},
    )


def evict(session: Session, chunk: Mapping[str, object]) -> int:
    """End every other backend that holds the chunk's advisory lock; returns how many there were.

    A backend in mid-COPY whose client is frozen waits for that client for ever: no timeout of the server ends
    it, termination does. A role may terminate its own backends.
    """
    with session.transaction() as connection:
        return evict_within(connection, chunk)


def evict_within(connection: psycopg.Connection, chunk: Mapping[str, object]) -> int:
    """`evict` inside a transaction that is already open."""
    return connection.execute(query("evict_chunk"), chunk).rowcount
