"""What the workers of a process are about, so that it can be ended from outside of them."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass

from snowmelt.errors import Interrupted, SnowmeltError
from snowmelt.hands import Kit, TableWork
from snowmelt.model import Claim
from snowmelt.ports import QuerySource
from snowmelt.slices import CutOff

_log = logging.getLogger(__name__)


AGAIN_SECONDS = 2.0
"""Between two cuts of what has not ended yet: a session may just have been opened at the first."""


@dataclass(frozen=True, slots=True)
class Undertaking:
    """What a worker thread is about: a claim, or where it is None a table's finish. `since` is by the monotonic
    clock."""

    kit: Kit
    work: TableWork
    claim: Claim | None
    since: float

    @property
    def seconds(self) -> float:
        return time.monotonic() - self.since


class InFlight:
    """What the worker threads of a process are about at the moment."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._flights: dict[int, Undertaking] = {}
        self._cut = False
        self.cut_off: tuple[CutOff, ...] = ()
        """What was in flight at the cut."""

    @property
    def is_cut(self) -> bool:
        """Whether what is in flight is to be given back, whatever it ended in."""
        return self._cut

    @contextmanager
    def holding(
        self, kit: Kit, work: TableWork, claim: Claim | None = None
    ) -> Iterator[Undertaking]:
        """While a worker thread is about something that may take long. Raises Interrupted after a cut."""
        flight = Undertaking(kit, work, claim, time.monotonic())
        with self._changed:
            self.check()
            self._flights[id(flight)] = flight
        try:
            yield flight
        finally:
            with self._changed:
                del self._flights[id(flight)]
                self._changed.notify_all()

    def check(self) -> None:
        """Raise Interrupted after a cut."""
        if self._cut:
            raise Interrupted("the time of this process was up")

    def cut(self) -> None:
        """End what all workers are about: in their sessions to targets, in sources of this process, and in
        queries at servers. Each finds an error where it waits; none begins anything more.

        Not for a worker's own thread. Returns when nothing is in flight.
        """
        with self._changed:
            self._cut = True
            self.cut_off = tuple(_cut_off(flight) for flight in self._flights.values())
        while flights := self._still():
            # Side by side: a server that is not reached keeps each waiting.
            ends = [
                threading.Thread(
                    target=flight.kit.interrupt, name="snowmelt-interrupt", daemon=True
                )
                for flight in flights
            ]
            for end in ends:
                end.start()
            for name in dict.fromkeys(flight.work.table.job.source_name for flight in flights):
                _cancel([one for one in flights if one.work.table.job.source_name == name])
            for end in ends:
                end.join()
            with self._changed:
                self._changed.wait_for(lambda: not self._flights, AGAIN_SECONDS)

    def _still(self) -> list[Undertaking]:
        with self._changed:
            return list(self._flights.values())


def _cut_off(flight: Undertaking) -> CutOff:
    chunk_id = flight.claim.chunk.id if flight.claim else None
    return CutOff(str(flight.work.table.job.target), chunk_id, flight.seconds)


def _cancel(flights: list[Undertaking]) -> None:
    """End the queries of chunks of one source, in a session of its own: those of the workers wait for them."""
    try:
        with closing(flights[0].work.open_source()) as source:
            if not isinstance(source, QuerySource):
                return
            for one in flights:
                if one.claim is not None:
                    table = one.work.table
                    source.cancel(table.job.source, table.tag.chunk(one.claim.chunk.id))
    except SnowmeltError as error:
        _log.warning(
            "queries at the source were not cancelled: %s",
            error,
            extra={"action": "cancel_failed"},
        )
