"""What each kind of statement does."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import duckdb
from fakesnow import statement_type
from snowflake.connector.errors import Error as ConnectorError
from sqlglot import Expr, exp
from sqlglot.errors import SqlglotError

from snowmelt.standin import alterations, ddl, dml, show
from snowmelt.standin.answers import DONE, Answer, status
from snowmelt.standin.arithmetic import BY_ZERO
from snowmelt.standin.dialect import read
from snowmelt.standin.encode import Output
from snowmelt.standin.environment import Environment
from snowmelt.standin.failures import (
    StatementError,
    invalid_identifier,
    no_object,
    not_supported,
)
from snowmelt.standin.names import quoted
from snowmelt.standin.normal import normalised
from snowmelt.standin.plans import Plan
from snowmelt.standin.rewrite import Rewriter
from snowmelt.standin.session import Session, is_true
from snowmelt.standin.sources import table_name
from snowmelt.standin.types import LTZ, from_duckdb

log = logging.getLogger("snowmelt.standin")

_QUERIES = (exp.Select, exp.SetOperation, exp.Subquery)
_ATTEMPTS = 20  # at a query whose table changes while it reads an earlier version


def parsed(statement: str) -> Expr:
    """The statement's tree; StatementError 1003 if it is none."""
    try:
        trees = [one for one in read(statement) if one is not None]
    except SqlglotError as exc:
        reason = re.sub(r"\x1b\[\d*m", "", str(exc))
        raise StatementError(
            1003, "42000", f"SQL compilation error:\nsyntax error: {reason}"
        ) from exc
    if not trees:
        raise StatementError(900, "42000", "SQL compilation error:\nEmpty SQL statement.")
    if len(trees) > 1:
        raise StatementError(
            8, "0A000", f"Actual statement count {len(trees)} did not match the desired count 1."
        )
    return trees[0]


def run(session: Session, environment: Environment, tree: Expr) -> Answer:
    """Run one statement; DuckDB's errors come as Snowflake's."""
    try:
        return _run(session, environment, tree)
    except ConnectorError as exc:
        raise StatementError(exc.errno or 1, exc.sqlstate or "42000", exc.raw_msg or "") from exc
    except duckdb.InterruptException:
        raise
    except duckdb.Error as exc:
        raise _failure(exc) from exc
    except SqlglotError as exc:
        raise StatementError(1003, "42000", f"SQL compilation error:\n{exc}") from exc


_ERRORS: tuple[tuple[type[duckdb.Error], int, str], ...] = (
    (duckdb.CatalogException, 2003, "42S02"),
    (duckdb.BinderException, 904, "42000"),
    (duckdb.ParserException, 1003, "42000"),
    (duckdb.ConstraintException, 100072, "22000"),
    (duckdb.ConversionException, 100038, "22018"),
    (duckdb.OutOfRangeException, 100046, "22003"),
    (duckdb.TransactionException, 625, "57014"),
)


def _failure(exc: duckdb.Error) -> StatementError:
    if isinstance(exc, duckdb.InvalidInputException) and BY_ZERO in str(exc):
        return StatementError(100051, "22012", BY_ZERO)
    for kind, number, sqlstate in _ERRORS:
        if isinstance(exc, kind):
            return StatementError(number, sqlstate, f"SQL compilation error:\n{exc}")
    return StatementError(1, "XX000", f"SQL execution error: {exc}")


def _run(session: Session, environment: Environment, tree: Expr) -> Answer:
    if isinstance(tree, _QUERIES):
        return query(session, environment, tree)
    action = _ACTIONS.get(type(tree))
    rewriter = Rewriter(environment)
    answer = None
    if action is not None:
        original = tree.copy()
        answer = action(session, rewriter, normalised(tree))
        tree = original
    return answer if answer is not None else _by_fakesnow(session, tree)


def query(session: Session, environment: Environment, tree: Expr) -> Answer:
    """Run a query; again if a table changed while an earlier version of it was read."""
    for _ in range(_ATTEMPTS):
        copy = normalised(tree.copy())
        environment.reads.clear()
        plan = Rewriter(environment).query(copy)
        rows, types = session.rows(session.sql(plan.node))
        if not environment.changed_since_read():
            outputs = _outputs(plan, rows.column_names, types)
            return Answer(statement_type.SELECT, outputs, rows)
    raise not_supported("reading an earlier version of a table that changes all the time")


def _outputs(plan: Plan, names: list[str], types: list[str]) -> tuple[Output, ...]:
    if plan.is_open:
        return tuple(
            Output(name, from_duckdb(of), True, at)
            for at, (name, of) in enumerate(zip(names, types, strict=True))
        )
    visible = len(plan.projections)
    outputs = []
    for at, one in enumerate(plan.projections):
        companion = visible + plan.carried.index(at) if at in plan.carried else None
        of = one.value.type or from_duckdb(types[at])
        outputs.append(Output(one.name or "", of, one.value.nullable, at, companion))
    return tuple(outputs)


