"""How a PostgreSQL server is reached, and a session that comes back after the server was away."""

from __future__ import annotations

import logging
import os
import selectors
import socket
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import LiteralString

import psycopg
import tenacity
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from psycopg.pq import PollingStatus, TransactionStatus
from psycopg.pq.abc import PGcancelConn

from snowmelt.errors import RunError, SnowmeltError, UsageError
from snowmelt.postgres.failures import translate
from snowmelt.postgres.pem import with_files
from snowmelt.postgres.tls import explained

_log = logging.getLogger(__name__)

# A peer that vanished without a word (a frozen Lambda, a pulled cable) is noticed after about a minute.
_KEEPALIVE = {
    "keepalives": "1",
    "keepalives_idle": "30",
    "keepalives_interval": "10",
    "keepalives_count": "3",
    "tcp_user_timeout": "60000",
    "connect_timeout": "10",
}
RECONNECT_CEILING_SECONDS = 15.0
BEGIN: LiteralString = "BEGIN ISOLATION LEVEL READ COMMITTED"
"""Whatever the role's default is: what is counted after a wait for a lock must be what is there then."""
CANCEL_SECONDS = 5.0
"""For telling a server to end a statement."""
_TRANSACTION_TIMEOUT_SINCE = 17_00_00


@dataclass(frozen=True, slots=True)
class SessionSettings:
    """Set with SET LOCAL in each transaction that moves rows or builds indexes, so that a pooler is no harm."""

    synchronous_commit: str = "off"
    work_mem: str | None = None
    maintenance_work_mem: str | None = None


@dataclass(frozen=True, slots=True)
class Server:
    """One database on one server; `conninfo` holds the password and is never shown."""

    conninfo: str = field(repr=False)
    database: str
    settings: SessionSettings = SessionSettings()
    outage_seconds: float = 900.0

    @classmethod
    def of(
        cls,
        parameters: Mapping[str, str | int | None],
        *,
        dsn: str = "",
        settings: SessionSettings | None = None,
        outage_seconds: float = 900.0,
    ) -> Server:
        """From libpq parameters, laid over a DSN; `dbname` must come from one of them.

        Raises UsageError for a DSN that libpq can't read.
        """
        given = {name: str(value) for name, value in parameters.items() if value is not None}
        try:
            read = {name: str(value) for name, value in conninfo_to_dict(dsn).items()}
            merged = with_files({**_KEEPALIVE, **read, **given})
            conninfo = make_conninfo("", **merged)
        except psycopg.ProgrammingError as error:
            # The driver's message may quote the DSN, password and all.
            raise UsageError(
                "the PostgreSQL DSN can't be read",
                remedy="write postgresql://user@host:5432/database",
            ) from error.with_traceback(None)
        return cls(
            conninfo, str(merged.get("dbname", "")), settings or SessionSettings(), outage_seconds
        )

    @property
    def address(self) -> str:
        """Host, port and database, for messages."""
        parts = conninfo_to_dict(self.conninfo)
        return f"{parts.get('host', 'localhost')}:{parts.get('port', 5432)}/{self.database}"

    def connect(self) -> psycopg.Connection:
        """One attempt, in autocommit; transactions are always explicit.

        No server-side prepared statements: a transaction pooler would send them to another backend.
        Raises ConnectionLost; RunError or UsageError for what TLS is in the way of, which stays so.
        """
        try:
            # The bytes of COPY are UTF-8, whatever the database's encoding is: the server converts them.
            connection = psycopg.connect(
                self.conninfo, autocommit=True, prepare_threshold=None, client_encoding="utf8"
            )
        except psycopg.Error as error:
            lost = explained(error, self.conninfo) or translate(error)
            lost.what = f"can't connect to PostgreSQL at {self.address}: {_first_line(lost.what)}"
            lost.remedy = (
                lost.remedy
                or "is the server up, is the database there, and are host, user and password right?"
            )
            raise lost from error
        connection.isolation_level = psycopg.IsolationLevel.READ_COMMITTED
        return connection


def _first_line(text: str) -> str:
    return text.splitlines()[0] if text else text


def without_time_limits(connection: psycopg.Connection) -> None:
    """For the transaction that is open: what it does takes as long as a table is large, and what a role's limit
    ended would be ended again by the next attempt. Waits for locks have limits of their own."""
    connection.execute("SET LOCAL statement_timeout = 0")
    if connection.info.server_version >= _TRANSACTION_TIMEOUT_SINCE:
        connection.execute("SET LOCAL transaction_timeout = 0")


