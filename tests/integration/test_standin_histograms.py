"""Aggregated queries of keys: the stand-in counts, groups and orders them as Snowflake does."""

from __future__ import annotations

import datetime
import math
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import psutil
import pyarrow as pa
import pytest
import snowflake.connector
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from snowmelt.standin.server import StandIn, StandInColumn

Cursor = Any  # the connector has no types of its own
Rows = list[tuple[Any, ...]]

FORMAT = "'YYYY-MM-DD\"T\"HH24:MI:SS.FF9'"
TABLE = '"D"."S"."T"'


@pytest.fixture(scope="module")
def server() -> Iterator[StandIn]:
    with StandIn.start() as one:
        yield one


@pytest.fixture(scope="module")
def cursor(server: StandIn) -> Iterator[Cursor]:
    with (
        closing(snowflake.connector.connect(**server.login())) as connection,
        closing(connection.cursor()) as one,
    ):
        yield one


def ask(cursor: Cursor, statement: str) -> Rows:
    rows: Rows = cursor.execute(statement).fetchall()
    return [tuple(map(shown, row)) for row in rows]


def shown(value: object) -> object:
    return "NaN" if isinstance(value, float) and math.isnan(value) else value


def fill(server: StandIn, *columns: tuple[str, str, pa.Array]) -> None:
    """The table, of columns by name, type and values."""
    server.create_table(
        "D",
        "S",
        "T",
        [StandInColumn(name, kind) for name, kind, _ in columns],
        pa.table({name: values for name, _, values in columns}),
    )


def rank(value: Any) -> tuple[int, Any]:
    """Snowflake's order: NaN is greater than every number, NULL comes last."""
    if value is None:
        return 2, 0
    return (1, 0) if isinstance(value, float) and math.isnan(value) else (0, value)


# --- equal widths ---------------------------------------------------------------------------------

WIDTHS = """
WITH "snowmelt keys" AS (
    SELECT {key} AS "k1", "i" AS "k2" FROM {table} AT (TIMESTAMP => '{now}'::TIMESTAMP_TZ) WHERE ("i" >= 0)
), "snowmelt ends" AS (
    SELECT MIN("k1")::FLOAT AS "low", MAX("k1")::FLOAT AS "high" FROM "snowmelt keys"
)
SELECT MIN("k1"), MAX("k1"), COUNT(*), MIN("k1") = MAX("k1"), COUNT("k1") = 0
FROM "snowmelt keys" CROSS JOIN "snowmelt ends"
GROUP BY CASE
    WHEN "k1" IS NULL THEN NULL
    WHEN "high" > "low" THEN LEAST(GREATEST(
        FLOOR("k1"::FLOAT / (("high" - "low") / 100) - "low" / (("high" - "low") / 100)), 0), 100)
    ELSE 0
END
ORDER BY 1
"""


def widths(values: Sequence[Any]) -> Rows:
    """What the query above answers for keys that are numbers."""
    known = [one for one in values if one is not None]
    low, high = (float(pick(known, key=rank, default=0)) for pick in (min, max))
    groups: dict[object, list[Any]] = {}
    for one in known:
        bucket = 0.0
        if rank(high) > rank(low):
            width = (high - low) / 100
            place = float(one) / width - low / width
            bucket = float(math.floor(place)) if math.isfinite(place) else place
            bucket = min(max(bucket, 0.0, key=rank), 100.0, key=rank)
        groups.setdefault(bucket, []).append(one)
    rows = []
    for some in groups.values():
        least, most = min(some, key=rank), max(some, key=rank)
        rows.append((shown(least), shown(most), len(some), rank(least) == rank(most), False))
    rows.sort(key=lambda row: (row[0] == "NaN", 0 if row[0] == "NaN" else row[0]))
    missing = len(values) - len(known)
    return [*rows, *[(None, None, missing, None, True)] * bool(missing)]


def equal_widths(cursor: Cursor, key: str) -> Rows:
    now = datetime.datetime.now(datetime.UTC).isoformat()
    return ask(cursor, WIDTHS.format(key=key, table=TABLE, now=now))


WHOLE = st.integers(-(10**38) + 1, 10**38 - 1) | st.integers(-300, 300)


@settings(max_examples=15)
@given(values=st.lists(st.none() | WHOLE, max_size=60))
@example(values=[10**38 - 1, 1 - 10**38, 0])
def test_numbers_by_equal_widths(server: StandIn, cursor: Cursor, values: list[int | None]) -> None:
    fill_numbered(server, "NUMBER(38,0)", pa.array(values, pa.decimal128(38, 0)))
    assert equal_widths(cursor, '"k"') == widths(values)
    texts = pa.array([one if one is None else f" {one}e0 " for one in values], pa.string())
    fill_numbered(server, "VARCHAR", texts)
    assert equal_widths(cursor, 'TRY_TO_NUMBER("k", 38, 0)') == widths(values)


def fill_numbered(server: StandIn, kind: str, values: pa.Array) -> None:
    numbers = pa.array(range(len(values)), pa.int64())
    fill(server, ("k", kind, values), ("i", "NUMBER(38,0)", numbers))


