"""Who is told what the workers do."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from snowmelt.errors import SnowmeltError
from snowmelt.model import Claim, LoadTable, Outcome
from snowmelt.ports import Building, Replanned
from snowmelt.status import TableStatus


class Observer(Protocol):
    """Told what happens, from worker threads; must be quick and must not raise."""

    def begins(self, tables: Sequence[TableStatus]) -> None: ...

    def moved(self, table: LoadTable, claim: Claim, rows: int, bytes: int) -> None: ...

    def completed(self, table: LoadTable, claim: Claim, outcome: Outcome) -> None: ...

    def gave_up(self, table: LoadTable, claim: Claim, error: SnowmeltError) -> None: ...

    def expanded(self, table: LoadTable, claim: Claim, chunks: int) -> None: ...

    def resized(self, table: LoadTable, claim: Claim, chunks: int) -> None: ...

    def replanned(self, table: LoadTable, done: Replanned) -> None: ...

    def building(self, table: LoadTable, progress: Building) -> None: ...

    def finished(self, table: LoadTable) -> None: ...

    def failed(self, table: LoadTable, error: SnowmeltError) -> None: ...


class Silence:
    """The observer for those who ask nothing."""

    def begins(self, tables: Sequence[TableStatus]) -> None:
        pass

    def moved(self, table: LoadTable, claim: Claim, rows: int, bytes: int) -> None:
        pass

    def completed(self, table: LoadTable, claim: Claim, outcome: Outcome) -> None:
        pass

    def gave_up(self, table: LoadTable, claim: Claim, error: SnowmeltError) -> None:
        pass

    def expanded(self, table: LoadTable, claim: Claim, chunks: int) -> None:
        pass

    def resized(self, table: LoadTable, claim: Claim, chunks: int) -> None:
        pass

    def replanned(self, table: LoadTable, done: Replanned) -> None:
        pass

    def building(self, table: LoadTable, progress: Building) -> None:
        pass

    def finished(self, table: LoadTable) -> None:
        pass

    def failed(self, table: LoadTable, error: SnowmeltError) -> None:
        pass


class Together:
    """Tells several observers, one after another."""

    def __init__(self, *observers: Observer) -> None:
        self._observers = observers

    def begins(self, tables: Sequence[TableStatus]) -> None:
        for one in self._observers:
            one.begins(tables)

    def moved(self, table: LoadTable, claim: Claim, rows: int, bytes: int) -> None:
        for one in self._observers:
            one.moved(table, claim, rows, bytes)

    def completed(self, table: LoadTable, claim: Claim, outcome: Outcome) -> None:
        for one in self._observers:
            one.completed(table, claim, outcome)

    def gave_up(self, table: LoadTable, claim: Claim, error: SnowmeltError) -> None:
        for one in self._observers:
            one.gave_up(table, claim, error)

    def expanded(self, table: LoadTable, claim: Claim, chunks: int) -> None:
        for one in self._observers:
            one.expanded(table, claim, chunks)

    def resized(self, table: LoadTable, claim: Claim, chunks: int) -> None:
        for one in self._observers:
            one.resized(table, claim, chunks)

    def replanned(self, table: LoadTable, done: Replanned) -> None:
        for one in self._observers:
            one.replanned(table, done)

    def building(self, table: LoadTable, progress: Building) -> None:
        for one in self._observers:
            one.building(table, progress)

    def finished(self, table: LoadTable) -> None:
        for one in self._observers:
            one.finished(table)

    def failed(self, table: LoadTable, error: SnowmeltError) -> None:
        for one in self._observers:
            one.failed(table, error)
