"""Reports and statuses as JSON-ready values."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from uuid import UUID

from snowmelt.memory.budget import MemoryUse
from snowmelt.model import Mark, TableJob
from snowmelt.refusal import Refusal
from snowmelt.slices import Slice
from snowmelt.status import Report, RunStatus, TableStatus


def report_json(report: Report) -> dict[str, object]:
    """A report as `snowmelt migrate --json` prints it."""
    return {
        "run_id": str(report.run_id),
        "status": report.state.value,
        "resumed": report.resumed,
        "rows": report.rows,
        "seconds": round(report.seconds, 3),
        "tables": [table_json(table) for table in report.tables],
        "errors": list(report.errors),
        "slice": slice_json(report.slice) if report.slice else None,
        "memory": memory_json(report.memory),
    }


def slice_json(done: Slice) -> dict[str, object]:
    """What one process did of a run."""
    return {**dataclasses.asdict(done), "seconds": round(done.seconds, 3)}


def memory_json(memory: MemoryUse | None) -> dict[str, object] | None:
    """What a process's memory was, in bytes and seconds, and what it would choose."""
    if memory is None:
        return None
    facts = {name: _plain(getattr(memory, name)) for name in MemoryUse.__slots__}
    return {**facts, "advice": memory.advice}


def status_json(run: RunStatus) -> dict[str, object]:
    """A run as `snowmelt status --json` prints it."""
    return {
        "run_id": str(run.run_id),
        "status": run.state.value,
        "sources": list(run.source_names),
        "database": run.database,
        "started_at": run.started_at.isoformat(),
        "active_at": run.active_at.isoformat(),
        "completed_at": run.completed_at.isoformat() if run.completed_at else None,
        "live_workers": run.live_workers,
        "error": run.error,
        "tables": [table_json(table) for table in run.tables],
    }


def adopted_json(
    done: Sequence[tuple[TableJob, Mark | Refusal]],
) -> list[dict[str, object]]:
    """Tables as `snowmelt adopt --json` prints them."""
    return [
        {
            "table": str(job),
            "watermark": outcome.column if isinstance(outcome, Mark) else None,
            "mark": str(outcome.value) if isinstance(outcome, Mark) else None,
            "refused": str(outcome) if isinstance(outcome, Refusal) else None,
        }
        for job, outcome in done
    ]


def table_json(table: TableStatus) -> dict[str, object]:
    """A table of a run, all facts."""
    return {name: _plain(getattr(table, name)) for name in TableStatus.__slots__}


def _plain(value: object) -> object:
    match value:
        case UUID():
            return str(value)
        case Mapping():
            return dict(value)
        case _ if hasattr(value, "isoformat"):
            return value.isoformat()
    return value
