"""The stand-in as a process: several side by side, over a crash, and after the end of its owner."""

from __future__ import annotations

import socket
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pyarrow as pa
import pytest
import snowflake.connector
from snowflake.connector.errors import OperationalError, ProgrammingError

from snowmelt.standin.server import StandIn, StandInColumn


def test_servers_side_by_side_and_data_over_a_restart(tmp_path: Path) -> None:
    with StandIn.start(tmp_path / "a") as one, StandIn.start(require_warehouse=True) as other:
        assert one.port != other.port
        for server in (one, other):
            server.create_table(
                "D",
                "S x",
                "t",
                [StandInColumn("z", "TIMESTAMP_TZ(9)")],
                pa.table({"z": ["2024-01-01 00:00:00.123456789 +05:30"]}),
            )
        one.kill()
        one.restart()
        query = 'SELECT TO_VARCHAR("z", \'SS.FF9 TZH:TZM\') FROM "D"."S x"."t"'
        assert one.execute(query) == [("00.123456789 +05:30",)]
        with pytest.raises(ProgrammingError) as nothing:
            other.execute(query)
        assert (nothing.value.errno, nothing.value.sqlstate) == (606, "57P03")


def test_a_server_ends_with_the_process_that_started_it() -> None:
    code = (
        "from snowmelt.standin.server import StandIn; import os; s = StandIn.start();"
        " print(s.pid, s.port, flush=True); os.kill(os.getpid(), 9)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=30, check=False
    )
    pid, port = map(int, done.stdout.split())
    deadline = time.monotonic() + 10
    while psutil.pid_exists(pid):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", port))


def test_a_server_that_is_gone_is_told() -> None:
    other = StandIn.start()
    other.kill()
    with pytest.raises(OperationalError):
        snowflake.connector.connect(**other.login(), login_timeout=1, network_timeout=1)
    other.close()
