"""The C encoder gives pgpq's bytes, PostgreSQL gives them back, and what is malformed is an error, not a crash."""

from __future__ import annotations

import struct
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from typing import Any

import pgpq
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from pgpq import encoders
from pgpq import schema as pgpq_schema
from psycopg import Connection, sql

from tests.support import Database

copybinary = pytest.importorskip(
    "snowmelt.postgres._copybinary", reason="the C extension was not built"
)

HEADER = b"PGCOPY\n\xff\r\n\0" + bytes(8)
TRAILER = b"\xff\xff"


@dataclass(frozen=True, slots=True)
class Kind:
    """A wire code, what it loads into, the Arrow type it takes, and that type's values."""

    code: str
    target: str
    type: pa.DataType
    values: st.SearchStrategy[Any]


def integers(bits: int) -> st.SearchStrategy[int]:
    return st.integers(-(1 << bits - 1), (1 << bits - 1) - 1)


# Days and microseconds since 1970 as integers, since Python's dates end long before PostgreSQL's.
# The days that PostgreSQL has, 4714-11-24 BC to 5874897-12-31.
DAYS = st.integers(-2_440_588, 2_145_042_905)
MICROSECONDS = st.integers(-210_866_803_200_000_000, (1 << 63) - 1)
TEXT = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=40)
# As jsonb prints them, so that they come back as they went.
JSON = st.sampled_from(["null", "true", "-1.50", '"schnée"', "[1, 2]", '{"a": {"b": null}}'])

KINDS = (
    Kind("?", "bool", pa.bool_(), st.booleans()),
    Kind("h", "int2", pa.int16(), integers(16)),
    Kind("i", "int4", pa.int32(), integers(32)),
    Kind("q", "int8", pa.int64(), integers(64)),
    Kind("f", "float4", pa.float32(), st.floats(width=32)),
    Kind("d", "float8", pa.float64(), st.floats()),
    Kind("t", "text", pa.string(), TEXT),
    Kind("t", "json", pa.string(), JSON),
    Kind("j", "jsonb", pa.string(), JSON),
    Kind("y", "bytea", pa.binary(), st.binary(max_size=40)),
    Kind("D", "date", pa.date32(), DAYS),
    Kind("T", "time", pa.time64("us"), st.integers(0, 86_400_000_000)),
    Kind("s", "timestamp", pa.timestamp("us"), MICROSECONDS),
    Kind("z", "timestamptz", pa.timestamp("us", tz="UTC"), MICROSECONDS),
    Kind("u", "uuid", pa.binary(16), st.binary(min_size=16, max_size=16)),
)


def decimals(values: Sequence[int | None], type: pa.DataType) -> pa.Array:
    """Decimals from their unscaled values, of which a buffer holds more than pyarrow would make."""
    valid = pa.array([value is not None for value in values], pa.bool_()).buffers()[1]
    whole = b"".join((value or 0).to_bytes(16, sys.byteorder, signed=True) for value in values)
    return pa.Array.from_buffers(type, len(values), [valid, pa.py_buffer(whole)])


@st.composite
def numerics(draw: st.DrawFn) -> Kind:
    precision = draw(st.integers(1, 38))
    scale = draw(st.integers(0, precision) | st.integers(0, 38))
    size = st.integers(0, precision).flatmap(lambda digits: st.integers(0, 10**digits - 1))
    groups = st.builds(
        lambda size, zeros: size * 10**zeros % 10**precision, size, st.integers(0, 38)
    )
    unsigned = size | groups | st.just(10**precision - 1)
    values = st.builds(lambda size, sign: size * sign, unsigned, st.sampled_from([-1, 1]))
    return Kind("n", "numeric", pa.decimal128(precision, scale), values)


@dataclass(frozen=True, slots=True)
class Table:
    """Columns with rows to be cut off at either end, so that what is encoded starts within buffers and bytes."""

    kinds: tuple[Kind, ...]
    batch: pa.RecordBatch
    start: int
    rows: int

    @property
    def sliced(self) -> pa.RecordBatch:
        return self.batch.slice(self.start, self.rows)

    @property
    def wires(self) -> bytes:
        return "".join(kind.code for kind in self.kinds).encode()


