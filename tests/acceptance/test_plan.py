"""`snowmelt plan` tells all there is to know before a start, changes nothing, and is right afterwards."""

from __future__ import annotations

import hashlib
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from snowmelt.demo.visits import load_visits, write_visits
from snowmelt.standin.server import StandIn
from tests.acceptance.snowflake import DATABASE, SCHEMA, minutes, snowflake_config
from tests.support import Database, command, config_for, duckdb_file, snowmelt, write_config

ROWS = 20_000
VISITS = {"source": "FACT_VISITS", "chunking_columns": ["Visit Updated Timestamp"]}
BASE_LABELS = {
    "strategy",
    "mode",
    "rows",
    "chunks",
    "time",
    "disk",
    "snapshot",
    "target",
    "truncation",
}
RUN_LABELS = {"in all", "time", "memory", "disk", "ledger", "note"}
PLAN_KEYS = {
    "run_id",
    "resumed",
    "execution_hash",
    "sources",
    "warnings",
    "notes",
    "refused",
    "refusals",
    "creates_ledger_in",
    "estimate",
    "tables",
}
ESTIMATE_KEYS = {
    "tables",
    "uncounted_tables",
    "chunks",
    "rows",
    "bytes",
    "workers",
    "busy_workers",
    "seconds",
    "memory",
    "disk",
    "warehouses",
}
TABLE_KEYS = {
    "source_name",
    "source",
    "target",
    "target_database",
    "strategy",
    "mode",
    "reason",
    "one_query",
    "rows",
    "row_bytes",
    "chunks",
    "chunk_rows",
    "largest_chunk",
    "chunk_sizes",
    "resumes",
    "done",
    "left",
    "workers",
    "seconds",
    "warehouse",
    "disk",
    "columns",
    "target_columns",
    "left_out",
    "adds",
    "snapshot",
    "retention_hours",
    "create",
    "creates",
    "surroundings",
    "replacement",
    "truncation",
    "notes",
    "refusals",
}
MEMORY_KEYS = {
    "bytes",
    "base_bytes",
    "bytes_per_worker",
    "workers",
    "cache_bytes",
    "limit_bytes",
    "limit",
    "fits",
    "fitting_workers",
}
# What the process had resident at most, told by itself: what wait4 tells a parent has the parent's own in it.
PEAK = """
import sys
from snowmelt.cli import main
try:
    main(sys.argv[1:])
finally:
    status = open("/proc/self/status").read()
    print(status.split("VmHWM:")[1].split()[0], file=sys.stderr)
"""


@pytest.fixture(scope="module")
def visits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("visits") / "visits.duckdb"
    write_visits(path, ROWS)
    return path


@pytest.fixture(scope="module")
def standin(visits: Path) -> Iterator[StandIn]:
    with StandIn.start() as server:
        load_visits(server, visits, DATABASE, SCHEMA)
        minutes(server, "MINUTES", 1_000_000)
        yield server


def _blocks(text: str) -> dict[str, dict[str, list[str]]]:
    """A plan's text: title -> label -> what it says, once or more."""
    blocks: dict[str, dict[str, list[str]]] = {}
    title = ""
    for line in text.splitlines():
        if match := re.match(r"    (\w[\w ]*?)  +(\S.*)", line):
            blocks[title].setdefault(match[1], []).append(match[2])
        elif line and not line.startswith(" "):
            title = line
            blocks[title] = {}
    return blocks


def _relations(database: Database) -> list[Any]:
    return database.execute(
        "SELECT oid, relname, relfilenode FROM pg_class WHERE relnamespace NOT IN "
        "(SELECT oid FROM pg_namespace WHERE nspname ~ '^pg_|^information_schema$') ORDER BY 1"
    )


def _document(config: Path, *arguments: str) -> Any:
    told = snowmelt(config, "plan", "--json", *arguments)
    assert told.returncode == 0, told.stderr
    return json.loads(told.stdout)


def test_a_file_s_plan_has_every_fact_and_changes_nothing(
    database: Database, tmp_path: Path, visits: Path
) -> None:
    config = write_config(tmp_path, config_for(database, visits, VISITS, batch_size=1_000))
    before = hashlib.sha256(visits.read_bytes()).digest(), _relations(database)

    told = snowmelt(config, "plan")

    assert told.returncode == 0, told.stderr
    assert "\x1b" not in told.stdout
    blocks = _blocks(told.stdout)
    table = blocks["s: FACT_VISITS → public.FACT_VISITS"]
    assert set(table) == BASE_LABELS
    assert table["rows"][0].startswith(f"{ROWS:,} rows, about ")
    assert re.search(
        r"smallest \d+, median \d+, largest [\d,]+ rows  [▁▂▃▄▅▆▇█·]+$", table["chunks"][0]
    )
    assert 'with its primary key ("Visit Id") at the end' in table["target"][0]
    assert set(blocks["all tables"]) == RUN_LABELS
    assert (hashlib.sha256(visits.read_bytes()).digest(), _relations(database)) == before


