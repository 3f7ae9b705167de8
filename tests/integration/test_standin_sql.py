"""The stand-in's SQL: time travel, what is told of tables, changes, and Snowflake's own functions."""

from __future__ import annotations

import datetime
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import pyarrow as pa
import pytest
import snowflake.connector
from snowflake.connector.errors import ProgrammingError

from snowmelt.standin.server import StandIn, StandInColumn

Cursor = Any  # the connector has no types of its own


@pytest.fixture(scope="module")
def server() -> Iterator[StandIn]:
    with StandIn.start(rows_per_chunk=1_000) as one:
        one.execute("CREATE DATABASE D")
        yield one


@pytest.fixture
def cursor(server: StandIn) -> Iterator[Cursor]:
    """A cursor in a schema of the test's own."""
    with (
        closing(snowflake.connector.connect(**server.login())) as connection,
        closing(connection.cursor()) as one,
    ):
        one.execute(f'CREATE SCHEMA D."s {time.time_ns()}"')
        yield one


def ask(cursor: Cursor, statement: str) -> list[tuple[Any, ...]]:
    rows: list[tuple[Any, ...]] = cursor.execute(statement).fetchall()
    return rows


def now(cursor: Cursor) -> str:
    ((moment,),) = ask(cursor, "SELECT CURRENT_TIMESTAMP()")
    assert isinstance(moment, datetime.datetime)
    return f"AT (TIMESTAMP => '{moment.isoformat()}'::TIMESTAMP_TZ)"


def refused(cursor: Cursor, statement: str) -> tuple[int, str]:
    with pytest.raises(ProgrammingError) as error:
        cursor.execute(statement)
    return error.value.errno, error.value.sqlstate


# --- time travel ----------------------------------------------------------------------------------


def test_a_table_is_read_as_it_was(cursor: Cursor) -> None:
    before = now(cursor)
    ask(cursor, "CREATE TABLE t (a INT, z TIMESTAMP_TZ)")
    empty = now(cursor)
    ask(cursor, "INSERT INTO t VALUES (1, '2024-01-01 00:00:00.000000007 +05:30'), (2, NULL)")
    two = now(cursor)
    ask(cursor, "UPDATE t SET a = a + 10")
    ask(cursor, "DELETE FROM t WHERE a = 12")
    ask(cursor, "ALTER TABLE t ADD COLUMN b VARCHAR")
    one = now(cursor)
    ask(cursor, "TRUNCATE TABLE t")
    ask(cursor, "CREATE VIEW v AS SELECT a + 1 AS a, z FROM t")
    assert refused(cursor, f"SELECT * FROM t {before}") == (707, "02000")
    assert ask(cursor, f"SELECT COUNT(*) FROM t {empty}") == [(0,)]
    assert ask(cursor, f"SELECT a, b FROM t {two} ORDER BY a") == [(1, None), (2, None)]
    assert ask(cursor, f"SELECT a FROM t {one} AS x WHERE x.a > 0") == [(11,)]
    assert ask(cursor, f"SELECT a, DATE_PART(NANOSECOND, z) FROM v {two} ORDER BY a") == [
        (2, 7),
        (3, None),
    ]
    assert ask(cursor, "SELECT COUNT(*) FROM v") == [(0,)]
    ask(cursor, f"CREATE TRANSIENT TABLE IF NOT EXISTS c CLONE t {two}")
    assert ask(cursor, "SELECT a, b, DATE_PART(NANOSECOND, z) FROM c ORDER BY a") == [
        (1, None, 7),
        (2, None, None),
    ]
    ask(cursor, "CREATE OR REPLACE TABLE t (a INT)")
    assert refused(cursor, f"SELECT * FROM t {two}") == (707, "02000")


def test_a_transaction_is_history_from_its_commit_on(server: StandIn, cursor: Cursor) -> None:
    ask(cursor, "CREATE TABLE t (a INT)")
    ((database, schema),) = ask(cursor, "SELECT CURRENT_DATABASE(), CURRENT_SCHEMA()")
    ask(cursor, "BEGIN")
    ask(cursor, "INSERT INTO t VALUES (1)")
    open_ = now(cursor)
    assert server.execute(f"SELECT COUNT(*) FROM t {open_}", database, schema) == [(0,)]
    ask(cursor, "COMMIT")
    assert ask(cursor, f"SELECT COUNT(*) FROM t {open_}") == [(0,)]
    assert ask(cursor, f"SELECT COUNT(*) FROM t {now(cursor)}") == [(1,)]
    ask(cursor, "BEGIN")
    ask(cursor, "DELETE FROM t")
    ask(cursor, "ROLLBACK")
    assert ask(cursor, "SELECT COUNT(*) FROM t") == [(1,)]


