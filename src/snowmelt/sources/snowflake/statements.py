"""Every statement that is sent to Snowflake, as text: pure functions, identifiers always quoted.

Each is valid Snowflake SQL; `tests/unit/test_statements.py` has a parser read them all.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import UTC, datetime

from snowmelt.chunking.chunks import Key, Range, Span
from snowmelt.chunking.histogram import Grain
from snowmelt.chunking.window import Window
from snowmelt.model import Column, SourceTable
from snowmelt.sources import key_sql
from snowmelt.sources.snowflake.keys import SnowflakeKeys, literal, quoted
from snowmelt.types import SnowflakeType, snowflake_fact, snowflake_type

KEYS = SnowflakeKeys()
SESSION = "SELECT CURRENT_TIMESTAMP(), CURRENT_ROLE(), CURRENT_SECONDARY_ROLES()"
_PLAIN = re.compile(r"[A-Za-z_][A-Za-z0-9_$]*")
RUNNING = "'RUNNING', 'QUEUED', 'BLOCKED', 'RESUMING_WAREHOUSE'"
"""States of a query that has not ended; https://docs.snowflake.com/en/sql-reference/functions/query_history"""


def relation(*parts: str) -> str:
    """Database, schema and name, as far as they are given."""
    return ".".join(quoted(part) for part in parts if part)


def table(source: SourceTable) -> str:
    """The table's qualified name."""
    return relation(source.database, source.schema, source.name)


def at(moment: datetime) -> str:
    """The clause that reads one moment. TIMESTAMP_TZ, so that no session's zone has a say."""
    return f" AT (TIMESTAMP => '{moment.astimezone(UTC).isoformat()}'::TIMESTAMP_TZ)"


def use_warehouse(name: str) -> str:
    """As a login names it: case matters only within quotes of its own, or where it must be quoted."""
    if name.startswith('"') and name.endswith('"') and len(name) > 2:
        return f"USE WAREHOUSE {name}"
    return f"USE WAREHOUSE {quoted(name.upper() if _PLAIN.fullmatch(name) else name)}"


def describe(name: str) -> str:
    return f"DESCRIBE TABLE {name}"


def primary_key(name: str) -> str:
    return f"SHOW PRIMARY KEYS IN TABLE {name}"


def properties(source: SourceTable) -> str:
    """Kind, transience, retention, rows, bytes as stored, clustering key and comment of a table or view."""
    schema = literal(source.schema) if source.schema else "CURRENT_SCHEMA()"
    return (
        "SELECT table_type, is_transient, retention_time, row_count, bytes, clustering_key, comment "
        f"FROM {_information_schema(source)}.TABLES "
        f"WHERE table_schema = {schema} AND table_name = {literal(source.name)}"
    )


def policies(source: SourceTable, name: str, kind: str) -> str:
    """The policies in force on a table or view, as far as the role may see them."""
    return (
        "SELECT policy_kind, policy_db, policy_schema, policy_name, ref_column_name "
        f"FROM TABLE({_information_schema(source)}.POLICY_REFERENCES("
        f"REF_ENTITY_NAME => {literal(name)}, REF_ENTITY_DOMAIN => {literal(kind)})) "
        "ORDER BY policy_kind, policy_db, policy_schema, policy_name, ref_column_name"
    )


def observe(
    name: str, moment: str, whole: Sequence[str], finer: Sequence[str], *, count: bool
) -> str:
    """Rows, the smallest and largest of each `whole` number, the first and last year of each `finer` time.

    Without a condition Snowflake answers it from the metadata of its partitions.
    """
    parts = ["COUNT(*)"] if count else []
    for column in whole:
        parts += [f"MIN({quoted(column)})", f"MAX({quoted(column)})"]
    for column in finer:
        parts += [f"YEAR(MIN({quoted(column)}))", f"YEAR(MAX({quoted(column)}))"]
    return f"SELECT {', '.join(parts)} FROM {name}{moment}"


def key_histogram(name: str, moment: str, key: Key, grain: Grain, filter: str | None) -> str:
    """Rows by ranges of a key: see `key_sql.coarse`."""
    return key_sql.coarse(KEYS, f"{name}{moment}", where(filter), key, grain)


