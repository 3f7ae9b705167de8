"""GROUP BY, DISTINCT, ORDER BY and OVER: by the nanoseconds too, which are columns of their own in DuckDB."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence

from sqlglot import Expr, exp

from snowmelt.standin.failures import not_supported
from snowmelt.standin.plans import Projection, loosened
from snowmelt.standin.scope import Scope
from snowmelt.standin.typed import Convert, Typed, build

Keys = tuple[Expr, ...]


def grouped(
    node: exp.Select, projections: Sequence[Projection], scope: Scope, convert: Convert
) -> Keys | None:
    """Rewrite GROUP BY, or a DISTINCT that has to be one. The keys; None where there are no groups."""
    clause = _clause(node, projections)
    if clause is None:
        return None
    keys: list[Expr] = []
    made: list[Expr] = []
    ties: list[Expr] = []
    for item in clause.expressions:
        listed = _listed(item, projections)
        if isinstance(item, exp.Column) and scope.is_column(item.name):
            listed = None  # a column goes before a name of the SELECT list
        value = Typed(item) if listed is not None or _is_position(item) else convert(item)
        made.append(value.expr)
        keys += [value.expr] if listed is None else [value.expr, listed.expr]
        tie = (listed or value).tie()
        if tie is not None:
            ties.append(tie)
    clause.set("expressions", made + ties)
    for kind in ("cube", "rollup", "grouping_sets"):
        clause.set(kind, [convert(one).expr for one in clause.args.get(kind) or ()])
    return tuple(keys)


def _clause(node: exp.Select, projections: Sequence[Projection]) -> Expr | None:
    """GROUP BY with its keys listed; None where there is none to rewrite."""
    values = [one.value for one in projections]
    known = all(one.name is not None for one in projections)
    clause: Expr | None = node.args.get("group")
    if clause is None and _is_by_nanoseconds(node, values) and known:
        node.set("distinct", None)
        clause = exp.Group(all=True)
        node.set("group", clause)
    if clause is None or (clause.args.get("all") and not known):
        return None
    if clause.args.get("all"):
        keys = [at for at, one in enumerate(values, 1) if _is_key(one.expr)]
        if not keys:
            node.set("group", None)
            return None
        clause.set("all", None)
        clause.set("expressions", [exp.Literal.number(at) for at in keys])
    return clause


def _is_by_nanoseconds(node: exp.Select, values: Sequence[Typed]) -> bool:
    """Whether a DISTINCT tells apart what DuckDB's would not."""
    if node.args.get("distinct") is None or not all(_is_key(one.expr) for one in values):
        return False
    return any(one.tie() is not None for one in values)


def _is_key(value: Expr) -> bool:
    """Whether GROUP BY ALL groups by it."""
    return value.find(exp.AggFunc, exp.Window) is None


def _is_position(item: Expr) -> bool:
    return isinstance(item, exp.Literal) and not item.is_string and item.name.isdigit()


def _listed(item: Expr, projections: Sequence[Projection]) -> Typed | None:
    """The value of the SELECT list that a position or a name means."""
    if _is_position(item):
        at = int(item.name) - 1
        known = 0 <= at < len(projections) and all(one.name is not None for one in projections)
        return projections[at].value if known else None
    if isinstance(item, exp.Column) and not item.table:
        return next((one.value for one in projections if one.name == item.name), None)
    return None


def ordered(
    order: Expr,
    convert: Convert,
    projections: Sequence[Projection] = (),
    keys: Keys | None = None,
) -> None:
    """Rewrite ORDER BY in place; `keys` are those of a grouped query."""
    items: list[Expr] = []
    for item in order.expressions:
        listed = _listed(item.this, projections)
        known = listed is not None or _is_position(item.this)
        value = Typed(item.this) if known else convert(item.this)
        tie = (listed or value).tie()
        if keys is not None:
            value = dataclasses.replace(value, expr=loosened(value.expr, keys))
            tie = _group_tie(tie, keys) if tie is not None else None
        item.set("this", value.expr)
        items.append(item)
        if tie is not None:
            items.append(type(item)(**{**item.args, "this": tie}))
    order.set("expressions", items)


def _group_tie(tie: Expr, keys: Keys) -> Expr:
    if tie.find(exp.AggFunc) is not None:
        return loosened(tie, keys)
    return build("first(c)", c=tie)


def windowed(node: Expr, convert: Convert) -> Typed:
    """A function with OVER, and its companion with the same OVER."""
    inner = convert(node.this)
    parts: list[Expr] = []
    for one in node.args.get("partition_by") or ():
        value = convert(one)
        tie = value.tie()
        parts += [value.expr] if tie is None else [value.expr, tie]
    node.set("partition_by", parts)
    if node.args.get("order") is not None:
        ordered(node.args["order"], convert)
    companion = None
    if inner.companion is not None:
        companion = node.copy()
        companion.set("this", inner.companion.unnest())
    node.set("this", inner.expr)
    return Typed(node, inner.type, inner.nullable, companion)


def _neighbour(node: Expr, convert: Convert) -> Typed:
    """LAG, LEAD, FIRST_VALUE, LAST_VALUE, NTH_VALUE: a value of another row."""
    value = convert(node.this)
    others = {
        key: convert(part).expr
        for key, part in node.args.items()
        if key != "this" and isinstance(part, Expr)
    }
    companion = None
    if value.companion is not None:
        if "default" in others:
            raise not_supported(f"{node.key} of a time with a default")
        known = build("CASE WHEN x IS NOT NULL THEN c END", x=value.expr, c=value.companion)
        companion = type(node)(this=known, **{key: one.copy() for key, one in others.items()})
    return Typed(type(node)(this=value.expr, **others), value.type, True, companion)


def _nulls(node: Expr, convert: Convert) -> Typed:
    """IGNORE NULLS and RESPECT NULLS."""
    inner = convert(node.this)
    companion = type(node)(this=inner.companion) if inner.companion is not None else None
    return Typed(type(node)(this=inner.expr), inner.type, inner.nullable, companion)


WINDOWS: dict[type[Expr], Callable[[Expr, Convert], Typed | None]] = {
    exp.Window: windowed,
    **dict.fromkeys((exp.Lag, exp.Lead, exp.FirstValue, exp.LastValue, exp.NthValue), _neighbour),
    exp.IgnoreNulls: _nulls,
    exp.RespectNulls: _nulls,
}
