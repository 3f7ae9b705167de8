"""How far runs are and how they ended, as the ledgers have it."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from uuid import UUID

from snowmelt.errors import RunError
from snowmelt.memory.budget import MemoryUse
from snowmelt.slices import Slice

COMPLETED, FAILED, PARTIAL = 0, 1, 3
"""Exit codes of a process by how its run ended."""


class State(StrEnum):
    """Of chunks, tables and runs, in the words the running system's ledger uses."""

    PENDING = "pending"
    IN_PROGRESS = "in_progress"
    RUNNING = "running"
    COMPLETED = "completed"
    PARTIAL = "partial"
    FAILED = "failed"
    SKIPPED = "skipped"


@dataclass(frozen=True, slots=True)
class TableStatus:
    """One table of a run as the ledger of one target database has it; `table_id` counts in that database."""

    database: str
    table_id: int
    source_name: str
    source: str
    target: str
    state: State
    chunks: int
    completed_chunks: int
    in_progress_chunks: int
    failed_chunks: int
    retries: int
    planned_rows: int | None
    """None where nothing holds the source's rows still."""
    rows: int
    bytes: int
    skipped: int = 0
    """Rows that the mode left out: their key was there, or a newer row of it."""
    floored: int = 0
    """Values whose digits below the microsecond were dropped."""
    changed: int = 0
    """Values whose NUL characters were taken out or replaced."""
    resized: int = 0
    """Chunks that proved too heavy, with smaller ones in their places; `chunks` leaves them out."""
    started_at: datetime | None = None
    completed_at: datetime | None = None
    error: str | None = None


@dataclass(frozen=True, slots=True)
class RunStatus:
    """A run as the ledger of one target database has it."""

    run_id: UUID
    state: State
    source_names: tuple[str, ...]
    started_at: datetime
    active_at: datetime
    completed_at: datetime | None
    database: str
    tables: tuple[TableStatus, ...] = ()
    live_workers: int = 0
    error: str | None = None


@dataclass(frozen=True, slots=True)
class Report:
    """How a run ended. Folded from the ledgers, not from what workers remember."""

    run_id: UUID
    state: State
    tables: tuple[TableStatus, ...]
    seconds: float
    resumed: bool
    errors: tuple[str, ...] = field(default=())
    slice: Slice | None = None
    """What this process did of it."""
    memory: MemoryUse | None = None
    """Of this process."""

    @property
    def rows(self) -> int:
        return sum(table.rows for table in self.tables)

    def raise_for_failures(self) -> None:
        """Raise RunError with every table's error, if the run failed. A partial run is no failure."""
        if self.state is State.FAILED:
            raise RunError(
                "\n".join(self.errors) or "the run failed",
                remedy=f"mend the cause, then run again: run {self.run_id} resumes",
            )

    @property
    def exit_code(self) -> int:
        """0 done, 1 failed, 3 partial."""
        return {State.COMPLETED: COMPLETED, State.PARTIAL: PARTIAL}.get(self.state, FAILED)
