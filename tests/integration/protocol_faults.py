"""Faults to plant in the protocol, and for each a story that brings it to light."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import psycopg
import pytest

from snowmelt.chunking.chunks import Chunk
from snowmelt.model import Claim
from snowmelt.ports import Settled
from snowmelt.postgres import claims, finish, queries, runs
from snowmelt.postgres.claims import PostgresClaims
from snowmelt.postgres.connect import Session
from snowmelt.postgres.load import PostgresLoad
from snowmelt.postgres.queries import query
from snowmelt.postgres.runs import PostgresRuns
from tests.integration import protocol_stories as stories
from tests.integration.protocol import World
from tests.integration.protocol_parts import Stage, Worker
from tests.integration.protocol_stories import Story

Plant = Callable[[pytest.MonkeyPatch], None]


@dataclass(frozen=True, slots=True)
class Fault:
    """What is done to the protocol, and the story that shows it, on a table with or without a unique key."""

    plant: Plant
    story: Story
    unique: bool = False


def _edit(monkeypatch: pytest.MonkeyPatch, name: str, old: str, new: str) -> None:
    """Replace a part of the text of a named query."""
    statements = dict(queries._statements())
    assert old in statements[name], f"{name} has changed: plant the fault anew"
    statements[name] = statements[name].replace(old, new)
    monkeypatch.setattr(queries, "_statements", lambda: statements)


@contextmanager
def _asynchronous(session: Session, *, durable: bool = True) -> Iterator[psycopg.Connection]:
    with session.transaction(durable=durable) as connection:
        connection.execute("SET LOCAL synchronous_commit = off")
        yield connection


def no_fence(monkeypatch: pytest.MonkeyPatch) -> None:
    _edit(monkeypatch, "complete_chunk", "AND token = %(token)s", "")


def no_termination(monkeypatch: pytest.MonkeyPatch) -> None:
    _edit(monkeypatch, "evict_chunk", "pg_terminate_backend(pid)", "pid")


def no_advisory_lock(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(PostgresLoad, "_lock", lambda _self: None)


def no_ownership_before_eviction(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(PostgresLoad, "_own", lambda _self: None)


def claim_within_the_move(monkeypatch: pytest.MonkeyPatch) -> None:
    lock = PostgresLoad._lock

    def choose(self: PostgresClaims, table_id: int, _token: object) -> Any:
        with self._session.transaction() as connection:
            return connection.execute(
                "SELECT chunk_id, range, planned_rows, attempts, NULL FROM migration_status.chunk "
                "WHERE table_id = %s AND token IS NULL AND completed_at IS NULL AND failed_at IS NULL "
                "ORDER BY chunk_id LIMIT 1",
                [table_id],
            ).fetchone()

    def claim_and_lock(self: PostgresLoad) -> None:
        self._connection.execute(
            "UPDATE migration_status.chunk SET token = %(token)s, claimed_at = clock_timestamp() "
            "WHERE table_id = %(table_id)s AND chunk_id = %(chunk_id)s AND completed_at IS NULL",
            self._fence,
        )
        lock(self)

    monkeypatch.setattr(PostgresClaims, "_claim_open", choose)
    monkeypatch.setattr(PostgresLoad, "_lock", claim_and_lock)


def claim_asynchronous(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(claims, "brief", _asynchronous)


def claim_without_row_lock(monkeypatch: pytest.MonkeyPatch) -> None:
    _edit(monkeypatch, "claim_open", "FOR UPDATE SKIP LOCKED", "")


def take_over_from_anybody(monkeypatch: pytest.MonkeyPatch) -> None:
    _edit(monkeypatch, "take_over", "AND token = %(old_token)s", "")


def take_over_from_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(PostgresClaims, "_take_over", lambda *_: None)


def finish_asynchronous(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(finish, "brief", _asynchronous)


def finish_without_recount(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = "coalesce(sum(rows_read), 0)"
    _edit(monkeypatch, "recount", rows, "coalesce(sum(planned_rows), 0)")
    open_chunks = "count(*) FILTER (WHERE completed_at IS NULL AND retired_at IS NULL)"
    _edit(monkeypatch, "recount", open_chunks, "0")


def finish_of_an_aborted_run(monkeypatch: pytest.MonkeyPatch) -> None:
    _edit(monkeypatch, "complete_load", "r.ending = 'aborted'", "false")


def finish_that_an_abort_does_not_find(monkeypatch: pytest.MonkeyPatch) -> None:
    _edit(monkeypatch, "held_chunks", "SELECT table_id, -1, NULL", "SELECT table_id, -2, NULL")


def retry_that_reopens_on_belief(monkeypatch: pytest.MonkeyPatch) -> None:
    reopen = "SET completed_at = NULL, token = NULL"
    _edit(monkeypatch, "release_chunk", "SET token = NULL", reopen)
    _edit(monkeypatch, "release_chunk", "AND completed_at IS NULL", "")


def retry_that_copies_again_on_belief(monkeypatch: pytest.MonkeyPatch) -> None:
    """The worker goes on with the claim that it has. The record's own conditions would still stop it."""

    def go_on(_world: World, worker: Worker, **_: object) -> None:
        if worker.stage is Stage.UNSURE:
            worker.stage, worker.sent = Stage.CLAIMED, 0

    monkeypatch.setattr(World, "give_up", go_on)
    _edit(monkeypatch, "owns_claim", "AND completed_at IS NULL", "")
    _edit(monkeypatch, "complete_chunk", "AND completed_at IS NULL", "")


