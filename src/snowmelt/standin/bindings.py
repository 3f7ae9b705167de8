"""Values bound to placeholders, put into the statement as literals."""

from __future__ import annotations

import datetime
from collections.abc import Mapping, Sequence

import sqlglot
from sqlglot import Expr, exp

from snowmelt.standin.failures import StatementError
from snowmelt.standin.names import text

_EPOCH = datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)
Bindings = Mapping[str, Mapping[str, object]]


def bound(tree: Expr, bindings: Bindings) -> Expr:
    """The tree with its placeholders replaced; an INSERT of value lists gets a row for each."""
    if not bindings:
        return tree
    values = [bindings[str(number)] for number in range(1, len(bindings) + 1)]
    if not any(isinstance(one["value"], list) for one in values):
        return _replaced(tree, [_literal(one["type"], one["value"]) for one in values])
    if not isinstance(tree, exp.Insert) or not isinstance(tree.expression, exp.Values):
        raise StatementError(2, "0A000", "Array binding is for INSERT with VALUES only.")
    lists = [one["value"] for one in values]
    assert all(isinstance(one, list) for one in lists)
    (pattern,) = tree.expression.expressions
    rows = [
        _replaced(
            pattern.copy(),
            [_literal(one["type"], value) for one, value in zip(values, row, strict=True)],
        )
        for row in zip(*lists, strict=True)
    ]
    tree.expression.set("expressions", rows)
    return tree


def _replaced(tree: Expr, literals: Sequence[Expr]) -> Expr:
    for number, node in enumerate(list(tree.find_all(exp.Placeholder, bfs=False))):
        at = int(node.name) - 1 if node.name.isdigit() else number
        if at >= len(literals):
            raise StatementError(1008, "42000", "Bind variable not set.")
        node.replace(literals[at].copy())
    return tree


def _literal(kind: object, value: object) -> Expr:
    if value is None:
        return exp.Null()
    word, kind = str(value), str(kind)
    if kind == "FIXED":
        return sqlglot.parse_one(word, read="snowflake")
    if kind == "BOOLEAN":
        return exp.Boolean(this=word.lower() == "true")
    if kind == "REAL":
        return sqlglot.parse_one(f"{text(word)}::FLOAT", read="snowflake")
    if kind in {"DATE", "TIME"} or kind.startswith("TIMESTAMP"):
        return sqlglot.parse_one(f"{text(_moment(kind, word))}::{kind}", read="snowflake")
    if kind == "BINARY":
        return sqlglot.parse_one(f"TO_BINARY({text(word)}, 'HEX')", read="snowflake")
    return exp.Literal.string(word)


def _moment(kind: str, word: str) -> str:
    """Dates come as milliseconds since 1970, times as nanoseconds, with an offset behind it for TZ."""
    number, _, zone = word.partition(" ")
    if kind == "DATE":
        return str((_EPOCH + datetime.timedelta(milliseconds=int(number))).date())
    nanoseconds = int(number)
    minutes = int(zone) - 1440 if zone else 0
    local = _EPOCH + datetime.timedelta(seconds=nanoseconds // 10**9, minutes=minutes)
    shown = f"{local:%Y-%m-%d %H:%M:%S}".rjust(19, "0") + f".{nanoseconds % 10**9:09d}"
    if kind == "TIME":
        return shown[11:]
    if kind == "TIMESTAMP_NTZ":
        return shown
    sign, minutes = "-" if minutes < 0 else "+", abs(minutes)
    return f"{shown}{sign}{minutes // 60:02d}:{minutes % 60:02d}"
