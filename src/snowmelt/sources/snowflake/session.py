"""One Snowflake session: opened when needed, kept from chunk to chunk, opened again after it ended."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

import snowflake.connector
from snowflake.connector import SnowflakeConnection
from snowflake.connector.constants import ENV_VAR_DISABLE_PLATFORM_DETECTION
from snowflake.connector.cursor import SnowflakeCursor

from snowmelt.errors import ConnectionLost
from snowmelt.sources.snowflake import statements
from snowmelt.sources.snowflake.failures import translated
from snowmelt.sources.snowflake.http import read_bodies_once, trust_named_cas
from snowmelt.sources.snowflake.login import Login

Row = tuple[Any, ...]

read_bodies_once()
# At its first login the connector else asks the metadata services of three clouds where it runs, for statistics:
# it waits for their answers, and a connection to 169.254.169.254 stays open.
os.environ.setdefault(ENV_VAR_DISABLE_PLATFORM_DETECTION, "true")


class Session:
    """A connection and the warehouse that it uses now. For one thread at a time."""

    def __init__(self, login: Login) -> None:
        self._login = login
        self._connection: SnowflakeConnection | None = None
        self._in_use: str | None = None
        self._reader: tuple[str, str] | None = None
        self._label: str | None = None

    @contextmanager
    def labelled(self, tag: str) -> Iterator[None]:
        """Statements within that have no tag of their own have this one."""
        self._label = tag
        try:
            yield
        finally:
            self._label = None

    @property
    def connection(self) -> SnowflakeConnection:
        """The live connection. Raises UsageError for what can't be logged in with, RunError if the login is
        refused, ConnectionLost if nobody answers."""
        if self._connection is None or self._connection.is_closed():
            arguments = self._login.arguments()
            trust_named_cas()
            with translated():
                self._connection = snowflake.connector.connect(**arguments)
            self._in_use, self._reader = self.warehouse, None
        return self._connection

    @property
    def warehouse(self) -> str | None:
        """The warehouse of the login."""
        return self._login.warehouse

    def execute(
        self,
        statement: str,
        tag: str | None = None,
        *,
        warehouse: str | None = None,
        table: str | None = None,
    ) -> SnowflakeCursor:
        """Run a statement to its end and leave its result on the server, labelled with the tag.

        Raises what `failures.translate` makes of the connector's errors; a session that ended is left, so that
        the next use opens another.
        """
        try:
            connection = self.connection
            with translated(table):
                self._use(warehouse)
                label = tag or self._label
                parameters = {"QUERY_TAG": label} if label else None
                cursor = connection.cursor()
                cursor.execute(statement, _statement_params=parameters)
                return cursor
        except ConnectionLost:
            self.close()
            raise

    def _use(self, warehouse: str | None) -> None:
        """Another warehouse from here on, if one is asked for; what no warehouse has to run keeps the last."""
        if warehouse and warehouse != self._in_use:
            self.connection.cursor().execute(statements.use_warehouse(warehouse))
            self._in_use = warehouse

    def rows(
        self, statement: str, *, warehouse: str | None = None, table: str | None = None
    ) -> list[Row]:
        """The rows of a small result."""
        cursor = self.execute(statement, warehouse=warehouse, table=table)
        with translated(table):
            return [tuple(row) for row in cursor.fetchall()]

    def named_rows(self, statement: str, *, table: str | None = None) -> list[Mapping[str, Any]]:
        """The rows of a small result, their values by column name; for SHOW and DESCRIBE, which gain columns
        from one release of Snowflake to the next."""
        cursor = self.execute(statement, table=table)
        with translated(table):
            names: Sequence[str] = [column.name for column in cursor.description]
            return [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]

    def now(self) -> datetime:
        """The server's time."""
        now: datetime = self._self()[0]
        return now.astimezone(UTC)

    def reader(self) -> tuple[str, str]:
        """The role that reads, and its secondary roles, as the server tells them; a session keeps its own."""
        _ = self.connection  # a new one is asked anew
        if self._reader is None:
            _, role, secondary = self._self()
            self._reader = str(role or ""), str(secondary or "")
        return self._reader

    def _self(self) -> Row:
        (row,) = self.rows(statements.SESSION)
        return row

    def result(self, query_id: str, *, table: str | None = None) -> SnowflakeCursor:
        """The kept result of a query, with fresh URLs. Raises ResultGone."""
        try:
            connection = self.connection
            with translated(table):
                return connection.cursor().query_result(query_id)
        except ConnectionLost:
            self.close()
            raise

    def close(self) -> None:
        """End the session; the next use opens another. What can't be told to the server times out there."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close(retry=False)
