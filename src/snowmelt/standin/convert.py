"""Values of one type made values of another, with their nanoseconds and offsets."""

from __future__ import annotations

from sqlglot import Expr, exp

from snowmelt.standin import moments
from snowmelt.standin.formats import default_pattern, formatted, offset_minutes
from snowmelt.standin.typed import Typed, build, cast, raw
from snowmelt.standin.types import UTC_OFFSET, SfType

_ZERO_OFFSET = UTC_OFFSET * 1000


def converted(value: Typed, target: SfType) -> Typed:
    """The value as a column of the target type stores it."""
    if value.type == target:
        return value
    if isinstance(value.expr, exp.Null):
        return Typed(cast(value.expr, target.storage), target)
    if target.is_temporal:
        return _cut(_temporal(value, target), target)
    return Typed(_plain(value, target), target, value.nullable)


def local_time(value: Typed) -> Typed:
    """A TIMESTAMP_TZ as the wall clock at its own offset; anything else as it is."""
    if value.type is None or value.type.kind != "TIMESTAMP_TZ":
        return value
    clock = build("timezone('UTC', x)", x=value.expr)
    companion = None
    if value.companion is not None:
        clock = build(f"x + to_minutes(c // 1000 - {UTC_OFFSET})", x=clock, c=value.companion)
        companion = build("c % 1000", c=value.companion)
    ntz = SfType("TIMESTAMP_NTZ", scale=value.type.scale)
    return Typed(clock, ntz, value.nullable, companion)


def to_text(value: Typed, pattern: str | None = None) -> Expr:
    """The value as text; a TIMESTAMP_TZ as the clock at its own offset."""
    if value.type is None:
        return cast(value.expr, "VARCHAR")
    pattern = pattern or default_pattern(value.type.kind)
    return formatted(local_time(value), pattern, offset_minutes(value))


def _plain(value: Typed, target: SfType) -> Expr:
    kind = value.type.kind if value.type else None
    semi = value.type is not None and value.type.is_semi_structured
    if target.is_semi_structured:
        return value.expr if semi else build("to_json(x)", x=value.expr)
    if target.kind == "TEXT":
        return to_text(value)
    if target.kind == "DATE":
        return cast(local_time(value).expr, "DATE")
    if target.kind == "BINARY" and kind == "TEXT":
        return build("unhex(x)", x=value.expr)
    if semi:
        return cast(build("x ->> '$'", x=value.expr), target.storage)
    return cast(value.expr, target.storage)


def _temporal(value: Typed, target: SfType) -> Typed:
    kind = value.type.kind if value.type else None
    if isinstance(value.expr, exp.Literal) and value.expr.is_string:
        literal = moments.moment(value.expr.name, target.kind)
        companion = exp.Literal.number(literal.companion(target.kind))
        return Typed(raw(literal.sql(target.kind)), target, False, companion)
    if kind is None or kind in {"TEXT", "VARIANT"}:
        sql = "x ->> '$'" if kind == "VARIANT" else "CAST(x AS VARCHAR)"
        text = build(sql, x=value.expr)
        return Typed(
            build(moments.text_value(target.kind), x=text),
            target,
            value.nullable,
            build(moments.text_companion(target.kind), x=text),
        )
    if kind == "FIXED" and target.is_timestamp:
        seconds = build("to_timestamp(x)", x=value.expr)
        return Typed(cast(seconds, target.storage), target, value.nullable)
    return _between(value, target, kind)


def _between(value: Typed, target: SfType, kind: str) -> Typed:
    """From one temporal type to another."""
    if kind == target.kind:
        return Typed(value.expr, target, value.nullable, value.companion)
    if target.kind in {"TIME", "TIMESTAMP_NTZ"}:
        value = local_time(value)
        return Typed(cast(value.expr, target.storage), target, value.nullable, value.companion)
    companion = value.companion
    if companion is not None and kind == "TIMESTAMP_TZ":
        companion = build("c % 1000", c=companion)
    if companion is not None and target.kind == "TIMESTAMP_TZ":
        companion = build(f"{_ZERO_OFFSET} + c % 1000", c=companion)
    return Typed(cast(value.expr, target.storage), target, value.nullable, companion)


def _cut(value: Typed, target: SfType) -> Typed:
    """Digits of the fraction beyond the type's scale are cut off."""
    if target.scale >= 9:
        return value
    companion = value.companion
    if companion is not None:
        companion = build(moments.cut_companion("c", target), c=companion)
    expr = value.expr
    if target.scale < 6:
        expr = build(moments.truncated("x", target), x=expr)
    return Typed(expr, target, value.nullable, companion)
