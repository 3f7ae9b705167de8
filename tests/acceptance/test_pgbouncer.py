"""Through pgbouncer in transaction mode, where a session ends with each transaction."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict

from snowmelt.demo.place import free_port
from snowmelt.demo.proof import prove
from tests.acceptance.processes import (
    Background,
    Gate,
    by_day,
    chunk_states,
    completed,
    create_target,
    minutes,
    run_state,
    wait_until,
)
from tests.support import Database, config_for, snowmelt, write_config

PGBOUNCER = shutil.which("pgbouncer") or shutil.which("pgbouncer", path="/usr/sbin:/usr/local/sbin")
ROWS, CHUNKS, THREADS = 14_400, 11, 3  # ten days, and the chunk of NULL keys

pytestmark = pytest.mark.skipif(PGBOUNCER is None, reason="pgbouncer is not installed")


@contextmanager
def pooled(database: Database, pool_size: int) -> Iterator[Database]:
    """The same database through a pgbouncer of its own, with that many connections to the server."""
    assert PGBOUNCER is not None
    server = conninfo_to_dict(database.dsn)
    port = free_port()
    folder = Path(tempfile.mkdtemp(prefix="snowmelt-pgbouncer-"))
    ini = folder / "pgbouncer.ini"
    ini.write_text(
        f"[databases]\n* = host={server['host']} port={server['port']} user={server['user']} "
        f"password={server['password']}\n"
        f"[pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {port}\nunix_socket_dir =\n"
        f"auth_type = any\npool_mode = transaction\ndefault_pool_size = {pool_size}\n"
    )
    account: dict[str, object] = {}
    if os.geteuid() == 0:  # pgbouncer refuses to run as root
        shutil.chown(folder, "nobody")
        shutil.chown(ini, "nobody")
        account = {"user": "nobody", "group": "nogroup", "extra_groups": []}
    ini.chmod(0o600)
    log = (folder / "log").open("w")
    process = subprocess.Popen([PGBOUNCER, ini], stdout=log, stderr=log, **account)  # type: ignore[call-overload]
    pooled = Database(database.name, f"postgresql://postgres@127.0.0.1:{port}/{database.name}")
    try:
        wait_until(lambda: process.poll() is not None or _answers(pooled), "pgbouncer")
        assert process.poll() is None, (folder / "log").read_text()
        yield pooled
    finally:
        process.kill()
        process.wait()
        log.close()
        shutil.rmtree(folder)


def _answers(database: Database) -> bool:
    try:
        return bool(database.value("SELECT true"))
    except psycopg.OperationalError:
        return False


@pytest.mark.parametrize("pool_size", [2, 6])
def test_a_killed_run_is_exact(database: Database, tmp_path: Path, pool_size: int) -> None:
    """Six connections are enough for all; with two, workers and heartbeat wait for each other."""
    source = minutes(tmp_path / "source.duckdb", ROWS, "T")
    create_target(database, "T", primary_key=True)
    in_flight = min(THREADS, pool_size)

    with pooled(database, pool_size) as pool, Gate.before(database, "T") as gate:
        document = config_for(pool, source, by_day("T"), parallel_threads=THREADS)
        config = write_config(tmp_path, document)
        with Background(config, "migrate") as migrate:
            gate.holds(in_flight)
            gate.lets(2)
            wait_until(lambda: completed(database) > 1, "the first chunks")
            gate.holds(in_flight)
            migrate.send(signal.SIGKILL)
            assert migrate.end().code == -signal.SIGKILL
        run_id, ending = run_state(database)
        assert ending is None
        assert completed(database) < CHUNKS
        gate.open()
        resumed = snowmelt(config, "migrate", "--json")

    assert resumed.returncode == 0, resumed.stderr
    report = json.loads(resumed.stdout)
    assert (report["run_id"], report["resumed"], report["rows"]) == (run_id, True, ROWS)
    assert chunk_states(database) == {"completed": CHUNKS}
    proof = prove(source, "T", database.dsn, "public", "T")
    assert proof.agrees, str(proof)


def test_abort_reaches_the_backends_behind_the_pooler(database: Database, tmp_path: Path) -> None:
    source = minutes(tmp_path / "source.duckdb", ROWS, "T")
    create_target(database, "T")
    with pooled(database, 6) as pool, Gate.before(database, "T") as gate:
        document = config_for(pool, source, by_day("T"), parallel_threads=THREADS)
        config = write_config(tmp_path, document)
        with Background(config, "migrate") as migrate:
            gate.holds(THREADS)
            run_id, _ = run_state(database)
            aborted = snowmelt(config, "abort", str(run_id))
            assert aborted.returncode == 0, aborted.stderr
            assert gate.held() == set()
            ended = migrate.end(30)
    assert ended.code == 1
    assert "aborted" in ended.out
    assert "Traceback" not in ended.err
    assert chunk_states(database) == {"pending": CHUNKS}
    assert database.value('SELECT count(*) FROM "T"') == 0
