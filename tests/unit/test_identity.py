"""The hashes: what they depend on, and what they must never depend on."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from snowmelt.choices import ColumnNames, KeyType, Mode, NewColumns, NulCharacters
from snowmelt.config import Config, load_config
from snowmelt.identity import identity, table_facts, table_hash
from snowmelt.model import ChunkKey, SourceTable, TableJob, TargetTable

JOB = TableJob(
    source_name="analytics",
    source=SourceTable("ANALYTICS", "BI", "FACT_VISITS"),
    target=TargetTable("dwh", "public", "factvisits"),
    keys=(ChunkKey("Visit Updated Timestamp", KeyType.TIMESTAMP),),
)
ORIGIN = "snowflake://xy12345"
COLUMNS = ("Visit Id", "Visit Updated Timestamp")


def hashed(job: TableJob, *, origin: str = ORIGIN, columns: Sequence[str] = COLUMNS) -> str:
    return table_hash(table_facts(job, origin, columns))


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def document() -> dict[str, Any]:
    return {
        "snowflake": {"account": "xy12345", "user": "svc", "password": "old"},
        "postgres": {"host": "h", "user": "u", "password": "old", "database": "dwh"},
        "sources": [
            {
                "source_name": name,
                "source_sf_database": "ANALYTICS",
                "source_sf_schema": "BI",
                "target_pg_schema": name,
                "tables": [{"source": "FACT_VISITS"}, {"source": "DIM_PAYER"}],
            }
            for name in ("analytics", "conflict")
        ],
    }


def load(content: dict[str, Any], *sources: str) -> Config:
    path = Path("config.json")
    path.write_text(json.dumps(content))
    return load_config(path, sources=sources, environ={})


def put(content: dict[str, Any], place: tuple[str | int, ...], value: object) -> dict[str, Any]:
    at: Any = content
    for part in place[:-1]:
        at = at[part]
    at[place[-1]] = value
    return content


def test_execution_hash_is_that_of_the_running_system() -> None:
    found = identity(load(document()))
    text = f'{{"config_hash":"{found.config_hash}","source_names":["analytics","conflict"]}}'
    assert found.execution_hash == hashlib.md5(text.encode()).hexdigest()
    assert found.source_names == ("analytics", "conflict")


def test_config_hash_is_md5_of_canonical_json() -> None:
    way = (
        '[{"connection":"snowflake://xy12345","source_database":"ANALYTICS","source_name":"conflict",'
        '"source_schema":"BI","target_database":"dwh","target_schema":"conflict"}]'
    )
    found = identity(load(document(), "conflict"))
    assert found.config_hash == hashlib.md5(way.encode()).hexdigest()


@pytest.mark.parametrize(
    ("place", "value"),
    [
        (("postgres", "password"), "new"),
        (("postgres", "host"), "replica"),
        (("postgres", "user"), "other"),
        (("snowflake", "password"), "new"),
        (("snowflake", "user"), "other"),
        (("snowflake", "warehouse"), "XL"),
        (("parallel_threads",), 99),
        (("batch_size",), 5),
        (("lambda_memory",), "10GB"),
        (("resume_max_age",), 8760),
        (("sources", 0, "batch_size"), 7),
        (("sources", 0, "tables", 0, "batch_size"), 7),
        (("sources", 0, "tables", 0, "target"), "another"),
        (("sources", 0, "tables"), [{"source": "NEW"}]),
        (("sources", 0, "target_pg_database"), "dwh"),
    ],
)
def test_identity_does_not_know(place: tuple[str | int, ...], value: object) -> None:
    before = identity(load(document()))
    assert identity(load(put(document(), place, value))) == before


@pytest.mark.parametrize(
    ("place", "value"),
    [
        (("snowflake", "account"), "other"),
        (("postgres", "database"), "dwh2"),
        (("sources", 0, "source_name"), "renamed"),
        (("sources", 0, "connection"), "duckdb:///visits.duckdb"),
        (("sources", 0, "source_sf_database"), "ANALYTICS_DEV"),
        (("sources", 0, "source_sf_schema"), "DEV"),
        (("sources", 0, "target_pg_database"), "elsewhere"),
        (("sources", 0, "target_pg_schema"), "analytics_dev2"),
    ],
)
def test_identity_knows(place: tuple[str | int, ...], value: object) -> None:
    before, after = identity(load(document())), identity(load(put(document(), place, value)))
    assert before.config_hash != after.config_hash
    assert before.execution_hash != after.execution_hash


@pytest.mark.parametrize(
    ("place", "value"),
    [
        (("sources", 1, "target_pg_schema"), "elsewhere"),
        (("sources", 1, "source_name"), "renamed"),
        (("sources", 1, "enabled"), False),
        (("sources", 1, "tables"), []),
    ],
)
def test_identity_of_one_source_does_not_know_another(
    place: tuple[str | int, ...], value: object
) -> None:
    before = identity(load(document(), "analytics"))
    assert identity(load(put(document(), place, value), "analytics")) == before


def test_sources_beside_each_other_differ() -> None:
    content = document()
    hashes = {
        identity(load(content, *names)).execution_hash
        for names in (("analytics",), ("conflict",), ("analytics", "conflict"))
    }
    assert len(hashes) == 3


def test_order_of_sources_and_overrides_do_not_count() -> None:
    content = document()
    before = identity(load(content))
    content["sources"].reverse()
    config = load(content)
    assert identity(config) == before
    assert identity(config.with_overrides(threads=9, tables=["analytics.DIM_PAYER"])) == before


# One table


def test_table_hash_is_versioned_and_of_what_differs_from_the_defaults() -> None:
    text = (
        '{"columns":["Visit Id","Visit Updated Timestamp"],"connection":"snowflake://xy12345",'
        '"keys":[{"column":"Visit Updated Timestamp","type":"timestamp"}],'
        '"source":{"database":"ANALYTICS","name":"FACT_VISITS","schema":"BI"},'
        '"target":{"database":"dwh","name":"factvisits","schema":"public"}}'
    )
    assert hashed(JOB) == "v1:" + hashlib.md5(text.encode()).hexdigest()


@pytest.mark.parametrize(
    "change",
    [
        {"source": SourceTable("ANALYTICS", "BI", "FACT_VISITS", '"Cost" > 0')},
        {"source": SourceTable("ANALYTICS", "DEV", "FACT_VISITS")},
        {"target": TargetTable("dwh", "public", "other")},
        {"target": TargetTable("dwh2", "public", "factvisits")},
        {"keys": ()},
        {"keys": (ChunkKey("Visit Updated Timestamp", KeyType.DATE),)},
        {"keys": (ChunkKey("Visit Updated Timestamp", None),)},
        {"uniqueness_columns": ("Visit Id",)},
        {"source_watermark": "Visit Updated Timestamp"},
        {"target_watermark": "Visit Updated Timestamp"},
        {"truncate_onstart": True},
        {"mode": Mode.INSERT_ONLY},
        {"nul_characters": NulCharacters.STRIP},
        {"column_names": ColumnNames.LOWER},
        {"new_columns": NewColumns.LEAVE_OUT},
    ],
)
def test_table_hash_knows(change: dict[str, Any]) -> None:
    other = dataclasses.replace(JOB, **change)
    assert hashed(other) != hashed(JOB)


def test_table_hash_knows_origin_and_columns() -> None:
    before = hashed(JOB)
    assert hashed(JOB, origin="snowflake://other") != before
    assert hashed(JOB, columns=(*COLUMNS, "Cost")) != before


def test_table_facts_survive_json_and_leave_out_what_is_not_set() -> None:
    facts = table_facts(JOB, ORIGIN)
    assert json.loads(json.dumps(facts)) == facts
    assert sorted(facts) == ["connection", "keys", "source", "target"]
    assert facts["keys"] == [{"column": "Visit Updated Timestamp", "type": "timestamp"}]


@given(
    batch_size=st.integers(1), parallel_threads=st.integers(1), max_retry_attempts=st.integers(0)
)
def test_table_hash_does_not_know_tuning(
    batch_size: int, parallel_threads: int, max_retry_attempts: int
) -> None:
    tuned = dataclasses.replace(
        JOB,
        batch_size=batch_size,
        parallel_threads=parallel_threads,
        max_retry_attempts=max_retry_attempts,
        disable_index=True,
    )
    assert hashed(tuned) == hashed(JOB)


names = st.text(min_size=1, max_size=8)


@given(st.lists(names, max_size=4), st.lists(names, max_size=4))
def test_table_hash_tells_column_lists_apart(left: list[str], right: list[str]) -> None:
    same = hashed(JOB, columns=left) == hashed(JOB, columns=right)
    assert same is (left == right)
