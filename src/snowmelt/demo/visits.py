"""A fact table worth moving: 30 columns, names with spaces, and the values that loaders stumble over.

The rows are described in `visits.sql`: 200 days with one very heavy and some empty ones, keys that are NULL,
numbers beyond a double, NaN and infinities, text with emoji, quotes, line breaks, `\\N` and `\\.`.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import duckdb

from snowmelt.standin.server import StandIn, StandInColumn

KEY = "Visit Updated Timestamp"
PRIMARY_KEY = "Visit Id"


def write_visits(
    path: Path,
    rows: int,
    *,
    seed: int = 7,
    table: str = "FACT_VISITS",
    primary_key: bool = True,
) -> None:
    """Write the table into the DuckDB file `path`, which is made if need be; the same seed gives the same rows.

    3M rows: 6 s on 2 cores and 440 MB; `primary_key`, which declares "Visit Id" as the key, adds 2 s and
    140 MB for DuckDB's index.
    """
    name = _quoted(table)
    with _generator(rows, seed, path) as (connection, visits):
        connection.execute(f"CREATE TABLE {name} AS {visits}")
        for column in (PRIMARY_KEY, "Visit Date", "Is Bot", "Visit Number"):
            connection.execute(f"ALTER TABLE {name} ALTER {_quoted(column)} SET NOT NULL")
        if primary_key:
            connection.execute(f"ALTER TABLE {name} ADD PRIMARY KEY ({_quoted(PRIMARY_KEY)})")


def write_visits_parquet(
    folder: Path, rows: int, *, seed: int = 7, table: str = "FACT_VISITS"
) -> Path:
    """Write the same rows as one Parquet file into `folder`; returns its path."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{table}.parquet"
    target = str(path).replace("'", "''")
    with _generator(rows, seed) as (connection, visits):
        connection.execute(f"COPY ({visits}) TO '{target}' (FORMAT parquet)")
    return path


_SNOWFLAKE = {
    "UUID": "VARCHAR(36)",
    "VARCHAR": "VARCHAR(16777216)",
    "BOOLEAN": "BOOLEAN",
    "DATE": "DATE",
    "TIME": "TIME(9)",
    "TIMESTAMP": "TIMESTAMP_NTZ(9)",
    "TIMESTAMP WITH TIME ZONE": "TIMESTAMP_LTZ(9)",
    "SMALLINT": "NUMBER(38,0)",
    "INTEGER": "NUMBER(38,0)",
    "BIGINT": "NUMBER(38,0)",
    "FLOAT": "FLOAT",
    "DOUBLE": "FLOAT",
    "JSON": "VARIANT",
    "BLOB": "BINARY(8388608)",
}
"""DuckDB's types of the table -> those that Snowflake would have for the same values."""


def load_visits(
    standin: StandIn, path: Path, database: str, schema: str, table: str = "FACT_VISITS"
) -> None:
    """Put the table of a DuckDB file into the stand-in, with Snowflake's types. 3M rows: 5 s."""
    with duckdb.connect(str(path), read_only=True) as connection:
        described = connection.execute(f"DESCRIBE {_quoted(table)}").fetchall()
    columns = [
        StandInColumn(
            name,
            _SNOWFLAKE.get(type) or type.replace("DECIMAL", "NUMBER"),
            nullable=null != "NO",
        )
        for name, type, null, *_ in described
    ]
    key = [name for name, _, _, key, *_ in described if key == "PRI"]
    file = str(path).replace("'", "''")
    query = f"ATTACH '{file}' AS visits (READ_ONLY); SELECT * FROM visits.main.{_quoted(table)}"
    standin.create_table(database, schema, table, columns, query=query, primary_key=key)


@contextmanager
def _generator(
    rows: int, seed: int, path: Path | None = None
) -> Iterator[tuple[duckdb.DuckDBPyConnection, str]]:
    """A connection to `path`, or to memory, and the query that gives the rows on it."""
    with duckdb.connect(str(path or ":memory:")) as connection:
        connection.execute("SET enable_progress_bar = false")  # the caller has a display of its own
        connection.execute("SET VARIABLE rows = $rows::BIGINT", {"rows": rows})
        connection.execute("SET VARIABLE seed = $seed::BIGINT", {"seed": seed})
        # range() is read by one thread, a table by all: 3M rows in 6 s instead of 12.
        connection.execute(
            "CREATE TEMP TABLE numbers AS SELECT range AS i FROM range(getvariable('rows'))"
        )
        yield connection, Path(__file__).with_name("visits.sql").read_text(encoding="utf-8")


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'
