"""One snapshot for each table: what happens at the source while a run is under way does not reach the target."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from snowmelt.standin.faults import Faults
from snowmelt.standin.server import StandIn
from tests.acceptance.processes import (
    FAILED,
    Background,
    Gate,
    completed,
    create_target,
    wait_until,
)
from tests.acceptance.snowflake import (
    DATABASE,
    SCHEMA,
    expected_minutes,
    minutes,
    snowflake_config,
    target_minutes,
)
from tests.support import Database, snowmelt

ROWS = 4_000
TABLE = "VISITS"
NAME = f'"{DATABASE}"."{SCHEMA}"."{TABLE}"'
BY_DAY = {"source": TABLE, "chunking_columns": ["at"], "batch_size": 1_440}
WAYS = ["query_per_chunk", "one_query"]
CHANGES = (
    f'DELETE FROM {NAME} WHERE "id" % 2 = 0',
    f"""UPDATE {NAME} SET "note" = 'changed', "at" = DATEADD(DAY, 1, "at") WHERE "id" % 3 = 0""",
    f"""INSERT INTO {NAME} SELECT 7, '2024-01-02'::TIMESTAMP_NTZ, 'new'""",
)


@pytest.fixture(scope="module")
def server() -> Iterator[StandIn]:
    with StandIn.start(rows_per_chunk=300, inline_rows=100) as server:
        yield server


@pytest.fixture
def standin(server: StandIn) -> StandIn:
    """With the table as it was at first."""
    minutes(server, TABLE, ROWS)
    server.execute(f'CREATE SCHEMA IF NOT EXISTS "{DATABASE}"."CLONES"')
    server.reset_stats()
    return server


def _clones(standin: StandIn) -> list[tuple[str]]:
    return standin.execute(
        f"SELECT table_name FROM \"{DATABASE}\".INFORMATION_SCHEMA.TABLES WHERE table_schema = 'CLONES'"
    )


CLONING: dict[str, object] = {"clone_schema": f"{DATABASE}.CLONES"}


@pytest.mark.parametrize("snapshot", ["time_travel", "clone"])
@pytest.mark.parametrize("way", WAYS)
def test_changes_under_way_do_not_reach_the_target(
    standin: StandIn, database: Database, tmp_path: Path, way: str, snapshot: str
) -> None:
    account = CLONING if snapshot == "clone" else None
    config = snowflake_config(
        tmp_path, database, standin, {**BY_DAY, "extraction": way}, account=account, snapshot=snapshot
    )  # fmt: skip
    create_target(database, TABLE)
    with Gate.before(database, TABLE) as gate, Background(config, "migrate") as run:
        gate.holds(4)
        for change in CHANGES:
            standin.execute(change)
        gate.open()
        ended = run.end()

    assert ended.code == 0, ended.err
    assert target_minutes(database, TABLE) == expected_minutes(ROWS)
    read = [text for text in standin.stats().statements if text.startswith('SELECT "id"')]
    assert len(read) == (4 if way == "query_per_chunk" else 1)
    if snapshot == "clone":
        assert all("CLONES" in text for text in read)
    else:
        moment = r"AT \(TIMESTAMP => ('[^']+'::TIMESTAMP_TZ)\)"
        assert len({re.findall(moment, text)[0] for text in read}) == 1
    assert _clones(standin) == []
    assert "not tidied up" not in ended.err


@pytest.mark.parametrize("snapshot", ["time_travel", "clone"])
def test_history_that_is_lost_in_the_middle(
    standin: StandIn, database: Database, tmp_path: Path, snapshot: str
) -> None:
    """It stops the table, unless a clone holds the moment."""
    account = CLONING if snapshot == "clone" else None
    config = snowflake_config(
        tmp_path, database, standin, {**BY_DAY, "parallel_threads": 1}, account=account, snapshot=snapshot
    )  # fmt: skip
    create_target(database, TABLE)
    with Gate.before(database, TABLE) as gate, Background(config, "migrate") as run:
        gate.holds(1)
        standin.execute(CHANGES[0])
        standin.forget_history(DATABASE, SCHEMA, TABLE)
        gate.open()
        ended = run.end()

    if snapshot == "clone":
        assert ended.code == 0, ended.err
        assert target_minutes(database, TABLE) == expected_minutes(ROWS)
        return
    assert ended.code == FAILED
    told = ended.out + ended.err
    assert "history at the moment of its snapshot is gone" in told
    assert "--restart-table" in told
    assert completed(database) >= 1
    written = "SELECT coalesce(sum(rows_written), 0) FROM migration_status.chunk"
    assert database.value(f'SELECT count(*) FROM "{TABLE}"') == database.value(written)

    again = snowmelt(config, "migrate")
    assert again.returncode == FAILED
    assert "history at the moment of its snapshot is gone" in again.stdout + again.stderr
    # The choice: another snapshot, for all of it.
    database.execute(f'TRUNCATE "{TABLE}"')
    anew = snowmelt(config, "migrate", "--restart-table", TABLE)
    assert anew.returncode == 0, anew.stderr
    assert database.value(f'SELECT count(*) FROM "{TABLE}"') == ROWS // 2


def test_a_clone_outlives_its_table(standin: StandIn, database: Database, tmp_path: Path) -> None:
    config = snowflake_config(
        tmp_path,
        database,
        standin,
        {**BY_DAY, "parallel_threads": 1},
        account=CLONING,
        snapshot="clone",
    )
    create_target(database, TABLE)
    with Gate.before(database, TABLE) as gate, Background(config, "migrate") as run:
        gate.holds(1)
        standin.execute(f"DROP TABLE {NAME}")
        gate.open()
        ended = run.end()

    assert ended.code == 0, ended.err
    assert target_minutes(database, TABLE) == expected_minutes(ROWS)


def test_a_table_that_is_loaded_anew_leaves_no_clone_of_before(
    standin: StandIn, database: Database, tmp_path: Path
) -> None:
    config = snowflake_config(
        tmp_path,
        database,
        standin,
        BY_DAY,
        account=CLONING,
        snapshot="clone",
    )
    create_target(database, TABLE)
    with Gate.before(database, TABLE) as gate, Background(config, "migrate"):
        gate.holds(4)
    database.execute(f'TRUNCATE "{TABLE}"')

    ended = snowmelt(config, "migrate", "--restart-table", TABLE)

    assert ended.returncode == 0, ended.stderr
    assert _clones(standin) == []


def test_a_clone_that_is_made_while_its_run_is_aborted_does_not_stay(
    standin: StandIn, database: Database, tmp_path: Path
) -> None:
    config = snowflake_config(
        tmp_path,
        database,
        standin,
        BY_DAY,
        account=CLONING,
        snapshot="clone",
    )
    standin.faults(Faults(query_latency_seconds=4, slow_match="^CREATE TRANSIENT TABLE"))
    with Background(config, "migrate") as run:
        wait_until(
            lambda: any(text.startswith("CREATE TRANSIENT") for text in standin.stats().statements),
            "a clone that is being made",
        )
        run_id = str(database.value("SELECT run_id FROM migration_status.run"))
        aborted = snowmelt(config, "abort", run_id)
        ended = run.end()
    standin.faults()

    assert aborted.returncode == 0, aborted.stderr
    assert ended.code == FAILED
    assert _clones(standin) == []


def test_an_aborted_run_leaves_no_clone_and_no_query(
    standin: StandIn, database: Database, tmp_path: Path
) -> None:
    config = snowflake_config(
        tmp_path, database, standin, BY_DAY, account=CLONING, snapshot="clone"
    )
    create_target(database, TABLE)
    with Gate.before(database, TABLE) as gate, Background(config, "migrate") as run:
        gate.holds(4)
        assert len(_clones(standin)) == 1
        run_id = str(database.value("SELECT run_id FROM migration_status.run"))
        gate.open()
        aborted = snowmelt(config, "abort", run_id)
        run.end()

    assert aborted.returncode == 0, aborted.stderr
    assert _clones(standin) == []
    assert standin.running() == ()


CHANGED_READING = {
    "a type": (f'ALTER TABLE {NAME} ALTER COLUMN "note" SET DATA TYPE VARCHAR(99)', "note"),
    "a column that is gone": (f'ALTER TABLE {NAME} DROP COLUMN "note"', "note"),
    "a row access policy": ([("ROW_ACCESS_POLICY", "ONLY_MINE", None)], "policies"),
    "a masking policy": ([("MASKING_POLICY", "HIDE", "note")], "policies"),
}


@pytest.mark.parametrize("change", CHANGED_READING)
def test_a_table_that_is_read_otherwise_stops(
    standin: StandIn, database: Database, tmp_path: Path, change: str
) -> None:
    """Time Travel reads old rows with today's columns and policies."""
    config = snowflake_config(
        tmp_path, database, standin, {**BY_DAY, "parallel_threads": 1}, max_retry_attempts=0
    )
    create_target(database, TABLE)
    what, told = CHANGED_READING[change]
    with Gate.before(database, TABLE) as gate, Background(config, "migrate") as run:
        gate.holds(1)
        if isinstance(what, str):
            standin.execute(what)
        else:
            standin.set_policies(DATABASE, SCHEMA, TABLE, what)
        gate.open()
        ended = run.end()
    standin.set_policies(DATABASE, SCHEMA, TABLE, [])

    assert ended.code == FAILED
    assert told in ended.out + ended.err
    assert "Traceback" not in ended.err


