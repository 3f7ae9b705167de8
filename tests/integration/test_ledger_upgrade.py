"""A ledger of the running system is taken over whole, once, or not at all."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, LiteralString
from uuid import UUID

import psycopg
import pytest
from psycopg import sql
from psycopg.conninfo import make_conninfo
from psycopg.rows import dict_row

from snowmelt.errors import Refused, RunError
from snowmelt.model import TargetTable
from snowmelt.postgres import migrations as module
from snowmelt.postgres.connect import Server, Session
from snowmelt.postgres.loads import PostgresLoads
from snowmelt.postgres.migrations import ledger_version, migrate_ledger
from snowmelt.postgres.queries import migrations as numbered_migrations
from snowmelt.postgres.runs import PostgresRuns
from tests.acceptance.processes import wait_until
from tests.support import SECONDS, Database

NEWEST = numbered_migrations()[-1][0]

OLD = Path(__file__).parents[1] / "data" / "running_system_ledger.sql"
COMPLETED = UUID("a1a1a1a1-0000-4000-8000-000000000001")
PARTIAL = UUID("b2b2b2b2-0000-4000-8000-000000000002")
KILLED = UUID("c3c3c3c3-0000-4000-8000-000000000003")
FAILED = UUID("d4d4d4d4-0000-4000-8000-000000000004")

TABLES: dict[LiteralString, LiteralString] = {
    "migration_runs": "started_at",
    "migration_table_status": "run_id, source_database, source_table",
    "migration_chunk_status": "run_id, source_database, source_table, chunk_id",
}

# What dashboards over the running system ask, in its names only. KILLED is told of apart: it was `running`.
QUESTIONS: dict[str, LiteralString] = {
    "progress per table": """
        SELECT r.run_id, t.source_database, t.source_table, t.target_table, t.status, t.completed_chunks,
               t.total_chunks, round(100.0 * t.completed_chunks / nullif(t.total_chunks, 0), 1) AS percent,
               t.total_rows_copied, t.completed_at - t.started_at AS took
        FROM migration_status.migration_table_status t JOIN migration_status.migration_runs r USING (run_id)
        WHERE t.source_name IS NOT NULL AND t.source_name <> ''
        ORDER BY r.started_at DESC, t.source_database, t.source_table""",
    "failed chunks": """
        SELECT run_id, source_table, chunk_id, chunk_range ->> 'start_date' AS start, retry_count, error_message
        FROM migration_status.migration_chunk_status WHERE status = 'failed' ORDER BY 1, 2, 3""",
    "slowest chunks": """
        SELECT run_id, source_database, source_table, chunk_id, completed_at - started_at AS took,
               rows_copied / extract(epoch FROM completed_at - started_at) AS rows_per_second
        FROM migration_status.migration_chunk_status
        WHERE completed_at IS NOT NULL AND started_at IS NOT NULL ORDER BY took DESC LIMIT 3""",
    "throughput per run": """
        SELECT run_id, total_rows_copied,
               total_rows_copied / extract(epoch FROM completed_at - started_at) AS rows_per_second
        FROM migration_status.migration_runs WHERE completed_at > started_at AND total_rows_copied > 0
          AND status <> 'running' AND run_id <> 'c3c3c3c3-0000-4000-8000-000000000003' ORDER BY started_at""",
    "comparison of runs": """
        SELECT run_id, status, config_hash, metadata ->> 'execution_hash' AS execution_hash,
               metadata -> 'source_names' AS sources, total_sources, total_tables, completed_tables,
               failed_tables, total_rows_copied, completed_at - started_at AS took, created_by
        FROM migration_status.migration_runs WHERE status IN ('completed', 'partial')
          AND run_id <> 'c3c3c3c3-0000-4000-8000-000000000003' ORDER BY started_at DESC""",
    "errors": """
        SELECT run_id, error_message FROM migration_status.migration_runs WHERE error_message IS NOT NULL
        ORDER BY run_id""",
    "rows per hour": """
        SELECT date_trunc('hour', completed_at)::text AS hour, sum(rows_copied) AS rows, count(*) AS chunks
        FROM migration_status.migration_chunk_status
        WHERE status = 'completed' AND completed_at IS NOT NULL GROUP BY 1 ORDER BY 1""",
    "the progress view": """
        SELECT run_id, source_name, source_table, target_table, status, total_chunks, completed_chunks,
               failed_chunks, total_rows_copied
        FROM migration_status.v_table_progress WHERE source_name <> ''
        ORDER BY run_id, source_name, source_table""",
}


@pytest.fixture
def old(database: Database) -> Database:
    """A database with a ledger of the running system, whose own time zone is far from UTC."""
    database.execute(OLD.read_text(encoding="utf-8"))
    with database.connect() as connection:
        name = sql.Identifier(database.name)
        connection.execute(
            sql.SQL("ALTER DATABASE {} SET timezone = 'Asia/Kathmandu'").format(name)
        )
    return database


@pytest.fixture
def session(database: Database) -> Iterator[Session]:
    session = Session(Server.of({}, dsn=database.dsn))
    yield session
    session.close()


def rows(database: Database, statement: LiteralString) -> list[dict[str, Any]]:
    with database.connect() as connection:
        connection.execute("SET timezone = 'UTC'")
        return connection.cursor(row_factory=dict_row).execute(statement).fetchall()


def contents(database: Database) -> dict[str, list[dict[str, Any]]]:
    return {
        table: rows(database, f"SELECT * FROM migration_status.{table} ORDER BY {order}")
        for table, order in TABLES.items()
    }


def everything(database: Database) -> object:
    """Every relation of the ledger with its columns, grants and, for those of the running system, its rows."""
    catalogue = rows(
        database,
        """SELECT c.relname, c.relkind::text, c.relacl::text, pg_get_userbyid(c.relowner),
                  ARRAY(SELECT a.attname || ' ' || format_type(a.atttypid, a.atttypmod)
                        FROM pg_attribute a WHERE a.attrelid = c.oid AND a.attnum > 0 ORDER BY a.attnum),
                  ARRAY(SELECT pg_get_constraintdef(k.oid) FROM pg_constraint k
                        WHERE k.conrelid = c.oid ORDER BY 1)
           FROM pg_class c WHERE c.relnamespace = 'migration_status'::regnamespace ORDER BY c.relname""",
    )
    return catalogue, contents(database)


def same(before: object, after: object) -> bool:
    """The value, a time now with its zone, or, for a NULL that can't be one now, the nothing of its type."""
    match before:
        case datetime():
            return (
                after == before.replace(tzinfo=UTC) and str(getattr(after, "tzinfo", "")) == "UTC"
            )
        case None:
            return not after
    return before == after