def test_history_ends_when_it_is_forgotten(server: StandIn, cursor: Cursor) -> None:
    columns = [StandInColumn("a", "NUMBER(10,0)")]
    for name, days in (("kept", 1), ("none", 0)):
        server.create_table("D", "H", name, columns, pa.table({"a": [1]}), retention_days=days)
        moment = now(cursor)
        assert ask(cursor, f'SELECT * FROM D.H."{name}" {moment}') == [(1,)]
        ask(cursor, f'DELETE FROM D.H."{name}"')
        if days:
            assert ask(cursor, f'SELECT * FROM D.H."{name}" {moment}') == [(1,)]
            server.forget_history("D", "H", name)
        assert refused(cursor, f'SELECT * FROM D.H."{name}" {moment}') == (707, "02000")


def test_a_read_as_of_a_moment_is_whole_while_the_table_changes(
    server: StandIn, cursor: Cursor
) -> None:
    rows = pa.table({"a": range(20_000)})
    server.create_table("D", "H", "BUSY", [StandInColumn("A", "NUMBER(38,0)")], rows)
    moment = now(cursor)
    stop = threading.Event()

    def change() -> None:
        with (
            closing(snowflake.connector.connect(**server.login())) as connection,
            closing(connection.cursor()) as other,
        ):
            while not stop.is_set():
                other.execute("UPDATE D.H.BUSY SET a = a + 1")

    thread = threading.Thread(target=change)
    thread.start()
    try:
        for _ in range(20):
            found = ask(cursor, f"SELECT COUNT(*), SUM(a) FROM D.H.BUSY {moment}")
            assert found == [(20_000, 199_990_000)]
    finally:
        stop.set()
        thread.join()


# --- what is told of tables -----------------------------------------------------------------------

ODD = ('d "1"', "S é", 'a "b" SELECT')
ODD_SQL = '"d ""1"""."S é"."a ""b"" SELECT"'


def test_odd_names_and_what_is_told_of_a_table(server: StandIn, cursor: Cursor) -> None:
    columns = [
        StandInColumn('k "1"', "NUMBER(10,2)", nullable=False),
        StandInColumn("order", "TIMESTAMP_LTZ(3)", masking_policy="mask"),
        StandInColumn("select", "VARCHAR(20)"),
    ]
    server.create_table(*ODD, columns, primary_key=['k "1"'], retention_days=0, transient=True)
    server.set_policies(*ODD, [("ROW_ACCESS_POLICY", "rows", None)])
    described = ask(cursor, f"DESCRIBE TABLE {ODD_SQL}")
    assert [row[:6] for row in described] == [
        ('k "1"', "NUMBER(10,2)", "COLUMN", "N", None, "Y"),
        ("order", "TIMESTAMP_LTZ(3)", "COLUMN", "Y", None, "N"),
        ("select", "VARCHAR(20)", "COLUMN", "Y", None, "N"),
    ]
    assert [one.name for one in cursor.description][-2:] == ["policy name", "privacy domain"]
    assert described[1][10] == "mask"
    keys = ask(cursor, f"SHOW PRIMARY KEYS IN TABLE {ODD_SQL}")
    assert [row[1:6] for row in keys] == [(*ODD, 'k "1"', "1")]
    assert ask(
        cursor,
        "SELECT table_type, is_transient, retention_time, clustering_key, row_count"
        ' FROM "d ""1""".INFORMATION_SCHEMA.TABLES'
        " WHERE table_schema = 'S é' AND table_name = 'a \"b\" SELECT'",
    ) == [("BASE TABLE", "YES", 0, None, 0)]
    references = ask(
        cursor,
        "SELECT policy_db, policy_schema, policy_name, policy_kind, ref_column_name, policy_status"
        ' FROM TABLE("d ""1""".INFORMATION_SCHEMA.POLICY_REFERENCES('
        f"REF_ENTITY_NAME => '{ODD_SQL}', REF_ENTITY_DOMAIN => 'TABLE'))",
    )
    assert [row[2:] for row in references] == [
        ("rows", "ROW_ACCESS_POLICY", None, "ACTIVE"),
        ("mask", "MASKING_POLICY", "order", "ACTIVE"),
    ]
    ask(cursor, f"INSERT INTO {ODD_SQL} VALUES (1.5, '2024-01-01 00:00:00.1239 +01:00', 'x')")
    moment = now(cursor)
    found = ask(
        cursor, f'SELECT "k ""1""", "select" FROM {ODD_SQL} {moment} WHERE "order" IS NOT NULL'
    )
    assert [(str(a), b) for a, b in found] == [("1.50", "x")]
    copy = '"d ""1"""."S é"."copy"'
    ask(cursor, f"CREATE TABLE {copy} CLONE {ODD_SQL}")
    assert ask(cursor, f'SELECT DATE_PART(NANOSECOND, "order") FROM {copy}') == [(123_000_000,)]
    ask(cursor, f"DROP TABLE IF EXISTS {copy}")
    ask(cursor, f"DROP TABLE IF EXISTS {copy}")
    assert refused(cursor, f"SELECT * FROM {copy}") == (2003, "42S02")


