"""Bodies made wrong on purpose: still valid Arrow, but not what was declared."""

from __future__ import annotations

import base64
import gzip as gzip_format

import pyarrow as pa

from snowmelt.standin.encode import stream
from snowmelt.standin.results import Chunk, compressed


def shorter(body: bytes) -> bytes:
    """The stream without its last row."""
    rows = pa.ipc.open_stream(body).read_all()
    return stream(rows.slice(0, max(rows.num_rows - 1, 0)))


def numbers_as_text(body: bytes) -> bytes:
    """The stream with its numbers as text, declared FIXED still."""
    rows = pa.ipc.open_stream(body).read_all()
    arrays, fields = [], []
    for field, array in zip(rows.schema, rows.columns, strict=True):
        fixed = (field.metadata or {}).get(b"logicalType") == b"FIXED"
        arrays.append(array.cast(pa.string()) if fixed else array)
        fields.append(field.with_type(arrays[-1].type))
    return stream(pa.Table.from_arrays(arrays, schema=pa.schema(fields)))


def chunk_body(chunk: Chunk, *, short: bool, wrong_width: bool) -> bytes:
    """The chunk's body with the faults asked for, compressed as the chunk is."""
    if not short and not wrong_width:
        return chunk.body
    plain = chunk.body if chunk.gzip == "none" else gzip_format.decompress(chunk.body)
    plain = shorter(plain) if short else plain
    plain = numbers_as_text(plain) if wrong_width else plain
    return plain if chunk.gzip == "none" else compressed(plain)


def answer(data: dict[str, object], *, short: bool, empty: bool) -> dict[str, object]:
    """The answer with the faults asked for in the rows that it carries itself."""
    body = data.get("rowsetBase64")
    if empty:
        return {**data, "rowsetBase64": ""}
    if short and isinstance(body, str) and body:
        cut = shorter(base64.b64decode(body))
        return {**data, "rowsetBase64": base64.b64encode(cut).decode()}
    return data