def newest(name: str, moment: str, key: Key, filter: str | None) -> str:
    """The greatest value of a key, and how many rows there are: see `key_sql.newest`."""
    return key_sql.newest(KEYS, f"{name}{moment}", where(filter), key)


def finer_histograms(
    name: str,
    moment: str,
    keys: Sequence[Key],
    spans: Sequence[Span],
    rows: int,
    filter: str | None,
) -> str:
    """Rows by the values of keys within spans: see `key_sql.fine`."""
    conditions = [filter] if filter is not None else []
    return key_sql.fine(KEYS, f"{name}{moment}", conditions, keys, spans, rows)


def rows(name: str, moment: str, columns: Sequence[Column], *conditions: str | None) -> str:
    """The rows that pass the conditions: the columns in their order, then what `watched` says of them."""
    listed = [_selected(column) for column in columns]
    listed += [
        f"MOD(DATE_PART(NANOSECOND, {quoted(column.name)}), 1000) <> 0"
        for column in watched(columns)
    ]
    return f"SELECT {', '.join(listed)} FROM {name}{moment}{where(*conditions)}"


def watched(columns: Sequence[Column]) -> tuple[Column, ...]:
    """Columns that come in microseconds and have digits below: each gets a column beside the others that says
    in which rows they are not zero. A TIME's digits the client drops, and a timestamp outside of the years that
    nanoseconds reach has no other way to come; those in nanoseconds are counted where they are encoded."""
    return tuple(
        column
        for column in columns
        if _has_fraction(snowflake_type(column.source_type)) and column.type.unit == "us"
    )


def narrowed(filter: str | None, window: Window | None) -> str | None:
    """What rows must pass to be read."""
    return key_sql.narrowed(KEYS, filter, window)


def condition(range: Range) -> str | None:
    """The rows of a range, on the raw column: no rounding moves a row across a bound."""
    return key_sql.condition(KEYS, range)


def where(*conditions: str | None) -> str:
    """Every condition that is one, each in parentheses of its own, on lines of its own: a comment at its end
    ends there."""
    given = [f"(\n{text}\n)" for text in conditions if text is not None]
    return f" WHERE {' AND '.join(given)}" if given else ""


def clone(name: str, of: str, moment: str) -> str:
    """A zero-copy clone of one moment. Transient, so that no fail-safe is paid for after it is dropped."""
    return f"CREATE TRANSIENT TABLE IF NOT EXISTS {name} CLONE {of}{moment}"


def drop(name: str) -> str:
    return f"DROP TABLE IF EXISTS {name}"


def running(source: SourceTable, tag: str) -> str:
    """Queries of this user that have not ended and whose tag begins so. Any database's schema tells of them."""
    return (
        f"SELECT query_id FROM TABLE({_information_schema(source)}.QUERY_HISTORY_BY_USER("
        "RESULT_LIMIT => 10000)) "
        f"WHERE execution_status IN ({RUNNING}) AND STARTSWITH(query_tag, {literal(tag)})"
    )


def cancel(query_id: str) -> str:
    return f"SELECT SYSTEM$CANCEL_QUERY({literal(query_id)})"


def _information_schema(source: SourceTable) -> str:
    return (
        f"{quoted(source.database)}.INFORMATION_SCHEMA" if source.database else "INFORMATION_SCHEMA"
    )


def _has_fraction(type: SnowflakeType) -> bool:
    return type.scale > 6 and (type.name == "TIME" or type.name.startswith("TIMESTAMP"))


def _selected(column: Column) -> str:
    name, fact = quoted(column.name), snowflake_fact(column.source_type)
    type = snowflake_type(column.source_type)
    if fact.json:
        return f"TO_JSON({name}::VARIANT)" if type.name == "MAP" else f"TO_JSON({name})"
    if fact.text:
        return {
            "GEOGRAPHY": f"ST_ASEWKT({name})",
            "GEOMETRY": f"ST_ASEWKT({name})",
            "VECTOR": f"TO_JSON({name}::ARRAY)",
        }.get(type.name, f"TO_VARCHAR({name})")
    if type.name != "TIME" and _has_fraction(type) and column.type.unit == "us":
        return f"DATE_TRUNC('MICROSECOND', {name})"
    return name
