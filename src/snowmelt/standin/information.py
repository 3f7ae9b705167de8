"""INFORMATION_SCHEMA: its views and table functions, made anew for each query that reads them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pyarrow as pa

from snowmelt.standin.catalogue import Catalogue, Column, Policy, Table
from snowmelt.standin.engine import Engine
from snowmelt.standin.names import parts
from snowmelt.standin.sizes import compressed_bytes, rows_by_table

_STAMP = pa.timestamp("us", "UTC")
_SPECIAL = {
    "ROW_COUNT": pa.int64(),
    "BYTES": pa.int64(),
    "RETENTION_TIME": pa.int64(),
    "ORDINAL_POSITION": pa.int64(),
    "CHARACTER_MAXIMUM_LENGTH": pa.int64(),
    "CHARACTER_OCTET_LENGTH": pa.int64(),
    "NUMERIC_PRECISION": pa.int64(),
    "NUMERIC_PRECISION_RADIX": pa.int64(),
    "NUMERIC_SCALE": pa.int64(),
    "DATETIME_PRECISION": pa.int64(),
    "CREATED": _STAMP,
    "LAST_ALTERED": _STAMP,
    "LAST_DDL": _STAMP,
    "START_TIME": _STAMP,
    "END_TIME": _STAMP,
    "TOTAL_ELAPSED_TIME": pa.int64(),
    "SESSION_ID": pa.int64(),
}

Row = Mapping[str, object]


def rows_of(names: Sequence[str], rows: Sequence[Row]) -> pa.Table:
    """A table of these columns; those a row does not have are NULL."""
    schema = pa.schema([(name, _SPECIAL.get(name, pa.string())) for name in names])
    return pa.Table.from_pylist([dict(row) for row in rows], schema=schema)


_TABLES = (
    "TABLE_CATALOG",
    "TABLE_SCHEMA",
    "TABLE_NAME",
    "TABLE_OWNER",
    "TABLE_TYPE",
    "IS_TRANSIENT",
    "CLUSTERING_KEY",
    "ROW_COUNT",
    "BYTES",
    "RETENTION_TIME",
    "IS_INSERTABLE_INTO",
    "IS_TYPED",
    "CREATED",
    "LAST_ALTERED",
    "LAST_DDL",
    "AUTO_CLUSTERING_ON",
    "COMMENT",
    "IS_TEMPORARY",
    "IS_ICEBERG",
    "IS_DYNAMIC",
    "IS_IMMUTABLE",
    "IS_HYBRID",
)


def _tables(engine: Engine, database: str) -> pa.Table:
    counts = rows_by_table(engine, database)
    rows = []
    for table in engine.catalogue.tables(database):
        count = None if table.is_view else counts.get(table.name, 0)
        rows.append(
            {
                **_place(table),
                "TABLE_OWNER": "SYSADMIN",
                "TABLE_TYPE": "VIEW" if table.is_view else "BASE TABLE",
                "IS_TRANSIENT": None if table.is_view else _yes(table.transient),
                "CLUSTERING_KEY": table.clustering_key,
                "ROW_COUNT": count,
                "BYTES": None if count is None else compressed_bytes(table, count),
                "RETENTION_TIME": None if table.is_view else table.retention_days,
                "IS_INSERTABLE_INTO": "YES",
                "CREATED": table.created,
                "LAST_ALTERED": table.created,
                "LAST_DDL": table.created,
                "AUTO_CLUSTERING_ON": _yes(bool(table.clustering_key)),
                "COMMENT": table.comment,
                "IS_TYPED": "YES",
                **dict.fromkeys(("IS_TEMPORARY", "IS_ICEBERG", "IS_DYNAMIC", "IS_HYBRID"), "NO"),
            }
        )
    return rows_of(_TABLES, rows)


def _yes(value: bool) -> str:
    return "YES" if value else "NO"


def _place(table: Table) -> dict[str, object]:
    return {
        "TABLE_CATALOG": table.name.database,
        "TABLE_SCHEMA": table.name.schema,
        "TABLE_NAME": table.name.name,
    }


_COLUMNS = (
    "TABLE_CATALOG",
    "TABLE_SCHEMA",
    "TABLE_NAME",
    "COLUMN_NAME",
    "ORDINAL_POSITION",
    "COLUMN_DEFAULT",
    "IS_NULLABLE",
    "DATA_TYPE",
    "CHARACTER_MAXIMUM_LENGTH",
    "CHARACTER_OCTET_LENGTH",
    "NUMERIC_PRECISION",
    "NUMERIC_PRECISION_RADIX",
    "NUMERIC_SCALE",
    "DATETIME_PRECISION",
    "COLLATION_NAME",
    "IS_IDENTITY",
    "IDENTITY_START",
    "IDENTITY_INCREMENT",
    "IDENTITY_GENERATION",
    "COMMENT",
    "DATA_TYPE_ALIAS",
)
_DATA_TYPES = {"FIXED": "NUMBER", "REAL": "FLOAT"}


def _column(table: Table, number: int, one: Column) -> Row:
    exact, length = one.type.kind == "FIXED", one.type.length or None
    return {
        **_place(table),
        "COLUMN_NAME": one.name,
        "ORDINAL_POSITION": number,
        "COLUMN_DEFAULT": one.default,
        "IS_NULLABLE": _yes(one.nullable),
        "DATA_TYPE": _DATA_TYPES.get(one.type.kind, one.type.kind),
        "CHARACTER_MAXIMUM_LENGTH": length,
        "CHARACTER_OCTET_LENGTH": length and min(length * 4, 16777216),
        "NUMERIC_PRECISION": one.type.precision if exact else None,
        "NUMERIC_PRECISION_RADIX": 10 if exact else None,
        "NUMERIC_SCALE": one.type.scale if exact else None,
        "DATETIME_PRECISION": one.type.scale if one.type.is_temporal else None,
        "COLLATION_NAME": one.type.collation,
        "IS_IDENTITY": "NO",
        "COMMENT": one.comment,
    }


def _columns(engine: Engine, database: str) -> pa.Table:
    rows = [
        _column(table, number, one)
        for table in engine.catalogue.tables(database)
        for number, one in enumerate(table.columns, 1)
    ]
    return rows_of(_COLUMNS, rows)


def _views(engine: Engine, database: str) -> pa.Table:
    rows = [
        {**_place(table), "VIEW_DEFINITION": table.query, "IS_SECURE": "NO"}
        for table in engine.catalogue.tables(database)
        if table.is_view
    ]
    names = ["TABLE_CATALOG", "TABLE_SCHEMA", "TABLE_NAME", "VIEW_DEFINITION", "IS_SECURE"]
    return rows_of(names, rows)


def _schemata(engine: Engine, database: str) -> pa.Table:
    names = [*engine.catalogue.schemas(database), "INFORMATION_SCHEMA"]
    rows = [
        {"CATALOG_NAME": database, "SCHEMA_NAME": name, "SCHEMA_OWNER": "SYSADMIN"}
        for name in names
    ]
    return rows_of(["CATALOG_NAME", "SCHEMA_NAME", "SCHEMA_OWNER", "COMMENT"], rows)


def _databases(engine: Engine, _: str) -> pa.Table:
    rows = [
        {"DATABASE_NAME": name, "DATABASE_OWNER": "SYSADMIN", "TYPE": "STANDARD"}
        for name in engine.catalogue.databases
    ]
    return rows_of(["DATABASE_NAME", "DATABASE_OWNER", "TYPE", "COMMENT"], rows)


_CONSTRAINTS = ["TABLE_CATALOG", "TABLE_SCHEMA", "TABLE_NAME", "CONSTRAINT_TYPE", "CONSTRAINT_NAME"]


def _constraints(engine: Engine, database: str) -> pa.Table:
    rows = [
        {**_place(table), "CONSTRAINT_TYPE": "PRIMARY KEY", "CONSTRAINT_NAME": "SYS_CONSTRAINT"}
        for table in engine.catalogue.tables(database)
        if table.primary_key
    ]
    return rows_of(_CONSTRAINTS, rows)


_VIEWS = {
    "TABLES": _tables,
    "COLUMNS": _columns,
    "VIEWS": _views,
    "SCHEMATA": _schemata,
    "DATABASES": _databases,
    "TABLE_CONSTRAINTS": _constraints,
}


def view(engine: Engine, database: str, name: str) -> pa.Table | None:
    """A view of INFORMATION_SCHEMA, or None if there is none of the name here."""
    make = _VIEWS.get(name)
    return make(engine, database) if make is not None else None


_POLICIES = (
    "POLICY_DB",
    "POLICY_SCHEMA",
    "POLICY_NAME",
    "POLICY_KIND",
    "REF_DATABASE_NAME",
    "REF_SCHEMA_NAME",
    "REF_ENTITY_NAME",
    "REF_ENTITY_DOMAIN",
    "REF_COLUMN_NAME",
    "REF_ARG_COLUMN_NAMES",
    "TAG_DATABASE",
    "TAG_SCHEMA",
    "TAG_NAME",
    "POLICY_STATUS",
)


def policies(catalogue: Catalogue, database: str, arguments: Mapping[str, object]) -> pa.Table:
    """POLICY_REFERENCES of one table or view."""
    *prefix, name = parts(str(arguments.get("REF_ENTITY_NAME", "")))
    schema = prefix[-1] if prefix else "PUBLIC"
    owner = prefix[-2] if len(prefix) > 1 else database
    tables = [one for one in catalogue.tables(owner, schema) if one.name.name == name]
    rows = [
        {
            "POLICY_DB": owner,
            "POLICY_SCHEMA": schema,
            "POLICY_NAME": policy.name,
            "POLICY_KIND": policy.kind,
            "REF_DATABASE_NAME": owner,
            "REF_SCHEMA_NAME": schema,
            "REF_ENTITY_NAME": name,
            "REF_ENTITY_DOMAIN": str(arguments.get("REF_ENTITY_DOMAIN", "TABLE")),
            "REF_COLUMN_NAME": policy.column,
            "POLICY_STATUS": "ACTIVE",
        }
        for table in tables
        for policy in (*table.policies, *_masking(table))
    ]
    return rows_of(_POLICIES, rows)


def _masking(table: Table) -> list[Policy]:
    return [
        Policy("MASKING_POLICY", one.masking_policy, one.name)
        for one in table.columns
        if one.masking_policy is not None
    ]


HISTORY = (
    "QUERY_ID",
    "QUERY_TEXT",
    "DATABASE_NAME",
    "SCHEMA_NAME",
    "QUERY_TYPE",
    "SESSION_ID",
    "USER_NAME",
    "ROLE_NAME",
    "WAREHOUSE_NAME",
    "QUERY_TAG",
    "EXECUTION_STATUS",
    "ERROR_CODE",
    "ERROR_MESSAGE",
    "START_TIME",
    "END_TIME",
    "TOTAL_ELAPSED_TIME",
)
