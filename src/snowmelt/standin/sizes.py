"""How many rows the tables have, and how many bytes they would be in Snowflake's storage."""

from __future__ import annotations

from snowmelt.standin.catalogue import Table
from snowmelt.standin.engine import Engine
from snowmelt.standin.names import TableName, text

_BYTES = {"REAL": 8, "TEXT": 12, "BINARY": 12, "BOOLEAN": 1, "DATE": 2, "VARIANT": 24}
_OTHER_BYTES = 4
_BLOCK = 512


def rows_by_table(engine: Engine, database: str) -> dict[TableName, int]:
    """Committed rows of each table in a database. Counted: what DuckDB estimates has deleted rows in it."""
    with engine.cursor() as duck:
        found = duck.execute(
            "SELECT schema_name, table_name FROM duckdb_tables()"
            f" WHERE database_name = {text(database)}"
        ).fetchall()
        stored = {TableName(database, schema, name) for schema, name in found}
        names = [one.name for one in engine.catalogue.tables(database) if one.name in stored]
        counts = {}
        for name in names:
            ((counts[name],),) = duck.execute(f"SELECT COUNT(*) FROM {name.sql}").fetchall()
    return counts


def compressed_bytes(table: Table, rows: int) -> int:
    """A size in whole blocks of 512 bytes: so many bytes for each value, by the column's type."""
    width = sum(_BYTES.get(one.type.kind, _OTHER_BYTES) for one in table.columns)
    return -(-rows * width // _BLOCK) * _BLOCK
