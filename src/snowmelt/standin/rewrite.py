"""Snowflake's queries as DuckDB's: names resolved, types followed, companions carried along."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from sqlglot import Expr, exp

from snowmelt.standin.catalogue import COMPANION
from snowmelt.standin.choices import shared
from snowmelt.standin.environment import Environment
from snowmelt.standin.failures import StatementError
from snowmelt.standin.functions import FUNCTIONS
from snowmelt.standin.grouping import WINDOWS, Keys, grouped, ordered
from snowmelt.standin.plans import Plan, Projection, loosened
from snowmelt.standin.scope import Field, Scope
from snowmelt.standin.sources import Sources
from snowmelt.standin.typed import Convert, Typed, column, named
from snowmelt.standin.types import BOOLEAN, SfType

_QUERY = (exp.Select, exp.SetOperation, exp.Subquery, exp.Values)
_CLAUSES = ("where", "having", "qualify", "distinct", "limit", "offset")
_FUNCTIONS = {**FUNCTIONS, **WINDOWS}
_PREDICATES = (exp.Predicate, exp.And, exp.Or, exp.Not)


class Rewriter(Sources):
    """Rewrites the queries and expressions of one statement; `at` is the moment they read."""

    def __init__(self, environment: Environment, at: int | None = None) -> None:
        super().__init__(environment, at)

    def query(self, node: Expr, parent: Scope | None = None, *, carry: bool = True) -> Plan:
        """Rewrite a query in place; with `carry` its result has the companions too."""
        plan = self._planned(node, parent)
        if carry and not plan.is_open:
            plan.carry(plan.companions())
        return plan

    def view(self, environment: Environment, node: Expr, at: int | None) -> Plan:
        """A view's query, in the view's own schema, read as of the moment."""
        return Rewriter(environment, at).query(node)

    def _planned(self, node: Expr, parent: Scope | None) -> Plan:
        if isinstance(node, exp.Subquery):
            inner = self._planned(node.this, self._with(node, Scope(parent=parent)))
            return dataclasses.replace(inner, node=node, branches=inner.branches)
        if isinstance(node, exp.SetOperation) and (node.args.get("order") or _is_distinct(node)):
            return self._select(_selected(node), parent)
        if isinstance(node, exp.SetOperation):
            scope = self._with(node, Scope(parent=parent))
            branches = (self._planned(node.this, scope), self._planned(node.expression, scope))
            return Plan(node, _common(branches), branches)
        if isinstance(node, exp.Select):
            return self._select(node, parent)
        self.children(node, parent or Scope())
        return Plan(node, [Projection(None, Typed(exp.Star()))])

    def _with(self, node: Expr, scope: Scope) -> Scope:
        """Common tables of the node's WITH, put into the scope."""
        clause = node.args.get("with_")
        if clause is None:
            return scope
        tables: dict[str, tuple[Field, ...] | None] = {}
        for cte in clause.expressions:
            inner = Scope(parent=scope.parent, ctes=dict(tables))
            if _is_recursive(cte):  # the word is not needed in Snowflake
                clause.set("recursive", True)
                inner.ctes = {**tables, cte.alias: None}
                self.query(cte.this, inner, carry=False)
                tables[cte.alias] = None
                continue
            plan = self.query(cte.this, inner)
            renamed = cte.args["alias"].args.get("columns")
            tables[cte.alias] = _renamed(plan, renamed) if renamed else plan.fields()
        scope.ctes = tables
        return scope

    def _select(self, node: exp.Select, parent: Scope | None) -> Plan:
        scope = self._with(node, Scope(parent=parent))
        inner = self.from_clause(node, scope)
        inner.grouped = bool(node.args.get("group") or node.args.get("distinct"))
        projections = [one for item in node.expressions for one in self._projected(item, inner)]
        inner.aliases = {one.name: one.value for one in projections if one.name is not None}
        keys = self._clauses(node, inner, projections)
        node.set(
            "expressions",
            [
                one.value.expr if one.name is None else named(one.value.expr, one.name)
                for one in projections
            ],
        )
        return Plan(node, projections, grouped=keys is not None)

    def _clauses(
        self, node: exp.Select, scope: Scope, projections: list[Projection]
    ) -> Keys | None:
        """Rewrite what stands beside the SELECT list; the keys of a grouped query."""
        for clause in _CLAUSES:
            if isinstance(node.args.get(clause), Expr):
                self.children(node.args[clause], scope)
        convert = self.converter(scope)
        keys = grouped(node, projections, scope, convert)
        if node.args.get("order") is not None:
            ordered(node.args["order"], convert, projections, keys)
        if keys is None:
            return None
        for one in projections:
            one.value = dataclasses.replace(one.value, expr=loosened(one.value.expr, keys))
        for clause in ("having", "qualify"):
            if node.args.get(clause) is not None:
                node.args[clause].set("this", loosened(node.args[clause].this, keys))
        return keys

    def _projected(self, item: Expr, scope: Scope) -> list[Projection]:
        if item.is_star and not isinstance(item, exp.Count):
            return self._expanded(item, scope)
        if isinstance(item, exp.Alias):
            value = self.expression(item.this, scope)
            scope.aliases = {**scope.aliases, item.alias: value}
            return [Projection(item.alias, value)]
        name = item.name if isinstance(item, exp.Column) else item.sql(dialect="snowflake")
        return [Projection(name, self.expression(item, scope))]

    def _expanded(self, item: Expr, scope: Scope) -> list[Projection]:
        star = item.this if isinstance(item, exp.Column) else item
        table = item.args.get("table") if isinstance(item, exp.Column) else None
        skipped = {one.name for one in star.args.get("except_") or ()}
        projections: list[Projection] = []
        for source in scope.sources:
            if table is not None and source.alias != table.name:
                continue
            if source.fields is None:
                alias = exp.to_identifier(source.alias, quoted=True) if source.alias else None
                opened = exp.Column(this=exp.Star(), table=alias) if alias else exp.Star()
                projections.append(Projection(None, Typed(opened)))
                continue
            projections += [
                Projection(one.name, scope.resolve(column(one.name, source.alias)))
                for one in source.fields
                if one.name not in skipped
            ]
        return projections

    def expression(self, node: Expr, scope: Scope) -> Typed:
        """Rewrite an expression; StatementError 904 for a column that there is none of."""
        if isinstance(node, exp.Column) and not isinstance(node.this, exp.Star):
            if isinstance(node.this, exp.Identifier):
                return scope.resolve(node)
            return Typed(node)
        if isinstance(node, exp.Paren):
            inner = self.expression(node.this, scope)
            return dataclasses.replace(inner, expr=exp.Paren(this=inner.expr))
        if isinstance(node, _QUERY):
            plan = self.query(node, scope, carry=False)
            first = plan.projections[0].value
            wrapped = node if isinstance(node, exp.Subquery) else exp.Subquery(this=node)
            return Typed(wrapped, first.type)
        value = self.environment.values.get(_function_name(node))
        if value is not None:
            return dataclasses.replace(value, expr=value.expr.copy())
        function = _FUNCTIONS.get(type(node))
        if function is not None:
            typed = function(node, self.converter(scope))
            if typed is not None:
                return typed
        self.children(node, scope)
        known: SfType | None = BOOLEAN if isinstance(node, _PREDICATES) else None
        return Typed(node, known)

    def converter(self, scope: Scope) -> Convert:
        return lambda part: self.expression(part, scope)

    def children(self, node: Expr, scope: Scope) -> None:
        """Rewrite every expression directly in the node."""
        for key, value in list(node.args.items()):
            if isinstance(value, list):
                node.set(key, [self._child(one, node, scope) for one in value])
            elif isinstance(value, Expr):
                node.set(key, self._child(value, node, scope))

    def _child(self, value: object, node: Expr, scope: Scope) -> object:
        if isinstance(value, exp.Identifier | exp.DataType | exp.Var | exp.Star):
            return value
        if isinstance(value, exp.Literal) and isinstance(node, exp.Limit):
            return value
        if isinstance(value, exp.Order):
            ordered(value, self.converter(scope))
            return value
        if isinstance(value, _QUERY) and isinstance(node, exp.Exists | exp.In | exp.Any | exp.All):
            self.query(value, scope, carry=False)
            return value
        return self.expression(value, scope).expr if isinstance(value, Expr) else value