def test_snowflake_s_plan_has_every_fact_and_changes_nothing(
    database: Database, tmp_path: Path, standin: StandIn
) -> None:
    config = snowflake_config(
        tmp_path, database, standin, VISITS, {"source": "MINUTES"}, lambda_memory="2GB"
    )
    before = _relations(database)

    told = snowmelt(config, "plan")

    assert told.returncode == 0, told.stderr
    blocks = _blocks(told.stdout)
    for name in ("FACT_VISITS", "MINUTES"):
        table = blocks[f"s: {DATABASE}.{SCHEMA}.{name} → public.{name}"]
        assert set(table) == BASE_LABELS | {"warehouse", "retention", "note"}
        assert re.match(r"WH works .*; in credits: X-Small .*, Large", table["warehouse"][0])
        assert re.match(r"Time Travel to \d{4}-", table["snapshot"][0])
        assert re.match(r"24 hours, until \d{4}-", table["retention"][0])
    assert (
        "the query runs once"
        in blocks[f"s: {DATABASE}.{SCHEMA}.MINUTES → public.MINUTES"]["chunks"][0]
    )
    run = blocks["all tables"]
    assert set(run) == RUN_LABELS | {"warehouse"}
    assert run["memory"][0].endswith("fits into 2.1 GB (lambda_memory, 2,048 MB)")
    assert _relations(database) == before


def test_json_has_every_key_and_bytes_are_whole(
    database: Database, tmp_path: Path, standin: StandIn
) -> None:
    config = snowflake_config(tmp_path, database, standin, VISITS, {"source": "MINUTES"})

    plan = _document(config)

    assert set(plan) == PLAN_KEYS
    assert set(plan["estimate"]) == ESTIMATE_KEYS
    assert set(plan["estimate"]["memory"]) == MEMORY_KEYS
    assert plan["creates_ledger_in"] == [database.name]
    ranges, query = plan["tables"]
    for table in (ranges, query):
        assert set(table) == TABLE_KEYS
        assert table["left"]["bytes"] == table["left"]["rows"] * table["row_bytes"]
        assert table["seconds"]["low"] <= table["seconds"]["high"]
        assert table["warehouse"]["name"] == "WH"
        assert table["warehouse"]["credits"][0]["size"] == "X-Small"
        assert table["surroundings"]["triggers"] == []
    assert sum(one["chunks"] for one in ranges["chunk_sizes"]["histogram"]) == ranges["chunks"]
    assert ranges["creates"]["columns"][0] == {
        "name": "Visit Id",
        "type": "text",
        "nullable": False,
    }
    assert query["one_query"]
    assert query["chunk_sizes"]["largest"] is None
    for name, value in _numbers(plan):
        assert isinstance(value, int) or not name.endswith("bytes"), name


def _numbers(value: object, name: str = "") -> Iterator[tuple[str, int | float]]:
    match value:
        case dict():
            for key, one in value.items():
                yield from _numbers(one, key)
        case list():
            for one in value:
                yield from _numbers(one, name)
        case int() | float():
            yield name, value


def test_what_is_refused_ends_with_1_and_stands_last(
    database: Database, tmp_path: Path, visits: Path
) -> None:
    wrong = {**VISITS, "target": "other", "mode": "upsert", "uniqueness_columns": ["NONE"]}
    config = write_config(tmp_path, config_for(database, visits, VISITS, wrong))

    told = snowmelt(config, "plan")

    assert told.returncode == 1
    *_, what, remedy = told.stdout.strip().splitlines()
    assert what.startswith("s: FACT_VISITS → public.other: uniqueness_columns names")
    assert remedy.startswith("  → correct uniqueness_columns")
    document = json.loads(snowmelt(config, "plan", "--json").stdout)
    assert document["refused"]
    assert [len(table["refusals"]) for table in document["tables"]] == [0, 1]


