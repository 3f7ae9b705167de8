"""What the encoder sends is what PostgreSQL holds, with the C encoder and without; what does not fit is named."""

from __future__ import annotations

import datetime as dt
from decimal import Decimal
from importlib.util import find_spec
from typing import Any
from uuid import UUID

import pyarrow as pa
import pytest
from psycopg import sql

from snowmelt.choices import NulCharacters
from snowmelt.errors import ValueDoesNotFit
from snowmelt.postgres import encode
from snowmelt.postgres.encode import EncodedColumn, Encoder
from snowmelt.types import created_type, loadable, target_type
from tests.support import Database

UTC = dt.UTC
ID = UUID("0f0e0d0c-0b0a-0908-0706-050403020100")
NS = pa.timestamp("ns")
EPOCH = dt.datetime(1970, 1, 1, tzinfo=UTC).replace(tzinfo=None)

# (Arrow array, PostgreSQL type, what a reader gets)
FITS: list[tuple[pa.Array, str, list[Any]]] = [
    (pa.array([1, None, -5], pa.int64()), "smallint", [1, None, -5]),
    (pa.array([2**31 - 1, -(2**31)], pa.int64()), "integer", [2**31 - 1, -(2**31)]),
    (pa.array([2**32 - 1], pa.uint32()), "bigint", [2**32 - 1]),
    (pa.array([Decimal("42"), None], pa.decimal128(38, 0)), "bigint", [42, None]),
    (pa.array([Decimal("1.50")], pa.decimal128(18, 4)), "numeric(10,2)", [Decimal("1.50")]),
    (
        pa.array([Decimal("-" + "9" * 38), Decimal(0)], pa.decimal128(38, 0)),
        "numeric",
        [Decimal("-" + "9" * 38), Decimal(0)],
    ),
    (pa.array([Decimal(1200)], pa.decimal128(5, -2)), "numeric", [Decimal(1200)]),
    (pa.array([2**64 - 1], pa.uint64()), "numeric(20,0)", [Decimal(2**64 - 1)]),
    (pa.array([7], pa.int32()), "double precision", [7.0]),
    (pa.array([0.5, None], pa.float32()), "real", [0.5, None]),
    (pa.array(["a", "", None, "❄"]).dictionary_encode(), "text", ["a", "", None, "❄"]),
    (pa.array(["ab"], pa.large_string()), "character varying(2)", ["ab"]),
    (pa.array(["ß❄", "", "b "]), "character varying(2)", ["ß❄", "", "b "]),
    # Its blanks at the end mean nothing: PostgreSQL fills and cuts them.
    (pa.array(["ß❄", "c", "d    "]), "character(2)", ["ß❄", "c ", "d "]),
    (pa.array([99900, -100, None]), "numeric(3,-2)", [Decimal(99900), Decimal(-100), None]),
    (pa.array([Decimal("100.0")], pa.decimal128(4, 1)), "numeric(3,-2)", [Decimal(100)]),
    (pa.array([Decimal("0.0099")], pa.decimal128(4, 4)), "numeric(2,4)", [Decimal("0.0099")]),
    (pa.array([99, -99]), "numeric(4,2)", [Decimal(99), Decimal(-99)]),
    (pa.array([r'"\ud800 \u0000"']), "json", ["\ud800 \0"]),
    (pa.array([1_500_000], pa.timestamp("us")), "timestamp(1) without time zone", [
        EPOCH + dt.timedelta(seconds=1.5)]),
    (pa.array([str(ID), None, ID.hex.upper()]), "uuid", [ID, None, ID]),
    (pa.array([ID.bytes], pa.binary(16)), "uuid", [ID]),
    (pa.array(['{"a": 1}', None]), "jsonb", [{"a": 1}, None]),
    (pa.array([b"\0\xff"]), "bytea", [b"\0\xff"]),
    (pa.array([dt.date(1, 1, 1), dt.date(9999, 12, 31)]), "date", [dt.date.min, dt.date.max]),
    (pa.array([None, True]), "boolean", [None, True]),
    # Nanoseconds by floor: one before 1970 belongs to the microsecond before it.
    (pa.array([-1, 1_999, None], NS), "timestamp without time zone", [
        EPOCH - dt.timedelta(microseconds=1), EPOCH + dt.timedelta(microseconds=1), None]),
    (pa.array([-62_135_596_800], pa.timestamp("s")), "timestamp without time zone", [
        dt.datetime.min]),
    (pa.array([0], pa.timestamp("us", "America/New_York")), "timestamp with time zone", [
        dt.datetime(1970, 1, 1, tzinfo=UTC)]),
    (pa.array([86_399_999_999_999], pa.time64("ns")), "time without time zone", [
        dt.time(23, 59, 59, 999_999)]),
    (pa.nulls(2), "text", [None, None]),
]  # fmt: skip

