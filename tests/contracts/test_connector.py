"""Which calls of the Snowflake connector give a result exactly: the reason for its version (decision 22)."""

from __future__ import annotations

import importlib
import inspect
import json
import subprocess
import sys
import venv
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from snowflake.connector.vendored import requests

from snowmelt.standin.server import StandIn, StandInColumn

ROWS = 5_000
SUM = sum(n**3 for n in range(ROWS))
QUERY = 'SELECT "n", "d" FROM "D"."S"."T" ORDER BY 1'
"""Cubes outgrow int8, int16 and int32 from one batch to the next; the other column has four places."""
READ = """
import json, sys
import snowflake.connector
connection = snowflake.connector.connect(**json.loads(sys.argv[1]), arrow_number_to_decimal=True)
cursor = connection.cursor()
cursor.execute(sys.argv[2])
if sys.argv[3] == "fetch_arrow_batches":
    tables = list(cursor.fetch_arrow_batches())
else:
    tables = [batch.to_arrow() for batch in cursor.get_result_batches()]
numbers = [int(n) for table in tables for n in table.column(0).to_pylist()]
types = {str(table.schema.field(1).type) for table in tables}
connection.close()
print(json.dumps({"rows": len(numbers), "sum": sum(numbers), "types": sorted(types)}))
"""
CALLS = ("fetch_arrow_batches", "get_result_batches")


@pytest.fixture(scope="module")
def standin() -> Iterator[StandIn]:
    with StandIn.start(rows_per_chunk=1_000, inline_rows=100) as server:
        server.create_table(
            "D",
            "S",
            "T",
            [StandInColumn("n", "NUMBER(38,0)"), StandInColumn("d", "NUMBER(18,4)")],
            query=f"SELECT range ** 3, (range / 7)::DECIMAL(18, 4) FROM range({ROWS})",
        )
        yield server


def _seen(python: str, standin: StandIn, call: str) -> dict[str, Any]:
    done = subprocess.run(
        [python, "-c", READ, json.dumps(standin.login()), QUERY, call],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    seen: dict[str, Any] = json.loads(done.stdout)
    return seen


def _is_exact(seen: dict[str, Any]) -> bool:
    decimals = all(type.startswith("decimal128") for type in seen["types"])
    return bool(seen["rows"] == ROWS and seen["sum"] == SUM and decimals)


def test_the_connector_reads_bodies_in_pieces_of_a_size_that_can_be_set() -> None:
    """It is not part of its public face; without it the client takes more CPU, and nothing else happens."""
    importlib.import_module("snowmelt.sources.snowflake.session")
    assert requests.models.CONTENT_CHUNK_SIZE == 1 << 20
    assert "iter_content(CONTENT_CHUNK_SIZE)" in inspect.getsource(requests.models)


def test_the_call_in_use_is_exact_whatever_the_widths(standin: StandIn) -> None:
    assert _is_exact(_seen(sys.executable, standin, "get_result_batches"))


@pytest.mark.slow
def test_no_call_of_the_next_release_is_exact_yet(standin: StandIn, tmp_path: Path) -> None:
    """When this fails, a release 5 can be used, and is twice as fast: see decision 22."""
    venv.create(tmp_path / "next", with_pip=True)
    python = str(tmp_path / "next" / "bin" / "python")
    subprocess.run(
        [python, "-m", "pip", "install", "-qq", "snowflake-connector-python>=5,<6", "pyarrow"],
        check=True,
        timeout=240,
    )
    exact = [call for call in CALLS if _is_exact(_seen(python, standin, call))]
    assert exact == [], "move to the release 5 of the connector with this call"
