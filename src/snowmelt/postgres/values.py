"""Which values of a column its target type does not take, before COPY is sent any: a code for each row.

A column is looked at in its Arrow type on the wire, all rows at once: numbers and times by pyarrow, texts and JSON
in C, and where that is not built by pyarrow and Python with the same answers. Nothing is refused here: `encode`
does that, and whoever is to set rows apart can take the mask.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from decimal import Decimal
from enum import IntEnum

import pyarrow as pa
import pyarrow.compute as pc

from snowmelt.postgres.json_rules import JsonFault, NotJson, require_json
from snowmelt.types import TargetType, Wire

try:
    from snowmelt.postgres._values import faults as native_faults
except ImportError:  # no C compiler where it was installed
    native_faults = None  # type: ignore[assignment]

LONGEST_FIELD = 0x3FFFFFFF - 4
"""Bytes of a value, as in `_copybinary.c`; of jsonb one is the version's."""


class Fault(IntEnum):
    """What is wrong with a value; the first of several. The numbers up to TOO_LARGE are those of `_json.h`."""

    FITS = 0
    NUL = 1
    ESCAPED_NUL = 2
    TOO_MANY_CHARACTERS = 3
    TOO_MANY_BYTES = 4
    NO_JSON = 5
    LONE_SURROGATE = 6
    JSON_NUMBER = 7
    TOO_LARGE = 8
    FINER = 9
    NULL = 10
    OTHER = 11
    """It can't be made a value of the type, or would be another one there."""


NULS = (Fault.NUL, Fault.ESCAPED_NUL)
"""Those that `nul_characters` is about."""


@dataclass(frozen=True, slots=True)
class Faults:
    """Of one column of a batch: a `Fault` for each row, at least one of them not FITS."""

    codes: pa.UInt8Array

    def mask(self, *of: Fault) -> pa.BooleanArray:
        """True for each row with one of these faults, or with any if none is named."""
        if not of:
            return pc.not_equal(self.codes, int(Fault.FITS))
        return pc.is_in(self.codes, pa.array([int(fault) for fault in of], pa.uint8()))

    def first(self) -> tuple[int, Fault]:
        """The first row with a fault, and which."""
        row = pc.index(self.mask(), True).as_py()
        return row, Fault(self.codes[row].as_py())


Look = Callable[[pa.Array], pa.UInt8Array | None]
"""Codes of an array's rows; None where all fit."""


@dataclass(frozen=True, slots=True)
class Check:
    """What is looked at in a column: nothing where its type has room for all that may come."""

    looks: tuple[Look, ...]

    def faults(self, array: pa.Array) -> Faults | None:
        """None where all rows fit."""
        codes = None
        for look in self.looks:
            found = look(array)
            if found is not None and codes is not None:
                found = pc.if_else(pc.equal(codes, int(Fault.FITS)), found, codes)
            codes = codes if found is None else found
        return None if codes is None else Faults(codes)


def check(target: TargetType, type: pa.DataType, *, nullable: bool = True) -> Check:
    """What is to be looked at in a column that arrives at the wire in this Arrow type."""
    looks = list(_looks(target, type))
    if not nullable:
        looks.append(_nulls)
    return Check(tuple(looks))


def unconvertible(convert: Callable[[pa.Array], pa.Array], array: pa.Array) -> Faults:
    """The rows for which a conversion that fails for the array raises ArrowInvalid: found by halving, since there
    are few as a rule."""
    codes = bytearray(len(array))
    parts = [(0, len(array))]
    while parts:
        low, size = parts.pop()
        try:
            convert(array.slice(low, size))
        except pa.ArrowInvalid:
            half = size // 2
            if half:
                parts += [(low, half), (low + half, size - half)]
            else:
                codes[low] = Fault.OTHER
    return Faults(pa.Array.from_buffers(pa.uint8(), len(codes), [None, pa.py_buffer(codes)]))


def _looks(target: TargetType, type: pa.DataType) -> Iterator[Look]:
    match target.wire:
        case Wire.TEXT:
            rule = "t" if target.length is None else "c" if target.padded else "v"
            yield _look(rule, target.length or 0)
        case Wire.JSON:
            yield _look("J")
        case Wire.JSONB:
            yield _look("j")
        case Wire.BYTEA:
            yield _look("y")
        case Wire.NUMERIC:
            yield from _numeric(target, type)
        case Wire.TIME | Wire.TIMESTAMP | Wire.TIMESTAMPTZ if (target.precision or 0) < 6:
            if target.precision is not None:
                yield _finer(10 ** (6 - target.precision))


