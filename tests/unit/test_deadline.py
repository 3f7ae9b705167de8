"""What is begun before a deadline, and what happens at it."""

from __future__ import annotations

import threading
import time
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from snowmelt.cutoff import cut_off, ended_in_time
from snowmelt.deadline import LARGEST_BUFFER, LAST_SECONDS, RECENT, Deadline, Pace
from snowmelt.slices import CutOff, Span, in_a_row, reason_of

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
    deadline = at(60, 10, 0)
    with (
        ended_in_time(deadline, lambda: calls.append("left")),
        cut_off(deadline, lambda: calls.append("cut")),
    ):
        pass
    assert calls == []
    assert not [one for one in threading.enumerate() if one.name.startswith("snowmelt")]


def test_a_block_is_cut_off_at_the_buffer() -> None:
    cut = threading.Event()
    calls: list[str] = []
    deadline = Deadline.after(0.2, LAST_SECONDS + 60)
    with ended_in_time(deadline, lambda: calls.append("left")), cut_off(deadline, cut.set):
        assert cut.wait(10)
    assert deadline.working <= 0
    assert calls == []


def test_a_block_that_does_not_end_is_overrun() -> None:
    left = threading.Event()
    started = time.monotonic()
    deadline = Deadline.after(0.1, LAST_SECONDS + 0.2)
    with ended_in_time(deadline, left.set), cut_off(deadline, lambda: None):
        assert left.wait(10)
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


def span(began: float, ended: float | None, *, bounded: bool = True) -> Span:
    noon = datetime(2024, 1, 1, 12, tzinfo=UTC)
    end = None if ended is None else noon + timedelta(minutes=ended)
    return Span(bounded, noon + timedelta(minutes=began), end)


@pytest.mark.parametrize(
    ("spans", "count"),
    [
        ([], 0),
        ([span(0, 15), span(15, 30), span(30, 45)], 3),
        ([span(0, 15), span(1, 16), span(15, 30), span(16, 31)], 2),
        ([span(0, 15), span(5, 20), span(15, 30), span(20, 35), span(30, 45)], 3),
        ([span(0, 0), span(1, 0)], 2),  # killed before the first sign of life
        ([span(0, 15), span(15, 30), span(-60, None, bounded=False)], 0),
        ([span(0, 5), span(5, 10), span(10, 15), span(-1, None)], 0),
        ([span(0, 5), span(5, 10), span(10, 15), span(12, None)], 2),
        ([span(0, 5), span(5, 10), span(10, 15), span(15, None)], 3),
        ([span(12, None)], 0),
    ],
)
def test_slices_in_a_row(spans: list[Span], count: int) -> None:
    assert in_a_row(spans) == count
    assert in_a_row(reversed(spans)) == count