# --- what is kept ---------------------------------------------------------------------------------


def test_every_row_is_kept_under_its_old_names(old: Database, session: Session) -> None:
    before = contents(old)
    assert migrate_ledger(session) == NEWEST
    after = contents(old)

    # No process can go on with the old tables: what was under way is so no more.
    killed = next(run for run in before["migration_runs"] if run["run_id"] == KILLED)
    last_seen = max(
        chunk["started_at"]
        for chunk in before["migration_chunk_status"]
        if chunk["run_id"] == KILLED and chunk["started_at"]
    )
    killed.update(status="partial", completed_at=last_seen)
    for chunk in before["migration_chunk_status"]:
        if chunk["status"] == "in_progress":
            chunk["status"] = "pending"

    for table, old_rows in before.items():
        assert len(after[table]) == len(old_rows)
        for was, now in zip(old_rows, after[table], strict=True):
            kept = {**now, "metadata": {}}
            if (metadata := was.pop("metadata", None)) is not None:
                assert metadata.items() <= now["metadata"].items()
            wrong = {name for name, value in was.items() if not same(value, kept[name])}
            assert not wrong, (was, now, wrong)


@pytest.mark.parametrize("question", QUESTIONS)
def test_dashboards_get_the_same_answers(old: Database, session: Session, question: str) -> None:
    before = rows(old, QUESTIONS[question])
    migrate_ledger(session)
    after = rows(old, QUESTIONS[question])
    if question == "rows per hour":
        before = [{**row, "hour": f"{row['hour']}+00"} for row in before]
    assert before
    assert after == before


def test_times_are_instants_in_utc(old: Database, session: Session) -> None:
    migrate_ledger(session)
    kinds = rows(
        old,
        """SELECT DISTINCT data_type FROM information_schema.columns
           WHERE table_schema = 'migration_status' AND column_name IN ('started_at', 'completed_at')
             AND table_name IN ('migration_runs', 'migration_table_status', 'migration_chunk_status')""",
    )
    assert [kind["data_type"] for kind in kinds] == ["timestamp with time zone"]
    started = old.value(
        "SELECT started_at FROM migration_status.migration_runs WHERE run_id = %s", [COMPLETED]
    )
    assert started == datetime(2025, 12, 14, 20, 0, 0, 1, UTC)
    assert started.utcoffset() == timedelta(hours=5, minutes=45)