def _by_fakesnow(session: Session, tree: Expr) -> Answer:
    """A statement that only fakesnow knows."""
    cursor: Any = session.fake.cursor()
    try:
        cursor.execute(tree.sql(dialect="snowflake"))
    except NotImplementedError as exc:
        raise not_supported(tree.sql(dialect="snowflake")) from exc
    rows = cursor._arrow_table
    relation = session.duck.from_arrow(rows)
    outputs = tuple(
        Output(name, LTZ if name == "created_on" else from_duckdb(str(of)), True, at)
        for at, (name, of) in enumerate(zip(rows.column_names, relation.types, strict=True))
    )
    return Answer(statement_type.statement_type_id(tree), outputs, rows)


def _use(session: Session, rewriter: Rewriter, tree: Expr) -> Answer:
    kind = tree.args.get("kind")
    word = (kind.name if isinstance(kind, Expr) else str(kind or "")).upper()
    place, catalogue = tree.this, rewriter.environment.catalogue
    if word == "WAREHOUSE":
        session.warehouse = place.name
    elif word == "ROLE":
        session.role = place.name
    elif word == "SECONDARY ROLES":
        session.secondary_roles = place.name.upper()
    elif word == "DATABASE" or (not word and not place.db):
        if place.name not in catalogue.databases:
            raise no_object("Database", place.name)
        session.move(place.name, "PUBLIC")
    else:
        name = rewriter.environment.name(place.db or None, place.name, "")
        if name.schema not in catalogue.schemas(name.database):
            raise no_object("Schema", f"{name.database}.{name.schema}")
        session.move(name.database, name.schema)
    return status(DONE, statement_type.USE)


def _alter(session: Session, rewriter: Rewriter, tree: Expr) -> Answer | None:
    assert isinstance(tree, exp.Alter)
    if str(tree.args.get("kind") or "").upper() != "SESSION":
        return alterations.alter(session, rewriter, tree)
    for item in tree.find_all(exp.SetItem):
        node = item.this
        if not isinstance(node, exp.EQ):
            session.parameters.pop(node.name.upper() if isinstance(node, Expr) else "", None)
            continue
        value = node.expression
        given: object = is_true(value) if isinstance(value, exp.Boolean) else value.name
        if isinstance(value, exp.Literal) and not value.is_string:
            given = int(value.name)
        session.parameters[node.this.name.upper()] = given
    return status(DONE, statement_type.SCL)


def _truncate(session: Session, rewriter: Rewriter, tree: Expr) -> Answer:
    for one in tree.expressions:
        dml.truncate(session, rewriter, one)
    return status(DONE)


def _begin(session: Session, *_: object) -> Answer:
    session.begin()
    return status(DONE, statement_type.TCL)


def _commit(session: Session, *_: object) -> Answer:
    session.commit()
    return status(DONE, statement_type.TCL)


def _rollback(session: Session, *_: object) -> Answer:
    session.rollback()
    return status(DONE, statement_type.TCL)


def _describe(_: Session, rewriter: Rewriter, tree: Any) -> Answer | None:
    return show.described(rewriter.environment, tree)


def _show(_: Session, rewriter: Rewriter, tree: Any) -> Answer | None:
    return show.shown(rewriter.environment, tree)


def _comment(_: Session, rewriter: Rewriter, tree: Any) -> Answer:
    environment, comment = rewriter.environment, tree.expression.name
    if not isinstance(tree.this, exp.Column):
        table = environment.catalogue.get(table_name(environment, tree.this))
        environment.catalogue.changed(table, comment=comment)
        return status(DONE)
    *place, name = tree.this.parts
    parts = dict(zip(("this", "db", "catalog"), reversed(place), strict=False))
    table = environment.catalogue.get(table_name(environment, exp.Table(**parts)))
    if table.column(name.name) is None:
        raise invalid_identifier(quoted(name.name))
    columns = tuple(
        replace(one, comment=comment) if one.name == name.name else one for one in table.columns
    )
    environment.catalogue.changed(table, columns=columns)
    return status(DONE)


_ACTIONS: dict[type[Expr], Callable[[Session, Rewriter, Any], Answer | None]] = {
    exp.Insert: dml.insert,
    exp.Update: dml.update,
    exp.Delete: dml.delete,
    exp.Merge: dml.merge,
    exp.TruncateTable: _truncate,
    exp.Create: ddl.create,
    exp.Drop: ddl.drop,
    exp.Alter: _alter,
    exp.Use: _use,
    exp.Describe: _describe,
    exp.Show: _show,
    exp.Comment: _comment,
    exp.Transaction: _begin,
    exp.Commit: _commit,
    exp.Rollback: _rollback,
}