def test_names_are_case_sensitive(cursor: Cursor) -> None:
    ask(cursor, 'CREATE TABLE "t" ("a" INT)')
    assert ask(cursor, 'SELECT "a" FROM "t"') == []
    assert refused(cursor, 'SELECT "A" FROM "t"') == (904, "42000")
    assert refused(cursor, 'SELECT "a" FROM T') == (2003, "42S02")
    assert refused(cursor, "SELECT FROM WHERE") == (1003, "42000")


def test_information_schema_and_show(cursor: Cursor) -> None:
    ask(cursor, "CREATE TABLE t1 (a INT NOT NULL, b NUMBER(5,2), c VARCHAR(7), PRIMARY KEY (a))")
    ask(cursor, "CREATE VIEW v1 AS SELECT * FROM t1")
    ((schema,),) = ask(cursor, "SELECT CURRENT_SCHEMA()")
    where = f"WHERE table_schema = '{schema}'"
    assert ask(
        cursor, f"SELECT table_name, table_type FROM information_schema.tables {where} ORDER BY 1"
    ) == [("T1", "BASE TABLE"), ("V1", "VIEW")]
    assert ask(
        cursor,
        "SELECT column_name, data_type, numeric_precision, numeric_scale, is_nullable"
        f" FROM information_schema.columns {where} AND table_name = 'T1' ORDER BY ordinal_position",
    ) == [
        ("A", "NUMBER", 38, 0, "NO"),
        ("B", "NUMBER", 5, 2, "YES"),
        ("C", "TEXT", None, None, "YES"),
    ]
    shown = ask(cursor, "SHOW TABLES LIKE 't%'")
    assert [row[1] for row in shown] == ["T1"]
    assert [row[2] for row in ask(cursor, "SHOW COLUMNS IN TABLE t1")] == ["A", "B", "C"]
    assert [row[4] for row in ask(cursor, f'SHOW PRIMARY KEYS IN SCHEMA D."{schema}"')] == ["A"]
    assert schema in [row[1] for row in ask(cursor, "SHOW SCHEMAS IN DATABASE D")]
    assert [row[1] for row in ask(cursor, "DESC VIEW v1")] == [
        "NUMBER(38,0)",
        "NUMBER(5,2)",
        "VARCHAR(7)",
    ]


# --- changes --------------------------------------------------------------------------------------

ZONED = "'2024-01-01 00:00:00.123456789 +05:30'"
SHOWN = "2024-01-01 00:00:00.123456789 +05:30"
FULL = "TO_VARCHAR(z, 'YYYY-MM-DD HH24:MI:SS.FF9 TZH:TZM')"


