"""A value, a source or a target that turns out bad in the middle: named, recorded, and mended by a resume."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from psycopg import sql

from snowmelt.demo.postgres import LocalPostgres
from snowmelt.demo.proof import prove
from tests.acceptance.processes import (
    FAILED,
    Background,
    Gate,
    by_day,
    create_target,
    messages_in,
    minutes,
)
from tests.support import Database, config_for, duckdb_file, snowmelt, write_config


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
        "DECIMAL(18,2)",
        "1.25",
        "100000",
        "numeric(7,2)",
        "TYPE numeric",
        ("'100000.00' does not fit numeric(7,2)",),
    ),
    "hundreds": Misfit(
        "INTEGER", "1200", "1250", "numeric(5,-2)", "TYPE numeric", ("1250", "round away")
    ),
    "time": Misfit(
        "TIMESTAMP",
        "TIMESTAMP '2024-01-01 00:00:00.25'",
        "TIMESTAMP '2024-01-01 00:00:00.251'",
        "timestamp(2)",
        "TYPE timestamp without time zone",
        ("digits that timestamp(2) without time zone would round away",),
    ),
    "length": Misfit(
        "VARCHAR",
        "'abc'",
        "'abcdef'",
        "varchar(5)",
        "TYPE text",
        ("'abcdef' has 6 characters, and varchar(5) holds 5",),
    ),
    "blanks": Misfit(
        "VARCHAR", "'abc'", "'abcde '", "varchar(5)", "TYPE text", ("'abcde ' has 6",)
    ),
    "char": Misfit("VARCHAR", "'abc'", "'abcdef'", "char(5)", "TYPE text", ("char(5) holds 5",)),
    "uuid": Misfit(
        "VARCHAR",
        "uuid()::VARCHAR",
        "'no uuid'",
        "uuid",
        "TYPE text",
        ("no uuid", "uuid"),
    ),
    "json": Misfit(
        "VARCHAR",
        "'{\"a\": 1}'",
        "'{a: 1}'",
        "jsonb",
        "TYPE text",
        ("'{a: 1}' is no JSON: wrong at character 2",),
    ),
    "surrogate": Misfit(
        "VARCHAR", "'1'", r"""'"\ud800"'""", "jsonb", "TYPE json", ("half of a surrogate pair",)
    ),
    "number": Misfit("JSON", "'1'", "'[1e200000]'", "jsonb", "TYPE json", ("than numeric holds",)),
    "escape": Misfit("JSON", "'1'", r"""'"\u0000"'""", "jsonb", "TYPE json", ("nul_characters",)),
    "deep": Misfit(
        "VARCHAR",
        "'1'",
        "repeat('[', 50000) || repeat(']', 50000)",
        "jsonb",
        "TYPE text",
        ("stack",),
    ),
    "null": Misfit(
        "BIGINT",
        "id",
        "NULL",
        "bigint NOT NULL",
        "DROP NOT NULL",
        ("NULL is no value of a column",),
    ),
    "check": Misfit(
        "BIGINT", "id", "-1", "bigint CHECK (v >= 0)", "DROP CONSTRAINT", ("check",), column=False
    ),
    "unique": Misfit(
        "BIGINT", "id", "3999", "bigint UNIQUE", "DROP CONSTRAINT", ("3999", "unique"), column=False
    ),
    "nul": Misfit(
        "VARCHAR",
        "'abc'",
        "'a' || chr(0)",
        "text",
        "",
        (r"'a\x00' has the character NUL", "nul_characters"),
    ),
}
"""Mended in the target, all but the NUL character, which PostgreSQL has no place for."""
IN_THE_SOURCE = frozenset({"nul"})
BY_THE_SERVER = frozenset({"deep", "check", "unique"})
"""What only the server knows: its stack, and its constraints."""
KEYS = ("primary", "chunking")
ALIKE = frozenset({"hundreds", "time", "blanks", "char", "surrogate", "number", "escape", "deep"})
"""Found in the way of another one, so that one key tells enough."""
CASES = [(name, key) for name in MISFITS for key in (KEYS[:1] if name in ALIKE else KEYS)]


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
                f'CREATE TABLE {{}} (id bigint, "at" timestamp, v {MISFITS[name].target})'
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
    if name not in BY_THE_SERVER | IN_THE_SOURCE:
        # As it is printed it mends the target.
        assert f'ALTER TABLE "public"."{name} {key}" ALTER COLUMN "v" {misfit.mend}' in message
    assert name in BY_THE_SERVER or "source_filter" in message


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
                sql.SQL(f"ALTER TABLE {{}} {mend}").format(sql.Identifier(f"{name} {key}"))
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
            connection.execute(change)
        told = snowmelt(config, "migrate")
        assert told.returncode == FAILED
        assert says in told.stdout + told.stderr
        assert "Traceback" not in told.stderr


def test_a_server_that_stays_away_ends_the_run(own_postgres: LocalPostgres, tmp_path: Path) -> None:
    database = Database("away", own_postgres.create_database("away"))
    source = minutes(tmp_path / "source.duckdb", ROWS, "T")
    create_target(database, "T")
    document = config_for(database, source, by_day("T"), outage_seconds=1)
    config = write_config(tmp_path, document)
    with Gate.before(database, "T") as gate, Background(config, "migrate") as migrate:
        gate.holds(4)
        own_postgres.stop("immediate")
        ended = migrate.end(30)

    assert ended.code == FAILED
    assert "can't connect to PostgreSQL" in ended.err
    assert ended.err.count("error:") == 1
    assert "Traceback" not in ended.err
    own_postgres.restart()
    resumed = snowmelt(config, "migrate", "--json")
    assert resumed.returncode == 0, resumed.stderr
    assert json.loads(resumed.stdout)["resumed"]
    assert prove(source, "T", database.dsn, "public", "T").agrees
