"""Who may have rows in flight: one governor per process, and a flight for each chunk that is under way.

A worker asks for a flight before the first row of its chunk, when it has no transaction open and holds up nobody.
It gets as much as the heaviest batch of the chunk takes, in the order of asking, and keeps it to the chunk's end:
nobody waits in the middle. A batch that is fetched ahead of its use takes more only while nobody waits for a
flight. So a flight in progress depends on no other.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from snowmelt.errors import Blocked
from snowmelt.memory.allocator import give_back, keep_little
from snowmelt.memory.budget import WORKER_BYTES, Budget, MemoryUse, limit_for
from snowmelt.memory.cost import Cost
from snowmelt.memory.resident import resident
from snowmelt.periodic import every

_log = logging.getLogger(__name__)

POLL_SECONDS = 0.25
"""Between two looks of who waits at whether the run was stopped."""
SAMPLE_SECONDS = 0.05
"""Between two looks at resident memory: less than a batch takes to be fetched and decoded."""
GIVE_BACK_SECONDS = 0.5
"""Between two times that free memory is returned: it takes some milliseconds."""
ROOMY_BYTES = 192 << 20
"""For each worker: with less, allocators are told to keep little of what is freed. That took a peak of 530 MB to
390, and a quarter of the speed where there was room."""


class Left(Exception):
    """The flight has ended: nobody wants the batch that was waited for."""


class Governor:
    """Counts what is in flight in this process, and lets workers wait. Outside of `running` nothing is limited.

    `desk` is what each flight has beside its batches: pieces that are encoded and sent, keys of rows sent last.
    """

    def __init__(
        self,
        budget: Budget,
        desk: int = 0,
        *,
        measure: Callable[[], int | None] = resident,
        relieve: Callable[[], None] = give_back,
        keep_little: Callable[[], object] = keep_little,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.budget = budget
        self.desk = desk
        self._measure = measure
        self._relieve = relieve
        self._keep_little = keep_little
        self._clock = clock
        self._changed = threading.Condition()
        self._queue: deque[Flight] = deque()
        self._flights: set[Flight] = set()
        self._capacity: int | None = None
        self._halt = threading.Event()
        self._cost = Cost(0)
        self._full = False
        self._relieved_at = float("-inf")
        self._workers = 1
        self.tight = False
        """Whether resident memory is to follow what is in use, at the cost of speed."""
        self._begin(None)

    def _begin(self, base: int | None) -> None:
        self._peak, self._base = base, base or 0
        self._peak_held = self._fed = self._largest = 0
        self._waited = 0.0

    @contextmanager
    def running(self, workers: int, halt: threading.Event) -> Iterator[None]:
        """Keep `workers` within the budget; what waits when `halt` is set gives up."""
        self._relieve()
        base = self._measure()
        with self._changed:
            self._begin(base)
            self._workers, self._halt, self._full = workers, halt, False
            self._capacity = self.budget.in_flight(self._base, workers)
            self.tight = self._capacity is not None and self._capacity < workers * ROOMY_BYTES
        if self.tight:
            self._keep_little()
        with self._changed:
            self._cost = Cost(self._base + workers * WORKER_BYTES)
        try:
            with every(SAMPLE_SECONDS, self.look, "memory"):
                yield
        finally:
            with self._changed:
                self._capacity = None
                self._changed.notify_all()

    @contextmanager
    def flight(
        self, bytes: int, before_waiting: Callable[[], None] | None = None
    ) -> Iterator[Flight]:
        """Wait until the batches of a chunk, `bytes` for the heaviest, may be in flight. More than the budget
        passes alone.

        `before_waiting` is called once if there is no room now. Raises Blocked where the run is stopped
        meanwhile.
        """
        flight = Flight(self, bytes + self.desk)
        if not self._admitted_at_once(flight):
            if before_waiting is not None:
                before_waiting()
            self._wait(flight)
        try:
            yield flight
        finally:
            flight.close()

    @property
    def held(self) -> int:
        """Bytes in flight, as declared."""
        return sum(flight.held for flight in self._flights)

    @property
    def engine_bytes(self) -> int | None:
        """What an embedded database may take of the memory; None where it may choose, as nothing ends a process
        that takes too much."""
        limit = self.budget.limit
        if limit is None or limit.shared:
            return None
        return (self.budget.target or 0) // 4

    def use(self) -> MemoryUse:
        """Of the run that ended, or goes on."""
        with self._changed:
            limit = self.budget.limit
            wanted = self._workers * (WORKER_BYTES + int(self._largest * self._cost.factor))
            return MemoryUse(
                self._peak,
                limit.bytes if limit else None,
                limit.what if limit else None,
                self.budget.in_flight(self._base, self._workers),
                self._peak_held,
                self._cost.seen,
                self._workers,
                self._fed,
                self._waited,
                limit_for(self._base + wanted),
            )

    def _admitted_at_once(self, flight: Flight) -> bool:
        with self._changed:
            self._largest = max(self._largest, flight.reserved)
            if self._queue or not self._fits(flight.reserved):
                return False
            self._admit(flight)
            return True

    def _admit(self, flight: Flight) -> None:
        self._flights.add(flight)
        self._fed = max(self._fed, len(self._flights))
        self._note()

    def _wait(self, flight: Flight) -> None:
        """In the order of asking: many small chunks don't keep a large one waiting."""
        with self._changed:
            began = self._clock()
            self._queue.append(flight)
            try:
                while not (self._queue[0] is flight and self._fits(flight.reserved)):
                    if self._halt.is_set():
                        raise Blocked("the run was stopped before there was memory for the chunk")
                    self._changed.wait(POLL_SECONDS)
                self._admit(flight)
            finally:
                self._queue.remove(flight)
                self._waited += self._clock() - began
                self._changed.notify_all()

    def _fits(self, more: int) -> bool:
        if self._capacity is None or not self._flights:
            return True
        if self._full:
            return False
        return (self.held + more) * self._cost.factor <= self._capacity

    def _room_ahead(self, more: int) -> bool:
        """Whether a flight may take more than its own: whoever waits for one comes first."""
        return not self._queue and self._fits(more)

    def _note(self) -> None:
        held = self.held
        self._peak_held = max(self._peak_held, held)
        self._cost.holds(held, self._clock())

    def _left(self, flight: Flight) -> None:
        self._flights.discard(flight)

    def look(self) -> None:
        """Measure, learn what a byte costs, and give free memory back near the limit."""
        found = self._measure()
        if found is None:
            return
        now = self._clock()
        target = self.budget.target
        if target is not None and found > target and now - self._relieved_at >= GIVE_BACK_SECONDS:
            self._relieved_at = now
            with self._changed:
                self._peak = max(self._peak or 0, found)
            if not self.tight:
                self.tight = True
                self._keep_little()
            self._relieve()
            found = self._measure() or found
        with self._changed:
            self._peak = max(self._peak or 0, found)
            self._cost.learn(found, now)
            full = target is not None and found > target
            if full and not self._full:
                _log.info(
                    "%d MB are resident: chunks begin one at a time until there is room",
                    found >> 20,
                    extra={"action": "memory_full", "bytes": found},
                )
            self._full = full
            self._changed.notify_all()


