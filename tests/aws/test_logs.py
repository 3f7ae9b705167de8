"""Lines of the function: JSON, each once, few; and metrics as CloudWatch reads them."""

from __future__ import annotations

import doctest
import io
import json
import logging
import string
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType, SimpleNamespace
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from snowmelt.aws import lambda_handler, metrics, reporter, wording
from snowmelt.aws.bound import LINES, LINES_OF_ACTION
from snowmelt.aws.json_line import Facts, to_line
from snowmelt.aws.logs import in_lambda, logged
from snowmelt.aws.metrics import UNITS, Metrics, dimension, document
from snowmelt.aws.watch import Watch
from snowmelt.config import secrets
from snowmelt.errors import Blocked, ConnectionLost, Interrupted, TableError
from snowmelt.memory.resident import peak_resident
from snowmelt.model import Claim, LoadTable, Outcome, TargetTable
from snowmelt.status import State, TableStatus

LAMBDA = {"AWS_LAMBDA_RUNTIME_API": "127.0.0.1:9001"}
FACTS = Facts("request", "s", "run")
_log = logging.getLogger("snowmelt.somewhere")


@contextmanager
def written(monkeypatch: pytest.MonkeyPatch, stream: str = "stdout") -> Iterator[io.StringIO]:
    out = io.StringIO()
    with monkeypatch.context() as patch:
        patch.setattr(f"sys.{stream}", out)
        yield out


def records(out: io.StringIO) -> list[dict[str, Any]]:
    assert out.getvalue().endswith("\n")
    return [json.loads(line) for line in out.getvalue()[:-1].split("\n")]


def table(name: str) -> LoadTable:
    """As much of a table as an observer looks at."""
    target = TargetTable("d", *name.split("."))
    return cast(LoadTable, SimpleNamespace(job=SimpleNamespace(target=target)))


def claim(chunk: int) -> Claim:
    return cast(Claim, SimpleNamespace(token=chunk, chunk=SimpleNamespace(id=chunk)))


def begun(*names: str, chunks: int = 4) -> Watch:
    watch = Watch()
    watch.begins(
        [
            TableStatus(*("d", n, "s", name, name, State.PENDING, chunks, 0, 0, 0, 0), 10, 0, 0)
            for n, name in enumerate(names)
        ]
    )
    return watch


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({}, False),
        ({"AWS_LAMBDA_RUNTIME_API": "x"}, True),
        ({"AWS_LAMBDA_FUNCTION_NAME": "x"}, True),
        ({"AWS_EXECUTION_ENV": "AWS_Lambda_python3.13"}, True),
        ({"AWS_EXECUTION_ENV": "AWS_ECS_FARGATE"}, False),
        ({"AWS_EXECUTION_ENV": "CloudShell"}, False),
    ],
)
def test_the_runtime_is_known_by_its_variables(environment: dict[str, str], expected: bool) -> None:
    assert in_lambda(environment) is expected


def test_a_line_has_what_is_known_and_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    facts = Facts("request")
    with written(monkeypatch) as out, logged(facts, LAMBDA):
        _log.info("first")
        facts.run_id, facts.source_name = "run", "größe"
        _log.warning(
            "%s",
            Blocked("held\nby another", table="public.t", chunk=7, remedy="wait"),
            extra={"action": "blocked", "secret": "p4ss"},
        )
        _log.debug("not told")
    first, second = records(out)
    assert first.keys() == {"timestamp", "level", "message", "logger", "request_id"}
    assert first["timestamp"][-1] == "Z"
    assert (
        second.items()
        >= {
            "level": "WARNING",
            "message": "table public.t, chunk 7: held\nby another\n  → wait",
            "logger": "snowmelt.somewhere",
            "action": "blocked",
            "table": "public.t",
            "chunk_id": 7,
            "run_id": "run",
            "source_name": "größe",
            "request_id": "request",
        }.items()
    )
    assert "p4ss" not in out.getvalue()
    assert "größe" in out.getvalue()


def test_an_exception_says_where_and_not_what(monkeypatch: pytest.MonkeyPatch) -> None:
    with written(monkeypatch) as out, logged(FACTS, LAMBDA):
        try:
            raise RuntimeError("https://bucket/result?X-Amz-Signature=s3cret")
        except RuntimeError:
            _log.exception("not foreseen")
    (line,) = records(out)
    assert line["raised"].startswith("RuntimeError < ")
    assert "test_logs.py" in line["raised"]
    assert "s3cret" not in out.getvalue()


