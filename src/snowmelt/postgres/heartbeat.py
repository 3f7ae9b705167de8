"""One worker row per process: the sign of life that keeps its claims."""

from __future__ import annotations

import logging
import os
import socket
import threading
from collections.abc import Callable
from dataclasses import dataclass
from uuid import UUID

from psycopg.types.json import Jsonb

from snowmelt.errors import RunError, SnowmeltError
from snowmelt.postgres.claims import Pulse, brief
from snowmelt.postgres.connect import Server, Session
from snowmelt.postgres.queries import query

_log = logging.getLogger(__name__)

BEATS_PER_LEASE = 6
"""A lease must outlast a few lost beats, or a busy server would look like a dead worker."""


@dataclass(frozen=True, slots=True)
class Life:
    """What a process tells of itself: how long it has, in seconds, and how much memory, in bytes, where something
    limits them; what it had resident at most until now; and at its end, why it left."""

    deadline_seconds: float | None = None
    memory_limit: int | None = None
    peak_memory: Callable[[], int | None] = lambda: None
    because: Callable[[], str | None] = lambda: None


UNBOUNDED = Life()


class Heartbeat:
    """Writes the process's worker row from a thread and connection of its own, by the server's clock.

    `on_abort` is called once, from that thread, when the run turns out to be aborted.
    """

    def __init__(
        self,
        server: Server,
        run_id: UUID,
        pulse: Pulse,
        *,
        lease_seconds: float,
        stall_seconds: float,
        on_abort: Callable[[], None],
        life: Life = UNBOUNDED,
    ) -> None:
        self._ended = threading.Event()
        self._session = Session(server, self._ended)
        self._run_id = run_id
        self._pulse = pulse
        self._lease_seconds = lease_seconds
        self._stall_seconds = stall_seconds
        self._on_abort = on_abort
        self._life = life
        self._thread = threading.Thread(target=self._beat, name="snowmelt-heartbeat", daemon=True)

    def start(self) -> None:
        """Register the process, then beat. Claims may be made once this has returned."""
        with brief(self._session) as connection:
            connection.execute(
                query("start_worker"),
                {
                    "worker_id": self._pulse.worker_id,
                    "run_id": self._run_id,
                    "host": socket.gethostname(),
                    "pid": os.getpid(),
                    "lease_seconds": self._lease_seconds,
                    "stall_seconds": self._stall_seconds,
                    "deadline_seconds": self._life.deadline_seconds,
                    "memory_limit": self._life.memory_limit,
                },
            )
        self._thread.start()

    def _beat(self) -> None:
        while not self._ended.wait(self._lease_seconds / BEATS_PER_LEASE):
            try:
                with brief(self._session, durable=False) as connection:
                    row = connection.execute(
                        query("heartbeat"),
                        {
                            "worker_id": self._pulse.worker_id,
                            "claims": Jsonb(dict(self._pulse.idle_seconds())),
                            "peak_memory": self._life.peak_memory(),
                        },
                    ).fetchone()
            except RunError:
                return  # the server stayed away past the outage limit: the workers meet the same end
            except SnowmeltError:
                continue
            if row and row[0]:
                self._on_abort()
                return

    def stop(self) -> None:
        """End the beating and the worker row."""
        self._ended.set()
        self._thread.join(timeout=5)
        self.farewell()
        if not self._thread.is_alive():
            self._session.close()

    def farewell(self) -> None:
        """End the worker row, which frees its claims at once instead of after a lease."""
        self._ended.set()
        # One attempt: the lease frees the claims as well, only later.
        session = Session(self._session.server)
        try:
            with brief(session) as connection:
                connection.execute(
                    query("end_worker"),
                    {
                        "worker_id": self._pulse.worker_id,
                        "because": self._life.because(),
                        "peak_memory": self._life.peak_memory(),
                    },
                )
        except SnowmeltError as error:
            _log.info(str(error), extra={"action": "farewell_failed"})
        finally:
            session.close()
