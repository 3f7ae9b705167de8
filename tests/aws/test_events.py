"""What an event may say, and what is said of one that is wrong."""

from __future__ import annotations

import json
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from snowmelt.aws.event import Action, Event
from snowmelt.errors import ConfigError, Problem

RUN = "0bcfe27b-0000-4e1c-af2d-039eca6fb70a"


def problems(event: object) -> dict[str, str]:
    """What is wrong, by place."""
    with pytest.raises(ConfigError) as caught:
        Event.of(event)
    assert all(problem.remedy for problem in caught.value.problems)
    return {problem.place: problem.what for problem in caught.value.problems}


def test_what_functions_of_the_running_system_are_sent_is_a_migration() -> None:
    event = Event.of({"source_name": "analytics", "resume_max_age": 8760})
    assert event.action is Action.MIGRATE
    assert (event.source_name, event.resume_max_age) == ("analytics", 8760)
    assert event.choice().resume


def test_every_field_reaches_the_run() -> None:
    event = Event.of(
        {
            "action": "migrate",
            "source_name": "s",
            "tables": ["a", "public.b"],
            "config": "s3://bucket/config.yaml",
            "resume_max_age": 24,
            "no_resume": False,
            "resume_run_id": RUN,
            "restart_tables": ["a"],
            "allow_truncate": True,
            "parallel_threads": 4,
            "batch_size": 10_000,
        }
    )
    choice = event.choice(840.0)
    assert (choice.run_id, choice.restart, choice.allow_truncate) == (UUID(RUN), ("a",), True)
    assert choice.deadline_seconds == 840.0
    assert not choice.values
    assert (event.parallel_threads, event.batch_size) == (4, 10_000)


def test_a_plan_measures_values_unless_told_not_to() -> None:
    assert Event.of({"action": "plan"}).choice().values
    assert not Event.of({"action": "plan", "no_values": True}).choice().values


@pytest.mark.parametrize(("given", "meant"), [("168", 168), (168, 168), (168.0, 168), (None, None)])
def test_numbers_come_as_numbers_or_as_their_digits(given: object, meant: int | None) -> None:
    assert Event.of({"resume_max_age": given}).resume_max_age == meant


@pytest.mark.parametrize(
    "given", ["", " 5", "5.5", "-1", "1e3", "٣", 0, -1, 1.5, True, [1], {}, 2**31]
)
def test_what_is_no_number_from_1_is_refused(given: object) -> None:
    for name in ("resume_max_age", "parallel_threads", "batch_size"):
        assert problems({name: given}).keys() == {name}


def test_batch_size_may_be_auto() -> None:
    assert Event.of({"batch_size": "auto"}).batch_size == "auto"
    assert Event.of({"batch_size": "25000"}).batch_size == 25_000
    assert "batch_size" in problems({"batch_size": "automatic"})


@pytest.mark.parametrize(("given", "meant"), [("true", True), (False, False), (None, False)])
def test_switches_come_as_booleans_or_their_names(given: object, meant: bool) -> None:
    assert Event.of({"allow_truncate": given}).allow_truncate is meant


@pytest.mark.parametrize("given", ["True", "yes", "1", "", 1, 0, []])
def test_what_is_nearly_a_switch_is_refused(given: object) -> None:
    assert problems({"allow_truncate": given, "no_resume": given}).keys() == {
        "allow_truncate",
        "no_resume",
    }


def test_a_null_is_not_given_and_an_unknown_field_is_an_error_all_the_same() -> None:
    nothing = dict.fromkeys(Event.model_fields)
    assert Event.of(nothing) == Event()
    with pytest.raises(ConfigError) as caught:
        Event.of({"source_nam": None, "sourceName": "a", "detail": {}})
    text = str(caught.value)
    assert text.startswith("the event: 3 problems")
    assert text.count("did you mean source_name?") == 2
    assert "detail: is not a known field" in text


def test_all_problems_are_told_at_once() -> None:
    found = problems(
        {"action": "migrat", "no_resume": 1, "resume_run_id": "x", "threads": 1, "tables": [1]}
    )
    assert found.keys() == {"action", "no_resume", "resume_run_id", "threads", "tables"}


def test_half_a_surrogate_pair_is_no_name() -> None:
    found = problems({"source_name": "a\ud800", "tables": ["\ud800"], "\udc00": 1})
    assert found.keys() == {"source_name", "tables", "'\\udc00'"}


def test_what_contradicts_itself_is_refused() -> None:
    assert problems({"no_resume": True, "resume_run_id": RUN}).keys() == {"no_resume"}
    assert problems({"no_resume": True, "restart_tables": "a"}).keys() == {"no_resume"}
    assert problems({"run_id": RUN}).keys() == {"run_id"}
    assert Event.of({"action": "status", "run_id": RUN}).run_id == UUID(RUN)


@pytest.mark.parametrize("event", [None, [], "migrate", 5, b"x"])
def test_what_is_no_mapping_is_refused(event: object) -> None:
    assert problems(event).keys() == {"the event"}


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=5,
)


@given(st.dictionaries(st.sampled_from(list(Event.model_fields)) | st.text(), JSON, max_size=6))
def test_whatever_comes_is_an_event_or_a_config_error(event: dict[str, object]) -> None:
    found: tuple[Problem, ...] = ()
    try:
        json.dumps(Event.of(event).model_dump(mode="json"))
    except ConfigError as error:
        found = error.problems or (Problem("", "", ""),)
    assert all(problem.place and problem.what and problem.remedy for problem in found)
