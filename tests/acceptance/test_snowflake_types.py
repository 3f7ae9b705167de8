"""Every type of Snowflake, with the values at its edges: PostgreSQL holds exactly what the source holds."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from decimal import Decimal
from pathlib import Path

import pytest

from snowmelt.standin.server import StandIn
from tests.acceptance.snowflake import DATABASE, SCHEMA, snowflake_config, table_of
from tests.support import Database, snowmelt

N38 = Decimal("9" * 38)
MINUS_N38 = Decimal("-" + "9" * 38)
EMOJI = "Ünïcode 🙂 👩‍👩‍👧 日本語 עברית"
TEXTS = [
    None,
    "",
    " ",
    "NULL",
    "\\N",
    "\\.",
    "two\nlines\r\n",
    'say "hi", it\'s',
    EMOJI,
    "x" * 70_000,
]

# column -> (Snowflake's type, PostgreSQL's, source values, PostgreSQL's text of them)
Case = tuple[str, str, Sequence[object], Sequence[str | None]]
TIMES_9 = {
    # text in the source -> to the microsecond, by floor
    "0001-01-01 00:00:00.000000001": "0001-01-01 00:00:00",
    "1677-09-20 23:59:59.999999999": "1677-09-20 23:59:59.999999",
    "1969-12-31 23:59:59.999999999": "1969-12-31 23:59:59.999999",
    "1969-12-31 23:59:59.999999000": "1969-12-31 23:59:59.999999",
    "1970-01-01 00:00:00.000000999": "1970-01-01 00:00:00",
    "2262-04-12 00:00:00.123456789": "2262-04-12 00:00:00.123456",
    "9999-12-31 23:59:59.999999999": "9999-12-31 23:59:59.999999",
}
NANOSECOND_YEARS = {
    "1700-02-28 12:00:00.000000001": "1700-02-28 12:00:00",
    "1969-12-31 23:59:59.999999999": "1969-12-31 23:59:59.999999",
    "2024-02-29 12:34:56.123456": "2024-02-29 12:34:56.123456",
    "2261-12-31 23:59:59.999999999": "2261-12-31 23:59:59.999999",
}
ZONES = {
    # A zone for each row: the instant goes over.
    "0001-01-01 05:30:00.000000001 +05:30": "0001-01-01 00:00:00+00",
    "1969-12-31 18:59:59.999999999 -05:00": "1969-12-31 23:59:59.999999+00",
    "2024-01-01 00:00:00.000000 +14:00": "2023-12-31 10:00:00+00",
    "2024-01-01 00:00:00.000000 -12:00": "2024-01-01 12:00:00+00",
    "2024-06-30 23:59:59.123456789 +02:00": "2024-06-30 21:59:59.123456+00",
    "9999-12-31 23:59:59.999999 +00:00": "9999-12-31 23:59:59.999999+00",
}
CASES: dict[str, Case] = {
    "small": ("NUMBER(4,0)", "smallint", [-9999, 0, 9999], ["-9999", "0", "9999"]),
    "whole": ("NUMBER(9,0)", "integer", [-999999999, 999999999], ["-999999999", "999999999"]),
    "long": ("NUMBER(18,0)", "bigint", [-(10**18) + 1, 10**18 - 1], [str(-(10**18) + 1), str(10**18 - 1)]),
    "default that fits": (
        "NUMBER(38,0)",
        "bigint",
        [-(2**63), 2**63 - 1, 0],
        [str(-(2**63)), str(2**63 - 1), "0"],
    ),
    "default beyond": (
        "NUMBER(38,0)",
        "numeric(38,0)",
        [Decimal(2**63), N38, MINUS_N38, Decimal(1)],
        [str(2**63), str(N38), str(MINUS_N38), "1"],
    ),
    "money": (
        "NUMBER(18,4)",
        "numeric(18,4)",
        [Decimal("-99999999999999.9999"), Decimal("0.0001"), Decimal("12.5000")],
        ["-99999999999999.9999", "0.0001", "12.5000"],
    ),
    "all behind": (
        "NUMBER(38,37)",
        "numeric(38,37)",
        [Decimal("9." + "9" * 37), Decimal("-1E-37")],
        ["9." + "9" * 37, "-0.0000000000000000000000000000000000001"],
    ),
    "float": (
        "FLOAT",
        "double precision",
        [float("nan"), float("inf"), float("-inf"), -0.0, 5e-324, 1.7976931348623157e308, 0.1],
        ["NaN", "Infinity", "-Infinity", "-0", "5e-324", "1.7976931348623157e+308", "0.1"],
    ),
    "text": ("VARCHAR(16777216)", "text", TEXTS, TEXTS),
    "flag": ("BOOLEAN", "boolean", [True, False, None], ["t", "f", None]),
    "day": (
        "DATE",
        "date",
        ["0001-01-01", "1582-10-15", "1969-12-31", "9999-12-31"],
        ["0001-01-01", "1582-10-15", "1969-12-31", "9999-12-31"],
    ),
    "hour": (
        "TIME(9)",
        "time without time zone",
        ["00:00:00", "23:59:59.999999999", "12:00:00.000001"],
        ["00:00:00", "23:59:59.999999", "12:00:00.000001"],
    ),
    "hour 0": ("TIME(0)", "time without time zone", ["23:59:59"], ["23:59:59"]),
    "ntz": ("TIMESTAMP_NTZ(9)", "timestamp without time zone", list(TIMES_9), list(TIMES_9.values())),
    "ntz near": (
        "TIMESTAMP_NTZ(9)",
        "timestamp without time zone",
        list(NANOSECOND_YEARS),
        list(NANOSECOND_YEARS.values()),
    ),
    "ntz 3": (
        "TIMESTAMP_NTZ(3)",
        "timestamp without time zone",
        ["0001-01-01 00:00:00.001", "9999-12-31 23:59:59.999", "1969-12-31 23:59:59.999"],
        ["0001-01-01 00:00:00.001", "9999-12-31 23:59:59.999", "1969-12-31 23:59:59.999"],
    ),
    "ltz": (
        "TIMESTAMP_LTZ(9)",
        "timestamp with time zone",
        [f"{text} +00:00" for text in TIMES_9],
        [f"{text}+00" for text in TIMES_9.values()],
    ),
    "tz": ("TIMESTAMP_TZ(9)", "timestamp with time zone", list(ZONES), list(ZONES.values())),
    "tz 3": (
        "TIMESTAMP_TZ(3)",
        "timestamp with time zone",
        ["1969-12-31 18:59:59.999 -05:00", "2024-01-01 05:45:00.000 +05:45"],
        ["1969-12-31 23:59:59.999+00", "2024-01-01 00:00:00+00"],
    ),
    "bytes": ("BINARY(8388608)", "bytea", [b"", b"\0\xff'\\", None], ["\\x", "\\x00ff275c", None]),
    "variant": (
        "VARIANT",
        "jsonb",
        ['{"b": 1.50, "a": [1, null]}', '"🙂"', "null", "12345678901234567890.5", None],
        ['{"a": [1, null], "b": 1.50}', '"🙂"', "null", "12345678901234567890.5", None],
    ),
    "object": ("OBJECT", "jsonb", ['{"k": "v"}', "{}"], ['{"k": "v"}', "{}"]),
    "array": ("ARRAY", "jsonb", ["[]", '[1, "a", {"x": []}]'], ["[]", '[1, "a", {"x": []}]']),
}  # fmt: skip
FLOORED = 1 + 6 + 6 + 3 + 3  # TIME, both far NTZ and LTZ, the near NTZ, TZ


@pytest.fixture(scope="module", params=[False, True], ids=["structs", "integers"])
def standin(request: pytest.FixtureRequest) -> Iterator[StandIn]:
    """Small results, so that each has several batches; nanoseconds in either of the two forms that they have."""
    with StandIn.start(rows_per_chunk=3, inline_rows=2, compact=request.param) as server:
        yield server


def _columns() -> dict[str, tuple[str, list[object]]]:
    rows = max(len(values) for _, _, values, _ in CASES.values())
    columns: dict[str, tuple[str, list[object]]] = {"n": ("NUMBER(38,0)", list(range(rows)))}
    for name, (type, _, values, _) in CASES.items():
        columns[name] = (type, [*values, *[None] * (rows - len(values))])
    return columns


@pytest.mark.parametrize("extraction", ["query_per_chunk", "one_query"])
def test_every_type_arrives_exactly(
    standin: StandIn, database: Database, tmp_path: Path, extraction: str
) -> None:
    columns = _columns()
    declared, rows = table_of(columns)
    standin.create_table(DATABASE, SCHEMA, "EDGES", declared, rows, primary_key=["n"])
    config = snowflake_config(
        tmp_path, database, standin, {"source": "EDGES"}, extraction=extraction
    )

    ended = snowmelt(config, "migrate", "--json")

    assert ended.returncode == 0, ended.stderr
    types = dict(
        database.execute(
            "SELECT attname::text, format_type(atttypid, atttypmod) FROM pg_attribute "
            "WHERE attrelid = '\"EDGES\"'::regclass AND attnum > 0"
        )
    )
    assert types == {"n": "bigint", **{name: type for name, (_, type, _, _) in CASES.items()}}
    for name, (_, _, values, texts) in CASES.items():
        found = _texts(database, name)
        assert found[: len(values)] == list(texts), name
        assert found[len(values) :] == [None] * (len(found) - len(values))
    keys = database.execute(
        "SELECT pg_get_constraintdef(oid) FROM pg_constraint "
        "WHERE contype = 'p' AND conrelid = '\"EDGES\"'::regclass"
    )
    assert keys == [("PRIMARY KEY (n)",)]
    (table,) = json.loads(ended.stdout)["tables"]
    assert table["rows"] == len(rows)
    assert table["floored"] == FLOORED


def _texts(database: Database, column: str) -> list[str | None]:
    with database.connect() as connection:
        connection.execute("SET TimeZone = 'UTC'")
        found = connection.execute(f'SELECT "{column}"::text FROM "EDGES" ORDER BY n').fetchall()
    # boolean::text is true or false, and of a document's numbers jsonb keeps the digits
    return [{"true": "t", "false": "f"}.get(text, text) for (text,) in found]


def test_a_value_beyond_the_target_is_named_with_column_and_key(
    standin: StandIn, database: Database, tmp_path: Path
) -> None:
    declared, rows = table_of(
        {"id": ("NUMBER(38,0)", [1, 2, 3]), "n": ("NUMBER(38,0)", [Decimal(5), N38, None])}
    )
    standin.create_table(DATABASE, SCHEMA, "LARGE", declared, rows, primary_key=["id"])
    database.execute('CREATE TABLE "LARGE" (id bigint PRIMARY KEY, n bigint)')
    config = snowflake_config(tmp_path, database, standin, {"source": "LARGE"})

    ended = snowmelt(config, "migrate")

    assert ended.returncode == 1
    told = " ".join((ended.stdout + ended.stderr).split())
    assert f'column "n", key "id" = 2: \'{N38}\' does not fit bigint' in told
    assert database.value('SELECT count(*) FROM "LARGE"') == 0


def test_other_types_go_as_text_with_a_note(
    standin: StandIn, database: Database, tmp_path: Path
) -> None:
    declared, rows = table_of(
        {
            "shape": ("GEOGRAPHY", ['{"type": "Point", "coordinates": [1, 2]}']),
            "at": ("TIMESTAMP_TZ(9)", list(ZONES)[:1]),
        }
    )
    standin.create_table(DATABASE, SCHEMA, "PLACES", declared, rows, primary_key=["at"])
    config = snowflake_config(tmp_path, database, standin, {"source": "PLACES"})

    planned = snowmelt(config, "plan")

    assert "primary key at: Snowflake does not enforce it" in planned.stdout
    assert 'column "shape": GEOGRAPHY is read as text' in planned.stdout, planned.stderr
    assert 'column "at": TIMESTAMP_TZ keeps the instant, not the zone' in planned.stdout
