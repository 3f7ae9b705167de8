"""What a table's plan is made from besides its source."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from snowmelt.model import LastLoad, Mark, StoredLoad, TargetState, Writer
from snowmelt.preflight.surroundings import TargetSurroundings


@dataclass(frozen=True, slots=True)
class Situation:
    """A table's identity, its target as it stands, and what runs did and may do."""

    table_hash: str
    facts: Mapping[str, object]
    target: TargetState
    loaded: TargetState
    """The table that rows go into: the target, or the one that is loaded in its stead."""
    writers: tuple[Writer, ...]
    resumes: StoredLoad | None
    resume_hours: float = 168.0
    """How long after its last activity the run may be resumed."""
    surroundings: TargetSurroundings | None = None
    """What stands around the target; None where nobody looked."""
    deadline_seconds: float | None = None
    """How long the process that carries the plan out may run."""
    mark: Mark | None = None
    """How far the source table is in the target, by the last load that was completed."""
    ours: bool | None = False
    """Whether the target has as many rows as a load of ours left; None where they could not be counted."""
    target_rows: int | None = None
    """As they were counted for that."""
    allowed: str | None = None
    """What lets rows of unknown origin be truncated."""
    restarts: bool = False
    """Whether the table's load in this run is forgotten and planned anew."""
    restarted_rows: int = 0
    """Rows that it has committed, if it was not completed."""
    last: LastLoad | None = None
    """The last load of the target from the source that was completed."""
