"""From a low to a high figure: what an estimate is."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Range:
    """`low` is never above `high`."""

    low: float
    high: float

    def __add__(self, other: Range) -> Range:
        return Range(self.low + other.low, self.high + other.high)

    def __mul__(self, times: float) -> Range:
        return Range(self.low * times, self.high * times)

    def at_least(self, other: Range) -> Range:
        """The larger of both, at each end."""
        return Range(max(self.low, other.low), max(self.high, other.high))
