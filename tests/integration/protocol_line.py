"""Connections that fail in the ways of real ones, and calls that may not block for ever."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from enum import Enum, auto
from typing import Generic, TypeVar

import psycopg

from snowmelt.postgres.connect import Server, Session

T = TypeVar("T")


class Violation(AssertionError):
    """The protocol broke a promise."""


class Limit:
    """How long a call may take before it counts as blocked for ever; planted faults make it short."""

    seconds = 15.0


class Call(Generic[T]):
    """A function at work in a thread of its own, so that one that blocks is a failure and not a hang."""

    def __init__(self, function: Callable[[], T]) -> None:
        self._function = function
        self._values: list[T] = []
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            self._values.append(self._function())
        except BaseException as error:  # noqa: BLE001 - handed to the caller of `result`
            self._error = error

    @property
    def running(self) -> bool:
        return self._thread.is_alive()

    def wait(self, seconds: float) -> None:
        self._thread.join(seconds)

    def result(self) -> T:
        """What the function returned or raised. Raises Violation when it does neither in time."""
        self._thread.join(Limit.seconds)
        if self.running:
            raise Violation(f"blocked for more than {Limit.seconds:.0f} s")
        if self._error is not None:
            raise self._error
        return self._values[0]


def call(function: Callable[[], T]) -> T:
    """Run a function within the limit."""
    return Call(function).result()


class Fate(Enum):
    """What becomes of a COMMIT on its way."""

    ANSWERED = auto()
    UNANSWERED = auto()
    """Executed by the server; the connection breaks before the answer."""
    UNSENT = auto()
    """Never seen by the server, which sees the connection end."""
    STUCK = auto()
    """Held up on the way, while the backend waits in its open transaction."""


class Stuck:
    """A COMMIT that is held up on its way to a backend that still waits for it."""

    def __init__(self, server: socket.socket, message: bytes) -> None:
        self._server = server
        self._message = message

    def deliver(self) -> None:
        """Let it arrive, however late, and wait until the backend has dealt with it."""
        with suppress(OSError):
            self._server.sendall(self._message)
            self._server.recv(1)
        self.drop()

    def drop(self) -> None:
        self._server.close()


class Line(Session):
    """A session whose next COMMIT can be lost, or held while its process is frozen."""

    def __init__(self, server: Server, stuck: list[Stuck]) -> None:
        super().__init__(server)
        self.fate = Fate.ANSWERED
        self.freezes = False
        self.barrier: threading.Barrier | None = None
        self.frozen = threading.Event()
        self.thawed = threading.Event()
        self._stuck = stuck

    @contextmanager
    def transaction(self, *, durable: bool = False) -> Iterator[psycopg.Connection]:
        if durable and self.barrier is not None:
            self.barrier.wait()
        with super().transaction(durable=durable) as connection:
            yield connection
            if durable:
                self._before_commit(connection)

    def _before_commit(self, connection: psycopg.Connection) -> None:
        if self.freezes:
            self.freezes = False
            self.frozen.set()
            self.thawed.wait()
        fate, self.fate = self.fate, Fate.ANSWERED
        self.misroute(connection, fate)

    def refreeze(self) -> None:
        """Ready to be frozen again."""
        self.freezes, self.frozen, self.thawed = False, threading.Event(), threading.Event()

    def misroute(self, connection: psycopg.Connection, fate: Fate) -> None:
        """Treat the next message of the connection by `fate`: its file descriptor then leads to a hand in
        between, which passes the message on, or keeps it, and hangs up."""
        if fate is Fate.ANSWERED or connection.closed:
            return
        descriptor = connection.pgconn.socket
        server = socket.socket(fileno=os.dup(descriptor))
        server.settimeout(Limit.seconds)
        client, hand = socket.socketpair()
        client.setblocking(False)
        os.dup2(client.fileno(), descriptor)
        client.close()
        threading.Thread(target=self._pass_on, args=(hand, server, fate), daemon=True).start()

    def _pass_on(self, hand: socket.socket, server: socket.socket, fate: Fate) -> None:
        with hand, suppress(OSError):
            message = hand.recv(65_536)
            if fate is Fate.UNANSWERED:
                server.sendall(message)
                server.recv(1)
            if fate is Fate.STUCK:
                self._stuck.append(Stuck(server, message))
            else:
                server.close()

    def cut(self) -> None:
        """End the connection without a word, as the death of a process does."""
        connection = self._connection
        if connection is not None and not connection.closed:
            with (
                suppress(OSError),
                socket.socket(fileno=os.dup(connection.pgconn.socket)) as end,
            ):
                end.shutdown(socket.SHUT_RDWR)
        self.close()
