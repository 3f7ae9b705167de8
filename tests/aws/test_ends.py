"""How executions end that can't succeed, and which runs they go on with."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import snowmelt
from snowmelt.config import load_config
from snowmelt.standin.server import StandIn
from tests.aws.executions import Ended, Machine
from tests.aws.ministack import Ministack
from tests.aws.sites import DAY, Site, migrator, site
from tests.support import Database


@pytest.fixture(scope="module")
def standin() -> Iterator[StandIn]:
    with StandIn.start() as server:
        yield server


@pytest.fixture(scope="module")
def machine(cloud: Ministack) -> Iterator[Machine]:
    """One for all: its function is warm, as on AWS."""
    with migrator(cloud) as machine:
        yield machine


@pytest.fixture
def place(machine: Machine, database: Database, standin: StandIn, tmp_path: Path) -> Site:
    return site(machine, tmp_path, database, standin, days=4)


def changed(place: Site, *keys: str, value: object) -> None:
    """Set one key of the config, or add it."""
    document = json.loads(place.config.read_text())
    within: Any = document
    for key in keys[:-1]:
        within = within[0] if isinstance(within, list) else within
        within = within[key]
    within = within[0] if isinstance(within, list) else within
    within[keys[-1]] = value
    place.config.write_text(json.dumps(document))


def failed(ended: Ended, error: str) -> str:
    """The cause of an execution that failed so. A person reads it: it is no JSON, and has no trace."""
    assert (ended.status, ended.error) == ("FAILED", error), ended
    assert not ended.cause.startswith("{")
    assert "Traceback" not in ended.cause
    assert "stackTrace" not in ended.cause
    return ended.cause


def test_a_bad_config(place: Site) -> None:
    changed(place, "paralel_threads", value=4)
    cause = failed(place.run(), "ConfigError")
    assert "paralel_threads" in cause
    assert "did you mean parallel_threads?" in cause


def test_a_function_without_a_config(place: Site) -> None:
    cause = failed(place.run(config=None), "ConfigError")
    assert "SNOWMELT_CONFIG" in cause


def test_a_config_that_is_not_there(place: Site) -> None:
    place.config.unlink()
    cause = failed(place.run(), "ConfigError")
    assert str(place.config) in cause


def test_a_source_that_the_config_does_not_have(place: Site) -> None:
    cause = failed(place.run(source_name="analytics"), "ConfigError")
    assert "analytics" in cause


def test_a_field_that_nobody_knows(place: Site) -> None:
    cause = failed(place.run(resume_max_agee=4), "ConfigError")
    assert "did you mean resume_max_age?" in cause


def test_a_login_that_snowflake_refuses(place: Site) -> None:
    changed(place, "snowflake", "password", value="wrong-one")
    cause = failed(place.run(), "ConnectionsFailed")
    assert "wrong-one" not in cause
    assert "login" in cause.lower()


def test_a_login_that_postgresql_refuses(place: Site) -> None:
    changed(place, "postgres", "dsn", value=place.database.dsn.replace("postgres:", "nobody:"))
    cause = failed(place.run(), "ConnectionsFailed")
    assert "nobody" in cause


def test_a_server_that_is_not_there(place: Site) -> None:
    changed(place, "postgres", "dsn", value="postgresql://u:p@127.0.0.1:1/x")
    changed(place, "sources", "target_pg_database", value="x")
    cause = failed(place.run(), "ConnectionsFailed")
    assert "127.0.0.1:1" in cause


def test_a_table_that_is_missing(place: Site) -> None:
    changed(place, "sources", "tables", "source", value="NOT_THERE")
    cause = failed(place.run(), "MigrationFailed")
    assert "NOT_THERE" in cause


def test_a_table_that_fails(place: Site) -> None:
    place.database.execute(
        'CREATE TABLE "T" (id numeric CHECK (id < 3000), at timestamp, note text)'
    )
    cause = failed(place.run(), "MigrationFailed")
    assert "T_id_check" in cause
    ((run, status),) = place.runs()
    assert status in ("failed", "partial")
    assert cause.endswith(f"run {run}")


def interrupted(place: Site) -> str:
    """A run that failed in its middle and could go on; its id."""
    place.database.execute(
        'CREATE TABLE "T" (id numeric CHECK (id < 3000), at timestamp, note text)'
    )
    with snowmelt.open(load_config(place.config, environ={})) as mover:
        report = mover.run(mover.plan())
    assert 0 < sum(table.rows for table in report.tables) < 4 * DAY
    place.database.execute('ALTER TABLE "T" DROP CONSTRAINT "T_id_check"')
    return str(report.run_id)


def age(place: Site, *, started: float, active: float) -> None:
    """Move what the ledger knows of times into the past, by hours."""
    place.database.execute(
        "UPDATE migration_status.run SET started_at = now() - make_interval(secs => %s * 3600.0), "
        "active_at = now() - make_interval(secs => %s * 3600.0)",
        [started, active],
    )
    place.database.execute(
        "UPDATE migration_status.worker SET heartbeat_at = now() - make_interval(secs => %s * 3600.0)",
        [active],
    )


@pytest.mark.parametrize(
    ("active", "given"),
    [(49, {"resume_max_age": 50}), (167, {}), (8_759, {"resume_max_age": 8_760})],
)
def test_a_run_within_its_age_is_gone_on_with(
    place: Site, active: float, given: dict[str, int]
) -> None:
    run = interrupted(place)
    age(place, started=active, active=active)
    ended = place.run(**given)
    assert ended.status == "SUCCEEDED", ended
    assert (ended.output["run_id"], ended.output["resumed"]) == (run, True)
    assert place.loaded()
    assert place.runs() == [(run, "completed")]


@pytest.mark.parametrize(("active", "given"), [(51, {"resume_max_age": 50}), (169, {})])
def test_a_run_past_its_age_is_not_forgotten(
    place: Site, active: float, given: dict[str, int]
) -> None:
    """It is not gone on with, and none begins over its rows: the cause names it and how to go on."""
    run = interrupted(place)
    age(place, started=active, active=active)
    cause = failed(place.run(**given), "MigrationFailed")
    assert run in cause
    assert "resume" in cause
    assert place.run(resume_run_id=run).status == "SUCCEEDED"
    assert place.loaded()


def test_a_run_that_has_moved_for_longer_than_its_age_is_gone_on_with(place: Site) -> None:
    run = interrupted(place)
    age(place, started=700, active=1)
    ended = place.run(resume_max_age=2)
    assert ended.status == "SUCCEEDED", ended
    assert ended.output["run_id"] == run
    assert place.loaded()