@st.composite
def tables(draw: st.DrawFn) -> Table:
    kinds = draw(st.lists(st.sampled_from(KINDS) | numerics(), min_size=1, max_size=8))
    # Some columns are longer than a block of rows: drawing that many values is slow, so a few repeat.
    total = draw(st.integers(0, 20) | st.sampled_from([64, 127, 128, 129, 300, 1000]))
    start = draw(st.integers(0, min(total, 70)))
    rows = draw(st.integers(0, total - start) | st.just(total - start))
    arrays = [_array(draw, kind, total) for kind in kinds]
    names = [f"c{index}" for index in range(len(kinds))]
    return Table(tuple(kinds), pa.RecordBatch.from_arrays(arrays, names=names), start, rows)


def _array(draw: st.DrawFn, kind: Kind, total: int) -> pa.Array:
    values = kind.values if draw(st.booleans()) else st.none() | kind.values
    drawn = draw(st.lists(values, min_size=min(total, 1), max_size=min(total, 20)))
    repeated = [drawn[index % len(drawn)] for index in range(total)]
    if kind.target == "numeric":
        return decimals(repeated, kind.type)
    if kind.target in {"date", "time", "timestamp", "timestamptz"}:
        integer = pa.int32() if kind.target == "date" else pa.int64()
        return pa.array(repeated, integer).cast(kind.type)
    return pa.array(repeated, kind.type)


def native(batch: pa.RecordBatch | pa.StructArray, wires: bytes) -> bytes:
    encoded: bytes = copybinary.encode(batch.__arrow_c_array__(), wires)
    return encoded


def by_pgpq(batch: pa.RecordBatch, wires: bytes) -> bytes:
    encoder = pgpq.ArrowToPostgresBinaryEncoder.new_with_encoders(
        batch.schema,
        {
            field.name: encoders.StringEncoderBuilder.new_with_output(field, pgpq_schema.Jsonb())
            if code == ord("j")
            else pgpq.ArrowToPostgresBinaryEncoder.infer_encoder(field)
            for field, code in zip(batch.schema, wires, strict=True)
        },
    )
    # Joined, since pgpq gives bytes only once it has gathered some.
    whole = encoder.write_header() + encoder.write_batch(batch) + encoder.finish()
    return whole.removeprefix(HEADER).removesuffix(TRAILER)


def there_and_back(connection: Connection, targets: Sequence[str], rows: bytes) -> bytes:
    """The rows as PostgreSQL sends them after it was sent them."""
    columns = sql.SQL(", ").join(
        sql.SQL("{} {}").format(sql.Identifier(f"c{index}"), sql.SQL(target))
        for index, target in enumerate(targets)
    )
    with connection.transaction(force_rollback=True), connection.cursor() as cursor:
        cursor.execute(sql.SQL("CREATE TEMP TABLE there ({})").format(columns))
        with cursor.copy("COPY there FROM STDIN (FORMAT binary)") as copy:
            copy.write(HEADER + rows + TRAILER)
        with cursor.copy("COPY there TO STDOUT (FORMAT binary)") as copy:
            back = b"".join(bytes(part) for part in copy)
    return back.removeprefix(HEADER).removesuffix(TRAILER)


@given(table=tables())
@settings(max_examples=3 * settings().max_examples)
def test_the_bytes_are_those_of_pgpq(table: Table) -> None:
    expected = by_pgpq(table.sliced, table.wires)
    assert native(table.sliced, table.wires) == expected
    # An offset of the batch itself, on top of those of its columns.
    batch = table.batch
    struct_array = pa.StructArray.from_arrays(batch.columns, fields=list(batch.schema))
    assert native(struct_array.slice(table.start, table.rows), table.wires) == expected
    inner = batch.slice(min(table.start, 1))
    twice = pa.StructArray.from_arrays(inner.columns, fields=list(batch.schema))
    assert (
        native(twice.slice(table.start - min(table.start, 1), table.rows), table.wires) == expected
    )


@given(table=tables())
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
def test_postgres_gives_back_what_it_was_given(database: Database, table: Table) -> None:
    rows = native(table.sliced, table.wires)
    with database.connect() as connection:
        assert there_and_back(connection, [kind.target for kind in table.kinds], rows) == rows


