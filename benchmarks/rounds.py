"""Ways run in turn, round by round, so that what else the machine does falls on all of them."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

Way = Callable[[], float | None]
"""Moves the table; the seconds of the moving itself where it knows them, else None."""


class WayFailed(Exception):
    """A way could not be prepared or did not load the table: why, in one line."""


@dataclass(slots=True)
class Series:
    """Seconds of one way, round by round; `whole` has what the way does besides moving rows."""

    moving: list[float] = field(default_factory=list)
    whole: list[float] = field(default_factory=list)

    def take(self, way: Way) -> None:
        """Run the way once more."""
        started = time.perf_counter()
        moving = way()
        whole = time.perf_counter() - started
        self.whole.append(whole)
        self.moving.append(moving if moving is not None else whole)

    @property
    def seconds(self) -> float:
        return statistics.median(self.moving)

    def ratio(self, reference: Series) -> float:
        """How fast this way is beside another one, by the median over the rounds."""
        pairs = zip(reference.moving, self.moving, strict=True)
        return statistics.median(theirs / ours for theirs, ours in pairs)


def alternate(
    ways: Mapping[str, Way],
    rounds: int,
    before: Callable[[str], None],
    after: Callable[[str], None] = lambda _: None,
) -> dict[str, Series]:
    """Each way once in each round, with `before` and `after` called around it, outside of its seconds."""
    series = {name: Series() for name in ways}
    for _ in range(rounds):
        for name, way in ways.items():
            before(name)
            series[name].take(way)
            after(name)
    return series
