"""What this process has done of a run, counted as its workers tell."""

from __future__ import annotations

import threading

from snowmelt.errors import Interrupted, SnowmeltError
from snowmelt.model import Claim, LoadTable, Outcome
from snowmelt.observer import Silence
from snowmelt.ports import Replanned


class Tally(Silence):
    """`Observer` that counts. Rows and bytes are those of committed chunks."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.chunks = self.rows = self.bytes = self.errors = 0
        self.progress = False

    def completed(self, table: LoadTable, claim: Claim, outcome: Outcome) -> None:
        with self._lock:
            self.chunks += 1
            self.rows += outcome.rows_read
            self.bytes += outcome.bytes
            self.progress = True

    def gave_up(self, table: LoadTable, claim: Claim, error: SnowmeltError) -> None:
        if isinstance(error, Interrupted):
            return  # its time was up
        with self._lock:
            self.errors += 1

    def expanded(self, table: LoadTable, claim: Claim, chunks: int) -> None:
        self.progress = True

    def replanned(self, table: LoadTable, done: Replanned) -> None:
        self.progress = True

    def finished(self, table: LoadTable) -> None:
        self.progress = True
