"""The FROM clause: tables, views, earlier versions of tables, and tables that are no tables."""

from __future__ import annotations

import dataclasses
from abc import ABC, abstractmethod
from typing import Any

import sqlglot
from sqlglot import Expr, exp

from snowmelt.standin.catalogue import Column, Table, Version
from snowmelt.standin.dialect import read_one
from snowmelt.standin.environment import Environment
from snowmelt.standin.failures import StatementError, no_object, not_supported
from snowmelt.standin.listed import values_source
from snowmelt.standin.names import TableName, quoted
from snowmelt.standin.normal import normalised
from snowmelt.standin.scope import Field, Scope, Source
from snowmelt.standin.typed import Typed, build

_SCHEMA = "INFORMATION_SCHEMA"


class Sources(ABC):
    """Rewrites what queries read from."""

    def __init__(self, environment: Environment, at: int | None) -> None:
        self.environment = environment
        self.at = at

    @abstractmethod
    def query(self, node: Expr, parent: Scope | None = None, *, carry: bool = True) -> Any: ...

    @abstractmethod
    def view(self, environment: Environment, node: Expr, at: int | None) -> Any: ...

    @abstractmethod
    def expression(self, node: Expr, scope: Scope) -> Typed: ...

    @abstractmethod
    def children(self, node: Expr, scope: Scope) -> None: ...

    def from_clause(self, node: Expr, scope: Scope) -> Scope:
        """Rewrite FROM, JOINs and LATERALs in place; the scope that they make."""
        inner = Scope(parent=scope.parent, ctes=scope.ctes)
        clause = node.args.get("from_")
        if clause is not None:
            clause.set("this", self.source(clause.this, inner))
        for join in node.args.get("joins") or ():
            join.set("this", self.source(join.this, inner))
            if isinstance(join.args.get("on"), Expr):
                join.set("on", self.expression(join.args["on"], inner).expr)
            self._outer(join, inner)
        for lateral in node.args.get("laterals") or ():
            self.children(lateral, inner)
            inner.sources.append(Source(lateral.alias or None, None))
        return inner

    def _outer(self, join: Expr, scope: Scope) -> None:
        """Columns of an outer join's other side may be null."""
        side = str(join.args.get("side") or "").upper()
        reach = {"LEFT": scope.sources[-1:], "RIGHT": scope.sources[:-1]}
        for source in reach.get(side, scope.sources if side == "FULL" else []):
            if source.fields is not None:
                fields = tuple(dataclasses.replace(one, nullable=True) for one in source.fields)
                scope.sources[scope.sources.index(source)] = Source(source.alias, fields)

    def source(self, node: Expr, scope: Scope) -> Expr:
        """Rewrite one source and add it to the scope."""
        for join in node.args.get("joins") or ():
            raise not_supported(f"nested join {join.sql(dialect='snowflake')}")
        if isinstance(node, exp.Subquery):
            plan = self.query(node, Scope(parent=scope, ctes=scope.ctes))
            columns = node.args["alias"].args.get("columns") if node.args.get("alias") else None
            fields = plan.fields()
            if columns:
                fields = tuple(Field(one.name) for one in columns)
            scope.sources.append(Source(node.alias or None, fields))
            return node
        if isinstance(node, exp.TableFromRows):
            return self._function(node, scope)
        if isinstance(node, exp.Table) and isinstance(node.this, exp.Identifier):
            return self._table(node, scope)
        if isinstance(node, exp.Values):
            listed = values_source(node, lambda part: self.expression(part, scope))
            if listed is not None:
                scope.sources.append(listed)
                return node
        self.children(node, scope)
        scope.sources.append(Source(node.alias or None, None))
        return node

    def _table(self, node: exp.Table, scope: Scope) -> Expr:
        alias = node.alias or node.name
        if not node.db:
            found, fields = scope.cte(node.name)
            if found:
                scope.sources.append(Source(alias, fields))
                return node
        if node.db == _SCHEMA:
            return self._virtual(node, scope)
        name = self.environment.name(node.catalog or None, node.db or None, node.name)
        table = self.environment.catalogue.get(name)
        at = self.moment(node.args["when"], scope) if node.args.get("when") else self.at
        if table.query is not None:
            replaced = self._view(table, at, scope, alias)
        else:
            fields = table_fields(table.columns)
            scope.sources.append(Source(alias, fields))
            replaced = table_node(name)
            if at is not None:
                replaced = self._as_of(table, at)
        replaced.set("alias", exp.TableAlias(this=exp.to_identifier(alias, quoted=True)))
        replaced.set("sample", node.args.get("sample"))
        return replaced

    def _view(self, table: Table, at: int | None, scope: Scope, alias: str) -> Expr:
        tree = normalised(read_one(table.query or ""))
        place = dataclasses.replace(
            self.environment, database=table.name.database, schema=table.name.schema
        )
        plan = self.view(place, tree, at)
        fields = plan.fields()
        if fields is None:
            scope.sources.append(Source(alias, None))
            return exp.Subquery(this=plan.node)
        outer, renamed = [], []
        for column, one in zip(table.columns, fields, strict=True):
            outer.append(f"{quoted(one.name)} AS {quoted(column.name)}")
            companion = column.companion if one.companion else None
            if one.companion and companion:
                outer.append(f"{quoted(one.companion)} AS {quoted(companion)}")
            renamed.append(Field(column.name, one.type, one.nullable, companion))
        scope.sources.append(Source(alias, tuple(renamed)))
        select = sqlglot.parse_one(f"SELECT {', '.join(outer)} FROM x", read="duckdb")
        select.set("from_", exp.From(this=exp.Subquery(this=plan.node, alias="x")))
        return exp.Subquery(this=select)

    def _as_of(self, table: Table, at: int) -> Expr:
        """The table as of the moment, with its present columns."""
        with table.lock:
            version = table.version_at(at)
            self.environment.reads.append((table, table.changes))
        return table_node(table.name) if version is None else version_query(table, version)

    def moment(self, when: Expr, scope: Scope) -> int:
        """AT or BEFORE as microseconds since 1970."""
        kind = str(when.args.get("kind") or "").upper()
        if kind not in {"TIMESTAMP", "OFFSET"}:
            raise not_supported(f"{when.this} with {kind}")
        value = self.expression(when.expression, scope).expr
        sql = "epoch_us(CAST(x AS TIMESTAMPTZ))"
        if kind == "OFFSET":
            now = self.environment.values["CURRENT_TIMESTAMP"].expr
            sql, value = "epoch_us(n + to_seconds(x))", build("x", x=value)
            tree = build(sql, x=value, n=now)
        else:
            tree = build(sql, x=value)
        sql = f"SELECT {tree.sql(dialect='duckdb')}"
        ((moment,),) = self.environment.duck.execute(sql).fetchall()
        # BEFORE is the moment just before; a microsecond is the clock's step.
        return int(moment) - (str(when.this).upper() == "BEFORE")

    def _virtual(self, node: exp.Table, scope: Scope) -> Expr:
        database = node.catalog or self.environment.database or ""
        return self._registered(database, node.name, {}, node.alias or node.name, scope)

    def _function(self, node: exp.TableFromRows, scope: Scope) -> Expr:
        call = node.this
        names = [one.name for one in call.find_all(exp.Identifier)] if call else []
        function = call.find(exp.Anonymous) if call else None
        if function is None or _SCHEMA not in names:
            self.children(node, scope)
            scope.sources.append(Source(node.alias or None, None))
            return node
        database = names[0] if names[0] != _SCHEMA else self.environment.database or ""
        arguments = {
            one.this.name.upper(): self._constant(one.expression, scope)
            for one in function.expressions
            if isinstance(one, exp.Kwarg)
        }
        name = str(function.this).upper()
        return self._registered(database, name, arguments, node.alias or name, scope)

    def _constant(self, node: Expr, scope: Scope) -> object:
        value = self.expression(node, scope).expr.sql(dialect="duckdb")
        ((constant,),) = self.environment.duck.execute(f"SELECT {value}").fetchall()
        return constant

    def _registered(
        self, database: str, name: str, arguments: dict[str, object], alias: str, scope: Scope
    ) -> Expr:
        if database not in self.environment.catalogue.databases:
            raise no_object("Database", database)
        rows = self.environment.virtual_table(database, name, arguments)
        if rows is None:
            raise no_object("Object", f"{database}.{_SCHEMA}.{name}")
        scope.sources.append(Source(alias, tuple(Field(one) for one in rows.column_names)))
        table = exp.Table(this=exp.to_identifier(self.environment.register(rows), quoted=True))
        table.set("alias", exp.TableAlias(this=exp.to_identifier(alias, quoted=True)))
        return table


