"""How Snowflake spells keys, bounds and their conditions."""

from __future__ import annotations

from datetime import date
from decimal import Decimal

from snowmelt.chunking.bounds import Bound, Timestamp
from snowmelt.chunking.chunks import Key, KeyKind

_TIME = "'YYYY-MM-DD\"T\"HH24:MI:SS.FF9'"


class SnowflakeKeys:
    """`key_sql.Dialect`."""

    def key(self, key: Key) -> str:
        """The column. Text is compared by its bytes, whatever collation the column has: nothing that a role may
        always ask tells whether it has one. TRY_TO_NUMBER gives NULL for what is no number."""
        name = quoted(key.column)
        if key.kind.is_text:
            return f"COLLATE({name}, 'utf8')"
        return f"TRY_TO_NUMBER({name}, 38, 0)" if key.kind is KeyKind.TEXT_NUMBER else name

    def shown(self, expression: str, kind: KeyKind) -> str:
        """Times and numbers as text: a client may have no type that is as fine."""
        match kind:
            case KeyKind.DATE:
                return _in_calendar(expression, "'YYYY-MM-DD'")
            case KeyKind.TIMESTAMP:
                return _in_calendar(expression, _TIME)
            case KeyKind.INSTANT:
                return _in_calendar(f"CONVERT_TIMEZONE('UTC', {expression})", _TIME)
            case KeyKind.NUMBER | KeyKind.TEXT_NUMBER:
                return f"TO_VARCHAR({expression})"
        return expression

    def literal(self, bound: Bound) -> str:
        """Typed, exact. TIMESTAMP_TZ, so that no session's zone has a say in an instant."""
        match bound:
            case Timestamp():
                return f"'{bound}'::{'TIMESTAMP_TZ' if bound.is_instant else 'TIMESTAMP_NTZ'}"
            case date():
                return f"'{bound.isoformat()}'::DATE"
            case int():
                return str(bound)
            case Decimal():
                return f"{bound:f}"
            case float():
                return f"'{bound!r}'::FLOAT"
            case str():
                return literal(bound)

    def day(self, expression: str, kind: KeyKind) -> str:
        """An instant's day is its day in UTC: DATE() of a TIMESTAMP_TZ would take each row's own zone, and
        comparisons take the instant."""
        utc = f"CONVERT_TIMEZONE('UTC', {expression})" if kind is KeyKind.INSTANT else expression
        day = expression if kind is KeyKind.DATE else f"TO_DATE({utc})"
        return (
            f"CASE WHEN {expression} IS NULL THEN NULL "
            f"WHEN {day} > '9999-12-31'::DATE THEN '9999-12-31'::DATE "
            f"WHEN {day} < '0001-01-01'::DATE THEN '0001-01-01'::DATE ELSE {day} END"
        )

    def double(self, expression: str) -> str:
        return f"{expression}::FLOAT"

    def hex(self, expression: str) -> str:
        return f"HEX_ENCODE({expression})"


def _in_calendar(time: str, form: str) -> str:
    """As text, of the years that Python has: the last hours of the year 9999 in a zone may be later in UTC."""
    return f"CASE WHEN YEAR({time}) BETWEEN 1 AND 9999 THEN TO_VARCHAR({time}, {form}) END"


def quoted(name: str) -> str:
    """An identifier, exactly as written."""
    return '"' + name.replace('"', '""') + '"'


def literal(text: str) -> str:
    """A string. Snowflake reads backslashes in it as escapes, and a NUL character is written as one."""
    escaped = text.replace("\\", "\\\\").replace("'", "''").replace("\0", "\\x00")
    return f"'{escaped}'"
