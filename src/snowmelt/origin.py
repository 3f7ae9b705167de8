"""One source as a run uses it: how the config says that it is opened, and what is left of a run there."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import closing
from pathlib import Path

from pydantic import SecretStr

from snowmelt.config import Config
from snowmelt.config.models import Snowflake, Source
from snowmelt.errors import UsageError
from snowmelt.model import StoredLoad, Tag
from snowmelt.ports import OpenSource, QuerySource
from snowmelt.ports import Source as OpenedSource
from snowmelt.sources.duckdb import DuckDBSource


def open_source(config: Config, source: Source) -> OpenSource:
    """What opens sessions of a source. Raises UsageError where its client is not installed."""
    connection = source.connection
    if connection is not None:
        return lambda: DuckDBSource(connection.scheme, Path(connection.path))
    if config.snowflake is None:
        raise UsageError(
            f"source {source.source_name} has no connection, and there is no snowflake block",
            remedy="add one of them to the config",
        )
    return _snowflake(config.snowflake)


def _snowflake(block: Snowflake) -> OpenSource:
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
        return SnowflakeSource(login, clone_schema=block.clone_schema)

    return opened


def _revealed(secret: SecretStr | None) -> str | None:
    return secret.get_secret_value() if secret else None


def tidy(open: OpenSource, tag: Tag, loads: Iterable[StoredLoad]) -> None:
    """End the queries of a run, and drop what was made for the snapshots of its tables."""
    with closing(open()) as source:
        if not isinstance(source, QuerySource):
            return
        for load in loads:
            source.cancel(load.source, tag)
            source.release(load.source, load.snapshot)
