"""The decisions of the truncation on a real server: each row, each unknown, with and without the override."""

from __future__ import annotations

import getpass
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, LiteralString

import psycopg
import pytest
from psycopg import sql
from psycopg.conninfo import make_conninfo

import snowmelt
from snowmelt.config import load_config
from snowmelt.model import TargetTable
from snowmelt.postgres import ddl, truncate
from snowmelt.postgres.ddl import count_within
from snowmelt.survey import Choice
from tests.acceptance.nights import NOON, Nights
from tests.acceptance.processes import FAILED
from tests.support import Database
from tests.support import snowmelt as command

ROWS = f"INSERT INTO T SELECT i, {NOON} + INTERVAL (i) MINUTE, 'first' FROM range(100) r(i)"
CHANGED = "UPDATE T SET note = 'second'"
ALLOW = Choice(allow_truncate=True)
CHOICES = pytest.mark.parametrize("choice", [Choice(), ALLOW], ids=["without", "with the override"])
RUNS = "SELECT count(*) FROM migration_status.run"


@pytest.fixture
def nights(database: Database, tmp_path: Path) -> Nights:
    found = Nights(database, tmp_path, mode="truncate")
    found.run(ROWS)
    return found


# --- what was there before ------------------------------------------------------------------------


def nothing(_: Nights) -> None:
    """A target that is not there."""


def empty(nights: Nights) -> None:
    nights.database.execute('CREATE TABLE "T" (id bigint PRIMARY KEY, seen timestamp, note text)')


def foreign(nights: Nights) -> None:
    empty(nights)
    nights.database.execute("INSERT INTO \"T\" VALUES (-1, '2020-01-01', 'foreign')")


def completed(nights: Nights) -> None:
    empty(nights)
    nights.migrate()


def completed_and_added_to(nights: Nights) -> None:
    completed(nights)
    nights.database.execute("INSERT INTO \"T\" VALUES (-1, '2020-01-01', 'foreign')")


def completed_and_taken_from(nights: Nights) -> None:
    completed(nights)
    nights.database.execute('DELETE FROM "T" WHERE id = 7')


def completed_and_emptied(nights: Nights) -> None:
    completed(nights)
    nights.database.execute('TRUNCATE "T"')


def failed(nights: Nights) -> None:
    """A run that wrote some rows, and stopped at the others."""
    empty(nights)
    nights.database.execute('ALTER TABLE "T" ADD CHECK (id < 50)')
    nights.migrate(code=1, parallel_threads=1)
    nights.database.execute('ALTER TABLE "T" DROP CONSTRAINT "T_id_check"')
    assert 0 < len(nights.loaded()) <= 50


def aborted(nights: Nights) -> None:
    failed(nights)
    with snowmelt.open(load_config(nights.config(), environ={})) as mover:
        assert mover.abort(nights.database.value("SELECT run_id FROM migration_status.run"))


# --- each row of the table ------------------------------------------------------------------------


@dataclass(frozen=True)
class Case:
    """What was there, and the row that decides then: without the override, where None is refused, and with it."""

    before: Callable[[Nights], None]
    row: str | None
    allowed: str


CASES = [
    Case(nothing, "fresh", "fresh"),
    Case(completed_and_emptied, "fresh", "fresh"),
    Case(completed, "ours", "allowed"),
    Case(foreign, None, "allowed"),
    Case(completed_and_added_to, None, "allowed"),
    Case(completed_and_taken_from, None, "allowed"),
    Case(aborted, None, "allowed"),
]


@CHOICES
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.before.__name__)
def test_each_row_of_the_table(nights: Nights, case: Case, choice: Choice) -> None:
    case.before(nights)
    nights.run(CHANGED)
    before = [] if case.before is nothing else nights.loaded()
    row = case.allowed if choice is ALLOW else case.row

    told = nights.migrate(code=1 if row is None else 0, choice=choice)

    if row is None:
        assert "rows that may not be ours" in told["error"]
        assert "run once with --allow-truncate" in told["error"]
        assert nights.loaded() == before
        return
    assert nights.loaded() == nights.rows()
    assert_recorded(nights, row, "--allow-truncate" if choice is ALLOW else None, len(before))


