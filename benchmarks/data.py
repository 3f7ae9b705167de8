"""The benchmark's tables: 16 columns like TPC-H's lineitem, and 250 columns of mixed types."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import duckdb


@dataclass(frozen=True, slots=True)
class Shape:
    """A generated table: how many rows, and the SELECT that makes them from `i`. `key` ascends with `i`."""

    name: str
    rows: int
    select: str
    key: str = "k"

    def parquet(self, folder: Path) -> Path:
        """The rows as one Parquet file, made if it is not there."""
        path = folder / f"{self.name}_{self.rows}.parquet"
        if not path.exists():
            with duckdb.connect() as connection:
                connection.execute("SET enable_progress_bar = false")
                connection.execute("SELECT setseed(0.5)")
                # Small row groups, so that a chunk's range reads its own and no others.
                connection.execute(
                    f"COPY (SELECT {self.select} FROM range({self.rows}) t(i)) TO '{path}' "
                    f"(FORMAT parquet, ROW_GROUP_SIZE {max(self.rows // 16, 2048)})"
                )
        return path


def lineitem(rows: int) -> Shape:
    """16 columns, about 195 bytes a row as binary COPY."""
    return Shape(
        "lineitem",
        rows,
        f"""
        i // 4 AS orderkey, (hash(i) % 200000)::BIGINT AS partkey, (hash(i + 1) % 10000)::BIGINT AS suppkey,
        (i % 7)::BIGINT AS linenumber, (hash(i + 2) % 50)::DECIMAL(15,2) AS quantity,
        ((hash(i + 3) % 10000000) / 100)::DECIMAL(15,2) AS extendedprice,
        ((hash(i + 4) % 10) / 100)::DECIMAL(15,2) AS discount, ((hash(i + 5) % 8) / 100)::DECIMAL(15,2) AS tax,
        ['A', 'N', 'R'][1 + (hash(i + 6) % 3)::INT] AS returnflag, ['O', 'F'][1 + (i % 2)::INT] AS linestatus,
        DATE '1992-01-01' + (i * 2500 // {rows})::INT AS k,
        DATE '1992-01-01' + (hash(i + 7) % 2500)::INT AS commitdate,
        DATE '1992-01-01' + (hash(i + 8) % 2500)::INT AS receiptdate,
        ['DELIVER IN PERSON', 'COLLECT COD', 'NONE', 'TAKE BACK RETURN'][1 + (hash(i + 9) % 4)::INT] AS instruct,
        ['AIR', 'MAIL', 'SHIP', 'TRUCK', 'RAIL'][1 + (hash(i + 10) % 5)::INT] AS shipmode,
        'carefully final deposits ' || hash(i + 11)::VARCHAR AS comment
        """,
    )


def wide(rows: int) -> Shape:
    """250 columns: integers, decimals, timestamps, dates, doubles, booleans and text, a tenth NULL."""
    kinds = (
        "(hash(i + {n}) % 1000000000)::BIGINT",
        "((hash(i + {n}) % 100000000) / 10000)::DECIMAL(18,4)",
        "CASE WHEN hash(i + {n}) % 10 > 0 THEN 'value ' || (hash(i + {n}) % 100000)::VARCHAR END",
        "TIMESTAMP '2024-01-01' + to_seconds((hash(i + {n}) % 30000000)::BIGINT)",
        "(hash(i + {n}) % 1000000) / 7.0::DOUBLE",
        "CASE WHEN hash(i + {n}) % 10 > 0 THEN (hash(i + {n}) % 100000)::INTEGER END",
        "hash(i + {n}) % 2 = 0",
        "DATE '2020-01-01' + (hash(i + {n}) % 2000)::INT",
    )
    columns = ", ".join(f"{kinds[n % len(kinds)].format(n=n)} AS c{n}" for n in range(249))
    return Shape("wide", rows, f"DATE '2024-01-01' + (i * 100 // {rows})::INT AS k, {columns}")