class Flight:
    """What one chunk may have in flight. Its batches are leased, one after the other, by one thread."""

    def __init__(self, governor: Governor, reserved: int) -> None:
        self._governor = governor
        self.reserved = reserved
        self._used = governor.desk
        self._closed = False

    @property
    def held(self) -> int:
        return max(self.reserved, self._used)

    def lease(self, bytes: int) -> Lease:
        """Wait until a batch may come: one's own batches before are done, or there is room for one ahead.

        Raises Left where the flight ends meanwhile.
        """
        governor = self._governor
        with governor._changed:
            while not self._closed and not self._may(bytes):
                governor._changed.wait(POLL_SECONDS)
            if self._closed:
                raise Left
            self._used += bytes
            governor._note()
        return Lease(self, bytes)

    def _may(self, bytes: int) -> bool:
        if self._used == self._governor.desk:
            return True  # nothing of its own is left to wait for
        more = self._used + bytes - self.held
        return more <= 0 or self._governor._room_ahead(more)

    def _change(self, by: int) -> None:
        with self._governor._changed:
            self._used += by
            self._governor._note()
            self._governor._changed.notify_all()

    def close(self) -> None:
        """Give everything back; who waits for a batch is told."""
        with self._governor._changed:
            self._closed = True
            self._governor._left(self)
            self._governor._changed.notify_all()


class Lease:
    """A batch in flight."""

    def __init__(self, flight: Flight, bytes: int) -> None:
        self._flight = flight
        self._bytes = bytes

    def resize(self, bytes: int) -> None:
        """What the batch turned out to take; more is taken without waiting."""
        by, self._bytes = bytes - self._bytes, bytes
        self._flight._change(by)

    def release(self) -> None:
        """The batch is gone; twice is no error."""
        self.resize(0)


UNLIMITED = Governor(Budget(None, None))
"""For readers outside of a run."""