def test_nanoseconds_and_offsets_pass_through_every_kind_of_change(cursor: Cursor) -> None:
    ask(cursor, "CREATE TABLE t (a INT, z TIMESTAMP_TZ(9), n TIMESTAMP_NTZ(9))")
    ask(cursor, f"INSERT INTO t SELECT 1, {ZONED}, '1969-12-31 23:59:59.999999999'")
    ask(cursor, f"INSERT INTO t (z, a) VALUES ({ZONED}, 2)")
    ask(cursor, "INSERT INTO t SELECT a + 2, z, n FROM t")
    assert ask(cursor, f"SELECT a, {FULL} FROM t ORDER BY a") == [
        (number, SHOWN) for number in (1, 2, 3, 4)
    ]
    ask(cursor, "CREATE TABLE u AS SELECT z, a FROM t UNION ALL SELECT NULL, 9")
    ask(cursor, f"UPDATE u SET z = {ZONED}::TIMESTAMP_TZ WHERE a = 9")
    merged = ask(
        cursor,
        "MERGE INTO t USING (SELECT * FROM u) AS s ON t.a = s.a"
        " WHEN MATCHED AND t.a = 1 THEN DELETE"
        " WHEN MATCHED THEN UPDATE SET z = DATEADD(YEAR, 0, s.z)"
        " WHEN NOT MATCHED THEN INSERT (a, z) VALUES (s.a, s.z)",
    )
    assert merged == [(1, 3, 1)]
    assert ask(cursor, f"SELECT {FULL} FROM t WHERE a = 9") == [(SHOWN,)]
    with_view = f"WITH w AS (SELECT z AS y FROM (SELECT * FROM u)) SELECT {FULL.replace('z', 'y', 1)} FROM w"
    assert ask(cursor, with_view) == [(SHOWN,)] * 5
    ask(cursor, "ALTER TABLE u DROP COLUMN a")
    ask(cursor, "ALTER TABLE u RENAME COLUMN z TO y")
    assert ask(cursor, "SELECT * FROM u") != []
    assert [row[0] for row in ask(cursor, "DESC TABLE u")] == ["Y"]
    assert ask(cursor, "SELECT DATE_PART(NANOSECOND, n) FROM t WHERE a = 3") == [(999_999_999,)]
    assert ask(cursor, "DELETE FROM t USING u WHERE t.z = u.y") == [(4,)]


def test_bound_values(cursor: Cursor) -> None:
    ask(cursor, "CREATE TABLE t (a INT, b VARCHAR, c TIMESTAMP_NTZ, d BINARY)")
    moment = datetime.datetime(2024, 1, 2, 3, 4, 5, 678901)
    cursor.execute("INSERT INTO t VALUES (%s, %s, %s, %s)", (1, "it's", moment, b"\x00\xff"))
    cursor.executemany("INSERT INTO t (a, b) VALUES (%s, %s)", [(2, "x"), (3, None)])
    assert ask(cursor, "SELECT * FROM t ORDER BY a") == [
        (1, "it's", moment, bytearray(b"\x00\xff")),
        (2, "x", None, None),
        (3, None, None, None),
    ]


# --- functions ------------------------------------------------------------------------------------


@pytest.fixture
def filled(cursor: Cursor) -> Cursor:
    """A table whose instants lie on other days at UTC than by their own clocks."""
    ask(cursor, "CREATE TABLE t (k TIMESTAMP_TZ, n TIMESTAMP_NTZ, l TIMESTAMP_LTZ, v VARIANT)")
    ask(
        cursor,
        "INSERT INTO t SELECT column1, column2, column1, PARSE_JSON(column3) FROM VALUES"
        " ('2024-01-01 01:00:00.000000001 +05:30', '2024-01-01 00:00:00.000000001', '{\"a\":1}'),"
        " ('2024-01-01 23:00:00 -02:00', '2024-01-01 00:00:00', '[1]'), (NULL, NULL, NULL)",
    )
    return cursor


def test_days_are_by_the_offset_unless_converted(filled: Cursor) -> None:
    by_day = "SELECT {} AS d, COUNT(*) FROM t GROUP BY 1 ORDER BY 1"
    first, second = datetime.date(2024, 1, 1), datetime.date(2024, 1, 2)
    before = datetime.date(2023, 12, 31)
    utc = by_day.format("TO_DATE(CONVERT_TIMEZONE('UTC', k))")
    assert ask(filled, utc) == [(before, 1), (second, 1), (None, 1)]
    assert ask(filled, by_day.format("TO_DATE(k)")) == [(first, 2), (None, 1)]
    assert ask(filled, by_day.format("TO_DATE(n)")) == [(first, 2), (None, 1)]
    assert ask(filled, "SELECT YEAR(MIN(k)), YEAR(MAX(k)) FROM t") == [(2024, 2024)]