def assert_recorded(nights: Nights, row: str, allowed_by: str | None, removed: int) -> None:
    """The newest load says what was decided and, if it came to that, who removed what and when."""
    decision = nights.decision()
    assert decision.pop("reason")
    decided = {"row": row, "allowed_by": allowed_by}
    if row not in ("ours", "allowed"):
        assert decision == {"action": "keep", **decided}
        return
    assert nights.database.value(
        "SELECT clock_timestamp() - %s::timestamptz BETWEEN '0' AND '1 min'", [decision.pop("at")]
    )
    by = f"{getpass.getuser()}@{socket.gethostname()}"
    done = {"rows_removed": removed, "by": by, "role": "postgres"}
    assert decision == {"action": "truncate", **decided, **done}


def test_the_config_allows_it_as_the_command_does(nights: Nights) -> None:
    completed_and_added_to(nights)
    nights.migrate(allow_truncate=True)
    assert nights.loaded() == nights.rows()
    assert_recorded(nights, "allowed", "allow_truncate of the table", 101)


def test_the_command_refuses_and_does_as_its_message_says(nights: Nights) -> None:
    foreign(nights)
    refused = command(nights.config(), "migrate")
    assert refused.returncode == FAILED
    assert "no run recorded them" in refused.stderr
    assert "--allow-truncate" in refused.stderr
    assert len(nights.loaded()) == 1
    done = command(nights.config(), "migrate", "--allow-truncate")
    assert done.returncode == 0, done.stderr
    assert "truncated public.T: 1 rows removed" in done.stderr
    assert nights.loaded() == nights.rows()


@CHOICES
def test_what_a_failed_run_wrote_is_kept_when_it_goes_on(nights: Nights, choice: Choice) -> None:
    failed(nights)
    with snowmelt.open(load_config(nights.config(), environ={})) as mover:
        (table,) = mover.plan(choice).tables
    assert (table.truncation.action, table.truncation.row) == ("keep", "resume")
    assert nights.migrate(choice=choice)["resumed"]
    assert nights.loaded() == nights.rows()
    assert_recorded(nights, "fresh", None, 0)


@pytest.mark.parametrize("allow", [False, True])
def test_what_an_unfinished_run_wrote_is_not_taken_from_it(nights: Nights, allow: bool) -> None:
    failed(nights)
    before = nights.loaded()
    told = nights.migrate(code=1, choice=Choice(resume=False, allow_truncate=allow))
    run_id = nights.database.value("SELECT run_id FROM migration_status.run")
    assert f"snowmelt abort {run_id}" in told["error"]
    assert nights.loaded() == before


def test_nothing_is_truncated_without_the_setting(nights: Nights) -> None:
    """Nor with leave to do so."""
    completed(nights)
    before = nights.loaded()
    told = nights.migrate(code=1, choice=ALLOW, mode="append")
    assert "mode append could double them" in told["error"]
    assert nights.loaded() == before
    nights.migrate(choice=ALLOW, mode="insert_only", uniqueness_columns=["id"])
    assert nights.loaded() == before
    assert_recorded(nights, "not-configured", "--allow-truncate", 0)


