"""What is built on a table when its rows are there: its indexes with their constraints, and its foreign keys.

`pg_dump` calls it post-data. A definition is kept as the parts that are the same on any table and under any name.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any, LiteralString

import psycopg
from psycopg import sql
from psycopg.rows import dict_row

from snowmelt.errors import TableError
from snowmelt.model import TargetTable
from snowmelt.postgres.ddl import identifier
from snowmelt.postgres.queries import query

_KEYS: dict[str, LiteralString] = {"p": "PRIMARY KEY", "u": "UNIQUE"}


@dataclass(frozen=True, slots=True)
class Index:
    """An index. `using` is its definition from the access method on; `constraint` is the kind of the constraint
    that it serves, as pg_constraint spells it, and `whole_constraint` that constraint's definition."""

    name: str
    using: str
    columns: tuple[str, ...] = ()
    is_unique: bool = False
    is_primary: bool = False
    is_valid: bool = True
    is_exclusion: bool = False
    is_partitioned: bool = False
    is_conditional: bool = False
    is_referenced: bool = False
    """Whether foreign keys of other tables go by it, or views that group by its key."""
    is_clustered: bool = False
    is_replica_identity: bool = False
    is_deferrable: bool = False
    is_deferred: bool = False
    tablespace: str | None = None
    constraint: str | None = None
    whole_constraint: str | None = None
    comment: str | None = None
    constraint_comment: str | None = None
    statistics: dict[str, int] = field(default_factory=dict)

    @property
    def kind(self) -> str:
        return "index"

    def build(self, table: TargetTable, name: str) -> list[sql.Composed]:
        """What builds it on a table under a name, without the constraint; readers go on meanwhile. An exclusion
        constraint is built whole, and nobody reads meanwhile."""
        if self.is_exclusion:
            add: LiteralString = "ALTER TABLE {} ADD CONSTRAINT {} {}"
            whole = sql.SQL(self.whole_constraint or "")
            return [
                *self._place(),
                sql.SQL(add).format(identifier(table), sql.Identifier(name), whole),
            ]
        create: LiteralString = "CREATE {}INDEX {} ON {} USING {}"
        unique = sql.SQL("UNIQUE ") if self.is_unique else sql.SQL("")
        made = sql.SQL(create).format(
            unique, sql.Identifier(name), identifier(table), sql.SQL(self.using)
        )
        return [*self._place(), made]

    def _place(self) -> list[sql.Composed]:
        setting: LiteralString = "SET LOCAL default_tablespace = {}"
        return [sql.SQL(setting).format(sql.Literal(self.tablespace or ""))]

    def attach(self, table: TargetTable, name: str) -> list[sql.Composed]:
        """What makes it what it was: the constraint's index, and all that is said of it."""
        target, index = identifier(table), sql.Identifier(name)
        place = sql.Identifier(table.schema, name)
        made: list[sql.Composed] = []
        if self.constraint in _KEYS and not self.is_exclusion:
            add: LiteralString = "ALTER TABLE {} ADD CONSTRAINT {} {} USING INDEX {}{}"
            timing: LiteralString = " DEFERRABLE" if self.is_deferrable else ""
            timing += " INITIALLY DEFERRED" if self.is_deferred else ""
            key = sql.SQL(_KEYS[self.constraint])
            made.append(sql.SQL(add).format(target, index, key, index, sql.SQL(timing)))
        if self.comment is not None:
            made.append(_comment("INDEX {}", place, self.comment))
        if self.constraint_comment is not None:
            of: LiteralString = "COMMENT ON CONSTRAINT {} ON {} IS {}"
            text = sql.Literal(self.constraint_comment)
            made.append(sql.SQL(of).format(index, target, text))
        for column, goal in self.statistics.items():
            set_goal: LiteralString = "ALTER INDEX {} ALTER COLUMN {} SET STATISTICS {}"
            made.append(
                sql.SQL(set_goal).format(place, sql.Literal(int(column)), sql.Literal(goal))
            )
        if self.is_clustered:
            cluster: LiteralString = "ALTER TABLE {} CLUSTER ON {}"
            made.append(sql.SQL(cluster).format(target, index))
        if self.is_replica_identity:
            identity: LiteralString = "ALTER TABLE {} REPLICA IDENTITY USING INDEX {}"
            made.append(sql.SQL(identity).format(target, index))
        return made

    def undo(self, table: TargetTable, name: str) -> sql.Composed:
        """What drops it where it is not attached, if it is there."""
        index: LiteralString = "DROP INDEX IF EXISTS {}"
        return sql.SQL(index).format(sql.Identifier(table.schema, name))

    def drop(self, table: TargetTable) -> sql.Composed:
        """What drops it, with its constraint."""
        if self.constraint is not None:
            constraint: LiteralString = "ALTER TABLE {} DROP CONSTRAINT {}"
            return sql.SQL(constraint).format(identifier(table), sql.Identifier(self.name))
        index: LiteralString = "DROP INDEX {}"
        return sql.SQL(index).format(sql.Identifier(table.schema, self.name))


