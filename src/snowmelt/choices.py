"""What a config may choose between for a table; the values are those of its keys."""

from __future__ import annotations

from enum import StrEnum


class KeyType(StrEnum):
    """How a chunking column is ranged over; the values of `chunking_column_types`."""

    INT = "int"
    NUMERIC = "numeric"
    VARCHAR = "varchar"
    VARCHAR_NUMERIC = "varchar_numeric"
    UUID = "uuid"
    DATE = "date"
    TIMESTAMP = "timestamp"


class Snapshot(StrEnum):
    """How all queries of a table come to see one state of it; the values of `snapshot`."""

    TIME_TRAVEL = "time_travel"
    CLONE = "clone"
    NONE = "none"


class Mode(StrEnum):
    """What becomes of a row whose key the target has; the values of `mode`, but for `truncate`."""

    APPEND = "append"
    """Nobody looks: rows go in by COPY."""
    INSERT_ONLY = "insert_only"
    """It is skipped and counted."""
    UPSERT = "upsert"
    """The newer of the two stays, by the watermark where there is one."""


class NulCharacters(StrEnum):
    """What becomes of the character NUL, which no text of PostgreSQL has; the values of `nul_characters`."""

    FAIL = "fail"
    STRIP = "strip"
    """It is left out."""
    REPLACE = "replace"
    """U+FFFD takes its place."""

    @property
    def replacement(self) -> str | None:
        """What takes its place; None where it fails."""
        return {NulCharacters.STRIP: "", NulCharacters.REPLACE: "\ufffd"}.get(self)


class Extraction(StrEnum):
    """How a table's rows leave the source; the values of `extraction`."""

    AUTO = "auto"
    QUERY_PER_CHUNK = "query_per_chunk"
    ONE_QUERY = "one_query"


class ColumnNames(StrEnum):
    """How a table that is created spells its columns; the values of `column_names`."""

    EXACT = "exact"
    LOWER = "lower"


class NewColumns(StrEnum):
    """What becomes of columns of a source that the target lacks; the values of `new_columns`."""

    AUTO = "auto"
    """Those that the source gained since the last load are added, others are left out."""
    ADD = "add"
    LEAVE_OUT = "leave_out"
    REFUSE = "refuse"