def test_what_is_done_stays_done_where_no_time_was_recorded(
    old: Database, session: Session
) -> None:
    """The time is then the last one known before it, for a fact needs one."""
    for table in ("migration_chunk_status", "migration_table_status"):
        old.execute(f"UPDATE migration_status.{table} SET completed_at = NULL")
    migrate_ledger(session)
    for table, began in {
        "migration_chunk_status": datetime(2025, 12, 14, 20, 0, 6, tzinfo=UTC),
        "migration_table_status": datetime(2025, 12, 14, 20, 0, 5, tzinfo=UTC),
    }.items():
        done = old.execute(
            f"SELECT run_id, min(completed_at) FROM migration_status.{table} "
            "WHERE status = 'completed' GROUP BY run_id"
        )
        assert set(dict(done)) == {COMPLETED, PARTIAL}
        assert dict(done)[COMPLETED] == began


def test_a_run_that_was_killed_is_partial_and_was_last_active_with_its_last_chunk(
    old: Database, session: Session
) -> None:
    migrate_ledger(session)
    (run,) = PostgresRuns(session).status(KILLED)
    assert run.state == "partial"
    assert run.active_at == datetime(2025, 11, 30, 4, 44, 44, tzinfo=UTC)
    assert run.source_names == ("analytics",), "taken from its tables: it had recorded none"
    assert old.execute("SELECT * FROM migration_status.v_active_migrations") == []


def test_unfinished_runs_are_known_as_writers_of_their_tables_and_can_be_aborted(
    old: Database, session: Session
) -> None:
    migrate_ledger(session)
    target = TargetTable(old.name, "analytics", "factvisits")
    endings = {
        writer.run_id: (writer.ending, writer.completed)
        for writer in PostgresLoads(session).writers(target)
    }
    assert endings == {
        COMPLETED: ("completed", True),
        PARTIAL: ("partial", False),
        KILLED: ("partial", False),
    }
    assert PostgresRuns(session).abort(KILLED)
    (run,) = PostgresRuns(session).status(KILLED)
    assert run.state == "failed"


@pytest.mark.usefixtures("old")
def test_runs_and_tables_show_in_status(session: Session) -> None:
    migrate_ledger(session)
    found = PostgresRuns(session).status()
    assert [run.run_id for run in found] == [PARTIAL, COMPLETED, KILLED, FAILED]
    tables = {(table.source, table.state.value): table for table in found[1].tables}
    assert tables["ANALYTICS.BI.DIM_PAYER", "completed"].rows == 120, "a table without chunks"
    assert tables["CONFLICT.BI.FACT_VISITS", "completed"].failed_chunks == 1
    assert 'CONFLICT.BI.Old "names"' in {source for source, _ in tables}


def test_who_could_read_the_tables_can_read_the_views(old: Database, session: Session) -> None:
    reader, outsider = f"reader_{old.name}", f"Out sider {old.name}"
    with old.connect() as connection:
        for role in (reader, outsider):
            connection.execute(sql.SQL("CREATE ROLE {}").format(sql.Identifier(role)))
        connection.execute(
            sql.SQL("GRANT USAGE ON SCHEMA migration_status TO {}, {}").format(
                sql.Identifier(reader), sql.Identifier(outsider)
            )
        )
        connection.execute(
            sql.SQL(
                "GRANT SELECT ON migration_status.migration_runs, migration_status.migration_chunk_status,"
                " migration_status.v_table_progress TO {}"
            ).format(sql.Identifier(reader))
        )
        connection.execute("GRANT SELECT ON migration_status.migration_table_status TO PUBLIC")
        connection.execute(
            sql.SQL("GRANT SELECT ON migration_status.v_active_migrations TO {}").format(
                sql.Identifier(outsider)
            )
        )
    before = readable(old, reader), readable(old, outsider)

    migrate_ledger(session)

    assert (readable(old, reader), readable(old, outsider)) == before
    assert before == (
        {
            "migration_runs",
            "migration_chunk_status",
            "migration_table_status",
            "v_table_progress",
        },
        {"migration_table_status", "v_active_migrations"},
    )


def readable(database: Database, role: str) -> set[str]:
    """The relations under the old names that a role can in fact select from."""
    found = set()
    with database.connect() as connection:
        connection.execute(sql.SQL("SET ROLE {}").format(sql.Identifier(role)))
        for name in (*TABLES, "v_table_progress", "v_active_migrations"):
            try:
                relation = sql.Identifier("migration_status", name)
                connection.execute(sql.SQL("SELECT count(*) FROM {}").format(relation))
                found.add(name)
            except psycopg.errors.InsufficientPrivilege:
                continue
    return found


