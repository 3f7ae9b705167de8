"""What one process did of a run, from its start in it to its end: a slice of the run."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from snowmelt.formats import duration

IDLE_LIMIT = 3
"""So many slices in a row that bring a run no further fail it: the next ones would not either."""
_NAMED = 3


@dataclass(frozen=True, slots=True)
class CutOff:
    """A chunk, or where it is None a finish, that was in flight for so long when it was cut off."""

    table: str
    chunk_id: int | None
    seconds: float

    def __str__(self) -> str:
        what = "the finish" if self.chunk_id is None else f"chunk {self.chunk_id}"
        return f"{what} of {self.table} after {duration(self.seconds)}"


@dataclass(frozen=True, slots=True)
class Slice:
    """What a process did of a run. Rows are those read of chunks that it committed, bytes what COPY was sent.

    `errors` counts attempts at chunks that were given up. `progress`: whether the run is further than it was: by
    chunks, or by what comes before and after them. `reason`: why the process left the run before its end.
    `idle`: how many slices in a row, this one included, made no progress; 0 where that is not counted, as
    nothing ends the process.
    """

    seconds: float
    chunks: int
    rows: int
    bytes: int
    errors: int
    progress: bool
    reason: str | None = None
    idle: int = 0


def reason_of(
    stopped: str | None,
    cut_off: Iterable[CutOff],
    too_late: Iterable[tuple[str, float]],
    waited: Iterable[str],
) -> str:
    """Why a process left a run that is not ended, in a sentence or two.

    `stopped`: what told it to; `too_late`: tables of which no chunk was begun any more, and the seconds that one
    takes; `waited`: what the workers waited for at the end.
    """
    told = []
    if cuts := _some(map(str, cut_off)):
        told.append(f"the time was up, and cut off: {cuts}")
    if late := _some(
        f"a chunk of {table} takes {duration(seconds)}" for table, seconds in too_late
    ):
        told.append(f"not enough time was left: {late}")
    told += [f"the workers waited: {one}" for one in waited]
    if not told:
        told.append(stopped or "what is left is in other hands")
    return "; ".join(told)


def stuck(run: str, reason: str | None) -> str:
    """What a person is told of a run that is failed for slices without progress."""
    why = f"; the last one: {reason}" if reason else ""
    return f"{IDLE_LIMIT} slices in a row brought run {run} no further{why}"


def _some(texts: Iterable[str]) -> str:
    all_of_them = list(texts)
    more = len(all_of_them) - _NAMED
    return ", ".join(all_of_them[:_NAMED]) + (f" and {more:,} more" if more > 0 else "")
