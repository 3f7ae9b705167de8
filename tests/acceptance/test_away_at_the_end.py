"""A process whose time is up ends in time where its server is away, or the network to it is gone."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

import snowmelt
from snowmelt.config import load_config
from snowmelt.deadline import Deadline
from snowmelt.errors import Interrupted
from snowmelt.postgres.connect import Server, Session
from tests.acceptance.processes import Gate, by_day, create_target, minutes
from tests.acceptance.proxy import Proxy
from tests.acceptance.test_cut_off import SOON
from tests.support import SECONDS, Database, config_for, write_config
from tests.support import snowmelt as command

ROWS, CHUNKS = 4_320, 4
PROCESS = """
import sys
import snowmelt
from snowmelt.config import load_config
from snowmelt.deadline import Deadline
with snowmelt.open(load_config(sys.argv[1], environ={})) as mover:
    mover.run(mover.plan(), deadline=Deadline.after(int(sys.argv[2]), 6))
"""


@pytest.fixture
def proxy(database: Database) -> Iterator[Proxy]:
    with Proxy.before(database.dsn) as proxy:
        yield proxy


@pytest.fixture
def config(database: Database, proxy: Proxy, tmp_path: Path) -> Path:
    source = minutes(tmp_path / "s.duckdb", ROWS, "T")
    create_target(database, "T", primary_key=True)
    through = Database(database.name, proxy.of(database.dsn))
    return write_config(tmp_path, config_for(through, source, by_day("T"), parallel_threads=2))


def goes_on(config: Path, database: Database) -> None:
    """Another process moves all rows at once, by the way that is there."""
    source = config.parent / "s.duckdb"
    write_config(config.parent, config_for(database, source, by_day("T"), parallel_threads=2))
    done = command(config, "migrate")
    assert done.returncode == 0, done.stderr
    assert database.value('SELECT count(*) FROM "T"') == ROWS


def test_a_server_that_is_down(database: Database, proxy: Proxy, config: Path) -> None:
    with (
        Gate.before(database, "T") as gate,
        snowmelt.open(load_config(config, environ={})) as mover,
    ):
        plan = mover.plan()

        def fall() -> None:
            gate.holds(2)
            proxy.close_down()

        falling = threading.Thread(target=fall)
        falling.start()
        started = time.monotonic()
        with pytest.raises(Interrupted, match="the time of this process was up, and what it"):
            mover.run(plan, deadline=Deadline.after(3, 60))
        assert time.monotonic() - started < SOON
        falling.join()
        assert not [one for one in threading.enumerate() if one.name.startswith("snowmelt")]
    goes_on(config, database)


def test_a_network_that_is_gone(database: Database, proxy: Proxy, config: Path) -> None:
    with Gate.before(database, "T") as gate:
        script = [sys.executable, "-c", PROCESS, str(config), "4"]
        with subprocess.Popen(script, stderr=subprocess.PIPE, text=True) as process:
            gate.holds(2)
            proxy.swallow()
            gone = time.monotonic()
            _, told = process.communicate(timeout=SECONDS)
        assert process.returncode == 3, told
        assert time.monotonic() - gone < 10
    proxy.close_down()
    goes_on(config, database)


def test_a_run_that_can_not_be_recorded(database: Database, config: Path) -> None:
    """Nothing is in flight that could be cut off: the process ends all the same."""
    command(config, "plan")
    script = [sys.executable, "-c", PROCESS, str(config), "2"]
    with database.connect() as other, other.transaction():
        other.execute("SELECT pg_advisory_xact_lock(hashtextextended('snowmelt recording', 0))")
        ended = subprocess.run(script, capture_output=True, timeout=30, check=False)
    assert ended.returncode == 3, ended.stderr
    goes_on(config, database)


def test_telling_a_server_that_is_gone_holds_nobody_up(database: Database, proxy: Proxy) -> None:
    session = Session(Server.of({}, dsn=proxy.of(database.dsn)))
    assert session.connection.execute("SELECT 1").fetchone() == (1,)
    proxy.swallow()
    telling = threading.Thread(target=session.interrupt)
    telling.start()
    longest, last = 0.0, time.monotonic()
    while telling.is_alive():
        time.sleep(0.01)
        longest, last = max(longest, time.monotonic() - last), time.monotonic()
    assert longest < 2
    session.close()