SPECIAL = st.sampled_from([math.nan, math.inf, -math.inf, 0.5, -2.0, 1e300, 3.0])


@settings(max_examples=25)
@given(values=st.lists(st.none() | SPECIAL | st.floats(-1e3, 1e3), max_size=60))
@example(values=[math.nan, 1.0, 2.0])
@example(values=[math.inf, -math.inf, 1.0, math.nan])
@example(values=[math.nan, math.nan])
def test_floats_by_equal_widths(
    server: StandIn, cursor: Cursor, values: list[float | None]
) -> None:
    known = [one for one in values if one is not None]
    high, low = max(known, key=rank, default=0.0), min(known, key=rank, default=0.0)
    assume(rank(high) == rank(low) or (high - low) / 100 != 0)
    fill_numbered(server, "FLOAT", pa.array(values, pa.float64()))
    assert equal_widths(cursor, '"k"') == widths(values)


# --- equal depths ---------------------------------------------------------------------------------

DEPTHS = """
SELECT {least}, {most}, MIN("k2"), MAX("k2"), SUM("n") FROM (
    SELECT *,
        SUM("n") OVER (PARTITION BY "part", "k1") AS "n1",
        SUM("n") OVER (
            PARTITION BY "part" ORDER BY "k1" NULLS LAST
            RANGE BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW
        ) AS "upto1"
    FROM (
        SELECT {key} AS "k1", "i" AS "k2", COUNT(*) AS "n",
            CASE WHEN "k1" < {low} THEN 0 WHEN "k1" < {high} THEN 1 WHEN "k1" IS NOT NULL THEN 2 END
                AS "part"
        FROM {table} GROUP BY {grouping}
    )
)
GROUP BY "part", FLOOR(("upto1" - "n1") / {depth}), "n1" > {depth}
ORDER BY 3, 4, 5
"""


@dataclass(frozen=True)
class Kind:
    """A kind of key: four of its values as text, ascending, and what they are compared by."""

    type: str
    values: tuple[str, ...]
    order: Callable[[Any], Any]
    key: str = '"k"'
    shown: str = "{}"

    def literal(self, at: int) -> str:
        plain = self.type.partition(" ")[0]
        return f"'{self.values[at]}'::{plain}"


STAMPS = ("0001-01-01T00:00:00.000000001", *(f"2024-01-01T00:00:00.00000100{n}" for n in range(3)))
DEEP = (
    Kind("NUMBER(38,10)", ("-1.5", "0", "0.0000000001", "12345678901234567890.5"), Decimal),
    Kind("FLOAT", ("-inf", "0.5", "1e300", "NaN"), lambda value: rank(float(value))),
    Kind("BOOLEAN", ("false", "false", "true", "true"), lambda value: str(value).lower()),
    Kind("DATE", tuple(f"2024-01-0{n}" for n in range(1, 5)), str),
    Kind("VARCHAR", ("", "B", "a", "é"), str.encode),
    Kind("VARCHAR COLLATE 'en-ci'", ("a", "A", "b", "B"), str.lower),
    Kind("VARCHAR COLLATE 'en-ci'", ("A", "B", "a", "b"), str.encode, "COLLATE(\"k\", 'utf8')"),
    Kind("TIMESTAMP_NTZ(9)", STAMPS, str, shown=f"TO_VARCHAR({{}}, {FORMAT})"),
)


