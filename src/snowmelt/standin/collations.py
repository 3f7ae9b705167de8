"""Collations: which of DuckDB's compares texts as one of Snowflake's does."""

from __future__ import annotations

from snowmelt.standin.failures import not_supported

BINARY = "C"  # takes a column's own collation away
_PARTS = {"ci": "NOCASE", "ai": "NOACCENT"}
_CASE_SENSITIVE = frozenset({"", "utf8"})


def duckdb_collation(specification: str) -> str | None:
    """DuckDB's name for a specification such as `en-ci`, None for the order of the UTF-8 bytes.

    Only those that ignore case are near enough to DuckDB's; StatementError 2 for another.
    """
    given = specification.lower()
    if given in _CASE_SENSITIVE:
        return None
    language, *options = given.split("-")
    if language.startswith("en") and "ci" in options and set(options) <= set(_PARTS):
        return ".".join(_PARTS[one] for one in sorted(options, reverse=True))
    raise not_supported(f"collation {specification}")