def resize_without_a_fence(monkeypatch: pytest.MonkeyPatch) -> None:
    _edit(monkeypatch, "retire_chunk", "AND token = %(token)s", "")


def resize_that_ends_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(claims, "evict_within", lambda *_: 0)


def resize_that_writes_first(monkeypatch: pytest.MonkeyPatch) -> None:
    """The parts are committed before the chunk is retired."""
    add = claims.add_chunks
    resize = PostgresClaims.resize

    def add_then_resize(
        self: PostgresClaims, claim: Claim, chunks: Sequence[Chunk], reason: str
    ) -> None:
        with claims.brief(self._session) as connection:
            parts = [(chunk, False) for chunk in chunks]
            add(connection, claim.table_id, parts, parent=claim.chunk.id)
        monkeypatch.setattr(claims, "add_chunks", lambda *_, **__: None)
        resize(self, claim, chunks, reason)

    monkeypatch.setattr(PostgresClaims, "resize", add_then_resize)


def finish_that_waits_for_retired_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    _edit(monkeypatch, "recount", " AND retired_at IS NULL", "")


def settle_that_only_asks(monkeypatch: pytest.MonkeyPatch) -> None:
    def ask(self: PostgresClaims, claim: Claim, *_: object) -> Settled:
        fence = {"table_id": claim.table_id, "chunk_id": claim.chunk.id, "token": claim.token}
        self.drop(claim)
        with self._session.transaction() as connection:
            row = connection.execute(query("is_completed"), fence).fetchone()
        return Settled.COMPLETED if row and row[0] else Settled.CLOSED

    monkeypatch.setattr(PostgresClaims, "settle", ask)


def failure_told_once(monkeypatch: pytest.MonkeyPatch) -> None:
    again = " OR token IS NULL AND failed_at IS NOT NULL AND worker_id = %(worker_id)s"
    _edit(monkeypatch, "fail_chunk", again, "")


def record_after_the_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    complete = PostgresLoad.complete

    def commit_rows_first(self: PostgresLoad, rows_read: int) -> int:
        end = self._copy.__exit__

        class Copy:
            def __exit__(self, *_: object) -> None:
                end(None, None, None)
                connection.execute("COMMIT")
                connection.execute("BEGIN")

        connection, self._copy = self._connection, Copy()  # type: ignore[assignment]
        return complete(self, rows_read)

    monkeypatch.setattr(PostgresLoad, "complete", commit_rows_first)


def abort_without_termination(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runs, "evict", lambda *_: 0)


def abort_that_is_not_made_good(monkeypatch: pytest.MonkeyPatch) -> None:
    """The second abort finds the mark of the first, whose answer was lost, and does nothing."""

    def abort(self: PostgresRuns, run_id: UUID) -> bool:
        with claims.brief(self._session) as connection:
            aborted = connection.execute(query("abort_run"), {"run_id": run_id}).fetchone()
        if aborted is not None:
            self._end_claims(run_id)
        return aborted is not None

    monkeypatch.setattr(PostgresRuns, "abort", abort)


def no_pause_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(claims, "PAUSE_LIMIT_MS", 0)


FAULTS = [
    Fault(no_fence, stories.taken_over_and_goes_on),
    Fault(no_termination, stories.taken_over_in_copy, unique=True),
    Fault(no_termination, stories.taken_over_before_commit),
    Fault(no_advisory_lock, stories.taken_over_in_copy, unique=True),
    Fault(no_ownership_before_eviction, stories.wakes_with_a_lost_claim),
    Fault(claim_within_the_move, stories.taken_over_before_commit),
    Fault(claim_asynchronous, stories.crash_after_claim),
    Fault(claim_without_row_lock, stories.claims_side_by_side),
    Fault(take_over_from_anybody, stories.take_overs_side_by_side),
    Fault(take_over_from_nobody, stories.dies_in_copy),
    Fault(finish_asynchronous, stories.crash_after_finish, unique=True),
    Fault(finish_without_recount, stories.crash_before_finish, unique=True),
    Fault(finish_of_an_aborted_run, stories.aborted_before_finish, unique=True),
    Fault(finish_that_an_abort_does_not_find, stories.aborted_while_finishing, unique=True),
    Fault(retry_that_reopens_on_belief, stories.answer_to_commit_is_lost),
    Fault(retry_that_copies_again_on_belief, stories.answer_to_commit_is_lost),
    Fault(settle_that_only_asks, stories.commit_arrives_late),
    Fault(resize_without_a_fence, stories.resizes_what_it_has_lost),
    Fault(resize_that_ends_nobody, stories.resized_after_a_take_over, unique=True),
    Fault(resize_that_writes_first, stories.resizes_what_it_has_lost),
    Fault(claim_asynchronous, stories.crash_after_resizing),
    Fault(finish_that_waits_for_retired_chunks, stories.answer_to_resizing_is_lost),
    Fault(failure_told_once, stories.answer_to_failure_is_lost),
    Fault(record_after_the_rows, stories.taken_over_before_commit),
    Fault(abort_without_termination, stories.aborted_before_commit),
    Fault(abort_that_is_not_made_good, stories.aborted_twice),
    Fault(no_pause_limit, stories.freezes_while_claiming),
    Fault(no_pause_limit, stories.freezes_while_finishing, unique=True),
]
