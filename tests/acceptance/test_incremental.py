"""Loads of what is new: late and equal timestamps, marks that outlive configs, and what is refused."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from snowmelt.sources.snowflake.source import LAG_SECONDS
from snowmelt.standin.server import StandIn
from snowmelt.survey import Choice
from tests.acceptance.nights import NOON, Nights
from tests.acceptance.snowflake import expected_minutes, minutes, snowflake_config, target_minutes
from tests.support import Database, config_for, write_config
from tests.support import snowmelt as command


def read(report: dict[str, Any]) -> int:
    """Rows that a run read of its one table."""
    (table,) = report["tables"]
    return int(table["rows"]) + int(table["skipped"])


@pytest.fixture(params=["upsert", "insert_only"])
def keyed(request: pytest.FixtureRequest, database: Database, tmp_path: Path) -> Nights:
    """Modes in which a row that is there is found by its key."""
    return Nights(
        database, tmp_path, mode=request.param, uniqueness_columns=["id"], source_watermark="seen"
    )


@pytest.fixture
def appended(database: Database, tmp_path: Path) -> Nights:
    return Nights(database, tmp_path, mode="append", source_watermark="seen")


def hours(low: int, high: int, note: str = "'n' || i") -> str:
    """An hour of rows for each hour, one a minute."""
    return (
        f"INSERT INTO T SELECT i, {NOON} + INTERVAL (i) MINUTE, {note} "
        f"FROM range({60 * low}, {60 * high}) r(i)"
    )


def test_two_runs_an_hour_apart_lose_and_double_nothing(keyed: Nights) -> None:
    keyed.run(hours(0, 3))
    keyed.migrate()
    assert keyed.loaded() == keyed.rows()
    assert keyed.mark() == "2024-05-01T14:59:00"
    keyed.run(
        hours(3, 4),
        # equal to the mark, a minute late, and as late as the overlap reaches
        f"INSERT INTO T VALUES (1001, {NOON} + INTERVAL 179 MINUTE, 'equal')",
        f"INSERT INTO T VALUES (1002, {NOON} + INTERVAL 178 MINUTE, 'late')",
        f"INSERT INTO T VALUES (1003, {NOON} + INTERVAL 119 MINUTE, 'an hour late')",
    )
    report = keyed.migrate()
    assert keyed.loaded() == keyed.rows()
    # 60 new ones, 3 late ones, and the 61 of the overlap.
    assert read(report) == 60 + 3 + 61
    assert keyed.mark() == "2024-05-01T15:59:00"


def test_the_overlap_is_the_configs(keyed: Nights) -> None:
    keyed.run(hours(0, 3))
    keyed.migrate()
    keyed.run(f"INSERT INTO T VALUES (1000, {NOON}, 'three hours late')", hours(3, 4))
    keyed.migrate()
    assert (1000,) not in {row[:1] for row in keyed.loaded()}
    keyed.run(hours(4, 5))
    keyed.migrate(overlap_seconds=5 * 3600)
    assert keyed.loaded() == keyed.rows()


def test_a_run_without_anything_new_changes_nothing(keyed: Nights) -> None:
    keyed.run(hours(0, 2))
    keyed.migrate()
    before = (keyed.loaded(), keyed.mark())
    report = keyed.migrate(overlap_seconds=0)
    assert (read(report), report["rows"]) == (1, 0)
    assert (keyed.loaded(), keyed.mark()) == before


def test_a_config_edit_leaves_the_mark(keyed: Nights) -> None:
    keyed.run(hours(0, 3))
    keyed.migrate()
    keyed.run(hours(3, 4))
    document = config_for(keyed.database, keyed.source, keyed.table, parallel_threads=2)
    document["sources"][0]["source_name"] = "renamed"  # type: ignore[index]
    document["sources"][0]["tables"][0] |= {"batch_size": 7, "chunking_columns": ["seen"]}  # type: ignore[index]
    done = command(write_config(keyed.folder, document), "migrate", "--json")
    assert done.returncode == 0, done.stderr
    assert read(json.loads(done.stdout)) == 60 + 61
    assert keyed.loaded() == keyed.rows()


def test_rows_without_a_watermark_are_read_each_time(keyed: Nights) -> None:
    keyed.run(hours(0, 3), "INSERT INTO T VALUES (5000, NULL, 'no time'), (5001, NULL, 'none')")
    keyed.migrate()
    keyed.run("INSERT INTO T VALUES (5002, NULL, 'later')")
    report = keyed.migrate(overlap_seconds=0)
    assert read(report) == 1 + 3
    assert keyed.loaded() == keyed.database.execute(
        'SELECT id, seen, note FROM "T" ORDER BY 1, 2, 3'
    )
    assert {row[0] for row in keyed.loaded()} == {row[0] for row in keyed.rows()}


def test_an_older_row_does_not_take_the_place_of_a_newer_one(
    database: Database, tmp_path: Path
) -> None:
    table = Nights(
        database, tmp_path, mode="upsert", uniqueness_columns=["id"], source_watermark="seen"
    )
    table.run(f"INSERT INTO T VALUES (1, {NOON} + INTERVAL 50 MINUTE, 'newer'), (2, {NOON}, 'two')")
    table.migrate()
    table.run("DELETE FROM T", f"INSERT INTO T VALUES (1, {NOON}, 'older'), (2, {NOON}, 'TWO')")
    report = table.migrate()
    assert [row[2] for row in table.loaded()] == ["newer", "TWO"]
    assert (report["rows"], read(report)) == (1, 2)
    assert table.mark() == "2024-05-01T12:50:00", "a mark never goes back"


def test_appended_rows_with_the_newest_value_wait(appended: Nights) -> None:
    appended.run(hours(0, 2), f"INSERT INTO T VALUES (500, {NOON} + INTERVAL 119 MINUTE, 'equal')")
    newest = f"SELECT id, seen, note FROM T WHERE seen < {NOON} + INTERVAL (%s) MINUTE ORDER BY ALL"
    report = appended.migrate()
    assert read(report) == 119
    assert appended.loaded() == appended.rows(newest % 119)
    # More with the value that was the newest, and newer ones.
    appended.run(
        f"INSERT INTO T VALUES (501, {NOON} + INTERVAL 119 MINUTE, 'equal again')", hours(2, 3)
    )
    report = appended.migrate()
    assert read(report) == 3 + 59
    assert appended.loaded() == appended.rows(newest % 179)
    assert read(appended.migrate()) == 0
    assert appended.loaded() == appended.rows(newest % 179)


@pytest.mark.parametrize(
    "table", [{"mode": "append"}, {"mode": "upsert", "uniqueness_columns": ["id"]}]
)
def test_a_window_ends_where_there_is_nothing_new(
    database: Database, tmp_path: Path, table: dict[str, Any]
) -> None:
    """Also with a source that has become empty: what comes while it is loaded is for the next run."""
    nights = Nights(database, tmp_path, source_watermark="seen", **table)
    nights.run(hours(0, 2))
    nights.migrate()
    nights.run("DELETE FROM T")
    assert read(nights.migrate()) == 0
    ends = "SELECT plan -> 'window' -> 'high' ->> 1 FROM migration_status.load ORDER BY table_id"
    assert database.execute(ends)[-1] == (nights.mark(),)


def test_appending_refuses_what_it_could_double(appended: Nights) -> None:
    appended.run(hours(0, 2))
    appended.migrate()
    for changes, words in (
        ({"overlap_seconds": 60}, ("overlap_seconds", "double")),
        ({"source_watermark": "id"}, ("the mark of the table", '"seen"', '"id"')),
    ):
        error = appended.migrate(code=1, **changes)["error"]
        assert all(word in error for word in words), error
    appended.run("INSERT INTO T VALUES (900, NULL, 'no time')")
    error = appended.migrate(code=1)["error"]
    assert '1 rows have no "seen"' in error


def test_a_half_appended_load_is_resumed_and_not_begun_again(appended: Nights) -> None:
    appended.run(hours(0, 2))
    appended.migrate()
    appended.run(hours(2, 4))
    appended.database.execute('ALTER TABLE "T" ADD CHECK (id < 200)')
    appended.migrate(code=1, parallel_threads=1)
    assert len(appended.loaded()) > 119
    appended.database.execute('ALTER TABLE "T" DROP CONSTRAINT "T_id_check"')
    anew = Choice(restart=("T",))
    assert "append them again" in appended.migrate(code=1, choice=anew)["error"]
    appended.migrate()
    assert len(appended.loaded()) == 239
    assert appended.loaded() == appended.rows()[:239]


def test_a_truncated_target_is_read_from_the_first_row(keyed: Nights) -> None:
    keyed.run(hours(0, 3))
    keyed.migrate()
    keyed.database.execute('TRUNCATE "T"')
    assert read(keyed.migrate()) == 180
    assert keyed.loaded() == keyed.rows()


def test_a_table_that_fails_keeps_its_mark(keyed: Nights) -> None:
    keyed.run(hours(0, 3))
    keyed.migrate()
    mark = keyed.mark()
    keyed.database.execute("ALTER TABLE \"T\" ADD CHECK (note <> 'bad')")
    keyed.run(hours(3, 4), f"INSERT INTO T VALUES (2000, {NOON} + INTERVAL 230 MINUTE, 'bad')")
    keyed.migrate(code=1)
    assert keyed.mark() == mark
    keyed.database.execute('ALTER TABLE "T" DROP CONSTRAINT "T_note_check"')
    keyed.migrate()
    assert keyed.loaded() == keyed.rows()
    assert keyed.mark() == "2024-05-01T15:59:00"


def test_an_aborted_append_is_refused_until_its_remedy_is_followed(appended: Nights) -> None:
    appended.run(hours(0, 2))
    appended.migrate()
    appended.database.execute('ALTER TABLE "T" ADD CHECK (id < 200)')
    appended.run(hours(2, 5))
    appended.migrate(code=1)
    appended.database.execute('ALTER TABLE "T" DROP CONSTRAINT "T_id_check"')
    appended.database.execute(
        "UPDATE migration_status.run SET ending = 'aborted' WHERE ending = 'failed'"
    )
    before = appended.loaded()
    error = appended.migrate(code=1)["error"]
    assert "beyond its mark" in error
    assert "TRUNCATE the table" in error
    assert appended.loaded() == before
    appended.database.execute('TRUNCATE "T"')
    assert read(appended.migrate()) == 299
    assert len(appended.loaded()) == 299


def adopt(nights: Nights, *, code: int) -> Sequence[dict[str, Any]]:
    config = write_config(nights.folder, config_for(nights.database, nights.source, nights.table))
    done = command(config, "adopt", "--table", "T", "--json")
    assert done.returncode == code, done.stderr + done.stdout
    found: Sequence[dict[str, Any]] = json.loads(done.stdout)
    return found


def test_a_target_loaded_by_other_means_is_adopted_once(keyed: Nights) -> None:
    keyed.run(hours(0, 3))
    keyed.database.execute(
        'CREATE TABLE "T" (id bigint PRIMARY KEY, seen timestamp, note text)',
    )
    (empty,) = adopt(keyed, code=1)
    assert "no rows" in empty["refused"]
    with keyed.database.connect() as connection, connection.cursor() as cursor:
        cursor.executemany('INSERT INTO "T" VALUES (%s, %s, %s)', keyed.rows())
    (done,) = adopt(keyed, code=0)
    assert done["mark"] == "2024-05-01T14:59:00"
    (again,) = adopt(keyed, code=1)
    assert "has a mark" in again["refused"]
    keyed.run(hours(3, 4))
    assert read(keyed.migrate(overlap_seconds=0)) == 61
    assert keyed.loaded() == keyed.rows()


def test_what_is_appended_is_not_adopted(appended: Nights) -> None:
    appended.run(hours(0, 1))
    appended.database.execute('CREATE TABLE "T" (id bigint, seen timestamp, note text)')
    appended.database.execute("INSERT INTO \"T\" VALUES (1, '2024-05-01', 'x')")
    (refused,) = adopt(appended, code=1)
    assert "would double" in refused["refused"]
    assert "the target has rows" in appended.migrate(code=1)["error"]


@pytest.fixture(scope="module")
def standin() -> Iterator[StandIn]:
    with StandIn.start() as standin:
        yield standin


def test_from_snowflake(standin: StandIn, database: Database, tmp_path: Path) -> None:
    """Both ways of extraction read the window alone."""
    minutes(standin, "T", 3_000)
    name = 'ANALYTICS.BI."T"'
    common = {
        "source": "T",
        "mode": "upsert",
        "uniqueness_columns": ["id"],
        "source_watermark": "at",
        "batch_size": 500,
    }
    tables = [
        {**common, "target": "chunks", "chunking_columns": ["id"]},
        {**common, "target": "one", "extraction": "one_query"},
    ]
    config = snowflake_config(tmp_path, database, standin, *tables)
    done = command(config, "migrate", "--json")
    assert done.returncode == 0, done.stderr
    for target in ("chunks", "one"):
        assert target_minutes(database, target) == expected_minutes(3_000)
    standin.execute(
        f'INSERT INTO {name} SELECT 3000 + "id", DATEADD(MINUTE, 3000, "at"), \'new\' FROM {name} '
        'WHERE "id" < 100'
    )
    standin.execute(f'UPDATE {name} SET "note" = \'late\' WHERE "id" = 2990')
    time.sleep(LAG_SECONDS + 0.5)  # a plan reads the moment that lies so far back
    done = command(config, "migrate", "--json")
    assert done.returncode == 0, done.stderr
    for table in json.loads(done.stdout)["tables"]:
        assert (table["rows"], table["skipped"]) == (101, 60)
    for query in (
        "SELECT * FROM chunks WHERE id > 2900 ORDER BY id",
        "SELECT * FROM one WHERE id > 2900 ORDER BY id",
    ):
        found = {id: note for id, _, note in database.execute(query)}
        assert len(found) == 199
        assert (found[2990], found[3099]) == ("late", "new")
