"""A target that is reached by TLS alone: what holds over plain TCP holds over it."""

from __future__ import annotations

import itertools
import json
import signal
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import boto3
import psycopg
import pytest
from moto import mock_aws
from psycopg.conninfo import conninfo_to_dict

from snowmelt.aws.lambda_handler import handler
from snowmelt.demo.proof import prove
from snowmelt.errors import ConnectionLost, RunError, SnowmeltError
from snowmelt.postgres.connect import Server, Session
from tests.acceptance.certificates import Pair
from tests.acceptance.processes import (
    Background,
    Gate,
    by_day,
    chunk_states,
    completed,
    create_target,
    end_leases,
    minutes,
    wait_until,
)
from tests.acceptance.proxy import Proxy
from tests.acceptance.secured import HOST, Secured, installed
from tests.acceptance.test_cut_off import (  # noqa: F401
    SOON,
    leaving_nothing,
    slice_of,
    standin,
    test_a_statement_at_the_target,
)
from tests.support import Database, config_for, snowmelt, write_config

ROWS, CHUNKS = 7_200, 6  # five days, and the chunk of NULL keys
BY_CERTIFICATE = "by_certificate"

pytestmark = pytest.mark.skipif(installed() is None, reason="Debian's PostgreSQL is not installed")
_numbers = itertools.count(1)


@pytest.fixture(scope="module")
def secured() -> Iterator[Secured]:
    with Secured.started() as server:
        yield server


@pytest.fixture
def database(secured: Secured) -> Database:
    """In place of the one without TLS, for the tests from other files too."""
    name = f"test_{next(_numbers)}"
    secured.server.create_database(name)
    return Database(name, secured.dsn(name))


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return minutes(tmp_path / "a.duckdb", ROWS, "t")


def by_keys(database: Database, folder: Path, source: Path, **postgres: object) -> Path:
    """A config with the keys of the postgres block, in place of a dsn."""
    parts = conninfo_to_dict(database.dsn)
    block: dict[str, object] = {
        key: parts[key] for key in ("host", "port", "user", "password") if key in parts
    }
    document = config_for(database, source, by_day("t"), parallel_threads=3)
    block |= {"port": int(str(block["port"])), "database": database.name, **postgres}
    kept = {key: value for key, value in block.items() if value is not None}
    return write_config(folder, {**document, "postgres": kept})


def encrypted(database: Database) -> set[tuple[object, ...]]:
    """Whether each backend of the database but ours speaks TLS, and as which client."""
    return set(
        database.execute(
            "SELECT ssl, client_dn FROM pg_stat_ssl JOIN pg_stat_activity USING (pid) "
            "WHERE datname = current_database() AND pid <> pg_backend_pid() "
            "AND backend_type = 'client backend'"
        )
    )


def loaded(database: Database) -> int:
    return int(database.value("SELECT count(*) FROM t"))


def test_a_migration_and_its_channel_binding(
    secured: Secured, database: Database, source: Path, tmp_path: Path
) -> None:
    dsn = secured.dsn(database.name, channel_binding="require")
    document = config_for(Database(database.name, dsn), source, by_day("t"), parallel_threads=3)
    create_target(database, "t")
    with (
        Gate.before(database, "t") as gate,
        Background(write_config(tmp_path, document), "migrate") as run,
    ):
        gate.holds(3)
        assert {one for one, _ in encrypted(database)} == {True}
        beats = "SELECT max(heartbeat_at) FROM migration_status.worker"
        first = database.value(beats)
        wait_until(lambda: database.value(beats) > first, "a heartbeat")
        gate.open()
        ended = run.end()
    assert ended.code == 0, ended.err
    assert prove(source, "t", database.dsn, "public", "t").agrees


def test_killed_and_resumed_with_a_client_certificate(
    secured: Secured, database: Database, source: Path, tmp_path: Path
) -> None:
    with database.connect() as connection:
        connection.execute("DROP ROLE IF EXISTS by_certificate")
        connection.execute("CREATE ROLE by_certificate LOGIN SUPERUSER")
    pair = secured.authority.issue(BY_CERTIFICATE)
    root = secured.authority.certificate
    create_target(database, "t")
    files: dict[str, object] = {"sslcert": str(pair.certificate), "sslkey": str(pair.key)}
    texts = {"sslcert": pair.certificate.read_text(), "sslkey": _on_one_line(pair)}
    login = {"user": BY_CERTIFICATE, "password": None, "sslmode": "verify-full"}
    with (
        Gate.before(database, "t") as gate,
        Background(
            by_keys(database, tmp_path, source, **login, **files, sslrootcert=str(root)), "migrate"
        ) as run,
    ):
        gate.holds(3)
        assert (True, f"/CN={BY_CERTIFICATE}") in encrypted(database)
        gate.open()
        wait_until(lambda: completed(database), "a chunk")
        gate.close()
        run.send(signal.SIGKILL)
    end_leases(database)
    document = by_keys(database, tmp_path, source, **login, **texts, sslrootcert=root.read_text())
    resumed = snowmelt(document, "migrate")
    assert resumed.returncode == 0, resumed.stderr
    assert chunk_states(database) == {"completed": CHUNKS}
    assert prove(source, "t", database.dsn, "public", "t").agrees
    assert "BEGIN" not in resumed.stderr + resumed.stdout


def _on_one_line(pair: Pair) -> str:
    """As a key comes out of a store that does not keep lines."""
    return pair.key.read_text().replace("\n", "\\n")


