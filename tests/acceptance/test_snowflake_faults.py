"""Whatever goes wrong between Snowflake and here, the right rows arrive, or a clear error: never others."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from snowmelt.standin.faults import Faults
from snowmelt.standin.server import StandIn
from tests.acceptance.processes import FAILED, Background, Gate, create_target
from tests.acceptance.snowflake import (
    expected_minutes,
    minutes,
    snowflake_config,
    target_minutes,
)
from tests.support import Database, snowmelt

ROWS = 4_000
TABLE = "VISITS"
BY_DAY: dict[str, object] = {"source": TABLE, "chunking_columns": ["at"]}
WAYS: dict[str, dict[str, object]] = {"query_per_chunk": BY_DAY, "one_query": {"source": TABLE}}


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


def _config(
    tmp_path: Path, database: Database, standin: StandIn, way: str, retries: int = 5
) -> Path:
    return snowflake_config(
        tmp_path,
        database,
        standin,
        WAYS[way],
        batch_size=1_000,
        parallel_threads=2,
        extraction=way,
        max_retry_attempts=retries,
    )


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
    config = _config(tmp_path, database, standin, way)
    standin.faults(PASSING[fault])

    ended = snowmelt(config, "migrate")

    assert ended.returncode == 0, ended.stderr
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


# The connector tries a chunk that is not there ten times, so one way has to do.
@pytest.mark.parametrize(
    ("fault", "way"),
    [
        (fault, way)
        for fault in STAYING
        for way in WAYS
        if (fault, way) != ("chunks that are not there", "one_query")
    ],
)
def test_what_stays_ends_in_a_clear_error(
    standin: StandIn, database: Database, tmp_path: Path, fault: str, way: str
) -> None:
    config = _config(tmp_path, database, standin, way, retries=0)
    faults, told = STAYING[fault]
    standin.faults(faults)

    ended = snowmelt(config, "migrate")

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
    resumed = snowmelt(config, "migrate")
    assert resumed.returncode == 0, resumed.stderr
    assert target_minutes(database, TABLE) == expected_minutes(ROWS)


@pytest.mark.parametrize("way", WAYS)
def test_a_short_inline_part_is_caught(
    standin: StandIn, database: Database, tmp_path: Path, way: str
) -> None:
    """Also in the small results that a plan is made from."""
    config = _config(tmp_path, database, standin, way, retries=0)
    standin.faults(Faults(short_inline=1_000_000))
    ended = snowmelt(config, "migrate")
    assert ended.returncode == FAILED
    assert "Incomplete result" in ended.stderr + ended.stdout
    standin.faults()
    assert snowmelt(config, "migrate").returncode == 0
    assert target_minutes(database, TABLE) == expected_minutes(ROWS)


@pytest.mark.parametrize("way", WAYS)
def test_batches_that_come_without_a_row(database: Database, tmp_path: Path, way: str) -> None:
    with StandIn.start(rows_per_chunk=1, inline_rows=1) as own:
        minutes(own, TABLE, 3)
        config = _config(tmp_path, database, own, way, retries=0)
        for fault in (Faults(short_chunks=1_000), Faults(short_inline=1_000)):
            own.faults(fault)
            ended = snowmelt(config, "migrate")
            assert ended.returncode == FAILED
            assert "0 row" in " ".join((ended.stdout + ended.stderr).split())
        own.faults()
        assert snowmelt(config, "migrate").returncode == 0
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


@pytest.mark.parametrize("master", [False, True], ids=["session", "master"])
@pytest.mark.parametrize("way", WAYS)
def test_sessions_that_expire_under_way(
    standin: StandIn, database: Database, tmp_path: Path, way: str, master: bool
) -> None:
    config = _config(tmp_path, database, standin, way)
    create_target(database, TABLE)
    with Gate.before(database, TABLE) as gate, Background(config, "migrate") as run:
        gate.holds(2)
        standin.expire_sessions(master=master)
        gate.open()
        ended = run.end()

    assert ended.code == 0, ended.err
    assert target_minutes(database, TABLE) == expected_minutes(ROWS)


@pytest.mark.parametrize("way", WAYS)
def test_urls_that_expire_under_way(
    standin: StandIn, database: Database, tmp_path: Path, way: str
) -> None:
    config = _config(tmp_path, database, standin, way)
    create_target(database, TABLE)
    with Gate.before(database, TABLE) as gate, Background(config, "migrate", "-v") as run:
        gate.holds(2)
        standin.reset_stats()
        standin.expire_urls()
        gate.open()
        ended = run.end()

    assert ended.code == 0, ended.err
    assert target_minutes(database, TABLE) == expected_minutes(ROWS)
    if way == "one_query":
        # Each worker meets one 403, and asks for all URLs once: 13 batches, and those under way.
        assert standin.stats().chunk_gets <= 13 + 2 * 3


@pytest.mark.parametrize(
    "way", ["query_per_chunk", pytest.param("one_query", marks=pytest.mark.slow)]
)
def test_a_server_that_is_away_for_a_while(tmp_path: Path, database: Database, way: str) -> None:
    """Its data survive; its sessions and results don't."""
    (tmp_path / "account").mkdir()
    with StandIn.start(tmp_path / "account", rows_per_chunk=300, inline_rows=100) as own:
        minutes(own, TABLE, ROWS)
        config = _config(tmp_path, database, own, way)
        create_target(database, TABLE)
        with Gate.before(database, TABLE) as gate, Background(config, "migrate") as run:
            gate.holds(2)
            own.kill()
            gate.open()
            own.restart()
            ended = run.end()
        assert "sig=" not in ended.err + ended.out
        if ended.code:  # without the history of before its crash
            assert "--restart-table" in ended.err + ended.out
        else:
            assert target_minutes(database, TABLE) == expected_minutes(ROWS)
