"""What the config says of Snowflake: login, warehouse, snapshot and extraction."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from snowmelt.choices import Extraction, Snapshot
from snowmelt.config import load_config
from tests.unit.test_config import ACCOUNT, changed, load, snowflake, write
from tests.unit.test_config_problems import problems


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


# Files that are right


@pytest.mark.parametrize(
    "login",
    [
        {"rsa_key": "k"},
        {"rsa_key": "k", "passphrase": "p"},
        {"rsa_key": "k", "authenticator": "Snowflake_JWT"},
        {"password": "p"},
        {"password": "p", "authenticator": "SNOWFLAKE"},
        {"token": "t"},
        {"token": "t", "authenticator": "programmatic_access_token"},
        {"token": "t", "authenticator": "OAuth"},
        {"token": "t", "host": "localhost", "port": 80, "protocol": "http"},
    ],
)
def test_a_login_that_is_whole(tmp_path: Path, login: dict[str, object]) -> None:
    block = {"password": None, **login}
    config = load(tmp_path, snowflake(block=block))
    assert config.warnings == ()
    assert config.snowflake is not None
    assert config.snowflake.authenticator == login.get("authenticator")


def test_a_login_may_be_missing_where_nothing_reads_from_snowflake(tmp_path: Path) -> None:
    document = changed(snowflake={"account": "a", "user": "u"})
    assert len(load(tmp_path, document).jobs()) == 1


def test_statement_timeout_and_clone_schema(tmp_path: Path) -> None:
    block = load(tmp_path, snowflake()).snowflake
    assert block is not None
    assert (block.statement_timeout_seconds, block.clone_schema) == (14_400, None)
    given = {"statement_timeout_seconds": 60, "clone_schema": "SCRATCH.PUBLIC"}
    block = load(tmp_path, snowflake(block=given)).snowflake
    assert block is not None
    assert (block.statement_timeout_seconds, block.clone_schema) == (60, "SCRATCH.PUBLIC")


@pytest.mark.parametrize(
    "levels", [(1, 0, 0), (1, 1, 0), (1, 0, 1), (0, 1, 1), (1, 1, 1), (0,) * 3]
)
def test_warehouse_of_table_over_source_over_block(tmp_path: Path, levels: tuple[int, ...]) -> None:
    values = zip(("BLOCK", "SOURCE", "TABLE"), levels, strict=True)
    block, source, table = ({"warehouse": name if level else None} for name, level in values)
    (only,) = load(tmp_path, snowflake(block=block, source=source, table=table)).jobs()
    expected = table["warehouse"] or source["warehouse"] or block["warehouse"]
    assert only.source.warehouse == expected


@pytest.mark.parametrize("name", ["config.json", "config.yaml"])
@pytest.mark.parametrize(
    ("top", "source", "table", "read"),
    [
        (None, None, None, "time_travel"),
        ("clone", None, None, "clone"),
        ("clone", "none", None, "none"),
        ("clone", "none", "time_travel", "time_travel"),
        (None, None, "none", "none"),
    ],
)
def test_snapshot(
    tmp_path: Path, name: str, top: object, source: object, table: object, read: str
) -> None:
    document = snowflake(
        block={"clone_schema": "SCRATCH"},
        source={"snapshot": source},
        table={"snapshot": table},
        snapshot=top,
    )
    (only,) = load_config(write(tmp_path, document, name), environ={}).jobs()
    assert only.source.snapshot is Snapshot(read)


@pytest.mark.parametrize(
    ("written", "read"), [("none", "none"), ('"none"', "none"), ("null", "clone"), ("~", "clone")]
)
def test_snapshot_none_is_no_null_in_yaml(tmp_path: Path, written: str, read: str) -> None:
    document = snowflake(block={"clone_schema": "S"}, source={"snapshot": "@@"}, snapshot="clone")
    path = tmp_path / "config.yaml"
    path.write_text(yaml.safe_dump(document).replace("'@@'", written))
    assert load_config(path, environ={}).jobs()[0].source.snapshot == read


@pytest.mark.parametrize(
    ("top", "source", "table", "read"),
    [
        (None, None, None, Extraction.AUTO),
        ("one_query", None, None, Extraction.ONE_QUERY),
        ("one_query", "query_per_chunk", None, Extraction.QUERY_PER_CHUNK),
        ("one_query", "query_per_chunk", "auto", Extraction.AUTO),
    ],
)
def test_extraction(
    tmp_path: Path, top: object, source: object, table: object, read: Extraction
) -> None:
    document = snowflake(source={"extraction": source}, table={"extraction": table}, extraction=top)
    assert load(tmp_path, document).jobs()[0].extraction is read


def test_settings_of_snowflake_have_no_effect_on_a_connection(tmp_path: Path) -> None:
    everything = {"warehouse": "W", "snapshot": "clone", "extraction": "query_per_chunk"}
    tables = [{"source": "T", **everything}, {"source": "U"}]
    document = changed(
        source={**everything, "tables": tables},
        snapshot="clone",
        snowflake={**ACCOUNT, "warehouse": "W"},
    )
    config = load(tmp_path, document)
    assert sorted(config.warnings) == sorted(
        f"sources[0].{where}{key} (line 1): has no effect on a source with a connection; remove it"
        for where in ("", "tables[0].")
        for key in ("extraction", "snapshot", "warehouse")
    )
    assert {only.source.warehouse for only in config.jobs()} == {None}
    assert {only.source.snapshot for only in config.jobs()} == {Snapshot.TIME_TRAVEL}


@pytest.mark.parametrize(
    ("top", "source", "table"),
    [
        (None, None, "one_query"),
        (None, "one_query", None),
        (None, "one_query", "auto"),
        ("one_query", None, "query_per_chunk"),
        ("one_query", "auto", None),
    ],
)
def test_one_query_of_a_connection_is_left_to_planning(
    tmp_path: Path, top: object, source: object, table: object
) -> None:
    tables = [{"source": "T", "extraction": table}]
    document = changed(source={"extraction": source, "tables": tables}, extraction=top)
    config = load(tmp_path, document)
    assert config.warnings == ()
    assert config.jobs()[0].extraction == (table or source or top)


# Files that are wrong


def account(**login: object) -> str:
    """A good file whose source reads from Snowflake, but for the login."""
    return json.dumps(
        changed(source={"connection": None}, snowflake={"account": "a", "user": "u", **login})
    )


@pytest.mark.parametrize(
    ("login", "place", "what", "remedy"),
    [
        ({}, "snowflake", "none of rsa_key, password and token is given", "give one of them"),
        ({"rsa_key": None}, "snowflake", "has nothing to log in with", "best rsa_key as ${"),
        ({"authenticator": "externalbrowser"}, "authenticator", "by hand", "leave authenticator"),
        (
            {"password": "p", "authenticator": "ExternalBrowser"},
            "snowflake.authenticator",
            "wants somebody to log in by hand",
            "give rsa_key, password or token",
        ),
        (
            {"password": "p", "authenticator": "https://acme.okta.com"},
            "snowflake.authenticator",
            "wants somebody to log in by hand",
            "leave authenticator out",
        ),
        ({"password": "p", "authenticator": "username_password_mfa"}, "authenticator", "hand", ""),
        ({"token": "t", "authenticator": "WORKLOAD_IDENTITY"}, "authenticator", "settings", ""),
        ({"rsa_key": "k", "password": "p"}, "snowflake.password", "beside rsa_key", "keep one of"),
        (
            {"token": "t", "rsa_key": "k", "password": "p"},
            "snowflake.token",
            "stands beside rsa_key, password",
            "keep one of rsa_key, password, token",
        ),
        ({"password": "p", "passphrase": "x"}, "passphrase", "is for an rsa_key", "give the rsa"),
        ({"password": "p", "authenticator": "SNOWFLAKE_JWT"}, "authenticator", "rsa_key", "give r"),
        ({"authenticator": "snowflake_jwt"}, "authenticator", "needs rsa_key", "give rsa_key"),
        ({"rsa_key": "k", "authenticator": "OAuth"}, "authenticator", "needs token", "give token"),
        (
            {"password": "p", "authenticator": "programmatic_access_token"},
            "snowflake.authenticator",
            "programmatic_access_token needs token, which is not given",
            "give token, or leave authenticator out",
        ),
        ({"rsa_key": "k", "authenticator": "snowflake"}, "authenticator", "needs password", ""),
        ({"rsa_key": "k", "authenticator": "jwt_snowflake"}, "authenticator", "no known", "did"),
        ({"rsa_key": "k", "authenticator": "zzz"}, "authenticator", "no known", "known are snow"),
        ({"rsa_key": "k", "authenticator": 5}, "authenticator", "must be text", "quotes"),
        ({"rsa_key": "k", "clone_schema": "A.B.C"}, "clone_schema", "is no schema", "DATABASE.SC"),
        ({"rsa_key": "k", "clone_schema": "A."}, "clone_schema", "is no schema", "DATABASE.SC"),
        ({"rsa_key": "k", "statement_timeout_seconds": 0}, "_seconds", "at least 1", "another"),
    ],
)
def test_a_login_that_is_not_whole(
    login: dict[str, object], place: str, what: str, remedy: str
) -> None:
    (problem,) = problems(account(**login))
    assert problem.place.startswith("snowflake")
    assert problem.place.endswith(place)
    assert what in problem.what
    assert remedy in problem.remedy


def test_a_variable_that_is_not_set_is_a_login_that_is_given() -> None:
    (problem,) = problems(account(rsa_key="${KEY}", authenticator="snowflake_jwt"))
    assert problem.what == "${KEY} is not set"


def test_a_wrong_login_is_wrong_also_where_nothing_needs_it() -> None:
    block = {"account": "a", "user": "u", "passphrase": "x", "authenticator": "externalbrowser"}
    found = problems(json.dumps(changed(snowflake=block)))
    assert [p.place for p in found] == ["snowflake.passphrase", "snowflake.authenticator"]


@pytest.mark.parametrize(
    ("top", "source", "tables", "places"),
    [
        ("clone", None, [None, None], ["snapshot"]),
        (None, "clone", [None, "none"], ["sources[0].snapshot"]),
        ("none", None, ["clone", "clone"], [
            "sources[0].tables[0].snapshot", "sources[0].tables[1].snapshot",
        ]),
        ("clone", "none", ["clone", None], ["sources[0].tables[0].snapshot"]),
    ],
)  # fmt: skip
def test_clone_without_a_schema_for_it(
    top: object, source: object, tables: list[object], places: list[str]
) -> None:
    document = json.loads(account(password="p"))
    document["snapshot"] = top
    document["sources"][0]["snapshot"] = source
    document["sources"][0]["tables"] = [
        {"source": f"T{number}", "snapshot": said} for number, said in enumerate(tables)
    ]
    found = problems(json.dumps(document))
    assert [p.place for p in found] == places
    for problem in found:
        assert problem.what == "is clone, and snowflake.clone_schema is not set"
        assert "snowflake.clone_schema" in problem.remedy
        assert "another snapshot" in problem.remedy


def test_clone_that_no_table_of_snowflake_uses_needs_no_schema() -> None:
    document = json.loads(account(password="p"))
    document["snapshot"] = "clone"
    document["sources"][0]["snapshot"] = "none"
    local = {"source_name": "l", "connection": "duckdb:///x", "target_pg_schema": "l"}
    document["sources"].append({**local, "tables": [{"source": "T"}]})
    Path("config.json").write_text(json.dumps(document))
    assert len(load_config("config.json", environ={}).jobs()) == 2
