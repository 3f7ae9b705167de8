"""`${secret:NAME#key}` and `${ssm:/path}`: values of a config that are kept elsewhere."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

from snowmelt.config.document import Finding
from snowmelt.errors import UsageError

# Of secrets managed by RDS a name has an exclamation mark; ARNs have colons.
_NAMES = {"secret": r"[A-Za-z0-9/_+=.@:!-]+", "ssm": r"[A-Za-z0-9/_.:-]+"}


class Vault(Protocol):
    """Where the values are. Raises UsageError for what somebody has to mend, RetriableError for what passes."""

    def secret(self, name: str) -> str: ...

    def parameter(self, name: str) -> str: ...


@dataclass(frozen=True, slots=True)
class Reference:
    """A secret or parameter; `key` is a key of a secret that is a JSON object."""

    kind: str
    name: str
    key: str | None = None

    def __str__(self) -> str:
        return f"${{{self.kind}:{self.name}{'' if self.key is None else f'#{self.key}'}}}"


def is_reference(text: str) -> bool:
    """Whether what stands between `${` and `}` is meant as one."""
    return text.partition(":")[0] in _NAMES and ":" in text


def read_reference(text: str) -> Reference | None:
    """None for what can be no name of a secret or parameter.

    >>> read_reference("secret:db/prod#password")
    Reference(kind='secret', name='db/prod', key='password')
    """
    kind, _, rest = text.partition(":")
    name, hash, key = rest.partition("#") if kind == "secret" else (rest, "", "")
    if not re.fullmatch(_NAMES[kind], name) or (hash and not key):
        return None
    return Reference(kind, name, key if hash else None)


class Secrets:
    """What references stand for, as far as it was asked for; each name is asked for once."""

    def __init__(self, vault: Vault) -> None:
        self._ask: Mapping[str, Callable[[str], str]] = {
            "secret": vault.secret,
            "ssm": vault.parameter,
        }
        self._known: dict[tuple[str, str], str | Finding] = {}

    def look_up(self, reference: Reference) -> None:
        """Ask for it, unless that was done. Raises RetriableError where no answer is to be had now."""
        place = reference.kind, reference.name
        if place in self._known:
            return
        try:
            self._known[place] = self._ask[reference.kind](reference.name)
        except UsageError as error:
            self._known[place] = Finding((), f"{error.what}", error.remedy or "look it up in AWS")

    def find(self, reference: Reference) -> str | Finding | None:
        """The value, what to tell the user (at no place yet), or None while nobody has asked."""
        found = self._known.get((reference.kind, reference.name))
        if not isinstance(found, str):
            return found
        value = found if reference.key is None else _of_key(found, reference.key)
        if isinstance(value, Finding):
            return Finding((), f"{reference} {value.what}", value.remedy)
        return value or Finding((), f"{reference} is empty", "give it a value")


def _of_key(text: str, key: str) -> str | Finding:
    """One value of a secret that is a JSON object. What is wrong is said without the text."""
    try:
        values = json.loads(text)
    except ValueError:
        values = None
    if not isinstance(values, dict):
        return Finding((), "is no JSON object, so it has no keys", "leave #key out")
    if key not in values:
        return Finding((), "is a key that the secret does not have", "add it, or correct the name")
    value = values[key]
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str | int | float):
        return str(value)
    return Finding((), "is neither text nor a number", "give the key one value")
