"""Queries as DuckDB runs them: their visible columns, and the companions behind these."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sqlglot import Expr, exp

from snowmelt.standin.catalogue import COMPANION
from snowmelt.standin.scope import Field
from snowmelt.standin.typed import Typed, build, named


@dataclass(slots=True)
class Projection:
    """A column of a query's result; a star that only DuckDB can expand has no name."""

    name: str | None
    value: Typed


@dataclass(slots=True)
class Plan:
    """A query as DuckDB runs it, and its visible columns."""

    node: Expr
    projections: list[Projection]
    branches: tuple[Plan, ...] = ()
    grouped: bool = False
    carried: tuple[int, ...] = ()

    @property
    def is_open(self) -> bool:
        return any(one.name is None for one in self.projections)

    def companions(self) -> tuple[int, ...]:
        """Positions of the columns that have a companion to carry."""
        if self.branches:
            return tuple(sorted({at for branch in self.branches for at in branch.companions()}))
        return tuple(
            at for at, one in enumerate(self.projections) if one.value.companion is not None
        )

    def carry(self, positions: Sequence[int]) -> None:
        """Add the columns' companions behind the visible columns."""
        self.carried = tuple(positions)
        if self.branches:
            for branch in self.branches:
                branch.carry(positions)
            return
        select = self.node
        while isinstance(select, exp.Subquery):
            select = select.this
        for at in positions:
            one = self.projections[at]
            companion = one.value.with_companion().copy()
            if self.grouped:
                companion = of_group(companion)
            select.append("expressions", named(companion, f"{one.name}{COMPANION}"))

    def fields(self) -> tuple[Field, ...] | None:
        """The result as a source of another query."""
        if self.is_open:
            return None
        return tuple(
            Field(
                one.name or "",
                one.value.type,
                one.value.nullable,
                f"{one.name}{COMPANION}" if at in self.carried else None,
            )
            for at, one in enumerate(self.projections)
        )


def of_group(value: Expr) -> Expr:
    """A companion in a grouped query: any of its group's, unless an aggregate function picks one."""
    if isinstance(value, exp.Literal):
        return value
    if value.find(exp.AggFunc) is None:
        return build("first(c)", c=value)
    return loosened(value)


def loosened(value: Expr, keys: Sequence[Expr] = ()) -> Expr:
    """A grouped query's expression: each companion outside of keys and aggregates is any of its group's."""
    if not any(is_companion(one) for one in value.find_all(exp.Column)) or value in keys:
        return value
    if is_companion(value):
        return build("first(c)", c=value)
    inside = value.this if isinstance(value, exp.Window) else value
    if isinstance(value, exp.AggFunc):
        return value
    for node in {id(inside): inside, id(value): value}.values():
        for key, part in list(node.args.items()):
            if isinstance(part, list):
                node.set(key, [_part(one, inside, keys) for one in part])
            else:
                node.set(key, _part(part, inside, keys))
    return value


def _part(part: object, window: Expr, keys: Sequence[Expr]) -> object:
    # What a window function is given is of the groups already.
    return loosened(part, keys) if isinstance(part, Expr) and part is not window else part


def is_companion(value: Expr) -> bool:
    return isinstance(value, exp.Column) and value.name.endswith(COMPANION)
