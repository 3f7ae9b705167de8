"""Snowflake's types: as declared, as the protocol describes them, and as DuckDB stores them."""

from __future__ import annotations

import dataclasses
import re
from dataclasses import dataclass

from snowmelt.standin.collations import duckdb_collation
from snowmelt.standin.failures import StatementError

_TYPE = re.compile(r"\s*([A-Z_][A-Z0-9_ ]*?)\s*(?:\((.*)\))?\s*", re.DOTALL | re.IGNORECASE)
_COLLATED = re.compile(r"(.*?)\s+COLLATE\s+'([^']*)'\s*", re.DOTALL | re.IGNORECASE)

_KINDS = {
    "FIXED": "NUMBER DECIMAL NUMERIC DEC INT INTEGER BIGINT SMALLINT TINYINT BYTEINT HUGEINT",
    "REAL": "FLOAT FLOAT4 FLOAT8 DOUBLE REAL",
    "TEXT": "VARCHAR STRING TEXT NVARCHAR NVARCHAR2 CHAR CHARACTER NCHAR",
    "BINARY": "BINARY VARBINARY BLOB",
    "BOOLEAN": "BOOLEAN BOOL",
    "DATE": "DATE",
    "TIME": "TIME",
    "TIMESTAMP_NTZ": "TIMESTAMP_NTZ TIMESTAMPNTZ TIMESTAMP DATETIME TIMESTAMP_NS",
    "TIMESTAMP_LTZ": "TIMESTAMP_LTZ TIMESTAMPLTZ",
    "TIMESTAMP_TZ": "TIMESTAMP_TZ TIMESTAMPTZ",
    "VARIANT": "VARIANT JSON",
    "OBJECT": "OBJECT MAP GEOGRAPHY GEOMETRY",
    "ARRAY": "ARRAY VECTOR",
}
_KIND_OF = {name: kind for kind, names in _KINDS.items() for name in names.split()} | {
    "DOUBLE PRECISION": "REAL",
    "CHAR VARYING": "TEXT",
    "TIMESTAMP WITH TIME ZONE": "TIMESTAMP_TZ",
    "TIMESTAMP WITHOUT TIME ZONE": "TIMESTAMP_NTZ",
    "TIMESTAMP WITH LOCAL TIME ZONE": "TIMESTAMP_LTZ",
}
_SEMI_STRUCTURED = frozenset({"VARIANT", "OBJECT", "ARRAY"})
_NUMBERS = frozenset({"FIXED", "REAL"})
_TIMESTAMPS = frozenset({"TIMESTAMP_NTZ", "TIMESTAMP_LTZ", "TIMESTAMP_TZ"})
_STORAGE = {
    "REAL": "DOUBLE",
    "TEXT": "VARCHAR",
    "BINARY": "BLOB",
    "TIMESTAMP_NTZ": "TIMESTAMP",
    "TIMESTAMP_LTZ": "TIMESTAMPTZ",
    "TIMESTAMP_TZ": "TIMESTAMPTZ",
}
_LENGTHS = {"TEXT": 16777216, "BINARY": 8388608}
UTC_OFFSET = 1440  # how Arrow carries an offset: minutes east of UTC plus a day


