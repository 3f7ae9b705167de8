"""Files that are wrong: what the user is told, where, and what is never told."""

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

from snowmelt.config import load_config
from snowmelt.errors import ConfigError, Problem, SnowmeltError, UsageError

JARGON = re.compile(r"Input should|extra_forbidden|valid (string|integer|tuple|dict)|pydantic|None")


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def problems(text: str, *sources: str, name: str = "config.yaml", **environ: str) -> list[Problem]:
    Path(name).write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError) as caught:
        load_config(name, sources=sources, environ=environ)
    assert not JARGON.search(str(caught.value))
    assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value)
    return list(caught.value.problems)


def changed(*place: str | int, value: object) -> str:
    """A good file with one value changed, as JSON (which is YAML as well)."""
    good: dict[str, Any] = {
        "postgres": {"database": "dwh"},
        "sources": [
            {
                "source_name": "visits",
                "connection": "duckdb:///visits.duckdb",
                "tables": [{"source": "FACT_VISITS"}],
            }
        ],
    }
    at: Any = good
    for part in place[:-1]:
        at = at[part]
    at[place[-1]] = value
    return json.dumps(good)


EVERYTHING = """\
snowflake:
  account: 12345
  user: ${SF_USER}
  rsa_key: ${SF_KEY}
postgres:
  host: localhost
  port: 5432x
  dsn: postgresql://u:hunter2@h/db
  session: {synchronous_commit: off, work_mem: 256}
parallel_threads: yes
batch_sise: 4
lambda_memory: 10
batch_size: 12:30
sources:
  - source_name: a
    chunking_columns: [x]
    tables:
      - source: T1
        chunking_columns: [a, b]
        chunking_column_types: [date]
        source: T2
        traget: x
      - source: T2
        chunking_columns: a
        source_filter: 2024-01-01
        chunking_column_types: [varchr]
  - source_name: b
    connection: snowflake://u:hunter2@x
    target_pg_database: ${NOPE}
    enabled: ${FLAG}
    tables:
      -
  - source_name: c
    enabled: false
    target_pg_database: ${NOPE}
    batch_size: 0
    tables: []
"""


def test_every_problem_at_once_in_the_order_of_the_file() -> None:
    found = [(p.line, p.place, p.what) for p in problems(EVERYTHING, SF_USER="")]
    types = "int, numeric, varchar, varchar_numeric, uuid, date, timestamp"
    first, second = "sources[0].tables[0]", "sources[0].tables[1]"
    assert found == [
        (2, "snowflake.account", "must be text, but is a number"),
        (3, "snowflake.user", "${SF_USER} is empty in the environment"),
        (4, "snowflake.rsa_key", "${SF_KEY} is not set"),
        (7, "postgres.port", "must be a whole number, but is '5432x'"),
        (8, "postgres.dsn", "stands beside host, port"),
        (9, "postgres.session.work_mem", "is no size with a unit"),
        (10, "parallel_threads", "must be a whole number, but is a boolean"),
        (11, "batch_sise", "is not a known key of the top level"),
        (12, "lambda_memory", "must be at least 128, but is 10"),
        (13, "batch_size", "must be a whole number, but is 12:30"),
        (16, "sources[0].chunking_columns", "is not a known key of a source"),
        (20, f"{first}.chunking_column_types", "has 1 for 2 chunking_columns"),
        (21, f"{first}.source", "is given twice (first in line 18)"),
        (22, f"{first}.traget", "is not a known key of a table"),
        (23, f"{second}.target", f"is the target of {first} as well: public.T2"),
        (24, f"{second}.chunking_columns", "must be a list, but is text"),
        (25, f"{second}.source_filter", "must be text, but is a date"),
        (26, f"{second}.chunking_column_types[0]", f"must be one of {types}, but is 'varchr'"),
        (28, "sources[1].connection", "has the unknown scheme snowflake; known are duckdb, files"),
        (29, "sources[1].target_pg_database", "${NOPE} is not set"),
        (30, "sources[1].enabled", "${FLAG} is not set"),
        (32, "sources[1].tables[0]", "must be a mapping of keys, but is null"),
        (36, "sources[2].batch_size", "must be at least 1, but is 0"),
    ]


