"""`${VAR}` in the values of a config, filled in from variables; `$${` is a plain `${`.

`${secret:NAME#key}` and `${ssm:/path}` are filled in from what was asked for of them.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from snowmelt.config.document import Finding, Place
from snowmelt.config.secrets import Reference, Secrets, is_reference, read_reference

VARIABLE = r"\$\{([A-Za-z_][A-Za-z0-9_]*|(secret|ssm):[^}]+)\}"
_DOLLAR = re.compile(r"\$\$\{|\$\{([^}]*)(\}?)")
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


@dataclass(frozen=True, slots=True)
class Layer:
    """Variables with the name of where they come from."""

    name: str
    values: Mapping[str, str | None] = field(repr=False)


@dataclass(frozen=True, slots=True)
class Environment:
    """The first layer that knows a variable decides, also when it is empty there.

    An empty variable is most often a secret that was not handed on; falling through to an older
    `.env` would connect to the wrong place.
    """

    layers: tuple[Layer, ...]

    def find(self, name: str) -> str | Finding:
        """The value, or what to tell the user (at no place yet)."""
        for layer in self.layers:
            if name in layer.values:
                return layer.values[name] or Finding(
                    (), f"${{{name}}} is empty in {layer.name}", f"give {name} a value there"
                )
        return Finding(
            (),
            f"${{{name}}} is not set",
            f"set {name} in the environment or in a .env file beside the config",
        )


@dataclass(frozen=True, slots=True)
class Unset:
    """Stands where a variable was missing; no setting accepts it."""


UNSET = Unset()


@dataclass(frozen=True, slots=True)
class Substitution:
    """A tree with its variables filled in.

    `written` has the text of the file for each value that came from variables: messages show it
    instead of the value, which may be secret. `missing` are the findings of variables without a
    value, which only count where the value is needed; `findings` count everywhere.
    """

    root: Mapping[str, object]
    written: Mapping[Place, str]
    missing: tuple[Finding, ...]
    findings: tuple[Finding, ...]
    open: tuple[tuple[Place, Reference], ...] = ()
    """References that nobody asked for yet."""


def substitute(
    root: Mapping[str, object], environment: Environment, secrets: Secrets
) -> Substitution:
    """Fill in every string value; keys stay as they are, and values are not looked at twice."""
    walk = _Walk(environment, secrets)
    filled = {key: walk.value(value, (key,)) for key, value in root.items()}
    return Substitution(
        filled, walk.written, tuple(walk.missing), tuple(walk.findings), tuple(walk.open)
    )


@dataclass(frozen=True, slots=True)
class _Walk:
    environment: Environment
    secrets: Secrets
    written: dict[Place, str] = field(default_factory=dict)
    missing: list[Finding] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)
    open: list[tuple[Place, Reference]] = field(default_factory=list)

    def value(self, value: object, place: Place) -> object:
        if isinstance(value, dict):
            return {key: self.value(item, (*place, key)) for key, item in value.items()}
        if isinstance(value, list):
            return [self.value(item, (*place, index)) for index, item in enumerate(value)]
        return self.text(value, place) if isinstance(value, str) else value

    def text(self, text: str, place: Place) -> str | Unset:
        parts = list(self.parts(text, place))
        filled = "".join(part for part in parts if isinstance(part, str))
        if filled != text:
            self.written[place] = text
        return UNSET if UNSET in parts else filled

    def parts(self, text: str, place: Place) -> Iterator[str | Unset]:
        end = 0
        for match in _DOLLAR.finditer(text):
            yield text[end : match.start()]
            end = match.end()
            yield "${" if match[0] == "$${" else self.variable(match[1], match[2], place)
        yield text[end:]

    def variable(self, name: str, closing: str, place: Place) -> str | Unset:
        found = self.look(name, place) if closing else None
        if isinstance(found, str | Unset):
            return found
        if isinstance(found, Finding):
            self.missing.append(Finding(place, found.what, found.remedy))
            return UNSET
        # Without the text: a password may hold a `${` by chance.
        remedy = (
            "write ${NAME} with letters, digits and _, ${secret:NAME#key}, ${ssm:/path}, "
            "or $${ for a plain ${"
        )
        self.findings.append(Finding(place, "has a ${ that is no variable", remedy))
        return UNSET

    def look(self, name: str, place: Place) -> str | Finding | Unset | None:
        """What stands for the text between the braces; None where it can't be anything."""
        if _NAME.fullmatch(name):
            return self.environment.find(name)
        reference = read_reference(name) if is_reference(name) else None
        if reference is None:
            return None
        found = self.secrets.find(reference)
        if found is None:
            self.open.append((place, reference))
            return UNSET
        return found
