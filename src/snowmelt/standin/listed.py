"""VALUES as a source: its columns with the types of their values, and companions for times."""

from __future__ import annotations

from collections.abc import Sequence

from sqlglot import exp

from snowmelt.standin.catalogue import COMPANION
from snowmelt.standin.choices import shared
from snowmelt.standin.convert import converted
from snowmelt.standin.scope import Field, Source
from snowmelt.standin.typed import Convert, Typed
from snowmelt.standin.types import SfType


def values_source(node: exp.Values, convert: Convert) -> Source | None:
    """Rewrite VALUES in place; None, and nothing done, for rows of different lengths."""
    rows = [one.expressions if isinstance(one, exp.Tuple) else [one] for one in node.expressions]
    alias = node.args.get("alias")
    given = [one.name for one in (alias.args.get("columns") if alias else None) or ()]
    names = given or [f"COLUMN{at}" for at in range(1, len(rows[0]) + 1)]
    if any(len(row) != len(names) for row in rows):
        return None
    cells = [[convert(one) for one in row] for row in rows]
    types = [shared(column) for column in zip(*cells, strict=True)]
    cells = [[_as(one, of) for one, of in zip(row, types, strict=True)] for row in cells]
    fields = [_field(*one) for one in zip(names, types, zip(*cells, strict=True), strict=True)]
    carried = [at for at, one in enumerate(fields) if one.companion is not None]
    node.set(
        "expressions",
        [
            exp.Tuple(
                expressions=[one.expr for one in row]
                + [row[at].with_companion().copy() for at in carried]
            )
            for row in cells
        ],
    )
    name = alias.name if alias and alias.name else f"values{COMPANION}"
    stored = [*names, *(one.companion for one in fields if one.companion is not None)]
    node.set(
        "alias",
        exp.TableAlias(
            this=exp.to_identifier(name, quoted=True),
            columns=[exp.to_identifier(one, quoted=True) for one in stored],
        ),
    )
    return Source(name, tuple(fields))


def _as(value: Typed, of: SfType | None) -> Typed:
    return converted(value, of) if of is not None and of.is_temporal else value


def _field(name: str, of: SfType | None, values: Sequence[Typed]) -> Field:
    has_companion = any(one.companion is not None for one in values)
    nullable = any(one.nullable for one in values)
    return Field(name, of, nullable, f"{name}{COMPANION}" if has_companion else None)
