"""The pages that are written from the code are those that the code writes."""

from __future__ import annotations

from pathlib import Path

import pytest

from snowmelt.reference import PAGES

FOLDER = Path(__file__).parents[2] / "docs" / "reference"


@pytest.mark.parametrize("name", PAGES)
def test_a_page_is_what_the_code_says(name: str) -> None:
    written = (FOLDER / name).read_text(encoding="utf-8")
    assert written == PAGES[name](), "run: make docs"
