"""Values as text: TO_VARCHAR with and without a format."""

from __future__ import annotations

import re

from sqlglot import Expr, exp

from snowmelt.standin.failures import not_supported
from snowmelt.standin.typed import Typed, build, cast, string
from snowmelt.standin.types import UTC_OFFSET

_TOKENS = re.compile(
    r'"([^"]*)"|(YYYY|YY|MON|MM|DD|DY|HH24|HH12|MI|SS|FF[0-9]?|TZH:?TZM|TZHTZM|TZH|TZM|AM|PM)|(.)',
    re.IGNORECASE | re.DOTALL,
)
_STRFTIME = {
    "YY": "%y",
    "MON": "%b",
    "MM": "%m",
    "DD": "%d",
    "DY": "%a",
    "HH24": "%H",
    "HH12": "%I",
    "MI": "%M",
    "SS": "%S",
    "AM": "%p",
    "PM": "%p",
}
_DEFAULTS = {
    "DATE": "YYYY-MM-DD",
    "TIME": "HH24:MI:SS",
    "TIMESTAMP_NTZ": "YYYY-MM-DD HH24:MI:SS.FF3",
    "TIMESTAMP_LTZ": "YYYY-MM-DD HH24:MI:SS.FF3 TZHTZM",
    "TIMESTAMP_TZ": "YYYY-MM-DD HH24:MI:SS.FF3 TZHTZM",
}


def default_pattern(kind: str) -> str | None:
    """The format that values of a kind have as text, if one says it."""
    return _DEFAULTS.get(kind)


def formatted(value: Typed, pattern: str | None = None, offset: Expr | None = None) -> Expr:
    """The value as text. A time is formatted as its clock reads; `offset` is the one to show."""
    kind = value.type.kind if value.type else ""
    if kind in {"VARIANT", "OBJECT", "ARRAY"}:
        return build("x ->> '$'", x=value.expr)
    if kind == "BINARY":
        return build("upper(hex(x))", x=value.expr)
    if kind == "REAL":
        # 1.0 is shown as 1, and nan as NaN.
        sql = "replace(regexp_replace(CAST(x AS VARCHAR), '\\.0$', ''), 'nan', 'NaN')"
        return build(sql, x=value.expr)
    if kind in _DEFAULTS:
        return _moment(value, pattern or _DEFAULTS[kind], offset)
    if pattern is not None:
        raise not_supported(f"format {pattern}")
    return cast(value.expr, "VARCHAR")


def _moment(value: Typed, pattern: str, offset: Expr | None) -> Expr:
    clock = value.expr
    if value.type is not None and value.type.kind in {"TIMESTAMP_LTZ", "TIMESTAMP_TZ"}:
        clock = build("timezone('UTC', x)", x=clock)
    if value.type is not None and value.type.kind == "TIME":
        clock = build("DATE '1970-01-01' + x", x=clock)
    fraction = build("date_part('microsecond', x) % 1000000 * 1000", x=clock)
    if value.companion is not None:
        fraction = build("f + c % 1000", f=fraction, c=value.companion)
    minutes = offset if offset is not None else exp.Literal.number(0)
    return exp.Paren(this=_joined(_pieces(pattern, clock, fraction, minutes)))


def _joined(pieces: list[Expr]) -> Expr:
    joined = pieces[0]
    for piece in pieces[1:]:
        joined = exp.DPipe(this=joined, expression=piece, safe=True)
    return joined


def _pieces(pattern: str, clock: Expr, fraction: Expr, minutes: Expr) -> list[Expr]:
    pieces: list[Expr] = []
    run = ""  # of what one call of strftime writes
    for literal, token, other in (match.groups() for match in _TOKENS.finditer(pattern)):
        word = (token or "").upper()
        if token is None or word in _STRFTIME:
            text = literal if literal is not None else other
            run += _STRFTIME[word] if token else text.replace("%", "%%")
            continue
        pieces += _formatted_run(run, clock)
        run = ""
        pieces.append(_piece(word, clock, fraction, minutes))
    return [*pieces, *_formatted_run(run, clock)] or [string("")]


def _formatted_run(run: str, clock: Expr) -> list[Expr]:
    if not run:
        return []
    if "%" not in run.replace("%%", ""):
        return [string(run.replace("%%", "%"))]
    return [build("strftime(x, f)", x=clock, f=string(run))]


def _piece(token: str, clock: Expr, fraction: Expr, minutes: Expr) -> Expr:
    if token == "YYYY":  # DuckDB writes year 1 without zeros
        return build("lpad(CAST(year(x) AS VARCHAR), 4, '0')", x=clock)
    if token.startswith("FF"):
        digits = token[2:] or "9"
        if digits == "0":
            return string("")
        return build(f"left(lpad(CAST(f AS VARCHAR), 9, '0'), {digits})", f=fraction)
    hours = "CASE WHEN m < 0 THEN '-' ELSE '+' END || lpad(CAST(abs(m) // 60 AS VARCHAR), 2, '0')"
    rest = "lpad(CAST(abs(m) % 60 AS VARCHAR), 2, '0')"
    parts = {"TZH": hours, "TZM": rest, "TZHTZM": f"{hours} || {rest}"}
    return build(parts.get(token, f"{hours} || ':' || {rest}"), m=minutes)


def offset_minutes(value: Typed) -> Expr | None:
    """The offset of a TIMESTAMP_TZ, in minutes."""
    if value.type is None or value.type.kind != "TIMESTAMP_TZ" or value.companion is None:
        return None
    return build(f"c // 1000 - {UTC_OFFSET}", c=value.companion)
