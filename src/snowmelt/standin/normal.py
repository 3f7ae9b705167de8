"""Identifiers as Snowflake reads them: unquoted ones in upper case."""

from __future__ import annotations

from sqlglot import Expr, exp


def normalised(tree: Expr) -> Expr:
    """The tree with every identifier quoted, in place."""
    for node in tree.find_all(exp.Identifier):
        if not node.args.get("quoted") and isinstance(node.this, str):
            node.set("this", node.this.upper())
            node.set("quoted", True)
    return tree
