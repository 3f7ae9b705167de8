"""Faults to plant in the protocol, and for each the shortest story that brings it to light.

A story is told on the sound protocol as well, where it must end well.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, LiteralString

import psycopg
import pytest

from snowmelt.model import Claim
from snowmelt.ports import Settled
from snowmelt.postgres import claims, loads, queries, runs
from snowmelt.postgres.claims import PostgresClaims
from snowmelt.postgres.connect import Session
from snowmelt.postgres.load import PostgresLoad
from snowmelt.postgres.queries import query
from tests.integration.protocol import Stage, Worker, World
from tests.integration.protocol_line import Fate
from tests.integration.protocol_storm import Storm

Plant = Callable[[pytest.MonkeyPatch], None]
Story = Callable[[Storm], None]


@dataclass(frozen=True, slots=True)
class Fault:
    """What is done to the protocol, and the story that shows it, on a table with or without a unique key."""

    plant: Plant
    story: Story
    unique: bool = False


def _edit(
    monkeypatch: pytest.MonkeyPatch, edits: dict[str, tuple[LiteralString, LiteralString]]
) -> None:
    """Replace a part of the text of named queries."""
    statements = dict(queries._statements())
    for name, (old, new) in edits.items():
        assert old in statements[name], f"{name} has changed: plant the fault anew"
        statements[name] = statements[name].replace(old, new)
    monkeypatch.setattr(queries, "_statements", lambda: statements)


@contextmanager
def _asynchronous(session: Session, *, durable: bool = True) -> Iterator[psycopg.Connection]:
    with session.transaction(durable=durable) as connection:
        connection.execute("SET LOCAL synchronous_commit = off")
        yield connection


# --- stories --------------------------------------------------------------------------------------


def _steps(storm: Storm, worker: Worker, count: int) -> None:
    for _ in range(count):
        storm.advance(worker)
        storm.check()


def taken_over_and_goes_on(storm: Storm) -> None:
    stale, _, other = storm.workers
    storm.advance_to(stale, Stage.LOADING)
    storm.overtake(stale, other)
    storm.check()
    _steps(storm, stale, 5)


def dies_in_copy(storm: Storm) -> None:
    storm.advance_to(storm.workers[0], Stage.LOADING)
    _steps(storm, storm.workers[0], 1)
    storm.die(storm.workers[0].process)
    storm.check()


def taken_over_in_copy(storm: Storm) -> None:
    stale, _, other = storm.workers
    storm.advance_to(stale, Stage.LOADING)
    _steps(storm, stale, 1)
    storm.overtake(stale, other)
    storm.check()
    _steps(storm, other, 5)


def taken_over_before_commit(storm: Storm) -> None:
    stale, _, other = storm.workers
    storm.advance_to(stale, Stage.RECORDED)
    storm.overtake(stale, other)
    storm.check()
    _steps(storm, other, 5)


def wakes_with_a_lost_claim(storm: Storm) -> None:
    stale, _, other = storm.workers
    storm.advance_to(stale, Stage.CLAIMED)
    storm.overtake(stale, other)
    storm.check()
    storm.advance_to(other, Stage.LOADING)
    _steps(storm, stale, 1)
    _steps(storm, other, 5)


def claims_side_by_side(storm: Storm) -> None:
    for _ in range(10):
        storm.together(storm.workers)
        storm.check()
        for worker in storm.workers:
            storm.give_up(worker)


def take_overs_side_by_side(storm: Storm) -> None:
    stale, _, first = storm.workers
    while len(storm.completed()) < 2:
        _steps(storm, first, 1)
    storm.processes.append(storm.start_process())
    second = storm.start_worker(storm.processes[-1])
    storm.workers.append(second)
    for _ in range(10):
        storm.claim(stale)
        storm.expire(stale, known_to=first)
        storm.together([first, second])
        storm.check()
        for worker in storm.workers:
            storm.give_up(worker)


def crash_after_claim(storm: Storm) -> None:
    worker = storm.workers[0]
    _steps(storm, worker, 1)
    storm.restart("immediate")
    _steps(storm, storm.workers[2], 5)


def crash_after_finish(storm: Storm) -> None:
    _steps(storm, storm.workers[0], 20)
    storm.finish(storm.workers[0])
    storm.restart("immediate")


def crash_before_finish(storm: Storm) -> None:
    _steps(storm, storm.workers[0], 20)
    storm.restart("immediate")
    storm.finish(storm.workers[0])
    storm.check()


def answer_to_commit_is_lost(storm: Storm) -> None:
    worker = storm.workers[0]
    storm.advance_to(worker, Stage.RECORDED)
    storm.advance(worker, Fate.UNANSWERED)
    storm.check()
    _steps(storm, worker, 8)


def commit_arrives_late(storm: Storm) -> None:
    worker = storm.workers[0]
    storm.advance_to(worker, Stage.RECORDED)
    storm.advance(worker, Fate.STUCK)
    storm.give_up(worker)
    storm.deliver()
    storm.check()


def answer_to_failure_is_lost(storm: Storm) -> None:
    worker = storm.workers[0]
    _steps(storm, worker, 2)
    storm.give_up(worker, fails=True, fate=Fate.UNANSWERED)
    storm.check()


def freezes_while_claiming(storm: Storm) -> None:
    storm.freeze(storm.workers[0])
    storm.check()


def freezes_while_finishing(storm: Storm) -> None:
    _steps(storm, storm.workers[0], 20)
    storm.freeze(storm.workers[0], finishing=True)
    storm.check()


def aborted_before_commit(storm: Storm) -> None:
    worker = storm.workers[0]
    storm.advance_to(worker, Stage.RECORDED)
    storm.abort()
    _steps(storm, worker, 1)


def aborted_twice(storm: Storm) -> None:
    worker = storm.workers[0]
    storm.advance_to(worker, Stage.RECORDED)
    storm.abort(Fate.UNANSWERED)
    _steps(storm, worker, 1)


def aborted_before_finish(storm: Storm) -> None:
    _steps(storm, storm.workers[0], 20)
    storm.abort()
    storm.finish(storm.workers[0])


def aborted_while_finishing(storm: Storm) -> None:
    _steps(storm, storm.workers[0], 20)
    storm.freeze(storm.workers[0], finishing=True)
    storm.abort()
    storm.thaw(storm.workers[0].process)


# --- faults ---------------------------------------------------------------------------------------


def no_fence(monkeypatch: pytest.MonkeyPatch) -> None:
    _edit(monkeypatch, {"complete_chunk": ("AND token = %(token)s", "")})


def no_termination(monkeypatch: pytest.MonkeyPatch) -> None:
    _edit(monkeypatch, {"evict_chunk": ("pg_terminate_backend(pid)", "pid")})


def no_advisory_lock(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(PostgresLoad, "_lock", lambda _self: None)


def no_ownership_before_eviction(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(PostgresLoad, "_own", lambda _self: None)


def claim_within_the_move(monkeypatch: pytest.MonkeyPatch) -> None:
    lock = PostgresLoad._lock

    def choose(self: PostgresClaims, table_id: int, _token: object) -> Any:
        with self._session.transaction() as connection:
            return connection.execute(
                "SELECT chunk_id, range, planned_rows, attempts FROM migration_status.chunk "
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
    _edit(monkeypatch, {"claim_open": ("FOR UPDATE SKIP LOCKED", "")})


def take_over_from_anybody(monkeypatch: pytest.MonkeyPatch) -> None:
    _edit(monkeypatch, {"take_over": ("AND token = %(old_token)s", "")})


def take_over_from_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(PostgresClaims, "_take_over", lambda *_: None)


def finish_asynchronous(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loads, "brief", _asynchronous)


def finish_without_recount(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = "coalesce(sum(rows_read), 0)"
    _edit(monkeypatch, {"recount": (rows, "coalesce(sum(planned_rows), 0)")})
    _edit(monkeypatch, {"recount": ("count(*) FILTER (WHERE completed_at IS NULL)", "0")})


def finish_of_an_aborted_run(monkeypatch: pytest.MonkeyPatch) -> None:
    _edit(monkeypatch, {"complete_load": ("r.ending = 'aborted'", "false")})


def finish_that_an_abort_does_not_find(monkeypatch: pytest.MonkeyPatch) -> None:
    _edit(monkeypatch, {"held_chunks": ("SELECT table_id, -1, NULL", "SELECT table_id, -2, NULL")})


def retry_that_reopens_on_belief(monkeypatch: pytest.MonkeyPatch) -> None:
    reopen = "SET completed_at = NULL, token = NULL"
    _edit(monkeypatch, {"release_chunk": ("SET token = NULL", reopen)})
    _edit(monkeypatch, {"release_chunk": ("AND completed_at IS NULL", "")})


def retry_that_copies_again_on_belief(monkeypatch: pytest.MonkeyPatch) -> None:
    """The worker goes on with the claim that it has. The record's own conditions would still stop it."""

    def go_on(_world: World, worker: Worker, **_: object) -> None:
        if worker.stage is Stage.UNSURE:
            worker.stage, worker.sent = Stage.CLAIMED, 0

    monkeypatch.setattr(World, "give_up", go_on)
    _edit(monkeypatch, {"owns_claim": ("AND completed_at IS NULL", "")})
    _edit(monkeypatch, {"complete_chunk": ("AND completed_at IS NULL", "")})


