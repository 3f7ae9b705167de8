"""What the function answers: small JSON objects, whatever the number of tables.

A state machine carries an answer along, and takes 262,144 bytes of it at most:
https://docs.aws.amazon.com/step-functions/latest/dg/service-quotas.html
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict

from snowmelt.aws.wording import told
from snowmelt.config import Config
from snowmelt.estimates.estimate import TableEstimate
from snowmelt.plan import Plan, Refusal, TablePlan
from snowmelt.report import memory_json, slice_json
from snowmelt.slices import Slice
from snowmelt.status import Report, RunStatus, State, TableStatus

LIST_BYTES = 48_000
"""Of one list in an answer, as JSON. An answer has three lists at most beside its figures."""
LONGEST_TEXT = 2_000
"""Characters of one error or refusal."""
_FIRST = (State.FAILED, State.IN_PROGRESS, State.PENDING)

Answer = dict[str, object]


def response(body: Answer) -> Answer:
    """The body in the envelope that callers of the running system know."""
    return {"statusCode": 200, "body": body}


def migrated(report: Report) -> Answer:
    """A run, all that is committed of it, and what this invocation did."""
    done = report.slice or Slice(report.seconds, 0, 0, 0, 0, False)
    return {
        "action": "migrate",
        "status": _ending(report.state),
        "run_id": str(report.run_id),
        "resumed": report.resumed,
        **_totals(report.tables),
        "slice": {
            **slice_json(done),
            "reason": _text(done.reason) if done.reason else None,
        },
        "memory": memory_json(report.memory),
        **_listed("tables", map(_table, _failed_first(report.tables))),
        **_listed("errors", map(_text, report.errors)),
    }


def validated(config: Config) -> Answer:
    """A config that can be used."""
    return {
        "action": "validate_config",
        "status": "completed",
        **_listed("sources", (source.source_name for source in config.sources)),
        "total_tables": len(config.jobs()),
        **_listed("warnings", map(_text, config.warnings)),
    }


def tested(tried: Sequence[str]) -> Answer:
    """Connections that work; one that does not is an error."""
    return {
        "action": "test_connections",
        "status": "completed",
        **_listed("connections", map(_text, tried)),
    }


def planned(plan: Plan) -> Answer:
    """What a run would do; `failed` where it would be refused."""
    whole = plan.estimate()
    refusals = [
        *((None, refusal) for refusal in plan.run_refusals),
        *((str(table.job), refusal) for table, refusal in plan.refusals),
    ]
    tables = zip(plan.tables, whole.tables, strict=True)
    return {
        "action": "plan",
        "status": "failed" if plan.refused else "completed",
        "run_id": str(plan.run_id),
        "resumed": plan.resumed,
        "total_tables": len(plan.tables),
        "rows": whole.rows,
        "bytes": whole.bytes,
        "chunks": whole.chunks,
        "workers": whole.workers,
        "seconds": {end: round(s, 1) for end, s in asdict(whole.seconds).items()},
        "memory_bytes": None if whole.memory is None else whole.memory.bytes,
        **_listed("warnings", map(_text, plan.warnings)),
        **_listed("tables", (_planned(table, part) for table, part in tables)),
        **_listed("refusals", (_refusal(table, refusal) for table, refusal in refusals)),
    }


def statuses(runs: Sequence[RunStatus]) -> Answer:
    """One run, which has a status for each target database that it writes to."""
    tables = [table for run in runs for table in run.tables]
    errors = [run.error for run in runs if run.error]
    errors += [table.error for table in tables if table.error and table.state is State.FAILED]
    states = {run.state for run in runs}
    state = next((s for s in (State.FAILED, State.RUNNING, State.PARTIAL) if s in states), None)
    return {
        "action": "status",
        "status": _ending(state or State.COMPLETED),
        "state": (state or State.COMPLETED).value,
        "run_id": str(runs[0].run_id),
        **_listed("sources", runs[0].source_names),
        "started_at": min(run.started_at for run in runs).isoformat(),
        "active_at": max(run.active_at for run in runs).isoformat(),
        "live_workers": sum(run.live_workers for run in runs),
        **_totals(tables),
        **_listed("tables", map(_table, _failed_first(tables))),
        **_listed("errors", map(_text, errors)),
    }


def _ending(state: State) -> str:
    """One of three words, so that a Choice knows them all: what is under way is partial."""
    return state.value if state in (State.COMPLETED, State.FAILED) else State.PARTIAL.value


def _totals(tables: Sequence[TableStatus]) -> Answer:
    return {
        "rows": sum(table.rows for table in tables),
        "bytes": sum(table.bytes for table in tables),
        "chunks": sum(table.chunks for table in tables),
        "completed_chunks": sum(table.completed_chunks for table in tables),
        "retries": sum(table.retries for table in tables),
        "total_tables": len(tables),
        "completed_tables": sum(table.state is State.COMPLETED for table in tables),
        "failed_tables": sum(table.state is State.FAILED for table in tables),
    }


def _failed_first(tables: Iterable[TableStatus]) -> list[TableStatus]:
    """What somebody has to look at comes first, since the end of a long list is left out."""
    places = {state: place for place, state in enumerate(_FIRST)}
    return sorted(tables, key=lambda table: places.get(table.state, len(places)))


def _table(table: TableStatus) -> Answer:
    return {
        "source_name": table.source_name,
        "table": table.target,
        "status": table.state.value,
        "rows": table.rows,
        "planned_rows": table.planned_rows,
        "chunks": table.chunks,
        "completed_chunks": table.completed_chunks,
        **({"error": _text(table.error)} if table.error else {}),
    }


def _planned(table: TablePlan, part: TableEstimate) -> Answer:
    return {
        "source_name": table.job.source_name,
        "table": str(table.job.target),
        "strategy": table.strategy,
        "rows": part.rows,
        "bytes": part.bytes,
        "chunks": part.chunks,
        "resumes": table.resumes is not None,
        "creates": table.create,
        "truncation": table.truncation.action.value,
        "refused": bool(table.refusals),
    }


def _refusal(table: str | None, refusal: Refusal) -> Answer:
    return {"table": table, "what": _text(refusal.what), "remedy": _text(refusal.remedy)}


def _text(text: str) -> str:
    return told(text, LONGEST_TEXT)


def _listed(name: str, items: Iterable[str | Mapping[str, object]]) -> Answer:
    """The items that fit, and how many more there are."""
    kept: list[str | Mapping[str, object]] = []
    room, left = LIST_BYTES, 0
    for item in items:
        # Escaped, as here, it is never shorter than as UTF-8.
        room -= len(json.dumps(item)) + 2
        if room < 0:
            left += 1
        else:
            kept.append(item)
    return {name: kept, **({f"more_{name}": left} if left else {})}
