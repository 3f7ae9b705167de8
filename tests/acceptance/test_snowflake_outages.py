"""Sessions, URLs and servers that go away while a run is under way: the right rows arrive, or a clear error."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from snowmelt.standin.server import StandIn
from tests.acceptance.faulty import ROWS, TABLE, WAYS, config_of
from tests.acceptance.processes import Background, Gate, create_target
from tests.acceptance.snowflake import expected_minutes, minutes, target_minutes
from tests.support import Database


@pytest.fixture(scope="module")
def standin() -> Iterator[StandIn]:
    """Results of several batches, small as the tables are."""
    with StandIn.start(rows_per_chunk=300, inline_rows=100) as server:
        minutes(server, TABLE, ROWS)
        yield server


@pytest.mark.parametrize("master", [False, True], ids=["session", "master"])
@pytest.mark.parametrize("way", WAYS)
def test_sessions_that_expire_under_way(
    standin: StandIn, database: Database, tmp_path: Path, way: str, master: bool
) -> None:
    config = config_of(tmp_path, database, standin, way)
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
    config = config_of(tmp_path, database, standin, way)
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
        config = config_of(tmp_path, database, own, way)
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
