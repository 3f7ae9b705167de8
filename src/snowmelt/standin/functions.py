"""Snowflake's functions that need the type, the nanoseconds or the offset of their arguments."""

from __future__ import annotations

from collections.abc import Callable

from sqlglot import Expr, exp

from snowmelt.standin.arithmetic import NUMBERS, tried_number
from snowmelt.standin.choices import CHOICES
from snowmelt.standin.comparisons import COMPARISONS
from snowmelt.standin.convert import converted, local_time, to_text
from snowmelt.standin.failures import not_supported
from snowmelt.standin.texts import TEXTS
from snowmelt.standin.typed import Convert, Typed, build, cast, raw
from snowmelt.standin.types import (
    DATE,
    REAL,
    TZ,
    UTC_OFFSET,
    VARIANT,
    SfType,
    number,
    parsed,
    varchar,
)


def _argument(node: Expr, convert: Convert) -> Typed:
    argument = node.this
    assert isinstance(argument, Expr)
    return convert(argument)


def cast_to(node: Expr, convert: Convert) -> Typed | None:
    """CAST, TRY_CAST and ::."""
    if node.find(exp.JSONExtract) is not None:
        return None  # DuckDB's own JSON functions take it from here
    target = parsed(node.args["to"].sql(dialect="snowflake"))
    value = _argument(node, convert)
    if isinstance(node, exp.TryCast) and target.kind == "FIXED":
        return tried_number(value, target)
    if isinstance(node, exp.TryCast) and not target.is_temporal:
        tried = exp.TryCast(this=value.expr, to=cast(value.expr, target.storage).args["to"])
        return Typed(tried, target)
    return converted(value, target)


def extreme(node: Expr, convert: Convert) -> Typed:
    """MIN and MAX: the companion is the one of the row that has it."""
    value = _argument(node, convert)
    expr = type(node)(this=value.expr)
    companion = None
    if value.companion is not None:
        order = "CAST(epoch_us(x) AS HUGEINT)"
        if value.type is not None and value.type.kind == "TIME":
            order = "CAST(date_diff('microsecond', TIME '00:00:00', x) AS HUGEINT)"
        name = "arg_min" if isinstance(node, exp.Min) else "arg_max"
        companion = build(f"{name}(c, {order} * 1000 + c % 1000)", x=value.expr, c=value.companion)
    return Typed(expr, value.type, True, companion)


def any_value(node: Expr, convert: Convert) -> Typed:
    value = _argument(node, convert)
    companion = None
    if value.companion is not None:
        companion = build("first(c)", c=value.companion)
    return Typed(build("first(x)", x=value.expr), value.type, True, companion)


def total(node: Expr, convert: Convert) -> Typed:
    """SUM: exact for numbers."""
    value = _argument(node, convert)
    if value.type is None or value.type.kind != "FIXED":
        return Typed(exp.Sum(this=value.expr), value.type and REAL)
    # The cast to what it is already keeps it from being cast to a float further on.
    exact = exp.Sum(this=cast(value.expr, value.type.storage))
    return Typed(exact, number(38, value.type.scale))


def count(node: Expr, convert: Convert) -> Typed:
    counted = node.this
    if isinstance(counted, Expr) and not isinstance(counted, exp.Star):
        if isinstance(counted, exp.Distinct):
            counted.set("expressions", [_distinct(convert(one)) for one in counted.expressions])
        else:
            node.set("this", convert(counted).expr)
    return Typed(node, number(18), False)


def _distinct(value: Typed) -> Expr:
    nanoseconds = value.tie()
    if nanoseconds is None:
        return value.expr
    return build("CASE WHEN x IS NOT NULL THEN row(x, n) END", x=value.expr, n=nanoseconds)


def count_if(node: Expr, convert: Convert) -> Typed:
    """COUNT_IF: 0 of no rows, of which DuckDB's own says NULL."""
    true = build("CASE WHEN x THEN 1 END", x=_argument(node, convert).expr)
    return Typed(exp.Count(this=true), number(18), False)


