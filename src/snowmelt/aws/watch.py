"""What one invocation does, counted, and told where it goes wrong."""

from __future__ import annotations

import logging
import threading

from snowmelt.errors import SnowmeltError
from snowmelt.gauges import Gauges
from snowmelt.model import Claim, LoadTable, TargetTable
from snowmelt.observer import Silence, Together
from snowmelt.tally import Tally, is_failure

_log = logging.getLogger(__name__)


class Watch(Together):
    """`observer.Observer`: gauges for the progress, a tally for the metrics, and lines for what went wrong."""

    def __init__(self) -> None:
        self.gauges, self.tally = Gauges(), Tally()
        super().__init__(self.gauges, self.tally, _Lines())
        self.ended_in_failure = False
        """The invocation itself ended with an error, or its run did."""


class _Lines(Silence):
    """A line for each attempt and each table that failed."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._failed: set[TargetTable] = set()

    def gave_up(self, table: LoadTable, claim: Claim, error: SnowmeltError) -> None:
        if is_failure(error):
            about = {"table": str(table.job.target), "chunk_id": claim.chunk.id}
            _log.warning(
                "an attempt failed: %s", error.message, extra={"action": "attempt_failed", **about}
            )

    def failed(self, table: LoadTable, error: SnowmeltError) -> None:
        target = table.job.target
        with self._lock:
            known = target in self._failed
            self._failed.add(target)
        if not known:  # workers that were about other chunks of it fail it as well
            _log.error("the table failed: %s", error, extra={"action": "table_failed"})
