"""Names of databases, schemas and tables, each exactly as Snowflake keeps it."""

from __future__ import annotations

import re
from dataclasses import dataclass

_PART = re.compile(r'"((?:[^"]|"")*)"|([^".]+)')
_PLAIN = re.compile(r"[A-Z_][A-Z0-9_$]*")


def quoted(name: str) -> str:
    """The name as SQL, quoted whatever it is."""
    return '"' + name.replace('"', '""') + '"'


def text(value: str | None) -> str:
    """The value as an SQL string literal."""
    return "NULL" if value is None else "'" + value.replace("'", "''") + "'"


def shown(name: str) -> str:
    """The name as Snowflake's messages show it: quoted only where it has to be."""
    return name if _PLAIN.fullmatch(name) else quoted(name)


def parts(path: str) -> tuple[str, ...]:
    """The parts of a dotted name; unquoted ones in upper case."""
    return tuple(
        match[1].replace('""', '"') if match[1] is not None else match[2].strip().upper()
        for match in _PART.finditer(path)
    )


@dataclass(frozen=True, slots=True)
class TableName:
    """A table's or view's full name."""

    database: str
    schema: str
    name: str

    @property
    def sql(self) -> str:
        return f"{quoted(self.database)}.{quoted(self.schema)}.{quoted(self.name)}"

    def __str__(self) -> str:
        return f"{shown(self.database)}.{shown(self.schema)}.{shown(self.name)}"
