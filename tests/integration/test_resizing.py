"""A chunk that proved too heavy is retired and smaller ones stand in its place, all or nothing."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import psycopg
import pytest

from snowmelt.errors import (
    ClaimLost,
    ConnectionLost,
    CountMismatch,
)
from snowmelt.model import Claim
from snowmelt.ports import Settled
from snowmelt.postgres import claims as claims_module
from snowmelt.postgres.claims import PostgresClaims
from snowmelt.postgres.connect import Session
from tests.integration.resizing import (
    PLANNED,
    SIZE,
    WHY,
    Desk,
    chunks_of,
    numbers_of,
)
from tests.support import Database


@pytest.fixture
def desk(database: Database) -> Iterator[Desk]:
    with ExitStack() as stack:
        yield Desk(database, stack)


# --- all of it ------------------------------------------------------------------------------------


def test_parts_follow_the_last_number_are_claimed_next_and_end_the_table(desk: Desk) -> None:
    claims = desk.claims()
    claim = desk.claimed(claims)

    claims.resize(claim, chunks_of(None, 4, 10, 16), WHY)
    claims.drop(claim)

    assert desk.chunks() == [
        (0, (None, 16), 16, None, True),
        *PLANNED[1:],
        (3, (None, 4), 4, 0, False),
        (4, (4, 10), 6, 0, False),
        (5, (10, 16), 6, 0, False),
    ]
    retired = "SELECT token, error_message, attempts FROM migration_status.chunk WHERE chunk_id = 0"
    assert desk.database.execute(retired) == [(None, WHY, 1)]
    assert not desk.loads.finish(desk.table_id)
    assert desk.load_rest() == [3, 4, 5, 1, 2]
    assert desk.loads.finish(desk.table_id)
    assert desk.numbers() == list(range(48))


def test_a_part_can_be_resized_as_well(desk: Desk) -> None:
    claims = desk.claims()
    for bounds in ((None, 8, 16), (None, 2, 8)):
        claim = desk.claimed(claims)
        claims.resize(claim, chunks_of(*bounds), WHY)
        claims.drop(claim)

    assert [(id, parent, gone) for id, _, _, parent, gone in desk.chunks()] == [
        (0, None, True),
        (1, None, False),
        (2, None, False),
        (3, 0, True),
        (4, 0, False),
        (5, 3, False),
        (6, 3, False),
    ]
    assert desk.load_rest() == [5, 6, 4, 1, 2]  # what proves soonest whether parts are light enough
    assert desk.loads.finish(desk.table_id)
    assert desk.numbers() == list(range(48))


def test_a_finish_counts_the_rows_of_the_parts(desk: Desk) -> None:
    claims = desk.claims()
    claim = desk.claimed(claims)
    claims.resize(claim, chunks_of(None, 4, 16), WHY)
    claims.drop(claim)
    short = desk.claimed(claims)
    desk.load(short, rows=3)
    desk.load_rest()

    with pytest.raises(CountMismatch, match="47 rows were read, 48 were planned"):
        desk.loads.finish(desk.table_id)


def test_two_chunks_resized_at_once_get_different_numbers(desk: Desk) -> None:
    both = [(claims, desk.claimed(claims)) for claims in (desk.claims(), desk.claims())]
    start = threading.Barrier(2)
    errors: list[BaseException] = []

    def resize(claims: PostgresClaims, claim: Claim) -> None:
        try:
            start.wait()
            low = numbers_of(claim.chunk.range)[0]
            claims.resize(claim, chunks_of(*range(low, low + SIZE + 1)), WHY)
        except BaseException as error:  # noqa: BLE001 - handed to the test
            errors.append(error)

    threads = [threading.Thread(target=resize, args=one) for one in both]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert not errors
    parts = [(id, parent) for id, _, _, parent, _ in desk.chunks() if parent is not None]
    assert [id for id, _ in parts] == list(range(3, 3 + 2 * SIZE))
    desk.load_rest()
    assert desk.loads.finish(desk.table_id)
    assert desk.numbers() == list(range(48))


# --- or nothing -----------------------------------------------------------------------------------


def test_who_lost_the_chunk_changes_nothing(desk: Desk) -> None:
    late, other = desk.claims(), desk.claims()
    old = desk.claimed(late)
    for _ in range(2):
        desk.load(desk.claimed(other))
    desk.forget_owner()
    new = desk.claimed(other)
    assert (new.chunk, new.taken_over) == (old.chunk, True)
    with desk.moving(new) as load:
        with pytest.raises(ClaimLost):
            late.resize(old, chunks_of(None, 4, 16), WHY)
        # The owner was not disturbed.
        load.complete(SIZE)
        load.commit()

    assert desk.chunks() == PLANNED
    assert desk.loads.finish(desk.table_id)
    with pytest.raises(ClaimLost):
        late.resize(old, chunks_of(None, 4, 16), WHY)
    assert desk.numbers() == list(range(48))


@pytest.mark.parametrize("unique", [False, True])
def test_a_late_worker_is_ended_and_can_not_complete(desk: Desk, unique: bool) -> None:
    """Its rows are in COPY, uncommitted, when the chunk is taken over and resized."""
    if unique:
        desk.database.execute("ALTER TABLE t ADD UNIQUE (n)")
    late, other = desk.claims(), desk.claims()
    old = desk.claimed(late)
    for _ in range(2):
        desk.load(desk.claimed(other))

    def move() -> None:
        with desk.moving(old) as load:
            desk.forget_owner()
            new = desk.claimed(other)
            other.resize(new, chunks_of(None, 4, 16), WHY)
            other.drop(new)
            assert desk.load_rest() == [3, 4]
            assert desk.loads.finish(desk.table_id)
            load.complete(SIZE)
            load.commit()

    with pytest.raises(ConnectionLost):
        move()

    assert late.settle(old, "late", 0) is Settled.LOST
    assert late.fail(old, "late") is Settled.LOST
    with pytest.raises(ClaimLost), desk.moving(old):
        pass
    assert desk.numbers() == list(range(48))
    assert desk.chunks()[0][4]


def test_a_crash_before_the_commit_leaves_the_chunk_as_it_was(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    claims = desk.claims()
    claim = desk.claimed(claims)

    def end_backend(connection: psycopg.Connection, *_: object, **__: object) -> None:
        desk.database.execute(
            "SELECT pg_terminate_backend(%s, 5000)", [connection.info.backend_pid]
        )
        connection.execute("SELECT 1")

    with monkeypatch.context() as patched:
        patched.setattr(claims_module, "add_chunks", end_backend)
        with pytest.raises(ConnectionLost):
            claims.resize(claim, chunks_of(None, 4, 16), WHY)

    assert desk.chunks() == PLANNED
    assert claims.settle(claim, "again", 0) is Settled.CLOSED
    again = desk.claimed(claims)
    assert (again.chunk, again.attempt) == (claim.chunk, 2)
    claims.resize(again, chunks_of(None, 4, 16), WHY)
    claims.drop(again)
    assert desk.load_rest() == [3, 4, 1, 2]
    assert desk.loads.finish(desk.table_id)


def test_a_commit_whose_answer_was_lost_is_found_out(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    claims = desk.claims()
    claim = desk.claimed(claims)
    brief = claims_module.brief

    @contextmanager
    def unanswered(session: Session, *, durable: bool = True) -> Iterator[psycopg.Connection]:
        with brief(session, durable=durable) as connection:
            yield connection
        raise ConnectionLost("no answer")

    with monkeypatch.context() as patched:
        patched.setattr(claims_module, "brief", unanswered)
        with pytest.raises(ConnectionLost):
            claims.resize(claim, chunks_of(None, 4, 16), WHY)

    assert claims.settle(claim, "again", 0) is Settled.LOST
    assert len(desk.chunks()) == 5
    desk.load_rest()
    assert desk.numbers() == list(range(48))


def test_a_backend_that_keeps_the_row_is_ended(desk: Desk) -> None:
    """Such as one of this worker's own, whose connection broke."""
    claims = desk.claims()
    claim = desk.claimed(claims)

    def move() -> None:
        with desk.moving(claim) as load:
            load.complete(SIZE)
            claims.resize(claim, chunks_of(None, 4, 16), WHY)
            load.commit()

    with pytest.raises(ConnectionLost):
        move()

    assert desk.load_rest() == [3, 4, 1, 2]
    assert desk.numbers() == list(range(48))


def test_nothing_is_resized_in_an_aborted_run(desk: Desk) -> None:
    claims = desk.claims()
    claim = desk.claimed(claims)
    desk.database.execute("UPDATE migration_status.run SET ending = 'aborted', ended_at = now()")
    with pytest.raises(ClaimLost):
        claims.resize(claim, chunks_of(None, 4, 16), WHY)
    assert desk.chunks() == PLANNED