@pytest.mark.parametrize(
    ("place", "value", "what", "remedy"),
    [
        (("postgres",), None, "is null, but is needed", "give it a value (Where the rows go.)"),
        (("postgres",), "dwh", "must be a mapping of keys, but is text", "write keys with values"),
        (("sources",), {"a": 1}, "must be a list, but is a mapping", "write it as a list"),
        (("batch_sise",), 4, "is not a known key of the top level", "did you mean batch_size?"),
        (("BATCH_SIZE",), 4, "is not a known key of the top level", "did you mean batch_size?"),
        (("xyz",), None, "is not a known key of the top level", "remove it; known are $schema, "),
        (("warnings",), [], "is not a known key of the top level", "remove it; known are"),
        (("source_sf_schema",), "BI", "is not a known key of the top level", "belongs to a source"),
        (("postgres", "paswort"), "x", "is not a known key of postgres", "did you mean password?"),
        (("postgres", "schema_"), "x", "is not a known key of postgres", "known are host"),
        (("postgres", "host"), "postgresql://u:p@h/d", "is a whole address", "under the key dsn"),
        (("postgres", "port"), 70000, "must be at most 65535, but is 70000", "another number"),
        (("postgres", "sslmode"), "requier", "must be one of disable", "did you mean require?"),
        (("postgres", "user"), "", "is empty", "give it a value"),
        (("postgres", "password"), 12345, "must be text, but is a number", "write it in quotes"),
        (("postgres", "user"), False, "must be text, but is a boolean", "write it in quotes"),
        (("parallel_threads",), 0, "must be at least 1, but is 0", "Chunks moved at the same time"),
        (("snapshot",), "clones", "must be one of time_travel, clone, none", "did you mean clone?"),
        (
            ("extraction",),
            "fast",
            "one of auto, query_per_chunk, one_query",
            "rows leave Snowflake",
        ),
        (("batch_size",), "many", "is neither auto nor a number of rows", "such as 100000"),
        (("batch_size",), "Auto", "is neither auto nor a number of rows", "write auto, or"),
        (("batch_size",), 0, "must be at least 1, but is 0", "another number"),
        (("batch_size",), 2.5, "must be a whole number, but is 2.5", "in digits"),
        (("batch_size",), True, "must be a whole number, but is a boolean", "in digits"),
        (("batch_size",), [5], "must be a whole number, but is a list", "in digits"),
        (("sources", 0, "batch_size"), "1e5", "is neither auto nor a number", "write auto, or"),
        (("sources", 0, "batch_size"), 0, "must be at least 1, but is 0", "another number"),
        (("sources", 0, "tables", 0, "batch_size"), "", "is neither auto nor", "write auto, or"),
        (("sources", 0, "tables", 0, "batch_size"), -1, "must be at least 1", "another number"),
        (("parallel_threads",), 2.5, "must be a whole number, but is 2.5", "in digits"),
        (("parallel_threads",), "eight", "must be a whole number, but is 'eight'", "in digits"),
        (("max_retry_attempts",), -1, "must be at least 0, but is -1", "another number"),
        (("lease_seconds",), 1, "must be at least 2, but is 1", "another number"),
        (("resume_max_age",), "12h", "must be a whole number, but is '12h'", "Hours since"),
        (
            ("mode",),
            "upsrt",
            "one of append, insert_only, upsert, truncate",
            "did you mean upsert?",
        ),
        (("overlap_seconds",), -1, "must be at least 0, but is -1", "Seconds before the mark"),
        (("retention_days",), 0, "must be at least 1, but is 0", "snowmelt cleanup"),
        (("truncate_onstart",), True, "is not a known key of the top level", "a source or a table"),
        (("allow_truncate",), True, "is not a known key of the top level", "a source or a table"),
        (("insert_only_mode",), "perhaps", "must be true or false, but is 'perhaps'", "write true"),
        (("lambda_memory",), "10 PB", "is no amount of memory", "a text such as 10GB"),
        (("lambda_memory",), True, "must be a whole number, but is a boolean", "in digits"),
        (("sources", 0, "source_name"), 7, "must be text, but is a number", 'in quotes: "7"'),
        (("sources", 0, "connection"), "oracle://x", "the unknown scheme oracle", "write duckdb:"),
        (("sources", 0, "connection"), "visits.duckdb", "is no connection", "write duckdb:///"),
        (("sources", 0, "connection"), "duckdb://v.duckdb", "has two slashes", "write duckdb:///"),
        (("sources", 0, "connection"), "files:///", "names no path", "files:///folder"),
        (("sources", 0, "connection"), None, "and there is no snowflake block", "add snowflake"),
        (("sources", 0, "target_pg_schema"), "${A-B}", "has a ${ that is no variable", "$${"),
        (("sources", 0, "target_pg_schema"), "a${B", "has a ${ that is no variable", "$${"),
        (("sources", 0, "target_pg_schema"), "${NOPE}", "${NOPE} is not set", "set NOPE in"),
        (("sources", 0, "tables", 0, "source"), None, "is null, but is needed", "Source table"),
        (("sources", 0, "tables", 0, "chunking_columns"), [3], "must be text", 'quotes: "3"'),
        (("sources", 0, "tables", 0, "target"), "\ud800", "half of a surrogate pair", "quotes"),
    ],
)
def test_problem(place: tuple[str | int, ...], value: object, what: str, remedy: str) -> None:
    (problem,) = problems(changed(*place, value=value), name="config.json")
    path = place if isinstance(place[-1], str) else place[:-1]
    assert problem.place.startswith(str(path[0]))
    assert str(place[-1]) in problem.place
    assert what in problem.what
    assert remedy in problem.remedy


