"""What a statement answers, before it is put into the protocol's words."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import pyarrow as pa
from fakesnow import statement_type

from snowmelt.standin.encode import Output
from snowmelt.standin.types import SfType, number, varchar


@dataclass(frozen=True, slots=True)
class Answer:
    """Rows in Arrow for a query, or as values for anything else; `type_id` is Snowflake's."""

    type_id: int
    outputs: tuple[Output, ...]
    table: pa.Table | None = None
    values: tuple[tuple[object, ...], ...] = ()


def listed(
    columns: Sequence[tuple[str, SfType]],
    values: Sequence[Sequence[object]],
    type_id: int = statement_type.SHOW,
) -> Answer:
    """Rows of a SHOW or DESCRIBE."""
    outputs = tuple(Output(name, of, True, at) for at, (name, of) in enumerate(columns))
    return Answer(type_id, outputs, values=tuple(tuple(row) for row in values))


def status(message: str, type_id: int = statement_type.DDL) -> Answer:
    """The one line that a DDL statement answers."""
    return listed([("status", varchar())], [(message,)], type_id)


def counts(type_id: int, **rows: int) -> Answer:
    """Rows changed by a DML statement, under names such as `number of rows inserted`."""
    columns = [(f"number of rows {name.replace('_', ' ')}", number()) for name in rows]
    return listed(columns, [tuple(rows.values())], type_id)


DONE = "Statement executed successfully."