def test_an_outage_is_waited_out(
    secured: Secured, database: Database, source: Path, tmp_path: Path
) -> None:
    create_target(database, "t")
    config = write_config(
        tmp_path, config_for(database, source, by_day("t"), parallel_threads=2, outage_seconds=60)
    )
    with Gate.before(database, "t") as gate, Background(config, "migrate") as run:
        gate.holds(2)
        secured.server.restart()
        ended = run.end()
    assert ended.code == 0, ended.err
    assert prove(source, "t", database.dsn, "public", "t").agrees


def test_who_has_been_there_waits_out_what_tls_is_in_the_way_of(
    secured: Secured, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was no error of the config: a certificate is replaced, or a proxy comes back in parts."""
    refusals: list[SnowmeltError] = []
    connect = Server.connect

    def noted(server: Server) -> psycopg.Connection:
        try:
            return connect(server)
        except SnowmeltError as error:
            refusals.append(error)
            raise

    monkeypatch.setattr(Server, "connect", noted)
    session = Session(Server.of({}, dsn=database.dsn, outage_seconds=60))
    assert session.connection
    session.close()
    opening = threading.Thread(target=lambda: session.connection)
    with secured.showing(secured.authority.issue("elsewhere", "elsewhere.example")):
        opening.start()
        wait_until(lambda: refusals, "a refusal")
    opening.join(60)
    assert not session.connection.closed
    session.close()
    assert isinstance(refusals[0], RunError)
    assert "does not match host name" in str(refusals[0])


def _statement(connection: psycopg.Connection) -> None:
    connection.execute("SELECT pg_sleep(60)")


def _copy_that_waits(connection: psycopg.Connection) -> None:
    """The server works on what it has, and this side can't send more."""
    with connection.cursor().copy("COPY slow FROM STDIN") as copy:
        while True:
            copy.write(b"1\n" * 500_000)


class Working:
    """A session at work in a thread of its own; `ended` has what it ended with."""

    def __init__(self, dsn: str, work: Callable[[psycopg.Connection], None]) -> None:
        self.session = Session(Server.of({}, dsn=dsn))
        self.ended: list[BaseException] = []
        self.thread = threading.Thread(target=self._run, args=[work])
        self.thread.start()

    def _run(self, work: Callable[[psycopg.Connection], None]) -> None:
        try:
            with self.session.transaction() as connection:
                work(connection)
        except BaseException as error:  # noqa: BLE001
            self.ended.append(error)

    def is_interrupted(self) -> None:
        self.session.interrupt()
        self.thread.join(SOON)
        assert not self.thread.is_alive()
        assert isinstance(self.ended[0], ConnectionLost)


@pytest.fixture
def slow(database: Database) -> Database:
    """With a table that takes a minute for a row."""
    database.execute("CREATE TABLE slow (id int)")
    database.execute(
        "CREATE FUNCTION late() RETURNS trigger LANGUAGE plpgsql AS "
        "'BEGIN PERFORM pg_sleep(60); RETURN NEW; END'"
    )
    database.execute(
        "CREATE TRIGGER late BEFORE INSERT ON slow FOR EACH ROW EXECUTE FUNCTION late()"
    )
    return database


def asleep(database: Database) -> bool:
    counted = (
        "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'PgSleep' "
        "AND datname = current_database()"
    )
    return bool(database.value(counted))


@pytest.mark.parametrize("work", [_statement, _copy_that_waits])
def test_interrupted_from_another_thread(
    slow: Database, work: Callable[[psycopg.Connection], None]
) -> None:
    working = Working(slow.dsn, work)
    wait_until(lambda: asleep(slow), "the server to be at work")
    working.is_interrupted()
    wait_until(lambda: not asleep(slow), "the end of the backend")
    with working.session.transaction() as connection:
        assert connection.execute("SELECT 1").fetchone() == (1,)
    working.session.close()


def test_interrupted_while_the_network_is_gone(
    slow: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("snowmelt.postgres.connect.CANCEL_SECONDS", 1)
    with Proxy.before(slow.dsn) as proxy:
        working = Working(proxy.of(slow.dsn), _copy_that_waits)
        wait_until(lambda: asleep(slow), "the server to be at work")
        proxy.swallow()
        working.is_interrupted()


def test_the_cut_of_a_copy(database: Database, source: Path, tmp_path: Path) -> None:
    create_target(database, "t")
    config = write_config(tmp_path, config_for(database, source, by_day("t"), parallel_threads=2))
    with Gate.before(database, "t") as gate:
        with leaving_nothing():
            report = slice_of(config, 1.5)
        assert report.slice is not None
        assert "cut off: chunk" in (report.slice.reason or "")
        wait_until(lambda: not gate.held(), "the end of the backends")
        gate.open()
    assert slice_of(config, 60).exit_code == 0
    assert loaded(database) == ROWS


@mock_aws
def test_the_function_with_secrets(
    secured: Secured,
    database: Database,
    source: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-central-1")
    monkeypatch.setenv("AWS_LAMBDA_RUNTIME_API", "127.0.0.1:9001")
    monkeypatch.setenv("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", "2048")
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "testing")
    secret = {"password": str(conninfo_to_dict(database.dsn)["password"])}
    secrets = boto3.client("secretsmanager")
    secrets.create_secret(Name="db", SecretString=json.dumps(secret))
    path = by_keys(
        database,
        tmp_path,
        source,
        password="${secret:db#password}",
        sslmode="verify-full",
        sslrootcert=str(secured.authority.certificate),
    )
    monkeypatch.setenv("SNOWMELT_CONFIG", str(path))

    def answer(action: str) -> Any:
        return handler({"action": action})["body"]

    assert answer("validate_config")["status"] == "completed"
    assert answer("test_connections")["connections"][0].startswith(f"PostgreSQL {HOST}")
    assert answer("migrate")["rows"] == ROWS
    assert loaded(database) == ROWS
