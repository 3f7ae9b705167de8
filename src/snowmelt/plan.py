"""A plan: frozen, printable, and all that a run needs to start."""

from __future__ import annotations

import statistics
from collections.abc import Mapping
from dataclasses import dataclass
from uuid import UUID

from snowmelt.chunks import Chunk, QueryOnce
from snowmelt.model import Identity, Relation, StoredLoad, TableJob, TargetState
from snowmelt.truncation import Truncation


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a table is not started, and what would let it."""

    what: str
    remedy: str

    def __str__(self) -> str:
        return f"{self.what}\n  → {self.remedy}"


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

    @property
    def key(self) -> tuple[str, ...]:
        """Columns that tell a row of this table in messages: a declared key, else the chunking column."""
        chunking = tuple(key.column for key in self.job.keys)
        return self.job.uniqueness_columns or self.relation.primary_key or chunking


@dataclass(frozen=True, slots=True)
class Plan:
    """What a run will do. Looking at it is the dry run: it prints as text."""

    run_id: UUID
    identity: Identity
    resumed: bool
    tables: tuple[TablePlan, ...]
    warnings: tuple[str, ...] = ()

    def __str__(self) -> str:
        """As a person reads it: what will happen to each table, and what stands in the way."""
        lines = [f"{'resumes' if self.resumed else 'new'} run {self.run_id}", *self.warnings]
        for table in self.tables:
            lines.append(f"{table.job}")
            lines.extend(f"    {fact}" for fact in _facts(table))
        return "\n".join(lines)

    @property
    def refusals(self) -> tuple[tuple[TablePlan, Refusal], ...]:
        return tuple((table, refusal) for table in self.tables for refusal in table.refusals)


def _facts(table: TablePlan) -> list[str]:
    rows = "rows not counted" if table.planned_rows is None else f"{table.planned_rows:,} rows"
    facts = [rows, f"{table.strategy}: {table.reason}"]
    if any(isinstance(chunk.range, QueryOnce) for chunk in table.chunks):
        facts.append(
            "the query runs once, as the first step; groups of its result's batches are the chunks"
        )
    elif table.chunks:
        facts.append(_sizes(table.chunks))
    if table.create:
        facts.append(
            "the target is created" if not table.target.exists else "the target was created"
        )
    facts.append(f"truncation: {table.truncation.action.value} ({table.truncation.reason})")
    facts.extend(table.notes)
    facts.extend(f"REFUSED: {refusal.what}\n      → {refusal.remedy}" for refusal in table.refusals)
    return facts


def _sizes(chunks: tuple[Chunk, ...]) -> str:
    counted = sorted(chunk.planned_rows for chunk in chunks if chunk.planned_rows is not None)
    text = f"{len(chunks):,} chunks"
    if counted:
        text += (
            f": smallest {counted[0]:,}, median {statistics.median_low(counted):,}, "
            f"largest {counted[-1]:,} rows"
        )
    return text