# --- what is refused ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "definition",
    [
        "CREATE VIEW public.mine AS SELECT run_id FROM migration_status.migration_runs",
        "CREATE VIEW public.mine AS SELECT * FROM migration_status.v_table_progress",
        "CREATE MATERIALIZED VIEW public.mine AS SELECT count(*) FROM migration_status.migration_chunk_status",
    ],
)
def test_a_view_of_the_users_is_named_and_nothing_changes(
    old: Database, session: Session, definition: LiteralString
) -> None:
    old.execute(definition)
    before = everything(old)

    with pytest.raises(Refused) as caught:
        migrate_ledger(session)

    assert "views depend on the tables of the old ledger: mine" in caught.value.what
    assert caught.value.remedy is not None
    assert "drop them, run again, create them again" in caught.value.remedy
    assert everything(old) == before
    assert ledger_version(session) == 0
    old.execute("DROP VIEW IF EXISTS mine") if "MATERIALIZED" not in definition else old.execute(
        "DROP MATERIALIZED VIEW mine"
    )
    assert migrate_ledger(session) == NEWEST


def test_a_foreign_key_of_the_users_is_told_and_nothing_changes(
    old: Database, session: Session
) -> None:
    old.execute("CREATE TABLE notes (run_id uuid REFERENCES migration_status.migration_runs)")
    before = everything(old)
    with pytest.raises(Refused, match="notes"):
        migrate_ledger(session)
    assert everything(old) == before


@pytest.mark.parametrize("at", [1, 2])
def test_a_failure_in_the_middle_changes_nothing(
    old: Database, session: Session, monkeypatch: pytest.MonkeyPatch, at: int
) -> None:
    """Half way through the first migration, and in one that comes after it."""
    (_, script), *_ = numbered_migrations()
    broken = {
        1: ((1, script.replace("INSERT INTO migration_status.chunk", "INSERT INTO nowhere")),),
        2: ((1, script), (2, "SELECT 1 / 0")),
    }[at]
    assert broken[-1][1] != script
    before = everything(old)

    with monkeypatch.context() as patched:
        patched.setattr(module, "migrations", lambda: broken)
        with pytest.raises(Refused, match="can't be made"):
            migrate_ledger(session)

    assert everything(old) == before
    assert migrate_ledger(session) == NEWEST


def test_a_newer_ledger_is_refused(database: Database, session: Session) -> None:
    migrate_ledger(session)
    database.execute("INSERT INTO migration_status.ledger_version (version) VALUES (99)")
    with pytest.raises(RunError, match=f"has version 99, this release knows {NEWEST}") as caught:
        migrate_ledger(session)
    assert "newer" in str(caught.value.remedy)


def role(database: Database, *grants: LiteralString) -> Session:
    """A session of a new role without rights but the ones given."""
    name = f"loader_{database.name}"
    with database.connect() as connection:
        connection.execute(
            sql.SQL("CREATE ROLE {} LOGIN PASSWORD 'p'").format(sql.Identifier(name))
        )
        for grant in grants:
            connection.execute(sql.SQL(grant).format(sql.Identifier(name)))
    return Session(Server.of({}, dsn=make_conninfo(database.dsn, user=name, password="p")))


def test_a_role_that_may_not_create_is_told_what_it_lacks(database: Database) -> None:
    session = role(database)
    with pytest.raises(Refused) as caught:
        migrate_ledger(session)
    session.close()
    assert f"permission denied for database {database.name}" in caught.value.what
    assert f"CREATE on the database {database.name}" in str(caught.value.remedy)
    assert caught.value.sqlstate == "42501"
    assert not database.execute("SELECT 1 FROM pg_namespace WHERE nspname = 'migration_status'")


def test_a_role_that_does_not_own_the_old_ledger_is_told_so(old: Database) -> None:
    session = role(
        old,
        "GRANT USAGE, CREATE ON SCHEMA migration_status TO {}",
        "GRANT SELECT, UPDATE ON ALL TABLES IN SCHEMA migration_status TO {}",
    )
    before = everything(old)
    with pytest.raises(Refused, match="must be owner of") as caught:
        migrate_ledger(session)
    session.close()
    assert "owner" in str(caught.value.remedy)
    assert everything(old) == before


