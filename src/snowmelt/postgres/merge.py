"""The statement that merges a chunk's rows from a staging table into the target."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import LiteralString

from psycopg import sql

_SKIP: LiteralString = (
    "INSERT INTO {target} ({names}) SELECT {names} FROM {stage}{order} ON CONFLICT{key} DO NOTHING"
)
# A row as it is there already is left alone: neither a dead row nor a trigger for nothing. The images of rows are
# compared, so that types without equality, as json, are no hindrance and 1.0 is not 1.00.
_UPDATE: LiteralString = """
    INSERT INTO {target} AS "there" ({names})
    SELECT DISTINCT ON ({keys}) {names} FROM {stage}{order}
    ON CONFLICT ({keys}) DO UPDATE SET {sets}
    WHERE {newer}ROW({there})::record *<> ROW({excluded})::record
"""
# Nothing tells how old a row without a watermark is: it never takes the place of one that has one.
_NEWER: LiteralString = (
    '("there".{watermark} IS NULL OR excluded.{watermark} >= "there".{watermark}) AND '
)
_NULL_KEYS: LiteralString = "SELECT count(*) FROM {stage} WHERE {conditions}"


@dataclass(frozen=True, slots=True)
class Merge:
    """How rows with keys that the target has are merged; `columns` are all that are loaded.

    Rows go in in the order of their keys, so that two workers that meet on several keys wait for each other in
    one direction only. Without `keys` whatever unique index the target has decides.
    """

    target: sql.Identifier
    columns: Sequence[str]
    keys: Sequence[str]
    watermark: str | None
    updates: bool

    def statement(self, stage: sql.Identifier) -> sql.Composed:
        """Inserts what is not there and updates what is older; its row count is how many were written."""
        others = [name for name in self.columns if name not in self.keys]
        if self.updates and others:
            return self._update(stage, others)
        key: LiteralString = " ({})"
        return sql.SQL(_SKIP).format(
            target=self.target,
            names=_listed(self.columns),
            stage=stage,
            order=self._order(),
            key=sql.SQL(key).format(_listed(self.keys)) if self.keys else sql.SQL(""),
        )

    def _update(self, stage: sql.Identifier, others: Sequence[str]) -> sql.Composed:
        excluded = [sql.SQL("excluded.{}").format(sql.Identifier(name)) for name in others]
        newer: sql.Composable = sql.SQL("")
        if self.watermark is not None:
            newer = sql.SQL(_NEWER).format(watermark=sql.Identifier(self.watermark))
        sets = [
            sql.SQL("{} = {}").format(sql.Identifier(name), value)
            for name, value in zip(others, excluded, strict=True)
        ]
        return sql.SQL(_UPDATE).format(
            target=self.target,
            names=_listed(self.columns),
            keys=_listed(self.keys),
            stage=stage,
            order=self._order(),
            sets=sql.SQL(", ").join(sets),
            newer=newer,
            there=sql.SQL(", ").join(sql.Identifier("there", name) for name in others),
            excluded=sql.SQL(", ").join(excluded),
        )

    def _order(self) -> sql.Composed | sql.SQL:
        """By key, and of one key the newest first."""
        parts: list[sql.Composable] = [sql.Identifier(name) for name in self.keys]
        if not parts:
            return sql.SQL("")
        if self.watermark is not None:
            parts.append(sql.SQL("{} DESC NULLS LAST").format(sql.Identifier(self.watermark)))
        return sql.SQL(" ORDER BY {}").format(sql.SQL(", ").join(parts))

    def null_keys(self, stage: sql.Identifier) -> sql.Composed | None:
        """Counts rows that no unique index finds again; None where there is no key to ask of."""
        if not self.keys:
            return None
        conditions = [sql.SQL("{} IS NULL").format(sql.Identifier(name)) for name in self.keys]
        return sql.SQL(_NULL_KEYS).format(stage=stage, conditions=sql.SQL(" OR ").join(conditions))


def _listed(names: Sequence[str]) -> sql.Composed:
    return sql.SQL(", ").join(map(sql.Identifier, names))
