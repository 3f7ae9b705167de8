"""A table's `source_filter`: one condition on its rows, the same at every time it is asked.

A table is read by many queries, minutes or days apart after a resume. A condition that changes in
between (a clock, a random number, another table) would give one query a row that another counts as
outside, so clocks are bound to the moment of the plan, and the rest of the kind is refused.

Names of functions are judged as the user wrote them, by Snowflake's own list: the parser knows the
functions of thirty other databases too. What stands between functions is judged by the parsed tree.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import NoReturn

import sqlglot
from sqlglot import Token, TokenType, exp
from sqlglot.errors import ParseError, TokenError

from snowmelt.errors import TableError
from snowmelt.sources.snowflake.pure_functions import PURE_FUNCTIONS

DIALECT = "snowflake"

_CLOCKS = {
    "CURRENT_DATE": "DATE",
    "CURRENT_TIME": "TIME",
    "LOCALTIME": "TIME",
    "CURRENT_TIMESTAMP": "TIMESTAMP_LTZ",
    "LOCALTIMESTAMP": "TIMESTAMP_LTZ",
    "GETDATE": "TIMESTAMP_LTZ",
    "SYSTIMESTAMP": "TIMESTAMP_LTZ",
    "SYSDATE": "TIMESTAMP_NTZ",
}
"""Functions that change by themselves, with the type of their value."""

_ONLY_CALLED = ("GETDATE", "SYSTIMESTAMP", "SYSDATE")
"""Without parentheses these are columns; the others are clocks either way."""

_RANDOM = {
    "RANDOM", "RANDSTR", "UNIFORM", "NORMAL", "ZIPF", "UUID_STRING", "SEQ1", "SEQ2", "SEQ4", "SEQ8"
}  # fmt: skip
_SESSION = {
    "GETVARIABLE", "INVOKER_ROLE", "INVOKER_SHARE", "IS_DATABASE_ROLE_IN_SESSION",
    "IS_ROLE_IN_SESSION", "LAST_QUERY_ID", "LAST_TRANSACTION", "SYS_CONTEXT",
}  # fmt: skip
_OPERATORS = {
    "ALL", "AND", "ANY", "BETWEEN", "CASE", "ELSE", "ESCAPE", "FROM", "ILIKE", "IN", "IS", "LIKE",
    "NOT", "OR", "REGEXP", "RLIKE", "THEN", "WHEN",
}  # fmt: skip
"""Words that may stand before a parenthesis and are no function."""

_OTHER_ROWS: tuple[tuple[tuple[type[exp.Expr], ...], str], ...] = (
    ((exp.Query, exp.Exists), "has a subquery"),
    ((exp.Window, exp.WithinGroup), "has a window function"),
    ((exp.AggFunc,), "has an aggregate function"),
    ((exp.Parameter, exp.Placeholder), "has a variable or a stage"),
)
_PARTS: tuple[type[exp.Expr], ...] = (
    exp.Binary, exp.Unary, exp.Func, exp.Column, exp.Identifier, exp.Literal, exp.Boolean,
    exp.Null, exp.Between, exp.In, exp.Any, exp.All, exp.Tuple, exp.Bracket, exp.DataType,
    exp.DataTypeParam, exp.Var, exp.Interval, exp.IntervalSpan, exp.JSONPath, exp.JSONPathPart,
    exp.RawString, exp.HexString, exp.National,
)  # fmt: skip
"""What a condition on the columns of one row is made of."""

_WORD = re.compile(r"[A-Za-z_][\w$]*", re.ASCII)
_REWRITE = "write it with columns of this table and built-in functions, or read from a view with it"


def bind(filter: str, moment: datetime, table: str) -> str:
    """The condition with every clock in it standing at `moment` (aware), fit to stand in parentheses.

    Only the clocks are replaced, by typed literals in UTC, which is the time zone of the session;
    the rest is kept as it was written, without blanks and comments around it. `table` is for messages.

    Raises TableError for text that is no condition, or whose value could change between queries.
    """
    if moment.tzinfo is None:
        raise ValueError("the moment of a filter needs a time zone")
    found = _read(filter, table)
    if not found.clocks:
        return found.text
    pieces: list[str] = []
    end = 0
    for clock in found.clocks:
        pieces += [found.text[end : clock.start], clock.literal(moment.astimezone(UTC))]
        end = clock.end
    return _read("".join([*pieces, found.text[end:]]), table).text


@dataclass(frozen=True, slots=True)
class _Clock:
    """A clock in the text, from `start` to before `end`; `digits` are those of its fraction."""

    start: int
    end: int
    type: str
    digits: int | None

    def literal(self, moment: datetime) -> str:
        """What it showed at a moment in UTC; microseconds are as fine as that gets."""
        digits = 6 if self.digits is None else self.digits
        fraction = f"{moment.microsecond:06}000"[:digits]
        time = f"{moment:%H:%M:%S}" + (f".{fraction}" if fraction else "")
        date = moment.date().isoformat()
        precision = "" if self.digits is None else f"({self.digits})"
        value = {
            "DATE": date,
            "TIME": time,
            "TIMESTAMP_NTZ": f"{date} {time}",
            "TIMESTAMP_LTZ": f"{date} {time} +00:00",
        }[self.type]
        return f"'{value}'::{self.type}{precision}"


@dataclass(frozen=True, slots=True)
class _Condition:
    text: str
    tree: exp.Expr
    clocks: tuple[_Clock, ...]


def _read(filter: str, table: str) -> _Condition:
    return _Reader(table).read(filter)


@dataclass(frozen=True, slots=True)
class _Reader:
    table: str

    def read(self, filter: str) -> _Condition:
        try:
            tokens = sqlglot.tokenize(filter, dialect=DIALECT)
        except TokenError:
            self.refuse("has a quote or a comment that does not end", "close it")
        if not tokens:
            self.refuse("is empty", "remove the key, or give it a condition")
        # Comments are no tokens, so that none before or after the condition is in the way.
        first = tokens[0].start
        text = filter[first : tokens[-1].end + 1]
        words = _Words(text, first, tokens)
        self.check_shape(filter, tokens)
        self.check_comments(filter, tokens)
        tree = self.parse(text)
        self.check_tree(tree)
        for name, at in words.called():
            self.check_function(name, words.follows(at, TokenType.DOT, TokenType.COLON))
        return _Condition(text, tree, tuple(self.clocks(words)))

    def check_shape(self, filter: str, tokens: list[Token]) -> None:
        """What the parser takes more lightly than Snowflake, or answers in its own words."""
        depth = 0
        for token in tokens:
            kind = token.token_type
            depth += (kind == TokenType.L_PAREN) - (kind == TokenType.R_PAREN)
            if depth < 0:
                self.refuse("closes a parenthesis that it did not open", "balance the parentheses")
            if kind == TokenType.SEMICOLON:
                self.refuse("has a semicolon, and must be one condition", "remove it")
            if kind in (TokenType.ARROW, TokenType.JOIN_MARKER):
                self.refuse(f"has {token.text}, which no condition on one row has", "remove it")
            if kind == TokenType.L_BRACE:
                self.refuse("has a brace", "write OBJECT_CONSTRUCT for an object")
            if kind == TokenType.PARAMETER or filter[token.start] == "?":
                self.refuse("has a variable or a stage", _REWRITE)
        if depth:
            self.refuse("opens a parenthesis that it does not close", "balance the parentheses")

    def check_comments(self, filter: str, tokens: list[Token]) -> None:
        """Those that may end elsewhere for Snowflake than for the parser."""
        comments = [comment for token in tokens for comment in token.comments]
        if any("/*" in comment for comment in comments):
            self.refuse("has a comment inside of a comment", "remove the comment")
        if comments and re.search(r"\r(?!\n)", filter):
            self.refuse("has a comment and a lone carriage return", "remove the comment")

    def parse(self, text: str) -> exp.Expr:
        """The condition as a tree, read where it will stand."""
        try:
            tree = sqlglot.parse_one(
                f"SELECT 1 FROM t WHERE (\n{text}\n) AND (1 = 1)", dialect=DIALECT
            )
        except ParseError as error:
            place = _place(error, lines=text.count("\n") + 1)
            self.refuse(f"can't be read as a condition{place}", _REWRITE)
        except (AttributeError, LookupError, TypeError, ValueError):
            # The parser's answers to a function with too few arguments: DATE_TRUNC(d).
            self.refuse("can't be read as a condition: look at its functions", _REWRITE)
        except RecursionError:
            self.refuse("is nested too deeply", "write it with fewer parentheses")
        both = tree.args["where"].this
        condition = both.this.this if isinstance(both.this, exp.Paren) else both.this
        if isinstance(condition, exp.Alias | exp.Tuple | exp.Star) or not isinstance(both, exp.And):
            self.refuse("is no single condition", "join conditions with AND or OR")
        return condition  # type: ignore[no-any-return]

    def check_tree(self, tree: exp.Expr) -> None:
        nodes = list(tree.walk())
        for kinds, what in _OTHER_ROWS:
            if any(isinstance(node, kinds) for node in nodes):
                self.refuse(what, _REWRITE)
        for node in nodes:
            if not isinstance(node, _PARTS):
                what = node.sql(DIALECT)[:40]
                self.refuse(f"has a part that is no condition on one row: {what}", _REWRITE)
            if isinstance(node, exp.In) and not node.expressions:
                self.refuse("has an IN without a list", "write the values in parentheses")
            if isinstance(node, exp.Column) and _is_sequence(node):
                self.refuse("takes the next value of a sequence", _REWRITE)

    def check_function(self, name: str, qualified: bool) -> None:
        known = name.upper()
        if qualified:
            pass
        elif known in PURE_FUNCTIONS or known in _CLOCKS:
            return
        elif known in _RANDOM:
            self.refuse(f"has the random function {known}", _REWRITE)
        elif known in _SESSION or known.startswith(("CURRENT_", "SYSTEM$")):
            self.refuse(f"depends on the session: {known}", _REWRITE)
        self.refuse(
            f"has the function {name}, which is not known to give the same value every time",
            _REWRITE,
        )

    def clocks(self, words: _Words) -> Iterator[_Clock]:
        for at, token in enumerate(words.tokens):
            name = (words.word(at) or "").upper()
            if words.follows(at, TokenType.DOT, TokenType.COLON):
                continue
            if name == "CURRENT_USER":
                self.refuse("depends on the session: CURRENT_USER", _REWRITE)
            if name in _CLOCKS and (words.opens(at + 1) or name not in _ONLY_CALLED):
                last, digits = self.call(words, at, name)
                yield _Clock(
                    token.start - words.first,
                    words.tokens[last].end + 1 - words.first,
                    _CLOCKS[name],
                    digits,
                )

    def call(self, words: _Words, at: int, name: str) -> tuple[int, int | None]:
        """The last token of a clock, and the digits it asks for."""
        if not words.opens(at + 1):
            return at, None
        inside = []
        last = at + 2
        while words.tokens[last].token_type != TokenType.R_PAREN:
            inside.append(words.tokens[last])
            last += 1
        if not inside:
            return last, None
        takes_digits = name != "CURRENT_DATE" and name not in _ONLY_CALLED
        if not takes_digits or len(inside) > 1 or not _is_digit(inside[0]):
            digits = "a number of digits, 0 to 9, or nothing" if takes_digits else "nothing"
            self.refuse(f"has {name} with something in its parentheses", f"write {digits} there")
        return last, int(inside[0].text)

    def refuse(self, what: str, remedy: str) -> NoReturn:
        raise TableError(f"source_filter {what}", table=self.table or None, remedy=remedy) from None


@dataclass(frozen=True, slots=True)
class _Words:
    """The tokens of a condition, with what they look like in its text."""

    text: str
    first: int
    tokens: list[Token]

    def word(self, at: int) -> str | None:
        """The token as a word that is neither quoted nor a string."""
        token = self.tokens[at]
        written = self.text[token.start - self.first : token.end + 1 - self.first]
        return written if _WORD.fullmatch(written) else None

    def opens(self, at: int) -> bool:
        return at < len(self.tokens) and self.tokens[at].token_type == TokenType.L_PAREN

    def follows(self, at: int, *kinds: TokenType) -> bool:
        return at > 0 and self.tokens[at - 1].token_type in kinds

    def called(self) -> Iterator[tuple[str, int]]:
        """Each name before a parenthesis, and its place; types of a cast are none."""
        for at, token in enumerate(self.tokens):
            if not self.opens(at + 1) or self.follows(at, TokenType.DCOLON, TokenType.ALIAS):
                continue
            name = self.word(at)
            if token.token_type == TokenType.IDENTIFIER:
                yield f'"{token.text}"', at
            elif name and name.upper() not in _OPERATORS:
                yield name, at


def _place(error: ParseError, lines: int) -> str:
    """Where the parser stumbled, if that is in the condition's own lines, the second to the last."""
    found = error.errors[0] if error.errors else {}
    if (found.get("line") or 0) > lines + 1:
        return ", at its end"
    near = found.get("highlight")
    return f", near {near}" if near else ""


def _is_digit(token: Token) -> bool:
    return token.token_type == TokenType.NUMBER and re.fullmatch("[0-9]", token.text) is not None


def _is_sequence(column: exp.Column) -> bool:
    return (
        column.name.upper() == "NEXTVAL"
        and not column.this.args.get("quoted")
        and bool(column.args.get("table"))
    )
