"""The decision table of the truncation, row by row."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from snowmelt.truncation import Action, TargetFacts, decide

KEEP, TRUNCATE, STOP = Action.KEEP, Action.TRUNCATE, Action.STOP
ANY = (True, False, None)
KNOWN = (True, False)
ALLOWED = ("--allow-truncate", None)
NOT_ALLOWED, NO = (None,), (False,)

# Which facts (resuming, has_status, has_rows, configured, ours, allowed) a row takes, and what it decides.
# Together they take every combination once.
ROWS = [
    # the ledger does not answer: stop, whatever else is known or allowed
    ((KNOWN, (None,), ANY, KNOWN, ANY, ALLOWED), STOP, "unknown"),
    # a run that goes on: its rows stay, and need not be looked at
    (((True,), (True,), ANY, KNOWN, ANY, ALLOWED), KEEP, "resume"),
    # the target does not answer, and no run goes on; nobody can allow what is not known
    (((False,), (True,), (None,), KNOWN, ANY, ALLOWED), STOP, "unknown"),
    ((KNOWN, NO, (None,), KNOWN, ANY, ALLOWED), STOP, "unknown"),
    # no rows
    (((False,), (True,), NO, KNOWN, ANY, ALLOWED), KEEP, "fresh"),
    ((KNOWN, NO, NO, KNOWN, ANY, ALLOWED), KEEP, "fresh"),
    # rows, and nobody wants them removed
    (((False,), (True,), (True,), NO, ANY, ALLOWED), KEEP, "not-configured"),
    ((KNOWN, NO, (True,), NO, ANY, ALLOWED), KEEP, "not-configured"),
    # rows, and somebody answers for their removal
    (((False,), (True,), (True,), (True,), ANY, ALLOWED[:1]), TRUNCATE, "allowed"),
    ((KNOWN, NO, (True,), (True,), ANY, ALLOWED[:1]), TRUNCATE, "allowed"),
    # they could not be counted
    (((False,), (True,), (True,), (True,), (None,), NOT_ALLOWED), STOP, "unknown"),
    ((KNOWN, NO, (True,), (True,), (None,), NOT_ALLOWED), STOP, "unknown"),
    # as many as the last run left
    (((False,), (True,), (True,), (True,), (True,), NOT_ALLOWED), TRUNCATE, "ours"),
    # a run wrote the target, and these are others
    (((False,), (True,), (True,), (True,), NO, NOT_ALLOWED), KEEP, "lost-resume"),
    # rows of nobody known; a count without a record to compare with says nothing
    ((KNOWN, NO, (True,), (True,), KNOWN, NOT_ALLOWED), KEEP, "foreign-rows"),
]
CASES = [
    (TargetFacts(*facts), action, row)
    for columns, action, row in ROWS
    for facts in itertools.product(*columns)
]
EVERY = [TargetFacts(*facts) for facts in itertools.product(KNOWN, ANY, ANY, KNOWN, ANY, ALLOWED)]


def named(facts: TargetFacts) -> str:
    words = {True: "yes", False: "no", None: "unknown"}
    return (
        f"resuming-{words[facts.resuming]} status-{words[facts.has_status]} "
        f"rows-{words[facts.has_rows]} configured-{words[facts.configured]} "
        f"ours-{words[facts.ours]} allowed-{words[facts.allowed is not None]}"
    )


def test_the_rows_take_every_combination_once() -> None:
    assert sorted(named(facts) for facts, _, _ in CASES) == sorted(map(named, EVERY))


@pytest.mark.parametrize(("facts", "action", "row"), CASES, ids=[named(case[0]) for case in CASES])
def test_decision(facts: TargetFacts, action: Action, row: str) -> None:
    decision = decide(facts, 7)
    assert (decision.action, decision.row) == (action, row)
    assert decision.facts == facts
    assert decision.reason
    assert decision.rows == (7 if row == "ours" else None)


def test_the_reasons_tell_the_decisions_apart() -> None:
    decisions = {decide(facts).reason: decide(facts).action for facts in EVERY}
    assert len(decisions) == 10
    for facts in EVERY:
        assert decisions[decide(facts).reason] is decide(facts).action


@given(
    st.builds(
        TargetFacts,
        resuming=st.booleans(),
        has_status=st.sampled_from(ANY),
        has_rows=st.sampled_from(ANY),
        configured=st.booleans(),
        ours=st.sampled_from(ANY),
        allowed=st.sampled_from(ALLOWED),
    )
)
def test_only_what_is_ours_or_allowed_is_truncated(facts: TargetFacts) -> None:
    if decide(facts).action is TRUNCATE:
        assert facts.configured
        assert facts.has_rows is True
        assert facts.has_status is not None
        assert not (facts.resuming and facts.has_status)
        assert facts.allowed or (facts.ours and facts.has_status)
