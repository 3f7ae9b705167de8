"""What a config wishes for columns: how new ones are named, and what becomes of those that a target lacks."""

from __future__ import annotations

from enum import StrEnum


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
