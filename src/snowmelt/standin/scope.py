"""Where the columns of a query come from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from sqlglot import Expr, exp

from snowmelt.standin.failures import invalid_identifier
from snowmelt.standin.names import shown
from snowmelt.standin.typed import Typed, column
from snowmelt.standin.types import SfType


@dataclass(frozen=True, slots=True)
class Field:
    """A column of a source."""

    name: str
    type: SfType | None = None
    nullable: bool = True
    companion: str | None = None


@dataclass(frozen=True, slots=True)
class Source:
    """A table, view or subquery of a FROM clause; fields None where only DuckDB knows them."""

    alias: str | None
    fields: tuple[Field, ...] | None

    def find(self, name: str) -> Field | None:
        return next((one for one in self.fields or () if one.name == name), None)


@dataclass(slots=True)
class Scope:
    """The sources that a query's expressions see, and the scopes around it."""

    sources: list[Source] = field(default_factory=list)
    parent: Scope | None = None
    aliases: dict[str, Typed] = field(default_factory=dict)  # of the SELECT list
    grouped: bool = False
    ctes: Mapping[str, tuple[Field, ...] | None] = field(default_factory=dict)

    @property
    def open(self) -> bool:
        """Whether a name may be a column of something that only DuckDB knows."""
        return any(source.fields is None for source in self.sources) or (
            self.parent is not None and self.parent.open
        )

    def is_column(self, name: str) -> bool:
        """Whether a source of this query, not of one around it, has the column."""
        return any(source.find(name) is not None for source in self.sources)

    def cte(self, name: str) -> tuple[bool, tuple[Field, ...] | None]:
        """Whether there is a common table of the name, and its fields."""
        scope: Scope | None = self
        while scope is not None:
            if name in scope.ctes:
                return True, scope.ctes[name]
            scope = scope.parent
        return False, None

    def resolve(self, node: exp.Column) -> Typed:
        """The column, with its type and companion; StatementError 904 if there is none."""
        table = node.table or None
        scope: Scope | None = self
        while scope is not None:
            for source in scope.sources:
                if table is not None and source.alias != table:
                    continue
                found = source.find(node.name)
                if found is not None:
                    return _typed(found, source.alias if table else None)
            if table is None and node.name in scope.aliases:
                return _alias(node.name, scope.aliases[node.name], spelled_out=scope.grouped)
            scope = scope.parent
        if self.open:
            return Typed(column(node.name, table))
        name = ".".join(shown(part) for part in (table, node.name) if part)
        raise invalid_identifier(name)


def _alias(name: str, value: Typed, *, spelled_out: bool) -> Typed:
    """A name of the SELECT list. DuckDB groups by no expression with one in it: there it is its value."""
    expr: Expr = column(name)
    if spelled_out:
        expr = exp.Paren(this=value.expr.copy())
    return Typed(expr, value.type, value.nullable, value.companion)


def _typed(found: Field, alias: str | None) -> Typed:
    companion = column(found.companion, alias) if found.companion else None
    return Typed(column(found.name, alias), found.type, found.nullable, companion)