def depths(rows: Sequence[tuple[Any, int]], low: Any, high: Any, depth: int) -> Rows:
    """What the query above answers for rows of keys, as they are compared, and numbers."""

    def part(key: Any) -> int | None:
        return None if key is None else 0 if key < low else 1 if key < high else 2

    groups: dict[object, list[tuple[Any, int]]] = {}
    for key, number in rows:
        peers = sum(other == key for other, _ in rows)
        before = sum(part(other) == part(key) and rank(other) < rank(key) for other, _ in rows)
        groups.setdefault((part(key), before // depth, peers > depth), []).append((key, number))
    answers: Rows = []
    for some in groups.values():
        keys, numbers = [key for key, _ in some], [number for _, number in some]
        ends = (min(keys, key=rank), max(keys, key=rank), min(numbers), max(numbers))
        answers.append((*ends, len(some)))
    return sorted(answers, key=lambda row: row[2:])


@pytest.mark.parametrize("kind", DEEP, ids=lambda kind: f"{kind.type} as {kind.key}")
@settings(max_examples=12)
@given(
    places=st.lists(st.none() | st.integers(0, 3), max_size=60),
    depth=st.integers(1, 20),
    grouping=st.sampled_from(["ALL", "1, 2, 4", '"k1", "k2", "part"']),
)
def test_keys_by_equal_depths(
    server: StandIn,
    cursor: Cursor,
    kind: Kind,
    places: list[int | None],
    depth: int,
    grouping: str,
) -> None:
    texts = [None if at is None else kind.values[at] for at in places]
    fill_numbered(server, kind.type, pa.array(texts, pa.string()))
    query = DEPTHS.format(
        least=kind.shown.format('MIN("k1")'),
        most=kind.shown.format('MAX("k1")'),
        key=kind.key,
        low=kind.literal(1),
        high=kind.literal(2),
        table=TABLE,
        grouping=grouping,
        depth=depth,
    )
    compared = [None if one is None else kind.order(one) for one in texts]
    low, high = kind.order(kind.values[1]), kind.order(kind.values[2])
    expected = depths([(key, at) for at, key in enumerate(compared)], low, high, depth)
    assert [
        (*(None if end is None else kind.order(end) for end in row[:2]), *row[2:])
        for row in ask(cursor, query)
    ] == expected


# --- what is told of tables -----------------------------------------------------------------------


def facts(cursor: Cursor, schema: str) -> dict[str, tuple[Any, ...]]:
    """Clustering key, rows and bytes of each table and view."""
    query = (
        'SELECT table_name, clustering_key, row_count, bytes FROM "D".INFORMATION_SCHEMA.TABLES'
        f" WHERE table_schema = '{schema}'"
    )
    return {name: tuple(others) for name, *others in ask(cursor, query)}


def test_rows_and_bytes(server: StandIn, cursor: Cursor) -> None:
    for name, rows in (("small", 10), ("large", 5_000), ("empty", 0)):
        columns = [StandInColumn("a", "NUMBER(38,0)"), StandInColumn("b", "VARCHAR")]
        query = f"SELECT i, 'x' FROM range({rows}) r(i)"
        server.create_table("D", "SIZES", name, columns, query=query)
    ask(cursor, 'CREATE VIEW "D"."SIZES"."view" AS SELECT * FROM "D"."SIZES"."large"')
    found = facts(cursor, "SIZES")
    assert {name: rows for name, (_, rows, _) in found.items()} == {
        "small": 10,
        "large": 5_000,
        "empty": 0,
        "view": None,
    }
    assert found["empty"][2] == 0 < found["small"][2] < found["large"][2]
    assert found["view"][2] is None
    ask(cursor, 'DELETE FROM "D"."SIZES"."large" WHERE "a" % 2 = 0')
    assert facts(cursor, "SIZES")["large"][1] == 2_500


def test_clustering_keys(server: StandIn, cursor: Cursor) -> None:
    server.execute('CREATE SCHEMA "D"."KEYS"')
    table = '"D"."KEYS"."t"'
    ask(
        cursor, f'CREATE TABLE {table} ("day" DATE, "id" INT, N TIMESTAMP) CLUSTER BY ("day", "id")'
    )
    assert facts(cursor, "KEYS")["t"][0] == 'LINEAR("day", "id")'
    ask(cursor, f'ALTER TABLE {table} CLUSTER BY (TO_DATE(n), "id")')
    assert facts(cursor, "KEYS")["t"][0] == 'LINEAR(TO_DATE(N), "id")'
    ask(cursor, f'CREATE TABLE "D"."KEYS"."clone" CLONE {table}')
    assert facts(cursor, "KEYS")["clone"][0] == 'LINEAR(TO_DATE(N), "id")'
    cursor.execute('SHOW TABLES IN SCHEMA "D"."KEYS"')
    at = [one.name for one in cursor.description].index("cluster_by")
    assert {row[at] for row in cursor.fetchall()} == {'LINEAR(TO_DATE(N), "id")'}
    ask(cursor, f"ALTER TABLE {table} DROP CLUSTERING KEY")
    assert facts(cursor, "KEYS")["t"][0] is None


# --- what is counted, and how long it takes -------------------------------------------------------


def test_statements_are_listed_as_they_came(server: StandIn, cursor: Cursor) -> None:
    fill_numbered(server, "DATE", pa.array(["2024-01-01", None], pa.string()))
    first, second = (f"SELECT COUNT(*), {n} FROM {TABLE}" for n in range(2))
    ask(cursor, first)
    server.reset_stats()
    for statement in (second, first, second):
        ask(cursor, statement)
    assert Counter(server.stats().statements) == {second: 2, first: 1}


def test_many_groups_are_answered_within_seconds(server: StandIn, cursor: Cursor) -> None:
    groups = 400_000
    server.create_table(
        "D",
        "S",
        "T",
        [StandInColumn("k", "NUMBER(38,0)")],
        query=f"SELECT i // 3 FROM range({3 * groups}) r(i)",
    )
    query = (
        'SELECT TO_VARCHAR(MIN("k")), TO_VARCHAR(MAX("k")), COUNT(*), MIN("k") = MAX("k"),'
        f' COUNT("k") = 0 FROM {TABLE} GROUP BY FLOOR("k" / 1) ORDER BY 1'
    )
    process = psutil.Process(server.pid)
    before = sum(process.cpu_times()[:2])
    cursor.execute(query)
    rows = sum(batch.to_arrow().num_rows for batch in cursor.get_result_batches())
    assert rows == groups
    assert (
        sum(process.cpu_times()[:2]) - before < 5
    )  # seconds of work, whatever else the machine does