def settle_that_only_asks(monkeypatch: pytest.MonkeyPatch) -> None:
    def ask(self: PostgresClaims, claim: Claim, *_: object) -> Settled:
        fence = {"table_id": claim.table_id, "chunk_id": claim.chunk.id, "token": claim.token}
        self.drop(claim)
        with self._session.transaction() as connection:
            row = connection.execute(query("is_completed"), fence).fetchone()
        return Settled.COMPLETED if row and row[0] else Settled.CLOSED

    monkeypatch.setattr(PostgresClaims, "settle", ask)


def failure_told_once(monkeypatch: pytest.MonkeyPatch) -> None:
    _edit(monkeypatch, {"fail_chunk": ("OR token IS NULL", "AND token IS NULL")})
    _edit(monkeypatch, {"fail_chunk": ("AND token IS NULL AND failed_at IS NOT NULL", "AND NOT")})
    _edit(monkeypatch, {"fail_chunk": ("AND NOT AND worker_id = %(worker_id)s", "")})


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


def no_pause_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(claims, "PAUSE_LIMIT_MS", 0)


FAULTS = [
    Fault(no_fence, taken_over_and_goes_on),
    Fault(no_termination, taken_over_in_copy, unique=True),
    Fault(no_termination, taken_over_before_commit),
    Fault(no_advisory_lock, taken_over_in_copy, unique=True),
    Fault(no_ownership_before_eviction, wakes_with_a_lost_claim),
    Fault(claim_within_the_move, taken_over_before_commit),
    Fault(claim_asynchronous, crash_after_claim),
    Fault(claim_without_row_lock, claims_side_by_side),
    Fault(take_over_from_anybody, take_overs_side_by_side),
    Fault(take_over_from_nobody, dies_in_copy),
    Fault(finish_asynchronous, crash_after_finish),
    Fault(finish_without_recount, crash_before_finish),
    Fault(finish_of_an_aborted_run, aborted_before_finish),
    Fault(finish_that_an_abort_does_not_find, aborted_while_finishing, unique=True),
    Fault(retry_that_reopens_on_belief, answer_to_commit_is_lost),
    Fault(retry_that_copies_again_on_belief, answer_to_commit_is_lost),
    Fault(settle_that_only_asks, commit_arrives_late),
    Fault(failure_told_once, answer_to_failure_is_lost),
    Fault(record_after_the_rows, taken_over_before_commit),
    Fault(abort_without_termination, aborted_before_commit),
    Fault(no_pause_limit, freezes_while_claiming),
    Fault(no_pause_limit, freezes_while_finishing),
]
