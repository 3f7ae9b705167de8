"""The expressions of the definition, by the reference implementation of JSONata.

The stand-in evaluates them by a port of it that is more lenient: AWS takes true and false for a Condition and
nothing else, and an expression without a result is an error.
"""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.aws.executions import DEFINITION
from tests.aws.ministack import TOOLS

STATES: dict[str, Any] = json.loads(DEFINITION.read_text())["States"]
ENGINE = Path(__file__).with_name("reference_engine.js")
UUID = "00000000-0000-4000-8000-000000000000"
CONTEXT = {"Execution": {"Name": "night", "Id": "arn:night"}, "State": {"RetryCount": 2}}


def evaluated(expressions: list[str], **bindings: Any) -> list[Any]:
    """The values of expressions; ValueError with the code of the first error."""
    asked = [{"expression": one[2:-2].strip(), "bindings": bindings} for one in expressions]
    done = subprocess.run(
        ["node", str(ENGINE), str(TOOLS)],
        input=json.dumps(asked),
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    found = json.loads(done.stdout)
    for one in found:
        if "error" in one:
            raise ValueError(one["error"])
    return [one["value"] for one in found]


def assigned(state: str, **bindings: Any) -> dict[str, Any]:
    """What the Assign of a state gives."""
    block = {name: one for name, one in STATES[state]["Assign"].items() if isinstance(one, str)}
    return dict(zip(block, evaluated(list(block.values()), **bindings), strict=True))


def chosen(state: str, **bindings: Any) -> str:
    """Where a Choice goes: conditions are evaluated until one is true, and each is true or false."""
    for rule in STATES[state]["Choices"]:
        (value,) = evaluated([rule["Condition"]], **bindings)
        assert isinstance(value, bool), rule
        if value:
            return str(rule["Next"])
    return str(STATES[state]["Default"])


@pytest.mark.parametrize(
    ("given", "goes_to"),
    [
        ({}, "ReadInput"),
        ({"source_name": "s", "action": "migrate", "state_machine": {}}, "ReadInput"),
        ({"state_machine": {"continue_after": 2000, "pause_seconds": 0}}, "ReadInput"),
        ({"action": "plan"}, "BadInput"),
        ({"state_machine": None}, "BadInput"),
        ({"state_machine": []}, "BadInput"),
        ({"state_machine": {"other": 1}}, "BadInput"),
        ({"state_machine": {"continue_after": 2001}}, "BadInput"),
        ({"state_machine": {"continue_after": "7"}}, "BadInput"),
        ({"state_machine": {"pause_seconds": 1.5}}, "BadInput"),
        ({"state_machine": {"slices_without_progress": 0}}, "BadInput"),
    ],
)
def test_the_input_is_checked(given: dict[str, Any], goes_to: str) -> None:
    assert chosen("CheckInput", states={"input": given}) == goes_to


def test_the_input_is_read() -> None:
    given = {"source_name": "s", "batch_size": None, "state_machine": {"pause_seconds": 9}}
    found = assigned("ReadInput", states={"input": given, "context": CONTEXT})
    event = {"source_name": "s", "batch_size": None, "resume_max_age": 168, "begin_run_id": UUID}
    settings = {"continue_after": 1500, "pause_seconds": 9, "slices_without_progress": 5}
    chain = {"first": "night", "number": 1, "slices": 0, "stalled": 0}
    assert found == {
        "event": event,
        "settings": settings,
        "chain": chain,
        "slices": 0,
        "stalled": 0,
    }
    empty = assigned("ReadInput", states={"input": {}, "context": CONTEXT})
    assert empty["event"] == {"resume_max_age": 168, "begin_run_id": UUID}


def test_an_execution_that_goes_on_is_given_what_it_needs() -> None:
    event = {"source_name": "s", "resume_max_age": 24, "resume_run_id": "r"}
    settings = {"continue_after": 2, "pause_seconds": 5, "slices_without_progress": 5}
    chain = {"first": "n" * 80, "number": 9, "slices": 0, "stalled": 0}
    context = {"Execution": {"Id": "arn"}, "StateMachine": {"Id": "machine"}}
    arguments = STATES["ContinueAsNew"]["Arguments"]
    bound = {"event": event, "settings": settings, "chain": chain, "slices": 18, "stalled": 1}
    name, given = evaluated(
        [arguments["Name"], arguments["Input"]], states={"context": context}, **bound
    )
    assert name == "n" * 70 + "-10"
    assert len(name) <= 80  # of a name
    assert chosen("CheckInput", states={"input": given}) == "ReadInput"
    found = assigned("ReadInput", states={"input": given, "context": CONTEXT})
    assert (found["event"], found["settings"]) == (event, settings)
    assert found["chain"] == {"first": "n" * 80, "number": 10, "slices": 18, "stalled": 1}
    assert (found["slices"], found["stalled"]) == (18, 1)


@pytest.mark.parametrize(
    ("slice", "stalled"), [({"progress": True}, 0), ({"progress": False}, 3), ({}, 3)]
)
def test_a_slice_is_counted(slice: dict[str, Any], stalled: int) -> None:
    event = {"source_name": "s", "no_resume": True, "begin_run_id": UUID, "restart_tables": ["T"]}
    body = {"status": "partial", "run_id": "r", "slice": slice}
    states = {"result": {"Payload": {"body": body}}, "context": CONTEXT}
    found = assigned("Migrate", states=states, event=event, slices=4, attempts=6, stalled=2)
    assert found["event"] == {"source_name": "s", "resume_run_id": "r"}
    assert (found["slices"], found["attempts"], found["stalled"]) == (5, 9, stalled)


@pytest.mark.parametrize(
    ("answer", "stalled", "attempts", "goes_to"),
    [
        ({"status": "completed"}, 9, 9_999, "Completed"),
        ({"status": "partial"}, 4, 1_499, "Pause"),
        ({"status": "partial"}, 4, 1_500, "ContinueAsNew"),
        ({"status": "partial", "slice": {"reason": None}}, 5, 1, "NoProgress"),
        ({"status": "failed", "slice": {"idle": 3}}, 0, 1, "NoProgress"),
        ({"status": "failed", "slice": {"idle": 2}}, 0, 1, "MigrationFailed"),
        ({"status": "failed"}, 0, 1, "MigrationFailed"),
        ({}, 0, 1, "MigrationFailed"),
    ],
)
def test_an_answer_decides(
    answer: dict[str, Any], stalled: int, attempts: int, goes_to: str
) -> None:
    settings = {"continue_after": 1_500, "pause_seconds": 5, "slices_without_progress": 5}
    bound = {"answer": answer, "stalled": stalled, "attempts": attempts, "settings": settings}
    assert chosen("Decide", **bound) == goes_to
    rules = [rule for rule in STATES["Decide"]["Choices"] if rule["Next"] == goes_to]
    extra = {"slices": 1, "chain": {"number": 1}}
    for rule in [*rules, STATES["Decide"]]:
        if "Assign" in rule:
            assert evaluated([rule["Assign"]["message"]], **bound) is not None
        if "Output" in rule:
            evaluated([rule["Output"]], **bound, **extra)


@pytest.mark.parametrize(
    ("error", "cause", "told"),
    [
        (
            "ConfigError",
            '{"errorMessage": "a: \\"b\\"\\n  → c", "errorType": "ConfigError"}',
            'a: "b"\n  → c',
        ),
        ("FatalError", '{"errorMessage": "", "stackTrace": []}', ""),
        ("KeyError", '{"errorMessage": "x"}', "KeyError: x"),
        ("Lambda.ServiceException", "Rate exceeded", "Lambda.ServiceException: Rate exceeded"),
        (
            "Sandbox.Timedout",
            '{"errorMessage": "Task timed out"}',
            "Sandbox.Timedout: Task timed out",
        ),
        ("X", '{"errorMessage": null}', 'X: {"errorMessage": null}'),
        ("X", '{"errorMessage": "cut off', 'X: {"errorMessage": "cut off'),
        ("States.Timeout", "", "States.Timeout: "),
    ],
)
def test_a_failure_is_explained(error: str, cause: str, told: str) -> None:
    found = assigned("Explain", failure={"Error": error, "Cause": cause})
    assert found == {"message": told}


def test_a_failure_without_a_cause_is_explained() -> None:
    assert assigned("Explain", failure={"Error": "States.Timeout"}) == {
        "message": "States.Timeout: "
    }


@pytest.mark.parametrize("run", [{}, {"resume_run_id": "r"}])
def test_a_cause_is_text_and_is_not_too_long(run: dict[str, str]) -> None:
    bound = {"message": "x" * 40_000, "event": run, "stalled": 5}
    for name, state in STATES.items():
        if state["Type"] != "Fail" or not state["Cause"].startswith("{%"):
            continue
        if name in ("NoProgress", "NotContinued") and not run:
            continue  # a slice has answered before
        (cause,) = evaluated([state["Cause"]], **bound)
        assert isinstance(cause, str)
        assert len(cause) < 32_768, name
