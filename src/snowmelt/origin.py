"""One source as a run uses it: how the config says that it is opened, and what is left of a run there."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from contextlib import closing
from functools import partial
from pathlib import Path

from pydantic import SecretStr

from snowmelt.config import Config
from snowmelt.config.models import Snowflake, Source
from snowmelt.errors import SnowmeltError, UsageError
from snowmelt.matching import is_same
from snowmelt.memory.governor import UNLIMITED, Governor
from snowmelt.model import SourceTable, StoredLoad, Tag
from snowmelt.ports import OpenSource, QuerySource
from snowmelt.ports import Source as OpenedSource

_log = logging.getLogger(__name__)

Snapshotted = tuple[SourceTable, Mapping[str, object]]
"""A table, and the snapshot that it was planned with."""


class Origins:
    """The sources of a config by name."""

    def __init__(self, config: Config, memory: Governor = UNLIMITED) -> None:
        self._config = config
        self._memory = memory
        self._sources = {source.source_name: source for source in config.sources}

    def open(self, name: str) -> OpenSource:
        """What opens sessions of a source. Raises UsageError where its client is not installed."""
        return open_source(self._config, self._sources[name], self._memory)

    def tidy(self, tag: Tag, loads: Sequence[StoredLoad]) -> None:
        """End at their sources what tables of a run have left there. Raises the first error that there was."""
        jobs = self._config.jobs()
        for name, source in self._sources.items():
            mine = [load for load in loads if load.source_name == name]
            if mine and source.connection is None:  # nothing is left behind in files
                # As the config has them, where it has them still: with the warehouse that may be asked.
                known = {load.table_id: job for load in mine for job in jobs if is_same(load, job)}
                tables = [
                    (
                        known[load.table_id].source if load.table_id in known else load.source,
                        load.snapshot,
                    )
                    for load in mine
                ]
                tidy(self.open(name), tag, tables)

    def reads(self, name: str, connection: str) -> bool:
        """Whether the config's source of that name reads from there."""
        source = self._sources.get(name)
        return source is not None and self._config.origin(source) == connection

    def tidy_quietly(self, tag: Tag, loads: Sequence[StoredLoad]) -> None:
        """The same where something else is the matter in hand."""
        try:
            self.tidy(tag, loads)
        except SnowmeltError as error:
            _log.warning("the source was not tidied up: %s", error, extra={"action": "tidy_failed"})


def open_source(config: Config, source: Source, memory: Governor = UNLIMITED) -> OpenSource:
    """What opens sessions of a source. Raises UsageError where its client is not installed."""
    connection = source.connection
    if connection is not None:
        # Each source's library is loaded where it is read from: a command that reads from another needs it not.
        from snowmelt.sources.duckdb import DuckDBSource

        return lambda: DuckDBSource(connection.scheme, Path(connection.path), memory)
    if config.snowflake is None:
        raise UsageError(
            f"source {source.source_name} has no connection, and there is no snowflake block",
            remedy="add one of them to the config",
        )
    return _snowflake(config.snowflake, memory)


def _snowflake(block: Snowflake, memory: Governor) -> OpenSource:
    try:
        from snowmelt.sources.snowflake.login import Login
        from snowmelt.sources.snowflake.source import SnowflakeSource
    except ImportError as error:
        raise UsageError(
            f"{error.name} is not installed, which reading from Snowflake needs",
            remedy="pip install 'snowmelt[snowflake]'",
        ) from error
    login = Login(
        account=block.account,
        user=block.user,
        warehouse=block.warehouse,
        role=block.role,
        database=block.database,
        schema=block.schema_,
        rsa_key=_revealed(block.rsa_key),
        passphrase=_revealed(block.passphrase),
        password=_revealed(block.password),
        token=_revealed(block.token),
        authenticator=block.authenticator,
        host=block.host,
        port=block.port,
        protocol=block.protocol,
        statement_timeout_seconds=block.statement_timeout_seconds,
    )

    def opened() -> OpenedSource:
        source = SnowflakeSource(login, clone_schema=block.clone_schema, memory=memory)
        source.connect()
        return source

    return opened


def _revealed(secret: SecretStr | None) -> str | None:
    return secret.get_secret_value() if secret else None


def tidy(open: OpenSource, tag: Tag, tables: Iterable[Snapshotted]) -> None:
    """End the queries with the tag, and drop what was made for the snapshots of the tables, as far as it goes.

    Raises the first of the errors that there were.
    """
    errors = []
    with closing(open()) as source:
        if not isinstance(source, QuerySource):
            return
        for table, snapshot in tables:
            for act in (
                partial(source.cancel, table, tag),
                partial(source.release, table, snapshot),
            ):
                try:
                    act()
                except SnowmeltError as error:
                    errors.append(error)
    if errors:
        raise errors[0]
