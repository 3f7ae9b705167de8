"""Which column a table is ranged over, and how: by the config, or by what the table has."""

from __future__ import annotations

from dataclasses import replace

import pyarrow as pa
import pytest

from snowmelt.choices import KeyType
from snowmelt.chunking.chunks import Key, KeyKind
from snowmelt.chunking.keys import FoundKey, KeyProblem, key_of, keys_of, kind_of, own_key
from snowmelt.model import ChunkKey, Column, Relation

# A column's type as its source spells it, the Arrow type it is read as, and how it is ordered.
TYPES: list[tuple[str, pa.DataType, KeyKind | None]] = [
    # DuckDB
    ("DATE", pa.date32(), KeyKind.DATE),
    ("TIMESTAMP", pa.timestamp("us"), KeyKind.TIMESTAMP),
    ("TIMESTAMP_S", pa.timestamp("s"), KeyKind.TIMESTAMP),
    ("TIMESTAMP_NS", pa.timestamp("ns"), KeyKind.TIMESTAMP),
    ("TIMESTAMP WITH TIME ZONE", pa.timestamp("us", tz="UTC"), KeyKind.INSTANT),
    ("TINYINT", pa.int8(), KeyKind.NUMBER),
    ("UBIGINT", pa.uint64(), KeyKind.NUMBER),
    ("HUGEINT", pa.decimal128(38, 0), KeyKind.NUMBER),
    ("DECIMAL(38,10)", pa.decimal128(38, 10), KeyKind.NUMBER),
    ("FLOAT", pa.float32(), KeyKind.FLOAT),
    ("DOUBLE", pa.float64(), KeyKind.FLOAT),
    ("VARCHAR", pa.string(), KeyKind.TEXT),
    ("VARCHAR", pa.large_string(), KeyKind.TEXT),
    ("UUID", pa.string(), KeyKind.UUID),
    ("uuid", pa.binary(16), KeyKind.UUID),
    ("JSON", pa.string(), None),
    ("BLOB", pa.binary(), None),
    ("BOOLEAN", pa.bool_(), None),
    ("TIME", pa.time64("us"), None),
    ("ENUM('a', 'b')", pa.dictionary(pa.uint8(), pa.string()), None),
    ("INTEGER[]", pa.list_(pa.int32()), None),
    # Snowflake
    ("NUMBER(38,0)", pa.int64(), KeyKind.NUMBER),
    ("NUMBER(38,0)", pa.decimal128(38, 0), KeyKind.NUMBER),
    ("NUMBER(10,2)", pa.decimal128(10, 2), KeyKind.NUMBER),
    ("FLOAT", pa.float64(), KeyKind.FLOAT),
    ("TIMESTAMP_NTZ(9)", pa.timestamp("ns"), KeyKind.TIMESTAMP),
    ("TIMESTAMP_LTZ(9)", pa.timestamp("ns", tz="UTC"), KeyKind.INSTANT),
    ("TIMESTAMP_TZ(3)", pa.timestamp("us", tz="UTC"), KeyKind.INSTANT),
    ("VARCHAR(16777216)", pa.string(), KeyKind.TEXT),
    ("VARIANT", pa.string(), None),
    ("OBJECT", pa.string(), None),
    ("GEOGRAPHY", pa.string(), None),
    ("BINARY(8388608)", pa.binary(), None),
    ("TIME(9)", pa.time64("us"), None),
    # Parquet and CSV, or a ledger of release 0.2.0, say no more than the Arrow type.
    ("", pa.string(), KeyKind.TEXT),
    ("", pa.date32(), KeyKind.DATE),
    ("", pa.bool_(), None),
]


@pytest.mark.parametrize(("spelling", "type", "kind"), TYPES)
def test_how_a_column_is_ordered(spelling: str, type: pa.DataType, kind: KeyKind | None) -> None:
    assert kind_of(Column("k", type, True, spelling)) is kind


COLUMNS = {
    "date": Column("date", pa.date32(), True, "DATE"),
    "timestamp": Column("timestamp", pa.timestamp("us"), True, "TIMESTAMP_NTZ(6)"),
    "instant": Column("instant", pa.timestamp("us", tz="UTC"), True, "TIMESTAMP_TZ(6)"),
    "int": Column("int", pa.int64(), True, "NUMBER(18,0)"),
    "decimal": Column("decimal", pa.decimal128(18, 4), True, "NUMBER(18,4)"),
    "float": Column("float", pa.float64(), True, "FLOAT"),
    "text": Column("text", pa.string(), True, "VARCHAR"),
    "uuid": Column("uuid", pa.string(), True, "UUID"),
    "json": Column("json", pa.string(), True, "VARIANT"),
    "bytes": Column("bytes", pa.binary(), True, "BINARY"),
}
RELATION = Relation(tuple(COLUMNS.values()), (), {})
D, TS, TZ = KeyKind.DATE, KeyKind.TIMESTAMP, KeyKind.INSTANT
N, F, T, U, TN = KeyKind.NUMBER, KeyKind.FLOAT, KeyKind.TEXT, KeyKind.UUID, KeyKind.TEXT_NUMBER
# By each `chunking_column_types` and by none; a column that is no key is one with no type.
TRUTH: dict[KeyType | None, dict[str, KeyKind]] = {
    None: {"date": D, "timestamp": TS, "instant": TZ, "int": N, "decimal": N, "float": F, "text": T,
           "uuid": U},
    KeyType.DATE: {"date": D, "timestamp": TS, "instant": TZ},
    KeyType.TIMESTAMP: {"date": D, "timestamp": TS, "instant": TZ},
    KeyType.INT: {"int": N, "decimal": N, "float": F},
    KeyType.NUMERIC: {"int": N, "decimal": N, "float": F},
    KeyType.VARCHAR: {"text": T, "uuid": U},
    KeyType.VARCHAR_NUMERIC: {"text": TN},
    KeyType.UUID: {"text": U, "uuid": U},
}  # fmt: skip