def test_a_column_that_is_added_is_nobodys_business(
    standin: StandIn, database: Database, tmp_path: Path
) -> None:
    config = snowflake_config(tmp_path, database, standin, {**BY_DAY, "parallel_threads": 1})
    create_target(database, TABLE)
    with Gate.before(database, TABLE) as gate, Background(config, "migrate") as run:
        gate.holds(1)
        standin.execute(f'ALTER TABLE {NAME} ADD COLUMN "more" VARCHAR')
        gate.open()
        ended = run.end()

    assert ended.code == 0, ended.err
    assert target_minutes(database, TABLE) == expected_minutes(ROWS)


def test_another_role_does_not_go_on(standin: StandIn, database: Database, tmp_path: Path) -> None:
    config = snowflake_config(tmp_path, database, standin, {**BY_DAY, "parallel_threads": 1})
    create_target(database, TABLE)
    with Gate.before(database, TABLE) as gate, Background(config, "migrate"):
        gate.holds(1)
        gate.lets(1)
        wait_until(lambda: completed(database), "the first chunk")
        gate.holds(1)
    other = snowflake_config(tmp_path, database, standin, BY_DAY, account={"role": "SOMEBODY_ELSE"})

    ended = snowmelt(other, "migrate")

    assert ended.returncode == FAILED
    assert "the role was LOADER and is SOMEBODY_ELSE" in ended.stdout + ended.stderr


