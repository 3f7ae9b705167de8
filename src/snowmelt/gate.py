"""Where the workers of a process wait while the server that they write to suffers."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from enum import Enum, auto

from snowmelt.formats import duration
from snowmelt.pressure import PATIENCE_SECONDS, Cause, Facts, Pressure, judged

_log = logging.getLogger(__name__)

PRESSURE_SECONDS = 10.0
"""Between two looks at a server: less than any threshold takes to be crossed, and no load for it."""
REMINDER_SECONDS = 60.0
"""Between two lines in the log that say what is waited for."""


class Answer(Enum):
    """What a worker does next."""

    GO = auto()
    WAIT = auto()
    REST = auto()
    """Wait without a session: connections are what the server is short of."""


class Gate:
    """One server's, shared by the worker threads of a process. It looks when a worker asks, and not too often.

    Connections alone that are nearly used up hold up all workers but one.
    """

    def __init__(
        self, server: str, look: Callable[[], Facts], clock: Callable[[], float] = time.monotonic
    ) -> None:
        """`look` must not raise; `server` is its name in the log."""
        self._server = server
        self._look = look
        self._clock = clock
        self._looking = threading.Lock()
        self._lock = threading.Lock()
        self._looked_at: float | None = None
        self._pressure = Pressure()
        self._began = 0.0
        self._said = 0.0
        self._goes_on: object | None = None
        self._resting: set[object] = set()

    def ask(self, worker: object) -> Answer:
        """Whether the worker may take a chunk now. Only the first look is waited for by others."""
        if self._looking.acquire(blocking=self._looked_at is None):
            try:
                self._look_if_due()
            finally:
                self._looking.release()
        with self._lock:
            return self._answer(worker)

    @property
    def reason(self) -> str | None:
        """What workers wait for now; None where they don't."""
        with self._lock:
            return self._pressure.reason or None

    def leave(self, worker: object) -> None:
        """The worker has ended."""
        with self._lock:
            self._resting.discard(worker)
            if self._goes_on is worker:
                self._goes_on = None

    def _answer(self, worker: object) -> Answer:
        causes = self._pressure.causes
        if Cause.CONNECTIONS not in causes:
            self._goes_on = None
            self._resting.discard(worker)
            return Answer.WAIT if causes else Answer.GO
        if self._goes_on is None:
            self._goes_on = worker
        if self._goes_on is worker:
            self._resting.discard(worker)
            return Answer.GO if len(causes) == 1 else Answer.WAIT
        self._resting.add(worker)
        return Answer.REST

    def _look_if_due(self) -> None:
        if self._looked_at is not None and self._clock() - self._looked_at < PRESSURE_SECONDS:
            return
        facts = self._look()
        now = self._clock()
        with self._lock:
            if facts.connections is not None:
                connections = replace(facts.connections, resting=len(self._resting))
                facts = replace(facts, connections=connections)
            was = self._pressure
            self._pressure = judged(was, facts, now)
            self._looked_at = now
        self._tell(was, self._pressure, now)

    def _tell(self, was: Pressure, pressure: Pressure, now: float) -> None:
        for hold in pressure.overlooked:
            if hold.cause in was.causes:
                self._say(
                    f"{duration(PATIENCE_SECONDS)} of waiting did not help, so none follows: {hold.reason}"
                )
        if pressure.reason and not was.reason:
            self._began = self._said = now
            self._say(f"{_who(pressure)} before the next chunk: {pressure.reason}")
        elif pressure.reason and now - self._said >= REMINDER_SECONDS:
            self._said = now
            self._say(f"{_who(pressure)} for {duration(now - self._began)}: {pressure.reason}")
        elif was.reason and not pressure.reason:
            self._say(f"the workers go on after {duration(now - self._began)}")

    def _say(self, text: str) -> None:
        _log.warning("%s: %s", self._server, text, extra={"action": "backing_off"})


def _who(pressure: Pressure) -> str:
    one = pressure.causes == {Cause.CONNECTIONS}
    return "all workers but one wait" if one else "the workers wait"
