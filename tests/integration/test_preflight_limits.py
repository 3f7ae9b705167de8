"""What is refused by names and types is what PostgreSQL cuts or can't create or fill, and nothing else."""

from __future__ import annotations

from typing import LiteralString

import psycopg
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from psycopg import errors as pg
from psycopg import sql

from snowmelt.errors import SnowmeltError
from snowmelt.model import Column, Relation, TargetState, TargetTable
from snowmelt.postgres import ddl
from snowmelt.postgres.connect import Server, Session
from snowmelt.preflight import fit
from snowmelt.preflight.findings import findings
from snowmelt.preflight.questions import Measure, questions
from snowmelt.preflight.target_limits import limits
from tests.support import Database

NOWHERE = TargetState(exists=False)
VALUES = {
    pa.bool_(): "true", pa.int16(): "1", pa.int32(): "1", pa.int64(): "1", pa.float64(): "1",
    pa.date32(): "'2024-02-29'", pa.timestamp("us"): "'2024-02-29'", pa.string(): "''",
    pa.binary(): "''", pa.decimal128(38, 0): "0",
}  # fmt: skip
"""The shortest value of each type."""


def numbered(*types: pa.DataType, nullable: bool = False) -> Relation:
    columns = (Column(f"c{n}", type, nullable) for n, type in enumerate(types))
    return Relation(tuple(columns), (), {})


def is_taken(database: Database, relation: Relation, table: TargetTable) -> bool:
    """Whether the table is created under these names and takes a row of the shortest values."""
    session = Session(Server.of({}, dsn=database.dsn))
    try:
        ddl.create(session, table, relation.columns)
        state = ddl.inspect(session, table)
        names = [column.name for column in state.columns]
        tables = database.execute("SELECT relname::text FROM pg_class WHERE relkind = 'r'")
        if names != [column.name for column in relation.columns] or (table.name,) not in tables:
            return False
        values = ", ".join(VALUES[column.type] for column in relation.columns)
        insert: LiteralString = f"INSERT INTO {{}} VALUES ({values})"
        session.connection.execute(sql.SQL(insert).format(ddl.identifier(table)))
    except (SnowmeltError, psycopg.Error):
        return False
    finally:
        statement: LiteralString = "DROP TABLE IF EXISTS {}"
        session.connection.execute(sql.SQL(statement).format(ddl.identifier(table)))
        session.close()
    return True


LONG = "é" * 31  # 62 bytes


@pytest.mark.parametrize(
    ("names", "table"),
    [
        ([LONG + "a"], "t"),
        ([LONG + "ab"], "t"),
        ([LONG + "é"], "t"),
        ([LONG + "a1", LONG + "a2"], "t"),
        ([LONG + "é", LONG + "à"], "t"),
        (["Id", "ID", "id"], "t"),
        (["ctid"], "t"),
        (["xmax"], "t"),
        (["CTID", "oid", "select", 'say "hi"'], "t"),
        (["a"], LONG + "a"),
        (["a"], LONG + "ab"),
        (["a"], 'my "t"'),
    ],
)
def test_names(database: Database, names: list[str], table: str) -> None:
    relation = Relation(tuple(Column(name, pa.string()) for name in names), (), {})
    place = TargetTable(database.name, "public", table)
    assert (not limits(relation, NOWHERE, place)) == is_taken(database, relation, place)


@pytest.mark.parametrize(
    "types",
    [
        [pa.bool_()] * 1_600,
        [pa.bool_()] * 1_601,
        [pa.int64()] * 1_017,
        [pa.int64()] * 1_018,
        [pa.string()] * 1_600,
        [pa.decimal128(38, 0)] * 1_600,
        [pa.bool_(), pa.int64()] * 508,
        [pa.bool_(), pa.int64()] * 509,
        [pa.int64()] * 508 + [pa.bool_()] * 508,
        [pa.int64()] * 904 + [pa.bool_()] * 696,
        [pa.int16(), pa.int32(), pa.bool_(), pa.timestamp("us")] * 339,
        [pa.int16(), pa.int32(), pa.bool_(), pa.timestamp("us")] * 340,
    ],
    ids=lambda types: f"{len(types)} {types[-1]}",
)
def test_columns(database: Database, types: list[pa.DataType]) -> None:
    place = TargetTable(database.name, "public", "t")
    relation = numbered(*types)
    refused = bool(limits(relation, NOWHERE, place))
    taken = is_taken(database, relation, place)
    # Short numerics take three bytes, not the one that is sure of all types: they are for the load to refuse.
    assert refused != taken or (not refused and pa.decimal128(38, 0) in types)


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(types=st.lists(st.sampled_from(list(VALUES)), min_size=1_100, max_size=1_500))
def test_what_fits_is_never_refused(database: Database, types: list[pa.DataType]) -> None:
    place = TargetTable(database.name, "public", "t")
    relation = numbered(*types)
    if limits(relation, NOWHERE, place):
        assert not is_taken(database, relation, place)


@pytest.mark.parametrize("filled", [980, 992, 993, 1_017, 1_018, 1_100])
def test_rows_with_missing_values_are_refused_by_what_is_measured(
    database: Database, filled: int
) -> None:
    relation = numbered(*[pa.int64()] * 1_100, nullable=True)
    (question,) = questions(relation, NOWHERE)
    assert question.measure is Measure.PAGE_BYTES
    (pair, *_) = fit.pairs(relation, NOWHERE)
    refused = bool(findings([question], [filled * (fit.width(pair) or 0)]))
    session = Session(Server.of({}, dsn=database.dsn))
    ddl.create(session, TargetTable(database.name, "public", "t"), relation.columns)
    insert: LiteralString = f"INSERT INTO t VALUES ({', '.join(['1'] * filled)})"
    taken = True
    try:
        session.connection.execute(insert)
    except pg.ProgramLimitExceeded:
        taken = False
    session.close()
    assert not (refused and taken)
    assert refused == (filled >= 1_018)
