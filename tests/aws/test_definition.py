"""The definition of the state machine: what validators find, and what only AWS would."""

from __future__ import annotations

import copy
import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from snowmelt.aws import errors
from snowmelt.config.models import ConfigFile
from tests.aws.definition import MOST_EVENTS, most_events, problems
from tests.aws.executions import DEFINITION
from tests.aws.ministack import TOOLS

WHOLE: dict[str, Any] = json.loads(DEFINITION.read_text())
STATES = WHOLE["States"]


def test_the_validator_takes_it() -> None:
    validator = TOOLS / "node_modules" / ".bin" / "asl-validator"
    command = [str(validator), "--json-path", str(DEFINITION)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_our_own_checks_take_it() -> None:
    assert problems(WHOLE) == []


def _set(path: str, value: object) -> Callable[[dict[str, Any]], None]:
    def change(definition: dict[str, Any]) -> None:
        *parents, last = path.split("/")
        place: Any = definition["States"]
        for parent in parents:
            place = place[int(parent)] if isinstance(place, list) else place[parent]
        if value is None:
            del place[last]
        else:
            place[last] = value

    return change


def _swap_retries(definition: dict[str, Any]) -> None:
    again = definition["States"]["Migrate"]["Retry"]
    again.insert(0, {**again[0], "ErrorEquals": ["States.ALL"]})


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (_set("Migrate/TimeoutSeconds", 901), "Migrate: TimeoutSeconds is 901"),
        (_set("Migrate/TimeoutSeconds", None), "Migrate: TimeoutSeconds is None"),
        (_set("Migrate/Retry", None), "Migrate: no Retry"),
        (_set("Migrate/Catch", None), "Migrate: no Catch"),
        (_swap_retries, "Migrate: States.ALL is not the last of Retry"),
        (_set("Migrate/Retry/0/MaxAttempts", None), "Migrate: a Retry without MaxAttempts"),
        (_set("Decide/Default", None), "Decide: a Choice without a Default"),
        (_set("NoProgress/Cause", ""), "NoProgress: a Fail without an error or a cause"),
        (_set("WhatFailed/Default", "ConfigError"), "MigrationFailed: is never reached"),
        (
            _set("Migrate/Assign/slices", "{% $attempts + 1 %}"),
            "Migrate: slices is given by attempts, given beside it",
        ),
        (_set("Pause/Seconds", "{% $setings.pause %}"), "Pause: nothing gives setings a value"),
    ],
)
def test_a_fault_that_is_put_in_is_found(
    change: Callable[[dict[str, Any]], None], told: str
) -> None:
    changed = copy.deepcopy(WHOLE)
    change(changed)
    if "never reached" in told:
        changed["States"]["Decide"]["Default"] = "ConfigError"
    assert told in problems(changed)


def test_an_execution_ends_long_before_its_events_do() -> None:
    """The stand-in does not count them. 2,000 attempts are the most that CheckInput lets through."""
    loop = ("Migrate", "Decide", "Pause")
    assert 17_000 < most_events(WHOLE, loop, 2_000) < MOST_EVENTS * 0.8


def test_errors_are_told_apart_by_the_names_that_the_migrator_raises() -> None:
    """Only what passes with time is tried again."""
    for name in ("ValidateConfig", "TestConnections", "Migrate"):
        again = {error for retrier in STATES[name]["Retry"] for error in retrier["ErrorEquals"]}
        assert errors.RetryableError.__name__ in again
        assert not again & {errors.ConfigError.__name__, errors.FatalError.__name__, "States.ALL"}
    known = {kind.__name__ for kind in errors.HandlerError.__subclasses__()}
    told = STATES["Explain"]["Assign"]["message"]
    assert all(f"'{name}'" in told for name in known)


def test_a_crash_is_the_same_list_of_names_everywhere() -> None:
    crashes = STATES["Migrate"]["Retry"][-1]["ErrorEquals"]
    for name in ("ValidateConfig", "TestConnections"):
        assert STATES[name]["Retry"][-1]["ErrorEquals"] == crashes
    conditions = [rule["Condition"] for rule in STATES["WhatFailed"]["Choices"]]
    assert any(str(crashes).replace('"', "'") in condition for condition in conditions)
    tries = STATES["Migrate"]["Retry"][-1]["MaxAttempts"] + 1
    assert f"tried {tries} times" in STATES["SlicesCrashed"]["Cause"]


def test_the_default_age_is_the_config_s() -> None:
    default = ConfigFile.model_fields["resume_max_age"].default
    assert default == 168
    assert f"'resume_max_age': {default}" in STATES["ReadInput"]["Assign"]["event"]


def test_it_is_read_by_a_person() -> None:
    text = Path(DEFINITION).read_text()
    assert len(text.splitlines()) < 300
    assert all(
        state.get("Comment") for name, state in STATES.items() if name in ("Migrate", "Explain")
    )
