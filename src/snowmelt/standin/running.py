"""One statement's run: its own parameters, the functions of the system, and everything else."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

import pyarrow as pa
from fakesnow import statement_type
from sqlglot import Expr, exp

from snowmelt.standin.answers import Answer
from snowmelt.standin.bindings import bound
from snowmelt.standin.encode import Output
from snowmelt.standin.failures import StatementError
from snowmelt.standin.query import Query
from snowmelt.standin.session import Session
from snowmelt.standin.statements import parsed, run
from snowmelt.standin.types import varchar

_NO_WAREHOUSE_NEEDED = (exp.Use, exp.Describe, exp.Show, exp.Alter, exp.Create, exp.Drop)


class Others(Protocol):
    """What a statement may ask of the other ones."""

    def find(self, query_id: str) -> Query | None: ...

    def cancel(self, query: Query) -> bool: ...

    def need_warehouse(self, session: Session) -> None: ...

    def virtual_table(
        self, query: Query, database: str, name: str, arguments: Mapping[str, object]
    ) -> pa.Table | None: ...


def answer_of(queries: Others, query: Query) -> Answer:
    """Run the query's statement in its session; StatementError if it fails."""
    session = query.session
    tree = bound(parsed(query.request.text), query.request.bindings)
    called = _system_function(tree)
    if called is not None:
        return _system(queries, query, called)
    if not isinstance(tree, _NO_WAREHOUSE_NEEDED) and tree.find(exp.Table) is not None:
        queries.need_warehouse(session)
    environment = session.environment(
        lambda database, name, arguments: queries.virtual_table(query, database, name, arguments)
    )
    _set_zone(query)
    try:
        answer = run(session, environment, tree)
    finally:
        environment.release()
    if query.request.describe_only and answer.table is not None:
        return Answer(answer.type_id, answer.outputs, answer.table.slice(0, 0))
    return answer


def _set_zone(query: Query) -> None:
    """Functions of a TIMESTAMP_LTZ go by the session's time zone."""
    given = {**query.session.parameters, **query.request.parameters}
    zone = str(given.get("TIMEZONE", "UTC")).replace("'", "''")
    query.session.duck.execute(f"SET TimeZone = '{zone}'")


def _system_function(tree: Expr) -> exp.Anonymous | None:
    if not isinstance(tree, exp.Select) or len(tree.expressions) != 1:
        return None
    call = tree.expressions[0].unalias()
    if isinstance(call, exp.Anonymous) and str(call.this).upper().startswith("SYSTEM$"):
        return call
    return None


def _system(queries: Others, query: Query, call: exp.Anonymous) -> Answer:
    name = str(call.this).upper()
    arguments = [one.name for one in call.expressions]
    if name == "SYSTEM$CANCEL_QUERY":
        other = queries.find(arguments[0])
        if other is None or other.session.user != query.session.user:
            raise StatementError(605, "02000", f"Identified query {arguments[0]} not found.")
        stopped = queries.cancel(other)
        word = f"query [{arguments[0]}] terminated."
        text = (
            word
            if stopped
            else f"Identified SQL statement is not currently executing: {arguments[0]}"
        )
    else:
        raise StatementError(2141, "42601", f"Unknown function {name}")
    outputs = (Output(f"{name}('{arguments[0]}')", varchar(), True, 0),)
    return Answer(statement_type.SELECT, outputs, pa.table({"c": [text]}))
