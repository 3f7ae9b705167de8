"""The tables of a run in the ledger: planned with their chunks, finished by a recount."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from uuid import UUID

from psycopg.rows import dict_row
from psycopg.types.json import Jsonb

from snowmelt.choices import Mode
from snowmelt.chunking.chunks import range_to_json
from snowmelt.chunking.window import Window, window_from_json, window_to_json
from snowmelt.model import (
    DEFAULT_CHUNK_ROWS,
    LastLoad,
    Mark,
    SourceTable,
    StoredLoad,
    TargetTable,
    Writer,
)
from snowmelt.plan import TablePlan
from snowmelt.ports import OnBuilding, Replan, Replanned
from snowmelt.postgres.claims import brief
from snowmelt.postgres.connect import Session
from snowmelt.postgres.finish import build_step, finish_load
from snowmelt.postgres.marks import adopt_mark, mark_of, place_of_load
from snowmelt.postgres.preparing import Wishes, abandon_load, drop_shadows, prepare_load
from snowmelt.postgres.queries import query
from snowmelt.postgres.replan import replan_chunks
from snowmelt.postgres.shadow import new_shadow_name, shadow_of
from snowmelt.postgres.stored_columns import (
    columns_from_json,
    columns_to_json,
    comment_from_json,
)
from snowmelt.postgres.truncate import truncate


class PostgresLoads:
    """The tables of runs in one target database's ledger."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def add(self, run_id: UUID, plan: TablePlan) -> None:
        """Write a table and all its chunks, durably and at once; a table that is there already stays."""
        job = plan.job
        with brief(self._session) as connection:
            row = connection.execute(
                query("add_load"),
                {
                    "run_id": run_id,
                    "source_name": job.source_name,
                    "source_database": job.source.database,
                    "source_schema": job.source.schema,
                    "source_table": job.source.name,
                    "target_database": job.target.database,
                    "target_schema": job.target.schema,
                    "target_table": job.target.name,
                    "table_hash": plan.table_hash,
                    "snapshot": Jsonb(dict(plan.relation.snapshot)),
                    "columns": Jsonb(columns_to_json(plan.relation.columns, plan.relation.comment)),
                    "plan": Jsonb(_plan_to_json(plan)),
                    "truncation": Jsonb(
                        {
                            "action": plan.truncation.action.value,
                            "row": plan.truncation.row,
                            "reason": plan.truncation.reason,
                            "allowed_by": plan.truncation.facts.allowed,
                        }
                    ),
                    "planned_rows": plan.planned_rows,
                },
            ).fetchone()
            if row is None:
                return
            with connection.cursor().copy(query("copy_chunks")) as copy:
                for chunk in plan.chunks:
                    copy.write_row(
                        (row[0], chunk.id, Jsonb(range_to_json(chunk.range)), chunk.planned_rows)
                    )

    def of(self, run_id: UUID) -> tuple[StoredLoad, ...]:
        """The tables of a run as they were planned."""
        with self._session.transaction() as connection:
            cursor = connection.cursor(row_factory=dict_row)
            rows = cursor.execute(query("loads"), {"run_id": run_id}).fetchall()
        database = self._session.server.database
        return tuple(
            StoredLoad(
                table_id=row["table_id"],
                source=SourceTable(
                    row["source_database"], row["source_schema"], row["source_table"]
                ),
                source_name=row["source_name"],
                target=TargetTable(database, row["target_schema"], row["target_table"]),
                table_hash=row["table_hash"],
                columns=columns_from_json(row["columns"]),
                key=tuple(row["plan"].get("row_key", ())),
                snapshot=row["snapshot"],
                facts=row["plan"].get("facts", {}),
                create=row["plan"].get("create", False),
                planned_rows=row["planned_rows"],
                chunk_rows=row["plan"].get("chunk_rows", DEFAULT_CHUNK_ROWS),
                row_bytes=row["plan"].get("row_bytes", 0),
                chunks=row["chunks"],
                completed_chunks=row["completed_chunks"],
                completed_rows=row["completed_rows"],
                completed=row["completed"],
                mode=Mode(row["plan"].get("mode", Mode.APPEND)),
                window=_window_of(row["plan"]),
                began_empty=row["plan"].get("began_empty", True),
                unique_is_primary=row["plan"].get("unique_is_primary", False),
                added=tuple(row["plan"].get("added", ())),
                comment=comment_from_json(row["columns"]),
                shadow=shadow.table if shadow else None,
            )
            for row in rows
            for shadow in (shadow_of(row["plan"], row["target_schema"], database),)
        )

    def writers(self, target: TargetTable) -> tuple[Writer, ...]:
        """The runs that have a record of writing the table, newest first."""
        with self._session.transaction() as connection:
            cursor = connection.cursor(row_factory=dict_row)
            rows = cursor.execute(
                query("writers"), {"schema": target.schema, "table": target.name}
            ).fetchall()
        return tuple(Writer(**{**row, "workers": tuple(row["workers"])}) for row in rows)

    def last(self, connection: str, source: SourceTable, target: TargetTable) -> LastLoad | None:
        """What the last completed load of the target from the source knew of their columns."""
        with self._session.transaction() as opened:
            cursor = opened.cursor(row_factory=dict_row)
            names = place_of_load(connection, source, target)
            row = cursor.execute(query("last_columns"), names).fetchone()
        columns = columns_from_json(row["columns"]) if row else ()
        if row is None or not columns:
            return None  # none, or one of the running system, which stored no columns
        kept = row["plan"].get("kept")
        left_out = tuple(row["plan"].get("left_out", ()))
        return LastLoad(columns, left_out, None if kept is None else tuple(kept))

    def mark(self, connection: str, source: SourceTable, target: TargetTable) -> Mark | None:
        """How far the source table is in the target table; `connection` is where the source reads from."""
        return mark_of(self._session, connection, source, target)

    def adopt(self, connection: str, source: SourceTable, target: TargetTable, mark: Mark) -> bool:
        """Set the first mark of a target that was loaded by other means; False if there is one."""
        return adopt_mark(self._session, connection, source, target, mark)

    def truncate(self, run_id: UUID, tables: Mapping[TargetTable, int | None]) -> None:
        """Remove all rows of the tables, each with how many there must be, and note it in the run's loads."""
        truncate(self._session, run_id, tables)

    def chunk_seconds(self, table_id: int, limit: int) -> list[float]:
        """What the last completed chunks of a table took, from claim to commit."""
        with self._session.transaction() as connection:
            cursor = connection.execute(
                query("chunk_seconds"), {"table_id": table_id, "limit": limit}
            )
            return [seconds for (seconds,) in cursor.fetchall()]

    def reopen(self, run_id: UUID, table_ids: Sequence[int]) -> None:
        """Give failed tables and chunks of a resumed run their attempts back."""
        parameters = {"run_id": run_id, "table_ids": list(table_ids)}
        with brief(self._session) as connection:
            connection.execute(query("reopen_loads"), parameters)
            connection.execute(query("reopen_chunks"), parameters)

    def forget(self, run_id: UUID, table_id: int) -> None:
        """Drop a table from a run, for a restart of it, with what was loaded beside its target."""
        abandon_load(self._session, run_id, table_id)

    def forget_noted(self, run_id: UUID) -> None:
        """Forget what was to be built on targets of an aborted run, but for what was dropped from them."""
        with brief(self._session) as connection:
            connection.execute(query("forget_noted"), {"run_id": run_id, "table_id": None})

    def drop_shadows(self, run_id: UUID) -> None:
        """Drop what an aborted run has loaded beside its targets."""
        drop_shadows(self._session, run_id)

    def fail(self, table_id: int, error: str) -> None:
        """Close a table as failed: no chunk of it is claimed any more."""
        with brief(self._session) as connection:
            connection.execute(query("fail_load"), {"table_id": table_id, "error": error})

    def replan(self, table_id: int, query_id: str, replan: Replan) -> Replanned | None:
        """Plan a table's chunks again after the result that they are parts of is gone; None if another
        worker was first."""
        return replan_chunks(self._session, table_id, query_id, replan)

    def prepare(self, table_id: int, wishes: Wishes) -> None:
        """Make the target ready for rows: the table in its stead, indexes that are dropped meanwhile."""
        prepare_load(self._session, table_id, wishes)

    def build(self, table_id: int, tell: OnBuilding, *, goes_on: bool = False) -> bool:
        """Build one index or foreign key of a table whose chunks are all committed; False if there is nothing to
        do here just now. `goes_on`: what takes long the server ends, should this process be gone by then."""
        return build_step(self._session, table_id, tell, goes_on=goes_on)

    def finish(self, table_id: int) -> bool:
        """Complete a table if every chunk is committed and all is built; False if some are not, or not any more,
        if another process is about it, or if the run was aborted. Raises CountMismatch when the rows read are not
        the rows planned."""
        return finish_load(self._session, table_id)


