"""What sessions cost: a login, a small statement, and what a chunk asks besides its own query."""

from __future__ import annotations

import statistics
import time
from contextlib import closing
from dataclasses import dataclass

from benchmarks.transfer import Transfer
from benchmarks.warehouse import Warehouse

_TIMES = 20


@dataclass(frozen=True, slots=True)
class SessionCost:
    """Seconds of a login and of a small statement; of one run its logins, chunk queries, other statements and
    the seconds that those take one after the other."""

    login: float
    statement: float
    connections: int
    logins: int
    chunks: int
    others: int
    others_seconds: float

    @classmethod
    def measured(cls, warehouse: Warehouse, run: Transfer) -> SessionCost:
        """After a run with a query for each chunk."""
        logins, small = [], []
        for _ in range(_TIMES):
            started = time.perf_counter()
            with closing(warehouse.connect()) as connection:
                logins.append(time.perf_counter() - started)
                cursor = connection.cursor()
                cursor.execute("SELECT 1")
                started = time.perf_counter()
                cursor.execute("SELECT 1")
                cursor.fetchall()
                small.append(time.perf_counter() - started)
        return cls(
            statistics.median(logins),
            statistics.median(small),
            run.connections,
            run.logins,
            len(run.queries),
            len(run.others),
            statistics.median(warehouse.answer(run.others) for _ in range(_TIMES)),
        )

    def __str__(self) -> str:
        of_chunk = self.others_seconds / self.chunks
        return (
            f"sessions: a login takes {self.login * 1e3:.1f} ms, a small statement {self.statement * 1e3:.1f} ms; "
            f"a run on {self.connections} connections logged in {self.logins} times; besides its own query each "
            f"of {self.chunks} chunks had {self.others / self.chunks:.1f} statements, {of_chunk * 1e3:.0f} ms"
        )
