"""The key `mode` of a config."""

from __future__ import annotations

from enum import StrEnum


class LoadMode(StrEnum):
    """The values of `mode`."""

    APPEND = "append"
    INSERT_ONLY = "insert_only"
    UPSERT = "upsert"
    TRUNCATE = "truncate"
    REPLACE = "replace"
