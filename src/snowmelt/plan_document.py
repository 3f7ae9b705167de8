"""A plan as a JSON document: numbers as numbers, bytes as whole ones, null for what is not known."""

from __future__ import annotations

import dataclasses

from snowmelt.chunking.window import window_to_json
from snowmelt.estimates.chunk_sizes import ChunkSizes
from snowmelt.estimates.credits import WarehouseTime
from snowmelt.estimates.disk import Disk, DiskNeed
from snowmelt.estimates.estimate import RunEstimate, TableEstimate
from snowmelt.estimates.memory import Memory
from snowmelt.estimates.ranges import Range
from snowmelt.model import Column, into
from snowmelt.plan import Plan, Refusal, TablePlan
from snowmelt.types import created_type


def plan_json(plan: Plan) -> dict[str, object]:
    """A plan as `snowmelt plan --json` prints it."""
    whole = plan.estimate()
    return {
        "run_id": str(plan.run_id),
        "resumed": plan.resumed,
        "execution_hash": plan.identity.execution_hash,
        "sources": list(plan.identity.source_names),
        "warnings": list(plan.warnings),
        "notes": list(plan.notes),
        "refused": plan.refused,
        "refusals": [_refusal(refusal) for refusal in plan.run_refusals],
        "creates_ledger_in": list(plan.circumstances.without_ledger),
        "estimate": _whole(whole),
        "tables": [
            _table(table, part) for table, part in zip(plan.tables, whole.tables, strict=True)
        ],
    }


def _whole(whole: RunEstimate) -> dict[str, object]:
    return {
        "tables": len(whole.tables),
        "uncounted_tables": whole.uncounted,
        "chunks": whole.chunks,
        "rows": whole.rows,
        "bytes": whole.bytes,
        "workers": whole.workers,
        "busy_workers": whole.busy,
        "seconds": _range(whole.seconds),
        "memory": None if whole.memory is None else _memory(whole.memory),
        "disk": _disk_need(whole.disk),
        "warehouses": [_warehouse(one) for one in whole.warehouses],
    }


def _table(table: TablePlan, part: TableEstimate) -> dict[str, object]:
    around, decision = table.surroundings, table.truncation
    return {
        "source_name": table.job.source_name,
        "source": str(table.job.source),
        "target": str(table.job.target),
        "target_database": table.job.target.database,
        "strategy": table.strategy,
        "reason": table.reason,
        "one_query": part.one_query,
        "rows": table.planned_rows,
        "row_bytes": part.row_bytes,
        "chunks": len(table.chunks),
        "chunk_rows": table.chunk_rows,
        "largest_chunk": part.sizes.largest,
        "chunk_sizes": _sizes(part.sizes),
        "resumes": table.resumes is not None,
        "done": _done(table),
        "left": {"chunks": part.chunks, "rows": part.rows, "bytes": part.bytes},
        "workers": part.workers,
        "seconds": _range(part.seconds),
        "warehouse": None if part.warehouse is None else _warehouse(part.warehouse),
        "disk": None if part.disk is None else _disk(part.disk),
        "columns": [column.name for column in table.relation.columns],
        "target_columns": [column.into for column in table.relation.columns],
        "left_out": [column.name for column in table.left_out],
        "adds": [_column(column) for column in table.added],
        "snapshot": dict(table.relation.snapshot),
        "retention_hours": table.relation.retention_hours,
        "create": table.create,
        "creates": _creates(table),
        "surroundings": None if around is None else dataclasses.asdict(around),
        "mode": _mode(table),
        "replacement": _replacement(table),
        "truncation": {
            "action": decision.action.value,
            "row": decision.row,
            "reason": decision.reason,
        },
        "notes": list(table.notes),
        "refusals": [_refusal(refusal) for refusal in table.refusals],
    }


def _mode(table: TablePlan) -> dict[str, object]:
    window = table.job.source.window
    return {
        "mode": table.job.mode.value,
        "uniqueness_columns": list(table.job.uniqueness_columns),
        "watermark": table.job.source_watermark,
        "window": None if window is None else window_to_json(window),
        "mark": None if table.mark is None else str(table.mark.value),
    }


def _replacement(table: TablePlan) -> dict[str, object] | None:
    way = table.replacement
    if way is None:
        return None
    return {
        "way": way.way.value,
        "obstacles": list(way.obstacles),
        "keep_previous_hours": table.job.keep_previous_hours or 0,
    }


def _sizes(sizes: ChunkSizes) -> dict[str, object]:
    return {
        "smallest": sizes.smallest,
        "median": sizes.median,
        "largest": sizes.largest,
        "histogram": [dataclasses.asdict(one) for one in sizes.bins],
    }


def _done(table: TablePlan) -> dict[str, object] | None:
    """What an earlier start of the run has committed."""
    stored = table.resumes
    if stored is None:
        return None
    return {
        "completed": stored.completed,
        "planned_chunks": stored.chunks,
        "chunks": stored.completed_chunks,
        "rows": stored.completed_rows,
    }


def _creates(table: TablePlan) -> dict[str, object] | None:
    """The table that is not there yet."""
    if not table.create or table.target.exists:
        return None
    return {
        "columns": [_column(column) for column in table.relation.columns],
        "primary_key": []
        if table.resumes
        else list(into(table.relation.columns, table.relation.primary_key)),
    }


def _column(column: Column) -> dict[str, object]:
    """A column that the target gets."""
    type = created_type(column.type, column.source_type)
    return {"name": column.into, "type": type, "nullable": column.nullable}


def _memory(memory: Memory) -> dict[str, object]:
    limit = memory.limit
    return {
        "bytes": memory.bytes,
        "base_bytes": memory.base,
        "bytes_per_worker": memory.per_worker,
        "workers": memory.workers,
        "cache_bytes": memory.cache,
        "limit_bytes": limit.bytes if limit else None,
        "limit": limit.what if limit else None,
        "fits": memory.fits,
        "fitting_workers": memory.fitting_workers,
    }


def _disk_need(disk: DiskNeed) -> dict[str, object]:
    return {
        "table_bytes": disk.tables,
        "wal_bytes": disk.wal,
        "free_bytes": disk.free,
        "fits": disk.fits,
        "fits_without_wal": disk.fits_without_wal,
    }


def _warehouse(time: WarehouseTime) -> dict[str, object]:
    return {
        "name": time.name,
        "size": time.size,
        "seconds": _range(time.seconds),
        "credits": [
            {"size": one.size, "low": round(one.credits.low, 4), "high": round(one.credits.high, 4)}
            for one in time.credits
        ],
    }


def _disk(disk: Disk) -> dict[str, int]:
    return {"heap_bytes": disk.heap, "index_bytes": disk.indexes, "wal_bytes": disk.wal}


def _range(of: Range | None) -> dict[str, float] | None:
    return None if of is None else {"low": round(of.low, 1), "high": round(of.high, 1)}


def _refusal(refusal: Refusal) -> dict[str, str]:
    return {"what": refusal.what, "remedy": refusal.remedy}