MISFITS: list[tuple[pa.Array, str]] = [
    (pa.array([1, 2**15], pa.int64()), "smallint"),
    (pa.array([1, -(2**31) - 1], pa.int64()), "integer"),
    (pa.array([Decimal(1), Decimal(2**63)], pa.decimal128(38, 0)), "bigint"),
    (pa.array([Decimal("1.0"), Decimal("1.5")], pa.decimal128(5, 1)), "integer"),
    (pa.array([Decimal("1.10"), Decimal("1.01")], pa.decimal128(5, 2)), "numeric(9,1)"),
    (pa.array([str(ID), "no uuid"]), "uuid"),
    (pa.array([0, 2**63 - 1], pa.timestamp("us")), "timestamp without time zone"),
    (pa.array([0, -(2**63) + 1], pa.timestamp("us")), "timestamp without time zone"),
    (pa.array([0, 2**31 - 1], pa.int32()).cast(pa.date32()), "date"),
    (pa.array(["ab", "abc"]), "character varying(2)"),
    (pa.array(["ab", "ab "]), "character varying(2)"),
    (pa.array(["ab ", "abc"]), "character(2)"),
    (pa.array([99, 100]), "numeric(4,2)"),
    (pa.array([Decimal("9.99"), Decimal("-10.00")], pa.decimal128(9, 2)), "numeric(3,2)"),
    (pa.array([Decimal(0), Decimal("0.01")], pa.decimal128(4, 4)), "numeric(2,4)"),
    (pa.array([1200, 1250]), "numeric(3,-2)"),
    (pa.array([99900, 100000]), "numeric(3,-2)"),
    (pa.array([Decimal("100.0"), Decimal("100.5")], pa.decimal128(4, 1)), "numeric(3,-2)"),
    (pa.array(["a", "a\0"]), "text"),
    (pa.array(["1", "a"]), "json"),
    (pa.array(["1", ""]), "jsonb"),
    (pa.array(["1", r'{"a": "\u0000"}']), "jsonb"),
    (pa.array(["1", r'"\ud800"']), "jsonb"),
    (pa.array(["1", "1e131072"]), "jsonb"),
    (pa.array([500_000, 550_000], pa.timestamp("us")), "timestamp(1) without time zone"),
    (pa.array([10, 11], pa.time64("us")), "time(5) without time zone"),
]


