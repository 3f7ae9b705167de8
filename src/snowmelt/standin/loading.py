"""Tables filled without SQL of Snowflake's: from Arrow rows or from a query in DuckDB's SQL."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import duckdb
import pyarrow as pa

from snowmelt.standin.catalogue import Column, Table
from snowmelt.standin.convert import converted
from snowmelt.standin.dml import stored_names
from snowmelt.standin.engine import Engine
from snowmelt.standin.failures import StatementError
from snowmelt.standin.typed import Typed, build, cast, column, select_list
from snowmelt.standin.types import DATE, LTZ, NTZ, SfType, varchar

_KNOWN = {
    "VARCHAR": varchar(),
    "TIMESTAMP": NTZ,
    "TIMESTAMP WITH TIME ZONE": LTZ,
    "TIME": SfType("TIME", scale=9),
    "DATE": DATE,
}


@dataclass(frozen=True, slots=True)
class Load:
    """What to fill a table with: rows, or DuckDB statements of which the last is a query."""

    rows: pa.Table | None = None
    query: str | None = None


def load(engine: Engine, table: Table, source: Load) -> None:
    """Make the table, in place of one of its name, and fill it."""
    engine.add_schema(table.name.database, table.name.schema)
    with engine.cursor() as duck:
        old = engine.catalogue.find(table.name)
        if old is not None:
            duck.execute(f"DROP TABLE IF EXISTS {table.name.sql}")
            engine.catalogue.remove(table.name)
            engine.discard(old.forget())
        duck.execute(f"CREATE TABLE {table.name.sql} ({', '.join(_definitions(table.columns))})")
        if source.rows is not None:
            duck.register("given␟", _readable(source.rows))
            _fill(duck, table, 'FROM "given␟"')
        elif source.query is not None:
            *before, query = duckdb.extract_statements(source.query)
            for one in before:
                duck.execute(one)
            _fill(duck, table, query.query.rstrip().rstrip(";"))
        engine.catalogue.add(table)


def _definitions(columns: Sequence[Column]) -> list[str]:
    items = [
        f"{select_list([one.name])} {one.type.column_storage}{'' if one.nullable else ' NOT NULL'}"
        for one in columns
    ]
    items += [
        f"{select_list([one.companion])} INTEGER DEFAULT {one.type.no_companion}"
        for one in columns
        if one.companion
    ]
    return items


def _fill(duck: duckdb.DuckDBPyConnection, table: Table, query: str) -> None:
    types = [str(of) for of in duck.sql(query).types]
    if len(types) != len(table.columns):
        raise StatementError(
            2026,
            "42601",
            f"{len(types)} columns given for the {len(table.columns)} of {table.name}",
        )
    names = [f"c{at}" for at in range(len(types))]
    values = [
        _value(name, of, one) for name, of, one in zip(names, types, table.columns, strict=True)
    ]
    made = [value.expr for value in values]
    made += [
        value.with_companion()
        for value, one in zip(values, table.columns, strict=True)
        if one.companion
    ]
    items = ", ".join(one.sql(dialect="duckdb") for one in made)
    stored = select_list(stored_names(table.columns))
    duck.execute(
        f"INSERT INTO {table.name.sql} ({stored})"
        f" SELECT {items} FROM ({query}) AS s({select_list(names)})"
    )


def _value(name: str, of: str, target: Column) -> Typed:
    """A column of DuckDB's type as the target column stores it."""
    given = column(name)
    if of == "TIMESTAMP_NS" and target.type.is_timestamp:
        # Floored: DuckDB's own cast cuts towards 1970, a microsecond late before it.
        rest = build("(epoch_ns(x) % 1000 + 1000) % 1000", x=given)
        whole = build("make_timestamp((epoch_ns(x) - r) // 1000)", x=given, r=rest)
        return converted(Typed(whole, NTZ, True, build("CAST(r AS INTEGER)", r=rest)), target.type)
    if target.type.is_semi_structured and of in {"VARCHAR", "JSON"}:
        return Typed(cast(given, "JSON"), target.type)
    if of == "VARCHAR" and target.type.kind == "TEXT":
        return Typed(given, target.type)
    return converted(Typed(given, _KNOWN.get(of)), target.type)


def _readable(rows: pa.Table) -> pa.Table:
    """Zoned nanoseconds as nanoseconds at UTC: with a zone DuckDB has microseconds only."""
    columns = []
    for values in rows.columns:
        of = values.type
        if pa.types.is_timestamp(of) and of.tz is not None and of.unit == "ns":
            columns.append(values.cast(pa.timestamp("ns", "UTC")).cast(pa.timestamp("ns")))
        elif pa.types.is_dictionary(of) or pa.types.is_null(of):
            plain = of.value_type if pa.types.is_dictionary(of) else pa.string()
            columns.append(values.cast(plain))
        else:
            columns.append(values)
    return pa.Table.from_arrays(columns, names=[f"c{at}" for at in range(len(columns))])
