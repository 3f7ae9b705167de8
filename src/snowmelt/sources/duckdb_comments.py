"""What a DuckDB file says of a table and its columns in words."""

from __future__ import annotations

from collections.abc import Mapping

import duckdb

from snowmelt.model import SourceTable

_PLACE = """
    (database_name = $database OR $database = '' AND database_name = current_database())
    AND (schema_name = $schema OR $schema = '' AND schema_name = current_schema())
"""
_OF_TABLE = f"""
    SELECT comment FROM duckdb_tables() WHERE {_PLACE} AND table_name = $name
    UNION ALL SELECT comment FROM duckdb_views() WHERE {_PLACE} AND view_name = $name
"""
_OF_COLUMNS = f"""
    SELECT column_name, comment FROM duckdb_columns()
    WHERE {_PLACE} AND table_name = $name AND comment IS NOT NULL
"""


def comments(
    cursor: duckdb.DuckDBPyConnection, table: SourceTable
) -> tuple[str, Mapping[str, str]]:
    """The comment of a table or view, and those of its columns by name."""
    place = {"database": table.database, "schema": table.schema, "name": table.name}
    of_table = cursor.execute(_OF_TABLE, place).fetchone()
    of_columns = cursor.execute(_OF_COLUMNS, place).fetchall()
    return str(of_table[0] or "") if of_table else "", dict(of_columns)