def test_triggers_and_foreign_keys_of_the_target_are_told(
    database: Database, tmp_path: Path
) -> None:
    source = duckdb_file(
        tmp_path / "s.duckdb", "CREATE TABLE t AS SELECT range AS id, 1 AS kind FROM range(1000)"
    )
    database.execute("CREATE TABLE kinds (id int PRIMARY KEY)")
    database.execute("CREATE TABLE t (id bigint PRIMARY KEY, kind int REFERENCES kinds)")
    database.execute(
        "CREATE FUNCTION f() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN new; END'"
    )
    database.execute("CREATE TRIGGER audit AFTER INSERT ON t FOR EACH ROW EXECUTE FUNCTION f()")
    config = write_config(tmp_path, config_for(database, source, {"source": "t"}))

    target = _blocks(snowmelt(config, "plan").stdout)["s: t → public.t"]["target"]
    (table,) = _document(config)["tables"]

    assert "1 trigger fires for each row: audit" in target
    assert "foreign keys are checked for each row: t_kind_fkey to public.kinds" in target
    assert [one["name"] for one in table["surroundings"]["triggers"]] == ["audit"]
    assert [one["refers_to"] for one in table["surroundings"]["foreign_keys"]] == ["public.kinds"]


def test_a_plan_of_an_interrupted_run_tells_what_is_left(
    database: Database, tmp_path: Path
) -> None:
    source = duckdb_file(
        tmp_path / "s.duckdb", "CREATE TABLE t AS SELECT range AS id FROM range(10_000)"
    )
    database.execute("CREATE TABLE t (id bigint PRIMARY KEY CHECK (id < 9500))")
    table = {"source": "t", "chunking_columns": ["id"]}
    config = write_config(
        tmp_path, config_for(database, source, table, batch_size=1_000, parallel_threads=1)
    )
    assert snowmelt(config, "migrate").returncode == 1

    (planned,) = _document(config)["tables"]

    chunks, rows = database.execute(
        "SELECT count(*), coalesce(sum(rows_written), 0) FROM migration_status.chunk "
        "WHERE completed_at IS NOT NULL"
    )[0]
    assert 0 < chunks < planned["done"]["planned_chunks"]
    assert (planned["done"]["chunks"], planned["done"]["rows"]) == (chunks, rows)
    assert planned["left"]["chunks"] == planned["done"]["planned_chunks"] - chunks
    assert planned["left"]["rows"] == 10_000 - rows


def test_threads_are_those_of_the_command(database: Database, tmp_path: Path, visits: Path) -> None:
    config = write_config(tmp_path, config_for(database, visits, VISITS, batch_size=100))
    few, many = (_document(config, "--threads", str(count))["estimate"] for count in (2, 20))
    assert (few["workers"], many["workers"]) == (2, 20)
    assert few["memory"]["bytes"] < many["memory"]["bytes"]


def _peak(config: Path) -> int:
    """Of `snowmelt migrate`, in bytes."""
    done = subprocess.run(
        [sys.executable, "-c", PEAK, *command(config, "migrate", "-q")[3:]],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return int(done.stderr.split()[-1]) * 1024


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="/proc tells what is resident")
@pytest.mark.parametrize("way", ["files", "query_per_chunk", "one_query"])
def test_a_run_keeps_within_the_memory_of_its_plan(
    way: str, database: Database, tmp_path: Path, visits: Path, standin: StandIn
) -> None:
    if way == "files":
        document = config_for(database, visits, VISITS, batch_size=2_000, parallel_threads=4)
        config = write_config(tmp_path, document)
    else:
        table = {"source": "MINUTES", "chunking_columns": ["at"], "extraction": way}
        if way == "one_query":
            del table["chunking_columns"]
        config = snowflake_config(tmp_path, database, standin, table, parallel_threads=4)
    memory = _document(config)["estimate"]["memory"]

    peak = _peak(config)

    assert memory["base_bytes"] * 0.8 < peak <= memory["bytes"] + memory["cache_bytes"]


def test_a_table_takes_about_the_disk_of_its_plan(
    database: Database, tmp_path: Path, visits: Path
) -> None:
    """Widths of text are guessed, so it is no more than about."""
    config = write_config(tmp_path, config_for(database, visits, VISITS))
    (planned,) = _document(config)["tables"]
    assert snowmelt(config, "migrate").returncode == 0

    ((heap, indexes),) = database.execute(
        "SELECT pg_table_size(oid), pg_indexes_size(oid) FROM pg_class WHERE relname = 'FACT_VISITS'"
    )

    assert 0.5 < planned["disk"]["heap_bytes"] / heap < 2
    assert 0.5 < planned["disk"]["index_bytes"] / indexes < 2
