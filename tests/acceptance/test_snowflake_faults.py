"""Whatever goes wrong between Snowflake and here, the right rows arrive, or a clear error: never others."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from snowmelt.standin.faults import Faults
from snowmelt.standin.server import StandIn
from tests.acceptance.faulty import BY_DAY, ROWS, TABLE, WAYS, config_of
from tests.acceptance.processes import FAILED
from tests.acceptance.snowflake import (
    expected_minutes,
    migrate,
    minutes,
    snowflake_config,
    target_minutes,
)
from tests.support import SECONDS, Database, snowmelt


@pytest.fixture(scope="module")
def standin() -> Iterator[StandIn]:
    """Results of several batches, small as the tables are."""
    with StandIn.start(rows_per_chunk=300, inline_rows=100) as server:
        minutes(server, TABLE, ROWS)
        yield server


@pytest.fixture(autouse=True)
def _whole(standin: StandIn) -> Iterator[None]:
    yield
    standin.faults()


PASSING = {
    "503 for each third chunk": Faults(unavailable_every=3),
    "503 for queries": Faults(unavailable_queries=2),
    "connections that end in the middle of a chunk": Faults(drop_chunks=3),
    "a connection that ends after the statement ran": Faults(drop_queries=1),
    "short chunks": Faults(short_chunks=2),
    "a result without its inline part": Faults(empty_inline=1),
    "chunks compressed by the web server": Faults(gzip="header"),
    "compressed chunks": Faults(gzip="raw"),
    "slow chunks": Faults(chunk_latency_seconds=0.05),
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("fault", PASSING)
def test_what_passes_costs_time_only(
    standin: StandIn, database: Database, tmp_path: Path, fault: str, way: str
) -> None:
    config = config_of(tmp_path, database, standin, way)
    standin.faults(PASSING[fault])

    migrate(config)

    assert target_minutes(database, TABLE) == expected_minutes(ROWS)


STAYING = {
    "short chunks": (Faults(short_chunks=1_000_000), "rows, 300 were declared"),
    "numbers as text": (Faults(wrong_width=1_000_000), 'column "id"'),
    "denied": (Faults(deny="SELECT .*note"), "grant the role"),
    "chunks that are not there": (
        Faults(fail_chunk_numbers=tuple(range(20))),
        "of the result could not be downloaded",
    ),
}


# The connector tries a chunk that is not there ten times, with longer and longer waits between.
THREE_TRIES = """
import snowflake.connector.result_batch as batches
from snowmelt.cli import main
assert batches.MAX_DOWNLOAD_RETRY == 10
batches.MAX_DOWNLOAD_RETRY = 3
main()
"""


def impatient(config: Path, verb: str) -> subprocess.CompletedProcess[str]:
    """Run snowmelt as a process whose connector gives a chunk up soon."""
    return subprocess.run(
        [sys.executable, "-c", THREE_TRIES, verb, "-c", str(config)],
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("fault", STAYING)
def test_what_stays_ends_in_a_clear_error(
    standin: StandIn, database: Database, tmp_path: Path, fault: str, way: str
) -> None:
    config = config_of(tmp_path, database, standin, way, retries=0)
    faults, told = STAYING[fault]
    standin.faults(faults)

    ended = impatient(config, "migrate")

    assert ended.returncode == FAILED
    said = ended.stdout + ended.stderr
    assert told in " ".join(said.split())
    assert "Traceback" not in said
    assert "sig=" not in said  # a URL is as good as a password
    assert database.value("SELECT count(*) FROM migration_status.run WHERE ending = 'failed'") == 1
    rows = database.value(f'SELECT count(*) FROM "{TABLE}"')
    written = "SELECT coalesce(sum(rows_written), 0) FROM migration_status.chunk"
    assert rows == database.value(written)

    standin.faults()
    migrate(config)
    assert target_minutes(database, TABLE) == expected_minutes(ROWS)


@pytest.mark.parametrize("way", WAYS)
def test_a_short_inline_part_is_caught(
    standin: StandIn, database: Database, tmp_path: Path, way: str
) -> None:
    """Also in the small results that a plan is made from."""
    config = config_of(tmp_path, database, standin, way, retries=0)
    standin.faults(Faults(short_inline=1_000_000))
    ended = snowmelt(config, "migrate")
    assert ended.returncode == FAILED
    assert "Incomplete result" in ended.stderr + ended.stdout
    standin.faults()
    migrate(config)
    assert target_minutes(database, TABLE) == expected_minutes(ROWS)


@pytest.fixture(scope="module")
def single() -> Iterator[StandIn]:
    """Each row is a batch of its own."""
    with StandIn.start(rows_per_chunk=1, inline_rows=1) as server:
        minutes(server, TABLE, 3)
        yield server


@pytest.mark.parametrize("way", WAYS)
def test_batches_that_come_without_a_row(
    single: StandIn, database: Database, tmp_path: Path, way: str
) -> None:
    config = config_of(tmp_path, database, single, way, retries=0)
    for fault in (Faults(short_chunks=1_000), Faults(short_inline=1_000)):
        single.faults(fault)
        ended = snowmelt(config, "migrate")
        assert ended.returncode == FAILED
        assert "0 row" in " ".join((ended.stdout + ended.stderr).split())
    single.faults()
    migrate(config)
    assert target_minutes(database, TABLE) == expected_minutes(3)


def test_a_login_that_is_refused(standin: StandIn, database: Database, tmp_path: Path) -> None:
    config = snowflake_config(
        tmp_path, database, standin, BY_DAY, account={"password": "not the one"}
    )

    for verb in ("check", "plan", "migrate"):
        ended = snowmelt(config, verb)
        assert ended.returncode == FAILED
        assert verb != "check" or "source s: Snowflake refused the login" in ended.stdout
        assert "Snowflake refused the login" in ended.stdout + ended.stderr
        assert "not the one" not in ended.stdout + ended.stderr
        assert "Traceback" not in ended.stderr
