"""What of a DuckDB table could change between two queries: its filter, or what a view reads.

A chunk's rows are fixed when the plan is made, and a resume would read other ones. What can't be told is refused.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

import duckdb

from snowmelt.errors import TableError
from snowmelt.model import SourceTable

_CLOCKS = frozenset(
    {"current_date", "current_time", "current_timestamp", "localtime", "localtimestamp", "today"}
)
_PURE_TABLES = frozenset({"range", "generate_series", "unnest"})
_UNSTABLE = """
    SELECT DISTINCT function_name FROM duckdb_functions()
    WHERE stability <> 'CONSISTENT' AND list_contains(?, function_name)
"""
_VIEW = """
    SELECT sql FROM duckdb_views()
    WHERE NOT internal AND view_name = $name AND ($schema = '' OR schema_name = $schema)
      AND ($database = '' OR database_name = $database)
"""
_TABLE = """
    SELECT count(*) FROM duckdb_tables()
    WHERE table_name = $name AND ($schema = '' OR schema_name = $schema)
      AND ($database = '' OR database_name = $database)
"""


def require_fixed_filter(
    cursor: duckdb.DuckDBPyConnection, table: SourceTable, columns: frozenset[str]
) -> None:
    """Raise TableError for a filter that is no single condition, or that changes by itself."""
    if table.filter is None:
        return
    # Alone as well: `a) OR (b` is one condition in parentheses, and not within AND.
    for text in (f"\n{table.filter}\n", f"(\n{table.filter}\n)"):
        parsed = _parsed(cursor, f"SELECT 1 FROM source WHERE {text}")
        if parsed["error"] or parsed["statements"][0]["node"]["type"] != "SELECT_NODE":
            raise TableError(
                f"source_filter is not one condition: {parsed.get('error_message', table.filter)}",
                table=str(table),
                remedy="write what could stand after WHERE",
            )
    found = _Mentions().of(parsed["statements"][0]["node"]["where_clause"])
    moving = _unstable(cursor, found.functions) | (found.columns & _CLOCKS - columns)
    if moving:
        raise TableError(
            f"source_filter changes by itself: {', '.join(sorted(moving))}",
            table=str(table),
            remedy="write the date or value itself, so that a resume reads the same rows",
        )


def require_fixed_view(cursor: duckdb.DuckDBPyConnection, table: SourceTable) -> bool:
    """Whether the name is a view's. Raise TableError for one that reads more than tables of the database, whose
    file alone is watched for changes, or that changes by itself."""
    definition = _definition(cursor, table.database, table.schema, table.name)
    if definition is None:
        return False
    pending, seen = [definition], {definition}
    while pending:
        parsed = _parsed(cursor, pending.pop().partition(" AS ")[2])
        if parsed["error"]:
            _refuse(table, "can't be read as a query")
        found = _Mentions().of(parsed["statements"][0]["node"])
        if moving := _unstable(cursor, found.functions) | (found.columns & _CLOCKS):
            _refuse(table, f"changes by itself: {', '.join(sorted(moving))}")
        if outside := found.table_functions - _PURE_TABLES:
            _refuse(table, f"reads what is not in the database: {', '.join(sorted(outside))}")
        for database, schema, name in sorted(found.tables):
            inner = _definition(cursor, database, schema, name)
            if inner is not None and inner not in seen:
                pending.append(inner)
                seen.add(inner)
            elif (
                inner is None
                and name not in found.ctes
                and not _is_table(cursor, database, schema, name)
            ):
                _refuse(table, f"reads what is not in the database: {name}")
    return True


def _refuse(table: SourceTable, what: str) -> None:
    raise TableError(
        f"the view {what}, so its rows could change unnoticed",
        table=str(table),
        remedy="make a table of it, or name the files themselves with a files:/// connection",
    )


def _parsed(cursor: duckdb.DuckDBPyConnection, query: str) -> dict[str, Any]:
    ((text,),) = cursor.execute(
        "SELECT json_serialize_sql(?)", [query.rstrip().rstrip(";")]
    ).fetchall()
    parsed: dict[str, Any] = json.loads(text)
    return parsed


def _unstable(cursor: duckdb.DuckDBPyConnection, functions: set[str]) -> set[str]:
    return {name for (name,) in cursor.execute(_UNSTABLE, [sorted(functions)]).fetchall()}


def _definition(
    cursor: duckdb.DuckDBPyConnection, database: str, schema: str, name: str
) -> str | None:
    place = {"database": database, "schema": schema, "name": name}
    rows = cursor.execute(_VIEW, place).fetchall()
    return str(rows[0][0]) if rows else None


def _is_table(cursor: duckdb.DuckDBPyConnection, database: str, schema: str, name: str) -> bool:
    place = {"database": database, "schema": schema, "name": name}
    ((tables,),) = cursor.execute(_TABLE, place).fetchall()
    return bool(tables)


@dataclass(slots=True)
class _Mentions:
    """What is named anywhere below a node of DuckDB's syntax tree; columns are those without a table."""

    functions: set[str] = field(default_factory=set)
    columns: set[str] = field(default_factory=set)
    table_functions: set[str] = field(default_factory=set)
    tables: set[tuple[str, str, str]] = field(default_factory=set)
    ctes: set[str] = field(default_factory=set)

    def of(self, node: object) -> _Mentions:
        pending = [node]
        while pending:
            match pending.pop():
                case dict() as entry:
                    self._note(entry)
                    pending.extend(entry.values())
                case list() as entries:
                    pending.extend(entries)
        return self

    def _note(self, entry: dict[str, Any]) -> None:
        match entry:
            case {"type": "TABLE_FUNCTION", "function": {"function_name": str(name)}}:
                self.table_functions.add(name.lower())
            case {"type": "BASE_TABLE", "table_name": str(name)}:
                place = (str(entry.get("catalog_name", "")), str(entry.get("schema_name", "")))
                self.tables.add((*place, name))
            case {"cte_map": {"map": list(ctes)}}:
                self.ctes |= {str(cte["key"]) for cte in ctes if isinstance(cte, dict)}
        match entry:
            case {"function_name": str(name)}:
                self.functions.add(name.lower())
            case {"column_names": [column]}:
                self.columns.add(str(column).lower())
