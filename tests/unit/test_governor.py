"""Rows are in flight within the budget, and every chunk gets its turn."""

from __future__ import annotations

import doctest
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from snowmelt.errors import Blocked
from snowmelt.estimates.memory import MemoryLimit
from snowmelt.memory import budget as budgets
from snowmelt.memory.budget import WORKER_BYTES, Budget, headroom, limit_for
from snowmelt.memory.cost import KEPT_SECONDS, LEAST, LEAST_BYTES, MOST, Cost
from snowmelt.memory.governor import Governor, Left
from snowmelt.memory.resident import peak_resident, resident

MB = 1 << 20
BASE = 100 * MB
LIMIT = MemoryLimit(512 * MB, "lambda_memory, 512 MB")


def _governor(
    capacity: int, measure: Callable[[], int | None] = lambda: BASE, workers: int = 1
) -> Governor:
    """One that has so many bytes for what is in flight, of a process of BASE."""
    target = BASE + workers * WORKER_BYTES + capacity
    return Governor(
        Budget(MemoryLimit(2 * target, "a test"), target),
        measure=measure,
        relieve=lambda: None,
        keep_little=lambda: None,
    )


def test_the_examples_in_the_docstrings() -> None:
    assert doctest.testmod(budgets).attempted
    assert not doctest.testmod(budgets).failed


