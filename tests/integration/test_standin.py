"""The stand-in's protocol: logins, results in chunks, cancelling, limits, and each fault."""

from __future__ import annotations

import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import pyarrow as pa
import pytest
import snowflake.connector
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from snowflake.connector.errors import DatabaseError, Error, ProgrammingError

from snowmelt.standin.server import Faults, StandIn, StandInColumn, StandInUser

ROWS = 1_000
Connection = Any  # the connector has no types of its own

KEY = rsa.generate_private_key(public_exponent=65537, key_size=2048)
OTHER_KEY = rsa.generate_private_key(public_exponent=65537, key_size=2048)
PUBLIC_PEM = (
    KEY.public_key()
    .public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    .decode()
)


def der(key: rsa.RSAPrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.DER,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )


USERS = (
    StandInUser("snowmelt", password="melt"),
    StandInUser("robot", public_key_pem=PUBLIC_PEM, token="pat-1", oauth="oauth-1"),
)


@pytest.fixture(scope="module")
def server() -> Iterator[StandIn]:
    with StandIn.start(
        rows_per_chunk=100, inline_rows=50, users=USERS, ping_pong_seconds=0.2
    ) as one:
        numbers = pa.array(range(ROWS), pa.int64())
        one.create_table(
            "D", "S", "T", [StandInColumn("n", "NUMBER(38,0)")], pa.table({"n": numbers})
        )
        yield one


@pytest.fixture
def calm(server: StandIn) -> Iterator[StandIn]:
    """The server, which the test may give faults to."""
    server.reset_stats()
    yield server
    server.faults()


@pytest.fixture
def connection(calm: StandIn) -> Iterator[Connection]:
    with closing(connect(calm)) as one:
        yield one


def connect(server: StandIn, **more: object) -> Connection:
    return snowflake.connector.connect(**{**server.login(), "login_timeout": 5, **more})


QUERY = 'SELECT "n" FROM "D"."S"."T" ORDER BY "n"'


def read(connection: Connection, query: str = QUERY) -> list[int]:
    with closing(connection.cursor()) as cursor:
        cursor.execute(query)
        tables = [batch.to_arrow() for batch in cursor.get_result_batches()]
        return [value for table in tables for value in table.column(0).to_pylist()]


def http_status(url: str) -> int:
    """What a GET answers. Not the connector's own: it would try again for most of a minute."""
    try:
        with urllib.request.urlopen(url, timeout=10) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as exc:
        exc.close()
        return exc.code


# --- logins ---------------------------------------------------------------------------------------


def test_every_way_to_log_in_is_verified(server: StandIn) -> None:
    ways: list[tuple[dict[str, object], dict[str, object], int]] = [
        ({}, {"password": "wrong"}, 390100),
        (
            {"user": "robot", "password": None, "private_key": der(KEY)},
            {"user": "robot", "password": None, "private_key": der(OTHER_KEY)},
            390144,
        ),
        (
            {"user": "robot", "password": None, "authenticator": "oauth", "token": "oauth-1"},
            {"user": "robot", "password": None, "authenticator": "oauth", "token": "oauth-2"},
            390303,
        ),
        (
            {
                "user": "robot",
                "password": None,
                "authenticator": "PROGRAMMATIC_ACCESS_TOKEN",
                "token": "pat-1",
            },
            {
                "user": "robot",
                "password": None,
                "authenticator": "PROGRAMMATIC_ACCESS_TOKEN",
                "token": "pat-2",
            },
            394400,
        ),
    ]
    for good, bad, number in ways:
        with closing(connect(server, **good)) as session, closing(session.cursor()) as cursor:
            name = str(good.get("user", "snowmelt")).upper()
            assert cursor.execute("SELECT CURRENT_USER()").fetchone() == (name,)
        with pytest.raises(DatabaseError) as refused:
            connect(server, **bad)
        assert refused.value.errno == number


