"""CREATE, DROP and ALTER of databases, schemas, tables and views."""

from __future__ import annotations

from dataclasses import replace

from sqlglot import Expr, exp

from snowmelt.standin.answers import Answer, status
from snowmelt.standin.catalogue import COMPANION, Column, Table
from snowmelt.standin.convert import converted
from snowmelt.standin.dialect import read_one
from snowmelt.standin.dml import plan_sql, stored_names
from snowmelt.standin.failures import exists_already
from snowmelt.standin.names import TableName, quoted, shown
from snowmelt.standin.plans import Plan
from snowmelt.standin.rewrite import Rewriter
from snowmelt.standin.scope import Scope
from snowmelt.standin.session import Session
from snowmelt.standin.sources import table_name, version_sql
from snowmelt.standin.typed import select_list
from snowmelt.standin.types import from_duckdb, parsed


def stored_columns(session: Session, rewriter: Rewriter, columns: tuple[Column, ...]) -> list[str]:
    """Column definitions for DuckDB, with the companions behind the visible columns."""
    items = []
    for one in columns:
        default = ""
        if one.default is not None:
            default = f" DEFAULT {_default(session, rewriter, one)}"
        null = "" if one.nullable else " NOT NULL"
        items.append(f"{quoted(one.name)} {one.type.column_storage}{null}{default}")
    items += [
        f"{quoted(one.companion)} INTEGER DEFAULT {one.type.no_companion}"
        for one in columns
        if one.companion
    ]
    return items


def _default(session: Session, rewriter: Rewriter, one: Column) -> str:
    tree = read_one(one.default or "NULL")
    if tree.find(exp.CurrentTimestamp):  # the time of the insert, not of now
        return f"CAST(current_timestamp AS {one.type.storage})"
    return session.sql(converted(rewriter.expression(tree, Scope()), one.type).expr)


def new_table(session: Session, rewriter: Rewriter, table: Table, *, replace: bool) -> None:
    """Create an empty table, in DuckDB and in the catalogue."""
    found = session.engine.catalogue.find(table.name)
    if found is not None and not replace:
        raise exists_already(str(table.name))
    if found is not None:
        remove(session, found)
    columns = ", ".join(stored_columns(session, rewriter, table.columns))
    session.duck.execute(f"CREATE TABLE {table.name.sql} ({columns})")
    session.engine.catalogue.add(table, replace=replace)


def remove(session: Session, table: Table) -> None:
    """Drop a table or view, with its history."""
    with table.lock:
        if not table.is_view:
            session.duck.execute(f"DROP TABLE IF EXISTS {table.name.sql}")
        session.engine.catalogue.remove(table.name)
        table.changes += 1
        session.engine.discard(table.forget())


def create(session: Session, rewriter: Rewriter, tree: exp.Create) -> Answer | None:
    """None for a kind of object that fakesnow makes itself."""
    kind = str(tree.args.get("kind") or "").upper()
    if kind in {"DATABASE", "SCHEMA"}:
        return _create_space(session, rewriter, tree, kind)
    if kind not in {"TABLE", "VIEW"}:
        return None
    name = table_name(rewriter.environment, tree.this)
    with session.engine.creating:
        return _create(session, rewriter, tree, name)


def _create(session: Session, rewriter: Rewriter, tree: exp.Create, name: TableName) -> Answer:
    kind = str(tree.args.get("kind") or "").upper()
    found = rewriter.environment.catalogue.find(name)
    if found is not None and tree.args.get("exists"):
        return status(f"{name.name} already exists, statement succeeded.")
    if found is not None and not tree.args.get("replace"):
        raise exists_already(str(name))
    if name.schema not in rewriter.environment.catalogue.schemas(name.database):
        session.engine.add_schema(name.database, name.schema)
    if kind == "VIEW":
        _create_view(session, rewriter, tree, name)
        return status(f"View {name.name} successfully created.")
    like = tree.find(exp.LikeProperty)
    if like is not None:
        source = rewriter.environment.catalogue.get(table_name(rewriter.environment, like.this))
        table = _alike(name, source)
        new_table(session, rewriter, table, replace=bool(tree.args.get("replace")))
    elif tree.args.get("clone") is not None:
        _clone(session, rewriter, tree, name)
    elif tree.expression is not None:
        _create_as(session, rewriter, tree, name)
    else:
        table = _declared(tree, name)
        new_table(session, rewriter, table, replace=bool(tree.args.get("replace")))
    return status(f"Table {name.name} successfully created.")


