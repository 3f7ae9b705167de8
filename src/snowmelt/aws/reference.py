"""The page of docs/reference about the function, written from the code."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from pydantic_core import PydanticUndefined

from snowmelt.aws import answers, bound, errors, wording
from snowmelt.aws.answers import Answer
from snowmelt.aws.event import Action, Event
from snowmelt.aws.logs import SIGNS
from snowmelt.aws.metrics import NAMESPACE, UNITS
from snowmelt.aws.reporter import SECONDS
from snowmelt.config import parse_config
from snowmelt.model import Identity
from snowmelt.plan import Plan
from snowmelt.status import Report, RunStatus, State, TableStatus

ACTIONS: Mapping[Action, str] = {
    Action.MIGRATE: "Begin a run, or go on with the unfinished one, until it is done, fails or the time is up.",
    Action.VALIDATE_CONFIG: "Read the config and the secrets that it needs. Neither source nor target is asked.",
    Action.TEST_CONNECTIONS: "Try each connection.",
    Action.PLAN: "A dry run: what `migrate` would do. Nothing is changed.",
    Action.STATUS: "How far a run is, as the ledger has it.",
}
FIELDS: Mapping[str, str] = {
    "action": "The event's.",
    "status": "`completed`, `partial` or `failed`. Of a plan: `failed` where the run would be refused.",
    "state": "The same as the ledger has it: also `running`.",
    "run_id": "The run; of a plan the one that would be begun or resumed.",
    "resumed": "Whether it was begun before.",
    "sources": "Names.",
    "started_at": "When the run began, with time zone.",
    "active_at": "When one of its workers was last heard of.",
    "live_workers": "Processes that are at work in it.",
    "rows": "Rows that are committed, of all invocations; of a plan those that are left to move.",
    "bytes": "What COPY was sent for them, or will be.",
    "chunks": "All of the run; of a plan those that are left.",
    "completed_chunks": "Those that are committed.",
    "retries": "Attempts at chunks beyond the first of each, whatever those before ended in.",
    "total_tables": "Tables that the event asks for.",
    "completed_tables": "Those that are complete.",
    "failed_tables": "Those that failed.",
    "slice": "What this invocation did: the `chunks`, `rows` and `bytes` that it committed, attempts that "
    "failed (`errors`), its `seconds`, whether the run came further (`progress`), how many in a row it did "
    "not (`idle`, at 3 the run is failed), and the `reason` why a partial run ended here.",
    "memory": "Of this process while the run was under way: `peak_bytes` resident, `limit_bytes` and what sets "
    "it (`limit`), `budget_bytes` that might be in flight, `in_flight_bytes` that were at most, and what each of "
    "these took (`byte_cost`); `workers`, how many of them the budget fed at a time (`fed`), the "
    "`waited_seconds` of all for memory, a limit that would feed all (`wanted_bytes`), and in `advice` what the "
    "run would choose.",
    "tables": "See below; failed ones come first.",
    "errors": "A text for each, with its remedy.",
    "warnings": "A text for each.",
    "connections": "What was tried, and works.",
    "refusals": "What keeps the run from being started: `table` (null: all of them), `what`, `remedy`.",
    "workers": "Threads that would be started.",
    "seconds": "An estimate: `low` and `high`.",
    "memory_bytes": "An estimate.",
}
TABLE: Mapping[str, str] = {
    "source_name": "The source.",
    "table": "The target.",
    "status": "`pending`, `in_progress`, `completed`, `failed` or `skipped`.",
    "rows": "Rows that are committed.",
    "planned_rows": "Rows that were counted; null where nothing holds them still.",
    "chunks": "All of the table.",
    "completed_chunks": "Those that are committed.",
    "error": "Of a failed one.",
}
PLANNED_TABLE: Mapping[str, str] = {
    "source_name": "The source.",
    "table": "The target.",
    "strategy": "How chunks are made.",
    "rows": "Rows that are left to move; null where that is not known, as for `bytes` and `chunks`.",
    "bytes": "What COPY will be sent.",
    "chunks": "Those that are left.",
    "resumes": "Whether an earlier start of the run has planned it.",
    "creates": "Whether the target is created.",
    "truncation": "What becomes of rows that are there.",
    "refused": "Whether it keeps the run from being started.",
}
METRICS: Mapping[str, str] = {
    "Rows": "Committed.",
    "Bytes": "Of them, as COPY was sent.",
    "Chunks": "Committed.",
    "Retries": "Attempts that ended without a commit: they failed, waited for somebody's lock, or were cut off.",
    "Errors": "Attempts that failed, and 1 for an invocation that ended with an error or the status `failed`.",
    "FailedTables": "Tables that failed.",
    "Seconds": "Since the line before.",
    "PeakMemory": "The most that the process had resident since it began.",
    "MemoryLimit": "The function's memory.",
}
RECORD: Mapping[str, str] = {
    "timestamp": "UTC, to the millisecond.",
    "level": "As Python names it.",
    "message": "The text; a line break in it is `\\n`.",
    "logger": "The module.",
    "action": "What happened, as one word.",
    "run_id, source_name, request_id": "Of the invocation.",
    "table, chunk_id": "What it is about.",
    "rows, seconds, query_id": "Where they are known.",
    "raised": "Where an error comes from that was not foreseen.",
}
_ONES = (1,) * 8
"""Counts of a sample."""
_HEAD = """# The Lambda function