def test_a_login_sets_its_warehouse_role_database_and_parameters(server: StandIn) -> None:
    given = {"warehouse": "W1", "role": "R1", "database": "D", "schema": "S"}
    parameters = {"QUERY_TAG": "mine", "TIMEZONE": "UTC"}
    server.reset_stats()
    with (
        closing(connect(server, session_parameters=parameters, **given)) as session,
        closing(session.cursor()) as cursor,
    ):
        cursor.execute(
            "SELECT CURRENT_WAREHOUSE(), CURRENT_ROLE(), CURRENT_DATABASE(), CURRENT_SCHEMA()"
        )
        assert cursor.fetchone() == ("W1", "R1", "D", "S")
        cursor.execute('USE WAREHOUSE "w 2"')
        cursor.execute("USE ROLE other")
        cursor.execute("SELECT CURRENT_WAREHOUSE(), CURRENT_ROLE(), CURRENT_SECONDARY_ROLES()")
        row = cursor.fetchone()
        assert row[:2] == ("w 2", "OTHER")
        cursor.execute("SELECT 1", _statement_params={"QUERY_TAG": "this one"})
        assert (session._session_parameters or {})["QUERY_TAG"] == "mine"
    stats = server.stats()
    assert stats.logins == 1
    assert stats.queries == len(stats.statements) == len(stats.tags) == 5
    assert stats.tags == ("mine",) * 4 + ("this one",)


# --- results --------------------------------------------------------------------------------------


def test_a_large_result_comes_in_chunks_and_again_by_its_id(
    calm: StandIn, connection: Connection
) -> None:
    assert read(connection) == list(range(ROWS))
    stats = calm.stats()
    assert stats.chunk_gets == 10  # 50 rows with the answer, 950 in chunks of 100
    assert stats.bytes > 0
    with closing(connection.cursor()) as cursor:
        cursor.execute(QUERY)
        query_id = cursor.sfqid
        counts = [batch.rowcount for batch in cursor.get_result_batches()]
        assert counts == [50, *[100] * 9, 50]
        assert cursor.rowcount == ROWS
    with closing(connect(calm)) as other, closing(other.cursor()) as cursor:
        cursor.query_result(query_id)
        assert [batch.rowcount for batch in cursor.get_result_batches()] == counts
        assert [row[0] for row in cursor.fetchall()] == list(range(ROWS))
        calm.forget_results()
        with pytest.raises(DatabaseError) as gone:
            cursor.query_result(query_id)
        assert gone.value.errno == 709


def test_addresses_expire_and_a_new_look_at_the_result_gives_new_ones(
    calm: StandIn, connection: Connection
) -> None:
    with closing(connection.cursor()) as cursor:
        cursor.execute(QUERY)
        address = cursor.get_result_batches()[1]._remote_chunk_info.url
        assert http_status(address) == 200
        calm.expire_urls()
        assert http_status(address) == 403
        cursor.query_result(cursor.sfqid)
        assert cursor.get_result_batches()[1].to_arrow().num_rows == 100


def test_sessions_expire_and_are_renewed_unless_the_master_token_expired_too(
    calm: StandIn,
) -> None:
    with closing(connect(calm)) as one:
        calm.expire_sessions()
        assert read(one) == list(range(ROWS))
        calm.expire_sessions(master=True)
        with pytest.raises(DatabaseError) as refused:
            read(one)
        assert refused.value.errno == 390114


def test_a_session_gives_each_thread_its_own_rows(connection: Connection) -> None:
    found: dict[int, list[int]] = {}

    def ask(number: int) -> None:
        query = f'SELECT "n" FROM "D"."S"."T" WHERE "n" % 7 = {number} ORDER BY "n"'
        found[number] = read(connection, query)

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(7)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == {number: list(range(number, ROWS, 7)) for number in range(7)}


# --- statements that take time --------------------------------------------------------------------


def slow(server: StandIn, seconds: float) -> None:
    server.faults(Faults(query_latency_seconds=seconds, slow_match='FROM "D"'))


def waited(server: StandIn) -> str:
    deadline = time.monotonic() + 10
    while not server.running():
        assert time.monotonic() < deadline
        time.sleep(0.01)
    return server.running()[0]


def test_a_long_statement_is_answered_later(calm: StandIn, connection: Connection) -> None:
    slow(calm, 0.7)
    started = time.monotonic()
    assert read(connection) == list(range(ROWS))
    assert time.monotonic() - started >= 0.7


