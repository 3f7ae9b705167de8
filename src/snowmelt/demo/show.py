"""The demo: a stand-in for Snowflake and a real PostgreSQL, a wide table, a kill -9 in the middle, a resume, and
a proof."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
from rich.console import Console

from snowmelt.demo.place import roomy_temp
from snowmelt.demo.postgres import LocalPostgres
from snowmelt.demo.proof import prove
from snowmelt.demo.visits import KEY, load_visits, write_visits
from snowmelt.errors import FatalError
from snowmelt.standin.server import StandIn

DATABASE, SCHEMA, TABLE = "ANALYTICS", "BI", "FACT_VISITS"
PASSWORD = "SNOWMELT_DEMO_PASSWORD"
KILL_AT = 0.4
"""The share of the chunks after which the first run is killed."""
DIFFERENCES = 4
_PROGRESS = """
    SELECT coalesce(sum((completed_at IS NOT NULL)::int)::float8 / nullif(count(*), 0), 0)
    FROM migration_status.chunk
"""


def run_demo(console: Console, rows: int, folder: Path | None) -> int:
    """Run it; returns the exit code: 0 if source and target agree, 4 if not.

    Raises FatalError when a run ends as it should not.
    """
    with _workplace(folder) as place:
        started = time.monotonic()
        _say(console, f"a table of {rows:,} rows and 30 columns")
        source = place / "visits.duckdb"
        source.unlink(missing_ok=True)
        write_visits(source, rows)
        _say(
            console,
            "a stand-in for Snowflake, which the real connector talks to, and the table in it",
        )
        with (
            StandIn.start() as snowflake,
            LocalPostgres.start(place / "postgres") as server,
        ):
            load_visits(snowflake, source, DATABASE, SCHEMA, TABLE)
            _say(console, "a PostgreSQL server of its own, from a wheel")
            name = f"demo_{int(time.time())}"
            server.create_database(name)
            dsn = server.dsn(name, over_socket=True)  # which needs no password to be shown
            os.environ[PASSWORD] = snowflake.password
            config = _write_config(place, snowflake, dsn, rows)
            console.print(config.read_text(), style="dim", markup=False)
            _say(console, f"$ snowmelt migrate, and kill -9 when {KILL_AT:.0%} of it is done")
            _run_and_kill(config, dsn)
            _say(console, "$ snowmelt status")
            _snowmelt("status", config)
            _say(console, "$ snowmelt migrate, again: it resumes")
            if _snowmelt("migrate", config):
                raise FatalError("the resumed run did not complete", remedy="see what it printed")
            _say(console, "the proof: every row of both sides compared, by a path of its own")
            proof = prove(source, TABLE, dsn, "public", TABLE)
        verdict, *sums = str(proof).splitlines()
        for line in sums:
            console.print(line, style="dim", markup=False)
        _say(console, f"{time.monotonic() - started:.0f} s in all")
        console.print(verdict, style="bold green" if proof.agrees else "bold red", markup=False)
        return 0 if proof.agrees else DIFFERENCES


@contextmanager
def _workplace(folder: Path | None) -> Iterator[Path]:
    if folder is not None:
        folder.mkdir(parents=True, exist_ok=True)
        yield folder.absolute()
        return
    place = Path(tempfile.mkdtemp(prefix="snowmelt-demo-", dir=roomy_temp()))
    place.chmod(0o711)  # the server may run as another user than the one who started the demo
    try:
        yield place
    finally:
        shutil.rmtree(place, ignore_errors=True)


def _write_config(place: Path, snowflake: StandIn, dsn: str, rows: int) -> Path:
    document = {
        "snowflake": {
            "account": snowflake.account,
            "user": snowflake.user,
            "password": f"${{{PASSWORD}}}",
            "host": snowflake.host,
            "port": snowflake.port,
            "protocol": "http",
            "warehouse": "DEMO",
        },
        "postgres": {"dsn": dsn},
        "parallel_threads": 2,
        "batch_size": max(rows // 60, 1_000),
        "lease_seconds": 5,
        "sources": [
            {
                "source_name": "visits",
                "source_sf_database": DATABASE,
                "source_sf_schema": SCHEMA,
                "tables": [{"source": TABLE, "chunking_columns": [KEY]}],
            }
        ],
    }
    path = place / "snowmelt.json"
    path.write_text(json.dumps(document, indent=2), encoding="utf-8")
    return path


def _run_and_kill(config: Path, dsn: str) -> None:
    process = subprocess.Popen(_command("migrate", config))
    try:
        with psycopg.connect(dsn, autocommit=True) as connection:
            while process.poll() is None and _progress(connection) < KILL_AT:
                time.sleep(0.05)
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    if process.returncode != -signal.SIGKILL:
        raise FatalError(
            f"the run ended by itself with {process.returncode} before it could be killed",
            remedy="see what it printed; a larger --rows gives more time",
        )


def _progress(connection: psycopg.Connection) -> float:
    try:
        row = connection.execute(_PROGRESS).fetchone()
    except psycopg.errors.UndefinedTable:
        return 0.0
    return float(row[0]) if row else 0.0


def _snowmelt(verb: str, config: Path) -> int:
    return subprocess.run(_command(verb, config), check=False).returncode


def _command(verb: str, config: Path) -> list[str]:
    return [sys.executable, "-m", "snowmelt", verb, "-c", str(config)]


def _say(console: Console, text: str) -> None:
    console.print(f"\n▸ {text}", style="bold", markup=False)
