"""Files that are right: what they come to."""

from __future__ import annotations

import json
import pickle
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from snowmelt.choices import KeyType, Mode
from snowmelt.config import Config, json_schema, load_config
from snowmelt.errors import UnknownName, UsageError
from snowmelt.model import ChunkKey, SourceTable, TableJob, TargetTable

RUNNING = Path(__file__).parents[1] / "data" / "running_system.json"
ENVIRON = {
    "SNOWFLAKE_RSA_KEY": "-----BEGIN PRIVATE KEY-----\nsecret-key\n-----END PRIVATE KEY-----",
    "POSTGRES_HOST": "db.internal",
    "POSTGRES_PASSWORD": "secret-password",
}
MINIMAL: dict[str, Any] = {
    "postgres": {"database": "dwh"},
    "sources": [
        {
            "source_name": "visits",
            "connection": "duckdb:///visits.duckdb",
            "tables": [{"source": "FACT_VISITS"}],
        }
    ],
}
ACCOUNT = {"account": "a", "user": "u", "password": "p"}


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No `.env` of the developer's own working directory."""
    monkeypatch.chdir(tmp_path)


def write(folder: Path, document: dict[str, Any], name: str = "config.json") -> Path:
    path = folder / name
    text = json.dumps(document) if name.endswith("json") else yaml.safe_dump(document)
    path.write_text(text, encoding="utf-8")
    return path


def changed(*, source: dict[str, Any] | None = None, **top: Any) -> dict[str, Any]:
    only = {**MINIMAL["sources"][0], **(source or {})}
    return {**MINIMAL, "sources": [only], **top}


def load(folder: Path, document: dict[str, Any], **environ: str) -> Config:
    return load_config(write(folder, document), environ=environ)


def job(folder: Path, **source: Any) -> TableJob:
    (only,) = load(folder, changed(source=source)).jobs()
    return only


def snowflake(
    *, block: dict[str, Any] | None = None, table: dict[str, Any] | None = None, **top: Any
) -> dict[str, Any]:
    """A config with one source that reads from Snowflake; `source` goes to that one."""
    source = {"connection": None, "tables": [{"source": "T", **(table or {})}]}
    source |= top.pop("source", {})
    return changed(source=source, snowflake={**ACCOUNT, **(block or {})}, **top)


# The running system's own file


def test_running_system_loads_unchanged() -> None:
    config = load_config(RUNNING, environ=ENVIRON)
    assert [source.source_name for source in config.sources] == ["analytics", "conflict"]
    assert [job.target.name for job in config.jobs()] == [
        "factvisitsprofilebase",
        "factvisitcallperformance",
        "DIM_PAYER",
        "dimoffice",
        "conflictvisitmaps",
    ]
    assert config.lambda_memory == 10_240
    assert config.postgres.host == "db.internal"
    assert config.snowflake is not None
    assert config.snowflake.rsa_key is not None
    assert config.snowflake.rsa_key.get_secret_value() == ENVIRON["SNOWFLAKE_RSA_KEY"]


def test_running_system_warns_of_what_is_retired_and_runs() -> None:
    sort = "has no effect any more; chunking_columns decide the order, nothing is sorted"
    copy = "has no effect any more; batch_size takes its place, in every mode"
    assert load_config(RUNNING, environ=ENVIRON).warnings == (
        f"batch_size_copy_mode (line 18): {copy}",
        f"sources[0].tables[0].sort_columns (line 40): {sort}",
        f"sources[1].tables[0].sort_columns (line 104): {sort}",
        f"sources[1].tables[0].batch_size_copy_mode (line 105): {copy}",
    )


def test_running_system_resolves_its_largest_table() -> None:
    assert load_config(RUNNING, environ=ENVIRON).jobs()[0] == TableJob(
        source_name="analytics",
        source=SourceTable("ANALYTICS", "BI", "FACT_VISITS_PROFILE_BASE", warehouse="MIGRATION_WH"),
        target=TargetTable("conflict_management", "analytics", "factvisitsprofilebase"),
        keys=(ChunkKey("Visit Updated Timestamp", KeyType.TIMESTAMP),),
        batch_size=250_000,
        parallel_threads=20,
        max_retry_attempts=5,
        uniqueness_columns=("Visit Id",),
        source_watermark="Visit Updated Timestamp",
        target_watermark="Visit Updated Timestamp",
        truncate_onstart=True,
        mode=Mode.INSERT_ONLY,
        disable_index=True,
    )


