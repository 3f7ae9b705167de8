"""Runs in one target database's ledger: find, open, end, abort, show."""

from __future__ import annotations

import time
from collections.abc import Mapping
from uuid import UUID

from psycopg.rows import dict_row
from psycopg.types.json import Jsonb

from snowmelt.errors import Refused
from snowmelt.model import Identity
from snowmelt.postgres.claims import brief, evict
from snowmelt.postgres.connect import Session
from snowmelt.postgres.queries import query
from snowmelt.postgres.server_builds import builds_of_run
from snowmelt.slices import ServerBuild, Span, in_a_row
from snowmelt.status import RunStatus, State, TableStatus

ABORT_PATIENCE_SECONDS = 30.0


class PostgresRuns:
    """`ports.Runs` over one database's ledger."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def find(self, identity: Identity, max_age_hours: float) -> UUID | None:
        """The newest unfinished run of this identity that was active within the limit."""
        with self._session.transaction() as connection:
            row = connection.execute(
                query("find_run"),
                {"execution_hash": identity.execution_hash, "max_age_hours": max_age_hours},
            ).fetchone()
        return row[0] if row else None

    def open(
        self, run_id: UUID, identity: Identity, total_tables: int, metadata: Mapping[str, object]
    ) -> None:
        """Record the run, or take back the ending of one that is resumed. Raises Refused if aborted.

        Within a wider transaction runs are recorded one at a time until that transaction ends.
        """
        with brief(self._session) as connection:
            connection.execute(query("lock_recording"))
            row = connection.execute(
                query("open_run"),
                {
                    "run_id": run_id,
                    "config_hash": identity.config_hash,
                    "execution_hash": identity.execution_hash,
                    "source_names": list(identity.source_names),
                    "total_tables": total_tables,
                    "metadata": Jsonb(dict(metadata)),
                },
            ).fetchone()
        if row is None:
            raise Refused(f"run {run_id} was aborted", remedy="start anew with --no-resume")

    def end(self, run_id: UUID, error: str | None = None) -> State | None:
        """Derive how the run ended from its tables; None while other workers go on with it."""
        with brief(self._session) as connection:
            row = connection.execute(
                query("end_run"), {"run_id": run_id, "error": error}
            ).fetchone()
        return State(row[0]) if row else None

    def is_open(self, run_id: UUID) -> bool:
        """Whether a table of the run is neither completed nor failed here."""
        with self._session.transaction() as connection:
            row = connection.execute(query("has_open_loads"), {"run_id": run_id}).fetchone()
        return bool(row and row[0])

    def idle_slices(self, run_id: UUID) -> int:
        """How many processes with a deadline, one after another until now, have not brought the run further."""
        with self._session.transaction() as connection:
            rows = connection.execute(query("slices"), {"run_id": run_id}).fetchall()
        return in_a_row(Span(*row) for row in rows)

    def server_builds(self, run_id: UUID) -> tuple[ServerBuild, ...]:
        """What the server goes on building for the run; it is noted how far it is."""
        return builds_of_run(self._session, run_id)

    def give_up(self, run_id: UUID) -> None:
        """Note that the run is failed for them: those that come after count anew."""
        with brief(self._session) as connection:
            connection.execute(query("give_up"), {"run_id": run_id})

    def abort(self, run_id: UUID) -> bool:
        """End a run for good: no chunk or table of it is completed any more. False if it had ended so.

        A move or finish that was about to commit either does so before this returns, or never.
        """
        with brief(self._session) as connection:
            aborted = connection.execute(query("abort_run"), {"run_id": run_id}).fetchone()
        self._end_claims(
            run_id
        )  # in any case: an abort before this one may have been interrupted here
        return aborted is not None

    def _end_claims(self, run_id: UUID) -> None:
        deadline = time.monotonic() + ABORT_PATIENCE_SECONDS
        while time.monotonic() < deadline:
            with self._session.transaction() as connection:
                cursor = connection.cursor(row_factory=dict_row)
                held = cursor.execute(query("held_chunks"), {"run_id": run_id}).fetchall()
            if not sum(evict(self._session, chunk) for chunk in held):
                break
            time.sleep(0.05)
        with brief(self._session) as connection:
            for chunk in held:
                connection.execute(
                    query("release_chunk"),
                    {
                        **chunk,
                        "error": "run aborted",
                        "backoff_seconds": 0,
                        "overran_seconds": None,
                    },
                )
            connection.execute(query("end_workers"), {"run_id": run_id})

    def status(self, run_id: UUID | None = None, limit: int = 20) -> tuple[RunStatus, ...]:
        """One run, or the latest ones, newest first, each with its tables."""
        with self._session.transaction() as connection:
            cursor = connection.cursor(row_factory=dict_row)
            runs = cursor.execute(
                query("run_status"), {"run_id": run_id, "limit": limit}
            ).fetchall()
            return tuple(
                RunStatus(
                    run_id=run["run_id"],
                    state=State.FAILED if run["ending"] == "aborted" else State(run["ending"]),
                    source_names=tuple(run["source_names"]),
                    started_at=run["started_at"],
                    active_at=run["active_at"],
                    completed_at=run["ended_at"] if run["ending"] == "completed" else None,
                    database=self._session.server.database,
                    tables=tuple(
                        _table(self._session.server.database, row)
                        for row in cursor.execute(
                            query("table_status"), {"run_id": run["run_id"]}
                        ).fetchall()
                    ),
                    live_workers=run["live_workers"],
                    error=run["error_message"],
                )
                for run in runs
            )

    def close(self) -> None:
        """Release the session."""
        self._session.close()


def _table(database: str, row: Mapping[str, object]) -> TableStatus:
    names = {
        "total_chunks": "chunks",
        "total_rows_copied": "rows",
        "status": "state",
        "error_message": "error",
    }
    values = {names.get(name, name): value for name, value in row.items()}
    values["state"] = State(str(values["state"]))
    return TableStatus(database, **values)  # type: ignore[arg-type]
