"""DESCRIBE and SHOW."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

from fakesnow import statement_type
from sqlglot import Expr, exp

from snowmelt.standin.answers import Answer, listed
from snowmelt.standin.catalogue import Catalogue, Column, Table
from snowmelt.standin.environment import Environment
from snowmelt.standin.failures import no_object
from snowmelt.standin.sources import table_name
from snowmelt.standin.types import LTZ, SfType, varchar

_TEXT = varchar()
_DESCRIBED = (
    "name",
    "type",
    "kind",
    "null?",
    "default",
    "primary key",
    "unique key",
    "check",
    "expression",
    "comment",
    "policy name",
    "privacy domain",
)


def _columns(*names: str) -> list[tuple[str, SfType]]:
    return [(name, LTZ if name == "created_on" else _TEXT) for name in names]


def described(environment: Environment, tree: exp.Describe) -> Answer | None:
    """DESCRIBE TABLE and VIEW; None for another kind."""
    if str(tree.args.get("kind") or "").upper() not in {"TABLE", "VIEW"}:
        return None
    table = environment.catalogue.get(table_name(environment, tree.this), "Table")
    rows = [_described(table, column) for column in table.columns]
    return listed(_columns(*_DESCRIBED), rows, statement_type.DESCRIBE)


def _described(table: Table, column: Column) -> tuple[object, ...]:
    policy = next(
        (one.name for one in table.policies if one.column == column.name), column.masking_policy
    )
    key = "Y" if column.name in table.primary_key else "N"
    null = "Y" if column.nullable else "N"
    start = (column.name, column.type.sql, "COLUMN", null, column.default, key, "N")
    return (*start, None, None, column.comment, policy, None)


Shown = Callable[[Catalogue, list[Table]], Answer]


def _keys(_: Catalogue, tables: list[Table]) -> Answer:
    columns = _columns(
        "created_on",
        "database_name",
        "schema_name",
        "table_name",
        "column_name",
        "key_sequence",
        "constraint_name",
        "rely",
        "comment",
    )
    rows = [
        (
            table.created,
            table.name.database,
            table.name.schema,
            table.name.name,
            column,
            number,
            f"SYS_CONSTRAINT_{abs(hash(table.name)) % 10**12:012d}",
            "false",
            None,
        )
        for table in tables
        for number, column in enumerate(table.primary_key, 1)
    ]
    return listed(columns, rows)


def _no_keys(_: Catalogue, __: list[Table]) -> Answer:
    return listed(_columns("created_on", "database_name", "schema_name", "table_name"), [])


def _objects(_: Catalogue, tables: list[Table]) -> Answer:
    columns = _columns(
        "created_on",
        "name",
        "database_name",
        "schema_name",
        "kind",
        "comment",
        "cluster_by",
        "rows",
        "bytes",
        "owner",
        "retention_time",
        "text",
    )
    return listed(columns, [_object(table) for table in tables])


def _object(table: Table) -> tuple[object, ...]:
    kind = "VIEW" if table.is_view else "TRANSIENT" if table.transient else "TABLE"
    return (
        table.created,
        table.name.name,
        table.name.database,
        table.name.schema,
        kind,
        table.comment or "",
        table.clustering_key or "",
        None,
        None,
        "SYSADMIN",
        None if table.is_view else str(table.retention_days),
        table.query,
    )


def _shown_columns(_: Catalogue, tables: list[Table]) -> Answer:
    columns = _columns(
        "table_name",
        "schema_name",
        "column_name",
        "data_type",
        "null?",
        "default",
        "kind",
        "expression",
        "comment",
        "database_name",
        "autoincrement",
    )
    rows = [
        (
            table.name.name,
            table.name.schema,
            one.name,
            _json_type(one),
            "true" if one.nullable else "NOT_NULL",
            one.default or "",
            "COLUMN",
            "",
            "",
            table.name.database,
            "",
        )
        for table in tables
        for one in table.columns
    ]
    return listed(columns, rows)


def _json_type(column: Column) -> str:
    of, null = column.type, str(column.nullable).lower()
    if of.kind == "FIXED":
        extra = f',"precision":{of.precision},"scale":{of.scale}'
    elif of.kind in {"TEXT", "BINARY"}:
        collation = f',"collation":"{of.collation}"' if of.collation is not None else ""
        extra = f',"length":{of.length}{collation}'
    else:
        extra = f',"precision":0,"scale":{of.scale}' if of.is_temporal else ""
    return f'{{"type":"{of.kind}"{extra},"nullable":{null}}}'


_TABLES: dict[str, tuple[Shown, Callable[[Table], bool]]] = {
    "PRIMARY KEYS": (_keys, lambda table: bool(table.primary_key)),
    "UNIQUE KEYS": (_no_keys, lambda _: False),
    "IMPORTED KEYS": (_no_keys, lambda _: False),
    "TABLES": (_objects, lambda table: not table.is_view),
    "VIEWS": (_objects, lambda table: table.is_view),
    "OBJECTS": (_objects, lambda _: True),
    "COLUMNS": (_shown_columns, lambda _: True),
}


def shown(environment: Environment, tree: exp.Show) -> Answer | None:
    """SHOW of what the catalogue holds; None for anything else."""
    what = tree.name.upper()
    if what in {"SCHEMAS", "DATABASES"}:
        return _spaces(environment, tree, what)
    if what not in _TABLES:
        return None
    show, wanted = _TABLES[what]
    tables = [one for one in _in_scope(environment, tree) if wanted(one)]
    pattern = tree.args.get("like")
    if pattern is not None and what != "COLUMNS":
        tables = [one for one in tables if _like(pattern.name, one.name.name)]
    return show(environment.catalogue, tables)


def _like(pattern: str, name: str) -> bool:
    """LIKE of SHOW: without regard to case."""
    parts = {"%": ".*", "_": "."}
    expression = "".join(parts.get(one, re.escape(one)) for one in pattern)
    return re.fullmatch(expression, name, re.IGNORECASE | re.DOTALL) is not None


def _in_scope(environment: Environment, tree: exp.Show) -> Sequence[Table]:
    scope: Expr | None = tree.args.get("scope")
    kind = str(tree.args.get("scope_kind") or "").upper()
    catalogue = environment.catalogue
    if kind in {"TABLE", "VIEW"} or (kind == "" and tree.name.upper() == "COLUMNS" and scope):
        return [catalogue.get(table_name(environment, scope), "Table")]
    if kind == "ACCOUNT":
        return catalogue.tables()
    if not isinstance(scope, exp.Table):
        return catalogue.tables(environment.database, environment.schema)
    if kind == "DATABASE":
        _check(catalogue, scope.name)
        return catalogue.tables(scope.name)
    place = environment.name(scope.db or None, scope.name, "")
    _check(catalogue, place.database, place.schema)
    return catalogue.tables(place.database, place.schema)


def _check(catalogue: Catalogue, database: str, schema: str | None = None) -> None:
    if database not in catalogue.databases:
        raise no_object("Database", database)
    if schema is not None and schema not in catalogue.schemas(database):
        raise no_object("Schema", f"{database}.{schema}")


def _spaces(environment: Environment, tree: exp.Show, what: str) -> Answer:
    catalogue = environment.catalogue
    if what == "DATABASES":
        rows = [(0, name, "", "SYSADMIN") for name in catalogue.databases]
    else:
        scope = tree.args.get("scope")
        wanted = scope.name if scope is not None else environment.database
        databases = [one for one in catalogue.databases if wanted in (None, one)]
        rows = [(0, name, one, "SYSADMIN") for one in databases for name in catalogue.schemas(one)]
    pattern = tree.args.get("like")
    kept = [row for row in rows if pattern is None or _like(pattern.name, str(row[1]))]
    return listed(_columns("created_on", "name", "database_name", "owner"), kept)
