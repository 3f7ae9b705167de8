"""Bad input gives one message that says what is wrong and what to do, and changes nothing."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from snowmelt.demo.place import free_port
from snowmelt.demo.postgres import LocalPostgres
from tests.acceptance.processes import FAILED, USAGE, messages_in, minutes
from tests.support import Database, command, config_for, snowmelt, write_config

AT_ONCE = 3
"""Processes side by side: most of their time they wait for each other's disk and server."""


NO_RUN = "00000000-0000-0000-0000-000000000000"


@dataclass(frozen=True, slots=True)
class Wrong:
    """A config or command with one thing wrong in it, and what the message must hold."""

    says: tuple[str, ...]
    code: int = FAILED
    arguments: tuple[str, ...] = ("migrate",)
    table: Mapping[str, object] = field(default_factory=lambda: {"source": "T"})
    source: Mapping[str, object] = field(default_factory=dict)
    top: Mapping[str, Any] = field(default_factory=dict)
    server: Mapping[str, Any] = field(default_factory=dict)
    target: str | None = None
    text: str | None = None
    name: str = "snowmelt.json"
    messages: int = 1


def table(**settings: object) -> dict[str, object]:
    return {"source": "T", **settings}


SERVERS = {
    "refused port": Wrong(("can't connect", "is the server up"), server={"port": free_port()}),
    "unknown host": Wrong(
        ("can't connect", "no-such-host.invalid", "is the server up"),
        server={"host": "no-such-host.invalid"},
    ),
    "wrong password": Wrong(("password authentication failed",), server={"password": "wrong"}),
    "missing database": Wrong(
        ('database "nowhere" does not exist', "is the database there"), server={"dbname": "nowhere"}
    ),
}
SOURCES = {
    "missing source table": Wrong(("NOWHERE", "correct `source`"), table=table(source="NOWHERE")),
    "missing source file": Wrong(
        ("nowhere.duckdb", "does not exist", "correct `connection`"),
        USAGE,
        source={"connection": "duckdb:////tmp/nowhere.duckdb"},
    ),
    "no DuckDB file": Wrong(
        ("no_duckdb.txt", "can't be opened", "is it a DuckDB file"),
        USAGE,
        source={"connection": "duckdb:///{folder}/no_duckdb.txt"},
    ),
    "no file of the pattern": Wrong(
        ("visits-*.parquet", "no file matches", "correct `source`"),
        table=table(source="visits-*.parquet", target="T"),
        source={"connection": "files:///{folder}"},
    ),
    "no kind of file": Wrong(
        ("no_duckdb.txt", "neither a Parquet nor a CSV file", "name a file or glob"),
        table=table(source="no_duckdb.txt", target="T"),
        source={"connection": "files:///{folder}"},
    ),
    "missing chunking column": Wrong(
        ('no column "moment"', "name one of id, at, note"),
        table=table(chunking_columns=["moment"]),
    ),
    "chunking column of another type": Wrong(
        ('says int of "note"', "VARCHAR", "leave chunking_column_types out"),
        table=table(chunking_columns=["note"], chunking_column_types=["int"]),
    ),
    "filter that changes": Wrong(
        ("source_filter changes by itself", "current_date", "write the date or value itself"),
        table=table(source_filter='"at" < current_date'),
    ),
    "function that changes": Wrong(
        ("source_filter changes by itself", "random", "write the date or value itself"),
        table=table(source_filter="random() < 0.5"),
    ),
    "broken filter": Wrong(
        ("source_filter", "not one condition", "write what could stand after WHERE"),
        table=table(source_filter="id <"),
    ),
    "filter that is a statement": Wrong(
        ("source_filter", "not one condition"),
        table=table(source_filter="true); DROP TABLE T; --"),
    ),
    "filter of an unknown column": Wrong(
        ("nobody", "correct the column names or `source_filter`"),
        table=table(source_filter="nobody = 1"),
    ),
}
CONFIGS = {
    "broken JSON": Wrong(("snowmelt.json", "line 2"), USAGE, text='{"postgres": {\n  "dsn" "x"}}'),
    "broken YAML": Wrong(
        ("snowmelt.yaml", "line 3"), USAGE, text="postgres:\n  dsn: [\n", name="snowmelt.yaml"
    ),
    "unknown key": Wrong(
        ("chunking_colums", "chunking_columns"), USAGE, table=table(chunking_colums=["at"])
    ),
    "missing variable": Wrong(
        ("${SNOWMELT_NOT_THERE}", "postgres.password", "set SNOWMELT_NOT_THERE"),
        USAGE,
        server={"password": "${SNOWMELT_NOT_THERE}"},
    ),
    "missing config": Wrong(("nowhere.json",), USAGE, arguments=("migrate", "-c", "nowhere.json")),
    "unknown source name": Wrong(
        ("no source visit", "did you mean visits?"),
        USAGE,
        arguments=("migrate", "visit"),
        source={"source_name": "visits"},
    ),
    "unknown table name": Wrong(
        ("no enabled table TT", "T"), USAGE, arguments=("migrate", "--table", "TT")
    ),
    "unknown table to restart": Wrong(
        ("TT", "T"), USAGE, arguments=("migrate", "--restart-table", "TT")
    ),
    "no threads": Wrong(
        ("0 threads", "give 1 or more"), USAGE, arguments=("migrate", "--threads", "0")
    ),
    "no login for Snowflake": Wrong(
        ("nothing to log in with", "rsa_key"),
        USAGE,
        source={"connection": None},
        top={"snowflake": {"account": "a", "user": "u"}},
    ),
    "Snowflake is not there": Wrong(
        ("Snowflake could not be reached", "host"),
        source={"connection": None},
        top={
            "snowflake": {
                "account": "a",
                "user": "u",
                "password": "p",
                "host": "127.0.0.1",
                "port": 1,
                "protocol": "http",
            }
        },
    ),
    **{
        f"unknown run: {arguments[0]}": Wrong(
            (NO_RUN, "snowmelt runs"), USAGE, arguments=(*arguments, NO_RUN)
        )
        for arguments in (("status",), ("abort",), ("migrate", "--resume-run-id"))
    },
}
TARGETS = {
    "missing column": Wrong(
        ('no column "note"', 'ADD COLUMN "note" text;'),
        target="CREATE TABLE {} (id bigint, at timestamp)",
        top={"new_columns": "refuse"},
    ),
    "no column at all": Wrong(
        ("none of the source's columns", '"id"', "new_columns: add"),
        target="CREATE TABLE {} (other bigint)",
    ),
    "columns of other case": Wrong(
        ('column "note"', '"NOTE", "Note"', 'RENAME COLUMN "NOTE" TO "note";'),
        target='CREATE TABLE {} (id bigint, at timestamp, "NOTE" text, "Note" text)',
    ),
    "column that must be filled": Wrong(
        ('"more"', "NOT NULL without a default", "drop NOT NULL"),
        target="CREATE TABLE {} (id bigint, at timestamp, note text, more integer NOT NULL)",
    ),
    "type that can't take the column": Wrong(
        ('"note"', "VARCHAR", "integer", "make the target column text"),
        target="CREATE TABLE {} (id bigint, at timestamp, note integer)",
    ),
    "type that is not known": Wrong(
        ('"at"', "point", "make the target column timestamp"),
        target="CREATE TABLE {} (id bigint, at point, note text)",
    ),
    "generated column": Wrong(
        ('"note"', "generated"),
        target="CREATE TABLE {} (id bigint, at timestamp, "
        "note text GENERATED ALWAYS AS ('x') STORED)",
    ),
    "view": Wrong(
        ("the target is a view", "name a table"),
        target="CREATE VIEW {} AS SELECT 1 AS id, now()::timestamp AS at, 'x' AS note",
    ),
    "rows": Wrong(
        ("the target has rows", "no run recorded them", "TRUNCATE the table"),
        target="CREATE TABLE {} AS SELECT 1::bigint AS id, now()::timestamp AS at, 'x' AS note",
    ),
    "no right to make the ledger": Wrong(
        ("the ledger", "lacks CREATE on database", "GRANT CREATE"),
        target="CREATE TABLE {} (id bigint, at timestamp, note text); "
        "GRANT SELECT, INSERT ON {} TO bad_input_reader",
        server={"user": "bad_input_reader", "password": "reader"},
    ),
    "rows that nobody may read": Wrong(
        ("permission denied", "GRANT SELECT ON"),
        target="CREATE TABLE {} (id bigint, at timestamp, note text); "
        "GRANT INSERT ON {} TO bad_input_reader",
        server={"user": "bad_input_reader", "password": "reader"},
        messages=2,  # nor may the role make the ledger
    ),
}
MODES = {
    "no unique index": Wrong(
        ("no unique index", '"id"', "CREATE UNIQUE INDEX"),
        target="CREATE TABLE {} (id bigint, at timestamp, note text)",
        table=table(uniqueness_columns=["id"]),
    ),
    "a partial unique index": Wrong(
        ("no unique index", "partial", "CREATE UNIQUE INDEX"),
        target="CREATE TABLE {} (id bigint, at timestamp, note text); "
        "CREATE UNIQUE INDEX ON {} (id) WHERE id > 0",
        table=table(uniqueness_columns=["id"], insert_only_mode=True),
    ),
    "a key that the source lacks": Wrong(
        ("uniqueness_columns", '"nr"', "correct uniqueness_columns"),
        table=table(uniqueness_columns=["nr"]),
    ),
    "a watermark that the source lacks": Wrong(
        ("source_watermark", '"changed"'), table=table(source_watermark="changed")
    ),
    "a watermark without an order of time": Wrong(
        ("source_watermark", '"note"', "name the column that says when a row changed"),
        table=table(source_watermark="note"),
    ),
}
WRONGS = {**SERVERS, **SOURCES, **CONFIGS, **TARGETS, **MODES}


