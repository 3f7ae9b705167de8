"""What the function does with events, in one process as a warm function is, against real servers."""

from __future__ import annotations

import json
import os
import runpy
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import boto3
import pytest
from moto import mock_aws

from snowmelt.app import Mover
from snowmelt.aws import lambda_handler
from snowmelt.aws.errors import ConfigError, FatalError, RetryableError
from snowmelt.aws.lambda_handler import handler
from snowmelt.aws.reference import PLANNED_TABLE, TABLE
from snowmelt.errors import Refused
from snowmelt.plan import Plan
from snowmelt.postgres import locks
from snowmelt.standin.server import StandIn
from snowmelt.survey import ANEW_OR_RESUMED, Choice
from tests.acceptance import snowflake
from tests.acceptance.processes import Background, Gate, by_day, create_target, minutes
from tests.support import SECONDS, Database, config_for, write_config

ROWS = 5_000


@dataclass(frozen=True, slots=True)
class Context:
    """What Lambda hands a function beside the event."""

    aws_request_id: str = "request-1"
    seconds: float = 900.0

    def get_remaining_time_in_millis(self) -> int:
        return int(self.seconds * 1_000)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The function's folder, in its runtime as far as variables tell."""
    monkeypatch.setenv("LAMBDA_TASK_ROOT", str(tmp_path))
    monkeypatch.setenv("AWS_LAMBDA_RUNTIME_API", "127.0.0.1:9001")
    monkeypatch.setenv("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", "2048")
    monkeypatch.delenv("SNOWMELT_CONFIG", raising=False)
    return tmp_path


def body(event: dict[str, object], context: object = Context()) -> dict[str, Any]:
    answer = handler(event, context)
    assert answer["statusCode"] == 200
    found = answer["body"]
    assert isinstance(found, dict)
    json.dumps(found)
    return found


def lines(out: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in out.splitlines()]


def sockets() -> set[str]:
    """The sockets that this process has open."""
    found = set()
    for name in os.listdir("/proc/self/fd"):
        try:
            link = os.readlink(f"/proc/self/fd/{name}")
        except OSError:
            continue
        if link.startswith("socket:"):
            found.add(link)
    return found


def target_rows(database: Database, table: str) -> int:
    with database.connect() as connection:
        row = connection.execute(f'SELECT count(*) FROM "{table}"').fetchone()
    assert row is not None
    return int(row[0])


def test_a_migration_a_status_and_the_lines_of_it(
    folder: Path, database: Database, capsys: pytest.CaptureFixture[str]
) -> None:
    source = minutes(folder / "a.duckdb", ROWS, "t")
    write_config(folder, config_for(database, source, by_day("t")))
    done = body({"source_name": "s", "batch_size": "500", "parallel_threads": "2"})
    assert (done["status"], done["rows"], done["resumed"]) == ("completed", ROWS, False)
    assert done["slice"]["rows"] == ROWS
    assert done["slice"]["chunks"] == done["chunks"] >= ROWS / 1_000
    assert target_rows(database, "t") == ROWS
    told = lines(capsys.readouterr().out)
    about = {"request_id": "request-1", "run_id": done["run_id"], "source_name": "s"}
    actions = [line["action"] for line in told if "logger" in line]
    assert actions == ["begins", "keep", "table_completed", "ended", "memory"]
    for line in told:
        assert line.items() >= about.items()
    assert [line["Rows"] for line in told if "_aws" in line] == [ROWS]
    now = body({"action": "status", "source_name": "s"})
    assert (now["status"], now["run_id"]) == ("completed", done["run_id"])
    assert body({"action": "status", "run_id": done["run_id"]})["rows"] == ROWS
    # A state machine whose answer got lost asks for the run by its id again, and hears that it is done.
    again = body({"source_name": "s", "resume_run_id": done["run_id"]})
    assert (again["status"], again["slice"]["chunks"]) == ("completed", 0)