def test_running_system_tables_come_to_these_modes() -> None:
    jobs = load_config(RUNNING, environ=ENVIRON).jobs()
    assert [(job.target.name, job.mode, job.truncate_onstart, job.incremental) for job in jobs] == [
        ("factvisitsprofilebase", Mode.INSERT_ONLY, True, False),
        ("factvisitcallperformance", Mode.UPSERT, False, True),
        ("DIM_PAYER", Mode.APPEND, False, False),
        ("dimoffice", Mode.APPEND, False, False),
        ("conflictvisitmaps", Mode.INSERT_ONLY, False, False),
    ]


def test_running_system_null_falls_through_to_the_next_level() -> None:
    maps = load_config(RUNNING, environ=ENVIRON).jobs()[-1]
    assert maps.mode is Mode.INSERT_ONLY
    assert maps.parallel_threads == 6
    assert maps.batch_size == 25_000
    assert maps.target == TargetTable("conflict_management", "public", "conflictvisitmaps")
    assert maps.source.filter is None


def test_only_the_chosen_source_is_kept() -> None:
    config = load_config(RUNNING, sources=["conflict"], environ=ENVIRON)
    assert [source.source_name for source in config.sources] == ["conflict"]
    assert not any("sources[0]" in warning for warning in config.warnings)


# Levels, defaults and single values


def test_defaults(tmp_path: Path) -> None:
    config = load(tmp_path, MINIMAL)
    assert config.jobs() == (
        TableJob(
            source_name="visits",
            source=SourceTable("", "", "FACT_VISITS"),
            target=TargetTable("dwh", "public", "FACT_VISITS"),
        ),
    )
    session = config.postgres.session
    assert (config.parallel_threads, config.batch_size, config.max_retry_attempts) == (
        4,
        "auto",
        5,
    )
    assert (config.resume_max_age, config.lease_seconds) == (168, 60)
    assert (config.stall_seconds, config.outage_seconds) == (1800, 900)
    assert (session.synchronous_commit, session.work_mem) == ("off", "256MB")
    assert session.maintenance_work_mem == "512MB"
    assert config.warnings == ()
    assert config.snowflake is None


@pytest.mark.parametrize(
    ("key", "attribute", "values"),
    [
        ("parallel_threads", "parallel_threads", (7, 8, 9)),
        ("batch_size", "batch_size", (70, 80, 90)),
        ("max_retry_attempts", "max_retry_attempts", (7, 0, 9)),
        ("overlap_seconds", "overlap_seconds", (0, 60, 9)),
        ("new_columns", "new_columns", ("add", "refuse", "leave_out")),
        ("column_names", "column_names", ("lower", "exact", "lower")),
    ],
)
@pytest.mark.parametrize("levels", [(1, 0, 0), (1, 1, 0), (1, 0, 1), (0, 1, 1), (1, 1, 1)])
def test_table_over_source_over_top(
    tmp_path: Path, key: str, attribute: str, values: tuple[object, ...], levels: tuple[int, ...]
) -> None:
    top, source, table = (
        value if level else None for value, level in zip(values, levels, strict=True)
    )
    document = changed(source={key: source, "tables": [{"source": "T", key: table}]}, **{key: top})
    expected = next(value for value in (table, source, top) if value is not None)
    (only,) = load(tmp_path, document).jobs()
    assert getattr(only, attribute) == expected


@pytest.mark.parametrize(
    ("top", "source", "table", "rows"),
    [
        (None, None, None, None),
        ("auto", None, None, None),
        (70, "auto", None, None),
        (70, None, "auto", None),
        (70, 80, "auto", None),
        ("auto", 80, None, 80),
        ("auto", "auto", 90, 90),
        ("auto", None, "${N}", 8),
        (70, "${AUTO}", None, None),
    ],
)
def test_batch_size_is_auto_or_a_number_at_each_level(
    tmp_path: Path, top: object, source: object, table: object, rows: int | None
) -> None:
    tables = [{"source": "T", "batch_size": table}]
    document = changed(source={"batch_size": source, "tables": tables}, batch_size=top)
    (only,) = load(tmp_path, document, N="8", AUTO="auto").jobs()
    assert only.batch_size == rows


