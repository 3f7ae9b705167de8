"""A run whose id its caller gives: asked for again, it is the same run and not a second one."""

from __future__ import annotations

from pathlib import Path
from uuid import uuid4

import pytest

from snowmelt.survey import Choice
from tests.acceptance.nights import NOON, Nights
from tests.support import Database

ROWS = f"INSERT INTO T SELECT range, {NOON}, 'first' FROM range(100)"


@pytest.mark.parametrize("resume", [True, False])
@pytest.mark.parametrize("mode", ["append", "truncate"])
def test_a_run_that_is_completed_is_not_begun_again(
    database: Database, tmp_path: Path, mode: str, resume: bool
) -> None:
    nights = Nights(database, tmp_path, mode=mode)
    nights.run(ROWS)
    choice = Choice(begin_as=uuid4(), resume=resume)
    first = nights.migrate(choice=choice)
    nights.run("UPDATE T SET note = 'second'")
    again = nights.migrate(choice=choice)
    assert first["run_id"] == again["run_id"] == str(choice.begin_as)
    assert (again["status"], again["resumed"]) == ("completed", True)
    assert {note for _, _, note in nights.loaded()} == {"first"}
    assert len(nights.loaded()) == 100


def test_a_run_that_failed_is_gone_on_with(database: Database, tmp_path: Path) -> None:
    nights = Nights(database, tmp_path)
    nights.run(ROWS)
    database.execute('CREATE TABLE "T" (id bigint CHECK (id < 50), seen timestamp, note text)')
    choice = Choice(begin_as=uuid4(), resume=False)
    assert nights.migrate(choice=choice, code=1)["run_id"] == str(choice.begin_as)
    database.execute('ALTER TABLE "T" DROP CONSTRAINT "T_id_check"')
    again = nights.migrate(choice=choice)
    assert (again["run_id"], again["resumed"]) == (str(choice.begin_as), True)
    assert nights.loaded() == nights.rows()


def test_a_run_that_may_be_resumed_comes_before_one_that_would_begin(
    database: Database, tmp_path: Path
) -> None:
    nights = Nights(database, tmp_path)
    nights.run(ROWS)
    database.execute('CREATE TABLE "T" (id bigint CHECK (id < 50), seen timestamp, note text)')
    begun = nights.migrate(code=1)["run_id"]
    database.execute('ALTER TABLE "T" DROP CONSTRAINT "T_id_check"')
    again = nights.migrate(choice=Choice(begin_as=uuid4()))
    assert (again["run_id"], again["resumed"]) == (begun, True)
    assert nights.loaded() == nights.rows()
