"""The sessions of a process that works off a run: those of its workers, its heartbeats, and looks at servers."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager
from uuid import UUID

from snowmelt.database import Database
from snowmelt.gate import Gate
from snowmelt.hands import Hands, OpenHands
from snowmelt.postgres.claims import PostgresClaims, Pulse
from snowmelt.postgres.connect import Session
from snowmelt.postgres.heartbeat import Heartbeat, Life
from snowmelt.postgres.loads import PostgresLoads
from snowmelt.postgres.pressure import PostgresGauge
from snowmelt.postgres.target import PostgresTarget
from snowmelt.stop import ABORTED, Stop


class Staffing:
    """Opens what a crew works with in the target databases, and closes it."""

    def __init__(
        self, databases: Mapping[str, Database], *, lease_seconds: float, stall_seconds: float
    ) -> None:
        self._databases = databases
        self._lease_seconds = lease_seconds
        self._stall_seconds = stall_seconds
        self._heartbeats: list[Heartbeat] = []

    def let_go(self) -> None:
        """Give all claims of this process back at once, for a process that ends without waiting for them."""
        for heartbeat in self._heartbeats:
            heartbeat.farewell()

    def hands(self, pulses: Mapping[str, Pulse], halt: threading.Event) -> OpenHands:
        """What opens a worker's session to a database; `halt`, once set, ends its waiting for a server."""

        @contextmanager
        def open_hands(name: str) -> Iterator[Hands]:
            session = Session(self._databases[name].server, halt, reached=True)
            try:
                yield Hands(
                    PostgresClaims(session, pulses[name]),
                    PostgresLoads(session),
                    PostgresTarget(session),
                    session.close,
                    session.interrupt,
                )
            finally:
                session.close()

        return open_hands

    @contextmanager
    def gates(self) -> Iterator[Mapping[str, Gate]]:
        """Where workers wait while a server suffers. It is looked at in place of the main thread's session."""
        gates = {}
        with ExitStack() as stack:
            for name, database in self._databases.items():
                database.session.close()
                gauge = stack.enter_context(closing(PostgresGauge(database.server)))
                gates[name] = Gate(database.server.address, gauge.look)
            yield gates

    @contextmanager
    def beating(
        self, run_id: UUID, pulses: Mapping[str, Pulse], stop: Stop, life: Life
    ) -> Iterator[None]:
        """A worker row in each database for as long as the crew is at work."""
        with ExitStack() as stack:
            for name, database in self._databases.items():
                heartbeat = Heartbeat(
                    database.server,
                    run_id,
                    pulses[name],
                    lease_seconds=self._lease_seconds,
                    stall_seconds=self._stall_seconds,
                    on_abort=lambda: stop(ABORTED),
                    life=life,
                )
                stack.callback(heartbeat.stop)
                heartbeat.start()
                self._heartbeats.append(heartbeat)
            yield
            self._heartbeats.clear()
