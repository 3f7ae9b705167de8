"""What one invocation did, counted and told while it runs."""

from __future__ import annotations

import logging
import threading
from dataclasses import astuple, dataclass, replace
from typing import Self

from snowmelt.errors import Blocked, Interrupted, SnowmeltError
from snowmelt.gauges import Gauges
from snowmelt.model import Claim, LoadTable, Outcome, TargetTable

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Count:
    """Rows, bytes and chunks are those that this process committed."""

    rows: int = 0
    bytes: int = 0
    chunks: int = 0
    retries: int = 0
    errors: int = 0
    failed_tables: int = 0

    def plus(self, **more: int) -> Self:
        return replace(self, **{name: getattr(self, name) + n for name, n in more.items()})

    def minus(self, other: Count) -> Count:
        return Count(*(a - b for a, b in zip(astuple(self), astuple(other), strict=True)))


class Watch(Gauges):
    """`observer.Observer`: the gauges, beside them what this process committed, and a line for what went wrong."""

    def __init__(self) -> None:
        super().__init__()
        self._count = Count()
        self._failed: set[TargetTable] = set()
        self._counting = threading.Lock()

    def count(self) -> Count:
        """So far."""
        return self._count

    def completed(self, table: LoadTable, claim: Claim, outcome: Outcome) -> None:
        super().completed(table, claim, outcome)
        self._add(rows=outcome.rows_read, bytes=outcome.bytes, chunks=1)

    def gave_up(self, table: LoadTable, claim: Claim, error: SnowmeltError) -> None:
        super().gave_up(table, claim, error)
        if isinstance(error, Interrupted):
            return  # the time was up, which the last line tells
        # Who waits for a lock of somebody else has made no error.
        self._add(retries=1, errors=0 if isinstance(error, Blocked) else 1)
        about = {"table": str(table.job.target), "chunk_id": claim.chunk.id}
        if not isinstance(error, Blocked):  # that one the crew tells itself
            _log.warning(
                "an attempt failed: %s", error.message, extra={"action": "attempt_failed", **about}
            )

    def failed(self, table: LoadTable, error: SnowmeltError) -> None:
        super().failed(table, error)
        target = table.job.target
        with self._counting:
            known = target in self._failed
            self._failed.add(target)
        if known:
            return  # workers that were about other chunks of it fail it as well
        self._add(failed_tables=1)
        _log.error("the table failed: %s", error, extra={"action": "table_failed"})

    def ends_in_failure(self) -> None:
        """The invocation itself ends with an error, or its run does."""
        self._add(errors=1)

    def _add(self, **more: int) -> None:
        with self._counting:
            self._count = self._count.plus(**more)
