"""JSON text -> document. The standard parser gives no positions: valid text is walked again."""

from __future__ import annotations

import json
import re
from bisect import bisect_right
from dataclasses import dataclass, field

from snowmelt.config.document import (
    Document,
    Draft,
    Place,
    Position,
    Unreadable,
    is_text,
    syntax_error,
)

_SPACE = re.compile(r"[ \t\n\r]*")


def read_json(path: str, text: str) -> Document:
    """Raises ConfigError for text that is no JSON, or no mapping."""
    if not text.strip():
        return Document.of(Draft(path), None)
    if wrong := _first_mistake(text):
        what, line = wrong
        raise syntax_error(
            path,
            line,
            f"is not valid JSON: {what}",
            "JSON wants double quotes around text, no comma after the last item and no comments",
        )
    walk = _Walk(text, Draft(path))
    root, _ = walk.value(walk.skip(0), ())
    return Document.of(walk.draft, root)


def _first_mistake(text: str) -> tuple[str, int] | None:
    """Taken apart here, because the decoder's error carries the whole text, secrets too."""
    try:
        json.loads(text)
    except json.JSONDecodeError as error:
        return error.msg, error.lineno
    except RecursionError:
        return "it is nested too deeply", 1
    return None


@dataclass(slots=True)
class _Walk:
    """Reads text that is known to be valid; a method returns what it read and where that ended."""

    text: str
    draft: Draft
    decoder: json.JSONDecoder = field(default_factory=json.JSONDecoder)
    line_starts: list[int] = field(init=False)

    def __post_init__(self) -> None:
        self.line_starts = [0, *(m.end() for m in re.finditer("\n", self.text))]

    def value(self, at: int, place: Place) -> tuple[object, int]:
        self.draft.check_depth(place)
        if self.text[at] == "{":
            return self.mapping(at, place)
        if self.text[at] == "[":
            return self.sequence(at, place)
        scalar, end = self.decoder.raw_decode(self.text, at)
        if isinstance(scalar, str) and not is_text(scalar):
            return Unreadable(scalar, "half of a surrogate pair"), end
        return scalar, end

    def mapping(self, at: int, place: Place) -> tuple[dict[str, object], int]:
        found: dict[str, object] = {}
        at = self.skip(at + 1)
        while self.text[at] != "}":
            start = at
            key, at = self.decoder.raw_decode(self.text, at)
            inner = self.draft.enter(found, place, key, self.position(start))
            found[key], at = self.value(self.skip(self.skip(at) + 1), inner)
            at = self.skip(at)
            if self.text[at] == ",":
                at = self.skip(at + 1)
        return found, at + 1

    def sequence(self, at: int, place: Place) -> tuple[list[object], int]:
        found: list[object] = []
        at = self.skip(at + 1)
        while self.text[at] != "]":
            inner = (*place, len(found))
            self.draft.positions[inner] = self.position(at)
            item, at = self.value(at, inner)
            found.append(item)
            at = self.skip(at)
            if self.text[at] == ",":
                at = self.skip(at + 1)
        return found, at + 1

    def skip(self, at: int) -> int:
        space = _SPACE.match(self.text, at)
        return space.end() if space else at

    def position(self, at: int) -> Position:
        line = bisect_right(self.line_starts, at)
        return line, at - self.line_starts[line - 1] + 1
