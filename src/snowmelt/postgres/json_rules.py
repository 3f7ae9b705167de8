"""Whether a text is JSON, as PostgreSQL's json and jsonb judge it, and where it is not.

The same rules as in `_json.h`, which judges columns where it is built; this says where the fault is. Python's json
takes NaN, and ends at a depth of its own; how deep PostgreSQL goes is left to the server.
"""

from __future__ import annotations

import re
from enum import Enum, auto

LARGEST_POWER = 131_072
"""numeric has no digit of this power of ten, or a greater one."""
MOST_DECIMALS = 16_383
LARGEST_EXPONENT = (1 << 30) - 1

_SPACE = re.compile(r"[ \t\n\r]*")
_PLAIN = re.compile(r'[^"\\\x00-\x1f]*')
_HEX = re.compile(r"[0-9a-fA-F]{4}")
_NUMBER = re.compile(r"-?(0|[1-9][0-9]*)(?:\.([0-9]+))?(?:[eE]([+-]?[0-9]+))?")
_WORD = re.compile(r"true|false|null")
_ESCAPES = re.compile(r"\\(?:(u0000)|.)", re.DOTALL)


class JsonFault(Enum):
    """What is wrong with a text; all but the first only for jsonb."""

    SYNTAX = auto()
    NUL = auto()
    SURROGATE = auto()
    NUMBER = auto()


class NotJson(Exception):
    """A fault, and the place of the character where it was met, from 0."""

    def __init__(self, fault: JsonFault, place: int) -> None:
        super().__init__(fault, place)
        self.fault = fault
        self.place = place


def require_json(text: str, *, binary: bool) -> None:
    """Raise NotJson for the first fault of a value of json, or of jsonb if it is `binary`."""
    open_: list[str] = []
    at, ended = _begun(text, 0, open_, binary)
    while True:
        if not ended:
            at, ended = _begun(text, at, open_, binary)
            continue
        at = _after_space(text, at)
        if not open_:
            if at < len(text):
                raise NotJson(JsonFault.SYNTAX, at)
            return
        character = text[at : at + 1]
        if character == open_[-1]:
            open_.pop()
            at += 1
        elif character == ",":
            at = _key(text, at + 1, binary) if open_[-1] == "}" else at + 1
            ended = False
        else:
            raise NotJson(JsonFault.SYNTAX, at)


def _begun(text: str, at: int, open_: list[str], binary: bool) -> tuple[int, bool]:
    """Behind the value that begins here, and True; or where it opens one that is not empty, before the first value
    in it, and False."""
    at = _after_space(text, at)
    character = text[at : at + 1]
    if character not in {"{", "["}:
        return _scalar(text, at, binary), True
    close = "}" if character == "{" else "]"
    inside = _after_space(text, at + 1)
    if text[inside : inside + 1] == close:
        return inside + 1, True
    open_.append(close)
    return (_key(text, inside, binary) if close == "}" else inside), False


def _key(text: str, at: int, binary: bool) -> int:
    at = _after_space(text, at)
    if text[at : at + 1] != '"':
        raise NotJson(JsonFault.SYNTAX, at)
    at = _after_space(text, _string(text, at + 1, binary))
    if text[at : at + 1] != ":":
        raise NotJson(JsonFault.SYNTAX, at)
    return at + 1


def _scalar(text: str, at: int, binary: bool) -> int:
    if text[at : at + 1] == '"':
        return _string(text, at + 1, binary)
    if word := _WORD.match(text, at):
        return word.end()
    number = _NUMBER.match(text, at)
    if number is None:
        raise NotJson(JsonFault.SYNTAX, at)
    if _goes_on(number, text[number.end() : number.end() + 1]):
        raise NotJson(JsonFault.SYNTAX, number.end())
    if binary and not _is_numeric(number[1], number[2] or "", number[3] or "0"):
        raise NotJson(JsonFault.NUMBER, at)
    return number.end()


def _goes_on(number: re.Match[str], after: str) -> bool:
    """Whether what follows would belong to the number, but can't."""
    if not after or number[3] is not None:
        return False
    if after in "eE":
        return True
    whole = number[2] is None
    return whole and (after == "." or (number[1] == "0" and after in "0123456789"))


def _is_numeric(whole: str, decimals: str, exponent_text: str) -> bool:
    digits = exponent_text.lstrip("+-").lstrip("0")
    if len(digits) > 10 or int(digits or 0) > LARGEST_EXPONENT:
        return False
    exponent = -int(digits or 0) if exponent_text.startswith("-") else int(digits or 0)
    if len(decimals) - exponent > MOST_DECIMALS:
        return False
    if whole != "0":
        return len(whole) - 1 + exponent < LARGEST_POWER
    zeros = len(decimals) - len(decimals.lstrip("0"))
    return zeros == len(decimals) or exponent - zeros - 1 < LARGEST_POWER


def _string(text: str, at: int, binary: bool) -> int:
    """From behind the opening quote to behind the closing one."""
    pending = False  # half of a surrogate pair waits for the other
    while True:
        plain = _end(_PLAIN, text, at)
        if pending and plain > at:
            raise NotJson(JsonFault.SURROGATE, at)
        at = plain
        character = text[at : at + 1]
        if character == '"' and not pending:
            return at + 1
        if character == '"':
            raise NotJson(JsonFault.SURROGATE, at)
        if character != "\\":
            raise NotJson(JsonFault.SYNTAX, at)
        at, code = _escape(text, at)
        if not binary:
            continue
        if pending != (code is not None and code >> 10 == 0xDC00 >> 10):
            raise NotJson(JsonFault.SURROGATE, at)
        if code == 0:
            raise NotJson(JsonFault.NUL, at)
        pending = code is not None and code >> 10 == 0xD800 >> 10


def _escape(text: str, at: int) -> tuple[int, int | None]:
    """Behind the escape that begins here, and the code that it gives as four digits."""
    kind = text[at + 1 : at + 2]
    if kind == "u" and (digits := _HEX.match(text, at + 2)):
        return at + 6, int(digits[0], 16)
    if not kind or kind not in '"\\/bfnrt':
        raise NotJson(JsonFault.SYNTAX, at)
    return at + 2, None


def _after_space(text: str, at: int) -> int:
    return _end(_SPACE, text, at)


def _end(pattern: re.Pattern[str], text: str, at: int) -> int:
    """Behind what a pattern that may be empty matches here."""
    match = pattern.match(text, at)
    return match.end() if match else at


def without_escaped_nuls(text: str, replacement: str) -> str:
    """A JSON text with each \\u0000 replaced. A backslash that is escaped begins no escape.

    >>> without_escaped_nuls(r'"a\\u0000 \\\\u0000"', "")
    '"a \\\\\\\\u0000"'
    """
    return _ESCAPES.sub(lambda match: replacement if match[1] else match[0], text)
