"""One target database as a run uses it: the server, its ledger, and its tables."""

from __future__ import annotations

import threading

from snowmelt.config import Config
from snowmelt.postgres.connect import Server, Session, SessionSettings
from snowmelt.postgres.loads import PostgresLoads
from snowmelt.postgres.migrations import ledger_version
from snowmelt.postgres.runs import PostgresRuns
from snowmelt.postgres.target import PostgresTarget

MARKS_SINCE = 4
HOUSE_SINCE = 6
"""Versions of the ledger that got them."""


class Database:
    """One target database: its server, its ledger, and a session for the main thread."""

    def __init__(self, server: Server, halt: threading.Event | None = None) -> None:
        self.server = server
        self.session = Session(server, halt)
        self.runs = PostgresRuns(self.session)
        self.loads = PostgresLoads(self.session)
        self.target = PostgresTarget(self.session)

    def connect(self) -> None:
        """Raises ConnectionLost if the server can't be reached."""
        _ = self.session.connection

    @property
    def has_marks(self) -> bool:
        """Whether the ledger is of a release that keeps high-water marks."""
        return ledger_version(self.session) >= MARKS_SINCE

    @property
    def keeps_house(self) -> bool:
        """Whether the ledger is of a release that knows what is built on targets, and what was replaced."""
        return ledger_version(self.session) >= HOUSE_SINCE

    @property
    def has_ledger(self) -> bool:
        return ledger_version(self.session) > 0


def server_of(config: Config, database: str) -> Server:
    """How the config's PostgreSQL server is reached for one of its databases."""
    block = config.postgres
    return Server.of(
        {
            "host": block.host,
            "port": block.port,
            "user": block.user,
            "password": block.password.get_secret_value() if block.password else None,
            "sslmode": block.sslmode,
            "sslrootcert": block.sslrootcert,
            "sslcert": block.sslcert,
            "sslkey": block.sslkey.get_secret_value() if block.sslkey else None,
            "dbname": database,
        },
        dsn=block.dsn.get_secret_value() if block.dsn else "",
        settings=SessionSettings(
            synchronous_commit=block.session.synchronous_commit,
            work_mem=block.session.work_mem,
            maintenance_work_mem=block.session.maintenance_work_mem,
        ),
        outage_seconds=config.outage_seconds,
    )
