"""YAML text -> document, without YAML's surprises.

PyYAML follows YAML 1.1, where `12:30` is 750, `010` is 8 and `2024-01-01` is a date. Such scalars
become Unreadable, which no setting accepts, so that the user is asked for quotes instead of being
misread.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

import yaml

from snowmelt.config.document import (
    Document,
    Draft,
    Finding,
    Place,
    Unreadable,
    is_text,
    syntax_error,
)

_TAG = "tag:yaml.org,2002:"
_PLAIN_INT = re.compile(r"[-+]?(0|[1-9][0-9_]*)")
_PLAIN_FLOAT = re.compile(r"[-+]?[0-9]+\.[0-9]*([eE][-+]?[0-9]+)?")
_BOOLEANS = {"yes": True, "true": True, "on": True, "no": False, "false": False, "off": False}
_KINDS = {"int": "a number", "float": "a number", "bool": "a boolean", "timestamp": "a date"}


def read_yaml(path: str, text: str) -> Document:
    """Raises ConfigError for text that is no YAML, or no mapping."""
    node, wrong = _compose(text)
    if wrong:
        what, line = wrong
        raise syntax_error(
            path,
            line,
            f"is not valid YAML: {what}",
            "look at the indentation and the quotes here and in the line before",
        )
    if node is None:
        return Document.of(Draft(path), None)
    walk = _Walk(Draft(path))
    root = walk.value(node, ())
    return Document.of(walk.draft, root)


def _compose(text: str) -> tuple[yaml.Node | None, tuple[str, int | None] | None]:
    """Taken apart here, because the error quotes the lines around it, and with them secrets."""
    try:
        loader = yaml.SafeLoader(text)
        try:
            return loader.get_single_node(), None
        finally:
            loader.dispose()
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        # A quoted fragment of more than one character (or escape) comes from the file.
        what = re.sub(
            r"(['\"])(?!\\.\1).{2,}\1", "…", error.problem or error.context or "a mistake"
        )
        return None, (what, mark.line + 1 if mark else None)
    except yaml.YAMLError:
        return None, ("it has control characters", None)
    except RecursionError:
        return None, ("it is nested too deeply", None)


@dataclass(frozen=True, slots=True)
class _Walk:
    draft: Draft
    open: set[int] = field(default_factory=set)
    """The nodes on the way to the current one: an alias to one of them would never end."""

    def value(self, node: yaml.Node, place: Place) -> object:
        self.draft.check_depth(place)
        if id(node) in self.open:
            self.draft.findings.append(
                Finding(
                    place, "contains itself", "let no alias (*) stand inside its own anchor (&)"
                )
            )
            return None
        self.open.add(id(node))
        try:
            if isinstance(node, yaml.MappingNode):
                return self.mapping(node, place)
            if isinstance(node, yaml.SequenceNode):
                return self.sequence(node, place)
            return _scalar(node)
        finally:
            self.open.discard(id(node))

    def mapping(self, node: yaml.MappingNode, place: Place) -> dict[str, object]:
        merged: dict[str, object] = {}
        for key, value in node.value:
            if key.tag == f"{_TAG}merge":
                for base in _merged(value):
                    found = self.value(base, place)
                    merged = {**found, **merged} if isinstance(found, dict) else merged
        own: dict[str, object] = {}
        for key, value in node.value:
            if key.tag == f"{_TAG}merge":
                continue
            if not isinstance(key, yaml.ScalarNode):
                self.draft.findings.append(
                    Finding(place, "has a key that is no text", "write keys as plain text")
                )
                continue
            # The text of a key counts: `off:` and `1:` are keys too, not a boolean and a number.
            at = (key.start_mark.line + 1, key.start_mark.column + 1)
            inner = self.draft.enter(own, place, key.value, at)
            own[key.value] = self.value(value, inner)
        return {**merged, **own}

    def sequence(self, node: yaml.SequenceNode, place: Place) -> list[object]:
        found: list[object] = []
        for index, item in enumerate(node.value):
            inner = (*place, index)
            mark = item.start_mark
            self.draft.positions[inner] = (mark.line + 1, mark.column + 1)
            found.append(self.value(item, inner))
        return found


def _merged(node: yaml.Node) -> Iterator[yaml.Node]:
    """The mappings that `<<` names: one, or a list of which the first wins."""
    if isinstance(node, yaml.SequenceNode):
        yield from node.value
    else:
        yield node


def _scalar(node: yaml.Node) -> object:
    text = str(node.value)
    tag = str(node.tag).removeprefix(_TAG)
    if tag == "str" and is_text(text):
        return text
    if tag == "null":
        return None
    if tag == "bool" and text.lower() in _BOOLEANS:
        return _BOOLEANS[text.lower()]
    if tag == "int" and _PLAIN_INT.fullmatch(text):
        return int(text)
    if tag == "float" and _PLAIN_FLOAT.fullmatch(text):
        return float(text)
    if tag == "str":
        return Unreadable(text, "half of a surrogate pair")
    # Not the tag itself: `password: !x` is an unquoted password, as likely as not.
    return Unreadable(text, _KINDS.get(tag, "a value with a tag (!)"))