@pytest.mark.parametrize(("source", "table"), [(True, None), (False, True), (None, True)])
def test_truncate_onstart_of_a_source(tmp_path: Path, source: object, table: object) -> None:
    tables = [{"source": "T", "truncate_onstart": table}]
    assert job(tmp_path, truncate_onstart=source, tables=tables).truncate_onstart
    tables = [{"source": "T", "truncate_onstart": False}]
    assert not job(tmp_path, truncate_onstart=source, tables=tables).truncate_onstart


@pytest.mark.parametrize(
    ("source", "table", "allowed"),
    [
        (None, None, False),
        (True, None, True),
        (True, False, False),
        (False, True, True),
    ],
)
def test_allow_truncate_of_the_nearer_level(
    tmp_path: Path, source: object, table: object, allowed: bool
) -> None:
    tables = [{"source": "T", "allow_truncate": table}]
    assert job(tmp_path, allow_truncate=source, tables=tables).allow_truncate is allowed


@pytest.mark.parametrize(
    ("source", "table", "how"),
    [
        (None, None, "fail"),
        ("strip", None, "strip"),
        ("strip", "fail", "fail"),
        ("fail", "replace", "replace"),
    ],
)
def test_nul_characters_of_the_nearer_level(
    tmp_path: Path, source: object, table: object, how: str
) -> None:
    tables = [{"source": "T", "nul_characters": table}]
    assert job(tmp_path, nul_characters=source, tables=tables).nul_characters == how


def test_retention_days(tmp_path: Path) -> None:
    assert load(tmp_path, MINIMAL).retention_days is None
    assert load(tmp_path, changed(retention_days="${DAYS}"), DAYS="90").retention_days == 90


@pytest.mark.parametrize(
    ("written", "read"),
    [
        ("duckdb:///visits.duckdb", "duckdb:///visits.duckdb"),
        ("duckdb:////data/visits.duckdb", "duckdb:////data/visits.duckdb"),
        ("files:///exports/", "files:///exports"),
        ("files:////data/a b/", "files:////data/a b"),
    ],
)
def test_connection(tmp_path: Path, written: str, read: str) -> None:
    config = load(tmp_path, changed(source={"connection": written}))
    connection = config.sources[0].connection
    assert str(connection) == read == config.origin(config.sources[0])
    assert connection is not None
    assert Path(connection.path).is_absolute() is ("////" in written)


@pytest.mark.parametrize(
    ("postgres", "database"),
    [
        ({"database": "dwh"}, "dwh"),
        ({"dsn": "postgresql://u:p%40@h:5432/dwh"}, "dwh"),
        ({"dsn": "postgres://h1,h2/my%20dwh?sslmode=require"}, "my dwh"),
        ({"dsn": "postgresql://h/other?dbname=dwh"}, "dwh"),
        ({"dsn": "postgresql://[::1]:5432/dwh?options=a@b", "password": "p"}, "dwh"),
        ({"dsn": "host=h dbname = 'my dwh' user=u"}, "my dwh"),
        ({"dsn": r"dbname=a\'b"}, "a'b"),
        ({"dsn": "postgresql://h/dwh", "password": "p"}, "dwh"),
    ],
)
def test_target_database_of_the_postgres_block(
    tmp_path: Path, postgres: dict[str, str], database: str
) -> None:
    (only,) = load(tmp_path, {**MINIMAL, "postgres": postgres}).jobs()
    assert only.target.database == database


def test_target_database_of_the_source_comes_first(tmp_path: Path) -> None:
    assert job(tmp_path, target_pg_database="own").target.database == "own"


