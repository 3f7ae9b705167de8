"""How a DuckDB column and a PostgreSQL column are made comparable, value for value.

PostgreSQL's side arrives as text. It is read so that no difference is rounded away: a `numeric` with more places
than the source's DECIMAL, a `timestamp` where the source has a DATE, or -0.0 for 0.0 are differences. What is
none: the order of keys and the spelling of numbers in `jsonb`, trailing zeros of a number, the sign of a NaN.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from decimal import Context, Decimal
from functools import lru_cache

import duckdb

from snowmelt.errors import Refused

_INTEGERS = {"TINYINT", "SMALLINT", "INTEGER", "BIGINT", "UTINYINT", "USMALLINT", "UINTEGER"}
_NUMBERS = _INTEGERS | {"UBIGINT", "HUGEINT", "UHUGEINT", "DECIMAL"}
_PLAIN = {"VARCHAR", "JSON", "ENUM", "BLOB", "BOOLEAN", "DATE", "TIME", "UUID", "FLOAT", "DOUBLE"}
_ALIKE = {
    ("BOOLEAN", "bool"): "BOOLEAN",
    ("DATE", "date"): "DATE",
    ("DATE", "timestamp"): "TIMESTAMP",
    ("TIME", "time"): "TIME",
    ("TIMESTAMP_S", "timestamp"): "TIMESTAMP",
    ("TIMESTAMP_MS", "timestamp"): "TIMESTAMP",
    ("TIMESTAMP", "timestamp"): "TIMESTAMP",
    ("TIMESTAMP_NS", "timestamp"): "TIMESTAMP_NS",
    ("TIMESTAMP WITH TIME ZONE", "timestamptz"): "TIMESTAMPTZ",
    ("UUID", "uuid"): "UUID",
    ("VARCHAR", "uuid"): "UUID",
}
"""(DuckDB's type, PostgreSQL's) -> the type both are compared as; whatever is in no rule is compared as text."""

_MACROS = (
    "CREATE TEMP MACRO plain_number(t) AS"
    " CASE WHEN contains(t, '.') THEN rtrim(rtrim(t, '0'), '.') ELSE t END",
    # As text, since -0.0 = 0.0; the shortest text that gives the double back.
    "CREATE TEMP MACRO plain_double(x) AS CASE WHEN isnan(x) THEN 'NaN' ELSE x::VARCHAR END",
)


@dataclass(frozen=True, slots=True)
class Pair:
    """One column as a DuckDB expression over the source and one over PostgreSQL's text."""

    name: str
    source: str
    target: str


def install_functions(connection: duckdb.DuckDBPyConnection) -> None:
    """Define what the expressions of `pair` call."""
    for macro in _MACROS:
        connection.execute(macro)
    connection.create_function("plain_json", plain_json, ["VARCHAR"], "VARCHAR")


def pair(name: str, source_type: str, target_type: str, text: str) -> Pair:
    """Pair a source column with the column `text` of PostgreSQL's text.

    `source_type` is spelled as DuckDB's DESCRIBE does, `target_type` as pg_type does. Raises Refused for
    nested and other types that have no common text form.
    """
    kind = source_type.partition("(")[0]
    known = kind in _NUMBERS or kind in _PLAIN or kind.startswith("TIMESTAMP")
    if not known or source_type.endswith("]"):
        raise Refused(
            f"values of type {source_type} can't be compared with PostgreSQL's {target_type}",
            column=name,
            remedy="Leave the column out of the source relation, or cast it there.",
        )
    return Pair(name, *_expressions(quoted(name), kind, text, target_type))


def _expressions(column: str, kind: str, text: str, target_type: str) -> tuple[str, str]:
    if target_type == "jsonb":
        return f"plain_json({column}::VARCHAR)", f"plain_json({text})"
    if kind in _INTEGERS and target_type in {"int2", "int4", "int8"}:
        return f"{column}::BIGINT", f"{text}::BIGINT"
    if kind in _NUMBERS:
        return f"plain_number({column}::VARCHAR)", f"plain_number({text})"
    if kind in {"FLOAT", "DOUBLE"}:
        # '0.1' from a float4 column is the float nearest to 0.1, which as a double has more digits.
        value = f"{text}::FLOAT::DOUBLE" if target_type == "float4" else f"{text}::DOUBLE"
        return f"plain_double({column}::DOUBLE)", f"plain_double({value})"
    if kind == "BLOB" and target_type == "bytea":
        return column, f"unhex(substr({text}, 3))"  # \x6162
    if kind == "BLOB" and target_type == "uuid":
        return f"lower(hex({column}))", f"replace({text}, '-', '')"
    common = _ALIKE.get((kind, target_type))
    if common is not None:
        return f"{column}::{common}", f"{text}::{common}"
    return f"{column}::VARCHAR", text


def quoted(name: str) -> str:
    """An SQL identifier, exactly as written."""
    return '"' + name.replace('"', '""') + '"'


@lru_cache(maxsize=100_000)
def plain_json(text: str) -> str:
    """JSON in one spelling, with `jsonb`'s idea of equality: 1.50 is 1.5, keys have no order, the last one wins.

    The cache pays where documents repeat: a document takes 10 µs, a hit 0.1.
    """
    value = json.loads(text, parse_float=_plain_number, parse_int=_plain_number)
    return json.dumps(value, sort_keys=True, ensure_ascii=False, separators=(",", ":"))


def _plain_number(text: str) -> str:
    # NUL can't be in jsonb's text, so that no string looks like a number.
    exact = Context(prec=len(text) + 1)
    return f"\0{exact.plus(exact.normalize(Decimal(text)))}"  # plus: -0 is 0