@pytest.fixture(params=["native", "pgpq"], autouse=True)
def writer(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Every test here runs with both."""
    if request.param == "pgpq":
        monkeypatch.setattr("snowmelt.postgres.writers.native_encode", None)
        monkeypatch.setattr("snowmelt.postgres.values.native_faults", None)
    elif find_spec("snowmelt.postgres._copybinary") is None:
        pytest.skip("the C extension was not built")
    return str(request.param)


def _column(array: pa.Array, spelling: str, name: str = "v") -> EncodedColumn:
    target = target_type(spelling)
    assert target is not None
    assert loadable(array.type, target)
    return EncodedColumn(name, array.type, target)


@pytest.mark.parametrize(("array", "spelling", "expected"), FITS, ids=lambda value: str(value)[:20])
def test_a_value_arrives_as_it_was(
    database: Database, array: pa.Array, spelling: str, expected: list[Any]
) -> None:
    encoder = Encoder([_column(array, spelling)], ())
    batch = pa.RecordBatch.from_arrays([array], ["v"])
    with database.connect() as connection:
        connection.execute("SET timezone = 'UTC'")
        connection.execute(
            sql.SQL("CREATE TABLE t (n int GENERATED ALWAYS AS IDENTITY, v {})").format(
                sql.SQL(spelling)
            )
        )
        with connection.cursor().copy("COPY t (v) FROM STDIN (FORMAT binary)") as copy:
            copy.write(encoder.header())
            for piece in encoder.pieces(batch):
                copy.write(piece.data)
            copy.write(encoder.trailer())
        found = [value for (value,) in connection.execute("SELECT v FROM t ORDER BY n")]
    assert found == expected


@pytest.mark.parametrize(("array", "spelling"), MISFITS, ids=lambda value: str(value)[:20])
def test_a_misfit_is_named_with_its_key(array: pa.Array, spelling: str) -> None:
    keys = pa.array(range(10, 10 + len(array)), pa.int64())
    encoder = Encoder([_column(keys, "bigint", "id"), _column(array, spelling)], ["id"])
    batch = pa.RecordBatch.from_arrays([keys, array], ["id", "v"])

    with pytest.raises(ValueDoesNotFit) as caught:
        list(encoder.pieces(batch))

    assert caught.value.column == '"v"'
    assert caught.value.key == '"id" = 11'


BACKSLASHES = r'["\u0000", "\\u0000", "\\\u0000", "\u0000\u0000"]'


@pytest.mark.parametrize(("how", "instead"), [("strip", ""), ("replace", "\ufffd")])
def test_nul_characters_are_taken_out_or_replaced(
    database: Database, how: str, instead: str
) -> None:
    batch = pa.record_batch(
        {
            "id": pa.array([1, 2, 3]),
            "t": pa.array(["a\0\0b", "c", None]),
            "c": pa.array(["\0ab", "ab", "ab"]).dictionary_encode(),
            "j": pa.array([None, r'"\u0000"', '"\0"']),
            "b": pa.array([BACKSLASHES, '{"a\0\\u0000": 1}', r'"\\u0000"']),
        }
    )
    spellings = ("bigint", "text", "character varying(3)", "json", "jsonb")
    columns = [
        _column(array, spelling, name)
        for name, spelling, array in zip(batch.schema.names, spellings, batch.columns, strict=True)
    ]
    encoder = Encoder(columns, ["id"], None, NulCharacters(how))
    with database.connect() as connection:
        connection.execute("CREATE TABLE t (id bigint, t text, c varchar(3), j json, b jsonb)")
        with connection.cursor().copy("COPY t FROM STDIN (FORMAT binary)") as copy:
            copy.write(encoder.header())
            for piece in encoder.pieces(batch):
                copy.write(piece.data)
            copy.write(encoder.trailer())
        found = connection.execute("SELECT t, c, j::text, b FROM t ORDER BY id").fetchall()

    x = instead
    assert found == [
        (f"a{x}{x}b", f"{x}ab", None, [x, r"\u0000", f"\\{x}", x + x]),
        ("c", "ab", r'"\u0000"', {f"a{x}{x}": 1}),
        (None, "ab", f'"{x}"', r"\u0000"),
    ]
    assert encoder.changes.count == 5
    done = "taken out of" if how == "strip" else "replaced in"
    assert str(encoder.changes) == (
        f"NUL characters were {done} 5 values: "
        'column "t", "id" = 1; column "c", "id" = 1; column "j", "id" = 3; '
        'column "b", "id" = 1; column "b", "id" = 2'
    )


def test_a_value_without_its_nul_characters_may_still_not_fit() -> None:
    for text, how, spelling, says in (
        ("\0ab", "replace", "character varying(2)", "3 characters"),
        ("{\0}}", "strip", "jsonb", "is no JSON"),
        ("\0{}", "replace", "json", "is no JSON"),
    ):
        array = pa.array(["1", text])
        encoder = Encoder([_column(array, spelling)], (), None, NulCharacters(how))
        with pytest.raises(ValueDoesNotFit, match=says) as caught:
            list(encoder.pieces(pa.RecordBatch.from_arrays([array], ["v"])))
        assert caught.value.key == "row 2 of the chunk"


def test_no_more_than_twenty_keys_of_changed_values_are_told() -> None:
    array = pa.array(["\0"] * 30)
    encoder = Encoder([_column(array, "text")], (), None, NulCharacters.STRIP)
    batch = pa.RecordBatch.from_arrays([array], ["v"])
    for _ in range(2):
        list(encoder.pieces(batch))
    told = str(encoder.changes)
    assert told.count("of the chunk") == 20
    assert told.endswith("; and 40 more")


@pytest.mark.parametrize(("key", "shown"), [("a\0b", r"a\0b"), ("x" * 1_000, "x" * 240 + "…")])
def test_a_key_can_be_told_whatever_is_in_it(key: str, shown: str) -> None:
    batch = pa.record_batch({"id": [key], "v": ["\0"]})
    encoder = Encoder([_column(batch["id"], "text", "id"), _column(batch["v"], "text")], ["id"])
    with pytest.raises(ValueDoesNotFit) as caught:
        list(encoder.pieces(batch))
    assert caught.value.key == f'"id" = {shown}'


@pytest.mark.parametrize("rows", [0, 1, 5, 100_000])
def test_no_row_is_kept_back(database: Database, rows: int) -> None:
    array = pa.array(range(rows), pa.int64())
    encoder = Encoder([_column(array, "bigint")], ())
    batch = pa.RecordBatch.from_arrays([array], ["v"])
    with database.connect() as connection:
        connection.execute("CREATE TABLE t (v bigint)")
        with connection.cursor().copy("COPY t (v) FROM STDIN (FORMAT binary)") as copy:
            copy.write(encoder.header())
            for piece in encoder.pieces(batch):
                copy.write(piece.data)
            copy.write(encoder.trailer())
        assert connection.execute("SELECT count(*) FROM t").fetchone() == (rows,)


def test_pieces_are_bounded_and_complete() -> None:
    array = pa.array(["x" * 1_000] * 20_000)
    encoder = Encoder([_column(array, "text")], ())

    pieces = list(encoder.pieces(pa.RecordBatch.from_arrays([array], ["v"])))

    assert sum(piece.rows for piece in pieces) == len(array)
    assert max(len(piece.data) for piece in pieces) < 2 * encode.PIECE_BYTES


@pytest.mark.parametrize(
    ("type", "spelling"),
    [
        (pa.float64(), "real"),
        (pa.float64(), "numeric"),
        (pa.timestamp("us"), "timestamp with time zone"),
        (pa.timestamp("us", "UTC"), "timestamp without time zone"),
        (pa.int64(), "double precision"),
        (pa.int64(), "text"),
        (pa.string(), "integer"),
    ],
    ids=str,
)
def test_a_pair_that_would_round_or_reinterpret_is_not_loadable(
    type: pa.DataType, spelling: str
) -> None:
    target = target_type(spelling)
    assert target is not None
    assert not loadable(type, target)


def test_what_is_created_for_a_type_can_take_it() -> None:
    for array, _, _ in FITS:
        created = created_type(array.type)
        assert created is not None
        spelling = {"timestamp": "timestamp without time zone", "time": "time without time zone",
                    "timestamptz": "timestamp with time zone"}.get(created, created)  # fmt: skip
        target = target_type(spelling)
        assert target is not None
        assert loadable(array.type, target), (array.type, created)
