"""Comparisons: to the nanosecond where either side has some."""

from __future__ import annotations

from collections.abc import Callable

from sqlglot import Expr, exp

from snowmelt.standin.convert import converted
from snowmelt.standin.typed import Convert, Typed, build
from snowmelt.standin.types import BOOLEAN, SfType

_SIGNS: dict[type[Expr], str] = {exp.GT: ">", exp.LT: "<", exp.GTE: ">=", exp.LTE: "<="}
_SAME = "x IS NOT DISTINCT FROM y AND (x IS NULL OR a = b)"
# In these a NULL stays NULL, whatever the companion of a NULL holds.
_WITH_NANOSECONDS: dict[type[Expr], str] = {
    exp.EQ: "x = y AND (x <> y OR a = b)",
    exp.NEQ: "x <> y OR (x = y AND a <> b)",
    exp.NullSafeEQ: _SAME,
    exp.EqualNull: _SAME,
    exp.NullSafeNEQ: f"NOT ({_SAME})",
    **{kind: f"x {sign.rstrip('=')} y OR (x = y AND a {sign} b)" for kind, sign in _SIGNS.items()},
}


def compare(kind: type[Expr], left: Typed, right: Typed) -> Typed:
    """One of `=`, `<>`, `<`, `<=`, `>`, `>=` and the null-safe ones, by its class."""
    if left.type is not None and left.type.is_temporal:
        right = _beside(right, left.type)
    elif right.type is not None and right.type.is_temporal:
        left = _beside(left, right.type)
    nanos = [side.nanoseconds() for side in (left, right)]
    whole = [isinstance(one, exp.Literal) and one.name == "0" for one in nanos]
    if all(whole) or (whole[1] and kind in {exp.GTE, exp.LT}):
        return Typed(kind(this=left.expr, expression=right.expr), BOOLEAN)
    values = {"x": left.expr, "y": right.expr, "a": nanos[0], "b": nanos[1]}
    return Typed(build(_WITH_NANOSECONDS[kind], **values), BOOLEAN)


def _beside(value: Typed, other: SfType) -> Typed:
    """A string literal compared with a time is one too."""
    if isinstance(value.expr, exp.Literal) and value.expr.is_string:
        return converted(value, SfType(other.kind, scale=9))
    return value


def _compared(node: Expr, convert: Convert) -> Typed:
    return compare(type(node), convert(node.this), convert(node.expression))


def _between(node: Expr, convert: Convert) -> Typed:
    value, low, high = (convert(node.args[key]) for key in ("this", "low", "high"))
    if not _temporal(value, low, high):
        return Typed(exp.Between(this=value.expr, low=low.expr, high=high.expr), BOOLEAN)
    ends = compare(exp.GTE, value, low).expr, compare(exp.LTE, value, high).expr
    return Typed(build("x AND y", x=ends[0], y=ends[1]), BOOLEAN)


def _listed(node: Expr, convert: Convert) -> Typed | None:
    """IN with a list; None for a query, which is not by the nanosecond."""
    if not node.expressions:
        return None
    value, *listed = (convert(one) for one in (node.this, *node.expressions))
    if not _temporal(value, *listed):
        return Typed(exp.In(this=value.expr, expressions=[one.expr for one in listed]), BOOLEAN)
    equal, *others = (compare(exp.EQ, value, one).expr for one in listed)
    for other in others:
        equal = build("x OR y", x=equal, y=other)
    return Typed(equal, BOOLEAN)


def _temporal(*values: Typed) -> bool:
    return any(one.type is not None and one.type.is_temporal for one in values)


COMPARISONS: dict[type[Expr], Callable[[Expr, Convert], Typed | None]] = {
    **dict.fromkeys(_WITH_NANOSECONDS, _compared),
    exp.Between: _between,
    exp.In: _listed,
}
