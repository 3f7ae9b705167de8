"""NUL characters through the whole tool: refused, taken out or replaced, counted, and told with their keys."""

from __future__ import annotations

import json
from pathlib import Path
from typing import cast

import pytest
from psycopg import sql

from tests.acceptance.processes import FAILED
from tests.support import Database, config_for, duckdb_file, snowmelt, write_config

ROWS = 3_000
TEXT = "CASE WHEN id % 100 = 0 THEN 'a' || chr(0) || id ELSE 'a' || id END"
JSON = r"""CASE WHEN id = 7 THEN '{"a": "\\u0000 \u0000"}' ELSE '{}' END"""


def _source(folder: Path) -> Path:
    rows = f"SELECT id, {TEXT} AS v, {JSON} AS doc FROM range({ROWS}) numbers(id)"
    return duckdb_file(folder / "source.duckdb", f"CREATE TABLE T AS {rows}")


def _table(target: str, **settings: object) -> dict[str, object]:
    return {"source": "T", "target": target, "chunking_columns": ["id"], **settings}


def _create(database: Database, *names: str) -> None:
    with database.connect() as connection:
        for name in names:
            create = sql.SQL("CREATE TABLE {} (id bigint, v text, doc jsonb)")
            connection.execute(create.format(sql.Identifier(name)))


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return _source(tmp_path)


def test_values_are_changed_as_the_nearest_setting_says(
    database: Database, source: Path, tmp_path: Path
) -> None:
    _create(database, "stripped", "replaced", "refused")
    document = config_for(
        database,
        source,
        _table("stripped", batch_size=ROWS),
        _table("replaced", batch_size=ROWS, nul_characters="replace"),
        _table("refused", nul_characters="fail"),
    )
    (first,) = cast("list[dict[str, object]]", document["sources"])
    first["nul_characters"] = "strip"
    config = write_config(tmp_path, document)

    checked = snowmelt(config, "check")
    ended = snowmelt(config, "migrate")

    assert checked.stdout.count("character NUL") == 2  # of two columns of one table
    assert "public.refused" in checked.stdout
    assert ended.returncode == FAILED
    (run,) = json.loads(snowmelt(config, "status", "--json").stdout)
    tables = {table["target"]: table for table in run["tables"]}
    assert {name: (table["state"], table["changed"]) for name, table in tables.items()} == {
        "public.stripped": ("completed", 31),
        "public.replaced": ("completed", 31),
        "public.refused": ("failed", 0),
    }
    for name, instead in (("stripped", ""), ("replaced", "\ufffd")):
        with database.connect() as connection:
            changed = sql.SQL("SELECT v, doc ->> 'a' FROM {} WHERE id IN (7, 100) ORDER BY id")
            found = connection.execute(changed.format(sql.Identifier(name))).fetchall()
        assert found == [("a7", rf"\u0000 {instead}"), (f"a{instead}100", None)]
    assert ended.stdout.count("31 values had NUL characters") == 2
    logged = " ".join(ended.stderr.split())  # its lines are as wide as a terminal
    assert "table public.stripped, chunk 0: NUL characters were taken out of 31 values: " in logged
    assert "table public.replaced, chunk 0: NUL characters were replaced in 31 values: " in logged
    assert logged.count('column "v", "id" = 100;') == 2
    assert logged.count("; and 11 more") == 2
    assert database.value("SELECT sum(values_changed) FROM migration_status.chunk") == 62
    assert (
        database.value("SELECT max(values_changed) FROM migration_status.migration_table_status")
        == 31
    )


def test_another_setting_is_another_load(database: Database, source: Path, tmp_path: Path) -> None:
    _create(database, "t")
    config = write_config(tmp_path, config_for(database, source, _table("t", batch_size=1_000)))
    assert snowmelt(config, "migrate").returncode == FAILED
    facts = database.value("SELECT plan -> 'facts' FROM migration_status.load")
    assert "nul_characters" not in facts
    stripped = _table("t", batch_size=1_000, nul_characters="strip")
    write_config(tmp_path, config_for(database, source, stripped))

    changed = snowmelt(config, "migrate")

    assert changed.returncode == FAILED
    assert "other settings (nul_characters changed)" in changed.stderr
    database.execute("TRUNCATE t")
    anew = snowmelt(config, "migrate", "--restart-table", "T")
    assert anew.returncode == 0, anew.stdout + anew.stderr
    assert database.value("SELECT count(*) FROM t WHERE v LIKE 'a%'") == ROWS


def test_keys_that_become_one_are_one_row(database: Database, tmp_path: Path) -> None:
    """Where nothing tells which of them is to stay, they are refused before."""
    source = duckdb_file(
        tmp_path / "source.duckdb",
        "CREATE TABLE T AS SELECT 'k' || chr(0) AS k, 1 AS n UNION ALL SELECT 'k', 2",
    )
    table = {
        "source": "T",
        "uniqueness_columns": ["k"],
        "mode": "upsert",
        "nul_characters": "strip",
    }
    config = write_config(tmp_path, config_for(database, source, table))

    refused = snowmelt(config, "migrate")
    assert refused.returncode == FAILED
    assert "1 row repeats the key" in refused.stderr
    write_config(tmp_path, config_for(database, source, {**table, "source_watermark": "n"}))
    loaded = snowmelt(config, "migrate")
    assert loaded.returncode == 0, loaded.stdout + loaded.stderr
    assert database.execute('SELECT * FROM "T"') == [("k", 2)]
