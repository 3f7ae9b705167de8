"""Who is blocked by somebody else waits longer each time, and keeps the attempts for errors of its own."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, cast
from uuid import uuid4

import pytest

from snowmelt import runner
from snowmelt.chunking.chunks import Chunk, WholeTable
from snowmelt.errors import Blocked, RetriableError, SnowmeltError
from snowmelt.gate import Gate
from snowmelt.hands import Hands, TableWork
from snowmelt.model import Claim, LoadTable, SourceTable, TableJob, TargetTable
from snowmelt.observer import Silence
from snowmelt.ports import OpenWork, Settled, Source
from snowmelt.pressure import Facts
from snowmelt.retry import BASE_SECONDS, CEILING_SECONDS
from snowmelt.runner import Crew
from snowmelt.stop import Stop

ATTEMPTS = 2
HELD, FAILED = Blocked("somebody has it locked"), RetriableError("a deadlock")


class Desk:
    """Claims and loads of one table with one chunk, which takes no attempt at it after it has failed."""

    def __init__(self) -> None:
        self.pauses: list[float] = []
        self.failed: str | None = None
        self.completed = False

    def claim(self, table_id: int) -> Claim | None:
        return None if self.completed else Claim(1, Chunk(0, WholeTable(), 1), uuid4(), uuid4(), 1)

    def settle(
        self,
        claim: Claim,
        error: str,
        backoff_seconds: float,
        overran_seconds: float | None = None,
    ) -> Settled:
        self.pauses.append(backoff_seconds)
        return Settled.CLOSED

    def fail(self, chunk: object, error: str) -> Settled:
        self.failed = error
        return Settled.CLOSED

    def drop(self, claim: Claim) -> None:
        self.completed = True

    def close(self) -> None:
        pass

    def work(self, table_id: int) -> OpenWork:
        return OpenWork(0, 0, closed=True)


def work_through(monkeypatch: pytest.MonkeyPatch, errors: Sequence[SnowmeltError]) -> Desk:
    """Attempts that end in these errors, and then one that succeeds."""
    desk, left = Desk(), list(errors)
    source, target = SourceTable("d", "s", "T"), TargetTable("db", "public", "T")
    job = TableJob("s", source, target, max_retry_attempts=ATTEMPTS)
    table = TableWork(LoadTable(1, job, (), {}), "db", lambda: cast(Source, desk))

    def attempt(*_: object) -> Any:
        if left:
            raise left.pop(0)

    @contextmanager
    def hands(database: str) -> Iterator[Hands]:
        its = cast(Any, desk)
        yield Hands(its, its, its, lambda: None, lambda: None)

    monkeypatch.setattr(runner, "attempt", attempt)
    Crew([table], hands, Silence(), Stop(), {"db": Gate("db", Facts)}).work()
    return desk


def test_being_blocked_is_no_attempt(monkeypatch: pytest.MonkeyPatch) -> None:
    desk = work_through(monkeypatch, [HELD] * 30)
    assert (desk.completed, desk.failed) == (True, None)
    assert desk.pauses[0] <= BASE_SECONDS
    assert all(CEILING_SECONDS / 2 <= pause <= CEILING_SECONDS for pause in desk.pauses[7:])


def test_attempts_are_counted_whatever_was_between_them(monkeypatch: pytest.MonkeyPatch) -> None:
    desk = work_through(monkeypatch, [HELD, FAILED, HELD, HELD, FAILED, HELD, HELD])
    assert (desk.completed, desk.failed) == (True, None)
    desk = work_through(monkeypatch, [HELD, FAILED, HELD, HELD, FAILED, HELD, FAILED])
    assert desk.completed is False
    assert "gave up after 3 attempts: a deadlock" in (desk.failed or "")


def test_the_wait_begins_anew_after_another_error(monkeypatch: pytest.MonkeyPatch) -> None:
    desk = work_through(monkeypatch, [*[HELD] * 8, FAILED, HELD])
    assert desk.pauses[7] >= CEILING_SECONDS / 2
    assert desk.pauses[8] <= BASE_SECONDS
    assert desk.pauses[9] <= BASE_SECONDS
