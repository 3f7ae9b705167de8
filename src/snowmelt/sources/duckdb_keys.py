"""How DuckDB spells keys, bounds and their conditions."""

from __future__ import annotations

from datetime import date
from decimal import Decimal

from snowmelt.chunking.bounds import Bound, Timestamp
from snowmelt.chunking.chunks import Key, KeyKind

_INT64 = 1 << 63


class DuckDBKeys:
    """`key_sql.Dialect`."""

    def key(self, key: Key) -> str:
        """The column; C is DuckDB's name of the binary order."""
        name = quoted(key.column)
        if key.kind is KeyKind.UUID:
            return f"CAST({name} AS VARCHAR) COLLATE C"
        if key.kind is KeyKind.TEXT:
            return f"{name} COLLATE C"
        return f"TRY_CAST({name} AS HUGEINT)" if key.kind is KeyKind.TEXT_NUMBER else name

    def shown(self, expression: str, kind: KeyKind) -> str:
        """Times and numbers as text, of dates those that Python has."""
        if kind.is_time:
            utc = f"{expression} AT TIME ZONE 'UTC'" if kind is KeyKind.INSTANT else expression
            form = "%Y-%m-%d" if kind is KeyKind.DATE else "%Y-%m-%dT%H:%M:%S.%n"
            known = f"isfinite({expression}) AND year({utc}) BETWEEN 1 AND 9999"
            return f"CASE WHEN {known} THEN strftime({utc}, '{form}') END"
        if kind in (KeyKind.NUMBER, KeyKind.TEXT_NUMBER):
            return f"CAST({expression} AS VARCHAR)"
        return expression

    def literal(self, bound: Bound) -> str:
        """Typed, exact."""
        match bound:
            case Timestamp():
                if bound.is_instant:
                    return f"TIMESTAMPTZ '{bound}'"
                return f"TIMESTAMP{'_NS' if bound.nanosecond else ''} '{bound}'"
            case date():
                return f"DATE '{bound.isoformat()}'"
            case int():
                inside = -_INT64 < bound < _INT64
                return str(bound) if inside else f"CAST('{bound}' AS HUGEINT)"
            case Decimal():
                scale = max(-int(bound.as_tuple().exponent), 0)
                return f"CAST('{bound:f}' AS DECIMAL(38,{scale}))"
            case float():
                return f"CAST('{bound!r}' AS DOUBLE)"
            case str():
                return literal(bound)

    def day(self, expression: str, kind: KeyKind) -> str:
        """greatest() and least() pass over NULL, so NULL keys are told apart first."""
        utc = f"{expression} AT TIME ZONE 'UTC'" if kind is KeyKind.INSTANT else expression
        day = f"CAST({utc} AS DATE)"
        return (
            f"CASE WHEN {expression} IS NULL THEN NULL ELSE "
            f"greatest(least({day}, DATE '9999-12-31'), DATE '0001-01-01') END"
        )

    def double(self, expression: str) -> str:
        return f"CAST({expression} AS DOUBLE)"

    def hex(self, expression: str) -> str:
        return f"hex({expression})"


def quoted(name: str) -> str:
    """An identifier, exactly as written."""
    return '"' + name.replace('"', '""') + '"'


def literal(text: str) -> str:
    """A string. NUL characters can't stand in a statement."""
    parts = ["'" + part.replace("'", "''") + "'" for part in text.split("\0")]
    return parts[0] if len(parts) == 1 else f"({' || chr(0) || '.join(parts)})"
