"""pydantic's errors -> findings in the words of somebody who never heard of pydantic.

A value is only shown when it is a scalar of the file that is no secret; one that came from a
variable is shown as the file has it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import get_args

from pydantic import SecretStr, ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

from snowmelt.config.document import Document, Finding, Place, Unreadable
from snowmelt.config.environment import Unset
from snowmelt.config.models import (
    RETIRED,
    ConfigFile,
    FileModel,
    Postgres,
    Session,
    Snowflake,
    Source,
    Table,
)
from snowmelt.config.settings import PROBLEM, nearest

_MODELS: Mapping[tuple[str, ...], tuple[str, type[FileModel]]] = {
    (): ("the top level", ConfigFile),
    ("snowflake",): ("snowflake", Snowflake),
    ("postgres",): ("postgres", Postgres),
    ("postgres", "session"): ("postgres.session", Session),
    ("sources",): ("a source", Source),
    ("sources", "tables"): ("a table", Table),
}
_WHOLE_NUMBER = (
    "int_type",
    "int_parsing",
    "int_parsing_size",
    "int_from_float",
    "finite_number",
)
_LONGEST_SHOWN = 60


def validation_findings(
    document: Document, written: Mapping[Place, str], error: ValidationError
) -> tuple[Finding, ...]:
    """One finding per error, but none for a missing variable: that is reported by its name."""
    return tuple(
        _Wrong(document, written, tuple(details["loc"]), details).finding()
        for details in error.errors(include_url=False)
        if not isinstance(details["input"], Unset)
    )


@dataclass(frozen=True, slots=True)
class _Wrong:
    document: Document
    written: Mapping[Place, str]
    place: Place
    details: ErrorDetails

    def finding(self) -> Finding:
        what, remedy = self.say()
        return Finding(self.place, what, remedy)

    def say(self) -> tuple[str, str]:
        """What is wrong, and the remedy."""
        kind = self.details["type"]
        if kind == PROBLEM:
            context = self.details["ctx"]
            return str(context["what"]), str(context["remedy"])
        if kind == "missing":
            return self.missing()
        if kind == "extra_forbidden":
            return self.unknown_key()
        if kind == "string_type":
            return self.no_text()
        if kind in ("literal_error", "enum"):
            return self.no_choice()
        return self.plain(kind)

    def plain(self, kind: str) -> tuple[str, str]:
        """What needs no look around."""
        noun = _noun(self.details["input"])
        if kind in _WHOLE_NUMBER:
            return f"must be a whole number, but is {self.shown()}", self.hint("write it in digits")
        if kind in ("greater_than_equal", "less_than_equal"):
            context = self.details.get("ctx", {})
            bound = f"at least {context['ge']}" if "ge" in context else f"at most {context['le']}"
            return f"must be {bound}, but is {self.shown()}", self.hint("choose another number")
        if kind in ("bool_type", "bool_parsing"):
            return f"must be true or false, but is {self.shown()}", "write true or false"
        if kind in ("string_too_short", "too_short"):
            return "is empty", self.hint("give it a value")
        if kind == "tuple_type":
            return f"must be a list, but is {noun}", self.hint(
                "write it as a list, [first, second]"
            )
        if kind in ("model_type", "model_attributes_type", "dict_type"):
            return f"must be a mapping of keys, but is {noun}", self.hint("write keys with values")
        return "can't be used", self.hint("correct the value")

    def missing(self) -> tuple[str, str]:
        what = "is null, but is needed" if self.document.given(self.place) else "is missing"
        return what, self.hint("give it a value")

    def unknown_key(self) -> tuple[str, str]:
        key = str(self.place[-1])
        names = _names(self.place[:-1])
        here, model = _MODELS[names]
        known = [name for name in model.known_keys() if name not in RETIRED]
        what = f"is not a known key of {here}"
        if meant := nearest(key, known):
            elsewhere = [] if meant.lower() == key.lower() else _homes(key)
            if not elsewhere:
                return what, f"did you mean {meant}?"
        if homes := _homes(key):
            return what, f"it belongs to {' or '.join(homes)}"
        return what, f"remove it; known are {', '.join(known)}"

    def no_text(self) -> tuple[str, str]:
        value = self.details["input"]
        what = f"must be text, but is {_noun(value)}"
        if isinstance(value, Unreadable | bool | int | float):
            # No example for a boolean: no, off or yes is not known any more.
            text = value.text if isinstance(value, Unreadable) else str(value)
            show = not self.secret() and not isinstance(value, bool)
            return what, f'write it in quotes: "{_cut(text)}"' if show else "write it in quotes"
        return what, self.hint("write one text")

    def no_choice(self) -> tuple[str, str]:
        options = re.findall(r"'([^']*)'", str(self.details["ctx"]["expected"]))
        value = self.details["input"]
        meant = nearest(value, options) if isinstance(value, str) else None
        remedy = f"did you mean {meant}?" if meant else self.hint("choose one of them")
        return f"must be one of {', '.join(options)}, but is {self.shown()}", remedy

    def shown(self) -> str:
        value = self.details["input"]
        if self.place in self.written:
            return f"what {_cut(self.written[self.place])} stands for"
        if isinstance(value, Unreadable):
            return _cut(value.text)
        if isinstance(value, str):
            return repr(_cut(value))
        if isinstance(value, bool):
            return _noun(value)
        return str(value) if isinstance(value, int | float) else _noun(value)

    def hint(self, otherwise: str) -> str:
        """The remedy, with what the key is for."""
        # A description of a list says nothing about one item of it.
        field = _field(self.place) if isinstance(self.place[-1], str) else None
        return f"{otherwise} ({field.description})" if field and field.description else otherwise

    def secret(self) -> bool:
        field = _field(self.place)
        return field is None or _holds_secret(field.annotation)


def _names(place: Place) -> tuple[str, ...]:
    return tuple(part for part in place if isinstance(part, str))


def _field(place: Place) -> FieldInfo | None:
    names = _names(place)
    if not names or names[:-1] not in _MODELS:
        return None
    fields = _MODELS[names[:-1]][1].model_fields
    return next((field for name, field in fields.items() if names[-1] in (field.alias, name)), None)


def _holds_secret(annotation: object) -> bool:
    return annotation is SecretStr or any(_holds_secret(part) for part in get_args(annotation))


def _homes(key: str) -> list[str]:
    """The mappings that do know a key."""
    return [home for home, model in _MODELS.values() if key in model.known_keys()]


def _noun(value: object) -> str:
    if isinstance(value, Unreadable):
        return value.kind
    if isinstance(value, bool):
        return "a boolean"
    kinds = {int: "a number", float: "a number", str: "text", list: "a list", dict: "a mapping"}
    return kinds.get(type(value), "null")


def _cut(text: str) -> str:
    return text if len(text) <= _LONGEST_SHOWN else text[:_LONGEST_SHOWN] + "…"
