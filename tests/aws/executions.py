"""The state machine of aws/step_functions in the stand-in, and how its executions end."""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from tests.aws.functions import Function
from tests.aws.ministack import REPOSITORY, ROLE, Ministack

DEFINITION = REPOSITORY / "aws" / "step_functions" / "migration.asl.json"
_PATIENCE_SECONDS = 90.0


@dataclass(frozen=True, slots=True)
class Ended:
    """How an execution ended; `output` where it succeeded, `error` and `cause` where it failed."""

    status: str
    output: Any
    error: str
    cause: str


class Machine:
    """The state machine, with one function as its migrator."""

    def __init__(self, function: Function, arn: str) -> None:
        self._client = function.cloud.client("stepfunctions")
        self.function = function
        self.arn = arn

    def start(self, name: str | None = None, /, **given: Any) -> str:
        """Start an execution with this input; its ARN."""
        named = {"name": name} if name else {}
        started = self._client.start_execution(
            stateMachineArn=self.arn, input=json.dumps(given), **named
        )
        arn: str = started["executionArn"]
        return arn

    def running(self, execution: str) -> bool:
        found: str = self._client.describe_execution(executionArn=execution)["status"]
        return found == "RUNNING"

    def end(self, execution: str) -> Ended:
        """Wait for an execution to end."""
        end = time.monotonic() + _PATIENCE_SECONDS
        while self.running(execution):
            assert time.monotonic() < end, f"no end: {self.states(execution)}"
            time.sleep(0.05)
        found = self._client.describe_execution(executionArn=execution)
        output = json.loads(found["output"]) if found["status"] == "SUCCEEDED" else None
        return Ended(found["status"], output, found.get("error", ""), found.get("cause", ""))

    def run(self, **given: Any) -> Ended:
        return self.end(self.start(**given))

    def chain(self, execution: str) -> list[Ended]:
        """Wait for an execution to end, and for those that go on for it."""
        ended = [self.end(execution)]
        while ended[-1].output and ended[-1].output["status"] == "continued":
            ended.append(self.end(ended[-1].output["execution"]))
        return ended

    def states(self, execution: str) -> Counter[str]:
        """How often each state was entered."""
        pages = self._client.get_paginator("get_execution_history").paginate(executionArn=execution)
        return Counter(
            event["stateEnteredEventDetails"]["name"]
            for page in pages
            for event in page["events"]
            if "stateEnteredEventDetails" in event
        )

    def names(self) -> list[str]:
        """The names of all executions."""
        found = self._client.list_executions(stateMachineArn=self.arn)["executions"]
        return [execution["name"] for execution in found]


@contextmanager
def created(cloud: Ministack, function: Function) -> Iterator[Machine]:
    """The state machine of the repository, as the template would deploy it for this function."""
    client = cloud.client("stepfunctions")
    definition = substituted(DEFINITION.read_text(), {"MigratorFunctionArn": function.arn})
    made = client.create_state_machine(name=function.name, definition=definition, roleArn=ROLE)
    arn = made["stateMachineArn"]
    try:
        yield Machine(function, arn)
    finally:
        client.delete_state_machine(stateMachineArn=arn)


def substituted(definition: str, values: Mapping[str, str]) -> str:
    """A definition with its DefinitionSubstitutions filled in, as CloudFormation does."""
    for name, value in values.items():
        definition = definition.replace("${" + name + "}", value)
    return definition
