"""What the server knows of its tables and DuckDB does not: declared types, keys, policies, history."""

from __future__ import annotations

import dataclasses
import itertools
import json
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from snowmelt.standin.failures import exists_already, no_history, no_object
from snowmelt.standin.names import TableName
from snowmelt.standin.types import SfType, parsed

COMPANION = "␟"  # ends the name of a column's companion; no name of a user's ends so
_VERSIONS = 64  # of one table; the oldest go first


def now() -> int:
    """The server's clock: microseconds since 1970."""
    return time.time_ns() // 1000


@dataclass(frozen=True, slots=True)
class Column:
    """A column as declared. Temporal ones have a companion column in DuckDB beside them.

    The companion holds the nanoseconds below the microsecond, 0 to 999; for TIMESTAMP_TZ also
    (minutes east of UTC + 1440) * 1000.
    """

    name: str
    type: SfType
    nullable: bool = True
    default: str | None = None
    masking_policy: str | None = None
    comment: str | None = None

    @property
    def companion(self) -> str | None:
        return self.name + COMPANION if self.type.is_temporal else None


@dataclass(frozen=True, slots=True)
class Policy:
    """A policy on a table, or on one column of it."""

    kind: str
    name: str
    column: str | None = None


@dataclass(frozen=True, slots=True)
class Version:
    """A table's earlier contents: what it held before `valid_until`, in microseconds since 1970."""

    valid_until: int
    table: str
    columns: tuple[Column, ...]


@dataclass(slots=True)
class Table:
    """A table, or a view if it has a query."""

    name: TableName
    columns: tuple[Column, ...]
    primary_key: tuple[str, ...] = ()
    retention_days: int = 1
    transient: bool = False
    query: str | None = None
    clustering_key: str | None = None
    comment: str | None = None
    policies: tuple[Policy, ...] = ()
    created: int = field(default_factory=now)
    history_from: int = 0
    changes: int = 0
    versions: list[Version] = field(default_factory=list)
    lock: threading.RLock = field(default_factory=threading.RLock, repr=False)

    @property
    def is_view(self) -> bool:
        return self.query is not None

    def column(self, name: str) -> Column | None:
        return next((column for column in self.columns if column.name == name), None)

    def version_at(self, moment: int) -> Version | None:
        """The version that held at the moment, None for the present one; StatementError 707."""
        if moment < max(self.created, self.history_from):
            raise no_history(self.name.name)
        return next((one for one in self.versions if moment < one.valid_until), None)

    def keep(self, version: Version) -> list[Version]:
        """Add a version; returns those that there is no room for any more."""
        self.versions.append(version)
        gone, self.versions = self.versions[:-_VERSIONS], self.versions[-_VERSIONS:]
        if gone:
            self.history_from = gone[-1].valid_until
        return gone

    def forget(self) -> list[Version]:
        """From now on there is no history; returns what there was."""
        self.history_from = now()
        gone, self.versions = self.versions, []
        return gone


