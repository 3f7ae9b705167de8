"""Whether a target may be emptied: the dual-layer protection as a table of facts.

Two layers are asked: the ledger (is there a record of an earlier run for this target?) and the target (are
there rows?). Rows that the last run recorded as all there are, and that are as many still, are ours: a full
refresh empties them night after night. None stands for "could not be found out" and is never taken for "no":
unknown means stop.
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
    """What is known when a table starts. `configured` is `truncate_onstart`.

    `ours`: the last run that wrote the target completed, and its count is what it recorded; None where that
    could not be counted. `allowed` names what overrides the protection, such as `--allow-truncate`.
    """

    resuming: bool
    has_status: bool | None
    has_rows: bool | None
    configured: bool
    ours: bool | None = False
    allowed: str | None = None


@dataclass(frozen=True, slots=True)
class Truncation:
    """The decision with its reason; `row` names the row of the table that made it.

    `rows` are those that may be removed, where they must be exactly so many.
    """

    action: Action
    row: str
    reason: str
    facts: TargetFacts
    rows: int | None = None


def decide(facts: TargetFacts, rows: int | None = None) -> Truncation:
    """Read the decision table from the top; the first row that fits decides. `rows` were counted for `ours`.

    >>> decide(TargetFacts(resuming=False, has_status=None, has_rows=False, configured=True)).action
    <Action.STOP: 'stop'>
    """
    action, row, reason = _first_fit(facts)
    exact = rows if action is Action.TRUNCATE and row == "ours" else None
    return Truncation(action, row, reason, facts, exact)


def _first_fit(facts: TargetFacts) -> tuple[Action, str, str]:
    if facts.has_status is None:
        return Action.STOP, "unknown", "the ledger could not be asked for earlier runs"
    if facts.resuming and facts.has_status:
        return Action.KEEP, "resume", "the rows belong to the run that is resumed"
    if facts.has_rows is None:
        return Action.STOP, "unknown", "whether the target has rows could not be found out"
    if not facts.has_rows:
        return Action.KEEP, "fresh", "the target is empty: there is nothing to truncate"
    if not facts.configured:
        return Action.KEEP, "not-configured", "truncate_onstart is not set"
    if facts.allowed:
        return Action.TRUNCATE, "allowed", f"{facts.allowed} overrides the protection"
    if facts.ours is None:
        return Action.STOP, "unknown", "the rows of the target could not be counted"
    if facts.has_status and facts.ours:
        return Action.TRUNCATE, "ours", "all rows are those that the last run recorded"
    if facts.has_status:
        return (
            Action.KEEP,
            "lost-resume",
            "an earlier run recorded this target, and its rows are not what a completed run left",
        )
    return Action.KEEP, "foreign-rows", "the target has rows that no run recorded"