def test_comparisons_are_exact_to_the_nanosecond(filled: Cursor) -> None:
    count = "SELECT COUNT(*) FROM t WHERE {}"
    midnight = "'2024-01-01T00:00:00'::TIMESTAMP_NTZ"
    for condition, rows in {
        f"n >= {midnight}": 2,
        f"n > {midnight}": 1,
        f"n = {midnight}": 1,
        f"n <= {midnight}": 1,
        f"n < {midnight}": 0,
        f"n <> {midnight}": 1,
        "k < '2023-12-31T19:30:00+00:00'::TIMESTAMP_TZ": 0,
        "k < '2023-12-31T19:30:00.000001+00:00'::TIMESTAMP_TZ": 1,
        "l >= '2024-01-02T01:00:00+00:00'::TIMESTAMP_LTZ": 1,
        "k IS NULL": 1,
        "MOD(DATE_PART(NANOSECOND, n), 1000) <> 0": 1,
        "DATE_TRUNC('MICROSECOND', n) = n": 1,
        "k >= '2024-01-01'::DATE AND (v IS NOT NULL)": 1,
    }.items():
        assert ask(filled, count.format(condition)) == [(rows,)], condition


def test_values_as_text(filled: Cursor) -> None:
    query = "SELECT TO_JSON(v), DATE_TRUNC('MICROSECOND', k), TO_VARCHAR(n), n FROM t"
    rows = ask(filled, f"{query} ORDER BY n DESC NULLS LAST")
    assert [row[0] for row in rows] == ['{"a":1}', "[1]", None]
    assert rows[0][1].utcoffset() == datetime.timedelta(hours=5, minutes=30)
    assert rows[0][2] == "2024-01-01 00:00:00.000"
    names = [one.name for one in filled.description]
    assert names[-1] == "N"


def test_numbers_stay_exact(cursor: Cursor) -> None:
    big = "9" * 38
    ask(cursor, "CREATE TABLE t (a NUMBER(38,0), b NUMBER(18,4))")
    ask(cursor, f"INSERT INTO t VALUES ({big}, 0.1), (-{big}, 0.2)")
    query = "SELECT MIN(a), MAX(a), SUM(b), COUNT(DISTINCT a) FROM t"
    ((low, high, total, count),) = ask(cursor, query)
    assert (low, high, str(total), count) == (-int(big), int(big), "0.3000", 2)
    assert [(one.precision, one.scale) for one in cursor.description][:3] == [
        (38, 0),
        (38, 0),
        (38, 4),
    ]


def test_joins_and_subqueries(filled: Cursor) -> None:
    assert ask(
        filled,
        "SELECT COUNT(*), COUNT(b.n) FROM t a LEFT JOIN t b ON a.n = b.n"
        " WHERE EXISTS (SELECT 1 FROM t c WHERE c.k = a.k) OR a.k IN (SELECT k FROM t)",
    ) == [(2, 2)]
    recursive = (
        "WITH r AS (SELECT 1 AS n UNION ALL SELECT n + 1 FROM r WHERE n < 3) SELECT * FROM r"
    )
    assert ask(filled, recursive) == [(1,), (2,), (3,)]
    assert ask(filled, "SELECT COUNT(*) FROM (SELECT DISTINCT n FROM t)") == [(3,)]
    assert ask(
        filled, "SELECT MAX(x) FROM (SELECT ROW_NUMBER() OVER (ORDER BY n) AS x FROM t)"
    ) == [(3,)]


def test_a_large_table_is_made_by_a_query(server: StandIn, cursor: Cursor) -> None:
    query = "SELECT i, make_timestamp(i * 1000000), 'x' || i FROM range(300000) r(i)"
    columns = [
        StandInColumn("i", "NUMBER(38,0)"),
        StandInColumn("z", "TIMESTAMP_TZ(9)"),
        StandInColumn("t", "VARCHAR(100)"),
    ]
    server.create_table("D", "H", "LARGE", columns, query=query)
    found = ask(cursor, 'SELECT COUNT(*), SUM("i"), MAX("z") FROM D.H.LARGE')
    last = datetime.datetime.fromtimestamp(299_999, datetime.UTC)
    assert [row[:2] for row in found] == [(300_000, 300_000 * 299_999 // 2)]
    assert found[0][2] == last
    with pytest.raises(ValueError, match="columns given"):
        server.create_table("D", "H", "LARGE", columns, query="SELECT 1")
