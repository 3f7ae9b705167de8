"""What the state machine does with each answer and each error of the migrator, which is played by a script."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.aws import scripted
from tests.aws.executions import Ended, Machine, created
from tests.aws.functions import deployed
from tests.aws.ministack import Ministack

_numbers = itertools.count(1)


def partial(**slice: object) -> dict[str, object]:
    """The body of a slice that ended before the run."""
    moved = {"chunks": 2, "rows": 4, "bytes": 99, "seconds": 1.5, "reason": "deadline"}
    moved |= {"progress": True, "idle": 0, **slice}
    return {
        "status": "partial",
        "run_id": "run-1",
        "rows": 4,
        "chunks": 2,
        "errors": [],
        "slice": moved,
    }


@dataclass(frozen=True, slots=True)
class Play:
    """A machine with a scripted migrator."""

    machine: Machine
    folder: Path

    def script(self, **steps: list[dict[str, Any]]) -> None:
        (self.folder / "script.json").write_text(json.dumps(steps))

    def asked(self, action: str = "migrate") -> list[dict[str, Any]]:
        """The events of an action, without their action."""
        found = [event for event in scripted.events(self.folder) if event["action"] == action]
        return [{key: value for key, value in event.items() if key != "action"} for event in found]


@contextmanager
def playing(cloud: Ministack, folder: Path, *, timeout: int = 20) -> Iterator[Play]:
    name = f"play-{next(_numbers)}"
    environment = {"SCRIPT": str(folder)}
    with (
        deployed(
            cloud, name, "tests.aws.scripted.handler", environment, timeout=timeout
        ) as function,
        created(cloud, function) as machine,
    ):
        yield Play(machine, folder)


@pytest.fixture
def play(cloud: Ministack, tmp_path: Path) -> Iterator[Play]:
    with playing(cloud, tmp_path) as play:
        play.script()
        yield play


def failed(ended: Ended) -> tuple[str, str]:
    assert ended.status == "FAILED", ended
    return ended.error, ended.cause


def test_a_run_of_several_slices_is_named_in_all_but_the_first(play: Play) -> None:
    play.script(migrate=[partial(), partial(), scripted.COMPLETED])
    ended = play.machine.run(source_name="analytics", parallel_threads=4)
    assert ended.status == "SUCCEEDED", ended
    assert ended.output == {**scripted.COMPLETED, "slices": 3, "executions": 1}
    first, *others = play.asked()
    given = {"source_name": "analytics", "parallel_threads": 4, "resume_max_age": 168}
    assert first == {**given, "begin_run_id": first["begin_run_id"]}
    assert others == [{**given, "resume_run_id": "run-1"}] * 2


@pytest.mark.parametrize(
    "given",
    [{"no_resume": True, "allow_truncate": True}, {"restart_tables": ["T"]}],
)
def test_how_a_run_begins_is_told_to_its_first_slice_alone(
    play: Play, given: dict[str, Any]
) -> None:
    """A second slice with no_resume would begin anew, and so on for ever."""
    play.script(migrate=[partial(), scripted.COMPLETED])
    ended = play.machine.run(source_name="s", **given)
    assert ended.status == "SUCCEEDED", ended
    first, second = play.asked()
    assert first.items() >= given.items()
    assert second == {"source_name": "s", "resume_max_age": 168, "resume_run_id": "run-1"}


def test_a_first_slice_that_crashed_finds_the_run_it_began(play: Play) -> None:
    play.script(migrate=[{"exit": True}, {"raise": ["RetryableError", "away"]}, scripted.COMPLETED])
    assert play.machine.run(source_name="s", no_resume=True).status == "SUCCEEDED"
    asked = play.asked()
    assert len(asked) == 3
    assert asked[0] == asked[1] == asked[2]
    assert len(asked[0]["begin_run_id"]) == 36


def test_a_run_that_is_named_is_gone_on_with(play: Play) -> None:
    assert play.machine.run(source_name="s", resume_run_id="run-0").status == "SUCCEEDED"
    assert play.asked() == [{"source_name": "s", "resume_max_age": 168, "resume_run_id": "run-0"}]


@pytest.mark.parametrize("age", [24, 8760, None])
def test_the_age_of_the_input_stands_over_the_default(play: Play, age: int | None) -> None:
    play.machine.run(source_name="s", resume_max_age=age)
    for action in ("validate_config", "test_connections", "migrate"):
        assert [event["resume_max_age"] for event in play.asked(action)] == [age]


def test_a_field_that_the_machine_does_not_know_reaches_the_migrator(play: Play) -> None:
    play.machine.run(source_name="s", resume_max_agee=24)
    assert play.asked("validate_config")[0]["resume_max_agee"] == 24


@pytest.mark.parametrize(
    "given",
    [
        {"action": "plan"},
        {"state_machine": 5},
        {"state_machine": None},
        {"state_machine": {"continue_aftr": 5}},
        {"state_machine": {"continue_after": 0}},
        {"state_machine": {"continue_after": 2001}},
        {"state_machine": {"continue_after": "10"}},
        {"state_machine": {"pause_seconds": 0.5}},
        {"state_machine": {"slices_without_progress": 0}},
        {"state_machine": {"continue_after": 10, "pause_seconds": None}},
    ],
)
def test_settings_of_the_machine_that_can_not_be_are_refused(
    play: Play, given: dict[str, Any]
) -> None:
    error, cause = failed(play.machine.run(source_name="s", **given))
    assert error == "ConfigError"
    assert cause.startswith("The input of the execution can't be used.")
    assert not play.asked("validate_config")


def test_a_config_that_is_wrong_is_told_as_the_migrator_tells_it(play: Play) -> None:
    text = 'snowmelt.json: 1 problem\n  sources: none\n    → "ünï" {name} one'
    play.script(validate_config=[{"raise": ["ConfigError", text]}])
    assert failed(play.machine.run(source_name="s")) == ("ConfigError", text)
    assert len(play.asked("validate_config")) == 1
    assert not play.asked("test_connections")


def test_connections_that_fail_end_it_before_anything_moves(play: Play) -> None:
    text = "PostgreSQL db:5432: refused\nsource s: refused"
    play.script(test_connections=[{"raise": ["FatalError", text]}])
    assert failed(play.machine.run(source_name="s")) == ("ConnectionsFailed", text)
    assert not play.asked()


def test_connections_are_tried_again(play: Play) -> None:
    again = {"raise": ["RetryableError", "PostgreSQL starts up"]}
    play.script(test_connections=[again] * 5)
    assert play.machine.run(source_name="s").status == "SUCCEEDED"
    assert len(play.asked("test_connections")) == 6


def test_connections_that_stay_away_are_told(play: Play) -> None:
    play.script(test_connections=[{"raise": ["RetryableError", "PostgreSQL starts up"]}] * 6)
    told = failed(play.machine.run(source_name="s"))
    assert told == ("ConnectionsFailed", "PostgreSQL starts up")


def test_what_would_fail_again_is_not_tried_again(play: Play) -> None:
    play.script(migrate=[partial(), {"raise": ["FatalError", "table T is not there\n  → Look."]}])
    error, cause = failed(play.machine.run(source_name="s"))
    assert error == "MigrationFailed"
    assert cause == "table T is not there\n  → Look.\nrun run-1"
    assert len(play.asked()) == 2


def test_an_error_that_nobody_knows_is_not_tried_again(play: Play) -> None:
    play.script(migrate=[{"raise": ["KeyError", "'x'"]}])
    assert failed(play.machine.run(source_name="s")) == ("MigrationFailed", "KeyError: 'x'")
    assert len(play.asked()) == 1


def test_a_run_with_failed_tables_fails_with_their_errors(play: Play) -> None:
    play.script(migrate=[{"status": "failed", "run_id": "run-1", "errors": ["a: one", "b: two"]}])
    told = failed(play.machine.run(source_name="s"))
    assert told == ("MigrationFailed", "a: one\nb: two\nrun run-1")


@pytest.mark.parametrize(
    "body", [{"status": "failed", "run_id": "r"}, {"status": "wonderful", "run_id": "r"}]
)
def test_an_answer_without_errors_fails_as_well(play: Play, body: dict[str, Any]) -> None:
    play.script(migrate=[body])
    assert failed(play.machine.run(source_name="s")) == ("MigrationFailed", "\nrun r")


def test_slices_without_progress_end_it(play: Play) -> None:
    stuck = partial(progress=False, chunks=0)
    play.script(migrate=[stuck, stuck, partial(), stuck, stuck, stuck])
    error, cause = failed(
        play.machine.run(source_name="s", state_machine={"slices_without_progress": 3})
    )
    assert error == "NoProgress"
    assert cause.startswith("3 slices in a row brought the run no further: deadline\n")
    assert cause.endswith("\nrun run-1")
    assert len(play.asked()) == 6


def test_a_run_that_the_migrator_gives_up_ends_as_one_without_progress(play: Play) -> None:
    idle = {"chunks": 0, "progress": False, "idle": 3}
    play.script(migrate=[{"status": "failed", "run_id": "r", "errors": ["stuck"], "slice": idle}])
    assert failed(play.machine.run(source_name="s")) == ("NoProgress", "stuck\nrun r")


def test_crashes_and_timeouts_are_tried_again(cloud: Ministack, tmp_path: Path) -> None:
    with playing(cloud, tmp_path, timeout=3) as play:  # enough for a start on a busy machine
        play.script(migrate=[{"exit": True}, {"sleep": 30}, partial(), {"exit": True}])
        ended = play.machine.run(source_name="s")
        assert ended.status == "SUCCEEDED", ended
        assert len(play.asked()) == 5


def test_slices_that_crash_each_time_end_it(play: Play) -> None:
    play.script(migrate=[{"exit": True}] * 21)
    error, cause = failed(play.machine.run(source_name="s"))
    assert error == "SlicesCrashed"
    assert "21 times" in cause
    assert "Runtime.ExitError: " in cause
    assert len(play.asked()) == 21


def test_a_new_execution_goes_on_where_one_has_had_its_slices(play: Play) -> None:
    play.script(migrate=[partial(), {"exit": True}, *[partial()] * 4])
    settings = {"continue_after": 3, "pause_seconds": 1}
    first, second, third = play.machine.chain(
        play.machine.start(
            "night", source_name="s", no_resume=True, batch_size=7, state_machine=settings
        )
    )
    assert first.output["slices"] == 2  # three attempts
    assert second.output["slices"] == 5
    assert third.output == {**scripted.COMPLETED, "slices": 6, "executions": 3}
    assert sorted(play.machine.names()) == ["night", "night-2", "night-3"]
    later = {"source_name": "s", "batch_size": 7, "resume_max_age": 168, "resume_run_id": "run-1"}
    assert play.asked()[3:] == [later] * 4


def test_slices_without_progress_are_counted_across_executions(play: Play) -> None:
    play.script(migrate=[partial(progress=False, chunks=0)] * 10)
    settings = {"continue_after": 2, "slices_without_progress": 5}
    *others, last = play.machine.chain(
        play.machine.start("n", source_name="s", state_machine=settings)
    )
    assert len(others) == 2
    assert last.error == "NoProgress"
    assert len(play.asked()) == 5


def test_an_execution_that_can_not_go_on_says_with_which_run_to(play: Play) -> None:
    play.script(migrate=[scripted.COMPLETED, partial()])
    play.machine.end(play.machine.start("n-2", source_name="s"))
    error, cause = failed(
        play.machine.end(
            play.machine.start("n", source_name="s", state_machine={"continue_after": 1})
        )
    )
    assert error == "NotContinued"
    assert cause.endswith("start again with resume_run_id run-1")
