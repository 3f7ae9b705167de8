"""Whether a target may be emptied: the dual-layer protection as a table of facts.

Two layers are asked: the ledger (is there a record of an earlier run for this target?) and the target (are
there rows?). None stands for "could not be found out" and is never taken for "no": unknown means stop.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Action(StrEnum):
    """What to do with what stands in the target."""

    KEEP = "keep"
    TRUNCATE = "truncate"
    STOP = "stop"


@dataclass(frozen=True, slots=True)
class TargetFacts:
    """What is known when a table starts. `configured` is `truncate_onstart`."""

    resuming: bool
    has_status: bool | None
    has_rows: bool | None
    configured: bool


@dataclass(frozen=True, slots=True)
class Truncation:
    """The decision with its reason; `row` names the row of the table that made it."""

    action: Action
    row: str
    reason: str
    facts: TargetFacts


def decide(facts: TargetFacts) -> Truncation:
    """Read the decision table from the top; the first row that fits decides.

    >>> decide(TargetFacts(resuming=False, has_status=None, has_rows=False, configured=True)).action
    <Action.STOP: 'stop'>
    """
    if facts.has_status is None:
        return Truncation(
            Action.STOP, "unknown", "the ledger could not be asked for earlier runs", facts
        )
    if facts.resuming and facts.has_status:
        return Truncation(
            Action.KEEP, "resume", "the rows belong to the run that is resumed", facts
        )
    if facts.has_rows is None:
        return Truncation(
            Action.STOP, "unknown", "whether the target has rows could not be found out", facts
        )
    if facts.has_status and facts.has_rows:
        return Truncation(
            Action.KEEP,
            "lost-resume",
            "an earlier run recorded this target and it has rows: a resume was probably missed",
            facts,
        )
    if facts.has_rows:
        return Truncation(
            Action.KEEP, "foreign-rows", "the target has rows that no run recorded", facts
        )
    if facts.configured:
        return Truncation(
            Action.TRUNCATE, "fresh", "the target is empty and truncate_onstart is set", facts
        )
    return Truncation(
        Action.KEEP, "fresh", "the target is empty and truncate_onstart is not set", facts
    )