def _alike(name: TableName, source: Table) -> Table:
    """An empty table like another one: its clustering key too, as CLONE and LIKE do."""
    return Table(
        name,
        source.columns,
        source.primary_key,
        source.retention_days,
        clustering_key=source.clustering_key,
    )


def _create_space(session: Session, rewriter: Rewriter, tree: exp.Create, kind: str) -> Answer:
    path = tree.this
    if kind == "DATABASE":
        session.engine.add_database(path.name)
        session.move(path.name, "PUBLIC")
        return status(f"Database {path.name} successfully created.")
    name = rewriter.environment.name(path.catalog or None, path.db, "")
    session.engine.add_schema(name.database, name.schema)
    session.move(name.database, name.schema)
    return status(f"Schema {name.schema} successfully created.")


def _properties(tree: exp.Create, table: Table) -> Table:
    properties = tree.args.get("properties")
    for one in properties.expressions if properties is not None else ():
        if isinstance(one, exp.TransientProperty | exp.TemporaryProperty):
            table.transient = True
        elif isinstance(one, exp.Cluster | exp.ClusterProperty):
            table.clustering_key = clustering_key(one)
        elif isinstance(one, exp.SchemaCommentProperty):
            table.comment = one.this.name
        elif one.name.upper() == "DATA_RETENTION_TIME_IN_DAYS":
            table.retention_days = int(one.args["value"].name)
    return table


def clustering_key(clause: Expr) -> str:
    """As INFORMATION_SCHEMA shows it: names are quoted where they have to be."""
    shown_ones = []
    for one in clause.expressions:
        copy = one.copy()
        for name in copy.find_all(exp.Identifier):
            name.set("quoted", shown(name.name) != name.name)
        shown_ones.append(copy.sql(dialect="snowflake"))
    return f"LINEAR({', '.join(shown_ones)})"


def _declared(tree: exp.Create, name: TableName) -> Table:
    columns, key = [], []
    for item in tree.this.expressions if isinstance(tree.this, exp.Schema) else ():
        if isinstance(item, exp.ColumnDef):
            columns.append(column_of(item))
            if item.find(exp.PrimaryKeyColumnConstraint):
                key.append(item.name)
        elif (primary := item.find(exp.PrimaryKey)) is not None:
            key += [one.name for one in primary.expressions]
    # A key's columns are NOT NULL, the only part of a key that Snowflake enforces.
    made = [replace(one, nullable=one.nullable and one.name not in key) for one in columns]
    return _properties(tree, Table(name, tuple(made), primary_key=tuple(key)))


def column_of(item: exp.ColumnDef) -> Column:
    nullable, default, comment = True, None, None
    of = parsed(item.args["kind"].sql(dialect="snowflake"))
    for one in item.args.get("constraints") or ():
        if isinstance(one.kind, exp.NotNullColumnConstraint):
            nullable = bool(one.kind.args.get("allow_null"))
        elif isinstance(one.kind, exp.DefaultColumnConstraint):
            default = one.kind.this.sql(dialect="snowflake")
        elif isinstance(one.kind, exp.CollateColumnConstraint):
            of = of.collated(one.kind.this.name)
        elif isinstance(one.kind, exp.CommentColumnConstraint):
            comment = one.kind.this.name
    return Column(item.name, of, nullable, default, comment=comment)