@pytest.fixture(scope="module")
def shared(postgres: LocalPostgres) -> Database:
    database = Database("bad_input", postgres.create_database("bad_input"))
    database.execute("CREATE ROLE bad_input_reader LOGIN PASSWORD 'reader'")
    return database


@pytest.fixture(scope="module")
def answers(
    shared: Database, tmp_path_factory: pytest.TempPathFactory
) -> Mapping[str, subprocess.CompletedProcess[str]]:
    """What snowmelt says to everything that is wrong; no ledger exists before or after."""
    folder = tmp_path_factory.mktemp("wrongs")
    source = minutes(folder / "source.duckdb", 10, "T")
    (folder / "no_duckdb.txt").write_text("This is no database.\n" * 1_000)

    def ask(numbered: tuple[int, Wrong]) -> subprocess.CompletedProcess[str]:
        number, wrong = numbered
        place = folder / str(number)
        place.mkdir()
        target = f"target_{number}"
        if wrong.target:
            with shared.connect() as connection:
                for statement in wrong.target.split("; "):
                    connection.execute(sql.SQL(statement).format(sql.Identifier(target)))
        config = place / wrong.name
        config.write_text(wrong.text or json.dumps(_document(wrong, shared, source, target)))
        # A config that the arguments name comes after the one of `command`, and stands over it.
        return subprocess.run(
            command(config, *wrong.arguments),
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
            cwd=place,
        )

    with ThreadPoolExecutor(AT_ONCE) as pool:
        return dict(zip(WRONGS, pool.map(ask, enumerate(WRONGS.values())), strict=True))


