"""A load's columns as the ledger stores them."""

from __future__ import annotations

import base64
from collections.abc import Sequence

import pyarrow as pa

from snowmelt.model import Column

_COMMENT = b"comment"


def columns_to_json(columns: Sequence[Column], comment: str = "") -> dict[str, object]:
    """Readable names beside the exact Arrow schema, which has no readable form that can be read back.

    Comments stand in the schema: the database's encoding need not hold them.
    """
    fields = [
        pa.field(column.name, column.type, column.nullable, _metadata(column.comment))
        for column in columns
    ]
    schema = pa.schema(fields, _metadata(comment))
    return {
        "columns": [
            {
                "name": column.name,
                "type": str(column.type),
                "source_type": column.source_type,
                "target": column.target,
            }
            for column in columns
        ],
        "arrow": base64.b64encode(schema.serialize().to_pybytes()).decode("ascii"),
    }


def columns_from_json(value: object) -> tuple[Column, ...]:
    """Empty for what the running system stored. Of an older release no column has another name in the target."""
    match value:
        case {"columns": list(described), "arrow": str(encoded)}:
            return tuple(
                Column(
                    field.name,
                    field.type,
                    field.nullable,
                    str(entry["source_type"]),
                    entry.get("target"),
                    _comment(field.metadata),
                )
                for field, entry in zip(_schema(encoded), described, strict=True)
            )
    return ()


def comment_from_json(value: object) -> str:
    """The comment of the source's table."""
    match value:
        case {"arrow": str(encoded)}:
            return _comment(_schema(encoded).metadata)
    return ""


def _schema(encoded: str) -> pa.Schema:
    return pa.ipc.read_schema(pa.py_buffer(base64.b64decode(encoded)))


def _metadata(comment: str) -> dict[bytes, bytes] | None:
    return {_COMMENT: comment.encode()} if comment else None


def _comment(metadata: dict[bytes, bytes] | None) -> str:
    return (metadata or {}).get(_COMMENT, b"").decode()