@pytest.mark.parametrize("column", COLUMNS)
@pytest.mark.parametrize("type", [None, *KeyType])
def test_which_types_may_stand_beside_which_columns(type: KeyType | None, column: str) -> None:
    found = key_of(ChunkKey(column, type), RELATION)
    kind = TRUTH[type].get(column)
    if kind is not None:
        assert found == Key(column, kind)
        return
    spelled = COLUMNS[column].source_type
    assert isinstance(found, KeyProblem)
    assert f'"{column}", which is {spelled}' in found.what
    if column in ("json", "bytes"):
        assert "leave chunking_columns out" in found.remedy
    else:
        assert f"chunking_column_types says {type}" in found.what
        assert "leave chunking_column_types out" in found.remedy


def test_the_truth_table_has_every_type() -> None:
    assert set(TRUTH) == {None, *KeyType}
    assert {kind for row in TRUTH.values() for kind in row.values()} == set(KeyKind)


@pytest.mark.parametrize("nullable", [True, False])
def test_a_key_is_null_where_its_column_is_or_where_text_is_no_number(nullable: bool) -> None:
    for column in COLUMNS.values():
        relation = Relation((replace(column, nullable=nullable),), (), {})
        for type, kinds in TRUTH.items():
            if column.name in kinds:
                key = key_of(ChunkKey(column.name, type), relation)
                assert isinstance(key, Key)
                assert key.nullable == (nullable or key.kind is KeyKind.TEXT_NUMBER)


def test_a_column_that_is_not_there_is_told_with_those_that_are() -> None:
    found = key_of(ChunkKey("Date", KeyType.DATE), RELATION)
    assert isinstance(found, KeyProblem)
    assert found.what == 'the source has no column "Date" to make chunks of'
    assert found.remedy == f"name one of {', '.join(COLUMNS)}"


def test_an_arrow_type_is_told_where_the_source_spells_none() -> None:
    found = key_of(ChunkKey("k", None), Relation((Column("k", pa.bool_()),), (), {}))
    assert isinstance(found, KeyProblem)
    assert found.what == 'chunks are not made over "k", which is bool'


def test_several_keys_are_in_the_config_s_order_and_the_first_problem_is_told() -> None:
    chosen = [ChunkKey("text", KeyType.UUID), ChunkKey("date", None)]
    assert keys_of(chosen, RELATION) == (Key("text", KeyKind.UUID), Key("date", KeyKind.DATE))
    assert keys_of([], RELATION) == ()
    wrong = [ChunkKey("date", None), ChunkKey("json", None), ChunkKey("gone", None)]
    found = keys_of(wrong, RELATION)
    assert isinstance(found, KeyProblem)
    assert '"json"' in found.what


# --- a key of the table's own ---------------------------------------------------------------------

DATE, TEXT, INT = (
    Key("date", KeyKind.DATE), Key("text", KeyKind.TEXT), Key("int", KeyKind.NUMBER),
)  # fmt: skip


@pytest.mark.parametrize(
    ("clustering", "watermark", "primary_key", "found"),
    [
        (("date", "text"), "text", ("int",), FoundKey((DATE,), "the clustering key date")),
        ((), "text", ("int",), FoundKey((TEXT,), "the watermark text")),
        ((), None, ("int",), FoundKey((INT,), "the primary key int")),
        ((), None, ("int", "text"), FoundKey((INT, TEXT), "the primary key int, text")),
        ((), None, (), None),
        ((), "", (), None),
        # What can't be ranged over is passed over.
        (("json", "date"), "text", ("int",), FoundKey((TEXT,), "the watermark text")),
        (("gone",), "bytes", ("int",), FoundKey((INT,), "the primary key int")),
        ((), "gone", ("int", "json"), FoundKey((INT,), "the primary key int")),
        ((), "gone", ("json", "int"), None),
    ],
)
def test_clustering_key_before_watermark_before_primary_key(
    clustering: tuple[str, ...],
    watermark: str | None,
    primary_key: tuple[str, ...],
    found: FoundKey | None,
) -> None:
    relation = replace(RELATION, clustering=clustering, primary_key=primary_key)
    assert own_key(relation, watermark) == found
