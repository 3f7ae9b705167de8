"""CASE, IFF, COALESCE, LEAST, GREATEST: one of several values, with its nanoseconds and offset."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from sqlglot import Expr, exp

from snowmelt.standin.comparisons import compare
from snowmelt.standin.convert import converted
from snowmelt.standin.typed import Convert, Typed, build
from snowmelt.standin.types import REAL, SfType, number


def shared(values: Sequence[Typed]) -> SfType | None:
    """The type that holds all of the values; None where only DuckDB will know it."""
    given = [one.type for one in values if not isinstance(one.expr, exp.Null)]
    kinds = [of for of in given if of is not None]
    if not kinds or len(kinds) < len(given):
        return None
    first = kinds[0]
    if all(of == first for of in kinds):
        return first
    if all(of.is_number for of in kinds):
        if any(of.kind == REAL.kind for of in kinds):
            return REAL
        scale = max(of.scale for of in kinds)
        return number(min(38, max(of.precision - of.scale for of in kinds) + scale), scale)
    if first.is_temporal and all(of.kind == first.kind for of in kinds):
        return SfType(first.kind, scale=max(of.scale for of in kinds))
    if all(of.kind == "TEXT" for of in kinds):
        collation = next((of.collation for of in kinds if of.collation is not None), None)
        return SfType("TEXT", length=max(of.length for of in kinds), collation=collation)
    return None


def _picked(conditions: Sequence[Expr], values: Sequence[Typed]) -> Typed:
    """The value of the first condition that is true, else the one value more."""
    of = shared(values)
    if of is not None and of.is_temporal:
        values = [converted(one, of) for one in values]
    companion = None
    if any(one.companion is not None for one in values):
        companion = _case(conditions, [one.with_companion() for one in values])
    nullable = any(one.nullable for one in values)
    return Typed(_case(conditions, [one.expr for one in values]), of, nullable, companion)


def _case(conditions: Sequence[Expr], values: Sequence[Expr]) -> Expr:
    *chosen, default = (value.copy() for value in values)
    pairs = zip(conditions, chosen, strict=True)
    ifs = [exp.If(this=condition.copy(), true=value) for condition, value in pairs]
    return exp.Case(ifs=ifs, default=default)


def _case_when(node: Expr, convert: Convert) -> Typed:
    operand = convert(node.this) if isinstance(node.this, Expr) else None
    conditions, values = [], []
    for one in node.args["ifs"]:
        when = convert(one.this)
        conditions.append(when.expr if operand is None else compare(exp.EQ, operand, when).expr)
        values.append(convert(one.args["true"]))
    default = node.args.get("default")
    values.append(convert(default) if default is not None else Typed(exp.Null()))
    return _picked(conditions, values)


def _iff(node: Expr, convert: Convert) -> Typed:
    condition, true = convert(node.this), convert(node.args["true"])
    false = node.args.get("false")
    other = convert(false) if false is not None else Typed(exp.Null())
    return _picked([condition.expr], [true, other])


def _coalesce(node: Expr, convert: Convert) -> Typed:
    """COALESCE, NVL: the type of the first argument that has one."""
    values = [convert(one) for one in (node.this, *node.expressions)]
    first = next((one.type for one in values if one.type is not None), None)
    if first is not None and first.is_temporal:
        conditions = [build("x IS NOT NULL", x=one.expr) for one in values]
        nothing = Typed(exp.Null())
        return _picked(conditions, [*(converted(one, first) for one in values), nothing])
    merged = exp.Coalesce(this=values[0].expr, expressions=[one.expr for one in values[1:]])
    return Typed(merged, shared(values), all(one.nullable for one in values))


def _extreme(node: Expr, convert: Convert) -> Typed:
    """LEAST and GREATEST: NULL if one of the values is."""
    values = [convert(one) for one in (node.this, *node.expressions)]
    of, name = shared(values), "least" if isinstance(node, exp.Least) else "greatest"
    if of is not None and not of.is_number:
        return _folded(values, exp.LTE if name == "least" else exp.GTE)
    call = exp.Anonymous(this=name, expressions=[one.expr for one in values])
    if node.args.get("ignore_nulls"):
        return Typed(call, of)
    missing = _missing(values)
    nullable = missing is not None
    picked = _case([missing], [exp.Null(), call]) if missing is not None else call
    return Typed(picked, of, nullable)


def _folded(values: Sequence[Typed], kind: type[Expr]) -> Typed:
    """Pair by pair, as comparisons go: DuckDB's own functions know neither nanoseconds nor collations."""
    first, *others = values
    for other in others:
        conditions = [compare(kind, first, other).expr]
        picked = [first, other]
        missing = _missing(picked)
        if missing is not None:
            conditions.insert(0, missing)
            picked.insert(0, Typed(exp.Null()))
        first = _picked(conditions, picked)
    return first


def _missing(values: Sequence[Typed]) -> Expr | None:
    """Whether one of the values is NULL; None where none can be."""
    nulls = [build("x IS NULL", x=one.expr) for one in values if one.nullable]
    if not nulls:
        return None
    either, *others = nulls
    for other in others:
        either = build("x OR y", x=either, y=other)
    return either


CHOICES: dict[type[Expr], Callable[[Expr, Convert], Typed | None]] = {
    exp.Case: _case_when,
    exp.If: _iff,
    exp.Coalesce: _coalesce,
    exp.Least: _extreme,
    exp.Greatest: _extreme,
}
