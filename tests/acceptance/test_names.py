"""A target whose columns differ from the source's by case alone, in every mode that finds rows by them."""

from __future__ import annotations

from pathlib import Path
from typing import Any, LiteralString

import pytest

import snowmelt
from snowmelt.config import load_config
from snowmelt.model import Mark
from tests.acceptance.nights import Nights
from tests.support import Database

NOON = "TIMESTAMP '2024-05-01 12:00:00'"
TARGET: LiteralString = """
    CREATE TABLE "T" ("Id" bigint, "SEEN" timestamp, "Note" text, "note" text, own text DEFAULT 'mine')
"""
UNIQUE: LiteralString = 'ALTER TABLE "T" ADD UNIQUE NULLS NOT DISTINCT ("Id")'
KEYED = {"uniqueness_columns": ["ID"], "source_watermark": "seen", "chunking_columns": ["Id"]}


def rows(database: Database) -> list[Any]:
    return database.execute('SELECT "Id", "SEEN"::text, note, "Note", own FROM "T" ORDER BY 1')


@pytest.mark.parametrize("mode", ["upsert", "insert_only"])
def test_rows_are_found_by_names_of_other_case(
    mode: str, database: Database, tmp_path: Path
) -> None:
    database.execute(TARGET)
    database.execute(UNIQUE)
    nights = Nights(database, tmp_path, mode=mode, **KEYED)
    nights.run(f"INSERT INTO T VALUES (1, {NOON}, 'a'), (2, {NOON}, 'b'), (NULL, {NOON}, 'none')")
    nights.migrate()
    nights.run(
        "UPDATE T SET note = upper(note), seen = seen + INTERVAL 1 MINUTE WHERE id = 1 OR id IS NULL",
        "UPDATE T SET note = 'older', seen = seen - INTERVAL 1 MINUTE WHERE id = 2",
    )
    nights.migrate()
    later = "2024-05-01 12:01:00" if mode == "upsert" else "2024-05-01 12:00:00"
    change = str.upper if mode == "upsert" else str
    assert rows(database) == [
        (1, later, change("a"), None, "mine"),
        (2, "2024-05-01 12:00:00", "b", None, "mine"),
        (None, later, change("none"), None, "mine"),
    ]


def test_an_index_that_is_lacking_is_told_by_the_targets_names(
    database: Database, tmp_path: Path
) -> None:
    database.execute(TARGET)
    nights = Nights(database, tmp_path, mode="upsert", **KEYED)
    told = nights.migrate(code=1)["error"]
    statement = 'CREATE UNIQUE INDEX ON public."T" ("Id");'
    assert statement in told
    database.execute(statement)
    nights.migrate()


def test_a_target_of_other_case_is_adopted(database: Database, tmp_path: Path) -> None:
    database.execute(TARGET)
    database.execute(UNIQUE)
    database.execute("INSERT INTO \"T\" VALUES (7, '2024-05-01 13:00', NULL, 'there')")
    nights = Nights(database, tmp_path, mode="upsert", **KEYED)
    nights.run(f"INSERT INTO T VALUES (1, {NOON}, 'old'), (8, {NOON} + INTERVAL 2 HOUR, 'new')")
    with snowmelt.open(load_config(nights.config(), environ={})) as mover:
        ((_, mark),) = mover.upkeep.adopt()
    assert isinstance(mark, Mark), mark
    assert (mark.column, str(mark.value)) == ("seen", "2024-05-01T13:00:00")
    nights.migrate(overlap_seconds=0)
    assert [id for id, *_ in rows(database)] == [7, 8]