class Catalogue:
    """Every database, schema, table and view. Thread-safe; kept in a JSON file if it has one."""

    def __init__(self, file: Path | None = None) -> None:
        self._file = file
        self._lock = threading.RLock()
        self._tables: dict[TableName, Table] = {}
        self._schemas: dict[str, set[str]] = {}
        self._numbers = itertools.count(1)
        if file is not None and file.exists():
            self._load(json.loads(file.read_text(encoding="utf-8")))

    def number(self) -> int:
        """A number not given before."""
        return next(self._numbers)

    @property
    def databases(self) -> tuple[str, ...]:
        with self._lock:
            return tuple(sorted(self._schemas))

    def schemas(self, database: str) -> tuple[str, ...]:
        with self._lock:
            return tuple(sorted(self._schemas.get(database, ())))

    def tables(self, database: str | None = None, schema: str | None = None) -> tuple[Table, ...]:
        with self._lock:
            return tuple(
                table
                for name, table in sorted(self._tables.items(), key=lambda item: str(item[0]))
                if database in (None, name.database) and schema in (None, name.schema)
            )

    def find(self, name: TableName) -> Table | None:
        return self._tables.get(name)

    def get(self, name: TableName, kind: str = "Object") -> Table:
        """The table or view; StatementError 2003 if there is none of exactly this name."""
        with self._lock:
            table = self._tables.get(name)
        if table is None:
            raise no_object(kind, str(name))
        return table

    def add_schema(self, database: str, schema: str | None = None) -> None:
        with self._saved():
            schemas = self._schemas.setdefault(database, {"PUBLIC"})
            if schema is not None:
                schemas.add(schema)

    def drop_schema(self, database: str, schema: str | None = None) -> None:
        with self._saved():
            for name in [one.name for one in self.tables(database, schema)]:
                del self._tables[name]
            if schema is None:
                self._schemas.pop(database, None)
            else:
                self._schemas.get(database, set()).discard(schema)

    def add(self, table: Table, *, replace: bool = False) -> None:
        with self._saved():
            if not replace and table.name in self._tables:
                raise exists_already(str(table.name))
            self._tables[table.name] = table

    def remove(self, name: TableName) -> None:
        with self._saved():
            self._tables.pop(name, None)

    def rename(self, table: Table, name: TableName) -> None:
        with self._saved():
            self._tables.pop(table.name, None)
            table.name = name
            self._tables[name] = table

    def changed(self, table: Table, **values: object) -> None:
        """Set fields of a table."""
        with self._saved():
            for key, value in values.items():
                setattr(table, key, value)

    def _saved(self) -> _Saving:
        return _Saving(self, self._lock)

    def save(self) -> None:
        if self._file is None:
            return
        document = {
            "schemas": {name: sorted(schemas) for name, schemas in self._schemas.items()},
            "tables": [_written(table) for table in self._tables.values()],
        }
        part = self._file.with_suffix(".part")
        part.write_text(json.dumps(document), encoding="utf-8")
        part.replace(self._file)

    def _load(self, document: dict[str, object]) -> None:
        schemas, tables = document["schemas"], document["tables"]
        assert isinstance(schemas, dict)
        assert isinstance(tables, list)
        self._schemas = {name: set(names) for name, names in schemas.items()}
        for table in map(_read, tables):
            self._tables[table.name] = table


class _Saving:
    """Hold the catalogue's lock and write its file at the end."""

    def __init__(self, catalogue: Catalogue, lock: threading.RLock) -> None:
        self._catalogue = catalogue
        self._lock = lock

    def __enter__(self) -> None:
        self._lock.acquire()

    def __exit__(self, *_: object) -> None:
        try:
            self._catalogue.save()
        finally:
            self._lock.release()


_KEPT = ("retention_days", "transient", "query", "clustering_key", "comment", "created")


def _written(table: Table) -> dict[str, object]:
    columns = [
        {**{f: getattr(column, f) for f in _columns()}, "type": column.type.sql}
        for column in table.columns
    ]
    return {
        "name": dataclasses.astuple(table.name),
        "columns": columns,
        "primary_key": table.primary_key,
        "policies": [dataclasses.astuple(policy) for policy in table.policies],
        **{key: getattr(table, key) for key in _KEPT},
    }


def _read(document: dict[str, Any]) -> Table:
    # Earlier versions are in memory: after a restart history begins anew.
    return Table(
        TableName(*document["name"]),
        tuple(Column(**{**one, "type": parsed(one["type"])}) for one in document["columns"]),
        primary_key=tuple(document["primary_key"]),
        policies=tuple(Policy(*one) for one in document["policies"]),
        history_from=now(),
        **{part: document[part] for part in _KEPT},
    )


def _columns() -> Iterator[str]:
    return (one.name for one in dataclasses.fields(Column) if one.name != "type")
