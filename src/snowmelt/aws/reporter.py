"""A line of progress and one of metrics each minute, while a run is under way."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from snowmelt.aws.metrics import Metrics
from snowmelt.gauges import Gauges, together

_log = logging.getLogger(__name__)

SECONDS = 60.0


@contextmanager
def reporting(gauges: Gauges, metrics: Metrics, seconds: float = SECONDS) -> Iterator[None]:
    """Until the block ends."""
    ended = threading.Event()

    def speak() -> None:
        while not ended.wait(seconds):
            _log.info("%s", together(gauges.snapshot()), extra={"action": "progress"})
            metrics.flush(time.monotonic())

    thread = threading.Thread(target=speak, name="snowmelt-reporter", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
