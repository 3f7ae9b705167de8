"""Pages of the docs that are written from the code: `python -m snowmelt.reference docs/reference`."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

from snowmelt.aws.reference import lambda_page
from snowmelt.types import (
    OTHER_SNOWFLAKE_TYPES,
    SNOWFLAKE_FACTS,
    SnowflakeFact,
    created_type,
    snowflake_type,
)

_SPELLINGS = {
    "NUMBER": ("NUMBER(4,0)", "NUMBER(9,0)", "NUMBER(18,0)", "NUMBER(38,0)", "NUMBER(18,4)"),
    "TIME": ("TIME(9)",),
    "TIMESTAMP_NTZ": ("TIMESTAMP_NTZ(6)", "TIMESTAMP_NTZ(9)"),
    "TIMESTAMP_LTZ": ("TIMESTAMP_LTZ(9)",),
    "TIMESTAMP_TZ": ("TIMESTAMP_TZ(9)",),
}
"""How the page spells a type whose Arrow type depends on its numbers."""

_HEAD = """# Types

Written from `src/snowmelt/types.py` by `make docs`; a test holds the two together.

Names are those of DESCRIBE TABLE, to which Snowflake brings all others: INTEGER is NUMBER(38,0).

What a column of a Snowflake table is read as, and what it becomes in a target table that snowmelt creates. A
target that is there may have any type in which every value is the same value; the plan refuses other ones, and a
value out of the target's range is an error with its column and key.

| Snowflake | read as (Arrow) | created as (PostgreSQL) | |
|---|---|---|---|
"""
_TAIL = """
PostgreSQL's times have microseconds. Of digits below, the microsecond that has begun counts (floor), so that
-1 ns, which a cast would round to 0, is -1 µs. How many values that happened to is in the ledger for each chunk
(`values_floored`), and in the report.
"""


def types_page() -> str:
    """The page about Snowflake's types."""
    return _HEAD + "".join(_rows()) + _TAIL


def _rows() -> Iterator[str]:
    for fact in SNOWFLAKE_FACTS:
        name = fact.names[0]
        also = fact.names if fact.json else (name,)
        for place, spelling in enumerate(_SPELLINGS.get(name, also)):
            yield _row(f"`{spelling}`", spelling, fact, place == 0)
    yield _row("any other", "GEOGRAPHY", OTHER_SNOWFLAKE_TYPES, True)


def _row(told: str, spelling: str, fact: SnowflakeFact, first: bool) -> str:
    arrow = fact.arrow(snowflake_type(spelling))
    created = created_type(arrow, spelling)
    return f"| {told} | {arrow} | {created} | {fact.note if first else ''} |\n"


PAGES = {"types.md": types_page, "lambda.md": lambda_page}


def main() -> None:
    """Write every page into the folder that the command line names."""
    folder = Path(sys.argv[1])
    for name, page in PAGES.items():
        (folder / name).write_text(page(), encoding="utf-8")


if __name__ == "__main__":
    main()
