"""What tests have in common: a database, a config, and the command as a process."""

from __future__ import annotations

import functools
import json
import os
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, LiteralString

import duckdb
import psycopg

SECONDS = 120
_SHARED_MEMORY = Path("/dev/shm")
_ROOM = 4 << 30  # bytes: a server's log of 1 GB, and databases of 8 MB, for some workers of pytest


@dataclass(frozen=True, slots=True)
class Database:
    """A PostgreSQL database of a test's own."""

    name: str
    dsn: str

    def connect(self) -> psycopg.Connection:
        return psycopg.connect(self.dsn, autocommit=True, prepare_threshold=None)

    def execute(self, statement: LiteralString, parameters: Sequence[object] = ()) -> list[Any]:
        """Run one statement; the rows, if it has any.

        What asks again and again until something is so keeps its connection: to open one takes the machine ten
        times as long as to answer, which is taken from what is waited for.
        """
        if statement.lstrip().upper().startswith("SELECT"):
            return _kept(self).execute(statement, parameters or None).fetchall()
        with self.connect() as connection:
            cursor = connection.execute(statement, parameters or None)
            return cursor.fetchall() if cursor.description else []

    def value(self, statement: LiteralString, parameters: Sequence[object] = ()) -> Any:
        return self.execute(statement, parameters)[0][0]


_connections: dict[tuple[int, str], psycopg.Connection] = {}
"""By thread and database, until the end of the test."""


def _kept(database: Database) -> psycopg.Connection:
    place = threading.get_ident(), database.dsn
    if place not in _connections or not _answers(_connections[place]):
        _connections[place] = database.connect()
    return _connections[place]


def _answers(connection: psycopg.Connection) -> bool:
    """Whether the server has not closed it, as far as that was told."""
    try:
        for _ in range(2):  # what it said last, and that it said no more
            connection.pgconn.consume_input()
    except psycopg.OperationalError:
        connection.close()
    return not connection.closed


def let_go() -> None:
    """Close the connections that were kept."""
    while _connections:
        _connections.popitem()[1].close()


@functools.cache
def memory() -> Path | None:
    """A folder in memory, if there is room for servers; with TMPDIR set, they are there."""
    if "TMPDIR" in os.environ or not os.access(_SHARED_MEMORY, os.W_OK | os.X_OK):
        return None
    found = os.statvfs(_SHARED_MEMORY)
    room = found.f_bavail * found.f_frsize >= _ROOM
    # The programs may be copied there, to be run.
    return _SHARED_MEMORY if room and not found.f_flag & os.ST_NOEXEC else None


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