def test_without_a_snapshot_the_plan_says_so(
    standin: StandIn, database: Database, tmp_path: Path
) -> None:
    config = snowflake_config(tmp_path, database, standin, BY_DAY, snapshot="none")

    planned = snowmelt(config, "plan")
    ended = snowmelt(config, "migrate", "--json")

    assert "NOT exact" in planned.stdout, planned.stderr
    assert ended.returncode == 0, ended.stderr
    assert target_minutes(database, TABLE) == expected_minutes(ROWS)
    assert not any("AT (TIMESTAMP" in text for text in standin.stats().statements)
    assert database.value("SELECT planned_rows FROM migration_status.load") is None
    assert json.loads(ended.stdout)["tables"][0]["planned_rows"] is None


def test_the_plan_tells_of_retention_and_policies(
    standin: StandIn, database: Database, tmp_path: Path
) -> None:
    standin.set_policies(DATABASE, SCHEMA, TABLE, [("ROW_ACCESS_POLICY", "ONLY_MINE", None)])
    config = snowflake_config(tmp_path, database, standin, BY_DAY)

    planned = json.loads(snowmelt(config, "plan", "--json").stdout)
    standin.set_policies(DATABASE, SCHEMA, TABLE, [])

    notes = " ".join(planned["tables"][0]["notes"])
    assert "snapshot: Time Travel to" in notes
    assert "Time Travel keeps 24 hours" in notes
    assert "168 hours of resume_max_age" in notes
    assert "ONLY_MINE" in notes


def test_a_view_is_read_at_one_moment(standin: StandIn, database: Database, tmp_path: Path) -> None:
    view = f'"{DATABASE}"."{SCHEMA}"."LATE"'
    standin.execute(f'CREATE OR REPLACE VIEW {view} AS SELECT * FROM {NAME} WHERE "id" >= 2000')
    table = {"source": "LATE", "target": "late", "chunking_columns": ["at"], "batch_size": 1_440}
    config = snowflake_config(tmp_path, database, standin, table)
    create_target(database, "late")
    with Gate.before(database, "late") as gate, Background(config, "migrate") as run:
        gate.holds(3)
        standin.execute(CHANGES[0])
        gate.open()
        ended = run.end()

    assert ended.code == 0, ended.err
    assert target_minutes(database, "late") == expected_minutes(ROWS)[2_000:]
