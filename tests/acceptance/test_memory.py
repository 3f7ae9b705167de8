"""Memory does not depend on the size of a chunk, and stays below its limit whatever the threads and rows are."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import duckdb
import pytest

from snowmelt.demo.visits import write_visits
from snowmelt.standin.server import StandIn, StandInColumn
from tests.acceptance.snowflake import DATABASE, SCHEMA, snowflake_config
from tests.support import Database, command, config_for, write_config

ROWS = 2_000_000
COPIES = 10
"""Each row comes so many times: to make them all takes five times as long as to make a tenth of them."""
ALLOWED_KB = 100 * 1024
MEASURE = """
import os, subprocess, sys
process = subprocess.Popen(sys.argv[1:], stdout=subprocess.DEVNULL)
_, status, usage = os.wait4(process.pid, 0)
print(usage.ru_maxrss)
sys.exit(os.waitstatus_to_exitcode(status))
"""
SHOWN = MEASURE.replace("stdout=subprocess.DEVNULL", "stdout=None")
"""Linux starts a program's peak with that of the process which forked for it: a small one has to do that."""
COLUMNS = (
    '"Visit Id", "Visit Updated Timestamp", "Gross Amount", "Channel", "Landing Page", "Comment"'
)


def test_one_chunk_of_two_million_rows_takes_no_more_than_small_ones(
    database: Database, tmp_path: Path
) -> None:
    folder = tmp_path / "files"
    folder.mkdir()
    _write(folder)
    peaks = {size: _peak_kb(database, tmp_path, folder, size) for size in (20_000, ROWS)}

    assert abs(peaks[ROWS] - peaks[20_000]) < ALLOWED_KB, peaks


def _write(folder: Path) -> None:
    source = folder.with_name("visits.duckdb")
    write_visits(source, ROWS // COPIES, primary_key=False)
    with duckdb.connect(source) as connection:
        connection.execute("SET enable_progress_bar = false")
        connection.execute(
            f"COPY (SELECT {COLUMNS} FROM FACT_VISITS, range({COPIES}) "
            'WHERE "Visit Updated Timestamp" IS NOT NULL) '
            f"TO '{folder / 'visits.parquet'}' (FORMAT parquet)"
        )


def _peak_kb(database: Database, workplace: Path, files: Path, size: int) -> int:
    """Peak resident memory of a process that moves the table in chunks of about `size` rows."""
    table: dict[str, object] = {
        "source": "visits.parquet",
        "target": f"visits_{size}",
        "chunking_columns": ["Visit Updated Timestamp"],
    }
    if size == ROWS:
        del table["chunking_columns"]
    document = config_for(
        database, files, table, connection="files", batch_size=size, parallel_threads=1
    )
    folder = workplace / str(size)
    folder.mkdir()
    peak = _peak_kb_of(write_config(folder, document))
    chunks = database.value(
        "SELECT count(*) FROM migration_status.migration_chunk_status WHERE target_table = %s",
        [f"visits_{size}"],
    )
    assert (chunks == 1) == (size == ROWS)
    return peak


def _peak_kb_of(config: Path) -> int:
    done = subprocess.run(
        [sys.executable, "-c", MEASURE, *command(config, "migrate", "-q")],
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    return int(done.stdout)


def test_one_result_of_snowflake_takes_no_more_than_small_ones(
    database: Database, tmp_path: Path
) -> None:
    """600,000 rows of 400 bytes are 240 MB, in batches of 8 MB."""
    rows = 600_000
    columns = [StandInColumn("id", "NUMBER(38,0)"), StandInColumn("text", "VARCHAR(400)")]
    peaks = {}
    with StandIn.start(rows_per_chunk=20_000) as standin:
        for size in (20_000, rows):
            name = f"T{size}"
            query = f"SELECT range, repeat(md5(range::VARCHAR), 12) FROM range({size})"
            standin.create_table(DATABASE, SCHEMA, name, columns, query=query)
            for extraction in ("query_per_chunk", "one_query"):
                table = {
                    "source": name,
                    "target": f"{name}_{extraction}",
                    "extraction": extraction,
                    "batch_size": rows,
                }
                config = snowflake_config(tmp_path, database, standin, table, parallel_threads=1)
                peaks[size, extraction] = _peak_kb_of(config)

    for extraction in ("query_per_chunk", "one_query"):
        assert peaks[rows, extraction] - peaks[20_000, extraction] < ALLOWED_KB, peaks


@pytest.fixture(scope="module")
def wide() -> Iterator[StandIn]:
    """In batches of 48 MB as they are sent: 250 columns with texts of 100 bytes, 250 numbers whose values take two
    bytes on the wire and sixteen in Arrow, and 16 columns with a text of 1 MB in each row."""
    with StandIn.start(rows_per_chunk=10_000_000, history=False) as standin:
        number = "((i * {n} % 30000) / 100)::DECIMAL(18,2)"
        text = "left(repeat(md5((i + {n})::VARCHAR), 4), 100)"
        large = "repeat(md5(i::VARCHAR), 32768)"
        _create(standin, "TEXTS", [text] * 60 + [number] * 190, 45_000)
        _create(standin, "NUMBERS", [number] * 250, 100_000)
        _create(standin, "LARGE", [large] + [number] * 15, 288)
        yield standin


def _create(standin: StandIn, name: str, values: list[str], rows: int) -> None:
    columns = [
        StandInColumn(f"C{n}", "NUMBER(18,2)" if "DECIMAL" in value else "VARCHAR")
        for n, value in enumerate(values)
    ]
    made = ", ".join(value.format(n=n + 1) for n, value in enumerate(values))
    standin.create_table(
        DATABASE, SCHEMA, name, columns, query=f"SELECT {made} FROM range({rows}) t(i)"
    )


@pytest.mark.parametrize(
    ("table", "rows", "limit"),
    [
        ("TEXTS", 45_000, 512),
        pytest.param("TEXTS", 45_000, 2_048, marks=pytest.mark.slow),
        ("NUMBERS", 100_000, 512),
        ("LARGE", 288, 512),
    ],
)
def test_twenty_threads_stay_below_the_limit(
    database: Database, tmp_path: Path, wide: StandIn, table: str, rows: int, limit: int
) -> None:
    """They wait for memory instead, and the report tells so."""
    database.execute(f"ALTER DATABASE {database.name} SET default_statistics_target = 1")
    config = snowflake_config(
        tmp_path,
        database,
        wide,
        {"source": table, "target": table, "extraction": "one_query", "batch_size": 1},
        parallel_threads=20,
        lambda_memory=f"{limit}MB",
    )
    done = subprocess.run(
        [sys.executable, "-c", SHOWN, *command(config, "migrate", "-q", "--json")],
        capture_output=True,
        text=True,
        check=True,
    )
    document, _, peak = done.stdout.rstrip().rpartition("\n")
    report = json.loads(document)
    memory = report["memory"]

    assert report["rows"] == rows
    assert int(peak) < limit * 1024, memory
    assert memory["peak_bytes"] <= limit << 20
    assert memory["limit"] == f"lambda_memory, {limit:,} MB"
    if limit == 512 and table != "NUMBERS":  # which are one batch
        assert 1 < memory["fed"] < 6
        assert memory["waited_seconds"] > 0
        assert "would feed all" in memory["advice"]
