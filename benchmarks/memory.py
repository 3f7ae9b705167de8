"""Peak memory of `snowmelt migrate` under limits: threads, columns and texts of all sizes.

Each cell is a process of its own, from a stand-in for Snowflake into PostgreSQL, with `lambda_memory` set.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path

import psycopg

from snowmelt.standin.faults import Faults
from snowmelt.standin.server import StandIn, StandInColumn

DATABASE, SCHEMA = "BENCH", "PUBLIC"
_MB = 1 << 20
BATCH_BYTES = 48 * _MB
"""What Snowflake cuts results into for snowmelt."""
_KINDS = (
    ("VARCHAR", ""),
    ("NUMBER(38,0)", "(i * {n})::BIGINT"),
    ("NUMBER(18,2)", "((i * {n} % 10000000) / 100)::DECIMAL(18,2)"),
    ("TIMESTAMP_NTZ(9)", "TIMESTAMP '2024-01-01' + to_microseconds(i * {n})"),
    ("VARCHAR", ""),
    ("FLOAT", "i / {n}::DOUBLE"),
    ("DATE", "DATE '2024-01-01' + (i % 1000)::INT"),
    ("BOOLEAN", "(i + {n}) % 2 = 0"),
)
"""Types of columns in turn, and DuckDB's expressions that make them from `i`."""
_TEXTS = 32
_MEASURE = """
import os, subprocess, sys
process = subprocess.Popen(sys.argv[1:])
_, status, usage = os.wait4(process.pid, 0)
print(usage.ru_maxrss)
sys.exit(os.waitstatus_to_exitcode(status))
"""
"""Linux starts a program's peak with that of the process which forked for it: a small one has to do that."""


