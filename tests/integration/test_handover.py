"""What is sent for the server to end, and what it notes by itself."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from snowmelt.errors import Blocked, RunError
from snowmelt.model import TargetTable
from snowmelt.postgres.builds import Builds
from snowmelt.postgres.connect import Server, Session
from snowmelt.postgres.migrations import migrate_ledger
from snowmelt.postgres.post_data import ForeignKey, Index
from tests.support import Database

TABLE = TargetTable("", "public", """a 'b' "c" %s $$ \\""")
INDEX = Index("""i 'x' %(y)s $$ \\""", "btree (id)", ("id",))
NOTED = """SELECT begun_at IS NULL, built_at IS NOT NULL, attached_at IS NOT NULL, attempts, failed_at IS NOT NULL,
           error_message FROM migration_status.post_data"""


@pytest.fixture
def session(database: Database) -> Iterator[Session]:
    session = Session(Server.of({}, dsn=database.dsn))
    migrate_ledger(session)
    yield session
    session.close()


def noted(session: Session, one: Index | ForeignKey, rows: str = "1, 2, 3") -> Builds:
    with session.transaction() as connection:
        connection.execute(
            f'CREATE TABLE "a \'b\' ""c"" %s $$ \\" AS SELECT unnest(ARRAY[{rows}]) AS id'
        )
        builds = Builds(session, TABLE, TABLE)
        builds.note(connection, 1, {one.name: one}, dropped=True)
    return builds


def test_names_of_any_kind(database: Database, session: Session) -> None:
    builds = noted(session, INDEX)
    while builds.step(goes_on=True):
        pass
    assert database.execute(NOTED) == [(True, True, True, 0, False, None)]
    assert database.value("SELECT count(*) FROM pg_indexes WHERE indexname = %s", [INDEX.name]) == 1


@pytest.mark.parametrize(
    ("state", "fails", "attempts"),
    [("53200", False, 1), ("40P01", False, 1), ("23505", True, 1), ("P0004", True, 1)],
)
def test_what_it_meets_is_noted_and_heard(
    database: Database, session: Session, state: str, fails: bool, attempts: int
) -> None:
    database.execute(_failing(state))
    builds = noted(session, Index("odd", "btree (failing(id))"))
    assert builds.step(goes_on=True)
    ((*_, tried, failed, told),) = database.execute(NOTED)
    assert (tried, failed, told) == (attempts, fails, "what's wrong (and why)")
    assert database.value("SELECT begun_at IS NULL FROM migration_status.post_data")


def test_what_ends_the_run_is_raised(database: Database, session: Session) -> None:
    database.execute(_failing("53100"))
    builds = noted(session, Index("odd", "btree (failing(id))"))
    with pytest.raises(RunError, match="odd: what's wrong"):
        builds.step(goes_on=True)
    assert builds.failures() == {"odd": "what's wrong (and why)"}


def test_a_lock_that_is_not_to_be_had_is_no_attempt(
    database: Database, session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("snowmelt.postgres.builds.BUILD_LOCK_MS", 100)
    builds = noted(session, INDEX)
    with database.connect() as writer:
        writer.execute("BEGIN")
        writer.execute("""LOCK TABLE "a 'b' ""c"" %s $$ \\" IN ROW EXCLUSIVE MODE""")
        with pytest.raises(Blocked):
            builds.step(goes_on=True)
    assert database.execute(NOTED) == [(True, False, False, 0, False, None)]
    assert builds.step(goes_on=True)


def test_a_foreign_key_is_checked_so(database: Database, session: Session) -> None:
    database.execute("CREATE TABLE other (id int PRIMARY KEY)")
    builds = noted(session, ForeignKey("key", "FOREIGN KEY (id) REFERENCES other(id)"))
    assert builds.step(goes_on=True)
    assert builds.step(goes_on=True)
    assert "violates foreign key constraint" in builds.failures()["key"]
    database.execute("INSERT INTO other VALUES (1), (2), (3)")
    builds.reopen()
    assert builds.step(goes_on=True)
    assert builds.left() == ()
    assert database.value("SELECT convalidated FROM pg_constraint WHERE conname = 'key'")


def test_a_deadline_of_the_role_does_not_end_it(database: Database, session: Session) -> None:
    with session.transaction() as connection:
        connection.execute("SELECT set_config('statement_timeout', '200', false)")
        connection.execute("SELECT set_config('transaction_timeout', '300', false)")
    slow: Any = """CREATE FUNCTION slow(x int) RETURNS int LANGUAGE plpgsql IMMUTABLE AS
                   'BEGIN PERFORM pg_sleep(0.3); RETURN x; END'"""
    database.execute(slow)
    builds = noted(session, Index("odd", "btree (slow(id))"))
    assert builds.step(goes_on=True)
    assert database.value("SELECT built_at IS NOT NULL FROM migration_status.post_data")


def _failing(state: str) -> Any:
    return f"""CREATE FUNCTION failing(x int) RETURNS int LANGUAGE plpgsql IMMUTABLE AS
        'BEGIN RAISE EXCEPTION ''what''''s wrong'' USING ERRCODE = ''{state}'', DETAIL = ''and why''; END'"""
