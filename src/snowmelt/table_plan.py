"""What will happen to one table."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from snowmelt.choices import Mode
from snowmelt.chunking.chunks import Chunk
from snowmelt.model import (
    Column,
    Mark,
    Relation,
    StoredLoad,
    TableJob,
    TargetColumn,
    TargetState,
    into,
)
from snowmelt.preflight.surroundings import TargetSurroundings
from snowmelt.refusal import Refusal
from snowmelt.replacement import Replacement
from snowmelt.truncation import Action, Truncation


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
    mark: Mark | None = None
    """How far the source table was in the target when the window of an incremental load was planned."""
    resumes: StoredLoad | None = None
    notes: tuple[str, ...] = ()
    refusals: tuple[Refusal, ...] = ()
    chunk_rows: int = 0
    """Rows of a chunk, about, as they were aimed at."""
    row_bytes: int = 0
    """What a row weighs on the way to the target, about."""
    surroundings: TargetSurroundings | None = None
    """What stands around the target; None where nobody looked."""
    replacement: Replacement | None = None
    """How what is loaded takes the target's place; None where rows go straight into it."""
    added: tuple[Column, ...] = ()
    """Columns of the relation that the target gets before anything moves."""
    left_out: tuple[Column, ...] = ()
    """Columns of the source that are not read, and not in the relation."""
    kept: tuple[TargetColumn, ...] = ()
    """Columns that only the target has."""

    @property
    def began_empty(self) -> bool:
        """Whether the target has no row when the load begins: then all its rows are of this load."""
        return self.truncation.action is Action.TRUNCATE or self.target.has_rows is False

    @property
    def primary_key(self) -> tuple[str, ...]:
        """Of a table that is created, to be added at its finish, by the target's names."""
        at_the_end = self.create and not self.unique_is_primary
        return into(self.relation.columns, self.relation.primary_key) if at_the_end else ()

    @property
    def unique_is_primary(self) -> bool:
        """Whether the key that the table has from the start is its primary key."""
        primary = into(self.relation.columns, self.relation.primary_key)
        return bool(self.unique) and set(self.unique) == set(primary)

    @property
    def unique(self) -> tuple[str, ...]:
        """A key that a table which is created has from the start, by the target's names: by it rows that are there
        are found."""
        merges = self.job.mode is not Mode.APPEND
        unique = into(self.relation.columns, self.job.uniqueness_columns)
        return unique if self.create and merges else ()

    @property
    def key(self) -> tuple[str, ...]:
        """Columns that tell a row of this table in messages: a declared key, else the chunking column."""
        chunking = tuple(key.column for key in self.job.keys)
        return self.job.uniqueness_columns or self.relation.primary_key or chunking
