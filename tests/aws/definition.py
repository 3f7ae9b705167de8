"""Checks of a state machine that asl-validator does not make, and the stand-in does not miss."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

LONGEST_SECONDS = 900
"""Of one invocation: https://docs.aws.amazon.com/lambda/latest/dg/gettingstarted-limits.html"""
MOST_EVENTS = 25_000
"""Of one execution: https://docs.aws.amazon.com/step-functions/latest/dg/service-quotas.html"""
_EVENTS = {"Task": 5, "Choice": 2, "Wait": 2, "Pass": 2}
"""Entered and exited, and of a task scheduled, started and succeeded."""
_EVENTS_OF_A_TRY = 3
_RESERVED = {"states", "v", "k"}
_FUNCTIONS = re.compile(r"\$(\w+)\(")
_VARIABLES = re.compile(r"\$(\w+)\b(?!\()")

State = Mapping[str, Any]


def problems(definition: Mapping[str, Any]) -> list[str]:
    """Everything that is wrong with it."""
    states: Mapping[str, State] = definition["States"]
    found = [*_unreachable(definition), *_variables(states)]
    for name, state in states.items():
        if state["Type"] == "Task":
            found += [f"{name}: {what}" for what in _task(state)]
        if state["Type"] == "Choice" and "Default" not in state:
            found.append(f"{name}: a Choice without a Default")
        if state["Type"] == "Fail" and not (state.get("Error") and state.get("Cause")):
            found.append(f"{name}: a Fail without an error or a cause")
    return found


def most_events(definition: Mapping[str, Any], loop: tuple[str, ...], attempts: int) -> int:
    """The events of an execution with so many slices, and each retry of every state once."""
    states: Mapping[str, State] = definition["States"]
    once = sum(_EVENTS.get(state["Type"], 1) for state in states.values())
    tries = sum(_tries(state) for state in states.values())
    return (
        attempts * sum(_EVENTS[states[name]["Type"]] for name in loop)
        + once
        + tries * _EVENTS_OF_A_TRY
    )


def _tries(state: State) -> int:
    return sum(int(retrier["MaxAttempts"]) for retrier in state.get("Retry", ()))


def _task(state: State) -> Iterator[str]:
    seconds = state.get("TimeoutSeconds")
    if not isinstance(seconds, int) or not 0 < seconds <= LONGEST_SECONDS:
        yield f"TimeoutSeconds is {seconds}"
    for field in ("Retry", "Catch"):
        listed = [one["ErrorEquals"] for one in state.get(field, ())]
        if not listed:
            yield f"no {field}"
        if any("States.ALL" in errors for errors in listed[:-1]):
            yield f"States.ALL is not the last of {field}"
        if any("States.ALL" in errors and len(errors) > 1 for errors in listed):
            yield f"States.ALL is not alone in {field}"
        names = [name for errors in listed for name in errors]
        if len(set(names)) < len(names):
            yield f"an error is twice in {field}"
    if state.get("Catch") and state["Catch"][-1]["ErrorEquals"] != ["States.ALL"]:
        yield "Catch does not end with States.ALL"
    for retrier in state.get("Retry", ()):
        for field in ("IntervalSeconds", "BackoffRate", "MaxDelaySeconds", "MaxAttempts"):
            if field not in retrier:
                yield f"a Retry without {field}"


def _unreachable(definition: Mapping[str, Any]) -> list[str]:
    states: Mapping[str, State] = definition["States"]
    reached: set[str] = set()
    ahead = {definition["StartAt"]}
    while ahead:
        name = ahead.pop()
        reached.add(name)
        ahead |= set(_nexts(states[name])) - reached
    return [f"{name}: is never reached" for name in states if name not in reached]


def _nexts(state: State) -> Iterator[str]:
    rules = [state, *state.get("Choices", ()), *state.get("Catch", ())]
    for rule in rules:
        yield from (rule[key] for key in ("Next", "Default") if key in rule)


def _variables(states: Mapping[str, State]) -> list[str]:
    """AWS gives all variables of an Assign at once, each by what they were before."""
    blocks = [(name, block) for name, state in states.items() for block in _assigns(state)]
    known = {variable for _, block in blocks for variable in block}
    found = []
    for name, block in blocks:
        for variable, expression in block.items():
            also = (used_in(str(expression)) & set(block)) - {variable}
            found += [
                f"{name}: {variable} is given by {other}, given beside it" for other in sorted(also)
            ]
    for name, state in states.items():
        for variable in sorted(used_in(str(state)) - known):
            found.append(f"{name}: nothing gives {variable} a value")
    return found


def _assigns(state: State) -> Iterator[Mapping[str, Any]]:
    for rule in [state, *state.get("Choices", ()), *state.get("Catch", ())]:
        if "Assign" in rule:
            yield rule["Assign"]


def used_in(text: str) -> set[str]:
    """The variables of the machine that expressions use; what they name for themselves is not among them."""
    own = set(re.findall(r"\$(\w+) :=", text)) | _RESERVED
    inside = " ".join(re.findall(r"\{%(.*?)%\}", text, re.DOTALL))
    return set(_VARIABLES.findall(inside)) - own