def test_events_in_one_process_share_nothing_and_leave_nothing(
    folder: Path, database: Database, capsys: pytest.CaptureFixture[str]
) -> None:
    """Sources of both kinds, one after another, and an error between."""
    with StandIn.start() as standin:
        snowflake.minutes(standin, "CLOUD", ROWS)
        source = minutes(folder / "a.duckdb", ROWS, "t")
        path = snowflake.snowflake_config(
            folder, database, standin, {"source": "CLOUD", "chunking_columns": ["at"]}
        )
        document = json.loads(path.read_text())
        document["sources"] += config_for(database, source, by_day("t"))["sources"]
        document["sources"][0]["source_name"] = "cloud"
        write_config(folder, document)
        body({"action": "plan", "source_name": "cloud"})  # what clients set up once
        before, threads = sockets(), set(threading.enumerate())
        capsys.readouterr()
        first = body({"source_name": "cloud"}, Context("first"))
        with pytest.raises(ConfigError):
            handler({"source_name": "nobody"}, Context("second"))
        third = body({"source_name": "s"}, Context("third"))
        assert set(threading.enumerate()) == threads
        assert sockets() == before
    assert first["run_id"] != third["run_id"]
    assert [one["source_name"] for one in third["tables"]] == ["s"]
    told = lines(capsys.readouterr().out)
    by_request = {
        request: [line for line in told if line["request_id"] == request]
        for request in ("first", "second", "third")
    }
    assert sum(map(len, by_request.values())) == len(told)
    for request, name, run in (("first", "cloud", first), ("third", "s", third)):
        for line in by_request[request]:
            assert (line["source_name"], line["run_id"]) == (name, run["run_id"])
        assert [line["Rows"] for line in by_request[request] if "_aws" in line] == [ROWS]
        actions = [line.get("action") for line in by_request[request]]
        assert actions.count("begins") == actions.count("ended") == 1
    (only,) = by_request["second"]
    assert (only["source_name"], only["Errors"]) == ("unknown", 1)
    assert "run_id" not in only


def test_a_failed_table_is_an_answer_and_the_others_are_moved(
    folder: Path, database: Database
) -> None:
    source = minutes(folder / "a.duckdb", ROWS, "t", "u")
    database.execute("CREATE TABLE u (id bigint, at timestamp, note text CHECK (note < 'row 4'))")
    write_config(folder, config_for(database, source, by_day("t"), by_day("u")))
    done = body({"source_name": "s"})
    assert (done["status"], done["failed_tables"], done["completed_tables"]) == ("failed", 1, 1)
    assert done["tables"][0]["table"] == "public.u"
    assert done["tables"][0].keys() == TABLE.keys()
    assert "u_note_check" in done["tables"][0]["error"]
    assert done["errors"]
    assert target_rows(database, "t") == ROWS
    with pytest.raises(FatalError, match="has not finished writing this table"):
        handler({"source_name": "s", "no_resume": "true"}, Context())
    database.execute("ALTER TABLE u DROP CONSTRAINT u_note_check")
    again = body({"source_name": "s", "resume_max_age": "1"})
    assert (again["status"], again["resumed"], again["run_id"]) == (
        *("completed", True),
        done["run_id"],
    )
    assert done["slice"]["rows"] + again["slice"]["rows"] == 2 * ROWS
    assert target_rows(database, "u") == ROWS


