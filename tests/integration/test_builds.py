"""Indexes built by several sessions at once, watched, and given up half-way."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import pytest

from snowmelt.errors import RetriableError
from snowmelt.model import TargetTable
from snowmelt.ports import Building
from snowmelt.postgres import watching
from snowmelt.postgres.builds import Builds
from snowmelt.postgres.connect import Server, Session
from snowmelt.postgres.migrations import migrate_ledger
from snowmelt.postgres.monitoring import ask
from snowmelt.postgres.post_data import indexes
from tests.acceptance.processes import wait_until
from tests.support import Database

TABLE = TargetTable("", "public", "t")
MADE: Any = """
    CREATE TABLE t (id bigint, n int);
    INSERT INTO t SELECT i, i % 7 FROM generate_series(1, 50000) i;
    CREATE FUNCTION held(bigint) RETURNS bigint IMMUTABLE LANGUAGE plpgsql AS
        'BEGIN IF $1 = 40000 THEN PERFORM pg_advisory_lock_shared(77); END IF; RETURN $1; END';
    CREATE INDEX slow ON t (held(id));
    CREATE INDEX quick ON t (n);
    ALTER TABLE t ADD CONSTRAINT t_key PRIMARY KEY (id);
"""


@pytest.fixture
def sessions(database: Database) -> Iterator[tuple[Session, Session]]:
    server = Server.of({}, dsn=database.dsn)
    first, second = Session(server), Session(server)
    migrate_ledger(first)
    yield first, second
    first.close()
    second.close()


def dropped(database: Database, session: Session) -> list[Any]:
    """A table whose indexes are all gone, and noted; returns what they were."""
    database.execute(MADE)
    before = shape(database)
    with session.transaction() as connection:
        there = indexes(connection, TABLE)
        builds = Builds(session, TABLE, TABLE)
        builds.note(connection, 1, {index.name: index for index in there}, dropped=True)
        for index in there:
            connection.execute(index.drop(TABLE))
    return before


def shape(database: Database) -> list[Any]:
    told: Any = """SELECT indexrelid::regclass::text, pg_get_indexdef(indexrelid), indisprimary
                   FROM pg_index WHERE indrelid = 't'::regclass ORDER BY 1"""
    return database.execute(told)


def test_each_session_takes_another_and_a_dead_one_is_done_again(
    database: Database, sessions: tuple[Session, Session]
) -> None:
    first, second = sessions
    before = dropped(database, first)
    problems: list[BaseException] = []

    def build() -> None:
        builds = Builds(first, TABLE, TABLE)
        try:
            while builds.step():
                pass
        except RetriableError as error:
            problems.append(error)

    with database.connect() as gate:
        gate.execute("SELECT pg_advisory_lock(77)")
        thread = threading.Thread(target=build)
        thread.start()
        waits: Any = """SELECT pid FROM pg_locks WHERE locktype = 'advisory' AND NOT granted AND objid = 77
                        AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"""
        wait_until(lambda: database.execute(waits), "a build that is held")
        builds = Builds(second, TABLE, TABLE)
        while builds.step():
            pass
        assert set(builds.left()) == {"slow", "quick", "t_key"}  # built, and attached by nobody yet
        status = {row[2]: row[3] for row in ask(second, "index_builds").rows}
        assert status == {"slow": "building", "quick": "built", "t_key": "built"}
        database.execute("SELECT pg_terminate_backend(%s)", [database.value(waits)])
        thread.join()
        gate.execute("SELECT pg_advisory_unlock_all()")
    assert len(problems) == 1
    while builds.step():
        pass
    assert builds.left() == ()
    assert shape(database) == before


def test_who_asks_hears_how_far_it_is(
    database: Database, sessions: tuple[Session, Session], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watching, "LOOK_SECONDS", 0.01)
    first, _ = sessions
    dropped(database, first)
    heard: list[Building] = []
    builds = Builds(first, TABLE, TABLE)
    with database.connect() as gate:
        gate.execute("SELECT pg_advisory_lock(77)")
        thread = threading.Thread(
            target=lambda: [None for _ in iter(lambda: builds.step(heard.append), False)]
        )
        thread.start()
        wait_until(lambda: any(one.phase and one.share for one in heard), "a share that is built")
        gate.execute("SELECT pg_advisory_unlock_all()")
        thread.join()
    assert {one.name for one in heard} == {"slow", "quick", "t_key"}
    assert all(0 <= one.share <= 1 for one in heard if one.share is not None)
