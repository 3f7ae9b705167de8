"""ALTER TABLE."""

from __future__ import annotations

from dataclasses import replace

from sqlglot import Expr, exp

from snowmelt.standin.answers import DONE, Answer, status
from snowmelt.standin.catalogue import Column, Table
from snowmelt.standin.ddl import clustering_key, column_of, stored_columns
from snowmelt.standin.failures import invalid_identifier, not_supported
from snowmelt.standin.names import quoted
from snowmelt.standin.rewrite import Rewriter
from snowmelt.standin.session import Session
from snowmelt.standin.sources import table_name
from snowmelt.standin.types import parsed


def alter(session: Session, rewriter: Rewriter, tree: exp.Alter) -> Answer | None:
    if str(tree.args.get("kind") or "").upper() != "TABLE":
        return None
    table = rewriter.environment.catalogue.get(table_name(rewriter.environment, tree.this), "Table")
    for action in tree.args.get("actions") or ():
        if isinstance(action, exp.AlterSet):
            _set(session, table, action)
            continue
        if isinstance(action, exp.Cluster | exp.ClusterProperty):
            session.engine.catalogue.changed(table, clustering_key=clustering_key(action))
            continue
        if isinstance(action, exp.Command) and str(action.expression).split() == [
            "CLUSTERING",
            "KEY",
        ]:
            session.engine.catalogue.changed(table, clustering_key=None)
            continue
        with session.changing(table):
            _change(session, rewriter, table, action)
    return status(DONE)


def _set(session: Session, table: Table, action: exp.AlterSet) -> None:
    for one in action.find_all(exp.Property):
        if one.name.upper() == "DATA_RETENTION_TIME_IN_DAYS":
            days = int(one.args["value"].name)
            session.engine.catalogue.changed(table, retention_days=days)


def _change(session: Session, rewriter: Rewriter, table: Table, action: Expr) -> None:
    alter_sql = f"ALTER TABLE {table.name.sql}"
    catalogue = session.engine.catalogue
    if isinstance(action, exp.ColumnDef):
        one = column_of(action)
        for definition in stored_columns(session, rewriter, (one,)):
            session.duck.execute(f"{alter_sql} ADD COLUMN {definition}")
        catalogue.changed(table, columns=(*table.columns, one))
    elif isinstance(action, exp.Drop):
        gone = [item.name for item in action.args.get("tables") or [action.this]]
        for name in gone:
            one = _found(table, name)
            for stored in filter(None, (one.name, one.companion)):
                session.duck.execute(f"{alter_sql} DROP COLUMN {quoted(stored)}")
        left = tuple(one for one in table.columns if one.name not in gone)
        catalogue.changed(table, columns=left)
    elif isinstance(action, exp.RenameColumn):
        _rename_column(session, table, action.this.name, action.args["to"].name)
    elif isinstance(action, exp.AlterRename):
        name = table_name(rewriter.environment, action.this)
        session.duck.execute(f"{alter_sql} RENAME TO {quoted(name.name)}")
        catalogue.rename(table, name)
    elif isinstance(action, exp.AlterColumn):
        _alter_column(session, table, action)
    else:
        raise not_supported(action.sql(dialect="snowflake"))


def _found(table: Table, name: str) -> Column:
    one = table.column(name)
    if one is None:
        raise invalid_identifier(quoted(name))
    return one


def _rename_column(session: Session, table: Table, old: str, new: str) -> None:
    one = _found(table, old)
    renamed = replace(one, name=new)
    pairs = [(one.name, renamed.name), (one.companion, renamed.companion)]
    for before, after in pairs:
        if before and after:
            session.duck.execute(
                f"ALTER TABLE {table.name.sql} RENAME COLUMN {quoted(before)} TO {quoted(after)}"
            )
    columns = tuple(renamed if item is one else item for item in table.columns)
    session.engine.catalogue.changed(table, columns=columns)


def _alter_column(session: Session, table: Table, action: exp.AlterColumn) -> None:
    one = _found(table, action.this.name)
    of, nullable = one.type, one.nullable
    sql = f"ALTER TABLE {table.name.sql} ALTER COLUMN {quoted(one.name)}"
    if action.args.get("dtype") is not None:
        of = parsed(action.args["dtype"].sql(dialect="snowflake"))
        if one.type.collation is not None and of.kind == "TEXT":
            of = of.collated(one.type.collation)
        session.duck.execute(f"{sql} SET DATA TYPE {of.column_storage}")
    elif action.args.get("allow_null") is not None:
        nullable = bool(action.args["allow_null"])
        session.duck.execute(f"{sql} {'DROP' if nullable else 'SET'} NOT NULL")
    else:
        raise not_supported(action.sql(dialect="snowflake"))
    changed = replace(one, type=of, nullable=nullable)
    columns = tuple(changed if item is one else item for item in table.columns)
    session.engine.catalogue.changed(table, columns=columns)
