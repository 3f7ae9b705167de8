"""Errors of statements, with Snowflake's numbers."""

from __future__ import annotations


class StatementError(Exception):
    """A statement that fails: Snowflake's error number, SQLSTATE and message."""

    def __init__(self, number: int, sqlstate: str, message: str) -> None:
        super().__init__(message)
        self.number = number
        self.sqlstate = sqlstate
        self.message = message

    @property
    def code(self) -> str:
        """The number as the protocol has it: six digits."""
        return f"{self.number:06d}"


def no_object(kind: str, name: str) -> StatementError:
    return StatementError(
        2003,
        "42S02",
        f"SQL compilation error:\n{kind} '{name}' does not exist or not authorized.",
    )


def invalid_identifier(name: str) -> StatementError:
    return StatementError(
        904,
        "42000",
        f"SQL compilation error: error line 1 at position 7\ninvalid identifier '{name}'",
    )


def no_history(table: str) -> StatementError:
    return StatementError(
        707,
        "02000",
        f"Time travel data is not available for table {table}. The requested time is either beyond"
        " the allowed time travel period or before the object creation time.",
    )


def exists_already(name: str) -> StatementError:
    return StatementError(2002, "42710", f"SQL compilation error:\nObject '{name}' already exists.")


def cancelled() -> StatementError:
    return StatementError(604, "57014", "SQL execution canceled")


def timed_out(seconds: int) -> StatementError:
    return StatementError(
        630,
        "57014",
        f"Statement reached its statement or warehouse timeout of {seconds} second(s) and was canceled.",
    )


def denied() -> StatementError:
    return StatementError(
        3001,
        "42501",
        "SQL access control error:\nInsufficient privileges to operate on table.",
    )


def no_warehouse() -> StatementError:
    return StatementError(
        606,
        "57P03",
        "No active warehouse selected in the current session."
        "  Select an active warehouse with the 'use warehouse' command.\n",
    )


def not_supported(what: str) -> StatementError:
    return StatementError(2, "0A000", f"Unsupported feature '{what}'.")


def no_statement(query_id: str) -> StatementError:
    return StatementError(709, "02000", f"Statement {query_id} not found")
