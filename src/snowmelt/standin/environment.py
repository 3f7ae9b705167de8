"""What a statement's meaning depends on besides its text."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import duckdb
import pyarrow as pa

from snowmelt.standin.catalogue import Catalogue, Table
from snowmelt.standin.failures import StatementError
from snowmelt.standin.names import TableName
from snowmelt.standin.typed import Typed

VirtualTable = Callable[[str, str, Mapping[str, object]], pa.Table | None]


@dataclass(slots=True)
class Environment:
    """One statement's view of the server; `values` are those of CURRENT_USER() and the like."""

    catalogue: Catalogue
    duck: duckdb.DuckDBPyConnection
    database: str | None
    schema: str | None
    values: Mapping[str, Typed]
    virtual_table: VirtualTable
    reads: list[tuple[Table, int]] = field(default_factory=list)
    registered: list[str] = field(default_factory=list)
    numbers: itertools.count[int] = field(default_factory=itertools.count)

    def name(self, database: str | None, schema: str | None, name: str) -> TableName:
        """The full name; StatementError 90105 or 90106 where the session has no default."""
        if database is None and self.database is None:
            raise StatementError(
                90105,
                "22000",
                "Cannot perform operation. This session does not have a current database."
                " Call 'USE DATABASE', or use a qualified name.",
            )
        if schema is None and self.schema is None:
            raise StatementError(
                90106,
                "22000",
                "Cannot perform operation. This session does not have a current schema."
                " Call 'USE SCHEMA', or use a qualified name.",
            )
        return TableName(database or self.database or "", schema or self.schema or "", name)

    def register(self, rows: pa.Table) -> str:
        """Make the rows a table of DuckDB's until `release`; its name."""
        name = f"rows␟{next(self.numbers)}"
        self.duck.register(name, rows)
        self.registered.append(name)
        return name

    def release(self) -> None:
        for name in self.registered:
            self.duck.unregister(name)
        self.registered.clear()

    def changed_since_read(self) -> bool:
        """Whether a table read as of an earlier moment has changed since its version was chosen."""
        return any(table.changes != changes for table, changes in self.reads)