Written from `src/snowmelt/aws` by `make docs`; a test holds the two together.

The handler is `snowmelt.aws.lambda_handler.handler`. It answers an event with
`{"statusCode": 200, "body": {...}}`, or raises an error.

## Events

Each field may be left out, and null is the same. A field that is not known is an error. A number may be its
digits as text, and a boolean the text `true` or `false`. What an event gives goes before what the config says.
Fields that an action has no use for are checked, and not used.

"""


def lambda_page() -> str:
    """Events, answers, errors, lines and metrics."""
    return "".join(_page())


def _page() -> Iterator[str]:
    yield _HEAD
    yield from _rows(("field", "", "default"), _fields())
    yield "\n"
    yield from _rows(("action", ""), ((f"`{action}`", what) for action, what in ACTIONS.items()))
    yield "\n## Answers\n\nThe `body` of each action. Times are in UTC, sizes in bytes.\n\n"
    yield from _rows(("field", "", "of"), _answers())
    yield (
        f"\nA list has what fits into {answers.LIST_BYTES:,} bytes; `more_tables`, `more_errors` and so on say "
        f"how many are left out. A text is cut to {answers.LONGEST_TEXT:,} characters.\n"
    )
    yield "\nA table of `migrate` and `status`:\n\n"
    yield from _rows(("field", ""), _described(TABLE))
    yield "\nA table of `plan`:\n\n"
    yield from _rows(("field", ""), _described(PLANNED_TABLE))
    yield (
        "\nA table that failed is an answer, with the status `failed`: the other tables were gone on with.\n"
        "\n## Errors\n\nWhat kept the function from its work. The message says where, what and what to do, in "
        f"{wording.LONGEST:,} characters at most, and names fields of the event where the command line would "
        "have options.\n\n"
    )
    kinds = (errors.ConfigError, errors.RetryableError, errors.FatalError)
    yield from _rows(("name", ""), ((f"`{kind.__name__}`", str(kind.__doc__)) for kind in kinds))
    yield from _lines()
    yield from _metrics()


def _lines() -> Iterator[str]:
    signs = ", ".join(f"`{sign}`" for sign in SIGNS)
    yield (
        f"\n## Log lines\n\nIn the Lambda runtime, which is known by {signs}, a line is a JSON object without "
        "line breaks, whatever log format the function has. What is not known is left out. The level is INFO, or "
        "the one of `AWS_LAMBDA_LOG_LEVEL`. Elsewhere a line is text on stderr.\n\n"
    )
    yield from _rows(("field", ""), _described(RECORD))
    yield (
        f"\nOf each action an invocation tells {bound.LINES_OF_ACTION} lines, and {bound.LINES} of all; one line "
        f"more says how many were left out. While chunks move, a line every {SECONDS:.0f} seconds tells the "
        "progress of all tables. The error that an invocation ends with is logged by the runtime.\n"
    )


def _metrics() -> Iterator[str]:
    yield (
        f"\n## Metrics\n\nAn invocation writes a line in the embedded metric format every {SECONDS:.0f} seconds "
        f"and at its end. The namespace is `{NAMESPACE}`, the dimension `source_name`; `run_id` and "
        "`request_id` are properties. A figure is what came since the line before.\n\n"
    )
    yield from _rows(
        ("metric", "unit", ""),
        ((f"`{name}`", unit, METRICS[name]) for name, unit in UNITS.items()),
    )


def _fields() -> Iterator[tuple[str, ...]]:
    for name, field in Event.model_fields.items():
        default: Any = field.default
        shown = "" if default in (None, (), PydanticUndefined) else f"`{_json(default)}`"
        yield f"`{name}`", str(field.description), shown


def _json(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _answers() -> Iterator[tuple[str, ...]]:
    """Each field, with the actions that answer it."""
    actions: dict[str, list[str]] = {name: [] for name in FIELDS}
    for answer in samples():
        for name in answer:
            actions[name].append(str(answer["action"]))
    whole = len(Action)
    for name, of in actions.items():
        yield f"`{name}`", FIELDS[name], "all" if len(of) == whole else ", ".join(of)


def samples() -> Iterator[Answer]:
    """One answer of each action."""
    table = TableStatus("d", 1, "s", "t", "public.t", State.FAILED, *_ONES, error="-")
    now, run = datetime(2024, 1, 1, tzinfo=UTC), UUID(int=0)
    plan = Plan(run, Identity("", "", ("s",)), False, ())
    config = parse_config(
        "config.json", b'{"postgres": {"database": "d"}, "sources": []}', environ={}
    )
    yield answers.migrated(Report(run, State.FAILED, (table,), 1.0, False))
    yield answers.validated(config)
    yield answers.tested(["source s"])
    yield answers.planned(plan)
    yield answers.statuses([RunStatus(run, State.FAILED, ("s",), now, now, None, "d", (table,))])


def _described(fields: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    for name, what in fields.items():
        yield ", ".join(f"`{one}`" for one in name.split(", ")), what


def _rows(head: tuple[str, ...], rows: Iterator[tuple[str, ...]]) -> Iterator[str]:
    yield f"| {' | '.join(head)} |\n{'|---' * len(head)}|\n"
    for row in rows:
        yield f"| {' | '.join(' '.join(cell.split()) for cell in row)} |\n"
