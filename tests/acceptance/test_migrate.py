"""The command moves a table, and says no where it should."""

from __future__ import annotations

import json
from pathlib import Path

from snowmelt.demo.proof import prove
from snowmelt.demo.visits import write_visits
from tests.support import Database, config_for, snowmelt, write_config

TABLE = {"source": "FACT_VISITS", "chunking_columns": ["Visit Updated Timestamp"]}


def test_a_wide_table_arrives_whole(database: Database, tmp_path: Path) -> None:
    source = tmp_path / "visits.duckdb"
    write_visits(source, 20_000)
    config = write_config(tmp_path, config_for(database, source, TABLE, batch_size=1_000))

    ended = snowmelt(config, "migrate", "--json")

    assert ended.returncode == 0, ended.stderr
    report = json.loads(ended.stdout)
    assert report["status"] == "completed"
    assert report["rows"] == 20_000
    proof = prove(source, "FACT_VISITS", database.dsn, "public", "FACT_VISITS")
    assert proof.agrees, str(proof)


def test_a_second_run_does_not_append(database: Database, tmp_path: Path) -> None:
    source = tmp_path / "visits.duckdb"
    write_visits(source, 2_000)
    config = write_config(tmp_path, config_for(database, source, TABLE))
    assert snowmelt(config, "migrate").returncode == 0

    again = snowmelt(config, "migrate")

    assert again.returncode == 1
    assert "the target has rows" in again.stderr
    assert "Traceback" not in again.stderr
    assert database.value('SELECT count(*) FROM "FACT_VISITS"') == 2_000
