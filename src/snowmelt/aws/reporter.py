"""A line of progress and one of metrics each minute, while a run is under way."""

from __future__ import annotations

import logging
import time
from contextlib import AbstractContextManager

from snowmelt.aws.metrics import Metrics
from snowmelt.gauges import Gauges, together
from snowmelt.periodic import every

_log = logging.getLogger(__name__)

SECONDS = 60.0


def reporting(
    gauges: Gauges, metrics: Metrics, seconds: float = SECONDS
) -> AbstractContextManager[None]:
    """Until the block ends."""

    def speak() -> None:
        _log.info("%s", together(gauges.snapshot()), extra={"action": "progress"})
        metrics.flush(time.monotonic())

    return every(seconds, speak, "reporter")