def test_snowflake_block_gives_database_and_schema(tmp_path: Path) -> None:
    block = {**ACCOUNT, "database": "DB", "schema": "BI"}
    document = changed(source={"connection": None}, snowflake=block)
    config = load(tmp_path, document)
    assert config.jobs()[0].source == SourceTable("DB", "BI", "FACT_VISITS")
    assert config.origin(config.sources[0]) == "snowflake://a"


def test_database_of_the_snowflake_block_is_not_that_of_a_connection(tmp_path: Path) -> None:
    block = {**ACCOUNT, "database": "DB", "schema": "BI"}
    cold = {"source_name": "cold", "tables": [{"source": "T"}]}
    document = {**changed(snowflake=block), "sources": [*MINIMAL["sources"], cold]}
    local, remote = load(tmp_path, document).jobs()
    assert local.source == SourceTable("", "", "FACT_VISITS")
    assert remote.source == SourceTable("DB", "BI", "T")


@pytest.mark.parametrize(
    ("value", "megabytes"), [(10240, 10240), ("10GB", 10240), ("512 mb", 512), ("3008", 3008)]
)
def test_lambda_memory(tmp_path: Path, value: object, megabytes: int) -> None:
    assert load(tmp_path, changed(lambda_memory=value)).lambda_memory == megabytes


@pytest.mark.parametrize(
    ("written", "read"),
    [
        ("off", "off"),
        ("no", "off"),
        ("on", "on"),
        ('"off"', "off"),
        ("remote_apply", "remote_apply"),
    ],
)
def test_synchronous_commit_survives_yaml(tmp_path: Path, written: str, read: str) -> None:
    text = yaml.safe_dump(
        {**MINIMAL, "postgres": {"database": "d", "session": {"synchronous_commit": "@"}}}
    )
    path = tmp_path / "config.yaml"
    path.write_text(re.sub(r"'@'", written, text))
    assert load_config(path, environ={}).postgres.session.synchronous_commit == read


def test_yaml_anchors_and_merges(tmp_path: Path) -> None:
    path = tmp_path / "config.yml"
    path.write_text(
        """
postgres: {database: dwh}
sources:
  - source_name: visits
    connection: duckdb:///visits.duckdb
    tables:
      - &common {source: A, batch_size: 5, truncate_onstart: yes}
      - {<<: *common, source: B}
      - {<<: [{source: C, batch_size: 6}, *common], parallel_threads: 9}
"""
    )
    jobs = load_config(path, environ={}).jobs()
    assert [(job.source.name, job.batch_size, job.truncate_onstart) for job in jobs] == [
        ("A", 5, True),
        ("B", 5, True),
        ("C", 6, True),
    ]
    assert jobs[2].parallel_threads == 9


