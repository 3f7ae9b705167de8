"""Bad input gives one message that says what is wrong and what to do, and changes nothing."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from snowmelt.demo.place import free_port
from snowmelt.demo.postgres import LocalPostgres
from snowmelt.demo.proof import prove
from tests.acceptance.processes import by_day, create_target, minutes
from tests.support import Database, command, config_for, duckdb_file, snowmelt, write_config

FAILED, USAGE = 1, 2
AT_ONCE = 3
"""Processes side by side: most of their time they wait for each other's disk and server."""


def messages_in(text: str) -> int:
    """How many messages there are: each has one remedy, on a line that begins with an arrow."""
    return len(re.findall(r"^ *→ ", text, re.MULTILINE))


# Before anything moves ------------------------------------------------------------------------------------------

NO_RUN = "00000000-0000-0000-0000-000000000000"


@dataclass(frozen=True, slots=True)
class Wrong:
    """A config or command with one thing wrong in it, and what the message must hold."""

    says: tuple[str, ...]
    code: int = FAILED
    arguments: tuple[str, ...] = ("migrate",)
    table: Mapping[str, object] = field(default_factory=lambda: {"source": "T"})
    source: Mapping[str, object] = field(default_factory=dict)
    top: Mapping[str, object] = field(default_factory=dict)
    server: Mapping[str, object] = field(default_factory=dict)
    target: str | None = None
    text: str | None = None
    name: str = "snowmelt.json"


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
        ('database "nowhere" does not exist', "create the database"), server={"dbname": "nowhere"}
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
    "chunking column that is no date": Wrong(
        ('"note"', "VARCHAR", "name a date or timestamp column"),
        table=table(chunking_columns=["note"]),
    ),
    "filter that changes": Wrong(
        ("source_filter changes by itself", "current_date", "write the date or value itself"),
        table=table(source_filter="at < current_date"),
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
        ("snowmelt.yaml", "line 2"), USAGE, text="postgres:\n  dsn: [\n", name="snowmelt.yaml"
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
    "Snowflake": Wrong(
        ("Snowflake", "give the source a connection"),
        source={"connection": None},
        top={"snowflake": {"account": "a", "user": "u"}},
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
        ('no column "note"', "add the column"), target="CREATE TABLE {} (id bigint, at timestamp)"
    ),
    "column of other case": Wrong(
        ('no column "note"', '"NOTE"', "names keep their case"),
        target='CREATE TABLE {} (id bigint, at timestamp, "NOTE" text)',
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
    "rows that nobody may read": Wrong(
        ("permission denied", "grant"),
        target="CREATE TABLE {} (id bigint, at timestamp, note text); "
        "GRANT INSERT ON {} TO bad_input_reader",
        server={"user": "bad_input_reader", "password": "reader"},
    ),
}
MODES = {
    "insert only": Wrong(
        ("insert_only_mode", "set insert_only_mode to false"), table=table(insert_only_mode=True)
    ),
    "upsert": Wrong(
        ("uniqueness_columns", "upsert", "set uniqueness_columns to null"),
        table=table(uniqueness_columns=["id"]),
    ),
    "watermark": Wrong(
        ("watermark", "set both to null"), table=table(source_watermark="at", target_watermark="at")
    ),
    "disable index": Wrong(
        ("disable_index", "set disable_index to false"), table=table(disable_index=True)
    ),
    "key of uuid": Wrong(
        ("type uuid", "name a date or timestamp column"),
        table=table(chunking_columns=["note"], chunking_column_types=["uuid"]),
    ),
    "two keys": Wrong(
        ("several columns", "keep the first, at"), table=table(chunking_columns=["at", "id"])
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
                    connection.execute(sql.SQL(statement).format(sql.Identifier(target)))  # type: ignore[arg-type]
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
    assert messages_in(answer.stderr) == 1, answer.stderr
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


# Values that don't fit ------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Misfit:
    """A source value that the target does not take: of all rows, those with the id `ROW`, or what `bad` says."""

    type: str
    good: str
    bad: str
    target: str
    mend: str
    says: tuple[str, ...]
    column: bool = True


ROW, ROWS = 4_000, 7_200  # the middle one of five days
AT = "2024-01-03 18:40:00"
MISFITS = {
    "int64": Misfit(
        "BIGINT", "id", "3000000000", "integer", "TYPE bigint", ("3000000000", "integer")
    ),
    "scale": Misfit(
        "DECIMAL(18,4)", "1.25", "1.2345", "numeric(18,2)", "TYPE numeric", ("1.2345", "numeric")
    ),
    "overflow": Misfit(
        "DECIMAL(18,2)", "1.25", "100000", "numeric(7,2)", "TYPE numeric", ("numeric", "overflow")
    ),
    "length": Misfit("VARCHAR", "'abc'", "'abcdef'", "varchar(5)", "TYPE text", ("too long",)),
    "uuid": Misfit(
        "VARCHAR",
        "uuid()::VARCHAR",
        "'no uuid'",
        "uuid",
        "TYPE text USING v::text",
        ("no uuid", "uuid"),
    ),
    "json": Misfit(
        "VARCHAR", "'{\"a\": 1}'", "'{a: 1}'", "jsonb", "TYPE json USING v::json", ("json",)
    ),
    "null": Misfit("BIGINT", "id", "NULL", "bigint NOT NULL", "DROP NOT NULL", ("null value",)),
    "check": Misfit(
        "BIGINT", "id", "-1", "bigint CHECK (v >= 0)", "DROP CONSTRAINT", ("check",), column=False
    ),
    "unique": Misfit(
        "BIGINT", "id", "3999", "bigint UNIQUE", "DROP CONSTRAINT", ("3999", "unique"), column=False
    ),
    "nul": Misfit("VARCHAR", "'abc'", "'a' || chr(0)", "text", "", ("0x00",)),
}
"""Mended in the target, all but the NUL character, which PostgreSQL has no place for, and the broken JSON."""
IN_THE_SOURCE = frozenset({"nul", "json"})
KEYS = ("primary", "chunking")
CASES = [(name, key) for name in MISFITS for key in KEYS]


@dataclass(frozen=True, slots=True)
class Failed:
    """The run in which every table met its bad value."""

    database: Database
    source: Path
    config: Path
    ended: subprocess.CompletedProcess[str]
    status: Mapping[str, Mapping[str, Any]]

    def table(self, name: str, key: str) -> Mapping[str, Any]:
        return self.status[f"public.{name} {key}"]


@pytest.fixture(scope="module")
def failed(postgres: LocalPostgres, tmp_path_factory: pytest.TempPathFactory) -> Failed:
    database = Database("misfits", postgres.create_database("misfits"))
    folder = tmp_path_factory.mktemp("misfits")
    statements: list[str] = []
    tables: list[Mapping[str, object]] = []
    for name, key in CASES:
        statements += _fill(name, key)
        tables.append({**by_day(f"{name} {key}"), "parallel_threads": 2})
        with database.connect() as connection:
            create = sql.SQL(
                f'CREATE TABLE {{}} (id bigint, "at" timestamp, v {MISFITS[name].target})'  # type: ignore[arg-type]
            )
            connection.execute(create.format(sql.Identifier(f"{name} {key}")))
    source = duckdb_file(folder / "source.duckdb", *statements)
    config = write_config(folder, config_for(database, source, *tables))
    ended = snowmelt(config, "migrate")
    (run,) = json.loads(snowmelt(config, "status", "--json").stdout)
    return Failed(database, source, config, ended, {t["target"]: t for t in run["tables"]})


def _fill(name: str, key: str, bad: str | None = None) -> list[str]:
    misfit = MISFITS[name]
    primary = " PRIMARY KEY" if key == "primary" else ""
    value = f"CASE WHEN id = {ROW} THEN {bad or misfit.bad} ELSE {misfit.good} END"
    return [
        f'CREATE OR REPLACE TABLE "{name} {key}" (id BIGINT{primary}, "at" TIMESTAMP, v {misfit.type})',
        f"INSERT INTO \"{name} {key}\" SELECT id, TIMESTAMP '2024-01-01' + to_minutes(id), {value} "
        f"FROM range({ROWS}) numbers(id)",
    ]


@pytest.mark.parametrize(("name", "key"), CASES)
def test_a_value_that_does_not_fit_is_named(name: str, key: str, failed: Failed) -> None:
    misfit, table = MISFITS[name], failed.table(name, key)
    assert table["state"] == "failed"
    message = str(table["error"])
    assert f"table public.{name} {key}" in message
    assert re.search(r"chunk \d", message)
    assert f'key "id" = {ROW}' in message if key == "primary" else f'key "at" = {AT}' in message
    if misfit.column:
        assert 'column "v"' in message
    for words in misfit.says:
        assert words in message
    assert messages_in(message) == 1, message


@pytest.mark.parametrize(("name", "key"), CASES)
def test_the_command_and_the_ledger_say_the_same(name: str, key: str, failed: Failed) -> None:
    message = failed.table(name, key)["error"]
    assert failed.ended.returncode == FAILED
    assert "Traceback" not in failed.ended.stderr
    assert failed.ended.stdout.count(str(message)) == 1
    ((stored, chunk),) = failed.database.execute(
        "SELECT l.error_message, c.error_message FROM migration_status.load l "
        "JOIN migration_status.chunk c USING (table_id) "
        "WHERE l.target_table = %s AND c.failed_at IS NOT NULL",
        [f"{name} {key}"],
    )
    assert stored == message == chunk
    with failed.database.connect() as connection:
        rows = connection.execute(
            sql.SQL("SELECT count(*) FROM {}").format(sql.Identifier(f"{name} {key}"))
        ).fetchall()[0][0]
    assert rows == failed.table(name, key)["rows"] < ROWS


def test_once_the_cause_is_mended_the_run_ends_exact(failed: Failed) -> None:
    """In the target, and the run resumes; or in the source, and its tables start anew within the run."""
    shown = snowmelt(failed.config, "status")
    assert (shown.returncode, shown.stdout.count("failed") > len(CASES)) == (0, True)
    for name, key in CASES:
        assert str(failed.table(name, key)["error"]) in shown.stdout

    again = snowmelt(failed.config, "migrate", "--json", "--table", f"int64 {KEYS[0]}")
    assert again.returncode == FAILED
    assert "3000000000" in json.loads(again.stdout)["errors"][0]

    kept = [case for case in CASES if case[0] not in IN_THE_SOURCE]
    names = [f"{name} {key}" for name, key in kept]
    with failed.database.connect() as connection:
        for name, key in kept:
            mend = MISFITS[name].mend
            if mend == "DROP CONSTRAINT":
                suffix = "key" if name == "unique" else "check"
                mend = f'DROP CONSTRAINT "{name} {key}_v_{suffix}"'
            else:
                mend = f"ALTER v {mend}"
            connection.execute(
                sql.SQL(f"ALTER TABLE {{}} {mend}").format(sql.Identifier(f"{name} {key}"))  # type: ignore[arg-type]
            )
    chosen = [word for name in names for word in ("--table", name)]
    resumed = snowmelt(failed.config, "migrate", "--json", *chosen)
    report = json.loads(resumed.stdout)
    assert report["resumed"]
    assert {t["target"]: t["state"] for t in report["tables"]} == {
        f"public.{name}": "completed" for name in names
    }, resumed.stderr

    duckdb_file(
        failed.source,
        *(
            statement
            for name in IN_THE_SOURCE
            for key in KEYS
            for statement in _fill(name, key, bad=MISFITS[name].good)
        ),
    )
    anew = [f"{name} {key}" for name in IN_THE_SOURCE for key in KEYS]
    told = snowmelt(failed.config, "migrate")
    assert told.returncode == FAILED
    assert told.stdout.count("the source's files changed after planning") == len(anew)
    with failed.database.connect() as connection:
        for name in anew:
            connection.execute(sql.SQL("TRUNCATE {}").format(sql.Identifier(name)))
    restarted = snowmelt(
        failed.config, "migrate", *(word for name in anew for word in ("--restart-table", name))
    )
    assert restarted.returncode == 0, restarted.stdout + restarted.stderr
    assert failed.database.value("SELECT count(*) FROM migration_status.run") == 1
    for name in [*names, *anew]:
        assert prove(failed.source, name, failed.database.dsn, "public", name).agrees


# Between plan and resume ----------------------------------------------------------------------------------------


def test_a_source_that_changed_is_not_mixed(database: Database, tmp_path: Path) -> None:
    """A resume reads the snapshot that was planned, or stops; put back, the source is the same again."""
    source = minutes(tmp_path / "source.duckdb", ROWS, "T")
    create_target(database, "T")
    database.execute('ALTER TABLE "T" ADD CHECK (id <> 4000)')
    config = write_config(tmp_path, config_for(database, source, by_day("T")))
    assert snowmelt(config, "migrate").returncode == FAILED
    before = database.value('SELECT count(*) FROM "T"')
    database.execute('ALTER TABLE "T" DROP CONSTRAINT "T_id_check"')
    kept = shutil.copy2(source, tmp_path / "kept.duckdb")
    duckdb_file(source, "INSERT INTO T VALUES (-1, '2023-01-01', 'new')")

    changed = snowmelt(config, "migrate")

    assert changed.returncode == FAILED
    assert "the source's files changed after planning" in changed.stdout
    assert "public.T" in changed.stdout
    assert messages_in(changed.stdout) == 1
    assert "Traceback" not in changed.stderr
    assert "the source's files changed" in snowmelt(config, "status").stdout
    assert database.value('SELECT count(*) FROM "T"') == before

    os.replace(kept, source)
    resumed = snowmelt(config, "migrate")
    assert resumed.returncode == 0, resumed.stdout
    assert prove(source, "T", database.dsn, "public", "T").agrees


def test_a_setting_that_changed_is_refused(database: Database, tmp_path: Path) -> None:
    source = minutes(tmp_path / "source.duckdb", ROWS, "T")
    create_target(database, "T")
    database.execute('ALTER TABLE "T" ADD CHECK (id <> 4000)')
    write_config(tmp_path, config_for(database, source, by_day("T")))
    config = tmp_path / "snowmelt.json"
    assert snowmelt(config, "migrate").returncode == FAILED
    write_config(
        tmp_path, config_for(database, source, {**by_day("T"), "source_filter": "id > 100"})
    )

    changed = snowmelt(config, "migrate")

    assert changed.returncode == FAILED
    for words in ("other settings", "source", "--restart-table T"):
        assert words in changed.stderr
    assert messages_in(changed.stderr) == 1


def test_a_target_that_changes_in_the_run_is_told(database: Database, tmp_path: Path) -> None:
    """Emptied, dropped or narrowed behind snowmelt's back."""
    source = minutes(tmp_path / "source.duckdb", ROWS, "T")
    create_target(database, "T")
    database.execute('ALTER TABLE "T" ADD CHECK (id <> 4000)')
    config = write_config(tmp_path, config_for(database, source, by_day("T")))
    assert snowmelt(config, "migrate").returncode == FAILED
    changes: Sequence[tuple[str, str]] = (
        ('ALTER TABLE "T" DROP note', 'no loadable column "note" any more'),
        ('TRUNCATE "T"', "but the target is empty"),
        ('DROP TABLE "T"', "but the target is gone"),
    )
    for change, says in changes:
        with database.connect() as connection:
            connection.execute(change)  # type: ignore[call-overload]
        told = snowmelt(config, "migrate")
        assert told.returncode == FAILED
        assert says in told.stdout + told.stderr
        assert "Traceback" not in told.stderr
