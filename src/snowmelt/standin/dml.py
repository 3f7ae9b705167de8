"""INSERT, UPDATE, DELETE, MERGE and TRUNCATE."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from fakesnow import statement_type
from sqlglot import Expr, exp

from snowmelt.standin.answers import Answer, counts
from snowmelt.standin.catalogue import Column, Table
from snowmelt.standin.convert import converted
from snowmelt.standin.failures import StatementError, invalid_identifier, not_supported
from snowmelt.standin.names import quoted
from snowmelt.standin.plans import Plan
from snowmelt.standin.rewrite import Rewriter
from snowmelt.standin.scope import Scope, Source
from snowmelt.standin.session import Session
from snowmelt.standin.sources import table_fields, table_name, table_node
from snowmelt.standin.typed import Typed, column, select_list


def target(rewriter: Rewriter, node: Expr | None) -> Table:
    """The table that a statement changes."""
    table = rewriter.environment.catalogue.get(table_name(rewriter.environment, node), "Table")
    if table.is_view:
        raise not_supported("changing the rows of a view")
    return table


def stored_names(columns: Sequence[Column]) -> list[str]:
    """Names of the columns with their companions behind them."""
    return [one.name for one in columns] + [one.companion for one in columns if one.companion]


def stored(values: Sequence[Typed], columns: Sequence[Column]) -> list[Expr]:
    """The values as the columns and their companions hold them, in the order of `stored_names`."""
    made = [converted(value, one.type) for value, one in zip(values, columns, strict=True)]
    return [one.expr for one in made] + [
        value.with_companion() for value, one in zip(made, columns, strict=True) if one.companion
    ]


def insert(session: Session, rewriter: Rewriter, tree: exp.Insert) -> Answer:
    table = target(rewriter, tree.this)
    columns: Sequence[Column] = table.columns
    if isinstance(tree.this, exp.Schema):
        columns = [_column(table, one.name) for one in tree.this.expressions]
    source = tree.expression
    if isinstance(source, exp.Values):
        query = values_sql(session, rewriter, source, columns)
    else:
        plan = rewriter.query(source)
        query = plan_sql(session, plan, columns)
    with session.changing(table):
        if tree.args.get("overwrite"):
            session.duck.execute(f"DELETE FROM {table.name.sql}")
        names = select_list(stored_names(columns))
        rows = session.count(f"INSERT INTO {table.name.sql} ({names}) {query}")
    return counts(statement_type.INSERT, inserted=rows)


def _column(table: Table, name: str) -> Column:
    found = table.column(name)
    if found is None:
        raise invalid_identifier(quoted(name))
    return found


def values_sql(
    session: Session, rewriter: Rewriter, source: exp.Values, columns: Sequence[Column]
) -> str:
    """VALUES with every value as its column stores it."""
    rows = []
    for item in source.expressions:
        given = item.expressions if isinstance(item, exp.Tuple) else [item]
        if len(given) != len(columns):
            raise StatementError(
                1093,
                "42601",
                "SQL compilation error:\nInsert value list does not match column list",
            )
        values = [rewriter.expression(one, Scope()) for one in given]
        made = stored(values, columns)
        rows.append("(" + ", ".join(session.sql(one) for one in made) + ")")
    return f"VALUES {', '.join(rows)}"


def plan_sql(session: Session, plan: Plan, columns: Sequence[Column]) -> str:
    """A query whose columns are as the target columns store them."""
    sql = session.sql(plan.node)
    visible = len(plan.projections)
    if plan.is_open:
        visible = len(session.duck.sql(sql).columns)
    if visible != len(columns):
        raise StatementError(
            1093, "42601", "SQL compilation error:\nInsert value list does not match column list"
        )
    names = [f"c{at}" for at in range(visible + len(plan.carried))]
    values = []
    for at in range(visible):
        of = None if plan.is_open else plan.projections[at].value.type
        companion = None
        if at in plan.carried:
            companion = column(names[visible + plan.carried.index(at)])
        values.append(Typed(column(names[at]), of, True, companion))
    items = ", ".join(session.sql(one) for one in stored(values, columns))
    return f"SELECT {items} FROM ({sql}) AS s({select_list(names)})"


def _assignments(
    rewriter: Rewriter, table: Table, items: Sequence[Expr], scope: Scope
) -> list[Expr]:
    """SET items, with one for the companion of each temporal column."""
    assigned: list[Expr] = []
    for item in items:
        one = _column(table, item.this.name)
        value = converted(rewriter.expression(item.expression, scope), one.type)
        assigned.append(exp.EQ(this=column(one.name), expression=value.expr))
        if one.companion:
            companion = value.with_companion().copy()
            assigned.append(exp.EQ(this=column(one.companion), expression=companion))
    return assigned


def _target_scope(table: Table, node: Expr) -> Scope:
    alias = node.alias or table.name.name
    return Scope([Source(alias, table_fields(table.columns))])


def _retarget(tree: Expr, table: Table) -> None:
    alias = tree.this.alias
    replaced = table_node(table.name)
    if alias:
        replaced.set("alias", exp.TableAlias(this=exp.to_identifier(alias, quoted=True)))
    tree.set("this", replaced)


def update(session: Session, rewriter: Rewriter, tree: exp.Update) -> Answer:
    table = target(rewriter, tree.this)
    scope = _target_scope(table, tree.this)
    if tree.args.get("from_"):
        scope.sources += rewriter.from_clause(tree, Scope()).sources
    _retarget(tree, table)
    tree.set("expressions", _assignments(rewriter, table, tree.expressions, scope))
    if tree.args.get("where"):
        rewriter.children(tree.args["where"], scope)
    with session.changing(table):
        rows = session.count(session.sql(tree))
    return counts(statement_type.UPDATE, updated=rows)


def delete(session: Session, rewriter: Rewriter, tree: exp.Delete) -> Answer:
    table = target(rewriter, tree.this)
    scope = _target_scope(table, tree.this)
    using = tree.args.get("using") or []
    tree.set("using", [rewriter.source(one, scope) for one in using] or None)
    _retarget(tree, table)
    if tree.args.get("where"):
        rewriter.children(tree.args["where"], scope)
    with session.changing(table):
        rows = session.count(session.sql(tree))
    return counts(statement_type.DELETE, deleted=rows)


def merge(session: Session, rewriter: Rewriter, tree: exp.Merge) -> Answer:
    table = target(rewriter, tree.this)
    scope = _target_scope(table, tree.this)
    tree.set("using", rewriter.source(tree.args["using"], scope))
    tree.set("on", rewriter.expression(tree.args["on"], scope).expr)
    _retarget(tree, table)
    for when in tree.args["whens"].expressions:
        if when.args.get("condition"):
            when.set("condition", rewriter.expression(when.args["condition"], scope).expr)
        _branch(rewriter, table, when.args["then"], scope)
    with session.changing(table):
        sql = f"{session.sql(tree)} RETURNING merge_action"
        actions = Counter(row[0] for row in session.duck.execute(sql).fetchall())
    return counts(
        statement_type.MERGE,
        inserted=actions["INSERT"],
        updated=actions["UPDATE"],
        deleted=actions["DELETE"],
    )


def _branch(rewriter: Rewriter, table: Table, then: Expr, scope: Scope) -> None:
    if isinstance(then, exp.Update):
        then.set("expressions", _assignments(rewriter, table, then.expressions, scope))
    elif isinstance(then, exp.Insert):
        listed = then.this.expressions if then.this is not None else []
        columns = [_column(table, one.name) for one in listed] or list(table.columns)
        given = then.expression.expressions
        values = [rewriter.expression(one, scope) for one in given]
        names = [column(name) for name in stored_names(columns)]
        then.set("this", exp.Tuple(expressions=names))
        then.set("expression", exp.Tuple(expressions=stored(values, columns)))


def truncate(session: Session, rewriter: Rewriter, node: Expr) -> None:
    table = target(rewriter, node)
    with session.changing(table):
        session.duck.execute(f"DELETE FROM {table.name.sql}")