@given(st.text(), st.text(string.printable))
def test_whatever_is_said_is_one_line_that_can_be_read_again(text: str, more: str) -> None:
    line = to_line({"message": text, "table": more})
    assert len(line.splitlines()) == 1
    line.encode("utf-8")
    read = json.loads(line)
    assert read["table"] == more
    whole = text.encode("utf-8", "ignore").decode() == text
    assert (read["message"] == text) is whole


def test_each_line_is_written_once_and_all_is_as_before(monkeypatch: pytest.MonkeyPatch) -> None:
    root, ours = logging.getLogger(), logging.getLogger("snowmelt")
    runtime = logging.StreamHandler(io.StringIO())
    root.addHandler(runtime)
    before = (list(root.handlers), root.level, list(ours.handlers), ours.propagate, ours.level)
    try:
        for _ in range(3):
            with written(monkeypatch) as out, logged(FACTS, LAMBDA):
                _log.info("once")
                logging.getLogger("others.client").warning("theirs")
                logging.getLogger("urllib3.connectionpool").warning("https://x?signature=s3cret")
            assert [one["message"] for one in records(out)] == ["once"]
    finally:
        root.removeHandler(runtime)
        said = runtime.stream.getvalue()
    root.addHandler(runtime)
    assert (
        list(root.handlers),
        root.level,
        list(ours.handlers),
        ours.propagate,
        ours.level,
    ) == before
    root.removeHandler(runtime)
    assert said == "theirs\n" * 3


def test_elsewhere_lines_are_for_people(monkeypatch: pytest.MonkeyPatch) -> None:
    with written(monkeypatch, "stderr") as out, logged(FACTS, {}) as write:
        _log.info("run begins")
    assert write is None
    assert out.getvalue().endswith(" INFO    run begins\n")


@pytest.mark.parametrize(
    ("level", "told"), [(None, 2), ("DEBUG", 3), ("WARN", 1), ("TRACE", 3), ("x", 2)]
)
def test_the_level_is_info_unless_the_function_says_another(
    monkeypatch: pytest.MonkeyPatch, level: str | None, told: int
) -> None:
    environment = LAMBDA | ({"AWS_LAMBDA_LOG_LEVEL": level} if level else {})
    with written(monkeypatch) as out, logged(FACTS, environment):
        for say in (_log.debug, _log.info, _log.warning):
            say("x")
    assert len(records(out)) == told


