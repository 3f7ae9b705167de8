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