def _numeric(target: TargetType, type: pa.Decimal128Type) -> Iterator[Look]:
    """Digits behind the point were looked at by the cast to the type, but for those before it that a negative
    scale rounds away."""
    if target.precision is None or target.scale is None:
        return
    if target.scale < 0:
        yield _coarser(pa.decimal128(38, target.scale))
    digits = target.precision - target.scale + type.scale
    # The 128 bits of a HUGEINT hold more than the 38 digits of its Arrow type.
    if digits < type.precision or digits <= 38 == type.precision:
        yield _look("n", max(digits, 0))


def _coarser(hundreds: pa.DataType) -> Look:
    def look(array: pa.Array) -> pa.UInt8Array | None:
        whole = array.cast(hundreds, safe=False).cast(array.type)
        return _coded(pc.not_equal(array, whole), Fault.FINER)

    return look


def _finer(step: int) -> Look:
    """Microseconds that are no multiple of the step."""

    def look(array: pa.Array) -> pa.UInt8Array | None:
        whole = array.cast(pa.int64())
        return _coded(pc.not_equal(pc.multiply(pc.divide(whole, step), step), whole), Fault.FINER)

    return look


def _nulls(array: pa.Array) -> pa.UInt8Array | None:
    return _coded(array.is_null(), Fault.NULL) if array.null_count else None


def _coded(mask: pa.BooleanArray, fault: Fault) -> pa.UInt8Array | None:
    if not pc.any(mask).as_py():
        return None
    return pc.if_else(pc.fill_null(mask, False), _code(fault), _code(Fault.FITS))


def _code(fault: Fault) -> pa.UInt8Scalar:
    return pa.scalar(int(fault), pa.uint8())


def _look(rule: str, most: int = 0) -> Look:
    """Rules: text, varchar, char, JSON of json, jsonb, bYtea, and numeric; `most` characters, or digits of any."""

    def look(array: pa.Array) -> pa.UInt8Array | None:
        if native_faults is None:
            return _by_pyarrow(array, rule, most)
        codes = native_faults(array.__arrow_c_array__(), rule, most)
        if codes is None:
            return None
        return pa.Array.from_buffers(pa.uint8(), len(codes), [None, pa.py_buffer(codes)])

    return look


def _by_pyarrow(array: pa.Array, rule: str, most: int) -> pa.UInt8Array | None:
    if rule == "n":
        return _beyond(array, most)
    longest = LONGEST_FIELD - (rule == "j")
    looks: list[Look] = [
        lambda array: _coded(pc.greater(pc.binary_length(array), longest), Fault.TOO_MANY_BYTES)
    ]
    if rule != "y":
        looks.append(lambda array: _coded(pc.match_substring(array, "\0"), Fault.NUL))
    if rule in "vc":
        looks.append(lambda array: _longer(array, most, padded=rule == "c"))
    elif rule in "Jj":
        looks.append(lambda array: _unjson(array, binary=rule == "j"))
    found = Check(tuple(looks)).faults(array)
    return found and found.codes


def _beyond(array: pa.Decimal128Array, digits: int) -> pa.UInt8Array | None:
    most = Decimal((0, (9,) * digits or (0,), -array.type.scale))
    high, low = pa.scalar(most, array.type), pa.scalar(most.copy_negate(), array.type)
    return _coded(pc.or_(pc.greater(array, high), pc.less(array, low)), Fault.TOO_LARGE)


def _longer(array: pa.Array, length: int, *, padded: bool) -> pa.UInt8Array | None:
    counted = pc.utf8_rtrim(array, characters=" ") if padded else array
    return _coded(pc.greater(pc.utf8_length(counted), length), Fault.TOO_MANY_CHARACTERS)


_OF_JSON = {
    JsonFault.SYNTAX: Fault.NO_JSON,
    JsonFault.NUL: Fault.ESCAPED_NUL,
    JsonFault.SURROGATE: Fault.LONE_SURROGATE,
    JsonFault.NUMBER: Fault.JSON_NUMBER,
}


def _unjson(array: pa.Array, *, binary: bool) -> pa.UInt8Array | None:
    codes = [int(_json_fault(text, binary)) for text in array.to_pylist()]
    return pa.array(codes, pa.uint8()) if any(codes) else None


def _json_fault(text: str | None, binary: bool) -> Fault:
    if text is not None:
        try:
            require_json(text, binary=binary)
        except NotJson as error:
            return _OF_JSON[error.fault]
    return Fault.FITS
