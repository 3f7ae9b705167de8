"""One database, as the port of a target has it: its tables, and chunks that are loaded into them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from snowmelt.chunking.bounds import Bound
from snowmelt.model import Claim, Column, LoadTable, TargetState, TargetTable
from snowmelt.postgres import ddl
from snowmelt.postgres.connect import Session
from snowmelt.postgres.load import PostgresLoad
from snowmelt.postgres.staging import Staging


class PostgresTarget:
    """`ports.Target`: a session of its own for each worker thread."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._staging = Staging(session)

    def inspect(self, table: TargetTable) -> TargetState:
        """What stands in the target table now."""
        return ddl.inspect(self._session, table)

    def create(
        self,
        table: TargetTable,
        columns: Sequence[Column],
        unique: Sequence[str] = (),
        *,
        primary: bool = False,
        comment: str = "",
    ) -> None:
        """Create the table if it is not there, with a unique key if rows are to be found by one."""
        ddl.create(self._session, table, columns, unique, primary=primary, comment=comment)

    def add_columns(self, table: TargetTable, columns: Sequence[Column]) -> None:
        """Add the columns that are not there."""
        ddl.add_columns(self._session, table, columns)

    def count(self, table: TargetTable) -> int:
        """All rows of the table; reads it whole."""
        return ddl.count(self._session, table)

    def latest(self, table: TargetTable, column: str) -> Bound | None:
        """The greatest value of a column; None without any."""
        return ddl.latest(self._session, table, column)

    @contextmanager
    def load(self, claim: Claim, table: LoadTable) -> Iterator[PostgresLoad]:
        """Begin moving a claimed chunk; leaving without `commit` rolls everything back."""
        with PostgresLoad(self._session, claim, table, self._staging) as load:
            yield load

    def close(self) -> None:
        """Release the session."""
        self._session.close()