@pytest.mark.parametrize(
    ("written", "what", "remedy"),
    [
        ("12345", "must be text, but is a number", 'write it in quotes: "12345"'),
        ("0123", "must be text, but is a number", 'write it in quotes: "0123"'),
        ("12:30", "must be text, but is a number", 'write it in quotes: "12:30"'),
        ("2024-01-01", "must be text, but is a date", 'write it in quotes: "2024-01-01"'),
        ("no", "must be text, but is a boolean", "write it in quotes"),
        ("!secret x", "must be text, but is a value with a tag (!)", "write it in quotes"),
    ],
)
def test_yaml_that_is_no_text(written: str, what: str, remedy: str) -> None:
    (problem,) = problems(changed("postgres", "user", value="@@").replace('"@@"', written))
    assert (problem.what, problem.place) == (what, "postgres.user")
    assert remedy in problem.remedy


@pytest.mark.parametrize("written", ["41421", "41:42", "41421.5", "!41421 x"])
def test_yaml_secret_that_is_no_text_is_not_shown(written: str) -> None:
    (problem,) = problems(changed("postgres", "password", value="@@").replace('"@@"', written))
    assert problem.remedy == "write it in quotes"
    assert "41" not in str(problem)


def test_one_problem_is_told_once() -> None:
    source = {"source_name": "f", "connection": "files:///x"}
    tables: list[dict[str, object]] = [
        {"source": "*.csv", "target": 5},
        {"source": "T", "chunking_columns": "a", "chunking_column_types": ["date"]},
    ]
    found = problems(changed("sources", value=[{**source, "tables": tables}]))
    assert [(p.place, p.what) for p in found] == [
        ("sources[0].tables[0].target", "must be text, but is a number"),
        ("sources[0].tables[1].chunking_columns", "must be a list, but is text"),
    ]