def planned_columns(session: Session, plan: Plan) -> tuple[Column, ...]:
    """A query's visible columns as those of a table."""
    relation = session.duck.sql(session.sql(plan.node.copy()))
    names, types = relation.columns, [str(one) for one in relation.types]
    if plan.is_open:
        return tuple(Column(name, from_duckdb(of)) for name, of in zip(names, types, strict=True))
    return tuple(
        Column(one.name or "", one.value.type or from_duckdb(of), one.value.nullable)
        for one, of in zip(plan.projections, types, strict=False)
    )


def _create_as(session: Session, rewriter: Rewriter, tree: exp.Create, name: TableName) -> None:
    plan = rewriter.query(tree.expression)
    table = _declared(tree, name)
    if not table.columns:
        table.columns = planned_columns(session, plan)
    query = plan_sql(session, plan, table.columns)
    names = select_list(stored_names(table.columns))
    # Read before the old table goes: it may be what the query reads.
    session.duck.execute(f"CREATE OR REPLACE TEMP TABLE {quoted(COMPANION)} AS {query}")
    new_table(session, rewriter, table, replace=bool(tree.args.get("replace")))
    session.duck.execute(f"INSERT INTO {table.name.sql} ({names}) FROM {quoted(COMPANION)}")
    session.duck.execute(f"DROP TABLE {quoted(COMPANION)}")


def _create_view(session: Session, rewriter: Rewriter, tree: exp.Create, name: TableName) -> None:
    query = tree.expression.sql(dialect="snowflake")
    plan = rewriter.query(tree.expression)
    columns = planned_columns(session, plan)
    if isinstance(tree.this, exp.Schema):
        columns = tuple(
            Column(new.name, one.type, one.nullable)
            for one, new in zip(columns, tree.this.expressions, strict=True)
        )
    visible = columns[: len(plan.projections)] if not plan.is_open else columns
    made = _properties(tree, Table(name, visible, query=query))
    session.engine.catalogue.add(made, replace=True)


def _clone(session: Session, rewriter: Rewriter, tree: exp.Create, name: TableName) -> None:
    node = tree.args["clone"].this
    when = node.args.get("when")
    source = rewriter.environment.catalogue.get(table_name(rewriter.environment, node), "Table")
    at = rewriter.moment(when, Scope()) if when is not None else None
    with source.lock:
        version = source.version_at(at) if at is not None else None
        query = f"FROM {source.name.sql}" if version is None else version_sql(source, version)
        table = _alike(name, source)
        table = _properties(tree, table)
        names = select_list(stored_names(table.columns))
        new_table(session, rewriter, table, replace=bool(tree.args.get("replace")))
        # Named on both sides: a column added later stands behind the companions.
        session.duck.execute(f"INSERT INTO {name.sql} ({names}) SELECT {names} FROM ({query})")


def drop(session: Session, rewriter: Rewriter, tree: exp.Drop) -> Answer | None:
    kind = str(tree.args.get("kind") or "").upper()
    catalogue = rewriter.environment.catalogue
    (path,) = tree.args["tables"]
    if kind == "DATABASE":
        name = path.name
        if name in catalogue.databases:
            if session.database == name:
                session.move(None, None)
            session.engine.drop_database(name)
        return status(f"{name} successfully dropped.")
    if kind == "SCHEMA":
        place = rewriter.environment.name(path.catalog or None, path.db, "")
        if place.schema in catalogue.schemas(place.database):
            session.engine.drop_schema(place.database, place.schema)
        return status(f"{place.schema} successfully dropped.")
    if kind not in {"TABLE", "VIEW"}:
        return None
    full = table_name(rewriter.environment, path)
    table = catalogue.find(full)
    if table is None and tree.args.get("exists"):
        return status(f"Drop statement executed successfully ({full.name} already dropped).")
    remove(session, table or catalogue.get(full, "Table"))
    return status(f"{full.name} successfully dropped.")