@dataclass(frozen=True, slots=True)
class Shape:
    """A table: so many columns, the longest of its texts, and whether they can be compressed."""

    columns: int
    text_bytes: int
    compressible: bool = True

    @property
    def name(self) -> str:
        return f"T_{self.columns}_{self.text_bytes}_{'C' if self.compressible else 'R'}"

    def rows(self, bytes: int) -> int:
        """As many as weigh about so much on the wire."""
        texts = sum(kind == "VARCHAR" for kind, _ in self._kinds())
        width = self.text_bytes + (texts - 1) * min(self.text_bytes, 100) + 5 * self.columns
        return max(bytes // width, 1)

    def _kinds(self) -> Iterator[tuple[str, str]]:
        for number in range(self.columns):
            yield _KINDS[number % len(_KINDS)]

    def create(self, standin: StandIn, bytes: int) -> int:
        """Make the table with about so many bytes; returns its rows."""
        columns, values = [], []
        for number, (kind, value) in enumerate(self._kinds()):
            size = self.text_bytes if number == 0 else min(self.text_bytes, 100)
            columns.append(StandInColumn(f"C{number}", kind))
            values.append(value.format(n=number + 1) if value else self._text(number, size))
        rows = self.rows(bytes)
        query = f"SELECT {', '.join(values)} FROM range({rows}) t(i)"
        if not self.compressible and self.text_bytes > 100:
            query += f" JOIN ({self._pool()}) pool ON pool.n = i % {_TEXTS}"
        standin.create_table(DATABASE, SCHEMA, self.name, columns, query=query)
        return rows

    def _text(self, number: int, size: int) -> str:
        """About so many characters that differ from row to row."""
        if size <= 100 and not self.compressible:
            parts = " || ".join(f"md5((i * 7 + {number * 4 + n})::VARCHAR)" for n in range(4))
            return f"left({parts}, {size})"
        if size > 100 and not self.compressible:
            return "pool.text || i::VARCHAR"
        return f"left(repeat(md5((i + {number})::VARCHAR), {size // 32 + 1}), {size})"

    def _pool(self) -> str:
        return (
            "SELECT n, string_agg(md5((n * 1000003 + k)::VARCHAR), '') AS text "
            f"FROM range({_TEXTS}) a(n), range({self.text_bytes // 32}) b(k) GROUP BY n"
        )


@dataclass(frozen=True, slots=True)
class Cell:
    """One run, and what it took."""

    shape: Shape
    limit_mb: int | None
    threads: int
    gzip: bool
    peak_mb: int
    rows: int
    seconds: float
    memory: dict[str, object]

    def __str__(self) -> str:
        memory = self.memory
        waited = float(str(memory.get("waited_seconds") or 0)) / (self.threads * self.seconds)
        limit = f"{self.limit_mb:,}" if self.limit_mb else "none"
        over = "" if not self.limit_mb or self.peak_mb < self.limit_mb else "  OVER"
        cost = memory.get("byte_cost")
        return (
            f"{limit:>6} {self.threads:>7} {self.shape.columns:>7} {self.shape.text_bytes:>9,} "
            f"{'gzip' if self.gzip else 'plain':>5} {'yes' if self.shape.compressible else 'no':>3} "
            f"{self.peak_mb:>8,} {self.rows / self.seconds:>9,.0f} {waited:>6.0%} {memory.get('fed')!s:>3} "
            f"{cost if cost is None else round(float(str(cost)), 2)!s:>5}{over}"
        )


HEADER = " limit threads columns      text  wire cmp  peak MB    rows/s waited fed  cost"


def run(folder: Path, dsn: str, *, limits: Sequence[int] = (512, 2048)) -> list[Cell]:
    """The matrix, printed as it grows."""
    print("\nmemory: MB, peak of the process (ru_maxrss), lambda_memory as the limit")
    print(HEADER)
    cells = []
    with StandIn.start(rows_per_chunk=10_000_000, history=False) as standin:
        shapes = [Shape(*one) for one in product((16, 250), (100, 1_000_000))]
        shapes += [Shape(250, 100, False), Shape(16, 1_000_000, False)]
        for shape, gzip in zip(shapes, (False, True, True, False, True, False), strict=True):
            standin.faults(Faults(gzip="header" if gzip else "none"))
            for threads in (1, 20):
                rows = shape.create(standin, max(threads, 4) * BATCH_BYTES)
                for limit in limits:
                    cell = measure(folder, dsn, standin, shape, rows, threads, limit, gzip=gzip)
                    print(cell, flush=True)
                    cells.append(cell)
    return cells


def measure(
    folder: Path,
    dsn: str,
    standin: StandIn,
    shape: Shape,
    rows: int,
    threads: int,
    limit_mb: int | None,
    *,
    gzip: bool,
) -> Cell:
    """One process that moves the table. Raises CalledProcessError where it did not."""
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute("DROP SCHEMA IF EXISTS migration_status CASCADE")
        connection.execute(f'DROP TABLE IF EXISTS "{shape.name}"')
    config = folder / "memory.json"
    config.write_text(json.dumps(_config(dsn, standin, shape, rows, threads, limit_mb)))
    command = [sys.executable, "-m", "snowmelt", "migrate", "-c", str(config), "--json", "-q"]
    started = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-c", _MEASURE, *command], capture_output=True, text=True, check=False
    )
    seconds = time.perf_counter() - started
    if done.returncode:
        raise RuntimeError(
            f"{shape.name}, {threads} threads, {limit_mb} MB: {done.stderr[-2000:]}{done.stdout[-2000:]}"
        )
    document, _, peak = done.stdout.rstrip().rpartition("\n")
    report = json.loads(document)
    assert report["rows"] == rows
    memory = report.get("memory") or {}
    return Cell(
        shape, limit_mb, threads, gzip, int(peak) >> 10, rows, report["seconds"] or seconds, memory
    )


def _config(
    dsn: str, standin: StandIn, shape: Shape, rows: int, threads: int, limit_mb: int | None
) -> dict[str, object]:
    document: dict[str, object] = {
        "postgres": {"dsn": dsn},
        "snowflake": standin.login(),
        "parallel_threads": threads,
        "batch_size": max(rows // max(threads, 4), 1),
        "extraction": "one_query",
        "sources": [
            {
                "source_name": "bench",
                "source_sf_database": DATABASE,
                "source_sf_schema": SCHEMA,
                "tables": [{"source": shape.name, "target": shape.name}],
            }
        ],
    }
    if limit_mb is not None:
        document["lambda_memory"] = f"{limit_mb}MB"
    return document