@pytest.mark.parametrize("name", ["config.json", "config.yaml"])
def test_problems_of_one_line_stand_in_its_order(name: str) -> None:
    found = problems('{"zz": 1, "sources": [], "postgres": {}, "aa": 2}', name=name)
    assert [p.place for p in found] == ["zz", "aa"]


@pytest.mark.parametrize(
    ("postgres", "what"),
    [
        ({"dsn": "postgresql://h/d", "user": "u"}, "stands beside user"),
        ({"dsn": "postgresql://h/d", "port": "${NOPE}"}, "stands beside port"),
        ({"dsn": "postgresql://u:a@h/d", "password": "b"}, "the key password gives another"),
        ({"dsn": "host=h dbname=d password=a", "password": "b"}, "the key password gives another"),
        ({"dsn": "mysql://h/d"}, "is no connection string"),
        ({"dsn": "h/d"}, "is no connection string"),
        ({"dsn": "${NOPE}"}, "${NOPE} is not set"),
    ],
)
def test_dsn(postgres: dict[str, object], what: str) -> None:
    found = problems(changed("postgres", value=postgres))
    assert any(p.place == "postgres.dsn" and what in p.what for p in found)
    assert "target_pg_database" not in {p.place.rsplit(".")[-1] for p in found}


@pytest.mark.parametrize("postgres", [{}, {"dsn": "postgresql://host"}, {"dsn": "host=h"}])
def test_no_target_database(postgres: dict[str, object]) -> None:
    (problem,) = problems(changed("postgres", value=postgres))
    assert problem.place == "sources[0].target_pg_database"
    assert "postgres names no database either" in problem.what


def test_a_pattern_is_no_target() -> None:
    source = {"source_name": "f", "connection": "files:///x", "tables": [{"source": "v/*.parquet"}]}
    (problem,) = problems(changed("sources", value=[source]))
    assert problem.place == "sources[0].tables[0].target"


def test_two_sources_of_one_name_and_target() -> None:
    source = {"source_name": "a", "connection": "files:///x", "tables": [{"source": "T"}]}
    found = problems(changed("sources", value=[source, source]))
    assert [(p.place, p.what) for p in found] == [
        ("sources[1].source_name", "is the name of sources[0] as well"),
        ("sources[1].tables[0].target", "is the target of sources[0].tables[0] as well: public.T"),
    ]
    other = {**source, "enabled": False}
    Path("config.json").write_text(changed("sources", value=[source, other]))
    assert len(load_config("config.json", environ={}).jobs()) == 1


def test_tables_of_unlike_schemas_or_databases_share_no_target() -> None:
    source = {"source_name": "a", "connection": "files:///x", "tables": [{"source": "T"}]}
    others = [
        {**source, "source_name": "b", "target_pg_schema": "s"},
        {**source, "source_name": "c", "target_pg_database": "d"},
    ]
    Path("config.json").write_text(changed("sources", value=[source, *others]))
    assert len(load_config("config.json", environ={}).jobs()) == 3


# Variables: who needs them

NEEDS = """\
snowflake: {account: x, user: u, rsa_key: "${KEY}"}
postgres: {database: "${DB}"}
sources:
  - source_name: cold
    target_pg_schema: ${COLD}
    tables: [{source: T}, {source: U, enabled: false, target: "${OFF}"}]
  - source_name: local
    connection: duckdb:///${FILE}
    tables: [{source: L}]
  - source_name: asleep
    enabled: false
    target_pg_schema: ${ASLEEP}
    tables: [{source: T, batch_size: "${ASLEEP}"}]
"""


@pytest.mark.parametrize(
    ("sources", "places"),
    [
        (
            (),
            ["snowflake.rsa_key", "postgres.database", "sources[0].target_pg_schema",
             "sources[1].connection"],
        ),
        (("cold",), ["snowflake.rsa_key", "postgres.database", "sources[0].target_pg_schema"]),
        (("local",), ["postgres.database", "sources[1].connection"]),
    ],
)  # fmt: skip
def test_only_what_runs_needs_its_variables(sources: tuple[str, ...], places: list[str]) -> None:
    assert [problem.place for problem in problems(NEEDS, *sources)] == places


