"""What will happen to one table."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from snowmelt.chunking.chunks import Chunk
from snowmelt.model import Relation, StoredLoad, TableJob, TargetState
from snowmelt.preflight.surroundings import TargetSurroundings
from snowmelt.refusal import Refusal
from snowmelt.truncation import Truncation


@dataclass(frozen=True, slots=True)
class TablePlan:
    """What will happen to one table, decided before anything moves.

    `resumes` is the table as the run planned it earlier; then nothing is planned again, and `chunks` is empty.
    """

    job: TableJob
    table_hash: str
    facts: Mapping[str, object]
    relation: Relation
    target: TargetState
    strategy: str
    reason: str
    chunks: tuple[Chunk, ...]
    planned_rows: int | None
    """None where nothing holds the rows still, so that a count says nothing."""
    truncation: Truncation
    create: bool = False
    resumes: StoredLoad | None = None
    notes: tuple[str, ...] = ()
    refusals: tuple[Refusal, ...] = ()
    chunk_rows: int = 0
    """Rows of a chunk, about, as they were aimed at."""
    row_bytes: int = 0
    """What a row weighs on the way to the target, about."""
    surroundings: TargetSurroundings | None = None
    """What stands around the target; None where nobody looked."""

    @property
    def key(self) -> tuple[str, ...]:
        """Columns that tell a row of this table in messages: a declared key, else the chunking column."""
        chunking = tuple(key.column for key in self.job.keys)
        return self.job.uniqueness_columns or self.relation.primary_key or chunking
