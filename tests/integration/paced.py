"""A run that goes on chunk by chunk, as its test lets it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence

from snowmelt.model import Claim, LoadTable, Outcome
from snowmelt.observer import Silence
from snowmelt.status import TableStatus
from tests.acceptance.processes import PATIENCE_SECONDS, wait_until


class Paced(Silence):
    """A run that does something before the first chunk, and after each."""

    def __init__(self, first: Callable[[], object], then: Callable[[], object]) -> None:
        self._first = first
        self._then = then

    def begins(self, tables: Sequence[TableStatus]) -> None:
        self._first()

    def completed(self, table: LoadTable, claim: Claim, outcome: Outcome) -> None:
        self._then()


class Leave:
    """After each chunk its worker waits for leave to go on."""

    def __init__(self) -> None:
        self._given = threading.Semaphore(0)
        self._waiting: set[int] = set()

    def __call__(self) -> None:
        self._waiting.add(threading.get_ident())
        self._given.acquire(timeout=2 * PATIENCE_SECONDS)
        self._waiting.discard(threading.get_ident())

    def give(self, count: int) -> None:
        self._given.release(count)

    def until(self, condition: Callable[[], object], what: str, *, but: int = 0) -> None:
        """Give leave to one after the other who waits, as long as more than `but` do, until something is so."""

        def so() -> object:
            if len(self._waiting) > but:
                self.give(1)
            return condition()

        wait_until(so, what)