def _plan_to_json(plan: TablePlan) -> dict[str, object]:
    job, window = plan.job, plan.job.source.window
    return {
        "strategy": plan.strategy,
        "reason": plan.reason,
        "create": plan.create,
        "chunk_rows": plan.chunk_rows,
        "row_bytes": plan.row_bytes,
        "facts": dict(plan.facts),
        "row_key": list(plan.key),
        "primary_key": list(plan.primary_key),
        "unique_is_primary": plan.unique_is_primary,
        "added": [column.name for column in plan.added],
        "left_out": [column.name for column in plan.left_out],
        "kept": [column.name for column in plan.kept],
        "mode": job.mode.value,
        "began_empty": plan.began_empty,
        "connection": plan.facts.get("connection", ""),
        "window": window_to_json(window) if window else None,
        "filter": job.source.filter,
        "replaces": _replaces(plan),
    }


def _replaces(plan: TablePlan) -> dict[str, object] | None:
    if plan.replacement is None:
        return None
    return {
        "shadow": new_shadow_name(),
        "way": plan.replacement.way.value,
        "rows": plan.truncation.rows if plan.target.has_rows else 0,
        "hours": plan.job.keep_previous_hours or 0,
    }


def _window_of(plan: Mapping[str, object]) -> Window | None:
    window = plan.get("window")
    return window_from_json(window) if isinstance(window, dict) else None
