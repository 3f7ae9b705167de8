"""Until when a process may work, and whether one more chunk is begun before that."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable
from typing import Self

RECENT = 20
"""Chunks of a table whose times tell what the next one takes."""
LAST_SECONDS = 3.0
"""Before the process is ended: enough to give its claims back."""
LARGEST_BUFFER = 1 / 3
"""Of the time: a buffer beyond it would leave none to work in."""


class Deadline:
    """The moment at which something else ends the process, and how long before it work is cut off.

    What is cut off is rolled back and given back in the time of the buffer, of which at most a third of
    `seconds` counts.
    """

    def __init__(
        self, seconds: float, buffer_seconds: float, clock: Callable[[], float] = time.monotonic
    ) -> None:
        buffer = min(buffer_seconds, seconds * LARGEST_BUFFER)
        self._clock = clock
        self._ends = clock() + seconds
        self._cuts = self._ends - buffer
        self.seconds = seconds
        self.working_seconds = seconds - buffer
        """How long the process may move rows, all in all."""

    @classmethod
    def after(
        cls,
        working_seconds: float,
        grace_seconds: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> Self:
        """Of a process that nothing else ends: it works for so long, and then has the grace for the rest."""
        deadline = cls(working_seconds + grace_seconds, 0, clock)
        deadline._cuts -= grace_seconds
        deadline.working_seconds = working_seconds
        return deadline

    @property
    def left(self) -> float:
        """Seconds until the process is ended."""
        return self._ends - self._clock()

    @property
    def working(self) -> float:
        """Seconds until what is in flight is cut off."""
        return self._cuts - self._clock()

    @property
    def last_seconds(self) -> float:
        """So long before it is ended a process that has not done by then leaves by itself."""
        return min(LAST_SECONDS, (self.seconds - self.working_seconds) / 2)

    def allows(self, pace: Pace) -> bool:
        """Whether a chunk of that pace is begun now.

        In the first half of its time a process begins chunks whatever they took before: those that take longer
        would else never be begun, and that they do is known once they are cut off.
        """
        working = self.working
        if working <= 0:
            return False
        expected = pace.seconds
        return expected is None or working > self.working_seconds / 2 or working >= expected

    def is_too_long(self, seconds: float) -> bool:
        """Whether what was cut off after so long is not to be tried again as it is: it began in the first half."""
        return seconds > self.working_seconds / 2


class Pace:
    """What the last chunks of a table have taken, from claim to commit."""

    def __init__(self, seconds: Iterable[float] = ()) -> None:
        self._recent = deque(seconds, RECENT)

    def note(self, seconds: float) -> None:
        self._recent.append(seconds)

    @property
    def seconds(self) -> float | None:
        """The longest of them: a chunk that is begun is to be ended. None before any."""
        return max(tuple(self._recent), default=None)
