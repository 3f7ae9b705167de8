"""What this process has done of a run, counted as its workers tell."""

from __future__ import annotations

import threading

from snowmelt.errors import Blocked, Interrupted, SnowmeltError
from snowmelt.model import Claim, LoadTable, Outcome, TargetTable
from snowmelt.observer import Silence
from snowmelt.ports import Replanned


class Tally(Silence):
    """`Observer` that counts. Rows and bytes are those of committed chunks.

    `retries` are attempts at chunks that ended without a commit; `errors` those of them that failed, which one
    that waited for somebody's lock, or was cut off at a deadline, has not.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._failed: set[TargetTable] = set()
        self.chunks = self.rows = self.bytes = self.retries = self.errors = 0
        self.progress = False

    @property
    def failed_tables(self) -> int:
        return len(self._failed)

    def completed(self, table: LoadTable, claim: Claim, outcome: Outcome) -> None:
        with self._lock:
            self.chunks += 1
            self.rows += outcome.rows_read
            self.bytes += outcome.bytes
            self.progress = True

    def gave_up(self, table: LoadTable, claim: Claim, error: SnowmeltError) -> None:
        with self._lock:
            self.retries += 1
            self.errors += is_failure(error)

    def expanded(self, table: LoadTable, claim: Claim, chunks: int) -> None:
        self.progress = True

    def replanned(self, table: LoadTable, done: Replanned) -> None:
        self.progress = True

    def finished(self, table: LoadTable) -> None:
        self.progress = True

    def failed(self, table: LoadTable, error: SnowmeltError) -> None:
        with self._lock:
            # Workers that are about other chunks of the table fail it as well.
            self._failed.add(table.job.target)


def is_failure(error: SnowmeltError) -> bool:
    """Whether an attempt that ended in the error has failed: not where it waited for others, or was cut off."""
    return not isinstance(error, Blocked | Interrupted)