def table_fields(columns: tuple[Column, ...]) -> tuple[Field, ...]:
    return tuple(Field(one.name, one.type, one.nullable, one.companion) for one in columns)


def table_node(name: TableName) -> Expr:
    return exp.Table(
        this=exp.to_identifier(name.name, quoted=True),
        db=exp.to_identifier(name.schema, quoted=True),
        catalog=exp.to_identifier(name.database, quoted=True),
    )


def version_sql(table: Table, version: Version) -> str:
    """A query of an earlier version's rows, with the present columns; new ones are NULL."""
    had = {column.name: column for column in version.columns}
    items = []
    for column in table.columns:
        old = had.get(column.name)
        for name, held, of in (
            (column.name, old, column.type.storage),
            (column.companion, old and old.companion, "INTEGER"),
        ):
            if name is not None:
                value = quoted(name) if held else f"CAST(NULL AS {of})"
                items.append(f"{value} AS {quoted(name)}")
    return f"SELECT {', '.join(items)} FROM {version.table}"


def version_query(table: Table, version: Version) -> Expr:
    return exp.Subquery(this=exp.Var(this=version_sql(table, version)))


def table_name(environment: Environment, node: Expr | None) -> TableName:
    """The name of a statement's target."""
    if isinstance(node, exp.Schema):
        node = node.this
    if not isinstance(node, exp.Table):
        raise StatementError(1003, "42000", "SQL compilation error:\nsyntax error: no table")
    return environment.name(node.catalog or None, node.db or None, node.name)
