"""Workers ask the gate of a server before each chunk; it looks seldom, tells when it closes, and opens again."""

from __future__ import annotations

import logging
import threading

import pytest

from snowmelt.gate import PRESSURE_SECONDS, REMINDER_SECONDS, Answer, Gate
from snowmelt.pressure import LAG_SECONDS, PATIENCE_SECONDS, Connections, Facts

FULL = Facts(connections=Connections(100, 100))
BEHIND = Facts(lag_seconds=LAG_SECONDS * 2)
WELL = Facts(lag_seconds=0.0, connections=Connections(10, 100))


class Place:
    """A gate, with the time and the server's state in the test's hands."""

    def __init__(self) -> None:
        self.now = 1_000.0
        self.facts = WELL
        self.looks = 0
        self.gate = Gate("db:5432/x", self._look, lambda: self.now)

    def _look(self) -> Facts:
        self.looks += 1
        return self.facts

    def ask(self, *workers: str, later: float = PRESSURE_SECONDS) -> list[Answer]:
        self.now += later
        return [self.gate.ask(worker) for worker in workers]


@pytest.fixture
def place() -> Place:
    return Place()


def said(caplog: pytest.LogCaptureFixture) -> list[str]:
    assert {record.levelno for record in caplog.records} <= {logging.WARNING}
    return [record.getMessage().removeprefix("db:5432/x: ") for record in caplog.records]


def test_all_workers_together_look_once_in_a_while(place: Place) -> None:
    for _ in range(30):
        place.ask("a", "b", "c", later=PRESSURE_SECONDS / 10)
    assert place.looks in (3, 4)


def test_all_wait_for_a_standby_and_go_on_after_it(place: Place) -> None:
    assert place.ask("a", "b") == [Answer.GO, Answer.GO]
    place.facts = BEHIND
    assert place.ask("a", "b") == [Answer.WAIT, Answer.WAIT]
    place.facts = WELL
    assert place.ask("a", "b") == [Answer.GO, Answer.GO]


def test_for_want_of_connections_all_rest_but_one(place: Place) -> None:
    place.facts = FULL
    assert place.ask("a", "b", "c") == [Answer.GO, Answer.REST, Answer.REST]
    assert place.ask("c", "b", "a") == [Answer.REST, Answer.REST, Answer.GO]
    place.gate.leave("a")
    assert place.ask("c", "b") == [Answer.GO, Answer.REST]
    place.facts = Facts(lag_seconds=LAG_SECONDS * 2, connections=Connections(100, 100))
    assert place.ask("c", "b") == [Answer.WAIT, Answer.REST]


def test_those_who_rest_are_counted_among_the_connections_to_come(place: Place) -> None:
    workers = [str(number) for number in range(20)]
    place.facts = FULL
    place.ask(*workers)
    for open, answer in ((80, Answer.REST), (77, Answer.GO)):
        place.facts = Facts(connections=Connections(open, 100))
        assert place.ask(*workers)[-1] is answer


def test_beginning_end_and_each_minute_between_are_told_once(
    place: Place, caplog: pytest.LogCaptureFixture
) -> None:
    place.ask("a")
    place.facts = BEHIND
    looks = round(2 * REMINDER_SECONDS / PRESSURE_SECONDS) + 2
    for _ in range(looks):
        place.ask("a", "b")
    place.facts = WELL
    place.ask("a", "b")
    place.ask("a", "b")
    assert said(caplog) == [
        "the workers wait before the next chunk: a standby is 2 min behind",
        "the workers wait for 60 s: a standby is 2 min behind",
        "the workers wait for 2 min: a standby is 2 min behind",
        "the workers go on after 2 min",
    ]


def test_that_one_worker_goes_on_is_told(place: Place, caplog: pytest.LogCaptureFixture) -> None:
    place.facts = FULL
    place.ask("a")
    assert said(caplog) == [
        "all workers but one wait before the next chunk: 100 of 100 connections are in use"
    ]


def test_that_waiting_was_in_vain_is_told_once(
    place: Place, caplog: pytest.LogCaptureFixture
) -> None:
    place.facts = BEHIND
    answers = [place.ask("a", later=PATIENCE_SECONDS / 2 + 1)[0] for _ in range(4)]
    assert answers == [Answer.WAIT, Answer.WAIT, Answer.GO, Answer.GO]
    assert said(caplog)[2:] == [
        "10 min of waiting did not help, so none follows: a standby is 2 min behind",
        "the workers go on after 10 min",
    ]


def test_a_look_that_hangs_holds_up_one_worker_alone(place: Place) -> None:
    place.ask("a")
    looking, go_on = threading.Event(), threading.Event()

    def hang() -> Facts:
        looking.set()
        assert go_on.wait(10)
        return BEHIND

    place.gate._look = hang
    place.now += PRESSURE_SECONDS
    asking = threading.Thread(target=place.gate.ask, args=["a"])
    asking.start()
    try:
        assert looking.wait(10)
        assert place.gate.ask("b") is Answer.GO
    finally:
        go_on.set()
        asking.join(10)
    assert place.gate.ask("b") is Answer.WAIT


def test_nobody_passes_before_the_first_look(place: Place) -> None:
    looking, go_on = threading.Event(), threading.Event()
    answers: list[Answer] = []

    def slow() -> Facts:
        looking.set()
        assert go_on.wait(10)
        return BEHIND

    place.gate._look = slow
    threads = [
        threading.Thread(target=lambda: answers.append(place.gate.ask("a"))) for _ in range(3)
    ]
    for thread in threads:
        thread.start()
    assert looking.wait(10)
    assert answers == []
    go_on.set()
    for thread in threads:
        thread.join(10)
    assert answers == [Answer.WAIT] * 3