class Session:
    """A connection that is opened when needed and again after it broke. For one thread.

    A server that was reached once is waited for up to `outage_seconds` when it goes away, whatever keeps it from
    being reached; one that was never reached is an error at once, since then the address is more likely wrong than
    the server down.
    """

    def __init__(
        self, server: Server, halt: threading.Event | None = None, *, reached: bool = False
    ) -> None:
        """`halt`, once set, ends the waiting for a server that is away; `reached` says that another session
        of this process has been there."""
        self.server = server
        self._halt = halt or threading.Event()
        self._connection: psycopg.Connection | None = None
        self._reached = reached
        self._goes_on = False

    @property
    def connection(self) -> psycopg.Connection:
        """The live connection. Raises ConnectionLost on a first failure, RunError after an outage."""
        if self._connection is None or self._connection.broken or self._connection.closed:
            self._connection = self._open()
        return self._connection

    def _open(self) -> psycopg.Connection:
        if not self._reached:
            connection = self.server.connect()
            self._reached = True
            return connection
        started = time.monotonic()
        retrying = tenacity.Retrying(
            retry=tenacity.retry_if_exception_type(SnowmeltError),
            stop=tenacity.stop_any(
                tenacity.stop_after_delay(self.server.outage_seconds),
                tenacity.stop_when_event_set(self._halt),
            ),
            sleep=tenacity.sleep_using_event(self._halt),
            wait=tenacity.wait_random_exponential(multiplier=0.2, max=RECONNECT_CEILING_SECONDS),
        )
        try:
            return retrying(self.server.connect)
        except tenacity.RetryError as error:
            cause = error.last_attempt.exception()
            raise RunError(
                f"PostgreSQL at {self.server.address} did not come back within "
                f"{time.monotonic() - started:.0f} s: {cause}",
                remedy="bring the server back, then run again: it resumes",
            ) from cause

    @contextmanager
    def transaction(self, *, durable: bool = False) -> Iterator[psycopg.Connection]:
        """A transaction whose driver errors come out translated; a broken connection is dropped.

        `durable` waits for the disk whatever the role's or the database's default is: claims, plans and
        finishes must survive a crash that takes asynchronous commits with it.
        """
        connection = self.connection
        try:
            with connection.transaction():
                if durable:
                    connection.execute("SET LOCAL synchronous_commit = on")
                yield connection
        except psycopg.Error as error:
            if connection.broken:
                self.close()
            raise translate(error) from error

    @contextmanager
    def handing_over(self) -> Iterator[psycopg.Connection]:
        """A durable transaction that the block ends by what it sends; if it does not, it is rolled back."""
        connection = self.connection
        try:
            connection.execute(BEGIN)
            connection.execute("SET LOCAL synchronous_commit = on")
            yield connection
        except psycopg.Error as error:
            raise translate(error) from error
        finally:
            if (
                connection.broken
                or connection.info.transaction_status is not TransactionStatus.IDLE
            ):
                self.close()

    @contextmanager
    def going_on(self) -> Iterator[None]:
        """While the block waits for what the server is to end without its client: `interrupt` leaves it to it."""
        self._goes_on = True
        try:
            yield
        finally:
            self._goes_on = False

    def interrupt(self) -> None:
        """From another thread: end what the connection is doing, at both of its ends.

        Whoever uses it finds it lost, and the session's next use opens another. The server is told besides: a
        backend in the middle of a statement that asks nothing of its client does not notice that it is gone. It
        is not told where it is to go on by itself.
        """
        connection = self._connection
        if connection is None:
            return
        try:
            cancel = None if self._goes_on else connection.pgconn.cancel_conn()
            with socket.socket(fileno=os.dup(connection.fileno())) as mine:
                mine.shutdown(socket.SHUT_RDWR)
            if cancel is not None:
                _tell(cancel)
        except (psycopg.Error, OSError) as error:
            # Closed meanwhile, or the server can't be told: then it has not been lost, or ends by its keepalives.
            _log.debug("not interrupted: %s", error)

    def close(self) -> None:
        """Drop the connection; the next use opens another."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()


def _tell(cancel: PGcancelConn) -> None:
    """Send it, within a time; the driver's `blocking()` would hold up all threads of the process meanwhile."""
    ends = time.monotonic() + CANCEL_SECONDS
    waits = {
        PollingStatus.READING: selectors.EVENT_READ,
        PollingStatus.WRITING: selectors.EVENT_WRITE,
    }
    cancel.start()
    try:
        while (event := waits.get(PollingStatus(cancel.poll()))) and time.monotonic() < ends:
            with selectors.DefaultSelector() as selector:
                selector.register(cancel.socket, event)
                selector.select(ends - time.monotonic())
    finally:
        cancel.finish()