@dataclass(frozen=True, slots=True)
class ForeignKey:
    """A foreign key of the table; `definition` from FOREIGN KEY on."""

    name: str
    definition: str
    is_valid: bool = True
    is_enforced: bool = True
    comment: str | None = None

    @property
    def kind(self) -> str:
        return "foreign_key"

    def build(self, table: TargetTable, name: str) -> list[sql.Composed]:
        """What adds it, not yet checked: that takes no time."""
        add: LiteralString = "ALTER TABLE {} ADD CONSTRAINT {} {}{}"
        # A definition of one that is not valid, or not enforced, says so itself.
        later: LiteralString = " NOT VALID" if self.is_valid and self.is_enforced else ""
        definition = sql.SQL(self.definition)
        return [
            sql.SQL(add).format(identifier(table), sql.Identifier(name), definition, sql.SQL(later))
        ]

    def attach(self, table: TargetTable, name: str) -> list[sql.Composed]:
        """What checks all rows against it, by one query."""
        made: list[sql.Composed] = []
        target, key = identifier(table), sql.Identifier(name)
        if self.is_valid and self.is_enforced:
            validate: LiteralString = "ALTER TABLE {} VALIDATE CONSTRAINT {}"
            made.append(sql.SQL(validate).format(target, key))
        if self.comment is not None:
            of: LiteralString = "COMMENT ON CONSTRAINT {} ON {} IS {}"
            made.append(sql.SQL(of).format(key, target, sql.Literal(self.comment)))
        return made

    def undo(self, table: TargetTable, name: str) -> sql.Composed:
        """What drops it, if it is there."""
        drop: LiteralString = "ALTER TABLE IF EXISTS {} DROP CONSTRAINT IF EXISTS {}"
        return sql.SQL(drop).format(identifier(table), sql.Identifier(name))


PostData = Index | ForeignKey


def indexes(connection: psycopg.Connection, table: TargetTable) -> tuple[Index, ...]:
    """The table's indexes. Raises TableError for one whose definition is not spelled as this release knows it."""
    cursor = connection.cursor(row_factory=dict_row)
    names = {"schema": table.schema, "table": table.name}
    return tuple(_index(row, table) for row in cursor.execute(query("table_indexes"), names))


def _index(row: dict[str, Any], table: TargetTable) -> Index:
    whole, prefix = row.pop("whole"), row.pop("prefix")
    if not whole.startswith(prefix):
        raise TableError(
            f"the definition of the index {row['name']} is not understood: {whole}",
            table=str(table),
            remedy="drop the index before the load, and create it afterwards; and report it",
        )
    row["columns"] = tuple(row["columns"])
    row["statistics"] = row["statistics"] or {}
    row["constraint"] = row.pop("constraint_type")
    row["whole_constraint"] = row.pop("constraint_definition")
    return Index(using=whole.removeprefix(prefix), **row)


def foreign_keys(connection: psycopg.Connection, table: TargetTable) -> tuple[ForeignKey, ...]:
    """The table's foreign keys to other tables."""
    cursor = connection.cursor(row_factory=dict_row)
    names = {"schema": table.schema, "table": table.name}
    rows = cursor.execute(query("table_foreign_keys"), names)
    return tuple(ForeignKey(**row) for row in rows)


def to_json(one: PostData) -> dict[str, object]:
    """As the ledger keeps it."""
    return asdict(one)


def from_json(kind: str, value: dict[str, Any]) -> PostData:
    """The other way round."""
    if kind == "foreign_key":
        return ForeignKey(**value)
    return Index(**{**value, "columns": tuple(value["columns"])})


def _comment(kind: LiteralString, what: sql.Identifier, text: str) -> sql.Composed:
    statement: LiteralString = "COMMENT ON "
    return (
        sql.SQL(statement)
        + sql.SQL(kind).format(what)
        + sql.SQL(" IS {}").format(sql.Literal(text))
    )
