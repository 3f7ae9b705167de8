"""Expressions with the Snowflake type they have, and SQL templates to build them from."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable
from dataclasses import dataclass

import sqlglot
from sqlglot import Expr, exp

from snowmelt.standin.names import quoted
from snowmelt.standin.types import SfType


@dataclass(frozen=True, slots=True)
class Typed:
    """DuckDB's expression for one of Snowflake's; type None where only DuckDB will know.

    `companion` gives the nanoseconds below the microsecond, and a TIMESTAMP_TZ's offset; None
    where there are none and the offset is zero.
    """

    expr: Expr
    type: SfType | None = None
    nullable: bool = True
    companion: Expr | None = None

    def with_companion(self) -> Expr:
        """The companion, or the constant for none."""
        if self.companion is not None:
            return self.companion
        return exp.Literal.number(self.type.no_companion if self.type else 0)

    def nanoseconds(self) -> Expr:
        """The nanoseconds below the microsecond, the constant 0 where there are none."""
        if self.companion is None or self.type is None or not self.type.is_temporal:
            return exp.Literal.number(0)
        if isinstance(self.companion, exp.Literal):
            return exp.Literal.number(int(self.companion.name) % 1000)
        if self.type.kind != "TIMESTAMP_TZ":
            return self.companion
        return build("c % 1000", c=self.companion)

    def tie(self) -> Expr | None:
        """What tells values apart that DuckDB takes for equal, NULL where the value is; None if nothing does."""
        nanoseconds = self.nanoseconds()
        if isinstance(nanoseconds, exp.Literal):
            return None
        # The companion of a NULL may be anything: all NULLs are one group.
        return build("CASE WHEN x IS NOT NULL THEN n END", x=self.expr, n=nanoseconds)


Convert = Callable[[Expr], Typed]
"""Rewrites a part of a query, which has to be done once for each part."""

# Parsed under a name that nobody knows, a function stays DuckDB's: nothing downstream takes it for
# Snowflake's of the same name. Aggregates keep theirs, since queries are searched for them.
_FUNCTION = re.compile(r"\b(?!arg_min|arg_max|first)([a-z_]+)\(")
_UNKNOWN = "duckdb__"


@functools.cache
def _template(sql: str) -> Expr:
    tree = sqlglot.parse_one(_FUNCTION.sub(rf"{_UNKNOWN}\1(", sql), read="duckdb")
    for call in tree.find_all(exp.Anonymous):
        call.set("this", str(call.this).lower().removeprefix(_UNKNOWN))
    for node in list(tree.find_all(exp.DataType)):
        node.replace(verbatim(node.sql(dialect="duckdb")))
    return tree


def verbatim(duckdb_type: str) -> exp.DataType:
    """A type that is rendered as it is: nothing downstream takes it for one of Snowflake's."""
    return exp.DataType(this=exp.DataType.Type.USERDEFINED, kind=duckdb_type)


def build(sql: str, **values: Expr) -> Expr:
    """DuckDB's SQL with its columns x, c and so on replaced by expressions."""
    tree = exp.Paren(this=_template(sql).copy())
    for column in list(tree.find_all(exp.Column)):
        value = values.get(column.name)
        if value is not None and not column.table:
            column.replace(exp.Paren(this=value.copy()) if _loose(value) else value.copy())
    return tree


def _loose(value: Expr) -> bool:
    return isinstance(value, exp.Binary | exp.Unary | exp.Case | exp.Between | exp.In)


def cast(value: Expr, duckdb_type: str) -> Expr:
    return exp.Cast(this=value, to=verbatim(duckdb_type))


def column(name: str, table: str | None = None) -> exp.Column:
    """A quoted column."""
    identifier = exp.to_identifier(name, quoted=True)
    if table is None:
        return exp.Column(this=identifier)
    return exp.Column(this=identifier, table=exp.to_identifier(table, quoted=True))


def string(value: str) -> exp.Literal:
    return exp.Literal.string(value)


def raw(sql: str) -> exp.Var:
    """SQL that is rendered as it is."""
    return exp.Var(this=sql)


def named(value: Expr, name: str) -> exp.Alias:
    return exp.Alias(this=value, alias=exp.to_identifier(name, quoted=True))


def select_list(names: list[str]) -> str:
    return ", ".join(quoted(name) for name in names)
