"""Results of finished statements, kept for a while, and their chunks' addresses."""

from __future__ import annotations

import base64
import secrets
import threading
import zlib
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import pyarrow as pa

from snowmelt.standin.encode import Output, encoded, stream
from snowmelt.standin.faults import Gzip

_KEPT = 256
_KEPT_BYTES = 3 << 30


INLINE_BYTES = 1 << 20
"""Of rows that come with the answer itself, whatever their number: an answer is small."""


@dataclass(frozen=True, slots=True)
class Sizes:
    """Rows sent in the answer itself, rows per chunk after them, and what a chunk weighs at most before it is
    compressed."""

    inline: int
    per_chunk: int
    chunk_bytes: int = 160 << 20

    def under(self, megabytes: object) -> Sizes:
        """As a session has set CLIENT_RESULT_CHUNK_SIZE."""
        return replace(self, chunk_bytes=int(str(megabytes)) << 20)


@dataclass(frozen=True, slots=True)
class Chunk:
    """One part of a result that is fetched by its own address."""

    body: bytes
    rows: int
    plain_size: int
    gzip: Gzip


@dataclass(slots=True)
class Result:
    """A finished statement's answer: `data` without addresses, and the chunks."""

    query_id: str
    user: str
    data: dict[str, object]
    chunks: tuple[Chunk, ...] = ()
    signature: str = field(default_factory=lambda: secrets.token_hex(16))

    @property
    def size(self) -> int:
        return sum(len(chunk.body) for chunk in self.chunks)


def compressed(body: bytes) -> bytes:
    """As gzip, at its fastest level."""
    packer = zlib.compressobj(1, zlib.DEFLATED, 31)
    return packer.compress(body) + packer.flush()


def arrow_parts(
    rows: pa.Table, outputs: Sequence[Output], sizes: Sizes, *, compact: bool, gzip: Gzip
) -> tuple[dict[str, object], tuple[Chunk, ...]]:
    """The answer's own fields for the rows, and the chunks."""
    total = rows.num_rows
    inline = min(total, sizes.inline)
    if rows.nbytes:
        inline = min(inline, INLINE_BYTES * total // rows.nbytes)
    # Without rows Snowflake sends nothing, not even a schema.
    body = stream(encoded(rows.slice(0, inline), outputs, compact=compact)) if total else b""
    chunks, start = [], inline
    while start < total:
        part = rows.slice(start, sizes.per_chunk)
        plain = stream(encoded(part, outputs, compact=compact))
        while len(plain) > sizes.chunk_bytes and part.num_rows > 1:
            fitting = part.num_rows * sizes.chunk_bytes // len(plain)
            part = part.slice(0, min(max(fitting, 1), part.num_rows - 1))
            plain = stream(encoded(part, outputs, compact=compact))
        start += part.num_rows
        sent = plain if gzip == "none" else compressed(plain)
        chunks.append(Chunk(sent, part.num_rows, len(plain), gzip))
    fields = {
        "queryResultFormat": "arrow",
        "rowsetBase64": base64.b64encode(body).decode(),
        "total": total,
        "returned": total,
    }
    return fields, tuple(chunks)


class Results:
    """The last results, by query id; thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._results: OrderedDict[str, Result] = OrderedDict()
        self._bytes = 0

    def add(self, result: Result) -> None:
        with self._lock:
            self._results[result.query_id] = result
            self._bytes += result.size
            while len(self._results) > 1 and (
                len(self._results) > _KEPT or self._bytes > _KEPT_BYTES
            ):
                _, gone = self._results.popitem(last=False)
                self._bytes -= gone.size

    def get(self, query_id: str) -> Result | None:
        with self._lock:
            return self._results.get(query_id)

    def forget(self) -> None:
        with self._lock:
            self._results.clear()
            self._bytes = 0

    def expire_urls(self) -> None:
        with self._lock:
            for result in self._results.values():
                result.signature = secrets.token_hex(16)

    def answer(self, result: Result, base: str) -> dict[str, object]:
        """The `data` of an answer, with addresses that work until they are made to expire."""
        if not result.chunks:
            return result.data
        chunks = [
            {
                "url": f"{base}/chunk/{result.query_id}/{number}?sig={result.signature}",
                "rowCount": chunk.rows,
                "uncompressedSize": chunk.plain_size,
                "compressedSize": len(chunk.body),
            }
            for number, chunk in enumerate(result.chunks)
        ]
        key = secrets.token_urlsafe(32)
        headers = {"x-amz-server-side-encryption-customer-algorithm": "AES256"}
        return {**result.data, "chunks": chunks, "qrmk": key, "chunkHeaders": headers}
