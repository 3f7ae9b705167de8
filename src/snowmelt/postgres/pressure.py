"""Looks at what a server suffers from, as far as the role may see it."""

from __future__ import annotations

import logging
from dataclasses import replace
from typing import Any, LiteralString

import psycopg
from psycopg import errors as pg

from snowmelt.errors import SnowmeltError
from snowmelt.postgres.asked import Asked
from snowmelt.postgres.capacity import SHARED_CONNECTIONS, free_for_wal
from snowmelt.postgres.claims import brief
from snowmelt.postgres.connect import Server, Session
from snowmelt.pressure import Connections, Facts, Slot, Wal

_log = logging.getLogger(__name__)

LOOK_MS = 5_000
"""For one question: a server that takes longer is not asked about its health as well."""
# A role that may not read statistics finds no state here, hence no standby.
_LAG: LiteralString = """
    SELECT extract(epoch FROM max(replay_lag))::float8,
           max(pg_wal_lsn_diff(pg_current_wal_lsn(), replay_lsn))::bigint
    FROM pg_stat_replication WHERE state = 'streaming'
"""
# A slot that never reserved WAL has none to lose. One that is lost already gains nothing by waiting.
_SLOT: LiteralString = """
    SELECT slot_name::text, coalesce(safe_wal_size, 0),
           greatest(pg_size_bytes(current_setting('max_slot_wal_keep_size')),
                    pg_size_bytes(current_setting('wal_keep_size'))),
           active, wal_status = 'unreserved'
    FROM pg_replication_slots
    WHERE restart_lsn IS NOT NULL AND wal_status <> 'lost'
      AND (wal_status = 'unreserved' OR safe_wal_size IS NOT NULL)
    ORDER BY wal_status = 'unreserved' DESC, safe_wal_size LIMIT 1
"""
_WAL: LiteralString = """
    SELECT (SELECT coalesce(sum(size), 0) FROM pg_ls_waldir())::bigint,
           greatest(pg_size_bytes(current_setting('max_wal_size')),
                    pg_size_bytes(current_setting('wal_keep_size')))
"""


class PostgresGauge:
    """A connection of its own for looking at a server. Not for two threads at once."""

    def __init__(self, server: Server) -> None:
        # One attempt: who looks does not wait for a server that is away.
        self._session = Session(replace(server, outage_seconds=0.0))
        self._refused: set[str] = set()

    def look(self) -> Facts:
        """What can be seen now; nothing where the server can't be reached. Raises nothing."""
        try:
            with brief(self._session, durable=False) as connection:
                connection.execute(f"SET LOCAL statement_timeout = {LOOK_MS}")
                return self._facts(connection)
        except SnowmeltError as error:
            _log.debug("no look at the target: %s", error, extra={"action": "look_failed"})
            return Facts()

    def close(self) -> None:
        """Release the connection."""
        self._session.close()

    def _facts(self, connection: psycopg.Connection) -> Facts:
        lag = self._told(connection, _LAG)
        slot = self._told(connection, _SLOT)
        free = free_for_wal(Asked(connection))
        wal = self._told(connection, _WAL) if free is not None else None
        connections = self._told(connection, SHARED_CONNECTIONS)
        return Facts(
            lag_seconds=lag[0] if lag else None,
            lag_bytes=lag[1] if lag else None,
            slot=Slot(*slot) if slot else None,
            wal=Wal(wal[0], wal[1], free) if wal and free is not None else None,
            connections=Connections(connections[1], connections[0]) if connections else None,
        )

    def _told(self, connection: psycopg.Connection, statement: LiteralString) -> Any | None:
        """The first row; None where this role or this server does not tell. Then it is not asked again, so that
        its log is not filled with refusals."""
        if statement in self._refused:
            return None
        try:
            with connection.transaction():
                return connection.execute(statement).fetchone()
        except psycopg.Error as error:
            if connection.broken:
                raise
            if not isinstance(error, pg.QueryCanceled):
                self._refused.add(statement)
            return None
