"""What one process did of a run, from its start in it to its end: a slice of the run."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from snowmelt.errors import RunError
from snowmelt.formats import duration

IDLE_LIMIT = 3
"""So many slices in a row that bring a run no further fail it: the next ones would not either."""
_NAMED = 3
_STILL_SECONDS = 60.0


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
class ServerBuild:
    """An index or a foreign key that a backend of the server is building, whether its client is there or not.

    `phase` and `share` are the server's, where it tells them; `advanced_seconds`: so long ago it was last seen to
    have come further, None where nobody has looked.
    """

    table: str
    kind: str
    name: str
    pid: int
    seconds: float
    phase: str = ""
    share: float | None = None
    waits: bool = False
    advanced_seconds: float | None = None

    def __str__(self) -> str:
        told = [f"pid {self.pid}", f"for {duration(self.seconds)}"]
        if self.phase:
            share = f" {self.share:.0%}" if self.share is not None else ""
            told.append(f"{self.phase}{share}")
        if self.waits:
            told.append("waiting for a lock")
        if self.advanced_seconds is not None and self.advanced_seconds > _STILL_SECONDS:
            told.append(f"no further for {duration(self.advanced_seconds)}")
        return f"the server builds the {self.kind} {self.name} of {self.table} ({', '.join(told)})"


@dataclass(frozen=True, slots=True)
class Slice:
    """What a process did of a run. Rows are those read of chunks that it committed, bytes what COPY was sent.

    `errors` counts attempts at chunks that failed. `progress`: whether the run is further than it was: by
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


@dataclass(frozen=True, slots=True)
class Span:
    """When a process worked at a run, by the server's clock; `ended` is None while it lives. `bounded`: whether
    something ends it."""

    bounded: bool
    began: datetime
    ended: datetime | None


def in_a_row(spans: Iterable[Span]) -> int:
    """How many slices one after another have done nothing, of those that did nothing and those that live.

    Slices at the same time are one, which is not over while one of them lives. Beside a process that nothing ends
    they show nothing: it has what they would move.
    """
    all_of_them = list(spans)
    alive = [span for span in all_of_them if span.ended is None]
    if not all(one.bounded for one in alive):
        return 0
    over = sorted(
        (max(span.began, span.ended), span.began) for span in all_of_them if span.ended is not None
    )
    count, until = 0, None
    for ended, began in over:
        if any(one.began < ended for one in alive):
            break
        if until is None or began >= until:
            count, until = count + 1, ended
    return count


def reason_of(
    stopped: str | None,
    cut_off: Iterable[CutOff],
    too_late: Iterable[tuple[str, float]],
    waited: Iterable[str],
    builds: Iterable[ServerBuild] = (),
) -> str:
    """Why a process left a run that is not ended, in a sentence or two.

    `stopped`: what told it to; `too_late`: tables of which no chunk was begun any more, and the seconds that one
    takes; `waited`: what the workers waited for at the end; `builds`: what the server goes on with.
    """
    told = []
    builds = list(builds)
    going_on = {one.table for one in builds}
    cuts_of = (one for one in cut_off if one.chunk_id is not None or one.table not in going_on)
    if cuts := _some(map(str, cuts_of)):
        told.append(f"the time was up, and cut off: {cuts}")
    if late := _some(
        f"a chunk of {table} takes {duration(seconds)}" for table, seconds in too_late
    ):
        told.append(f"not enough time was left: {late}")
    if going := _some(map(str, builds)):
        told.append(going)
    told += [f"the workers waited: {one}" for one in waited]
    if not told:
        told.append(stopped or "what is left is in other hands")
    return "; ".join(told)


def stuck(run: str, reason: str | None) -> RunError:
    """What a run is failed by for slices without progress."""
    why = f"; the last one: {reason}" if reason else ""
    return RunError(
        f"{IDLE_LIMIT} slices in a row brought run {run} no further{why}",
        remedy="give each more time or memory, or chunks fewer rows; then run again: it resumes",
    )


def _some(texts: Iterable[str]) -> str:
    all_of_them = list(texts)
    more = len(all_of_them) - _NAMED
    return ", ".join(all_of_them[:_NAMED]) + (f" and {more:,} more" if more > 0 else "")