@given(
    values=st.lists(integers(128), min_size=1, max_size=20),
    scale=st.integers(0, 38),
)
@example(values=[-(1 << 127), (1 << 127) - 1, 1 << 64, (1 << 64) - 1, 0], scale=0)
@example(values=[-(1 << 127), (1 << 127) - 1, 1 << 64, (1 << 64) - 1, 0], scale=37)
@example(values=[(1 << 64) // 1000 + step for step in (-1, 0, 1, 2)], scale=1)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
def test_numeric_holds_all_of_int128(database: Database, values: list[int], scale: int) -> None:
    array = decimals(values, pa.decimal128(38, scale))
    rows = native(pa.record_batch([array], names=["c"]), b"n")
    with database.connect() as connection, connection.cursor() as cursor:
        cursor.execute("CREATE TEMP TABLE there (id serial, value numeric)")
        with cursor.copy("COPY there (value) FROM STDIN (FORMAT binary)") as copy:
            copy.write(HEADER + rows + TRAILER)
        found = cursor.execute("SELECT value::text FROM there ORDER BY id").fetchall()
    assert [value for (value,) in found] == [
        f"{Decimal((value < 0, tuple(map(int, str(abs(value)))), -scale)):f}" for value in values
    ]


def test_values_as_python_knows_them(database: Database) -> None:
    """Independent of pgpq: what psycopg reads is what Arrow held."""
    moment = datetime(1969, 12, 31, 23, 59, 59, 999_999)
    row: dict[str, tuple[str, str, pa.DataType, object]] = {
        "flag": ("?", "bool", pa.bool_(), True),
        "day": ("D", "date", pa.date32(), date(1999, 12, 31)),
        "moment": ("s", "timestamp", pa.timestamp("us"), moment),
        "clock": ("T", "time", pa.time64("us"), time(23, 59, 59, 1)),
        "price": ("n", "numeric", pa.decimal128(9, 3), Decimal("-1000.050")),
        "label": ("t", "text", pa.string(), "é雪"),
        "nothing": ("q", "int8", pa.int64(), None),
        "tree": ("j", "jsonb", pa.string(), "[1]"),
    }
    arrays = [pa.array([value], type) for _, _, type, value in row.values()]
    rows = native(
        pa.RecordBatch.from_arrays(arrays, names=list(row)),
        "".join(code for code, *_ in row.values()).encode(),
    )
    with database.connect() as connection, connection.cursor() as cursor:
        cursor.execute(
            "CREATE TABLE there (flag bool, day date, moment timestamp, clock time, price numeric, "
            "label text, nothing int8, tree jsonb)"
        )
        with cursor.copy("COPY there FROM STDIN (FORMAT binary)") as copy:
            copy.write(HEADER + rows + TRAILER)
        found = cursor.execute("SELECT * FROM there").fetchone()
    assert found == (*(value for *_, value in list(row.values())[:-1]), [1])


def test_a_batch_without_rows_or_columns_is_no_bytes_and_a_row_without_columns_is_a_count() -> None:
    assert native(pa.record_batch({"c": pa.array([], pa.string())}), b"t") == b""
    none = pa.StructArray.from_buffers(pa.struct([]), 2, [None], children=[])
    assert native(none, b"") == struct.pack("!hh", 0, 0)


def one(array: pa.Array) -> pa.RecordBatch:
    """The array as the second of two columns."""
    return pa.RecordBatch.from_arrays([pa.nulls(len(array), pa.int32()), array], names=["a", "b"])


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.target)
def test_another_type_than_the_wires_is_refused_by_its_column(kind: Kind) -> None:
    types = [other.type for other in KINDS if other.type != kind.type]
    types += [
        pa.large_string(), pa.large_binary(), pa.string_view(), pa.uint32(), pa.int8(), pa.time64("ns"),
        pa.timestamp("ns"), pa.date64(), pa.binary(8), pa.decimal256(40, 2), pa.decimal128(9, -2),
        pa.decimal128(9, 2), pa.null(), pa.list_(pa.int8()), pa.dictionary(pa.int32(), pa.string()),
    ]  # fmt: skip
    for type in types:
        with pytest.raises(ValueError, match=r"^column 1: its Arrow type"):
            native(one(pa.array([], type)), b"i" + kind.code.encode())
    for type in (pa.decimal128(9, -2), pa.decimal256(9, 2), pa.int64()):
        with pytest.raises(ValueError, match=r"^column 1: its Arrow type"):
            native(one(pa.array([], type)), b"in")


def text(*columns: tuple[int, ...]) -> pa.RecordBatch:
    """Text with these offsets over buffers of 3 bytes, written only after pyarrow has checked the batch."""
    memory = [bytearray(4 * len(offsets)) for offsets in columns]
    batch = pa.RecordBatch.from_arrays(
        [
            pa.Array.from_buffers(
                pa.string(), len(own) // 4 - 1, [None, pa.py_buffer(own), pa.py_buffer(b"abc")]
            )
            for own in memory
        ],
        names=[str(index) for index in range(len(columns))],
    )
    for own, offsets in zip(memory, columns, strict=True):
        own[:] = struct.pack(f"={len(offsets)}i", *offsets)
    return batch


GIGABYTE = 1 << 30
EARLY = pa.array([0, None, -(1 << 63) + 946_684_800_000_000], pa.int64())


@pytest.mark.parametrize(
    ("array", "code", "error", "message"),
    [
        (pa.array([0, -(1 << 31) + 10_957], pa.int32()).cast(pa.date32()), "D", OverflowError, "row 1: before"),
        (EARLY.cast(pa.timestamp("us")), "s", OverflowError, "column 1, row 2: before"),
        (EARLY.cast(pa.timestamp("us", tz="UTC")), "z", OverflowError, "column 1, row 2: before"),
        (pa.array([1]), "x", ValueError, "column 1: there is no such wire code"),
    ],
)  # fmt: skip
def test_what_copy_cannot_hold_is_refused_by_column_and_row(
    array: pa.Array, code: str, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        native(one(array), b"i" + code.encode())


@pytest.mark.parametrize(
    ("offsets", "code", "error", "message"),
    [
        ((0, 3, 1), "t", ValueError, "column 1, row 1: malformed: offsets"),
        ((-1, 2, 3), "t", ValueError, "column 1, row 0: malformed: offsets"),
        ((0, 0, GIGABYTE), "t", OverflowError, "column 1, row 1: a field has"),
        ((0, 0, GIGABYTE - 5), "j", OverflowError, "column 1, row 1: a field has"),
    ],
)
def test_offsets_that_no_field_can_have_are_refused_by_column_and_row(
    offsets: tuple[int, ...], code: str, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        native(text((0, 1, 2), offsets), b"t" + code.encode())


def test_what_lies_under_a_null_does_not_matter() -> None:
    early = pa.Array.from_buffers(
        pa.timestamp("us"),
        2,
        [pa.py_buffer(b"\1"), pa.py_buffer(struct.pack("=2q", 0, -(1 << 63)))],
    )
    hidden = pa.Array.from_buffers(
        pa.string(),
        2,
        [pa.py_buffer(b"\1"), pa.py_buffer(struct.pack("=3i", 0, 1, 3)), pa.py_buffer(b"abc")],
    )
    batch = pa.record_batch([early, hidden], names=["a", "b"])
    epoch = int(timedelta(days=-10_957) / timedelta(microseconds=1))
    assert native(batch, b"st") == struct.pack("!hiqi1s", 2, 8, epoch, 1, b"a") + struct.pack(
        "!hii", 2, -1, -1
    )


def test_more_than_two_gigabytes_are_refused_before_they_are_allocated() -> None:
    with pytest.raises(OverflowError, match="more than 2 GB"):
        native(text(*[(0, GIGABYTE - 100)] * 3), b"ttt")
    rows = pa.Array.from_buffers(pa.bool_(), 1 << 31, [None, pa.py_buffer(bytes(1 << 28))])
    with pytest.raises(OverflowError, match="more than 2 GB"):
        native(pa.record_batch([rows], names=["a"]), b"?")


def _released() -> tuple[object, object]:
    capsules: tuple[object, object] = pa.record_batch({"a": [1]}).__arrow_c_array__()
    pa.RecordBatch._import_from_c_capsule(*capsules)
    return capsules


def _backwards() -> tuple[object, ...]:
    return tuple(reversed(pa.record_batch({"a": [1]}).__arrow_c_array__()))


@pytest.mark.parametrize(
    "capsules",
    [
        _released,
        _backwards,
        lambda: (),
        lambda: (1, 2),
        lambda: pa.array([1]).__arrow_c_array__(),
        lambda: pa.record_batch({"a": [1], "b": [2]}).__arrow_c_array__(),
        lambda: pa.array([{"a": 1}, None]).__arrow_c_array__(),
    ],
    ids=[
        "released",
        "backwards",
        "empty",
        "numbers",
        "no batch",
        "two columns",
        "rows that are NULL",
    ],
)
def test_what_is_not_a_batch_is_refused(capsules: Callable[[], tuple[object, ...]]) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - the capsule API words some of them
        copybinary.encode(capsules(), b"q")
