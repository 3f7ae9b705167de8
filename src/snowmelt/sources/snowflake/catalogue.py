"""What the server says of one table: its columns, its kind, who reads it and through what, its values' ranges."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from snowmelt.choices import Snapshot
from snowmelt.errors import RetriableError, TableError
from snowmelt.model import Column, SourceTable
from snowmelt.sources.snowflake import statements
from snowmelt.sources.snowflake.columns import (
    Described,
    Observed,
    long_integers,
    nanosecond_times,
)
from snowmelt.sources.snowflake.session import Row, Session
from snowmelt.sources.snowflake.snapshot import Policy, ReadAs

UNPACKED = 4
"""How much more a row weighs on the way than as Snowflake stores it, compressed: a guess, from 3 to 5 for tables
of numbers, dates and short text."""


@dataclass(frozen=True, slots=True)
class TableKind:
    """`name` is TABLE or VIEW, as functions of the server want it; `retention_hours` is None where unknown.

    `row_bytes` is what a row weighs, by the bytes that the table takes; `clustering` its clustering key as text.
    """

    name: str
    transient: bool
    retention_hours: float | None
    row_bytes: int | None = None
    clustering: str = ""
    comment: str = ""


@dataclass(frozen=True, slots=True)
class Seen:
    """What one query told of the whole table: ranges by column, and its rows where no filter narrows them."""

    ranges: Mapping[str, Observed]
    rows: int | None


class Catalogue:
    """Questions about one table, each a statement that needs next to nothing of a warehouse."""

    def __init__(self, session: Session, table: SourceTable) -> None:
        self._session = session
        self._table = table
        self._name = statements.table(table)

    def columns(self) -> list[Described]:
        """In order. Raises TableError if there is no such table, or none for this role."""
        rows = self._session.named_rows(statements.describe(self._name), table=str(self._table))
        return [Described.of(row) for row in rows]

    def kind(self) -> TableKind:
        """Table or view, transient or not, how long its history is kept, how wide and how clustered it is."""
        rows = self._rows(statements.properties(self._table))
        if not rows:
            return TableKind("TABLE", False, None)
        kind, transient, days, count, stored, clustering, comment = rows[0]
        return TableKind(
            "VIEW" if "VIEW" in str(kind).upper() else "TABLE",
            str(transient).upper() in {"YES", "TRUE"},
            None if days is None else 24.0 * int(days),
            int(stored) * UNPACKED // int(count) if stored and count else None,
            str(clustering or ""),
            str(comment or ""),
        )

    def read_as(self, found: Sequence[Described], kind: str) -> ReadAs:
        """Who reads the table now, with which columns and through which policies."""
        role, secondary = self._session.reader()
        columns = tuple((column.name, column.type, column.policy) for column in found)
        return ReadAs(role, secondary, kind, columns, self._policies(kind))

    def _policies(self, kind: str) -> tuple[Policy, ...] | None:
        """None where the role may not ask."""
        try:
            rows = self._rows(statements.policies(self._table, self._name, kind))
        except RetriableError:
            raise
        except TableError:
            return None
        return tuple(
            (str(kind), ".".join(str(part) for part in names if part), str(column or ""))
            for kind, *names, column in rows
        )

    def primary_key(self, found: Sequence[Described], kind: str) -> tuple[str, ...]:
        """The declared key in its order; Snowflake does not enforce it."""
        if kind == "VIEW" or not any(column.primary_key for column in found):
            return ()
        rows = self._session.named_rows(statements.primary_key(self._name), table=str(self._table))
        ordered = sorted(rows, key=lambda row: int(row["key_sequence"]))
        return tuple(str(row["column_name"]) for row in ordered)

    def observe(self, moment: datetime, columns: Sequence[Column]) -> Seen:
        """The ranges of the columns whose types depend on their values, and the rows of the moment.

        Nothing is known of a table that nothing holds still. Raises SourceChanged where the moment is not in
        the table's history.
        """
        if self._table.snapshot is Snapshot.NONE:
            return Seen({}, None)
        counts = self._table.filter is None
        whole, finer = long_integers(columns), nanosecond_times(columns)
        if not (counts or whole or finer):
            return Seen({}, None)
        statement = statements.observe(
            self._name, statements.at(moment), whole, finer, count=counts
        )
        ((*values,),) = self._rows(statement)
        rows = int(values.pop(0)) if counts else None
        bounds = [None if value is None else int(value) for value in values]
        pairs = zip(bounds[::2], bounds[1::2], strict=True)
        ranges = zip((*whole, *finer), pairs, strict=True)
        return Seen({name: Observed(low, high) for name, (low, high) in ranges}, rows)

    def _rows(self, statement: str) -> list[Row]:
        return self._session.rows(
            statement,
            warehouse=self._table.warehouse or self._session.warehouse,
            table=str(self._table),
        )
