"""What is known of a server and of the ledger's place, by any role, as the server then acts."""

from __future__ import annotations

import re
import shutil
import struct
from importlib import resources
from pathlib import Path
from uuid import uuid4

import psycopg
import pytest
from psycopg.conninfo import make_conninfo

from snowmelt.demo.postgres import LocalPostgres
from snowmelt.errors import ConnectionLost, Refused, SnowmeltError
from snowmelt.model import Identity
from snowmelt.postgres import capacity
from snowmelt.postgres.connect import Server, Session
from snowmelt.postgres.migrations import migrate_ledger
from snowmelt.postgres.runs import PostgresRuns
from snowmelt.postgres.server import look_at_server
from snowmelt.preflight.server import ServerSurroundings, server_problems
from tests.conftest import SETTINGS
from tests.integration.around import Place, place, server
from tests.support import Database

__all__ = ["place", "server"]
OLD = Path(__file__).parents[1] / "data" / "running_system_ledger.sql"


def seen(place: Place, role: str | None = None) -> ServerSurroundings:
    return look_at_server(place.session(role))


def lacking(place: Place) -> list[str]:
    return [refusal.remedy for refusal in server_problems(seen(place, place.role)).refusals]


def test_what_a_server_is(place: Place, server: LocalPostgres) -> None:
    found = seen(place)
    assert found.version.startswith(f"{server.version}.")
    assert (found.database, found.read_only, found.unknown) == (place.database.name, False, ())
    assert found.database_bytes == place.database.value(
        "SELECT pg_database_size(current_database())"
    )
    assert found.free_bytes is not None
    free = shutil.disk_usage(server.log.parent).free
    assert abs(found.free_bytes - free) < 1 << 30
    (line, used, size, disk) = server_problems(found).notes
    assert line == f"PostgreSQL {found.version}"
    assert used.endswith("of 60 connections are in use")
    assert size.startswith(f"the database {place.database.name} takes")
    assert disk.endswith("free on the server's disk")


@pytest.mark.parametrize("encoding", ["LATIN1", "SQL_ASCII", "UTF8"])
@pytest.mark.parametrize("client", ["", "utf8", "latin1"])
def test_texts_are_taken_for_what_they_are_whatever_the_database_s_encoding_is(
    place: Place, encoding: str, client: str
) -> None:
    name = f"{encoding.lower()}_{place.database.name}"
    place.run(f"CREATE DATABASE {name} ENCODING '{encoding}' LOCALE 'C' TEMPLATE template0")
    dsn = make_conninfo(place.database.dsn, dbname=name, client_encoding=client or None)
    session = Session(Server.of({}, dsn=dsn))
    place.stack.callback(session.close)
    told = server_problems(look_at_server(session))

    session.connection.execute("CREATE TABLE t (v text)")
    with session.connection.cursor().copy("COPY t FROM STDIN (FORMAT binary)") as copy:
        sent = "é".encode()
        one = struct.pack(f">hi{len(sent)}s", 1, len(sent), sent)
        copy.write(b"PGCOPY\n\xff\r\n\0" + bytes(8) + one + b"\xff\xff")
    stored = session.connection.execute("SELECT convert_to(v, 'UTF8'), 'a'::text FROM t").fetchone()

    assert told.refusals == ()
    assert stored == (sent, "a")
    assert ("encoding is LATIN1" in told.notes[1]) == (encoding == "LATIN1")


def test_the_disk_is_seen_over_a_socket_too(place: Place, server: LocalPostgres) -> None:
    over_socket = Database("postgres", server.dsn(over_socket=True))
    session = Place(over_socket, place.role, place.stack).session()
    assert look_at_server(session).free_bytes is not None


@pytest.mark.parametrize(
    ("what", "answer", "why"),
    [
        ("_runs_here", lambda pid: False, "it is on another machine"),
        ("_is_here", lambda connection: False, "it is on another machine"),
        ("_loops_back", lambda address: False, "it is on another machine"),
    ],
)
def test_the_disk_of_another_machine_is_not_this_one_s(
    place: Place, monkeypatch: pytest.MonkeyPatch, what: str, answer: object, why: str
) -> None:
    monkeypatch.setattr(capacity, what, answer)
    found = seen(place)
    assert found.free_bytes is None
    assert found.unknown == (f"how much disk is free on the server ({why})",)
    assert f"not known: {found.unknown[0]}" in server_problems(found).notes