@pytest.mark.parametrize(
    ("mode", "before"), [("upsert", foreign), ("insert_only", completed_and_added_to)]
)
def test_rows_that_are_not_ours_stay_where_going_on_can_not_double_them(
    nights: Nights,
    mode: str,
    before: Callable[[Nights], None],
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A warning says so each night, until they are removed as it says."""
    before(nights)
    keyed: dict[str, Any] = {"mode": mode, "truncate_onstart": True, "uniqueness_columns": ["id"]}
    for row in ("foreign-rows" if before is foreign else "lost-resume", "lost-resume"):
        caplog.clear()
        nights.migrate(**keyed)
        stranger, *others = nights.loaded()
        assert stranger[2] == "foreign"
        assert others == nights.rows()
        assert nights.decision()["row"] == row
        (warning,) = [one.getMessage() for one in caplog.records if one.levelname == "WARNING"]
        assert warning.startswith("public.T: the rows are preserved")
        assert warning.endswith("run once with --allow-truncate")
    nights.migrate(choice=ALLOW, **keyed)
    assert nights.loaded() == nights.rows()
    nights.migrate(**keyed)
    assert nights.decision()["row"] == "ours"


# --- what is not known ----------------------------------------------------------------------------


@contextmanager
def as_role(nights: Nights, *grants: LiteralString) -> Iterator[Database]:
    """Runs go by a role of its own with these rights; gives the database as its owner has it."""
    owner, role = nights.database, sql.Identifier(f"limited_{nights.database.name}")
    statements: list[LiteralString] = ["CREATE ROLE {} LOGIN PASSWORD 'x'", *grants]
    with owner.connect() as connection:
        for statement in statements:
            connection.execute(sql.SQL(statement).format(role))
        create: LiteralString = "GRANT CREATE ON DATABASE {} TO {}"
        connection.execute(sql.SQL(create).format(sql.Identifier(owner.name), role))
    dsn = make_conninfo(owner.dsn, user=f"limited_{owner.name}", password="x")
    nights.database = Database(owner.name, dsn)
    try:
        yield owner
    finally:
        nights.database = owner


@CHOICES
def test_a_target_that_may_not_be_read_stops_a_run(nights: Nights, choice: Choice) -> None:
    foreign(nights)
    with as_role(nights, 'GRANT INSERT, TRUNCATE ON "T" TO {}') as owner:
        told = nights.migrate(code=1, choice=choice)["error"]
        assert "whether the target has rows could not be found out: permission denied" in told
        assert len(owner.execute('SELECT * FROM "T"')) == 1
        remedy = told.rpartition("→ ")[2]
        assert remedy.endswith(f'GRANT SELECT ON "public"."T" TO "limited_{owner.name}";')
        with owner.connect() as connection:
            connection.execute(remedy.encode())
        nights.migrate(code=0 if choice is ALLOW else 1, choice=choice)
    assert len(nights.loaded()) == (100 if choice is ALLOW else 1)


@CHOICES
def test_a_ledger_that_may_not_be_read_stops_a_run(nights: Nights, choice: Choice) -> None:
    completed(nights)
    before = nights.loaded()
    with as_role(nights, 'GRANT ALL ON "T" TO {}', "GRANT USAGE ON SCHEMA migration_status TO {}"):
        told = nights.migrate(code=1, choice=choice)["error"]
    assert "lacks SELECT on migration_status.load, which the ledger" in told
    assert "GRANT SELECT ON TABLE migration_status.load TO" in told
    assert nights.loaded() == before


@pytest.mark.parametrize("before", [foreign, completed])
def test_a_right_that_is_missing_is_said_before_anything_is_done(
    nights: Nights, before: Callable[[Nights], None]
) -> None:
    """TRUNCATE is asked for where it comes to that, and not else."""
    before(nights)
    left = nights.loaded()
    grants: list[LiteralString] = ['GRANT SELECT, INSERT ON "T" TO {}']
    if before is completed:
        grants += [
            "GRANT USAGE ON SCHEMA migration_status TO {}",
            "GRANT ALL ON ALL TABLES IN SCHEMA migration_status TO {}",
        ]
    with as_role(nights, *grants) as owner:
        plain, allowed = (nights.migrate(code=1, choice=one)["error"] for one in (Choice(), ALLOW))
    lacking = f'GRANT TRUNCATE ON TABLE public."T" TO limited_{owner.name}'
    assert lacking in allowed
    assert (lacking in plain) is (before is completed)
    assert nights.loaded() == left


def test_rows_that_can_not_be_counted_stop_a_run_until_it_is_allowed(
    nights: Nights, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The role's statement_timeout ends the count; the one that is recorded is waited for."""
    completed(nights)

    def slow(connection: psycopg.Connection, target: TargetTable) -> int:
        # Longer than any limit there is; what else the run asks is far from the role's.
        for (limit,) in connection.execute("SHOW statement_timeout").fetchall():
            if limit != "0":
                connection.execute("SET LOCAL statement_timeout = '50ms'")
                connection.execute("SELECT pg_sleep(60)")
        return count_within(connection, target)

    monkeypatch.setattr(ddl, "count_within", slow)
    monkeypatch.setattr(truncate, "count_within", slow)
    role: LiteralString = "ALTER ROLE postgres IN DATABASE {} SET statement_timeout = '1min'"
    with nights.database.connect() as connection:
        connection.execute(sql.SQL(role).format(sql.Identifier(nights.database.name)))
    nights.run(CHANGED)
    before = nights.loaded()
    told = nights.migrate(code=1)["error"]
    assert "the rows of the target could not be counted" in told
    assert "statement_timeout" in told
    assert "--allow-truncate" in told
    assert nights.loaded() == before
    nights.migrate(choice=ALLOW)
    assert nights.loaded() == nights.rows()
    assert_recorded(nights, "allowed", "--allow-truncate", 100)
