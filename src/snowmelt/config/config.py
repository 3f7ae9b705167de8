"""The config of one run: the sources that run, and what each of their tables comes to."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import TypeVar

from snowmelt.choices import NulCharacters
from snowmelt.config.checks import unknown_name
from snowmelt.config.models import ConfigFile, Source, Table
from snowmelt.config.modes import TopLevel, emptied_first, replaced, written_by
from snowmelt.config.settings import BatchSize
from snowmelt.errors import UsageError
from snowmelt.model import ChunkKey, SourceTable, TableJob, TargetTable

V = TypeVar("V")


class Config(ConfigFile):
    """The settings of a file, with only the sources and tables that run.

    `snowflake` is None unless one of the sources reads from it. `warnings` are lines for the user.
    """

    warnings: tuple[str, ...] = ()

    def jobs(self) -> tuple[TableJob, ...]:
        """One job per table, in the order of the file; table over source over top level."""
        return tuple(self._job(source, table) for source in self.sources for table in source.tables)

    def origin(self, source: Source) -> str:
        """Where a source reads from, as one text without secrets: part of a run's identity."""
        if source.connection is not None:
            return str(source.connection)
        return f"snowflake://{self.snowflake.account}" if self.snowflake else "snowflake://"

    def source_database(self, source: Source) -> str:
        """Empty where the config leaves it to the source."""
        account = None if source.connection else self.snowflake
        return source.source_sf_database or (account and account.database) or ""

    def source_schema(self, source: Source) -> str:
        """Empty where the config leaves it to the source."""
        account = None if source.connection else self.snowflake
        return source.source_sf_schema or (account and account.schema_) or ""

    def target_database(self, source: Source) -> str:
        """Never empty in a config that was loaded."""
        return source.target_pg_database or self.postgres.database_name or ""

    def with_overrides(
        self,
        *,
        threads: int | None = None,
        tables: Sequence[str] = (),
        batch_size: BatchSize | None = None,
        resume_max_age: int | None = None,
    ) -> Config:
        """The same config with what is given in place of its own at every level, and with only the named tables.

        A table is named by its source, its target, or either as `schema.name`. A source stays, with
        no table if none of its own is named, so that the identity of the run is the same.
        `resume_max_age` is in hours, `batch_size` in rows.

        Raises UsageError for fewer than one thread, row or hour, UnknownName for a name that no table carries.
        """
        sources = self.sources
        if tables:
            self._require_tables(tables)
            sources = tuple(_narrowed(source, tables) for source in sources)
        _require_one(threads, "threads can't move anything")
        _require_one(batch_size, "rows make no chunk")
        _require_one(resume_max_age, "hours let no run be resumed")
        given = {"parallel_threads": threads, "batch_size": batch_size}
        settings = {name: value for name, value in given.items() if value is not None}
        inner = dict.fromkeys(settings)
        hours = {} if resume_max_age is None else {"resume_max_age": resume_max_age}
        return self.model_copy(
            update={
                **settings,
                **hours,
                "sources": tuple(_updated(source, inner) for source in sources),
            }
        )

    def within(self, seconds: float) -> Config:
        """The same config for a process that has so long: no query at the source goes on for longer, also when the
        process is gone."""
        if self.snowflake is None:
            return self
        limit = min(self.snowflake.statement_timeout_seconds, max(int(seconds), 1))
        account = self.snowflake.model_copy(update={"statement_timeout_seconds": limit})
        return self.model_copy(update={"snowflake": account})

    def _require_tables(self, names: Sequence[str]) -> None:
        known = [name for s in self.sources for table in s.tables for name in _names(s, table)]
        for name in names:
            if name not in known:
                raise unknown_name("enabled table", name, sorted(set(known)))

    def _job(self, source: Source, table: Table) -> TableJob:
        types = table.chunking_column_types or (None,) * len(table.chunking_columns)
        keys = zip(table.chunking_columns, types, strict=True)
        batch_size = _first(table.batch_size, source.batch_size, self.batch_size)
        levels = (table, source, TopLevel(self.mode, self.insert_only_mode))
        return TableJob(
            source_name=source.source_name,
            source=self._source_table(source, table),
            target=TargetTable(
                database=self.target_database(source),
                schema=source.target_pg_schema,
                name=table.target or table.source,
            ),
            keys=tuple(ChunkKey(column, type) for column, type in keys),
            batch_size=batch_size if isinstance(batch_size, int) else None,  # the text auto
            parallel_threads=_first(
                table.parallel_threads, source.parallel_threads, self.parallel_threads
            ),
            max_retry_attempts=_first(
                table.max_retry_attempts, source.max_retry_attempts, self.max_retry_attempts
            ),
            uniqueness_columns=table.uniqueness_columns,
            source_watermark=table.source_watermark,
            target_watermark=table.target_watermark or table.source_watermark,
            mode=written_by(levels, unique=bool(table.uniqueness_columns)),
            truncate_onstart=emptied_first(levels),
            replace=replaced(levels),
            keep_previous_hours=_first(
                table.keep_previous_hours, source.keep_previous_hours, self.keep_previous_hours
            ),
            allow_truncate=_first(table.allow_truncate, source.allow_truncate, False),
            overlap_seconds=_first(
                table.overlap_seconds, source.overlap_seconds, self.overlap_seconds
            ),
            disable_index=table.disable_index,
            nul_characters=_first(table.nul_characters, source.nul_characters, NulCharacters.FAIL),
            extraction=_first(table.extraction, source.extraction, self.extraction),
            column_names=_first(table.column_names, source.column_names, self.column_names),
            new_columns=_first(table.new_columns, source.new_columns, self.new_columns),
        )

    def _source_table(self, source: Source, table: Table) -> SourceTable:
        found = SourceTable(
            database=self.source_database(source),
            schema=self.source_schema(source),
            name=table.source,
            filter=table.source_filter,
        )
        if source.connection is not None:
            return found
        account = self.snowflake.warehouse if self.snowflake else None
        return dataclasses.replace(
            found,
            warehouse=_first(table.warehouse, source.warehouse, account),
            snapshot=_first(table.snapshot, source.snapshot, self.snapshot),
        )


def _first(table: V | None, source: V | None, top: V) -> V:
    if table is not None:
        return table
    return top if source is None else source


def _names(source: Source, table: Table) -> tuple[str, ...]:
    """Every name by which the command line may mean a table."""
    target = table.target or table.source
    names = [table.source, target, f"{source.target_pg_schema}.{target}"]
    if source.source_sf_schema:
        names.append(f"{source.source_sf_schema}.{table.source}")
    return tuple(names)


def _narrowed(source: Source, names: Sequence[str]) -> Source:
    kept = (table for table in source.tables if not set(names).isdisjoint(_names(source, table)))
    return source.model_copy(update={"tables": tuple(kept)})


def _updated(source: Source, settings: Mapping[str, object]) -> Source:
    """With the settings at the source and at each of its tables."""
    tables = tuple(table.model_copy(update=settings) for table in source.tables)
    return source.model_copy(update={**settings, "tables": tables})


def _require_one(number: int | str | None, what: str) -> None:
    if isinstance(number, int) and number < 1:
        raise UsageError(f"{number} {what}", remedy="give 1 or more")