def test_a_folder_that_is_not_here_is_no_disk(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(capacity, "_FOLDER", "SELECT NULL, pg_backend_pid(), '/nowhere/at/all'")
    found = seen(place)
    assert found.free_bytes is None
    assert "/nowhere/at/all can't be seen from here" in found.unknown[0]


@pytest.mark.parametrize(
    ("address", "here"),
    [(None, True), ("127.0.0.1", True), ("::1", True), ("10.0.0.7", False), ("", False)],
)
def test_which_addresses_are_this_machine(address: str | None, here: bool) -> None:
    assert capacity._loops_back(address) == here


def test_a_role_without_rights_is_told_what_it_may_not_know(place: Place) -> None:
    found = seen(place, place.role)
    assert found.free_bytes is None
    assert "the role may not read data_directory" in found.unknown[0]
    assert (found.database_bytes or 0) > 0
    place.run(f"GRANT pg_read_all_settings TO {place.role}")
    assert seen(place, place.role).free_bytes is not None
    place.run(
        "REVOKE EXECUTE ON FUNCTION pg_database_size(name) FROM PUBLIC",
        "REVOKE SELECT ON pg_stat_activity FROM PUBLIC",
    )
    fewer = seen(place, place.role)
    assert (fewer.database_bytes, fewer.connections, fewer.max_connections) == (None, None, 60)
    assert len(fewer.unknown) == 2


def test_the_tightest_limit_of_connections_is_the_one_told(place: Place) -> None:
    others = [place.session(place.role) for _ in range(2)]
    for other in others:
        _ = other.connection

    def limits(role: str | None = None) -> tuple[int, int | None]:
        found = seen(place, role)
        return found.max_connections, found.connections

    most, used = limits()
    assert (most, used is not None and used >= 3) == (int(SETTINGS["max_connections"]), True)
    assert limits(place.role)[0] == 57  # three are kept for superusers
    place.run(f"ALTER DATABASE {place.database.name} CONNECTION LIMIT 9")
    assert limits(place.role)[0] == 9
    assert limits()[0] == 60
    place.run(f"ALTER ROLE {place.role} CONNECTION LIMIT 5")
    most, used = limits(place.role)
    assert most == 5
    assert used is not None
    # The session that counted is open still.
    opened = [place.session(place.role) for _ in range(most - used + 1)]
    for session in opened[:-1]:
        _ = session.connection
    with pytest.raises(ConnectionLost):
        _ = opened[-1].connection


def test_a_server_that_takes_no_writes(place: Place) -> None:
    place.run(f"ALTER ROLE {place.role} SET default_transaction_read_only = on")
    (*_, refusal) = server_problems(seen(place, place.role)).refusals
    assert "takes no writes" in refusal.what


# --- the ledger -----------------------------------------------------------------------------------


def keep(place: Place) -> None:
    """What a run does first, as the role."""
    session = place.session(place.role)
    migrate_ledger(session)
    PostgresRuns(session).open(uuid4(), Identity("c", "e", ("s",)), 1, {})


def grant(place: Place) -> None:
    """Do as the refusals say."""
    for remedy in lacking(place):
        assert remedy.startswith("GRANT ")
        place.run(remedy)


def test_a_ledger_is_made_once_the_role_may(place: Place) -> None:
    assert lacking(place) == [f"GRANT CREATE ON DATABASE {place.database.name} TO {place.role};"]
    with pytest.raises(Refused, match="can't be made"):
        keep(place)
    grant(place)
    assert lacking(place) == []
    keep(place)
    assert lacking(place) == []


def test_a_ledger_in_a_schema_that_is_there(place: Place) -> None:
    place.run("CREATE SCHEMA migration_status")
    assert [remedy.split()[1] for remedy in lacking(place)] == ["USAGE", "CREATE"]
    with pytest.raises(SnowmeltError, match="permission denied"):
        keep(place)
    grant(place)
    assert lacking(place) == []
    keep(place)


def test_a_ledger_of_another_role_is_kept_with_its_rights(place: Place) -> None:
    migrate_ledger(place.session())
    assert "GRANT USAGE ON SCHEMA migration_status" in lacking(place)[0]
    with pytest.raises(SnowmeltError, match="permission denied"):
        keep(place)
    grant(place)
    # The version of the ledger can be read only now.
    assert lacking(place) == []
    keep(place)


def test_a_ledger_to_upgrade_wants_its_owner(place: Place) -> None:
    with psycopg.connect(place.database.dsn, autocommit=True) as connection:
        connection.execute(OLD.read_bytes())
    place.run(f"GRANT USAGE, CREATE ON SCHEMA migration_status TO {place.role}")
    (refusal,) = server_problems(seen(place, place.role)).refusals
    assert f"make {place.role} the owner" in refusal.remedy
    with pytest.raises(Refused):
        keep(place)
    for kind, name in place.database.execute(
        "SELECT CASE relkind WHEN 'r' THEN 'TABLE' WHEN 'v' THEN 'VIEW' ELSE 'SEQUENCE' END, relname::text"
        " FROM pg_class WHERE relnamespace = 'migration_status'::regnamespace AND relkind IN ('r', 'v')"
    ):
        place.run(f"ALTER {kind} migration_status.{name} OWNER TO {place.role}")
    place.run(f"ALTER SCHEMA migration_status OWNER TO {place.role}")
    assert lacking(place) == []
    keep(place)


def statements() -> str:
    """Those that keep a ledger: what migrates it is for its owner."""
    text = resources.files("snowmelt.sql").joinpath("ledger.sql").read_text(encoding="utf-8")
    return re.sub(r"-- name: record_version\n.*?(?=\n-- name)", "", text, flags=re.DOTALL)


def test_the_rights_asked_for_are_those_that_the_ledger_s_statements_use(
    place: Place,
) -> None:
    migrate_ledger(place.session())
    found = {
        (grant.privilege, grant.name.removeprefix("migration_status."))
        for grant in seen(place, place.role).ledger_lacks
        if grant.kind == "TABLE"
    }
    used = set()
    for verb, right in (
        ("INSERT INTO", "INSERT"), ("COPY", "INSERT"), ("UPDATE", "UPDATE"), ("DELETE FROM", "DELETE"),
        ("FROM", "SELECT"), ("JOIN", "SELECT"),
    ):  # fmt: skip
        used |= {
            (right, name) for name in re.findall(rf"\b{verb} migration_status\.(\w+)", statements())
        }
    for statement in statements().split("-- name: "):
        if "DO UPDATE" in statement:
            used |= {
                ("UPDATE", name)
                for name in re.findall(r"\bINSERT INTO migration_status\.(\w+)", statement)
            }
    # A table that is written is read as well, and FOR UPDATE is no verb of its own.
    written = {name for _, name in used}
    assert found == used | {("SELECT", name) for name in written}