def test_thousands_of_retries_and_chunks_are_few_lines_and_told_to_be_left_out(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    watch = begun("public.t", *(f"public.t{n}" for n in range(100)), chunks=2_000)
    with written(monkeypatch) as out, logged(FACTS, LAMBDA):
        for n in range(3_000):
            error = ConnectionLost(f"lost {n}") if n % 2 else Blocked("held")
            watch.gave_up(table("public.t"), claim(n), error)
            _log.warning("%s", Blocked("held"), extra={"action": "blocked"})
        for n in range(2_000):
            watch.completed(table("public.t"), claim(n), Outcome(1, n, 5, 5, 100, 0.1))
        for n in range(100):
            watch.failed(table(f"public.t{n}"), TableError(f"failed {n}"))
            watch.failed(table(f"public.t{n}"), TableError("by another chunk"))
            _log.info("of an action that nobody has seen before", extra={"action": f"new {n}"})
    lines = records(out)
    assert len(lines) == LINES + 1
    told = [line["action"] for line in lines]
    for action in ("attempt_failed", "blocked", "table_failed"):
        assert told.count(action) == LINES_OF_ACTION
    assert lines[-1]["action"] == "left_out"
    assert "2,995 of blocked" in lines[-1]["message"]
    count = watch.tally
    assert (count.chunks, count.rows, count.bytes) == (2_000, 10_000, 200_000)
    assert (count.retries, count.errors, count.failed_tables) == (3_000, 1_500, 100)


def test_what_is_cut_off_at_a_deadline_is_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    watch = begun("public.t")
    with written(monkeypatch) as out, logged(FACTS, LAMBDA):
        watch.gave_up(table("public.t"), claim(1), Interrupted("the time was up"))
    assert out.getvalue() == ""
    assert (watch.tally.retries, watch.tally.errors) == (1, 0)


def test_nothing_is_said_to_be_left_out_where_nothing_is(monkeypatch: pytest.MonkeyPatch) -> None:
    with written(monkeypatch) as out, logged(FACTS, LAMBDA):
        for n in range(LINES_OF_ACTION):
            _log.info("%d", n, extra={"action": "few"})
    assert len(records(out)) == LINES_OF_ACTION


# Metrics, by https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/
# CloudWatch_Embedded_Metric_Format_Specification.html


def require_emf(line: dict[str, Any]) -> dict[str, Any]:
    """What the specification's JSON Schema and text ask for; the values by name."""
    assert line["_aws"].keys() == {"Timestamp", "CloudWatchMetrics"}
    assert isinstance(line["_aws"]["Timestamp"], int)
    assert abs(line["_aws"]["Timestamp"] / 1_000 - time.time()) < 3_600
    values = {}
    for directive in line["_aws"]["CloudWatchMetrics"]:
        assert directive.keys() == {"Namespace", "Dimensions", "Metrics"}
        assert 1 <= len(directive["Namespace"]) <= 255
        assert 1 <= len(directive["Metrics"]) <= 100
        for dimensions in directive["Dimensions"]:
            assert len(dimensions) <= 30
            for name in dimensions:
                assert isinstance(line[name], str)
                assert 1 <= len(line[name]) <= 1_024
                assert line[name].isascii()
                assert line[name].isprintable()
        for metric in directive["Metrics"]:
            assert metric.keys() == {"Name", "Unit"}
            assert metric["Unit"] in ("Count", "Bytes", "Seconds")
            value = line[metric["Name"]]
            assert isinstance(value, int | float)
            assert not isinstance(value, bool)
            values[metric["Name"]] = value
    return values


@given(st.none() | st.text())
def test_any_source_can_be_a_dimension(name: str | None) -> None:
    facts = Facts("request", name, "run")
    line = json.loads(to_line(document(dict.fromkeys(UNITS, 1), facts, time.time())))
    assert require_emf(line) == dict.fromkeys(UNITS, 1)
    assert line["run_id"] == "run"


def test_sources_that_differ_stay_apart() -> None:
    assert len({dimension(name) for name in ("größe", "grösse", "gr??e", "s", None)}) == 5


def test_each_line_has_what_came_since_the_one_before() -> None:
    lines: list[str] = []
    watch = begun("public.t")
    metrics = Metrics(lines.append, FACTS, watch, now=0.0)
    watch.completed(table("public.t"), claim(1), Outcome(1, 1, 5, 5, 100, 0.1))
    metrics.flush(60.0)
    watch.completed(table("public.t"), claim(2), Outcome(1, 2, 6, 4, 50, 0.1))
    watch.gave_up(table("public.t"), claim(3), ConnectionLost("lost"))
    metrics.flush(75.0)
    metrics.flush(75.5)
    found = [require_emf(json.loads(line)) for line in lines]
    assert [(one["Rows"], one["Bytes"], one["Chunks"]) for one in found] == [
        (5, 100, 1),
        (6, 50, 1),
        (0, 0, 0),
    ]
    assert [(one["Retries"], one["Errors"], one["Seconds"]) for one in found] == [
        (0, 0, 60.0),
        (1, 1, 15.0),
        (0, 0, 0.5),
    ]
    assert all(0 < one["PeakMemory"] < one["MemoryLimit"] for one in found)
    assert peak_resident()


def test_a_slice_of_900_seconds_has_fewer_than_100_lines() -> None:
    by_the_clock = 2 * int(900 / reporter.SECONDS)
    assert LINES + by_the_clock + len(("begins", "ended", "left_out", "metrics")) < 100


def test_while_a_run_is_under_way_its_progress_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    watch = begun("public.t", "public.u")
    watch.completed(table("public.t"), claim(1), Outcome(1, 1, 5, 5, 100, 0.1))
    with written(monkeypatch) as out, logged(FACTS, LAMBDA) as write:
        metrics = Metrics(write, FACTS, watch, time.monotonic())
        with reporter.reporting(watch.gauges, metrics, 0.01):
            until = time.monotonic() + 20
            while out.getvalue().count("\n") < 4 and time.monotonic() < until:
                time.sleep(0.005)
    lines = records(out)
    progress = [line for line in lines if line.get("action") == "progress"]
    assert progress
    assert progress[0]["message"].startswith("0 of 2 tables completed, 5 of 20 rows, 1 of 8 chunks")
    assert sum(require_emf(line)["Rows"] for line in lines if "_aws" in line) == 5


@pytest.mark.parametrize("module", [wording, metrics, lambda_handler, secrets])
def test_the_examples_in_docstrings_are_true(module: ModuleType) -> None:
    assert doctest.testmod(module).attempted
    assert not doctest.testmod(module).failed