def test_a_source_that_runs_loads_without_the_variables_of_others() -> None:
    Path("config.yaml").write_text(NEEDS)
    config = load_config("config.yaml", sources=["local"], environ={"DB": "d", "FILE": "f"})
    assert [job.source.name for job in config.jobs()] == ["L"]
    assert config.snowflake is None
    config = load_config(
        "config.yaml", sources=["cold"], environ={"DB": "d", "KEY": "k", "COLD": "c"}
    )
    assert [job.source.name for job in config.jobs()] == ["T"]


def test_an_empty_variable_does_not_fall_through_to_a_dotenv() -> None:
    Path(".env").write_text("DB=older\nFILE=\nEMPTY\n")
    found = problems(NEEDS, "local", DB="")
    assert [(p.place, p.what) for p in found] == [
        ("postgres.database", "${DB} is empty in the environment"),
        ("sources[1].connection", "${FILE} is empty in .env"),
    ]


def test_a_dotenv_that_is_no_text() -> None:
    Path(".env").write_bytes(b"PASSWORD=\xff\xfe")
    Path("config.yaml").write_text(NEEDS)
    with pytest.raises(UsageError, match=r"\.env can't be read as UTF-8"):
        load_config("config.yaml", environ={})


def test_a_value_from_a_variable_is_shown_as_written() -> None:
    (problem,) = problems(changed("parallel_threads", value="${THREADS}"), THREADS="hunter2")
    assert problem.what == "must be a whole number, but is what ${THREADS} stands for"
    (problem,) = problems(changed("batch_size", value="${ROWS}"), ROWS="hunter2")
    assert (problem.place, problem.what) == ("batch_size", "is neither auto nor a number of rows")
    assert "hunter2" not in problem.remedy


# Files that can't be read at all


@pytest.mark.parametrize(
    ("name", "content", "line", "what"),
    [
        ("c.json", b"", None, "is empty"),
        ("c.yaml", b"# only a comment\n", None, "is empty"),
        ("c.json", b"[1]", 1, "must be a mapping of keys at the top level"),
        ("c.yaml", b"- a\n- b\n", 1, "must be a mapping of keys at the top level"),
        ("c.yaml", b"hello", 1, "must be a mapping of keys at the top level"),
        ("c.json", b'{"a": 1,\n "b" 2}', 2, "is not valid JSON: Expecting ':' delimiter"),
        ("c.json", b'{"a": 1}\n{"b": 2}', 2, "is not valid JSON: Extra data"),
        ("c.json", b"postgres: x", 1, "is not valid JSON: Expecting value"),
        ("c.yaml", b"a: b\n\tc: d\n", 2, "is not valid YAML: found character '\\t'"),
        ("c.yaml", b"a: [1, 2\nb: 3\n", 2, "is not valid YAML"),
        ("c.yaml", b"a: 1\n---\nb: 2\n", 2, "is not valid YAML"),
        ("c.yaml", b"password: *hunter2\n", 1, "is not valid YAML: found undefined alias …"),
        ("c.json", b'{"a":\n' * 600 + b"1" + b"}" * 600, 51, "is nested too deeply"),
        ("c.json", b"[" * 99_999 + b"]" * 99_999, 1, "is not valid JSON: it is nested too"),
        ("c.yaml", b"[" * 9_999 + b"]" * 9_999, None, "is not valid YAML: it is nested too"),
        ("c.yaml", b"a: " + b"[" * 100 + b"]" * 100, 1, "is nested too deeply"),
        ("c.yaml", b"a: \x01\n", None, "is not valid YAML: it has control characters"),
        ("c.yaml", b"password: caf\xe9", None, "is not UTF-8 text"),
        ("c.json", "{}".encode("utf-16"), None, "is not UTF-8 text"),
    ],
)
def test_unreadable_content(name: str, content: bytes, line: int | None, what: str) -> None:
    Path(name).write_bytes(content)
    with pytest.raises(ConfigError) as caught:
        load_config(name, environ={})
    (problem,) = caught.value.problems
    assert (problem.place, problem.line) == ("the file", line)
    assert problem.what.startswith(what)
    assert problem.remedy
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "what"), [("missing.yaml", "there is no config file"), ("folder", "is a directory")]
)
def test_no_file(name: str, what: str) -> None:
    Path("folder").mkdir()
    with pytest.raises(UsageError) as caught:
        load_config(name, environ={})
    assert what in caught.value.what
    assert caught.value.remedy