def _is_distinct(union: exp.SetOperation) -> bool:
    return isinstance(union, exp.Union) and bool(union.args.get("distinct"))


def _selected(union: exp.SetOperation) -> exp.Select:
    """A UNION as a SELECT from UNION ALL. DuckDB orders a UNION by its columns only, and takes times of
    different offsets for different."""
    outer = exp.Select(expressions=[exp.Star()])
    union.replace(outer)
    for clause in ("order", "limit", "offset"):
        outer.set(clause, union.args.get(clause))
        union.set(clause, None)
    if _is_distinct(union):
        union.set("distinct", False)
        outer.set("distinct", exp.Distinct())
    inner = exp.Subquery(this=union)
    inner.set("alias", exp.TableAlias(this=exp.to_identifier(f"union{COMPANION}", quoted=True)))
    outer.set("from_", exp.From(this=inner))
    return outer


def _is_recursive(cte: Expr) -> bool:
    query = cte.this
    return isinstance(query, exp.SetOperation) and any(
        table.name == cte.alias and not table.db for table in query.find_all(exp.Table)
    )


def _function_name(node: Expr) -> str:
    if isinstance(node, exp.Anonymous):
        return str(node.this).upper()
    return node.sql_name() if isinstance(node, exp.Func) else ""


def _common(branches: Sequence[Plan]) -> list[Projection]:
    """The columns of a UNION: a type that its sides don't share is DuckDB's to say."""
    left, right = branches
    if left.is_open or right.is_open or len(left.projections) != len(right.projections):
        return left.projections if not left.is_open else [Projection(None, Typed(exp.Star()))]
    common = []
    for one, other in zip(left.projections, right.projections, strict=True):
        nullable = one.value.nullable or other.value.nullable
        value = Typed(column(one.name or ""), shared([one.value, other.value]), nullable)
        common.append(Projection(one.name, value))
    return common


def _renamed(plan: Plan, names: Sequence[exp.Identifier]) -> tuple[Field, ...] | None:
    """Fields under a common table's own column names; their companions need names as well."""
    fields = plan.fields()
    if fields is None or len(fields) != len(names):
        raise StatementError(2026, "42601", "SQL compilation error:\nInvalid column list")
    identifiers = list(names)
    renamed = []
    for one, name in zip(fields, names, strict=True):
        companion = f"{name.name}{COMPANION}" if one.companion else None
        renamed.append(Field(name.name, one.type, one.nullable, companion))
    for one in renamed:
        if one.companion is not None:
            identifiers.append(exp.to_identifier(one.companion, quoted=True))
    names[0].parent.set("columns", identifiers)  # type: ignore[union-attr]
    return tuple(renamed)
