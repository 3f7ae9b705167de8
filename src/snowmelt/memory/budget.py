"""From how much memory there is to how many bytes may be in flight, and what that means for the workers.

In flight is what a run holds of a table's rows: result batches that are fetched and decoded, and what is encoded
and written of them.
"""

from __future__ import annotations

from dataclasses import dataclass

from snowmelt.estimates.memory import MemoryLimit
from snowmelt.formats import counted

_MB = 1 << 20
MACHINE_SHARE = 0.6
"""Of a machine's memory, what a run takes at most where nothing else limits it: others live there too, perhaps
the target's server."""
HEADROOM, HEADROOM_SHARE = 48 * _MB, 0.06
"""What stays free below a limit at which the process would be killed: for what nobody counts, such as answers of
the servers, and for a batch that grows more than it declared."""
WORKER_BYTES = 2 * _MB
"""Of a worker's sessions to source and target, its threads and their stacks, whether rows move or not:
measured."""


@dataclass(frozen=True, slots=True)
class Budget:
    """What a process may have resident, `target` bytes, under its limit; None where nothing tells a limit."""

    limit: MemoryLimit | None
    target: int | None

    @classmethod
    def under(cls, limit: MemoryLimit | None) -> Budget:
        """The budget that keeps a process under the limit, with headroom."""
        if limit is None:
            return cls(None, None)
        most = int(limit.bytes * MACHINE_SHARE) if limit.shared else limit.bytes
        return cls(limit, most - headroom(most))

    def in_flight(self, base: int, workers: int) -> int | None:
        """Bytes that may be in flight beside `base`, which the process had before, and its workers' sessions."""
        if self.target is None:
            return None
        return max(self.target - base - workers * WORKER_BYTES, 0)


def headroom(limit: int) -> int:
    """What stays free of a limit in bytes."""
    return HEADROOM + int(limit * HEADROOM_SHARE)


def limit_for(resident: int) -> int:
    """The limit under which so many bytes may be resident."""
    return int((resident + HEADROOM) / (1 - HEADROOM_SHARE)) + 1


@dataclass(frozen=True, slots=True)
class MemoryUse:
    """What a process's memory was in a run, in bytes. None where the system does not tell."""

    peak_bytes: int | None
    """Resident at most while the run was under way, by looks 20 times a second."""
    limit_bytes: int | None
    limit: str | None
    """Who says so, as in "lambda_memory, 512 MB"."""
    budget_bytes: int | None
    """That might be in flight at a time."""
    in_flight_bytes: int
    """That were at most, as they were declared."""
    byte_cost: float | None
    """What a byte in flight took of resident memory, where enough were to tell."""
    workers: int
    fed: int
    """Workers that had rows in flight at the same time, at most."""
    waited_seconds: float
    """For memory, of all workers together."""
    wanted_bytes: int
    """A limit that feeds all workers at once, by what the heaviest chunk took."""

    @property
    def advice(self) -> str:
        """What this run would choose, in a sentence without its end.

        >>> limit = 512 << 20, "lambda_memory, 512 MB"
        >>> MemoryUse(400 << 20, *limit, 200 << 20, 150 << 20, 1.2, 20, 2, 9.5, 3 << 30).advice
        '20 workers: the budget fed 2 at a time; a limit of 3,072 MB would feed all'
        """
        workers = counted(self.workers, "worker")
        if self.limit_bytes is None:
            return f"{workers}: nothing limits the memory"
        if self.waited_seconds > 0 and self.fed < self.workers:
            wanted = _mb(self.wanted_bytes)
            return f"{workers}: the budget fed {self.fed} at a time; a limit of {wanted} would feed all"
        told = f"{workers}: none waited for memory"
        enough = limit_for(self.peak_bytes or self.limit_bytes)
        if 2 * enough < self.limit_bytes and self.fed:
            told += f"; a limit of {_mb(enough)} is enough for this"
        return told

    def __str__(self) -> str:
        """For a person, in a line. MB as limits are given in: 2^20 bytes."""
        told = self.peak_bytes is not None
        peak = f"{_mb(self.peak_bytes or 0)} at most" if told else "not told by the system"
        if self.limit_bytes is None:
            return f"memory: {peak}; {self.advice}"
        return f"memory: {peak} of {_mb(self.limit_bytes)} ({self.limit}); {self.advice}"


def _mb(bytes: int) -> str:
    return f"{-(-bytes // _MB):,} MB"
