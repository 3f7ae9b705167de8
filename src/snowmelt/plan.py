"""A plan: frozen, printable, and all that a run needs to start."""

from __future__ import annotations

from dataclasses import dataclass
from uuid import UUID

from snowmelt.estimates.estimate import NOTHING_KNOWN, Circumstances, RunEstimate, estimate
from snowmelt.model import Identity
from snowmelt.plan_text import plain, refusal_facts, run_facts, table_facts
from snowmelt.refusal import Refusal
from snowmelt.table_plan import TablePlan

__all__ = ["Plan", "Refusal", "TablePlan"]


@dataclass(frozen=True, slots=True)
class Plan:
    """What a run will do. Looking at it is the dry run: it prints as text."""

    run_id: UUID
    identity: Identity
    resumed: bool
    tables: tuple[TablePlan, ...]
    warnings: tuple[str, ...] = ()
    circumstances: Circumstances = NOTHING_KNOWN
    """What the run has to work with, as far as it is known."""
    notes: tuple[str, ...] = ()
    """What concerns all tables, a line each."""
    run_refusals: tuple[Refusal, ...] = ()
    """What keeps all tables from being started."""

    def __str__(self) -> str:
        """As a person reads it: what will happen to each table, and what stands in the way."""
        whole = self.estimate()
        lines = [self.headline, *(f"warning: {warning}" for warning in self.warnings)]
        for table, part in zip(self.tables, whole.tables, strict=True):
            lines += [str(table.job), *plain(table_facts(table, part))]
        lines += ["all tables", *plain(run_facts(whole, self.circumstances, self.notes))]
        lines += plain(refusal_facts(self.run_refusals))
        return "\n".join(lines)

    @property
    def headline(self) -> str:
        """Which run it is."""
        return f"{'resumes' if self.resumed else 'new'} run {self.run_id}"

    @property
    def refusals(self) -> tuple[tuple[TablePlan, Refusal], ...]:
        """Of single tables."""
        return tuple((table, refusal) for table in self.tables for refusal in table.refusals)

    @property
    def refused(self) -> bool:
        """Whether nothing would be started."""
        return bool(self.run_refusals or self.refusals)

    def estimate(self) -> RunEstimate:
        """Time, memory, disk and a warehouse's credits, of what is left to do."""
        return estimate(self.tables, self.circumstances)
