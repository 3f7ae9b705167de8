"""Workers wait for a server that suffers, until it is well clear of it, and not for what nobody sees."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from snowmelt.pressure import (
    CAUGHT_UP_BYTES,
    CAUGHT_UP_SECONDS,
    ENOUGH_CONNECTIONS,
    FREE_CONNECTIONS,
    LAG_BYTES,
    LAG_SECONDS,
    PATIENCE_SECONDS,
    SAFE_SHARE,
    SLOT_SHARE,
    WAL_ROOM,
    Cause,
    Connections,
    Facts,
    Pressure,
    Slot,
    Wal,
    judged,
)

GB = 1_000_000_000
Make = Callable[[float], Facts]
"""Facts of one cause, by how bad it is: 0 is well, 1 is where waiting begins."""


def lag(bad: float) -> Facts:
    return Facts(lag_seconds=bad * LAG_SECONDS)


def lag_of_bytes(bad: float) -> Facts:
    return Facts(lag_bytes=round(bad * LAG_BYTES))


def slot(bad: float) -> Facts:
    left = 1 - bad * (1 - SLOT_SHARE)
    return Facts(slot=Slot("s", round(left * 100 * GB), 100 * GB, active=True))


def wal(bad: float) -> Facts:
    return Facts(wal=Wal(20 * GB, GB, round(20 * GB / max(bad, 1e-3))))


def connections(bad: float) -> Facts:
    most = 100
    return Facts(connections=Connections(round(bad * (most - FREE_CONNECTIONS)), most))


CAUSES: list[tuple[Make, Cause, float]] = [
    (lag, Cause.LAG, CAUGHT_UP_SECONDS / LAG_SECONDS),
    (lag_of_bytes, Cause.LAG, CAUGHT_UP_BYTES / LAG_BYTES),
    (slot, Cause.SLOT, (1 - SAFE_SHARE) / (1 - SLOT_SHARE)),
    (wal, Cause.WAL, 1 / WAL_ROOM),
    (connections, Cause.CONNECTIONS, (100 - ENOUGH_CONNECTIONS) / (100 - FREE_CONNECTIONS)),
]
each_cause = pytest.mark.parametrize(
    ("make", "cause", "relieved"), CAUSES, ids=[make.__name__ for make, *_ in CAUSES]
)


def after(*looks: Facts, every: float = 10.0) -> Pressure:
    pressure = Pressure()
    for number, facts in enumerate(looks):
        pressure = judged(pressure, facts, number * every)
    return pressure


@each_cause
def test_a_cause_begins_above_its_threshold_and_ends_below_the_lower_one(
    make: Make, cause: Cause, relieved: float
) -> None:
    between = (relieved + 1) / 2
    assert after(make(0)).reason is None
    assert after(make(between)).reason is None
    assert after(make(1.05)).causes == {cause}
    assert after(make(1.05), make(between)).causes == {cause}
    assert after(make(1.05), make(relieved * 0.9)).reason is None
    assert after(make(1.05), make(relieved * 0.9), make(between)).reason is None


@each_cause
@given(bads=st.lists(st.floats(0, 2), max_size=40))
def test_between_the_thresholds_nothing_changes(
    make: Make, cause: Cause, relieved: float, bads: list[float]
) -> None:
    """However the figures go up and down, a change needs a threshold to be crossed: so it can't flap."""
    pressure = Pressure()
    for number, bad in enumerate(bads):
        was, facts = pressure, make(bad)
        pressure = judged(was, facts, number)
        if after(facts).causes:
            assert pressure.causes == {cause}
        elif judged(after(make(2)), facts, 0).causes:
            assert pressure.causes == was.causes
        else:
            assert pressure == Pressure()


@given(
    st.lists(st.sampled_from([make(2) for make, *_ in CAUSES]), max_size=5),
    st.floats(0, PATIENCE_SECONDS * 3),
)
def test_what_is_not_seen_holds_nobody_up(looks: list[Facts], every: float) -> None:
    assert after(*looks, Facts(), every=every) == Pressure()


def test_every_cause_is_told_at_once_with_its_figures() -> None:
    facts = Facts(
        lag_seconds=125,
        lag_bytes=30 * GB,
        slot=Slot("standby_1", GB, 50 * GB, active=True),
        wal=Wal(40 * GB, 4 * GB, 10 * GB),
        connections=Connections(98, 100),
    )
    assert after(facts).reason == (
        "a standby is 2 min behind and has 30 GB of WAL to apply yet; "
        "replication slot standby_1 is lost after 1.0 GB more of WAL; "
        "pg_wal has 40 GB, where the server is set to keep 4.0 GB, and 10 GB are free on its disk; "
        "98 of 100 connections are in use"
    )
    assert after(facts).causes == set(Cause)


def test_wal_that_the_server_is_set_to_keep_is_no_reason_to_wait() -> None:
    assert after(Facts(wal=Wal(20 * GB, 20 * GB, GB))).reason is None


def test_a_slot_whose_wal_goes_with_the_next_checkpoint_is_waited_for() -> None:
    facts = Facts(slot=Slot("s", 0, -1, active=True, unreserved=True))
    assert "with the next checkpoint" in (after(facts).reason or "")


def test_a_standby_that_does_not_catch_up_is_overlooked_until_it_has() -> None:
    behind, between, level = lag(2), lag(0.5), lag(0)
    waits = int(PATIENCE_SECONDS // 10)
    assert after(*[behind] * waits).causes == {Cause.LAG}
    gone_on = [behind] * (waits + 1)
    (overlooked,) = after(*gone_on).overlooked
    assert overlooked.cause is Cause.LAG
    for later in (behind, between, lag(9)):
        assert after(*gone_on, between, later).reason is None
    assert after(*gone_on, level, behind).causes == {Cause.LAG}


def test_a_slot_is_waited_for_as_long_as_its_consumer_is_there() -> None:
    read = slot(1.2)
    assert read.slot is not None
    unread = replace(read, slot=replace(read.slot, active=False))
    long = PATIENCE_SECONDS * 2
    assert after(read, read, every=long).causes == {Cause.SLOT}
    assert after(unread, unread, every=long).reason is None
    assert "which nothing reads" in (after(unread).reason or "")
    assert after(unread, unread, read, every=long).causes == {Cause.SLOT}


@pytest.mark.parametrize("make", [wal, connections])
def test_other_causes_are_waited_for_without_an_end(make: Make) -> None:
    assert after(*[make(2)] * 5, every=PATIENCE_SECONDS).reason


@given(most=st.integers(1, 200), others=st.integers(0, 200), resting=st.integers(0, 64))
def test_workers_that_come_back_do_not_use_up_the_connections_again(
    most: int, others: int, resting: int
) -> None:
    held = after(Facts(connections=Connections(most, most)))
    now = judged(held, Facts(connections=Connections(others, most, resting)), 10)
    if now.reason is None:
        back = Facts(connections=Connections(others + resting, most))
        assert judged(now, back, 20).reason is None
