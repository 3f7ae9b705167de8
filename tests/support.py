"""What tests have in common: a database, a config, and the command as a process."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, LiteralString

import duckdb
import psycopg

SECONDS = 120


@dataclass(frozen=True, slots=True)
class Database:
    """A PostgreSQL database of a test's own."""

    name: str
    dsn: str

    def connect(self) -> psycopg.Connection:
        return psycopg.connect(self.dsn, autocommit=True, prepare_threshold=None)

    def execute(self, statement: LiteralString, parameters: Sequence[object] = ()) -> list[Any]:
        """Run one statement; the rows, if it has any."""
        with self.connect() as connection:
            cursor = connection.execute(statement, parameters or None)
            return cursor.fetchall() if cursor.description else []

    def value(self, statement: LiteralString, parameters: Sequence[object] = ()) -> Any:
        return self.execute(statement, parameters)[0][0]


def duckdb_file(path: Path, *statements: str) -> Path:
    """A DuckDB file made by statements."""
    with duckdb.connect(path) as connection:
        for statement in statements:
            connection.execute(statement)
    return path


def config_for(
    database: Database,
    source: Path,
    *tables: Mapping[str, object],
    connection: str = "duckdb",
    **top: object,
) -> dict[str, object]:
    """A config document with one source, `s`."""
    return {
        "postgres": {"dsn": database.dsn},
        "lease_seconds": 2,
        "sources": [
            {"source_name": "s", "connection": f"{connection}:///{source}", "tables": list(tables)}
        ],
        **top,
    }


def write_config(folder: Path, document: Mapping[str, object]) -> Path:
    """The document as a config file in the folder."""
    path = folder / "snowmelt.json"
    path.write_text(json.dumps(document), encoding="utf-8")
    return path


def command(config: Path, *arguments: str) -> list[str]:
    """The command line of a snowmelt process."""
    verbs = 2 if arguments[0] == "indexes" else 1
    return [
        *(sys.executable, "-m", "snowmelt"),
        *arguments[:verbs],
        *("-c", str(config)),
        *arguments[verbs:],
    ]


def snowmelt(
    config: Path, *arguments: str, env: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Run snowmelt as a process and wait for it."""
    return subprocess.run(
        command(config, *arguments),
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
        env=env,
    )
