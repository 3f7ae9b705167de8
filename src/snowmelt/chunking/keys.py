"""Which key a table is ranged over: the one that the config names, or one that the table has."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import pyarrow as pa

from snowmelt.choices import KeyType
from snowmelt.chunking.chunks import Key, KeyKind
from snowmelt.model import ChunkKey, Column, Relation
from snowmelt.types import snowflake_fact

_NUMBERS = frozenset({KeyKind.NUMBER, KeyKind.FLOAT})
_TIMES = frozenset({KeyKind.DATE, KeyKind.TIMESTAMP, KeyKind.INSTANT})
_TEXTS = frozenset({KeyKind.TEXT, KeyKind.UUID})
_FITTING: dict[KeyType, frozenset[KeyKind]] = {
    KeyType.INT: _NUMBERS,
    KeyType.NUMERIC: _NUMBERS,
    KeyType.VARCHAR: _TEXTS,
    KeyType.VARCHAR_NUMERIC: frozenset({KeyKind.TEXT}),
    KeyType.UUID: _TEXTS,
    KeyType.DATE: _TIMES,
    KeyType.TIMESTAMP: _TIMES,
}
"""Kinds of columns that each `chunking_column_types` may stand beside."""
_HINTED = {KeyType.VARCHAR_NUMERIC: KeyKind.TEXT_NUMBER, KeyType.UUID: KeyKind.UUID}


@dataclass(frozen=True, slots=True)
class KeyProblem:
    """Why a column can't be ranged over as the config wants it, and what to do."""

    what: str
    remedy: str


def kind_of(column: Column) -> KeyKind | None:
    """How a column is ordered; None for a type that is not ranged over."""
    type = column.type
    if column.source_type.upper() == "UUID":
        return KeyKind.UUID
    if pa.types.is_date(type):
        return KeyKind.DATE
    if pa.types.is_timestamp(type):
        return KeyKind.INSTANT if type.tz else KeyKind.TIMESTAMP
    if pa.types.is_integer(type) or pa.types.is_decimal(type):
        return KeyKind.NUMBER
    if pa.types.is_floating(type):
        return KeyKind.FLOAT
    if not (pa.types.is_string(type) or pa.types.is_large_string(type)):
        return None
    fact = snowflake_fact(column.source_type)
    # What only arrives as text, such as JSON, is ordered otherwise at its source, or not at all.
    arrives_as_text = bool(column.source_type) and (fact.json or fact.text)
    return None if arrives_as_text else KeyKind.TEXT


def key_of(chosen: ChunkKey, relation: Relation) -> Key | KeyProblem:
    """The key that the config means by a chunking column and its type."""
    column = relation.column(chosen.column)
    if column is None:
        names = ", ".join(column.name for column in relation.columns)
        return KeyProblem(
            f'the source has no column "{chosen.column}" to make chunks of', f"name one of {names}"
        )
    kind = kind_of(column)
    spelled = column.source_type or str(column.type)
    if kind is None:
        return KeyProblem(
            f'chunks are not made over "{column.name}", which is {spelled}',
            "name a date, timestamp, number or text column, or leave chunking_columns out",
        )
    if chosen.type is None:
        return Key(column.name, kind, column.nullable)
    if kind not in _FITTING[chosen.type]:
        return KeyProblem(
            f'chunking_column_types says {chosen.type} of "{column.name}", which is {spelled}',
            "correct it, or leave chunking_column_types out: the column's own type decides",
        )
    kind = _HINTED.get(chosen.type, kind)
    return Key(column.name, kind, column.nullable or kind is KeyKind.TEXT_NUMBER)


def keys_of(chosen: Sequence[ChunkKey], relation: Relation) -> tuple[Key, ...] | KeyProblem:
    """All of them, or the first problem."""
    keys: list[Key] = []
    for one in chosen:
        key = key_of(one, relation)
        if isinstance(key, KeyProblem):
            return key
        keys.append(key)
    return tuple(keys)


@dataclass(frozen=True, slots=True)
class FoundKey:
    """A key that a table has of its own, and what it is: "the clustering key"."""

    keys: tuple[Key, ...]
    what: str


def own_key(relation: Relation, watermark: str | None) -> FoundKey | None:
    """The key to range over where the config names none.

    By a clustering key or a watermark, which mostly follows the order of loading, each query reads a part of the
    table; by a primary key often all of it.
    """
    candidates = (
        ("the clustering key", relation.clustering[:1]),
        ("the watermark", (watermark,) if watermark else ()),
        ("the primary key", relation.primary_key),
    )
    for what, names in candidates:
        keys: list[Key] = []
        for name in names:
            key = key_of(ChunkKey(name, None), relation)
            if isinstance(key, KeyProblem):
                break  # what comes before it is a key as well, if not a unique one
            keys.append(key)
        if keys:
            return FoundKey(tuple(keys), f"{what} {', '.join(key.column for key in keys)}")
    return None