def test_byte_order_mark_and_schema_key(tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    text = json.dumps({"$schema": "./snowmelt.schema.json", **MINIMAL})
    path.write_text(text, encoding="utf-8-sig")
    assert len(load_config(path, environ={}).jobs()) == 1


# Variables


@pytest.mark.parametrize(
    ("written", "read"),
    [
        ("${NAME}", "sales"),
        ("x_${NAME}_${N}", "x_sales_8"),
        ("$${NAME}", "${NAME}"),
        ("a$b$$c", "a$b$$c"),
        ("${RAW}", "${NAME}"),
    ],
)
def test_variables_in_text(tmp_path: Path, written: str, read: str) -> None:
    document = changed(source={"target_pg_schema": written})
    config = load(tmp_path, document, NAME="sales", N="8", RAW="${NAME}")
    assert config.sources[0].target_pg_schema == read


def test_variables_for_numbers_and_booleans(tmp_path: Path) -> None:
    tables = [{"source": "A", "enabled": "${OFF}"}, {"source": "B", "batch_size": "${N}"}]
    document = changed(source={"tables": tables}, parallel_threads="${N}", insert_only_mode="${ON}")
    (only,) = load(tmp_path, document, N="8", ON="true", OFF="false").jobs()
    assert (only.batch_size, only.parallel_threads, only.mode) == (8, 8, Mode.INSERT_ONLY)


def test_environment_over_env_beside_config_over_env_here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    beside, here = tmp_path / "conf", tmp_path / "here"
    for folder, text in ((beside, "B=beside\nC=beside"), (here, "A=here\nB=here\nC=here\nD=here")):
        folder.mkdir()
        (folder / ".env").write_text(text)
    monkeypatch.chdir(here)
    document = changed(source={"target_pg_schema": "${A} ${B} ${C} ${D}"})
    config = load_config(write(beside, document), environ={"A": "given", "B": "given"})
    assert config.sources[0].target_pg_schema == "given given beside here"


def test_environment_of_the_process_is_the_default(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SNOWMELT_TEST_SCHEMA", "from_process")
    path = write(tmp_path, changed(source={"target_pg_schema": "${SNOWMELT_TEST_SCHEMA}"}))
    assert load_config(path).sources[0].target_pg_schema == "from_process"


# Overrides and names


def test_threads_override_every_level(tmp_path: Path) -> None:
    document = changed(
        source={"parallel_threads": 2, "tables": [{"source": "T", "parallel_threads": 3}]}
    )
    config = load(tmp_path, document).with_overrides(threads=11)
    assert (config.parallel_threads, config.jobs()[0].parallel_threads) == (11, 11)
    with pytest.raises(UsageError, match="0 threads"):
        config.with_overrides(threads=0)


def test_batch_size_and_resume_window_override_every_level(tmp_path: Path) -> None:
    document = changed(
        source={"batch_size": 2_000, "tables": [{"source": "T", "batch_size": 3_000}]}
    )
    config = load(tmp_path, document)
    assert config.with_overrides(batch_size=500).jobs()[0].batch_size == 500
    assert config.with_overrides(batch_size="auto").jobs()[0].batch_size is None
    assert config.with_overrides(resume_max_age=24).resume_max_age == 24
    assert config.with_overrides().jobs() == config.jobs()
    with pytest.raises(UsageError, match="0 rows"):
        config.with_overrides(batch_size=0)
    with pytest.raises(UsageError, match="0 hours"):
        config.with_overrides(resume_max_age=0)


@pytest.mark.parametrize(
    ("names", "targets"),
    [
        (["DIM_PAYER"], ["DIM_PAYER"]),
        (["factvisitsprofilebase"], ["factvisitsprofilebase"]),
        (["analytics.dimoffice", "CONFLICT_VISIT_MAPS"], ["dimoffice", "conflictvisitmaps"]),
        (["BI.DIM_OFFICE"], ["dimoffice"]),
    ],
)
def test_tables_override(names: list[str], targets: list[str]) -> None:
    config = load_config(RUNNING, environ=ENVIRON)
    narrowed = config.with_overrides(tables=names)
    assert [job.target.name for job in narrowed.jobs()] == targets
    assert [source.source_name for source in narrowed.sources] == ["analytics", "conflict"]
    assert narrowed.warnings == config.warnings


@pytest.mark.parametrize(
    ("name", "remedy"),
    [("DIM_PAYERS", "did you mean DIM_PAYER?"), ("zzz", "known are ")],
)
def test_unknown_table(name: str, remedy: str) -> None:
    with pytest.raises(UnknownName) as caught:
        load_config(RUNNING, environ=ENVIRON).with_overrides(tables=["DIM_PAYER", name])
    assert name in caught.value.what
    assert remedy in (caught.value.remedy or "")


@pytest.mark.parametrize(
    ("name", "what", "remedy"),
    [
        ("analytcs", "there is no source analytcs", "did you mean analytics?"),
        ("zzz", "there is no source zzz", "known are analytics, analytics_dev, conflict"),
        ("analytics_dev", "the source analytics_dev is disabled", "set enabled: true in"),
    ],
)
def test_unknown_source(name: str, what: str, remedy: str) -> None:
    with pytest.raises(UnknownName) as caught:
        load_config(RUNNING, sources=["conflict", name], environ=ENVIRON)
    assert caught.value.what == what
    assert remedy in (caught.value.remedy or "")


@pytest.mark.parametrize(
    ("source", "warning"),
    [
        ({"enabled": False}, "sources (line 1): has no source that is enabled; nothing"),
        ({"tables": []}, "sources[0].tables (line 1): has no table that is enabled; nothing"),
    ],
)
def test_a_config_that_moves_nothing_warns(
    tmp_path: Path, source: dict[str, object], warning: str
) -> None:
    config = load(tmp_path, changed(source=source))
    assert config.jobs() == ()
    assert len(config.warnings) == 1
    assert config.warnings[0].startswith(warning)


def test_secrets_are_in_no_repr(tmp_path: Path) -> None:
    config = load_config(RUNNING, environ=ENVIRON)
    document = changed(postgres={"dsn": "postgresql://u:secret-dsn@h/d"})
    for shown in (config, config.with_overrides(threads=3), load(tmp_path, document)):
        for text in (repr(shown), str(shown), shown.model_dump_json(), repr(shown.jobs())):
            assert "secret" not in text.replace("SecretStr", "")


def test_a_config_is_frozen_and_pickles() -> None:
    config = load_config(RUNNING, environ=ENVIRON)
    assert pickle.loads(pickle.dumps(config)) == config
    with pytest.raises(ValueError, match="frozen"):
        config.batch_size = 1


# JSON and YAML

names = st.text("abcXYZ 0_é☃'\"#:-", min_size=1, max_size=12).filter(str.strip)
maybe = st.none
mapping: Any = st.fixed_dictionaries
tables: st.SearchStrategy[dict[str, Any]] = mapping(
    {"source": names},
    optional={
        "enabled": st.booleans(),
        "target": maybe() | names,
        "source_filter": maybe() | st.text("ab'\"\n= %{}", max_size=10),
        "chunking_columns": maybe() | st.lists(names, max_size=3),
        "batch_size": maybe() | st.just("auto") | st.integers(1, 10**12),
        "insert_only_mode": maybe() | st.booleans(),
        "sort_columns": maybe() | st.lists(names, max_size=2),
    },
)
documents: st.SearchStrategy[dict[str, Any]] = mapping(
    {
        "postgres": mapping({"database": names, "password": maybe() | names}),
        "sources": st.lists(
            mapping(
                {
                    "source_name": names,
                    "connection": st.just("duckdb:///a.duckdb"),
                    "tables": st.lists(
                        tables, max_size=3, unique_by=lambda t: t.get("target") or t["source"]
                    ),
                },
                optional={"parallel_threads": maybe() | st.integers(1, 99)},
            ),
            max_size=2,
            unique_by=lambda source: source["source_name"],
        ),
    },
    optional={"lambda_memory": st.sampled_from([512, "2GB", None])},
)


# No deadline: each example writes and reads files.
@settings(deadline=None)
@given(documents)
def test_json_and_yaml_of_one_document_load_equal(
    tmp_path_factory: pytest.TempPathFactory, document: dict[str, Any]
) -> None:
    folder = tmp_path_factory.mktemp("both")
    for index, source in enumerate(document["sources"]):
        source["target_pg_schema"] = f"s{index}"
    from_json = load_config(write(folder, document), environ={})
    from_yaml = load_config(write(folder, document, "config.yaml"), environ={})
    without = {"warnings": ()}
    assert from_json.model_copy(update=without) == from_yaml.model_copy(update=without)
    assert from_json.jobs() == from_yaml.jobs()
    lines = re.compile(r" \(line \d+\)")
    assert sorted(lines.sub("", warning) for warning in from_json.warnings) == sorted(
        lines.sub("", warning) for warning in from_yaml.warnings
    )


# The schema


def fits(schema: dict[str, Any], value: Any, root: dict[str, Any]) -> bool:
    """As much of JSON Schema as the config uses."""
    if "$ref" in schema:
        return fits(root["$defs"][schema["$ref"].rsplit("/", 1)[1]], value, root)
    if "anyOf" in schema:
        return any(fits(option, value, root) for option in schema["anyOf"])
    kinds: dict[str, Any] = {
        "object": dict, "array": list, "string": str, "integer": int, "boolean": bool,
        "null": type(None),
    }  # fmt: skip
    kind = schema.get("type")
    if kind and not isinstance(value, kinds[kind]):
        return False
    if kind == "integer" and (isinstance(value, bool) or value < schema.get("minimum", value)):
        return False
    if isinstance(value, str) and not re.search(schema.get("pattern", ""), value):
        return False
    if "enum" in schema and value not in schema["enum"]:
        return False
    if "const" in schema and value != schema["const"]:
        return False
    if isinstance(value, list) and "items" in schema:
        return all(fits(schema["items"], item, root) for item in value)
    if isinstance(value, dict) and "properties" in schema:
        known = schema["properties"]
        return all(key in value for key in schema.get("required", ())) and all(
            key in known and fits(known[key], item, root) for key, item in value.items()
        )
    return True


def test_schema_takes_what_loads() -> None:
    schema = json_schema()
    assert schema["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    assert schema["title"] == "snowmelt config"
    assert fits(schema, json.loads(RUNNING.read_text()), schema)
    assert fits(schema, MINIMAL, schema)


@pytest.mark.parametrize(
    ("document", "good"),
    [
        (changed(parallel_threads="${N}"), True),
        (changed(parallel_threads="eight"), False),
        (changed(parallel_threads=0), False),
        (changed(parallel_threads=None), True),
        (changed(batch_size="auto"), True),
        (changed(batch_size=5), True),
        (changed(batch_size="${N}"), True),
        (changed(batch_size="many"), False),
        (changed(batch_size=0), False),
        (changed(source={"batch_size": "auto"}), True),
        (changed(source={"tables": [{"source": "T", "batch_size": "auto"}]}), True),
        (changed(source={"tables": [{"source": "T", "batch_size": "5"}]}), False),
        (changed(lambda_memory="10GB"), True),
        (changed(lambda_memory="10 horses"), False),
        (changed(insert_only_mode="${B}"), True),
        (changed(sort_columns=["a"]), True),
        (changed(batch_sise=1), False),
        (changed(source={"connection": "oracle://x"}), False),
        (changed(source={"connection": "${WHERE}"}), True),
        (changed(source={"source_name": None}), False),
        (changed(source={"tables": [{"source": "T", "chunking_column_types": ["date"]}]}), True),
        (changed(source={"tables": [{"source": "T", "chunking_column_types": ["${T}"]}]}), True),
        (changed(source={"tables": [{"source": "T", "chunking_column_types": ["day"]}]}), False),
        (changed(postgres={"session": {"synchronous_commit": "off"}}), True),
        (changed(postgres={"session": {"synchronous_commit": "maybe"}}), False),
        (changed(snapshot="none", extraction="one_query"), True),
        (changed(snapshot="${SNAPSHOT}"), True),
        (changed(snapshot="sometimes"), False),
        (changed(mode="upsert", overlap_seconds=0, retention_days=1), True),
        (changed(mode="${MODE}"), True),
        (changed(mode="merge"), False),
        (changed(overlap_seconds=-1), False),
        (changed(retention_days=0), False),
        (changed(retention_days=None), True),
        (changed(allow_truncate=True), False),
        (changed(source={"mode": "truncate", "allow_truncate": True, "overlap_seconds": 1}), True),
        (changed(source={"retention_days": 1}), False),
        (changed(source={"nul_characters": "strip"}), True),
        (changed(source={"tables": [{"source": "T", "nul_characters": "drop"}]}), False),
        (changed(nul_characters="strip"), False),
        (changed(source={"tables": [{"source": "T", "mode": "${MODE}"}]}), True),
        (changed(source={"tables": [{"source": "T", "allow_truncate": "maybe"}]}), False),
        (changed(source={"snapshot": "clone", "extraction": "auto", "warehouse": "W"}), True),
        (changed(source={"tables": [{"source": "T", "extraction": "two_queries"}]}), False),
        (snowflake(block={"clone_schema": "S", "statement_timeout_seconds": 1}), True),
        (snowflake(block={"statement_timeout_seconds": 0}), False),
    ],
)
def test_schema_tells_good_from_bad(document: dict[str, Any], good: bool) -> None:
    assert fits(json_schema(), document, json_schema()) is good


def test_schema_describes_every_key_and_takes_null_where_optional() -> None:
    schema = json_schema()
    for model in (schema, *schema["$defs"].values()):
        for key, setting in model.get("properties", {}).items():
            assert setting.get("description"), key
            assert fits(setting, None, schema) is (key not in model.get("required", ())), key
