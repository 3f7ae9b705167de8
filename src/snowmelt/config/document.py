"""A config file as a tree of plain values that remembers where each of them stood.

A place is the way from the root to a value: `("sources", 0, "tables", 2, "target")`. Findings are
made at places by whoever checks something; the document gives them their lines and their order.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from snowmelt.errors import ConfigError, Problem

Place = tuple[str | int, ...]
Position = tuple[int, int]
"""Line and column, both from 1."""

WHOLE_FILE = "the file"
_DEEPEST = 50


@dataclass(frozen=True, slots=True)
class Finding:
    """Something wrong at a place, not yet looked up in the file."""

    place: Place
    what: str
    remedy: str


@dataclass(frozen=True, slots=True)
class Unreadable:
    """A YAML scalar that is neither text nor a plain number: base 60, octal, a date, a tag."""

    text: str = field(repr=False)
    kind: str


@dataclass(frozen=True, slots=True)
class Draft:
    """What a reader notes down while it walks the text."""

    path: str
    positions: dict[Place, Position] = field(default_factory=dict)
    findings: list[Finding] = field(default_factory=list)

    def check_depth(self, place: Place) -> None:
        """Raises ConfigError long before Python's own stack would end."""
        if len(place) > _DEEPEST:
            line = self.positions[place][0]
            raise syntax_error(
                self.path, line, "is nested too deeply", "look for brackets too many"
            )

    def enter(self, mapping: Mapping[str, object], place: Place, key: str, at: Position) -> Place:
        """Note where a key stands, and whether its mapping had it before."""
        inner = (*place, key)
        if key in mapping:
            first = self.positions[inner][0]
            self.findings.append(
                Finding(inner, f"is given twice (first in line {first})", "keep one of them")
            )
        self.positions[inner] = at
        return inner


@dataclass(frozen=True, slots=True)
class Document:
    """The top-level mapping of a file, with the position of every place in it."""

    path: str
    root: Mapping[str, object]
    positions: Mapping[Place, Position]
    findings: tuple[Finding, ...] = ()

    @classmethod
    def of(cls, draft: Draft, root: object) -> Document:
        """Raises ConfigError when the file is empty or no mapping."""
        if root is None:
            raise syntax_error(
                draft.path, None, "is empty", "write at least the keys postgres and sources"
            )
        if not isinstance(root, dict):
            raise syntax_error(
                draft.path,
                1,
                "must be a mapping of keys at the top level",
                "begin with the keys postgres and sources",
            )
        return cls(draft.path, root, draft.positions, tuple(draft.findings))

    def given(self, place: Place) -> bool:
        """Whether the file has this very place."""
        return place in self.positions

    def problems(self, findings: Iterable[Finding]) -> tuple[Problem, ...]:
        """The findings in the order of the file, each once."""
        ordered = sorted(set(findings), key=lambda f: (self._position(f.place), spell(f.place)))
        return tuple(self._problem(finding) for finding in ordered)

    def _problem(self, finding: Finding) -> Problem:
        line = self._position(finding.place)[0]
        return Problem(spell(finding.place), finding.what, finding.remedy, line)

    def _position(self, place: Place) -> Position:
        """Of the place itself or, for a missing key, of what it is missing from."""
        while place and place not in self.positions:
            place = place[:-1]
        return self.positions.get(place, (1, 1))


def syntax_error(path: str, line: int | None, what: str, remedy: str) -> ConfigError:
    """The one problem of a file that can't be read any further."""
    return ConfigError(path, (Problem(WHOLE_FILE, what, remedy, line),))


def spell(place: Place) -> str:
    """A place as a user writes it: `sources[0].tables[2].target`."""
    text = ""
    for part in place:
        if isinstance(part, int):
            text += f"[{part}]"
        elif re.fullmatch(r"[\w$-]+", part):
            text += f".{part}" if text else part
        else:
            text += f'["{part}"]'
    return text or WHOLE_FILE


def is_text(value: str) -> bool:
    """False for half a surrogate pair, which both formats can spell and nothing can encode."""
    return not any("\ud800" <= character <= "\udfff" for character in value)
