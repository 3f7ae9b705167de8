"""Answers fit a state machine, whatever the number of tables, and errors have the names it goes by."""

from __future__ import annotations

import ast
import json
import re
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from uuid import UUID

import pytest

from snowmelt.aws import errors, wording
from snowmelt.aws.answers import migrated, response, statuses
from snowmelt.aws.event import Event
from snowmelt.errors import (
    Blocked,
    ConfigError,
    ConnectionLost,
    Problem,
    Refused,
    RunError,
    SnowmeltError,
    TableError,
    UnknownName,
    UsageError,
)
from snowmelt.slices import Slice
from snowmelt.status import Report, RunStatus, State, TableStatus

RUN = UUID(int=7)
PAYLOAD_BYTES = 262_144
NOW = datetime(2024, 1, 1, tzinfo=UTC)
DONE = Slice(seconds=1.5, chunks=2, rows=20, bytes=200, errors=0, progress=True)


def table(number: int, state: State, error: str | None = None) -> TableStatus:
    return TableStatus(
        *("d", number, "s", f"täble_{number}", f"public.täble_{number}", state, 4, 2, 0, 0, 1),
        planned_rows=40,
        rows=20,
        bytes=200,
        error=error,
    )


def report(state: State, *tables: TableStatus) -> Report:
    failures = tuple(one.error for one in tables if one.error)
    return Report(RUN, state, tables, 9.0, True, failures, DONE)


def test_a_migration_tells_the_run_and_the_slice() -> None:
    body = migrated(report(State.PARTIAL, table(1, State.COMPLETED), table(2, State.PENDING)))
    assert response(body) == {"statusCode": 200, "body": body}
    assert (body["status"], body["run_id"], body["rows"]) == ("partial", str(RUN), 40)
    assert (body["chunks"], body["completed_chunks"]) == (8, 4)
    moved = {"chunks": 2, "rows": 20, "bytes": 200, "seconds": 1.5, "errors": 0}
    assert body["slice"] == {**moved, "reason": None, "progress": True, "idle": 0}
    assert "more_tables" not in body


def test_thousands_of_failed_tables_with_long_errors_fit_and_the_failed_ones_are_told_first() -> (
    None
):
    failures = [table(n, State.FAILED, f"table {n}: " + "→ü" * 5_000) for n in range(3_000)]
    whole = [table(n, State.COMPLETED) for n in range(3_000, 6_000)]
    body = migrated(report(State.FAILED, *whole, *failures))
    # As the runtime sends it at the longest, with what is not ASCII escaped.
    assert len(json.dumps(response(body))) < PAYLOAD_BYTES
    kept, more = body["tables"], body["more_tables"]
    assert isinstance(kept, list)
    assert isinstance(more, int)
    assert len(kept) + more == 6_000
    assert kept
    assert {one["status"] for one in kept} == {"failed"}
    assert (body["total_tables"], body["failed_tables"]) == (6_000, 3_000)
    assert body["more_errors"]


def test_a_status_is_folded_over_the_databases_of_a_run() -> None:
    def run(database: str, state: State) -> RunStatus:
        return RunStatus(RUN, state, ("s",), NOW, NOW, None, database, (table(1, state),), 1)

    def told(*states: State) -> tuple[object, object]:
        body = statuses([run(f"d{n}", state) for n, state in enumerate(states)])
        json.dumps(body)
        assert (body["live_workers"], body["rows"]) == (len(states), 20 * len(states))
        return body["status"], body["state"]

    assert told(State.COMPLETED, State.COMPLETED) == ("completed", "completed")
    assert told(State.COMPLETED, State.RUNNING) == ("partial", "running")
    assert told(State.COMPLETED, State.PARTIAL) == ("partial", "partial")
    assert told(State.RUNNING, State.FAILED) == ("failed", "failed")


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (UsageError("a", remedy="b"), errors.ConfigError),
        (ConfigError("c.yaml", (Problem("p", "w", "r"),)), errors.ConfigError),
        (UnknownName("a"), errors.ConfigError),
        (Refused("a"), errors.FatalError),
        (RunError("a"), errors.FatalError),
        (TableError("a"), errors.FatalError),
        (SnowmeltError("a"), errors.FatalError),
        (ConnectionLost("a"), errors.RetryableError),
        (Blocked("a"), errors.RetryableError),
    ],
)
def test_an_error_is_named_by_whether_trying_again_helps(
    error: SnowmeltError, kind: type[Exception]
) -> None:
    found = errors.translated(error)
    assert type(found) is kind
    assert str(found) == str(error)


def test_the_names_are_those_that_state_machines_know() -> None:
    kinds = (errors.ConfigError, errors.RetryableError, errors.FatalError)
    assert [kind.__name__ for kind in kinds] == ["ConfigError", "RetryableError", "FatalError"]


def test_an_error_that_was_not_foreseen_says_where_and_no_more() -> None:
    try:
        int("s3cret")
    except ValueError as error:
        found = errors.translated(error)
    assert type(found) is errors.FatalError
    assert "ValueError in test_answers.py, line " in str(found)
    assert "s3cret" not in str(found)


def test_a_long_message_keeps_whole_lines() -> None:
    problems = tuple(Problem(f"place {n}", "is wrong " * 9, "mend it") for n in range(900))
    text = str(errors.translated(ConfigError("config.yaml", problems)))
    assert len(text) < wording.LONGEST + 100
    assert text.startswith("config.yaml: 900 problems\n")
    assert text.endswith(" more lines")
    assert len(wording.shortened("x" * 99_999)) == wording.LONGEST + 1
    assert wording.shortened("a\udc80→") == "a\\udc80→"


def test_skipped_tables_come_last() -> None:
    body = migrated(
        report(State.PARTIAL, table(1, State.COMPLETED), replace(table(2, State.IN_PROGRESS))),
    )
    kept = body["tables"]
    assert isinstance(kept, list)
    assert [one["status"] for one in kept] == ["in_progress", "completed"]


def test_a_remedy_names_fields_of_the_event() -> None:
    told = translated_text("run once with --allow-truncate, or load it with --restart-table T")
    assert told.endswith("run once with allow_truncate, or load it with restart_tables T")
    failed = table(1, State.FAILED, "it is gone\n  → resume it with --resume-run-id 7")
    told_of = migrated(report(State.FAILED, failed))["errors"]
    assert told_of == ["it is gone\n  → resume it with resume_run_id 7"]


def translated_text(remedy: str) -> str:
    return str(errors.translated(Refused("there are rows", remedy=remedy)))


def test_every_option_that_a_message_names_is_one_of_the_event_or_of_another_process() -> None:
    """A message that names a new option must be known to what is sent to people who have no command line."""
    package = Path(wording.__file__).parents[1]
    edges = {"cli", "demo", "standin", "aws"}
    named = {
        option
        for path in package.rglob("*.py")
        if path.relative_to(package).parts[0] not in edges
        for text in _texts(path)
        for option in re.findall(r"(?<![\w-])--[a-z][\w-]+", text)
    }
    assert {option for option in named if wording.told(option) == option} == {"--join", "--config"}
    fields = {wording.told(option) for option in named - {"--join", "--config", "--debug"}}
    assert fields <= set(Event.model_fields)


def _texts(path: Path) -> list[str]:
    """The texts of a module without those that document it."""
    tree = ast.parse(path.read_text("utf-8"))
    documented = {
        id(node.value)
        for node in ast.walk(tree)
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
    }
    return [
        node.value
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant)
        and isinstance(node.value, str)
        and id(node) not in documented
    ]
