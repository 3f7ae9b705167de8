"""Table plans for tests of what is said about them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import pyarrow as pa

from snowmelt.chunking.chunks import Chunk, QueryOnce, WholeTable
from snowmelt.estimates.memory import Flow
from snowmelt.model import (
    Column,
    Relation,
    SourceTable,
    StoredLoad,
    TableJob,
    TargetState,
    TargetTable,
)
from snowmelt.table_plan import TablePlan
from snowmelt.truncation import TargetFacts, decide

COLUMNS = (
    Column("id", pa.int64(), nullable=False, source_type="NUMBER(18,0)"),
    Column("at", pa.timestamp("us"), source_type="TIMESTAMP_NTZ(6)"),
    Column("note", pa.string(), source_type="VARCHAR"),
)
ROW_BYTES = 2 + 12 + 12 + 36
FLOW = Flow(base=200, batch=50, batches=3, encoded=30, trail=60)


def table_plan(
    rows: Sequence[int | None] = (),
    *,
    name: str = "T",
    source: str = "s",
    threads: int = 4,
    warehouse: str | None = None,
    snapshot: Mapping[str, object] | None = None,
    row_bytes: int = ROW_BYTES,
) -> TablePlan:
    """A table that is created, with a chunk for each of `rows`; without any it is not planned."""
    job = TableJob(
        source,
        SourceTable("DB", "S", name, warehouse=warehouse),
        TargetTable("db", "public", name),
        parallel_threads=threads,
    )
    counted = [count for count in rows if count is not None]
    return TablePlan(
        job=job,
        table_hash="",
        facts={},
        relation=Relation(COLUMNS, ("id",), snapshot or {}),
        target=TargetState(exists=False),
        strategy="DateRangeStrategy",
        reason="ranges of at",
        chunks=tuple(Chunk(place, WholeTable(), count) for place, count in enumerate(rows)),
        planned_rows=sum(counted) if len(counted) == len(rows) else None,
        truncation=decide(TargetFacts(False, False, False, False)),
        create=True,
        chunk_rows=max(counted, default=0),
        row_bytes=row_bytes,
    )


def one_query(rows: int, chunk_rows: int, **more: object) -> TablePlan:
    """A table of one query, which did not run yet."""
    return replace(
        table_plan([0], **more),  # type: ignore[arg-type]
        chunks=(Chunk(0, QueryOnce(), 0),),
        planned_rows=rows,
        chunk_rows=chunk_rows,
        strategy="ResultSetStrategy",
    )


def resumed(rows: int, done_rows: int, chunks: int, done_chunks: int, **more: object) -> TablePlan:
    """A table of which a run has committed some."""
    plan = table_plan(**more)  # type: ignore[arg-type]
    stored = StoredLoad(
        table_id=1,
        source=plan.job.source,
        source_name=plan.job.source_name,
        target=plan.job.target,
        table_hash="",
        columns=COLUMNS,
        key=("id",),
        snapshot={},
        facts={},
        create=True,
        planned_rows=rows,
        chunk_rows=max(rows // chunks, 1),
        row_bytes=0,
        chunks=chunks,
        completed_chunks=done_chunks,
        completed_rows=done_rows,
        completed=chunks == done_chunks,
    )
    return replace(plan, resumes=stored, planned_rows=rows, row_bytes=0)
