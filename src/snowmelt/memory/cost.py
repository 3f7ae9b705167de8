"""What a byte in flight costs of resident memory: what is declared, against what the system tells."""

from __future__ import annotations

from collections import deque

LEAST_BYTES = 64 << 20
"""Less in flight tells nothing: what else comes and goes in the process is as large."""
LEAST, MOST = 0.8, 4.0
FADING = 0.02
"""By how much of the difference a cost falls with each look; it rises at once."""
KEPT_SECONDS = 2.0
"""Allocators keep what was freed for some time: so long, what was in flight counts as if it were there still."""


class Cost:
    """`factor` is how much a declared byte counts for. `base` is resident without any in flight."""

    def __init__(self, base: int) -> None:
        self._base = base
        self._now = 0
        self._before: deque[tuple[float, int]] = deque()
        self.factor = 1.0
        self.seen: float | None = None
        """The highest that was measured; it may be less than 1, where declarations are cautious."""

    def holds(self, bytes: int, now: float) -> None:
        """So many bytes are in flight from now on."""
        while self._before and self._before[-1][1] <= self._now:
            self._before.pop()
        self._before.append((now, self._now))
        self._now = bytes

    def learn(self, resident: int, now: float) -> None:
        """So many bytes are resident now."""
        held = self._recently(now)
        if held < LEAST_BYTES:
            return
        cost = max(resident - self._base, 0) / held
        self.seen = max(self.seen or 0.0, cost)
        cost = min(max(cost, LEAST), MOST)
        self.factor = max(cost, self.factor + FADING * (cost - self.factor))

    def _recently(self, now: float) -> int:
        """The most that was in flight within the last seconds. What is kept falls with time."""
        while self._before and self._before[0][0] < now - KEPT_SECONDS:
            self._before.popleft()
        return max(self._now, self._before[0][1]) if self._before else self._now
