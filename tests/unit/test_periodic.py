"""What is repeated ends with its block."""

from __future__ import annotations

import threading

from snowmelt.periodic import every


def test_no_call_is_under_way_once_the_block_has_ended() -> None:
    under_way = threading.Semaphore(0)
    ended = threading.Event()
    finished: list[int] = []

    def work() -> None:
        under_way.release()
        ended.wait()
        finished.append(1)

    with every(0.001, work, "test"):
        assert under_way.acquire(timeout=10)
        assert not finished
        ended.set()
    calls = len(finished)
    assert calls >= 1
    assert not [one for one in threading.enumerate() if one.name == "snowmelt-test"]


def test_it_is_called_until_the_block_ends() -> None:
    calls = threading.Semaphore(0)
    with every(0.001, calls.release, "test"):
        for _ in range(5):
            assert calls.acquire(timeout=10)


def test_nothing_is_called_before_the_time_is_up() -> None:
    calls: list[int] = []
    with every(3600.0, lambda: calls.append(1), "test"):
        pass
    assert not calls
