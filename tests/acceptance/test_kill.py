"""Killed at random moments and started again each time, a migration ends with the source's rows.

`SNOWMELT_KILL_ROUNDS` sets how often each case is killed, `SNOWMELT_KILL_SEED` repeats a sequence.
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import time
from pathlib import Path

import psycopg
import pytest

from snowmelt.demo.postgres import LocalPostgres
from snowmelt.demo.proof import prove
from snowmelt.demo.visits import write_visits
from snowmelt.model import SourceTable, TargetTable
from snowmelt.postgres.connect import Server, Session
from snowmelt.postgres.ddl import create
from snowmelt.sources.duckdb import DuckDBSource
from tests.support import Database, command, config_for, snowmelt, write_config

ROUNDS = int(os.environ.get("SNOWMELT_KILL_ROUNDS", "4"))
SEED = int(os.environ.get("SNOWMELT_KILL_SEED", str(random.randrange(1 << 32))))
ROWS_PER_ROUND = 20_000
"""Some 50 chunks, of which a round needs about 15: each kill comes in the middle of a run."""
BATCH = 400
DONE = """
    SELECT count(*) FROM migration_status.chunk WHERE completed_at IS NOT NULL
"""


@pytest.mark.parametrize("primary_key", [False, True], ids=["no key", "primary key"])
def test_killed_client(database: Database, tmp_path: Path, primary_key: bool) -> None:
    dice = random.Random(SEED)
    source, config = _prepared(database, tmp_path, primary_key)

    for _ in range(ROUNDS):
        process = _started(config)
        _wait_for_progress(process, database, dice.randrange(20))
        time.sleep(dice.uniform(0, 0.2))
        _kill(process)

    _ends_exact(database, source, config)


@pytest.mark.parametrize("primary_key", [False, True], ids=["no key", "primary key"])
def test_killed_server_too(own_postgres: LocalPostgres, tmp_path: Path, primary_key: bool) -> None:
    """The server loses its asynchronous commits; the client dies before, after, or lives through it."""
    dice = random.Random(SEED)
    database = Database("killed", own_postgres.create_database("killed"))
    source, config = _prepared(database, tmp_path, primary_key)

    for _ in range(ROUNDS):
        process = _started(config)
        _wait_for_progress(process, database, dice.randrange(20))
        client_dies = dice.choice(["before", "after", "never"])
        if client_dies == "before":
            _kill(process)
        own_postgres.stop("immediate")
        if client_dies == "after":
            time.sleep(dice.uniform(0, 0.3))
            _kill(process)
        own_postgres.restart()
        if client_dies == "never":
            _wait_for_progress(process, database, dice.randrange(20))
            _kill(process)

    _ends_exact(database, source, config)


def _prepared(database: Database, folder: Path, primary_key: bool) -> tuple[Path, Path]:
    source = folder / "visits.duckdb"
    write_visits(source, ROWS_PER_ROUND * (ROUNDS + 1), primary_key=primary_key)
    table = {"source": "FACT_VISITS", "chunking_columns": ["Visit Updated Timestamp"]}
    document = config_for(database, source, table, batch_size=BATCH, parallel_threads=3)
    config = write_config(folder, document)
    if primary_key:
        # The key is there from the start, so that two backends could collide on it.
        _create_with_key(database, source)
    return source, config


def _create_with_key(database: Database, source: Path) -> None:
    reader = DuckDBSource("duckdb", source)
    relation = reader.describe(SourceTable("", "", "FACT_VISITS"))
    reader.close()
    session = Session(Server.of({}, dsn=database.dsn))
    create(session, TargetTable(database.name, "public", "FACT_VISITS"), relation.columns)
    session.close()
    database.execute('ALTER TABLE "FACT_VISITS" ADD PRIMARY KEY ("Visit Id")')


def _started(config: Path) -> subprocess.Popen[bytes]:
    # To a file, since a full pipe would stop the process.
    log = config.with_name("log").open("ab")
    with log:
        return subprocess.Popen(command(config, "migrate", "-v"), stdout=log, stderr=log)


def _wait_for_progress(process: subprocess.Popen[bytes], database: Database, chunks: int) -> None:
    """Until so many more chunks are done, or the run has ended."""
    target = None
    deadline = time.monotonic() + 60
    while process.poll() is None:
        assert time.monotonic() < deadline, "no progress within a minute"
        try:
            done = database.value(DONE)
        except psycopg.Error:
            done = None
        if done is not None:
            target = target if target is not None else done + chunks
            if done >= target:
                return
        time.sleep(0.02)


def _kill(process: subprocess.Popen[bytes]) -> None:
    process.send_signal(signal.SIGKILL)
    process.wait()


def _ends_exact(database: Database, source: Path, config: Path) -> None:
    log = config.with_name("log")
    ended = snowmelt(config, "migrate")
    told = f"seed {SEED}\n{ended.stderr}\n{log.read_text()[-4000:] if log.exists() else ''}"
    if database.value("SELECT count(*) FROM migration_status.run WHERE ending = 'completed'") == 0:
        assert ended.returncode == 0, told
    proof = prove(source, "FACT_VISITS", database.dsn, "public", "FACT_VISITS")
    assert proof.agrees, f"{proof}\n{told}"
