"""Migrations through the state machine: real Lambda processes, a stand-in Snowflake and a real PostgreSQL.

`SNOWMELT_KILL_ROUNDS` sets how many sequences of kills are tried, `SNOWMELT_KILL_SEED` repeats one.
"""

from __future__ import annotations

import json
import os
import random
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from snowmelt.standin.server import StandIn
from tests.acceptance.snowflake import minutes
from tests.aws.executions import Ended, Machine
from tests.aws.killer import Killer, killed_at_the_end
from tests.aws.ministack import Ministack
from tests.aws.sites import DAY, Site, migrator, site, slow
from tests.support import Database

ROUNDS = max(int(os.environ.get("SNOWMELT_KILL_ROUNDS", "4")) // 4, 1)
SEED = int(os.environ.get("SNOWMELT_KILL_SEED", str(random.randrange(1 << 32))))
LEAST_SLICES = 3


@pytest.fixture(scope="module")
def standin() -> Iterator[StandIn]:
    with StandIn.start(rows_per_chunk=5_000) as server:
        yield server


@pytest.fixture(scope="module")
def machine(cloud: Ministack) -> Iterator[Machine]:
    """A migrator with time enough."""
    with migrator(cloud) as machine:
        yield machine


@pytest.fixture(scope="module")
def short(cloud: Ministack) -> Iterator[Machine]:
    """A migrator with some 4 seconds to work in."""
    with migrator(cloud, timeout=6) as machine:
        yield machine


def completed(ended: Ended) -> dict[str, Any]:
    """The output of an execution that succeeded."""
    assert ended.status == "SUCCEEDED", ended
    output: dict[str, Any] = ended.output
    assert output["status"] == "completed", output
    return output


def one_completed_run(place: Site) -> bool:
    return [status for _, status in place.runs()] == ["completed"]


def test_one_slice_is_enough_for_a_small_table(
    machine: Machine, database: Database, standin: StandIn, tmp_path: Path
) -> None:
    place = site(machine, tmp_path, database, standin, days=4)
    output = completed(place.run())
    assert (output["rows"], output["slices"], output["executions"]) == (4 * DAY, 1, 1)
    assert place.loaded()
    assert one_completed_run(place)


def test_a_table_that_takes_many_slices(
    short: Machine, database: Database, standin: StandIn, tmp_path: Path
) -> None:
    place = site(short, tmp_path, database, standin, days=40)
    with slow(standin, 0.5):
        output = completed(place.run())
    assert output["slices"] >= LEAST_SLICES
    assert output["rows"] == place.rows
    assert place.loaded()
    assert one_completed_run(place)


def test_executions_that_go_on_for_one_another(
    short: Machine, database: Database, standin: StandIn, tmp_path: Path
) -> None:
    place = site(short, tmp_path, database, standin, days=40)
    with slow(standin, 0.5):
        ended = place.chain("night", state_machine={"continue_after": 2})
    output = completed(ended[-1])
    assert output["executions"] == len(ended) >= 2
    assert output["slices"] >= LEAST_SLICES
    assert place.loaded()
    assert one_completed_run(place)


@pytest.mark.parametrize("number", range(ROUNDS))
def test_invocations_that_are_killed_and_time_out_at_random(
    cloud: Ministack, database: Database, standin: StandIn, tmp_path: Path, number: int
) -> None:
    with migrator(cloud, timeout=6) as machine, slow(standin, 0.4):
        place = site(machine, tmp_path, database, standin, days=40)
        with Killer(place, SEED + number) as killer:
            output = completed(place.run(no_resume=True))
    assert killer.struck[signal.SIGKILL] >= 2, SEED
    assert killer.struck[signal.SIGSTOP] >= 1, SEED
    assert output["rows"] == place.rows
    assert place.loaded(), SEED
    assert one_completed_run(place)


def test_an_invocation_that_is_killed_when_all_is_done(
    machine: Machine, database: Database, standin: StandIn, tmp_path: Path
) -> None:
    """It had not answered: the next one finds the run, and begins no other over its rows."""
    place = site(machine, tmp_path, database, standin, days=4)
    with killed_at_the_end(place) as struck:
        output = completed(place.run(no_resume=True))
    assert struck.is_set()
    assert output["rows"] == place.rows
    assert place.loaded()
    assert one_completed_run(place)


def test_two_sources_side_by_side(
    machine: Machine, database: Database, standin: StandIn, tmp_path: Path
) -> None:
    minutes(standin, "U", 20 * DAY)
    place = site(machine, tmp_path, database, standin, days=20)
    document = json.loads(place.config.read_text())
    (one,) = document["sources"]
    other = {**one, "source_name": "u", "tables": [{**one["tables"][0], "source": "U"}]}
    place.config.write_text(json.dumps({**document, "sources": [one, other]}))
    with slow(standin, 0.3):
        both = [place.start(source_name=name) for name in ("s", "u")]
        outputs = [completed(machine.end(execution)) for execution in both]
    assert [output["rows"] for output in outputs] == [20 * DAY] * 2
    assert place.loaded("T")
    assert place.loaded("U")
    assert [status for _, status in place.runs()] == ["completed"] * 2
    overlap = "SELECT max(started_at) < min(completed_at) FROM migration_status.migration_runs"
    assert database.value(overlap)


def test_one_source_twice_at_once_is_one_run(
    machine: Machine, database: Database, standin: StandIn, tmp_path: Path
) -> None:
    place = site(machine, tmp_path, database, standin, days=20)
    with slow(standin, 0.5):
        both = [place.start() for _ in range(2)]
        outputs = [completed(machine.end(execution)) for execution in both]
    assert len({str(output["run_id"]) for output in outputs}) == 1
    assert place.loaded()
    assert one_completed_run(place)


def test_config_and_secrets_are_where_the_template_says(
    cloud: Ministack, database: Database, standin: StandIn, tmp_path: Path
) -> None:
    with migrator(cloud, SNOWMELT_CONFIG="s3://configs/night/snowmelt.json") as machine:
        place = site(machine, tmp_path, database, standin, days=4)
        document = json.loads(place.config.read_text())
        login = {"password": document["snowflake"]["password"]}
        document["snowflake"]["password"] = "${secret:snowmelt/snowflake#password}"
        cloud.client("secretsmanager").create_secret(
            Name="snowmelt/snowflake", SecretString=json.dumps(login)
        )
        dsn = document["postgres"]["dsn"]
        document["postgres"]["dsn"] = "${ssm:/snowmelt/dsn}"
        cloud.client("ssm").put_parameter(Name="/snowmelt/dsn", Value=dsn, Type="SecureString")
        storage = cloud.client("s3")
        storage.create_bucket(Bucket="configs")
        storage.put_object(
            Bucket="configs", Key="night/snowmelt.json", Body=json.dumps(document).encode()
        )
        assert completed(place.run(config=None))["rows"] == place.rows
    assert place.loaded()
