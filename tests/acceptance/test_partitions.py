"""A partitioned target is loaded through the table itself, in every mode and whatever its levels are."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, LiteralString

import pytest

from tests.acceptance.nights import Nights
from tests.support import Database

MAY, JUNE, JULY = (f"TIMESTAMP '2024-0{month}-10 12:00'" for month in (5, 6, 7))
LEVELS: tuple[LiteralString, ...] = (
    'CREATE TABLE "T" (id bigint, seen timestamp, note text, UNIQUE (id, seen)) PARTITION BY RANGE (seen)',
    "CREATE TABLE may PARTITION OF \"T\" FOR VALUES FROM ('2024-05-01') TO ('2024-06-01') PARTITION BY HASH (id)",
    "CREATE TABLE may_0 PARTITION OF may FOR VALUES WITH (MODULUS 2, REMAINDER 0)",
    "CREATE TABLE may_1 PARTITION OF may FOR VALUES WITH (MODULUS 2, REMAINDER 1)",
    "CREATE TABLE june PARTITION OF \"T\" FOR VALUES FROM ('2024-06-01') TO ('2024-07-01')",
)
REST: LiteralString = 'CREATE TABLE rest PARTITION OF "T" DEFAULT'
MODES: dict[str, dict[str, Any]] = {
    "append": {},
    "truncate": {},
    "insert_only": {"uniqueness_columns": ["id", "seen"]},
    "upsert": {"uniqueness_columns": ["id", "seen"]},
}


def filled(nights: Nights, *partitions: LiteralString) -> Nights:
    """30 rows of May, 20 of June and 10 of July, and a target of these partitions."""
    nights.run(
        f"INSERT INTO T SELECT i, CASE WHEN i < 30 THEN {MAY} WHEN i < 50 THEN {JUNE} ELSE {JULY} END, 'first' "
        "FROM range(60) r(i)"
    )
    for statement in partitions:
        nights.database.execute(statement)
    return nights


def places(database: Database) -> dict[str, int]:
    """Rows by partition, those of the hash together."""
    found: Sequence[tuple[str, int]] = database.execute(
        'SELECT left(tableoid::regclass::text, 4), count(*) FROM "T" GROUP BY 1'
    )
    return dict(found)


@pytest.mark.parametrize("mode", MODES)
def test_each_row_goes_to_its_partition(mode: str, database: Database, tmp_path: Path) -> None:
    nights = filled(Nights(database, tmp_path, mode=mode, **MODES[mode]), *LEVELS, REST)
    nights.migrate()
    assert nights.loaded() == nights.rows()
    assert places(database) == {"may_": 30, "june": 20, "rest": 10}
    if mode == "append":
        return
    nights.run("UPDATE T SET note = 'second'", f"INSERT INTO T VALUES (60, {JULY}, 'second')")
    nights.migrate()
    notes = {"first", "second"} if mode == "insert_only" else {"second"}
    assert {note for _, _, note in nights.loaded()} == notes
    assert [row[:2] for row in nights.loaded()] == [row[:2] for row in nights.rows()]
    assert places(database) == {"may_": 30, "june": 20, "rest": 11}


@pytest.mark.parametrize("mode", ["append", "upsert"])
def test_a_row_without_a_partition_is_named(mode: str, database: Database, tmp_path: Path) -> None:
    nights = filled(Nights(database, tmp_path, mode=mode, **MODES[mode]), *LEVELS)
    (table,) = nights.migrate(code=1)["tables"]
    told = table["error"]
    assert 'no partition of relation "T" found' in told
    assert "(seen) = (2024-07-10 12:00:00)" in told
    assert "create a partition for the row" in told
    if mode == "append":
        assert '"id" = 50' in told
    database.execute(REST)
    nights.migrate()
    assert nights.loaded() == nights.rows()


def test_a_key_without_that_of_the_partitions_is_refused(
    database: Database, tmp_path: Path
) -> None:
    nights = filled(Nights(database, tmp_path, mode="upsert", uniqueness_columns=["id"]))
    for statement in (LEVELS[0].replace(", UNIQUE (id, seen)", ""), *LEVELS[1:], REST):
        database.execute(statement)
    told = nights.migrate(code=1)["error"]
    assert 'holds all columns that it is partitioned by, "id", "seen"' in told
    assert "set uniqueness_columns to id, seen" in told
    database.execute('CREATE UNIQUE INDEX ON public."T" ("id", "seen")')
    nights.migrate(uniqueness_columns=["id", "seen"])
    assert nights.loaded() == nights.rows()


def test_a_new_column_is_added_to_all_partitions(database: Database, tmp_path: Path) -> None:
    nights = filled(Nights(database, tmp_path, mode="upsert", **MODES["upsert"]), *LEVELS, REST)
    nights.migrate()
    nights.run("ALTER TABLE T ADD COLUMN more INTEGER DEFAULT 7")
    nights.migrate()
    assert database.execute('SELECT more, count(*) FROM "T" GROUP BY 1') == [(7, 60)]


def test_a_column_of_a_partition_is_added_to_its_table(database: Database, tmp_path: Path) -> None:
    nights = Nights(database, tmp_path, mode="upsert", target="june", new_columns="add")
    nights.table["uniqueness_columns"] = ["id", "seen"]
    nights.run(f"INSERT INTO T VALUES (1, {JUNE}, 'x')", "ALTER TABLE T ADD COLUMN more INTEGER")
    for statement in LEVELS:
        database.execute(statement)
    told = nights.migrate(code=1)["error"]
    statement = 'ALTER TABLE public."T" ADD COLUMN "more" integer;'
    assert statement in told
    database.execute(statement)
    nights.migrate()
    assert len(nights.loaded()) == 1
