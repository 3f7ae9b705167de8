"""The types of single settings: what each accepts, and what to say when it doesn't."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    PlainSerializer,
    PlainValidator,
    SecretStr,
    ValidatorFunctionWrapHandler,
    WrapValidator,
)
from pydantic import WithJsonSchema as JsonSchema
from pydantic_core import PydanticCustomError, PydanticKnownError

PROBLEM = "snowmelt"
"""The error type of our own validators; their context has `what` and `remedy`."""

_MEMORY = r"(?i)^\s*[0-9]+\s*(MB|GB)?\s*$"
_SIZE = r"^[0-9]+\s*(kB|MB|GB|TB)$"


def problem(what: str, remedy: str) -> PydanticCustomError:
    """An error of a validator, in the words that the user reads."""
    return PydanticCustomError(PROBLEM, "{what}", {"what": what, "remedy": remedy})


def nearest(name: str, known: Iterable[str]) -> str | None:
    """The known name that was probably meant; case does not count."""
    by_lower = {candidate.lower(): candidate for candidate in known}
    close = difflib.get_close_matches(name.lower(), by_lower, n=1, cutoff=0.6)
    return by_lower[close[0]] if close else None


@dataclass(frozen=True, slots=True)
class Connection:
    """Where an embedded source lives; `path` is relative to the working directory or absolute."""

    scheme: Literal["duckdb", "files"]
    path: str

    def __str__(self) -> str:
        return f"{self.scheme}:///{self.path}"


def _read_connection(value: object) -> Connection:
    if isinstance(value, Connection):
        return value
    if not isinstance(value, str):
        raise PydanticKnownError("string_type")
    scheme, separator, rest = value.partition("://")
    forms = "duckdb:///path.duckdb or files:///folder (four slashes for an absolute path)"
    if not separator:
        raise problem("is no connection", f"write {forms}")
    # Only the scheme is shown: what follows may be a URL with a password.
    if scheme not in ("duckdb", "files"):
        shown = f" {scheme}" if re.fullmatch(r"[a-z][a-z0-9+.-]*", scheme) else ""
        raise problem(f"has the unknown scheme{shown}; known are duckdb, files", f"write {forms}")
    if not rest.startswith("/"):
        raise problem(f"has two slashes after {scheme}:", f"write {forms}")
    if not rest[1:].strip():
        raise problem("names no path", f"write {forms}")
    # So that `folder/` and `folder` are one place, also to the identity of a run.
    path = str(PurePosixPath(rest[1:]))
    return Connection("duckdb" if scheme == "duckdb" else "files", path)


def _no_boolean(value: object) -> object:
    """Python counts True as 1; a config does not."""
    if isinstance(value, bool):
        raise PydanticKnownError("int_type")
    return value


def _read_memory(value: object) -> object:
    if not isinstance(value, str):
        return _no_boolean(value)
    if not re.fullmatch(_MEMORY, value):
        raise problem("is no amount of memory", "write MB as a number, or a text such as 10GB")
    digits = int("".join(character for character in value if character.isdigit()))
    return digits * 1024 if "g" in value.lower() else digits


def _on_or_off(value: object) -> object:
    """YAML reads an unquoted `off` as false."""
    return {True: "on", False: "off"}[value] if isinstance(value, bool) else value


def _read_size(value: object) -> object:
    """A bare number is refused as well: it would be kB, which hardly anybody means."""
    is_size = isinstance(value, str) and re.fullmatch(_SIZE, value)
    if isinstance(value, int | float | str) and not is_size:
        raise problem("is no size with a unit", "write a number with kB, MB, GB or TB: 256MB")
    return value


def _or_auto(value: object, number: ValidatorFunctionWrapHandler) -> object:
    if isinstance(value, str) and not value.strip().isdigit():
        if value == "auto":
            return value
        raise problem(
            "is neither auto nor a number of rows", "write auto, or a number such as 100000"
        )
    return number(value)


def _check_host(value: str) -> str:
    if "://" in value or "@" in value:
        raise problem("is a whole address, not a host", "put the address under the key dsn")
    return value


def _check_schema(value: str) -> str:
    parts = value.split(".")
    if len(parts) > 2 or not all(part.strip() for part in parts):
        raise problem("is no schema", "write SCHEMA or DATABASE.SCHEMA")
    return value


def _no_blank(value: object) -> object:
    """An empty filter is no filter."""
    return None if isinstance(value, str) and not value.strip() else value


Text = Annotated[str, Field(min_length=1)]
Secret = Annotated[SecretStr, Field(min_length=1)]
Host = Annotated[Text, AfterValidator(_check_host)]
SchemaName = Annotated[Text, AfterValidator(_check_schema)]
Filter = Annotated[str | None, BeforeValidator(_no_blank)]
FromZero = Annotated[int, Field(ge=0), BeforeValidator(_no_boolean)]
FromOne = Annotated[int, Field(ge=1), BeforeValidator(_no_boolean)]
FromTwo = Annotated[int, Field(ge=2), BeforeValidator(_no_boolean)]
_Rows = Annotated[
    FromOne,
    WrapValidator(_or_auto),
    PlainSerializer(lambda rows: rows, return_type=int | str),
    JsonSchema(
        {
            "anyOf": [
                {"type": "integer", "minimum": 1},
                {"type": "string", "pattern": r"^(auto|.*\$\{.*)$"},
            ]
        }
    ),
]
# Not a union to pydantic, whose messages would then speak of both.
if TYPE_CHECKING:
    BatchSize = int | Literal["auto"]
else:
    BatchSize = _Rows
Port = Annotated[int, Field(ge=1, le=65535), BeforeValidator(_no_boolean)]
Size = Annotated[str, BeforeValidator(_read_size), JsonSchema({"type": "string", "pattern": _SIZE})]
Commit = Annotated[
    Literal["on", "off", "local", "remote_write", "remote_apply"], BeforeValidator(_on_or_off)
]
# 128 MB is the least that Lambda gives.
Memory = Annotated[
    int,
    Field(ge=128),
    BeforeValidator(_read_memory),
    JsonSchema(
        {
            "anyOf": [
                {"type": "integer", "minimum": 128},
                {"type": "string", "pattern": r"^\s*[0-9]+\s*([MmGg][Bb])?\s*$"},
            ]
        }
    ),
]
ConnectionText = Annotated[
    Connection,
    PlainValidator(_read_connection),
    PlainSerializer(str, return_type=str),
    JsonSchema({"type": "string", "pattern": r"^((duckdb|files):///.+|.*\$\{.*)$"}),
]
