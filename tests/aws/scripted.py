"""A migrator that answers what a test has written down for it, and writes down what it was asked.

A function of it has the variable SCRIPT: a folder with `script.json`, a list of steps for each action. A step is
an answer's body, `{"raise": [name, message]}`, `{"exit": true}` for a process that is killed, or `{"sleep": 5}`
for one that takes so many seconds. An action whose list is at its end, or that has none, is completed.
"""

from __future__ import annotations

import json
import os
import signal
import time
from pathlib import Path
from typing import Any

COMPLETED: dict[str, Any] = {
    "status": "completed",
    "run_id": "run-1",
    "rows": 10,
    "chunks": 5,
    "errors": [],
}


def handler(event: dict[str, Any], context: object) -> dict[str, object]:
    """The entry point; one invocation at a time."""
    folder = Path(os.environ["SCRIPT"])
    earlier = events(folder)
    with (folder / "events.jsonl").open("a") as out:
        out.write(json.dumps(event) + "\n")
    script = json.loads((folder / "script.json").read_text()).get(event["action"], [])
    number = sum(one["action"] == event["action"] for one in earlier)
    step = script[number] if number < len(script) else COMPLETED
    if "raise" in step:
        name, message = step["raise"]
        raise type(name, (Exception,), {})(message)
    if "exit" in step:
        os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(step.get("sleep", 0))
    return {"statusCode": 200, "body": step}


def events(folder: Path) -> list[dict[str, Any]]:
    """What it was asked so far."""
    file = folder / "events.jsonl"
    return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []
