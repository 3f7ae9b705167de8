"""How a run is told to end before its work does."""

from __future__ import annotations

import threading

from snowmelt.errors import SnowmeltError

ABORTED = "aborted"
"""The reason where somebody ended the run for good."""


class Stop:
    """Told once, heard by everyone: start nothing new. The first reason stays."""

    def __init__(self) -> None:
        self.event = threading.Event()
        self.reason: str | None = None
        self.error: SnowmeltError | None = None

    def __call__(self, reason: str, error: SnowmeltError | None = None) -> None:
        if not self.event.is_set():
            self.reason, self.error = reason, error
            self.event.set()

    def fail(self, error: SnowmeltError) -> None:
        """The run is failed by this, whatever it was told before."""
        self(str(error.what), error)
        self.error = error
