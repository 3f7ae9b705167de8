"""Whether a target's server suffers, by what can be seen of it. What can't be seen is no reason to wait."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import Enum, auto

from snowmelt.formats import duration, size

LAG_SECONDS, CAUGHT_UP_SECONDS = 60.0, 15.0
"""From a minute on a standby's answers are out of date for most uses, and it needs as long to take over."""
LAG_BYTES, CAUGHT_UP_BYTES = 16_000_000_000, 4_000_000_000
"""WAL that a standby has to apply yet, and keeps on its disk. It grows also where the time stands still."""
PATIENCE_SECONDS = 600.0
"""For what a pause may not help. A standby that is behind for this load alone catches up within minutes; one that
does not is delayed on purpose, paused or broken. A slot that nothing reads may be of a consumer that restarts, or
of one that is gone. Neither is waited for again until it was well once."""
SLOT_SHARE, SAFE_SHARE = 0.2, 0.4
"""What is left of the WAL that the server may keep for a slot. At 0 the slot is lost, and what reads from it has
to be built anew. A share: how much is little is for those to say who set the limit."""
WAL_ROOM = 2.0
"""WAL beyond what the server is set to keep waits for an archiver or a slot. If as much again does not fit on the
disk, the server is about to stop for everybody; with room for twice as much it is not."""
FREE_CONNECTIONS, ENOUGH_CONNECTIONS = 2, 4
"""What is left for everybody else: one for a person, and one for what the person comes to see."""


class Cause(Enum):
    """What a server suffers from."""

    LAG = auto()
    SLOT = auto()
    WAL = auto()
    CONNECTIONS = auto()


@dataclass(frozen=True, slots=True)
class Slot:
    """The replication slot that is nearest to its loss: bytes of WAL that may still be written, and that the
    server may keep for it; whether its consumer is connected. `unreserved` is one whose WAL goes with the next
    checkpoint."""

    name: str
    safe_bytes: int
    kept_bytes: int
    active: bool
    unreserved: bool = False


@dataclass(frozen=True, slots=True)
class Wal:
    """Bytes in pg_wal, bytes that the server is set to keep there, and bytes free on the disk."""

    size: int
    kept: int
    free: int


@dataclass(frozen=True, slots=True)
class Connections:
    """Open now, and at most, under the tightest limit that is shared with others; `resting` are sessions of this
    process that are closed for want of connections, and come back when that ends."""

    open: int
    most: int
    resting: int = 0


@dataclass(frozen=True, slots=True)
class Facts:
    """What one look at a server told. None: it is not there, or could not be seen."""

    lag_seconds: float | None = None
    lag_bytes: int | None = None
    slot: Slot | None = None
    wal: Wal | None = None
    connections: Connections | None = None


@dataclass(frozen=True, slots=True)
class Hold:
    """One cause to wait: since when, by the caller's clock in seconds, and how it stood at the last look."""

    cause: Cause
    reason: str
    since: float


@dataclass(frozen=True, slots=True)
class Pressure:
    """What holds the workers up, and what was waited for in vain and is overlooked."""

    holds: tuple[Hold, ...] = ()
    overlooked: tuple[Hold, ...] = ()

    @property
    def reason(self) -> str | None:
        """All causes to wait, for a person; None without any."""
        return "; ".join(hold.reason for hold in self.holds) or None

    @property
    def causes(self) -> frozenset[Cause]:
        return frozenset(hold.cause for hold in self.holds)


def judged(was: Pressure, facts: Facts, now: float) -> Pressure:
    """The pressure after a look at `now`. A cause begins beyond one threshold and ends short of a lower one."""
    before = {hold.cause: hold for hold in (*was.holds, *was.overlooked)}
    holds, overlooked = [], []
    for cause, measure in _MEASURES.items():
        level, reason = measure(facts)
        known = before.get(cause)
        if level is _Level.FINE or (level is _Level.BETWEEN and known is None):
            continue
        hold = Hold(cause, reason, known.since if known else now)
        in_vain = known in was.overlooked or now - hold.since >= PATIENCE_SECONDS
        if in_vain and _may_be_in_vain(cause, facts):
            overlooked.append(hold)
        else:
            holds.append(hold)
    return Pressure(tuple(holds), tuple(overlooked))


def _may_be_in_vain(cause: Cause, facts: Facts) -> bool:
    if cause is Cause.SLOT:
        return facts.slot is not None and not facts.slot.active
    return cause is Cause.LAG


class _Level(Enum):
    FINE = auto()
    BETWEEN = auto()
    """Goes on if it had begun."""
    SUFFERS = auto()


_Measured = tuple[_Level, str]


def _level(suffers: bool, fine: bool) -> _Level:
    if suffers:
        return _Level.SUFFERS
    return _Level.FINE if fine else _Level.BETWEEN


def _lag(facts: Facts) -> _Measured:
    seconds, bytes = facts.lag_seconds or 0.0, facts.lag_bytes or 0
    told = [
        f"is {duration(seconds)} behind" if seconds >= CAUGHT_UP_SECONDS else "",
        f"has {size(bytes)} of WAL to apply yet" if bytes >= CAUGHT_UP_BYTES else "",
    ]
    level = _level(
        seconds > LAG_SECONDS or bytes > LAG_BYTES,
        seconds < CAUGHT_UP_SECONDS and bytes < CAUGHT_UP_BYTES,
    )
    return level, f"a standby {' and '.join(one for one in told if one)}"


def _slot(facts: Facts) -> _Measured:
    slot = facts.slot
    if slot is None:
        return _Level.FINE, ""
    name = f"replication slot {slot.name}"
    name += "" if slot.active else ", which nothing reads,"
    if slot.unreserved:
        return _Level.SUFFERS, f"{name} loses WAL that it needs with the next checkpoint"
    share = slot.safe_bytes / max(slot.kept_bytes, 1)
    told = f"{name} is lost after {size(max(slot.safe_bytes, 0))} more of WAL"
    return _level(share < SLOT_SHARE, share > SAFE_SHARE), told


def _wal(facts: Facts) -> _Measured:
    wal = facts.wal
    if wal is None or wal.size <= wal.kept:
        return _Level.FINE, ""
    told = (
        f"pg_wal has {size(wal.size)}, where the server is set to keep {size(wal.kept)}, "
        f"and {size(wal.free)} are free on its disk"
    )
    return _level(wal.free < wal.size, wal.free > WAL_ROOM * wal.size), told


def _connections(facts: Facts) -> _Measured:
    found = facts.connections
    if found is None:
        return _Level.FINE, ""
    free = found.most - found.open
    level = _level(free <= FREE_CONNECTIONS, free - found.resting >= ENOUGH_CONNECTIONS)
    return level, f"{found.open:,} of {found.most:,} connections are in use"


_MEASURES: Mapping[Cause, Callable[[Facts], _Measured]] = {
    Cause.LAG: _lag,
    Cause.SLOT: _slot,
    Cause.WAL: _wal,
    Cause.CONNECTIONS: _connections,
}
