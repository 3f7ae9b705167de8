"""Texts: their parts and lengths, their bytes, and what they are compared by."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

from sqlglot import Expr, exp

from snowmelt.standin.collations import BINARY, duckdb_collation
from snowmelt.standin.convert import to_text
from snowmelt.standin.failures import not_supported
from snowmelt.standin.typed import Convert, Typed, build, raw
from snowmelt.standin.types import BOOLEAN, SfType, number, varchar


def _text(value: Typed) -> Typed:
    """The value as a text: numbers and times are so by themselves where a text is asked for."""
    if value.type is None or value.type.kind in {"TEXT", "BINARY"}:
        return value
    return Typed(to_text(value), varchar(), value.nullable)


def _is_binary(value: Typed) -> bool:
    return value.type is not None and value.type.kind == "BINARY"


def _collated(node: Expr, convert: Convert) -> Typed:
    """COLLATE: another collation for the value; `utf8` compares the bytes."""
    value, given = _text(convert(node.this)), node.expression
    if not isinstance(given, exp.Literal):
        raise not_supported("COLLATE with a specification that is no literal")
    of = (value.type or varchar()).collated(given.name)
    collation = duckdb_collation(given.name) or BINARY
    if collation == BINARY:
        of = dataclasses.replace(of, collation=None)
        if value.type is not None and value.type.collation is None:
            return Typed(value.expr, of, value.nullable)
    collated = exp.Collate(this=exp.Paren(this=value.expr), expression=raw(collation))
    return Typed(exp.Paren(this=collated), of, value.nullable)


def _hex(node: Expr, convert: Convert) -> Typed:
    """HEX_ENCODE: of a text, of its UTF-8 bytes."""
    value = _text(convert(node.this))
    case = node.args.get("case")
    if case is not None and case.name not in {"0", "1"}:
        raise not_supported("HEX_ENCODE with a case that is neither 0 nor 1")
    sql = "lower(hex(x))" if case is not None and case.name == "0" else "hex(x)"
    return Typed(build(sql, x=value.expr), varchar(), value.nullable)


def _left(node: Expr, convert: Convert) -> Typed:
    value, length = _text(convert(node.this)), convert(node.expression).expr
    if _is_binary(value):
        raise not_supported("LEFT of a BINARY")
    sql = "left(x, CAST(greatest(n, 0) AS BIGINT))"
    return Typed(build(sql, x=value.expr, n=length), value.type, value.nullable)


def _length(node: Expr, convert: Convert) -> Typed:
    """Characters of a text, bytes of a BINARY."""
    value = _text(convert(node.this))
    sql = "octet_length(x)" if _is_binary(value) else "length(CAST(x AS VARCHAR))"
    return Typed(build(sql, x=value.expr), number(18), value.nullable)


def _octets(node: Expr, convert: Convert) -> Typed:
    value = _text(convert(node.this))
    sql = "octet_length(x)" if _is_binary(value) else "strlen(CAST(x AS VARCHAR))"
    return Typed(build(sql, x=value.expr), number(18), value.nullable)


def _character(node: Expr, convert: Convert) -> Typed:
    (code,) = (convert(one) for one in node.expressions)
    return Typed(build("chr(CAST(n AS INTEGER))", n=code.expr), varchar(1), code.nullable)


def _contains(node: Expr, convert: Convert) -> Typed:
    return _both(node.this, node.expression, "contains(x, y)", convert, BOOLEAN)


def _position(node: Expr, convert: Convert) -> Typed | None:
    """The first place, counted from 1; None with a place to begin at."""
    if node.args.get("position") is not None:
        return None
    return _both(node.this, node.args["substr"], "strpos(x, y)", convert, number(18))


def _both(whole: Expr, part: Expr, sql: str, convert: Convert, of: SfType) -> Typed:
    values = [_text(convert(one)) for one in (whole, part)]
    found = build(sql, x=values[0].expr, y=values[1].expr)
    return Typed(found, of, any(one.nullable for one in values))


TEXTS: dict[type[Expr], Callable[[Expr, Convert], Typed | None]] = {
    exp.Collate: _collated,
    exp.Hex: _hex,
    exp.Left: _left,
    exp.Length: _length,
    exp.ByteLength: _octets,
    exp.Chr: _character,
    exp.Contains: _contains,
    exp.StrPosition: _position,
}
