"""Record batches of exact types -> COPY's tuples: by the C extension, or where it was not built by pgpq.

Both give the same bytes; pgpq holds the interpreter's lock meanwhile.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

import pyarrow as pa

from snowmelt.errors import RunError, ValueDoesNotFit
from snowmelt.types import Wire

if TYPE_CHECKING:
    import pgpq

try:
    from snowmelt.postgres._copybinary import encode as native_encode
except ImportError:  # no C compiler where it was installed
    native_encode = None  # type: ignore[assignment]

_TRAILER = b"\xff\xff"
_CODES = {
    Wire.BOOL: "?",
    Wire.INT2: "h",
    Wire.INT4: "i",
    Wire.INT8: "q",
    Wire.NUMERIC: "n",
    Wire.FLOAT4: "f",
    Wire.FLOAT8: "d",
    Wire.TEXT: "t",
    Wire.BYTEA: "y",
    Wire.DATE: "D",
    Wire.TIME: "T",
    Wire.TIMESTAMP: "s",
    Wire.TIMESTAMPTZ: "z",
    Wire.UUID: "u",
    Wire.JSON: "t",
    Wire.JSONB: "j",
}
"""How the C encoder calls the wires."""


class Writer(Protocol):
    """Turns batches into COPY's bytes; `trailer` may hold rows that were kept back."""

    def write(self, batch: pa.RecordBatch) -> bytes: ...

    def trailer(self) -> bytes: ...


def writer_of(schema: pa.Schema, wires: Sequence[Wire]) -> Writer:
    """Of batches of the schema, each column for a wire. Raises RunError where nothing is installed for it."""
    return _Pgpq(schema, wires) if native_encode is None else _Native(wires)


class _Native:
    """The C encoder."""

    def __init__(self, wires: Sequence[Wire]) -> None:
        self._wires = "".join(_CODES[wire] for wire in wires).encode()

    def write(self, batch: pa.RecordBatch) -> bytes:
        try:
            return native_encode(batch.__arrow_c_array__(), self._wires)
        except OverflowError as error:
            raise ValueDoesNotFit(
                str(error), remedy="PostgreSQL holds no value over 1 GB: filter the row out"
            ) from error

    def trailer(self) -> bytes:
        return _TRAILER


class _Pgpq:
    """pgpq, which keeps small batches back until it has more or is told to finish."""

    def __init__(self, schema: pa.Schema, wires: Sequence[Wire]) -> None:
        try:
            import pgpq
        except ImportError as error:
            raise RunError(
                "nothing is installed that encodes rows: the C extension was not built, and there is no pgpq",
                remedy="install a C compiler, then snowmelt again",
            ) from error
        builders = {
            field.name: _builder(field, wire) for field, wire in zip(schema, wires, strict=True)
        }
        self._encoder = pgpq.ArrowToPostgresBinaryEncoder.new_with_encoders(schema, builders)
        self._encoder.write_header()  # it wants to have been asked for it first

    def write(self, batch: pa.RecordBatch) -> bytes:
        return self._encoder.write_batch(batch)

    def trailer(self) -> bytes:
        return self._encoder.finish()


def _builder(field: pa.Field, wire: Wire) -> pgpq.EncoderBuilder:  # type: ignore[name-defined]
    import pgpq
    from pgpq import encoders
    from pgpq.schema import Jsonb

    match wire:
        case Wire.JSONB:
            return encoders.StringEncoderBuilder.new_with_output(field, Jsonb())
        case Wire.TEXT | Wire.JSON:
            return encoders.StringEncoderBuilder(field)
        case _:
            return pgpq.ArrowToPostgresBinaryEncoder.infer_encoder(field)