def truncated(node: Expr, convert: Convert) -> Typed:
    """DATE_TRUNC: keeps the type; by the row's own offset."""
    value = _argument(node, convert)
    unit = node.args["unit"].name.upper()
    if value.type is None or not value.type.is_temporal:
        return Typed(build(f"date_trunc('{unit}', x)", x=value.expr), value.type, value.nullable)
    if unit.startswith("NANOSEC"):
        return value
    companion = value.companion
    if companion is not None:
        companion = build("c - c % 1000", c=companion)
    if unit.startswith("MICROSEC"):
        return Typed(value.expr, value.type, value.nullable, companion)
    if value.type.kind == "TIMESTAMP_TZ" and value.companion is not None:
        clock = build(f"date_trunc('{unit}', x)", x=local_time(value).expr)
        sql = f"timezone('UTC', x - to_minutes(c // 1000 - {UTC_OFFSET}))"
        return Typed(build(sql, x=clock, c=value.companion), value.type, value.nullable, companion)
    sql = f"date_trunc('{unit}', x)"
    if value.type.kind == "TIME":
        sql = f"CAST(date_trunc('{unit}', DATE '1970-01-01' + x) AS TIME)"
    return Typed(build(sql, x=value.expr), value.type, value.nullable, companion)


_STEPS = {
    "YEAR": "to_years(n)",
    "QUARTER": "to_months(3 * n)",
    "MONTH": "to_months(n)",
    "WEEK": "to_days(7 * n)",
    "DAY": "to_days(n)",
    "HOUR": "to_hours(n)",
    "MINUTE": "to_minutes(n)",
    "SECOND": "to_seconds(n)",
    "MILLISECOND": "to_milliseconds(n)",
    "MICROSECOND": "to_microseconds(n)",
}


def later(node: Expr, convert: Convert) -> Typed | None:
    """DATEADD to a timestamp: by its own clock, and its nanoseconds and offset stay."""
    unit = node.args["unit"].name.upper().removesuffix("S") if node.args.get("unit") else ""
    value = convert(node.this.copy())
    if value.type is None or not value.type.is_timestamp or unit not in _STEPS:
        return None
    steps = build("CAST(n AS INTEGER)", n=convert(node.expression).expr)
    step = build(_STEPS[unit], n=steps)
    moved = build("x + s", x=local_time(value).expr, s=step)
    if value.type.kind == "TIMESTAMP_TZ":
        minutes = build(f"to_minutes(c // 1000 - {UTC_OFFSET})", c=value.with_companion())
        moved = build("timezone('UTC', x - m)", x=moved, m=minutes)
    return Typed(moved, value.type, value.nullable, value.companion)


_NANOSECONDS = frozenset({"NANOSECOND", "NANOSECONDS", "NS", "NSEC", "NANOSEC"})


def extracted(node: Expr, convert: Convert) -> Typed:
    """EXTRACT and DATE_PART; the nanoseconds are the whole fraction, 0 to 999,999,999."""
    part = node.this.name.upper()
    source = node.expression
    value = convert(source)
    if part == "EPOCH_NANOSECOND":
        sql = "CAST(epoch_us(x) AS HUGEINT) * 1000 + n"
        return Typed(build(sql, x=value.expr, n=value.nanoseconds()), number())
    if part.startswith("EPOCH"):
        factor = {"EPOCH": "1000000", "EPOCH_SECOND": "1000000", "EPOCH_MILLISECOND": "1000"}
        unit = factor.get(part, "1")
        # Floored in integers: as doubles the microseconds of year 1 round to the next second.
        sql = f"(epoch_us(x) - (epoch_us(x) % {unit} + {unit}) % {unit}) // {unit}"
        return Typed(build(sql, x=value.expr), number())
    clock = local_time(value)
    if part not in _NANOSECONDS:
        return Typed(build(f"date_part('{part}', x)", x=clock.expr), number())
    fraction = build("date_part('microsecond', x) % 1000000 * 1000", x=clock.expr)
    if clock.companion is not None:
        fraction = build("f + c % 1000", f=fraction, c=clock.companion)
    return Typed(fraction, number(9))


def part_of(node: Expr, convert: Convert) -> Typed:
    """YEAR(x), MONTH(x) and so on."""
    clock = local_time(_argument(node, convert))
    return Typed(build(f"{node.key}(x)", x=clock.expr), number(4 if node.key == "year" else 2))


def to_date(node: Expr, convert: Convert) -> Typed | None:
    if any(node.args.get(key) for key in ("format", "zone", "expressions")):
        return None
    return converted(_argument(node, convert), DATE)


