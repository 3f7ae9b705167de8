"""A target that TLS keeps from being reached: the message says of what, and what to do."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pytest
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from snowmelt.aws.errors import ConfigError, FatalError
from snowmelt.aws.lambda_handler import handler
from snowmelt.demo.postgres import LocalPostgres
from snowmelt.errors import ConnectionLost, RunError, SnowmeltError, UsageError
from snowmelt.postgres.connect import Server
from tests.acceptance.certificates import Authority
from tests.acceptance.processes import FAILED, USAGE, messages_in, wait_until
from tests.acceptance.secured import HOST, Secured, installed
from tests.support import Database, config_for, duckdb_file, snowmelt, write_config

ROLE = "by_certificate"

pytestmark = pytest.mark.skipif(installed() is None, reason="Debian's PostgreSQL is not installed")


@pytest.fixture(scope="module")
def secured() -> Iterator[Secured]:
    with Secured.started() as server:
        role = sql.SQL("CREATE ROLE {} LOGIN SUPERUSER").format(sql.Identifier(ROLE))
        with Database("postgres", server.dsn("postgres")).connect() as connection:
            connection.execute(role)
        yield server


@dataclass(frozen=True, slots=True)
class Place:
    """The server with TLS alone, the one without any, and a CA that neither knows."""

    secured: Secured
    plain: LocalPostgres
    stranger: Authority
    folder: Path

    def client(self, ca: Authority, name: str, **parameters: str) -> str:
        pair = ca.issue(name)
        files = {"sslcert": str(pair.certificate), "sslkey": str(pair.key)}
        return self.secured.dsn("postgres", user=ROLE, **{**files, **parameters})

    def no_pem(self) -> str:
        path = self.folder / "no.pem"
        path.write_text("no certificate")
        return str(path)

    def open_key(self) -> str:
        dsn = self.client(self.secured.authority, "open")
        Path(str(conninfo_to_dict(dsn)["sslkey"])).chmod(0o644)
        return dsn


@pytest.fixture
def place(secured: Secured, postgres: LocalPostgres, tmp_path: Path) -> Place:
    return Place(secured, postgres, Authority.new(tmp_path / "stranger", "stranger"), tmp_path)


WRONG: dict[str, tuple[Callable[[Place], str], type[SnowmeltError], str, str]] = {
    "the server has no TLS": (
        lambda place: make_conninfo(place.plain.dsn(), sslmode="require"),
        RunError,
        "server does not support SSL, but SSL was required",
        "turn TLS on at the server",
    ),
    "the server has TLS alone": (
        lambda place: place.secured.dsn("postgres", sslmode="disable"),
        RunError,
        "no encryption",
        "set sslmode: verify-full",
    ),
    "not of this CA": (
        lambda place: place.secured.dsn(
            "postgres", sslrootcert=str(place.stranger.certificate), sslmode="verify-ca"
        ),
        RunError,
        "the server's certificate is not of a CA in ",
        "into the file of sslrootcert",
    ),
    "not of the system's CAs": (
        lambda place: place.secured.dsn("postgres", sslrootcert="system"),
        RunError,
        "the server's certificate is not of a CA in ",
        "into the file of sslrootcert",
    ),
    "another host": (
        lambda place: place.secured.dsn("postgres", host="db.invalid", hostaddr="127.0.0.1"),
        RunError,
        'does not match host name "db.invalid"',
        "set host to a name that the certificate has",
    ),
    "no file": (
        lambda place: place.secured.dsn("postgres", sslrootcert="/nowhere/ca.pem"),
        UsageError,
        'root certificate file "/nowhere/ca.pem" does not exist',
        "set sslrootcert",
    ),
    "no certificates": (
        lambda place: place.secured.dsn("postgres", sslrootcert=place.no_pem()),
        UsageError,
        "could not read root certificate file",
        "certificates in PEM",
    ),
    "system without verify-full": (
        lambda place: place.secured.dsn("postgres", sslrootcert="system", sslmode="require"),
        UsageError,
        'weak sslmode "require"',
        "set sslmode: verify-full",
    ),
    "no channel to bind to": (
        lambda place: make_conninfo(place.plain.dsn(), channel_binding="require"),
        RunError,
        "channel binding required, but SSL not in use",
        "needs TLS to the server itself",
    ),
    "no client certificate": (
        lambda place: place.secured.dsn("postgres", user=ROLE),
        RunError,
        "connection requires a valid client certificate",
        "give sslcert and sslkey",
    ),
    "the certificate of another": (
        lambda place: place.client(place.secured.authority, "somebody"),
        RunError,
        "certificate authentication failed",
        "common name (CN)",
    ),
    "a client's certificate of another CA": (
        lambda place: place.client(place.stranger, ROLE),
        RunError,
        "alert unknown ca",
        "of a CA that it knows",
    ),
    "a key of another": (
        lambda place: place.client(
            place.secured.authority, ROLE, sslkey=str(place.stranger.issue("x").key)
        ),
        UsageError,
        "could not load private key file",
        "its own private key",
    ),
    "a key for all": (Place.open_key, UsageError, "has group or world access", "chmod 600"),
    "a wrong password": (
        lambda place: make_conninfo(
            place.secured.dsn("postgres", password="wrong"), sslmode="prefer"
        ),
        ConnectionLost,
        "password authentication failed",
        "are host, user and password right",
    ),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_keeps_a_target_from_being_reached(place: Place, case: str) -> None:
    dsn, kind, what, remedy = WRONG[case]
    with pytest.raises(SnowmeltError) as caught:
        Server.of({}, dsn=dsn(place)).connect()
    assert type(caught.value) is kind
    assert "can't connect to PostgreSQL at " in caught.value.what
    assert what in caught.value.what
    assert "\n" not in caught.value.what
    assert remedy in (caught.value.remedy or "")


def test_a_certificate_that_has_expired(place: Place) -> None:
    server = Server.of({}, dsn=place.secured.dsn("postgres"))
    expired = place.secured.authority.issue("expired", HOST, expired=True)
    with place.secured.showing(expired):
        wait_until(lambda: _fails(server), "the other certificate")
        with pytest.raises(RunError, match="is not valid now: certificate has expired") as caught:
            server.connect()
        assert "renew the certificate of the server" in (caught.value.remedy or "")
    wait_until(lambda: not _fails(server), "the first certificate")


def _fails(server: Server) -> bool:
    try:
        server.connect().close()
    except RunError:
        return True
    return False


def test_the_system_is_whom_a_variable_says(
    secured: Secured, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(secured.authority.certificate))
    dsn = make_conninfo(secured.server.dsn(), host=HOST)
    with Server.of({"sslrootcert": "system"}, dsn=dsn).connect() as connection:
        assert connection.pgconn.ssl_in_use


def test_commands_and_the_function(
    place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = duckdb_file(tmp_path / "a.duckdb", "CREATE TABLE t AS SELECT 1 AS id")

    def config(name: str, **postgres: object) -> Path:
        (tmp_path / name).mkdir()
        document = config_for(Database("postgres", ""), source, {"source": "t"})
        return write_config(tmp_path / name, {**document, "postgres": postgres})

    no_tls = config("a", dsn=WRONG["the server has no TLS"][0](place))
    unknown = config("b", dsn=WRONG["not of this CA"][0](place))
    missing = config("c", host=HOST, database="d", sslmode="require", sslrootcert="/nowhere/ca.pem")
    expected = [
        (no_tls, "migrate", FAILED, "server does not support SSL"),
        (unknown, "check", FAILED, "is not of a CA in"),
        (missing, "plan", USAGE, "postgres.sslrootcert (line 1): names the file /nowhere/ca.pem"),
    ]
    with ThreadPoolExecutor(len(expected)) as pool:
        done = pool.map(lambda one: snowmelt(one[0], one[1]), expected)
    for (_, _, code, says), ended in zip(expected, done, strict=True):
        told = ended.stdout + ended.stderr
        assert (ended.returncode, messages_in(told)) == (code, 1), told
        assert says in told
        assert "Traceback" not in told

    for path, action, kind in (
        (no_tls, "test_connections", FatalError),
        (unknown, "migrate", FatalError),
        (missing, "validate_config", ConfigError),
    ):
        monkeypatch.setenv("SNOWMELT_CONFIG", str(path))
        with pytest.raises(kind) as caught:
            handler({"action": action})
        assert type(caught.value) is kind
        json.dumps(str(caught.value))
