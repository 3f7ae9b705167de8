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

# Which facts (resuming, has_status, has_rows, configured) a row takes, and what it decides. Together they take
# every combination once.
ROWS = [
    # the ledger does not answer: stop, whatever else is known
    ((KNOWN, (None,), ANY, KNOWN), STOP, "unknown"),
    # a run that goes on: its rows stay, and need not be looked at
    (((True,), (True,), ANY, KNOWN), KEEP, "resume"),
    # the target does not answer, and no run goes on
    (((False,), (True,), (None,), KNOWN), STOP, "unknown"),
    ((KNOWN, (False,), (None,), KNOWN), STOP, "unknown"),
    # rows, and a run that wrote them
    (((False,), (True,), (True,), KNOWN), KEEP, "lost-resume"),
    # rows of nobody known; a resume without a record of it is none
    ((KNOWN, (False,), (True,), KNOWN), KEEP, "foreign-rows"),
    # no rows: the only place where truncate_onstart counts
    (((False,), (True,), (False,), (True,)), TRUNCATE, "fresh"),
    ((KNOWN, (False,), (False,), (True,)), TRUNCATE, "fresh"),
    (((False,), (True,), (False,), (False,)), KEEP, "fresh"),
    ((KNOWN, (False,), (False,), (False,)), KEEP, "fresh"),
]
CASES = [
    (TargetFacts(*facts), action, row)
    for columns, action, row in ROWS
    for facts in itertools.product(*columns)
]
EVERY = [TargetFacts(*facts) for facts in itertools.product(KNOWN, ANY, ANY, KNOWN)]


def named(facts: TargetFacts) -> str:
    words = {True: "yes", False: "no", None: "unknown"}
    return (
        f"resuming-{words[facts.resuming]} status-{words[facts.has_status]} "
        f"rows-{words[facts.has_rows]} configured-{words[facts.configured]}"
    )


def test_the_rows_take_every_combination_once() -> None:
    assert sorted(named(facts) for facts, _, _ in CASES) == sorted(map(named, EVERY))


@pytest.mark.parametrize(("facts", "action", "row"), CASES, ids=[named(case[0]) for case in CASES])
def test_decision(facts: TargetFacts, action: Action, row: str) -> None:
    decision = decide(facts)
    assert (decision.action, decision.row) == (action, row)
    assert decision.facts == facts
    assert decision.reason


def test_the_reasons_tell_the_decisions_apart() -> None:
    decisions = {decide(facts).reason: decide(facts).action for facts in EVERY}
    assert len(decisions) == 7
    for facts in EVERY:
        assert decisions[decide(facts).reason] is decide(facts).action


@given(
    st.builds(
        TargetFacts,
        resuming=st.booleans(),
        has_status=st.sampled_from(ANY),
        has_rows=st.sampled_from(ANY),
        configured=st.booleans(),
    )
)
def test_nothing_is_truncated_that_may_have_rows(facts: TargetFacts) -> None:
    if decide(facts).action is TRUNCATE:
        assert facts.has_rows is False
        assert facts.has_status is not None
        assert facts.configured
        assert not (facts.resuming and facts.has_status)