def _document(wrong: Wrong, database: Database, source: Path, target: str) -> dict[str, Any]:
    document: dict[str, Any] = config_for(
        database, source, {"target": target, **wrong.table}, **wrong.top
    )
    for key, value in wrong.source.items():
        text = value.format(folder=source.parent) if isinstance(value, str) else value
        document["sources"][0][key] = text
    if wrong.server:
        server = dict(wrong.server)
        if "$" in str(server.get("password")):
            document["postgres"]["password"] = server.pop("password")
            parts = conninfo_to_dict(database.dsn)
            del parts["password"]
            server = {**parts, **server}
            document["postgres"]["dsn"] = make_conninfo("", **server)
        else:
            document["postgres"]["dsn"] = make_conninfo(database.dsn, **server)
    return document


@pytest.mark.parametrize("name", WRONGS)
def test_what_is_wrong_is_said_before_anything_moves(
    name: str, answers: Mapping[str, subprocess.CompletedProcess[str]], shared: Database
) -> None:
    wrong, answer = WRONGS[name], answers[name]
    assert answer.returncode == wrong.code, answer.stderr
    assert answer.stdout == ""
    assert "Traceback" not in answer.stderr
    for words in wrong.says:
        assert words in answer.stderr
    assert answer.stderr.count("error:") == 1
    assert messages_in(answer.stderr) == wrong.messages, answer.stderr
    assert shared.value("SELECT to_regnamespace('migration_status')::text") is None


def test_nothing_was_changed(
    answers: Mapping[str, subprocess.CompletedProcess[str]], shared: Database
) -> None:
    """The only row in the database is the one that was there."""
    assert answers
    tables = shared.execute(
        "SELECT relname FROM pg_class WHERE relname LIKE 'target%%' AND relkind = 'r'"
    )
    with shared.connect() as connection:
        counts = [
            connection.execute(
                sql.SQL("SELECT count(*) FROM {}").format(sql.Identifier(name))
            ).fetchall()[0][0]
            for (name,) in tables
        ]
    assert len(counts) == sum(bool(w.target and "VIEW" not in w.target) for w in WRONGS.values())
    assert sum(counts) == 1


def test_debug_shows_the_traceback(shared: Database, tmp_path: Path) -> None:
    config = write_config(tmp_path, config_for(shared, tmp_path / "nowhere", {"source": "T"}))
    answer = snowmelt(config, "migrate", "--debug")
    assert answer.returncode == USAGE
    assert "Traceback" in answer.stderr
    assert "does not exist" in answer.stderr