@pytest.mark.parametrize("latency", [True, False])
def test_a_statement_is_cancelled_by_its_id(calm: StandIn, latency: bool) -> None:
    if latency:
        slow(calm, 60)
    query = QUERY if latency else "SELECT COUNT(*) FROM D.S.T a, D.S.T b, D.S.T c, D.S.T d"
    errors: list[Error] = []

    def run() -> None:
        with closing(connect(calm)) as one, closing(one.cursor()) as cursor:
            try:
                cursor.execute(query, _statement_params={"QUERY_TAG": "victim"})
            except Error as exc:
                errors.append(exc)

    thread = threading.Thread(target=run)
    thread.start()
    query_id = waited(calm)
    history = calm.execute(
        "SELECT query_id, query_tag, execution_status FROM"
        ' TABLE("D".INFORMATION_SCHEMA.QUERY_HISTORY_BY_USER(END_TIME_RANGE_START =>'
        " DATEADD('HOUR', -1, CURRENT_TIMESTAMP()), RESULT_LIMIT => 10000))"
        " WHERE execution_status IN ('RUNNING','QUEUED') AND STARTSWITH(query_tag, 'vict')"
    )
    assert history == [(query_id, "victim", "RUNNING")]
    ((word,),) = calm.execute(f"SELECT SYSTEM$CANCEL_QUERY('{query_id}')")
    assert word == f"query [{query_id}] terminated."
    thread.join(10)
    assert [(one.errno, one.sqlstate) for one in errors] == [(604, "57014")]
    assert calm.running() == ()


def test_a_statement_reaches_its_time_limit(calm: StandIn, connection: Connection) -> None:
    slow(calm, 60)
    limit = {"STATEMENT_TIMEOUT_IN_SECONDS": 1}
    with closing(connection.cursor()) as cursor, pytest.raises(ProgrammingError) as stopped:
        cursor.execute(QUERY, _statement_params=limit)
    assert (stopped.value.errno, stopped.value.sqlstate) == (630, "57014")
    assert "timeout of 1 second(s)" in str(stopped.value)


def test_a_statement_goes_on_by_itself(calm: StandIn, connection: Connection) -> None:
    with closing(connection.cursor()) as cursor:
        cursor.execute_async(QUERY)
        query_id = cursor.sfqid
        while connection.is_still_running(connection.get_query_status(query_id)):
            time.sleep(0.01)
        cursor.get_results_from_sfqid(query_id)
        assert [row[0] for row in cursor.fetchall()] == list(range(ROWS))


# --- faults ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "faults",
    [
        Faults(unavailable_every=3),
        Faults(unavailable_queries=1),
        Faults(drop_chunks=1),
        Faults(drop_queries=1),
        Faults(forbid_chunks=1),
        Faults(empty_inline=1),
        Faults(gzip="header"),
        Faults(gzip="raw"),
        Faults(chunk_latency_seconds=0.01),
    ],
    ids=str,
)
def test_the_connector_gets_over(calm: StandIn, connection: Connection, faults: Faults) -> None:
    calm.faults(faults)
    assert read(connection) == list(range(ROWS))


def test_a_statement_whose_answer_was_lost_ran_once(calm: StandIn, connection: Connection) -> None:
    calm.execute("CREATE OR REPLACE TABLE D.S.ONCE (a INT)")
    calm.faults(Faults(drop_queries=1))
    with closing(connection.cursor()) as cursor:
        cursor.execute("INSERT INTO D.S.ONCE VALUES (1)")
    assert calm.execute("SELECT COUNT(*) FROM D.S.ONCE") == [(1,)]


def parts(connection: Connection, query: str = QUERY) -> list[pa.Table]:
    with closing(connection.cursor()) as cursor:
        cursor.execute(query)
        return [batch.to_arrow() for batch in cursor.get_result_batches()]


def test_parts_that_are_not_what_was_declared(calm: StandIn, connection: Connection) -> None:
    calm.faults(Faults(short_chunks=1))
    assert [one.num_rows for one in parts(connection)] == [50, 99, *[100] * 8, 50]
    calm.faults(Faults(short_inline=1))
    assert [one.num_rows for one in parts(connection)][:2] == [49, 100]
    calm.faults(Faults(wrong_width=1))
    types = [one.schema.field(0).type for one in parts(connection)]
    assert types[1] == pa.string()
    assert types[2] != pa.string()


def test_a_chunk_that_always_fails(calm: StandIn) -> None:
    calm.faults(Faults(fail_chunk_numbers=(2,)))
    with closing(connect(calm, network_timeout=2)) as one, closing(one.cursor()) as cursor:
        cursor.execute(QUERY)
        batches = cursor.get_result_batches()
        assert batches[2].to_arrow().num_rows == 100
        assert http_status(batches[3]._remote_chunk_info.url) == 500


def test_refused_logins_and_denied_statements(calm: StandIn, connection: Connection) -> None:
    calm.faults(Faults(refuse_logins=1, deny=r'^SELECT "n"'))
    with pytest.raises(DatabaseError):
        connect(calm)
    connect(calm).close()
    with pytest.raises(ProgrammingError) as denied:
        read(connection)
    assert (denied.value.errno, denied.value.sqlstate) == (3001, "42501")
