"""What is begun before a deadline, and what happens at it."""

from __future__ import annotations

import threading
import time

from hypothesis import given
from hypothesis import strategies as st

from snowmelt import cutoff
from snowmelt.cutoff import cut_off
from snowmelt.deadline import LARGEST_BUFFER, RECENT, Deadline, Pace
from snowmelt.slices import CutOff, reason_of

times = st.floats(min_value=0.1, max_value=100_000)


class Clock:
    """Monotonic seconds that pass when told."""

    def __init__(self) -> None:
        self.now = 1_000.0

    def __call__(self) -> float:
        return self.now


def at(seconds: float, buffer: float, passed: float) -> Deadline:
    clock = Clock()
    deadline = Deadline(seconds, buffer, clock)
    clock.now += passed
    return deadline


@given(times, times, st.floats(min_value=0, max_value=1), st.lists(times, max_size=30))
def test_nothing_is_begun_that_would_reach_into_the_buffer_but_in_the_first_half(
    seconds: float, buffer: float, share: float, taken: list[float]
) -> None:
    deadline = at(seconds, buffer, share * seconds)
    working, pace = deadline.working, Pace(taken)
    if deadline.allows(pace):
        assert working > 0
        assert (
            not taken or max(taken[-RECENT:]) <= working or working > deadline.working_seconds / 2
        )
    else:
        assert working <= deadline.working_seconds / 2


@given(times, times)
def test_a_buffer_leaves_time_to_work(seconds: float, buffer: float) -> None:
    deadline = at(seconds, buffer, 0)
    assert deadline.working_seconds >= seconds * (1 - LARGEST_BUFFER) * 0.999
    assert deadline.allows(Pace([10 * seconds]))


@given(times, times, times)
def test_what_can_not_end_in_time_is_too_long_for_the_next_as_well(
    seconds: float, buffer: float, taken: float
) -> None:
    """What was begun in the first half and cut off; what was begun later may end when it is begun earlier."""
    deadline = at(seconds, buffer, 0)
    assert deadline.is_too_long(taken) == (taken > deadline.working_seconds / 2)


def test_of_many_chunks_only_the_last_ones_tell() -> None:
    pace = Pace([900.0])
    assert pace.seconds == 900.0
    for _ in range(RECENT):
        pace.note(3.0)
    assert pace.seconds == 3.0


def test_a_window_has_its_grace_behind_it() -> None:
    clock = Clock()
    deadline = Deadline.after(5, 60, clock)
    assert (deadline.working, deadline.left) == (5, 65)


def test_a_block_that_ends_in_time_is_not_cut_off() -> None:
    calls: list[str] = []
    with cut_off(at(60, 10, 0), lambda: calls.append("cut"), lambda: calls.append("overrun")):
        pass
    assert calls == []
    assert not [one for one in threading.enumerate() if one.name.startswith("snowmelt")]


def test_a_block_is_cut_off_at_the_buffer() -> None:
    cut = threading.Event()
    calls: list[str] = []
    deadline = Deadline.after(0.2, cutoff.LAST_SECONDS + 60)
    with cut_off(deadline, cut.set, lambda: calls.append("overrun")):
        assert cut.wait(10)
    assert deadline.working <= 0
    assert calls == []


def test_a_block_that_does_not_end_is_overrun() -> None:
    overrun = threading.Event()
    started = time.monotonic()
    with cut_off(Deadline.after(0.1, cutoff.LAST_SECONDS + 0.2), lambda: None, overrun.set):
        assert overrun.wait(10)
    assert time.monotonic() - started < 5


def test_why_a_process_left() -> None:
    cuts = [CutOff("public.t", number, 700.0) for number in range(5)]
    assert reason_of("SIGTERM", [], [], []) == "SIGTERM"
    assert reason_of(None, [], [], []) == "what is left is in other hands"
    told = reason_of("the time was up", cuts, [("public.u", 60.0)], ["a standby is 9 min behind"])
    assert told == (
        "the time was up, and cut off: chunk 0 of public.t after 12 min, chunk 1 of public.t after 12 min, "
        "chunk 2 of public.t after 12 min and 2 more; not enough time was left: a chunk of public.u takes 60 s; "
        "the workers waited: a standby is 9 min behind"
    )
