"""Numbers: the types that Snowflake's operators answer, and quotients to the digit.

Types: https://docs.snowflake.com/en/sql-reference/operators-arithmetic
"""

from __future__ import annotations

from collections.abc import Callable

from sqlglot import Expr, exp

from snowmelt.standin.failures import not_supported
from snowmelt.standin.typed import Convert, Typed, build, cast
from snowmelt.standin.types import REAL, SfType, number

BY_ZERO = "Division by zero"
_DIGITS = 38
# Blanks around it, and DuckDB's own casts would take 1_000.
_NUMBER = r"^ *[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)? *$"


def tried_number(value: Typed, target: SfType) -> Typed:
    """The number that a text is, rounded half away from zero; NULL for another text or too great a number."""
    if value.type is not None and value.type.kind != "TEXT":
        return Typed(
            exp.TryCast(this=value.expr, to=cast(value.expr, target.storage).args["to"]), target
        )
    sql = f"CASE WHEN regexp_matches(x, '{_NUMBER}') THEN TRY_CAST(trim(x) AS {target.storage}) END"
    return Typed(build(sql, x=value.expr), target)


def _to_number(node: Expr, convert: Convert) -> Typed | None:
    """TO_NUMBER and TRY_TO_NUMBER, also as DECIMAL and NUMERIC; None with a format."""
    if node.args.get("format") is not None:
        return None
    precision, scale = (node.args.get(key) for key in ("precision", "scale"))
    target = number(
        int(precision.name) if precision is not None else _DIGITS,
        int(scale.name) if scale is not None else 0,
    )
    value = convert(node.this)
    if node.args.get("safe"):
        return tried_number(value, target)
    return Typed(cast(value.expr, target.storage), target, value.nullable)


def _operated(node: Expr, convert: Convert) -> Typed:
    """`+`, `-`, `*`, `/` and MOD; what is not of numbers is DuckDB's."""
    left, right = convert(node.this), convert(node.expression)
    numbers = [one.type for one in (left, right) if one.type is not None and one.type.is_number]
    if len(numbers) < 2:
        node.set("this", left.expr)
        node.set("expression", right.expr)
        return Typed(node)
    of = _result(type(node), *numbers)
    nullable = left.nullable or right.nullable
    if not isinstance(node, exp.Div):
        return Typed(type(node)(this=_as(left, of), expression=_as(right, of)), of, nullable)
    return Typed(_unless_zero(_quotient(left, right, of), right), of, nullable)


def _result(kind: type[Expr], one: SfType, other: SfType) -> SfType:
    if REAL.kind in {one.kind, other.kind}:
        return REAL
    digits, others = one.precision - one.scale, other.precision - other.scale
    if kind is exp.Div:
        scale = max(one.scale, min(one.scale + 6, 12))
        leading = digits + other.scale
    elif kind is exp.Mul:
        scale = one.scale + other.scale
        leading = digits + others
        if scale > max(one.scale, other.scale, 12):
            raise not_supported(f"the product of {one.sql} and {other.sql}, which is rounded")
    else:
        scale = max(one.scale, other.scale)
        leading = max(digits, others) + 1
    return number(min(_DIGITS, leading + scale), scale)


def _as(value: Typed, result: SfType) -> Expr:
    """As DuckDB's own type of the value, whatever width DuckDB computes in by itself."""
    assert value.type is not None
    return cast(value.expr, result.storage if result is REAL else value.type.storage)


def _unless_zero(quotient: Expr, divisor: Typed) -> Expr:
    if isinstance(divisor.expr, exp.Literal) and float(divisor.expr.name):
        return quotient
    sql = f"CASE WHEN y = 0 THEN error('{BY_ZERO}') ELSE q END"
    return build(sql, q=quotient, y=divisor.expr)


def _quotient(left: Typed, right: Typed, of: SfType) -> Expr:
    """Of exact numbers by whole ones, rounded half away from zero: DuckDB divides them as doubles."""
    if of is REAL:
        return build("x / y", x=_as(left, of), y=_as(right, of))
    assert left.type is not None
    assert right.type is not None
    places = of.scale - left.type.scale + right.type.scale
    if places > _DIGITS:
        raise not_supported(f"the quotient of {left.type.sql} and {right.type.sql}")
    shift = 10**places
    whole = build("abs(n) // abs(d)", n=_whole(left), d=_whole(right))
    rest = build("abs(n) % abs(d)", n=_whole(left), d=_whole(right))
    sql = f"q * {shift} + (2 * r * {shift} + abs(d)) // (2 * abs(d))"
    size = build(sql, q=whole, r=rest, d=_whole(right))
    sign = "CASE WHEN (x < 0) = (y < 0) THEN 1 ELSE -1 END"
    unit = f"CAST('0.{'1':0>{of.scale}}' AS DECIMAL({of.scale},{of.scale}))"
    return build(f"CAST({sign} * m AS DECIMAL(38,0)) * {unit}", x=left.expr, y=right.expr, m=size)


def _whole(value: Typed) -> Expr:
    """The digits of a number as a whole one, without the point."""
    assert value.type is not None
    stored = cast(value.expr, value.type.storage)
    if value.type.scale:
        stored = build("replace(CAST(x AS VARCHAR), '.', '')", x=stored)
    return cast(stored, "HUGEINT")


def _negated(node: Expr, convert: Convert) -> Typed:
    value = convert(node.this)
    return Typed(exp.Neg(this=value.expr), value.type, value.nullable)


def _absolute(node: Expr, convert: Convert) -> Typed:
    value = convert(node.this)
    return Typed(build("abs(x)", x=value.expr), value.type, value.nullable)


def _rounded(node: Expr, convert: Convert) -> Typed | None:
    """FLOOR and CEIL to whole numbers; None with a number of digits."""
    if node.args.get("decimals") is not None:
        return None
    value, name = convert(node.this), "floor" if isinstance(node, exp.Floor) else "ceil"
    if value.type is None or value.type.kind != "FIXED":
        return Typed(build(f"{name}(x)", x=value.expr), value.type, value.nullable)
    if not value.type.scale:
        return value
    of = number(min(_DIGITS, value.type.precision - value.type.scale + 1))
    stored = cast(value.expr, value.type.storage)
    return Typed(build(f"{name}(x)", x=stored), of, value.nullable)


NUMBERS: dict[type[Expr], Callable[[Expr, Convert], Typed | None]] = {
    exp.ToNumber: _to_number,
    **dict.fromkeys((exp.Add, exp.Sub, exp.Mul, exp.Div, exp.Mod), _operated),
    exp.Neg: _negated,
    exp.Abs: _absolute,
    exp.Floor: _rounded,
    exp.Ceil: _rounded,
}