@settings(deadline=None)
@given(
    st.integers(50, 200),
    st.lists(
        st.tuples(st.integers(1, 300), st.lists(st.integers(1, 300), max_size=3)),
        min_size=1,
        max_size=12,
    ),
    st.integers(1, 8),
)
def test_never_over_the_budget_unless_alone_and_everyone_is_served(
    capacity: int, chunks: list[tuple[int, list[int]]], workers: int
) -> None:
    governor = _governor(capacity, workers=workers)
    seen = threading.Lock()
    over: list[object] = []

    def look() -> None:
        with governor._changed, seen:
            flights = governor._flights
            if len(flights) > 1 and governor.held > capacity:
                over.append([flight.held for flight in flights])

    def move(chunk: tuple[int, list[int]]) -> int:
        reserved, batches = chunk
        with governor.flight(reserved) as flight:
            look()
            for batch in batches:
                lease = flight.lease(min(batch, reserved))
                look()
                lease.release()
                look()
            # A batch ahead of the one that is in use.
            ahead = [flight.lease(reserved // 2) for _ in range(2)]
            look()
            for lease in ahead:
                lease.release()
        return 1

    with (
        governor.running(workers, threading.Event()),
        ThreadPoolExecutor(workers) as pool,
    ):
        assert sum(pool.map(move, chunks)) == len(chunks)
    assert not over
    assert governor.held == 0


def _waiting(governor: Governor, count: int) -> bool:
    with governor._changed:
        return len(governor._queue) == count


def _until(condition: Callable[[], bool]) -> None:
    ticks = threading.Event()
    for _ in range(2_000):
        if condition():
            return
        ticks.wait(0.005)
    raise AssertionError("it did not come to that")


def test_a_large_chunk_is_not_kept_waiting_by_small_ones() -> None:
    governor = _governor(100)
    order: list[str] = []

    def move(name: str, size: int) -> None:
        with governor.flight(size):
            order.append(name)

    with governor.running(1, threading.Event()), ThreadPoolExecutor(3) as pool:
        with governor.flight(50):
            large = pool.submit(move, "large", 1_000)
            _until(lambda: _waiting(governor, 1))
            small = pool.submit(move, "small", 10)  # there is room for it
            _until(lambda: _waiting(governor, 2))
        large.result(10)
        small.result(10)
    assert order == ["large", "small"]


def test_who_waits_is_told_of_a_stop_and_asked_what_to_do_before() -> None:
    governor, halt = _governor(100), threading.Event()
    before: list[str] = []

    def move() -> None:
        with governor.flight(60, lambda: before.append("checked")):
            raise AssertionError("there was no room")

    with governor.running(1, halt), ThreadPoolExecutor(1) as pool, governor.flight(60):
        waits = pool.submit(move)
        _until(lambda: _waiting(governor, 1))
        halt.set()
        with pytest.raises(Blocked, match="stopped before there was memory"):
            waits.result(10)
    assert before == ["checked"]
    assert not governor._queue


def test_a_batch_ahead_waits_for_the_one_before_and_ends_with_its_flight() -> None:
    governor = _governor(100)
    with (
        governor.running(1, threading.Event()),
        ThreadPoolExecutor(2) as pool,
        governor.flight(60) as flight,
        governor.flight(40),
    ):
        first = flight.lease(60)
        ahead = pool.submit(flight.lease, 60)
        assert not ahead.done()
        first.release()
        ahead.result(10)
        late = pool.submit(flight.lease, 60)
        flight.close()
        with pytest.raises(Left):
            late.result(10)


def test_batches_ahead_take_room_that_nobody_waits_for() -> None:
    governor = _governor(100)
    with governor.running(1, threading.Event()), governor.flight(40) as flight:
        flight.lease(40)
        flight.lease(40)
        assert governor.held == 80


def test_near_the_limit_free_memory_is_returned_first_and_chunks_go_one_at_a_time() -> None:
    found, relieved = [BASE], []

    def relieve() -> None:
        relieved.append(found[0])

    governor = _governor(100 * MB, measure=lambda: found[0])
    governor._relieve = relieve
    with governor.running(1, threading.Event()):
        relieved.clear()
        with governor.flight(10), governor.flight(10):
            found[0] = BASE + 500 * MB  # more than the target
            governor.look()
            assert relieved
            assert not governor._fits(10)
        assert governor._fits(10)  # alone
        found[0] = BASE
        governor.look()
        with governor.flight(10):
            assert governor._fits(10)
    assert governor.use().peak_bytes == BASE + 500 * MB


@given(st.lists(st.tuples(st.integers(0, 2_000), st.integers(0, 4_000)), max_size=30))
def test_a_byte_s_cost_stays_within_bounds(steps: list[tuple[int, int]]) -> None:
    cost = Cost(BASE)
    for now, (held, found) in enumerate(steps):
        cost.holds(held * MB, float(now))
        cost.learn(found * MB, float(now))
        assert LEAST <= cost.factor <= MOST


def test_what_allocators_keep_for_a_while_is_no_cost() -> None:
    cost = Cost(BASE)
    cost.holds(1_000 * MB, 0.0)
    cost.holds(100 * MB, 1.0)  # 900 MB are freed, and still resident
    cost.learn(BASE + 1_000 * MB, 1.0 + KEPT_SECONDS / 2)
    assert cost.factor == 1.0
    cost.learn(BASE + 1_000 * MB, 1.1 + KEPT_SECONDS)
    assert cost.factor == MOST


def test_a_dear_byte_is_learned_at_once_and_little_in_flight_tells_nothing() -> None:
    cost = Cost(BASE)
    cost.holds(LEAST_BYTES - 1, 0.0)
    cost.learn(BASE + 1_000 * MB, 0.0)
    assert (cost.factor, cost.seen) == (1.0, None)
    cost.holds(LEAST_BYTES, 0.0)
    cost.learn(BASE + 2 * LEAST_BYTES, 0.0)
    assert cost.factor == 2.0
    cost.learn(BASE, 0.1)
    assert 1.9 < cost.factor < 2.0


@given(st.integers(128, 64_000))
def test_the_budget_stays_under_the_limit(megabytes: int) -> None:
    limit = megabytes * MB
    found = Budget.under(MemoryLimit(limit, "x"))
    assert found.target == limit - headroom(limit)
    shared = Budget.under(MemoryLimit(limit, "the machine's memory", shared=True))
    assert (shared.target or 0) < (found.target or 0)
    assert abs(limit_for(found.target or 0) - limit) <= 2
    assert found.in_flight(limit, 20) == 0
    assert Budget.under(None).in_flight(0, 1) is None


def test_what_a_run_would_choose() -> None:
    governor = Governor(
        Budget.under(LIMIT), measure=lambda: BASE, relieve=lambda: None, keep_little=lambda: None
    )
    with governor.running(20, threading.Event()), governor.flight(80 * MB):
        pass
    use = governor.use()
    assert use.advice == "20 workers: none waited for memory; a limit of 158 MB is enough for this"
    assert (use.fed, use.in_flight_bytes, use.limit) == (1, 80 * MB, "lambda_memory, 512 MB")
    told = str(use)
    assert told.startswith("memory: 100 MB at most of 512 MB (lambda_memory, 512 MB); 20 workers")


def test_nothing_is_limited_where_nobody_knows_a_limit() -> None:
    governor = Governor(Budget.under(None), measure=lambda: None, relieve=lambda: None)
    with governor.running(1, threading.Event()), governor.flight(1 << 50), governor.flight(1 << 50):
        pass
    use = governor.use()
    assert use.peak_bytes is None
    assert use.fed == 2
    assert str(use) == "memory: not told by the system; 1 worker: nothing limits the memory"


def test_resident_memory_is_told_where_there_is_proc() -> None:
    now, peak = resident(), peak_resident()
    assert now is not None
    assert peak is not None
    assert 10 * MB < now <= peak + MB
    assert resident(Path("/nowhere")) is None
    assert (peak_resident(Path("/nowhere")) or 0) > 10 * MB  # by getrusage
