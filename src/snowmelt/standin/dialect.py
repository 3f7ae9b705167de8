"""Snowflake's SQL as a tree."""

from __future__ import annotations

from sqlglot import Expr, exp
from sqlglot.dialects.snowflake import Snowflake
from sqlglot.parsers.snowflake import SnowflakeParser


class _Reader(Snowflake):
    """Of a time too, TO_VARCHAR stays what it is: as a function of another name its format would lose digits."""

    class Parser(SnowflakeParser):
        FUNCTIONS = {  # noqa: RUF012 - the parser's own are a plain dict
            **SnowflakeParser.FUNCTIONS,
            **dict.fromkeys(("TO_CHAR", "TO_VARCHAR"), exp.ToChar.from_arg_list),
        }


def read(statement: str) -> list[Expr | None]:
    """The statements of a text; SqlglotError if it is no SQL of Snowflake's."""
    return _Reader().parse(statement)


def read_one(statement: str) -> Expr:
    """One statement or expression; ValueError if there are none or several."""
    (tree,) = read(statement)
    if tree is None:
        raise ValueError("no statement")
    return tree
