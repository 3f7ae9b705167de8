"""`insert_only` without anything that finds a row: nothing is loaded onto rows, be they before the mark or not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.acceptance.nights import NOON, Nights
from tests.support import Database


@pytest.mark.parametrize("watermark", [{}, {"source_watermark": "seen"}], ids=["whole", "new"])
def test_rows_that_nothing_finds_are_not_loaded_twice(
    database: Database, tmp_path: Path, watermark: dict[str, Any]
) -> None:
    nights = Nights(database, tmp_path, mode="insert_only", **watermark)
    nights.run(f"INSERT INTO T SELECT i, {NOON} + INTERVAL (i) MINUTE, 'a' FROM range(30) r(i)")
    nights.migrate()
    before = nights.loaded()
    assert before == nights.rows()
    nights.run(f"INSERT INTO T VALUES (30, {NOON} + INTERVAL 30 MINUTE, 'new')")
    told = nights.migrate(code=1)["error"]
    assert "mode insert_only could double them" in told
    assert "name uniqueness_columns" in told
    assert nights.loaded() == before
    database.execute('CREATE UNIQUE INDEX ON "T" (id)')
    nights.migrate()
    assert nights.loaded() == nights.rows()
