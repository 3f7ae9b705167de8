"""The function under the official runtime emulator: what it answers, and each line of its log once."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from snowmelt.standin.server import StandIn
from tests.acceptance.processes import by_day
from tests.acceptance.processes import minutes as file_minutes
from tests.acceptance.snowflake import minutes, snowflake_config
from tests.aws.emulator import BINARY, Function, function
from tests.aws.test_logs import require_emf
from tests.support import Database, config_for, write_config

pytestmark = pytest.mark.skipif(
    not BINARY.exists(), reason="the runtime emulator is not there: make .venv-aws/.ready"
)
ROWS = 10_000
FORMATS = ("JSON", "Text")


@pytest.fixture(scope="module")
def standin() -> Iterator[StandIn]:
    with StandIn.start() as server:
        yield server


def once_each(up: Function) -> list[dict[str, object]]:
    """The records, none of which is there twice in any form."""
    records = up.records()
    messages = [str(record["message"]) for record in records]
    whole = up.log.read_text(encoding="utf-8")
    for message, count in Counter(messages).items():
        first = json.dumps(message.split("\n")[0], ensure_ascii=False)[1:-1]
        assert whole.count(first) == count == 1, message
    return records


@pytest.mark.parametrize("format", FORMATS)
def test_each_line_appears_once_info_included(
    tmp_path: Path, database: Database, standin: StandIn, format: str
) -> None:
    minutes(standin, "T", ROWS)
    minutes(standin, "U", ROWS)
    database.execute(
        "CREATE TABLE \"U\" (id bigint, at timestamp, note text CHECK (note < 'row 4'))"
    )
    tables = [
        {"source": name, "chunking_columns": ["at"], "batch_size": 5_000} for name in ("T", "U")
    ]
    snowflake_config(tmp_path, database, standin, *tables)
    with function(tmp_path, environment={"AWS_LAMBDA_LOG_FORMAT": format}) as up:
        answer = up.invoke({"source_name": "s", "parallel_threads": "2"})
        wrong = up.invoke({"source_nam": "s"})
        records = once_each(up)
        metrics = up.metrics()
    body = answer["body"]
    assert (answer["statusCode"], body["status"]) == (200, "failed")
    assert (body["completed_tables"], body["failed_tables"]) == (1, 1)
    assert (wrong["errorType"], "statusCode" in wrong) == ("ConfigError", False)
    assert "did you mean source_name?" in wrong["errorMessage"]
    actions = [record.get("action") for record in records]
    assert {"begins", "keep", "table_completed", "table_failed", "ended"} <= set(actions)
    assert {record["level"] for record in records} >= {"INFO", "ERROR"}
    for record in records:
        assert record["run_id"] == body["run_id"]
        assert record["source_name"] == "s"
        assert record["request_id"]
    failed = next(record for record in records if record["action"] == "table_failed")
    assert (failed["table"], "chunk_id" in failed) == ("public.U", True)
    assert "\n  → " in str(failed["message"])
    first, second = (require_emf(line) for line in metrics)
    # Rows of the failed table's chunks that were committed before it failed are rows, too.
    assert first["Rows"] == body["slice"]["rows"] >= ROWS
    assert (first["FailedTables"], first["MemoryLimit"]) == (1, 2_048 << 20)
    assert (second["Rows"], second["Errors"]) == (0, 1)


@pytest.mark.parametrize("format", FORMATS)
def test_thousands_of_chunks_are_a_handful_of_lines(
    tmp_path: Path, database: Database, format: str
) -> None:
    source = file_minutes(tmp_path / "a.duckdb", 2_000, "t")
    table = {**by_day("t"), "chunking_columns": ["id"], "mode": "append"}
    write_config(tmp_path, config_for(database, source, table))
    variables = {"AWS_LAMBDA_LOG_FORMAT": format, "AWS_LAMBDA_LOG_LEVEL": "INFO"}
    with function(tmp_path, environment=variables) as up:
        body = up.invoke({"batch_size": 1, "parallel_threads": 2})["body"]
        assert (body["status"], body["rows"]) == ("completed", 2_000)
        assert body["slice"]["chunks"] == body["chunks"] >= 1_000
        assert len(once_each(up)) + len(up.metrics()) < 10


def test_a_warm_function_answers_events_of_several_sources(
    tmp_path: Path, database: Database
) -> None:
    source = file_minutes(tmp_path / "a.duckdb", 100, "t", "u")
    document = config_for(database, source, by_day("t"))
    sources = document["sources"]
    assert isinstance(sources, list)
    sources.append({**sources[0], "source_name": "größe", "tables": [by_day("u")]})
    write_config(tmp_path, document)
    with function(tmp_path, handler="snowmelt.aws.lambda_handler.handler") as up:
        answers = [up.invoke({"source_name": name})["body"] for name in ("s", "größe")]
        assert [one["tables"][0]["source_name"] for one in answers] == ["s", "größe"]
        records = once_each_per_request(up)
    assert len(records) == 2
    assert [line["source_name"] for line in up.metrics()] == ["s", "gr\\xf6\\xdfe"]


@pytest.mark.parametrize("runtime", ["AWS_Lambda_python3.11", "AWS_Lambda_python3.13"])
def test_what_is_no_text_comes_back_as_an_error(tmp_path: Path, runtime: str) -> None:
    """The runtime can't send half a surrogate pair, and would end over it."""
    with function(tmp_path, environment={"AWS_EXECUTION_ENV": runtime}) as up:
        for _ in range(2):
            found = up.invoke({"\ud800": "größe → \ud800", "tables": ["größe"], "batch_size": "→"})
            assert found["errorType"] == "ConfigError"
            assert "'\\ud800': is not a known field" in found["errorMessage"]
            assert "batch_size: must be a whole number, but is '→'" in found["errorMessage"]
        assert len({line["request_id"] for line in up.metrics()}) == 2


def once_each_per_request(up: Function) -> dict[object, list[str]]:
    """Messages by request, each once in it."""
    found: dict[object, list[str]] = {}
    for record in up.records():
        found.setdefault(record["request_id"], []).append(str(record["message"]))
    for messages in found.values():
        assert len(set(messages)) == len(messages) >= 4
    return found


def test_the_name_of_deployed_functions_is_one_in_the_runtime_too(
    tmp_path: Path, database: Database
) -> None:
    script = Path(__file__).parents[2] / "scripts" / "lambda_handler.py"
    (tmp_path / "lambda_handler.py").write_bytes(script.read_bytes())
    write_config(tmp_path, config_for(database, tmp_path / "a.duckdb", by_day("t")))
    with function(
        tmp_path, handler="lambda_handler.lambda_handler", environment={"PYTHONPATH": str(tmp_path)}
    ) as up:
        assert up.invoke({"action": "validate_config"})["body"]["status"] == "completed"