@dataclass(frozen=True, slots=True)
class SfType:
    """A type of Snowflake. `scale` is also the number of digits of a second's fraction."""

    kind: str
    precision: int = 0
    scale: int = 0
    length: int = 0
    declared: str | None = None  # of a type that only its text tells, as VECTOR(FLOAT, 3)
    collation: str | None = None  # None compares texts by their UTF-8 bytes

    @property
    def is_number(self) -> bool:
        return self.kind in _NUMBERS

    @property
    def is_timestamp(self) -> bool:
        return self.kind in _TIMESTAMPS

    @property
    def is_temporal(self) -> bool:
        """Whether there is a fraction of a second, so that a companion column holds its end."""
        return self.is_timestamp or self.kind == "TIME"

    @property
    def is_semi_structured(self) -> bool:
        return self.kind in _SEMI_STRUCTURED

    @property
    def storage(self) -> str:
        """DuckDB's type for values."""
        if self.kind == "FIXED":
            return f"DECIMAL({self.precision},{self.scale})"
        if self.is_semi_structured:
            return "JSON"
        return _STORAGE.get(self.kind, self.kind)

    @property
    def column_storage(self) -> str:
        """DuckDB's type for a column: with its collation, which no cast may name."""
        collation = duckdb_collation(self.collation) if self.collation is not None else None
        return self.storage if collation is None else f"{self.storage} COLLATE {collation}"

    @property
    def no_companion(self) -> int:
        """The companion's value where nothing is known: no nanoseconds, at UTC."""
        return UTC_OFFSET * 1000 if self.kind == "TIMESTAMP_TZ" else 0

    @property
    def sql(self) -> str:
        """As DESCRIBE TABLE spells it."""
        if self.declared:
            return self.declared
        if self.kind == "FIXED":
            return f"NUMBER({self.precision},{self.scale})"
        if self.kind in _LENGTHS:
            name = "VARCHAR" if self.kind == "TEXT" else self.kind
            collation = f" COLLATE '{self.collation}'" if self.collation is not None else ""
            return f"{name}({self.length}){collation}"
        if self.kind == "REAL":
            return "FLOAT"
        return f"{self.kind}({self.scale})" if self.is_temporal else self.kind

    def rowtype(self, name: str, nullable: bool) -> dict[str, object]:
        """The protocol's description of a result's column of this type."""
        exact = self.kind == "FIXED"
        length = self.length if self.kind in _LENGTHS else None
        byte_length = min(length * 4, 16777216) if length and self.kind == "TEXT" else length
        if self.is_semi_structured:
            length = byte_length = None
        return {
            "name": name,
            "database": "",
            "schema": "",
            "table": "",
            "nullable": nullable,
            "type": self.kind.lower(),
            "byteLength": byte_length,
            "length": length,
            "precision": self.precision if exact else 0 if self.is_temporal else None,
            "scale": self.scale if exact or self.is_temporal else None,
            "collation": self.collation,
        }

    def collated(self, specification: str) -> SfType:
        """The type of a column so declared; StatementError for no text, or a collation not known here."""
        if self.kind != "TEXT":
            raise StatementError(
                2263,
                "42601",
                f"SQL compilation error:\nCannot specify column collation for data type '{self.sql}'",
            )
        duckdb_collation(specification)
        return dataclasses.replace(self, collation=specification.lower() or None)


def number(precision: int = 38, scale: int = 0) -> SfType:
    return SfType("FIXED", precision=precision, scale=scale)


def varchar(length: int = 16777216) -> SfType:
    return SfType("TEXT", length=length)


BOOLEAN = SfType("BOOLEAN")
DATE = SfType("DATE")
REAL = SfType("REAL")
VARIANT = SfType("VARIANT")
LTZ = SfType("TIMESTAMP_LTZ", scale=9)
NTZ = SfType("TIMESTAMP_NTZ", scale=9)
TZ = SfType("TIMESTAMP_TZ", scale=9)


def parsed(declaration: str) -> SfType:
    """The type of a declaration such as `NUMBER(38,0)`, in any of Snowflake's spellings."""
    collated = _COLLATED.fullmatch(declaration)
    if collated is not None:
        return parsed(collated[1]).collated(collated[2])
    match = _TYPE.fullmatch(declaration)
    name = " ".join(match[1].upper().split()) if match else ""
    kind = _KIND_OF.get(name)
    if match is None or kind is None:
        raise StatementError(
            2040, "42601", f"SQL compilation error:\nUnsupported data type '{declaration}'."
        )
    if name in {"GEOGRAPHY", "GEOMETRY", "VECTOR", "MAP"}:
        return SfType(kind, declared=declaration.strip().upper())
    if kind in _SEMI_STRUCTURED:
        return SfType(kind)
    arguments = [int(part) for part in (match[2] or "").split(",") if part.strip().isdigit()]
    if kind == "FIXED":
        exact = name in {"NUMBER", "DECIMAL", "NUMERIC", "DEC"}
        precision, scale, *_ = [*(arguments if exact else []), *(38, 0)[len(arguments) * exact :]]
        return number(precision, scale)
    if kind in _LENGTHS:
        default = 1 if name in {"CHAR", "CHARACTER", "NCHAR"} else _LENGTHS[kind]
        return SfType(kind, length=arguments[0] if arguments else default)
    if kind in _TIMESTAMPS or kind == "TIME":
        return SfType(kind, scale=arguments[0] if arguments else 9)
    return SfType(kind)


def from_duckdb(name: str) -> SfType:
    """The type of a column that only DuckDB knows: integers are NUMBER(38,0)."""
    if name in {"UBIGINT", "UINTEGER", "USMALLINT", "UTINYINT", "UHUGEINT"}:
        return number()
    if name.startswith("TIMESTAMP_"):
        return NTZ
    if name == '"NULL"' or name.startswith("ENUM"):
        return varchar()
    if name.endswith("]") or name.startswith(("STRUCT", "MAP")):
        return VARIANT
    return parsed(name)