def to_char(node: Expr, convert: Convert) -> Typed:
    pattern = node.args.get("format")
    if pattern is not None and not isinstance(pattern, exp.Literal):
        raise not_supported("TO_VARCHAR with a format that is no literal")
    value = _argument(node, convert)
    return Typed(to_text(value, pattern.name if pattern is not None else None), varchar())


def to_json(node: Expr, convert: Convert) -> Typed:
    value = _argument(node, convert)
    return Typed(cast(value.expr, "VARCHAR"), varchar(), value.nullable)


def parse_json(node: Expr, convert: Convert) -> Typed:
    value = _argument(node, convert)
    maker = "TRY_CAST" if node.args.get("safe") else "CAST"
    return Typed(build(f"{maker}(x AS JSON)", x=value.expr), VARIANT, value.nullable)


def to_variant(node: Expr, convert: Convert) -> Typed:
    return converted(_argument(node, convert), VARIANT)


def convert_timezone(node: Expr, convert: Convert) -> Typed:
    """With two arguments the instant stays and the offset becomes the zone's."""
    value = convert(node.args["timestamp"])
    target = node.args["target_tz"].name
    source = node.args.get("source_tz")
    if source is not None:
        sql = f"timezone('{target}', timezone('{source.name}', x))"
        ntz = SfType("TIMESTAMP_NTZ", scale=9)
        return Typed(build(sql, x=value.expr), ntz, value.nullable, value.companion)
    instant = converted(value, TZ) if value.type is None or value.type.kind != TZ.kind else value
    zone: Expr = exp.Literal.number(UTC_OFFSET * 1000)
    if target.upper() not in {"UTC", "ETC/UTC", "GMT"}:
        clock = f"timezone('{target}', x) - timezone('UTC', x)"
        zone = build(
            f"({UTC_OFFSET} + CAST(epoch({clock}) AS INTEGER) // 60) * 1000", x=instant.expr
        )
    companion = zone
    if instant.companion is not None:
        companion = build("z + c % 1000", z=zone, c=instant.companion)
    return Typed(instant.expr, TZ, value.nullable, companion)


def binary(node: Expr, convert: Convert) -> Typed:
    """TO_BINARY, of hex digits unless told otherwise."""
    value = _argument(node, convert)
    style = node.args.get("format")
    name = style.name.upper() if style is not None else "HEX"
    maker = {"UTF-8": "encode(x)", "UTF8": "encode(x)", "BASE64": "from_base64(x)"}
    return Typed(build(maker.get(name, "unhex(x)"), x=value.expr), parsed("BINARY"))


def literal(node: Expr, _: Convert) -> Typed:
    assert isinstance(node, exp.Literal)
    if node.is_string:
        return Typed(node, varchar(max(len(node.name), 1)), False)
    digits, _point, fraction = node.name.partition(".")
    if not (digits + fraction).isdigit():
        return Typed(node, REAL, False)
    if not fraction and len(digits) > 18:
        return Typed(raw(f"CAST({digits} AS DECIMAL(38,0))"), number(len(digits)), False)
    return Typed(node, number(min(max(len(digits + fraction), 1), 38), len(fraction)), False)


FUNCTIONS: dict[type[Expr], Callable[[Expr, Convert], Typed | None]] = {
    exp.Cast: cast_to,
    exp.TryCast: cast_to,
    exp.Min: extreme,
    exp.Max: extreme,
    exp.AnyValue: any_value,
    exp.Sum: total,
    exp.Count: count,
    exp.CountIf: count_if,
    exp.TimestampTrunc: truncated,
    exp.DateTrunc: truncated,
    exp.DateAdd: later,
    exp.TimestampAdd: later,
    exp.Extract: extracted,
    exp.Year: part_of,
    exp.Month: part_of,
    exp.Day: part_of,
    exp.Hour: part_of,
    exp.Minute: part_of,
    exp.Second: part_of,
    exp.TsOrDsToDate: to_date,
    exp.ToChar: to_char,
    exp.JSONFormat: to_json,
    exp.ParseJSON: parse_json,
    exp.ToVariant: to_variant,
    exp.ConvertTimezone: convert_timezone,
    exp.ToBinary: binary,
    exp.Literal: literal,
    **COMPARISONS,
    **CHOICES,
    **NUMBERS,
    **TEXTS,
}