def test_chunks_are_made_for_the_time_that_the_function_has(
    folder: Path, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = minutes(folder / "a.duckdb", 10, "t")
    choices: list[Choice] = []

    class Asked(Mover):
        def plan(self, choice: Choice = ANEW_OR_RESUMED) -> Plan:
            choices.append(choice)
            return super().plan(choice)

    monkeypatch.setattr(lambda_handler, "Mover", Asked)
    write_config(
        folder, config_for(database, source, by_day("t"), lambda_timeout_buffer_seconds=50)
    )
    body({"action": "plan"}, Context(seconds=300))
    body({"action": "plan"}, Context(seconds=90))
    body({"action": "plan"}, None)
    body({"restart_tables": "t", "allow_truncate": True}, Context(seconds=300))
    deadlines = [choice.deadline_seconds for choice in choices]
    assert deadlines == [250.0, 60.0, None, 250.0]
    assert (choices[-1].restart, choices[-1].allow_truncate) == (("t",), True)


def test_two_invocations_at_once_share_a_run(folder: Path, database: Database) -> None:
    """As where an event comes twice: both work at one run, and each row is there once."""
    source = minutes(folder / "a.duckdb", ROWS, "t")
    create_target(database, "t")
    write_config(folder, config_for(database, source, by_day("t")))
    script = (
        "import json, sys; from snowmelt.aws.lambda_handler import handler;"
        "sys.stderr.write(json.dumps(handler({'source_name': 's', 'parallel_threads': 1}, None)))"
    )
    with Gate.before(database, "t") as gate:
        twins = [
            subprocess.Popen([sys.executable, "-c", script], stderr=subprocess.PIPE, text=True)
            for _ in range(2)
        ]
        gate.holds(2)
        gate.open()
        answers = [json.loads(twin.communicate(timeout=SECONDS)[1]) for twin in twins]
    bodies = [answer["body"] for answer in answers]
    assert {one["status"] for one in bodies} == {"completed"}
    assert len({one["run_id"] for one in bodies}) == 1
    assert sum(one["slice"]["rows"] for one in bodies) == ROWS
    assert target_rows(database, "t") == ROWS


def test_who_was_slower_to_begin_joins(
    folder: Path, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The other began after both had planned: what was planned is refused, and its run is joined."""
    source = minutes(folder / "a.duckdb", ROWS, "t")
    create_target(database, "t")
    write_config(folder, config_for(database, source, by_day("t")))
    plans: list[Plan] = []
    with Gate.before(database, "t") as gate, ExitStack() as stack:

        class Slower(Mover):
            def plan(self, choice: Choice = ANEW_OR_RESUMED) -> Plan:
                plans.append(super().plan(choice))
                if len(plans) == 1:
                    stack.enter_context(Background(folder / "snowmelt.json", "migrate"))
                    gate.holds(4)
                else:
                    gate.open()
                return plans[-1]

        monkeypatch.setattr(lambda_handler, "Mover", Slower)
        done = body({"source_name": "s", "parallel_threads": 1})
    assert [plan.resumed for plan in plans] == [False, True]
    assert (done["status"], done["run_id"]) == ("completed", str(plans[1].run_id))
    assert target_rows(database, "t") == ROWS


def test_what_is_refused_otherwise_is_fatal(
    folder: Path, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = minutes(folder / "a.duckdb", 10, "t")
    write_config(folder, config_for(database, source, by_day("t")))
    attempts = []

    def refuse(self: object, *_: object, **__: object) -> None:
        attempts.append(1)
        raise Refused("no", remedy="see")

    monkeypatch.setattr(Mover, "run", refuse)
    with pytest.raises(FatalError, match="no\n  → see"):
        handler({}, Context())
    assert len(attempts) == 1


def test_a_target_that_somebody_reads_is_worth_another_try(
    folder: Path, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = minutes(folder / "a.duckdb", 10, "t")
    create_target(database, "t")
    database.execute("INSERT INTO t VALUES (1)")
    write_config(folder, config_for(database, source, {**by_day("t"), "mode": "truncate"}))
    monkeypatch.setattr(locks, "PATIENCE_SECONDS", 0.1)
    with database.connect() as reader, reader.transaction():
        reader.execute("LOCK TABLE t IN ACCESS SHARE MODE")
        with pytest.raises(RetryableError, match="t"):
            handler({"allow_truncate": True}, Context())
    assert body({"allow_truncate": True})["rows"] == 10


def test_what_is_cut_off_is_no_error(
    folder: Path, database: Database, capsys: pytest.CaptureFixture[str]
) -> None:
    """Nobody has to look at a slice that ends as slices do."""
    source = minutes(folder / "a.duckdb", ROWS, "t")
    create_target(database, "t")
    write_config(folder, config_for(database, source, by_day("t")))
    with Gate.before(database, "t"):
        done = body({}, Context(seconds=3.0))
    assert done["status"] == "partial"
    told = lines(capsys.readouterr().out)
    assert [line["Errors"] for line in told if "_aws" in line] == [0]
    assert "attempt_failed" not in {line.get("action") for line in told}
    assert done["slice"]["errors"] == 0


def test_connections_and_configs_are_tried(folder: Path, database: Database) -> None:
    source = minutes(folder / "a.duckdb", 10, "t")
    write_config(folder, config_for(database, source, by_day("t")))
    assert body({"action": "validate_config"})["total_tables"] == 1
    tried = body({"action": "test_connections"})
    assert tried["status"] == "completed"
    assert len(tried["connections"]) == 2
    with pytest.raises(ConfigError, match="there is no run yet of s"):
        handler({"action": "status", "source_name": "s"}, Context())
    planned = body({"action": "plan"})
    assert (planned["status"], planned["rows"], planned["refusals"]) == ("completed", 10, [])
    assert planned["tables"][0].keys() == PLANNED_TABLE.keys()
    write_config(folder, {**config_for(database, folder / "none.duckdb", by_day("t"))})
    with pytest.raises(ConfigError, match=r"none\.duckdb does not exist"):
        handler({"action": "test_connections"}, Context())


def test_a_server_that_is_away_is_worth_another_try(folder: Path) -> None:
    away = Database("d", "postgresql://u:s3cret@127.0.0.1:1/d")
    write_config(folder, config_for(away, minutes(folder / "a.duckdb", 10, "t"), by_day("t")))
    for action in ("migrate", "test_connections", "plan", "status"):
        with pytest.raises(RetryableError, match=r"can't connect to PostgreSQL") as caught:
            handler({"action": action}, Context())
        assert "s3cret" not in str(caught.value)
        assert caught.value.__cause__ is None
        assert caught.value.__context__ is None or caught.value.__suppress_context__


def test_an_error_that_nobody_foresaw_keeps_its_text(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(*_: object) -> None:
        raise ValueError("s3cret")

    monkeypatch.setattr(lambda_handler, "read_config", fail)
    with pytest.raises(FatalError, match=r"ValueError in test_handler\.py, line ") as caught:
        handler({"source_name": "s"}, Context())
    out = capsys.readouterr().out
    assert "s3cret" not in out + str(caught.value)
    record, metrics = lines(out)
    assert (record["action"], metrics["Errors"]) == ("unforeseen", 1)


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "testing")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "testing")
    with mock_aws():
        boto3.client("s3").create_bucket(Bucket="configs")
        yield "configs"


def test_a_config_of_s3_with_a_secret(
    folder: Path, database: Database, bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = minutes(folder / "a.duckdb", 10, "t")
    document = config_for(database, source, by_day("t"))
    document["postgres"] = {"dsn": "${secret:dsn}"}
    boto3.client("secretsmanager").create_secret(Name="dsn", SecretString=database.dsn)
    boto3.client("s3").put_object(
        Bucket=bucket, Key="a/config.json", Body=json.dumps(document).encode()
    )
    assert body({"config": f"s3://{bucket}/a/config.json"})["rows"] == 10
    monkeypatch.setenv("SNOWMELT_CONFIG", f"s3://{bucket}/a/config.json")
    assert body({"action": "status"})["rows"] == 10
    for event, told in (
        ({"config": f"s3://{bucket}/none.json"}, "is not there"),
        ({"config": "s3://elsewhere/config.json"}, "is not there"),
        ({"config": "https://x/config.json?signature=s3cret"}, "write s3://BUCKET/KEY"),
        ({"config": "none.yaml"}, "there is no config file"),
        ({"config": 300 * "x"}, "there is no config file"),
        ({"tables": []}, "tables: has no names"),
    ):
        with pytest.raises(ConfigError, match=told) as caught:
            handler(event, Context())
        assert "s3cret" not in str(caught.value)


def test_a_function_without_a_config_says_where_it_looked(folder: Path) -> None:
    with pytest.raises(ConfigError, match="set SNOWMELT_CONFIG"):
        handler({}, Context())


def test_the_name_of_deployed_functions_is_kept() -> None:
    script = Path(__file__).parents[2] / "scripts" / "lambda_handler.py"
    names = runpy.run_path(str(script))
    assert names["lambda_handler"] is names["handler"] is handler