def test_yaml_that_contains_itself_or_odd_keys() -> None:
    found = problems("postgres: &p {session: *p}\n? [a]\n: 1\nsources: []\n")
    assert [(p.place, p.what) for p in found] == [
        ("the file", "has a key that is no text"),
        ("postgres.session", "contains itself"),
    ]


def test_keys_count_as_they_are_written() -> None:
    found = problems('{"off": 1, "my key": 2}\n'.replace('"off"', "off"))
    assert [p.place for p in found] == ["postgres", "sources", "off", '["my key"]']


def test_lines_of_json_are_those_of_the_text() -> None:
    text = '{"postgres": {"database": "d"},\n\n "sources": [\n  {"source_name": "\\n\\"x", \n'
    text += '   "tables": [{"source": "T",\r\n "batch_size": [\n]}]}], "a": 1, "a": 2}'
    found = problems(text, name="config.json")
    assert [(p.place, p.line) for p in found] == [
        ("sources[0].connection", 4),
        ("sources[0].tables[0].batch_size", 6),
        ("a", 7),
        ("a", 7),
    ]


# Secrets

SECRETS = [
    ("postgres", "password"),
    ("postgres", "dsn"),
    *(("snowflake", key) for key in ("password", "rsa_key", "passphrase", "token")),
]
secret_texts = st.text("hunterXYZ0123456789!@/:?#=&' \"-", min_size=6, max_size=30)


# No deadline: each example writes and reads a file.
@settings(deadline=None)
@given(
    secret=secret_texts.filter(lambda text: len(set(text.strip())) > 4),
    place=st.sampled_from(SECRETS),
    wrap=st.sampled_from(["{}", "postgresql://u:{}@h/d", "host=h password={}"]),
    shape=st.sampled_from(["text", "variable", "list", "mapping", "bare"]),
    others=st.booleans(),
)
def test_no_secret_in_any_message_or_repr(
    secret: str, place: tuple[str, str], wrap: str, shape: str, others: bool
) -> None:
    value: Any = wrap.format(secret)
    shapes = {"variable": "${SECRET}", "list": [value], "mapping": {"key": value}}
    block = {**({"host": "h"} if others else {}), place[1]: shapes.get(shape, value)}
    login = {"password": "p"} if place[0] == "postgres" else block
    document = {
        "snowflake": {"account": "a", "user": "u", **login},
        "postgres": block if place[0] == "postgres" else {"database": "d"},
        "batch_size": "many" if others else 5,
        "sources": [{"source_name": "s", "tables": [{"source": "T", "sort_columns": ["a"]}]}],
    }
    text = yaml.safe_dump(document, width=10_000)
    if shape == "bare":
        text = text.replace(
            yaml.safe_dump(value, width=10_000).removesuffix("...\n").strip(), value
        )
    Path("secret.yaml").write_text(text, encoding="utf-8")
    try:
        config = load_config("secret.yaml", environ={"SECRET": value})
        shown = repr(config) + str(config) + "".join(config.warnings) + repr(config.jobs())
    except SnowmeltError as error:
        shown = str(error) + repr(error) + repr(error.__dict__)
        shown += repr(error.__cause__)
    assert secret not in shown
    assert secret.strip() not in shown