def test_a_role_that_owns_an_old_ledger_beside_tables_of_others_can_take_it_over(
    old: Database,
) -> None:
    """Nothing more than the ledger is touched: a table of somebody else in the schema is left alone."""
    old.execute("CREATE TABLE migration_status.notes (text text)")
    old.execute("GRANT SELECT ON migration_status.notes TO PUBLIC")
    session = role(old, "ALTER SCHEMA migration_status OWNER TO {}")
    owner = f"loader_{old.name}"
    with old.connect() as connection:
        for name in (*TABLES, "v_table_progress", "v_active_migrations"):
            kind = "VIEW" if name.startswith("v_") else "TABLE"
            connection.execute(
                sql.SQL(f"ALTER {kind} {{}} OWNER TO {{}}").format(
                    sql.Identifier("migration_status", name), sql.Identifier(owner)
                )
            )
    assert migrate_ledger(session) == NEWEST
    session.close()
    assert old.value("SELECT count(*) FROM migration_status.migration_runs") == 4


# --- once -----------------------------------------------------------------------------------------


def test_the_second_time_nothing_is_done(old: Database, session: Session) -> None:
    migrate_ledger(session)
    before = everything(old)
    assert migrate_ledger(session) == NEWEST
    assert everything(old) == before


def test_an_empty_database_gets_a_ledger(database: Database, session: Session) -> None:
    assert ledger_version(session) == 0
    assert migrate_ledger(session) == NEWEST
    assert contents(database) == {name: [] for name in TABLES}


def test_two_processes_at_once_both_succeed_and_it_happens_once(old: Database) -> None:
    script = (
        "import sys\n"
        "from snowmelt.postgres.connect import Server, Session\n"
        "from snowmelt.postgres.migrations import migrate_ledger\n"
        "print(migrate_ledger(Session(Server.of({}, dsn=sys.argv[1]))))\n"
    )
    command = [sys.executable, "-c", script, old.dsn]
    with old.connect() as dashboard:
        with dashboard.transaction():
            # A query over the old tables holds the first up in the middle, the second waits for the first.
            dashboard.execute("SELECT count(*) FROM migration_status.migration_runs")
            both = [
                subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
                for _ in range(2)
            ]
            waiting = wait_for_waiters(old)
        ended = [process.communicate(timeout=SECONDS) for process in both]

    assert waiting == {"advisory", "relation"}
    assert ended == [(f"{NEWEST}\n", "")] * 2
    assert old.execute("SELECT version FROM migration_status.ledger_version ORDER BY 1") == [
        (version,) for version, _ in numbered_migrations()
    ]
    assert old.value("SELECT count(*) FROM migration_status.migration_chunk_status") == 14


def wait_for_waiters(database: Database) -> set[str]:
    """What two backends wait for, once two of them wait."""

    def found() -> list[tuple[str]]:
        return database.execute(
            "SELECT locktype FROM pg_locks WHERE NOT granted AND (locktype <> 'relation'"
            " OR database = (SELECT oid FROM pg_database WHERE datname = current_database()))"
        )

    wait_until(lambda: len(found()) == 2, "two backends that wait")
    return {kind for (kind,) in found()}


def test_a_ledger_of_the_first_release_is_upgraded_and_readable_before(
    database: Database, session: Session
) -> None:
    """What plans and shows runs looks at a ledger that only `migrate` upgrades."""
    first = numbered_migrations()[0]
    database.execute("CREATE SCHEMA migration_status")
    database.execute(
        "CREATE TABLE migration_status.ledger_version "
        "(version integer PRIMARY KEY, applied_at timestamptz NOT NULL DEFAULT clock_timestamp())"
    )
    with database.connect() as connection:
        connection.execute(first[1])
        connection.execute("INSERT INTO migration_status.ledger_version (version) VALUES (1)")
        connection.execute(
            "INSERT INTO migration_status.run (run_id, config_hash, execution_hash, source_names, total_tables) "
            "VALUES ('00000000-0000-0000-0000-000000000001', '', '', '{s}', 1)"
        )
        connection.execute(
            "INSERT INTO migration_status.load (run_id, source_name, source_database, source_schema, source_table,"
            " target_database, target_schema, target_table, table_hash) "
            "VALUES ('00000000-0000-0000-0000-000000000001', 's', '', '', 't', 'd', 'public', 't', 'h')"
        )
        connection.execute(
            "INSERT INTO migration_status.chunk (table_id, chunk_id, range, completed_at, rows_read, "
            'rows_written, rows_skipped) VALUES (1, 0, \'{"kind": "table"}\', now(), 5, 5, 0)'
        )
    before = PostgresRuns(session).status()
    loads = PostgresLoads(session).of(UUID(int=1))

    assert migrate_ledger(session) == NEWEST

    after = PostgresRuns(session).status()
    assert before == after
    assert after[0].tables[0].rows == 5
    assert PostgresLoads(session).of(UUID(int=1)) == loads
