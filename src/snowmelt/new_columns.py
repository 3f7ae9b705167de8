"""Columns of a source that its target lacks: which are added, which are left out, and what nobody can know.

Only the last load tells whether the source gained a column since, or whether somebody wanted it left out.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from snowmelt.alterations import add_column, quote, rename_column
from snowmelt.choices import ColumnNames, NewColumns
from snowmelt.model import Column, LastLoad, TableJob, TargetColumn, TargetState
from snowmelt.preflight.surroundings import TargetSurroundings
from snowmelt.refusal import Refusal
from snowmelt.types import created_type, loadable, target_type


def names_of_added(
    job: TableJob, added: Sequence[Column], pairs: Mapping[str, str]
) -> dict[str, str]:
    """In lower case where the config says so, or where the table has the others so."""
    upper = {name: there for name, there in pairs.items() if name != name.lower()}
    lower = bool(upper) and all(there == name.lower() for name, there in upper.items())
    lower = lower or job.column_names is ColumnNames.LOWER
    return {column.name: column.name.lower() if lower else column.name for column in added}


@dataclass(slots=True)
class Lacking:
    """Columns of the source that the target lacks, one by one."""

    job: TableJob
    pairs: Mapping[str, str]
    kept: tuple[TargetColumn, ...]
    last: LastLoad | None
    table: str

    def sorted(
        self, rest: Sequence[Column]
    ) -> tuple[tuple[Column, ...], tuple[Column, ...], tuple[Refusal, ...]]:
        """Those that are added, those that are left out, and what has to be decided by a person."""
        added: list[Column] = []
        left: list[Column] = []
        refusals: list[Refusal] = []
        for column in rest:
            verdict = self._verdict(column, rest)
            if isinstance(verdict, Refusal):
                refusals.append(verdict)
            else:
                (added if verdict else left).append(column)
        return tuple(added), tuple(left), tuple(refusals)

    def _verdict(self, column: Column, rest: Sequence[Column]) -> bool | Refusal:
        """Whether it is added; else it is left out."""
        match self.job.new_columns:
            case NewColumns.ADD:
                return True
            case NewColumns.LEAVE_OUT:
                return False
            case NewColumns.REFUSE:
                return self._lacking(column)
        if self.last is None:
            return False
        # A name that two columns of the source have but for case is known by its exact spelling alone.
        low = [one.lower() for one in (*self.pairs, *(c.name for c in rest))]
        exact = low.count(column.name.lower()) > 1
        before = next((c for c in self.last.columns if _is_named(column, c.name, exact)), None)
        if before is not None:
            return self._renamed_there(column, before, self.last) or False
        if any(_is_named(column, name, exact) for name in self.last.left_out):
            return False
        return self._renamed_here(column, self.last, rest) or True

    def _lacking(self, column: Column) -> Refusal:
        type = created_type(column.type, column.source_type)
        add = "migrate a view without it"
        if type is not None:
            add = add_column(self.table, column.name, type)
        return Refusal(
            f'the target has no column "{column.name}", and new_columns is refuse',
            f"{add}, or set new_columns to add or leave_out",
        )

    def _renamed_here(
        self, column: Column, last: LastLoad, rest: Sequence[Column]
    ) -> Refusal | None:
        """A new column of the source may be one that is gone from it."""
        here = {one.lower() for one in (*self.pairs, *(c.name for c in rest))}
        kept = {one.name for one in self.kept}
        gone = [
            one
            for one in last.columns
            if one.name.lower() not in here and one.into in kept and _is_same_type(one, column)
        ]
        if not gone:
            return None
        renames = " or ".join(rename_column(self.table, one.into, column.name) for one in gone)
        return Refusal(
            f"column {quote(column.name)} is new in the source, and {_listed(one.name for one in gone)} of the "
            "same type is gone since the last load: it may have been renamed",
            f"{renames} If it is another column, run once with new_columns: add",
        )

    def _renamed_there(self, column: Column, before: Column, last: LastLoad) -> Refusal | None:
        """A column that the last load filled and the target lacks now may have another name in it."""
        if last.kept is None:
            return None
        filled = {one.into for one in last.columns}
        new = [
            one.name
            for one in self.kept
            if one.name not in filled and one.name not in last.kept and _takes(one, column)
        ]
        if not new:
            return None
        renames = " or ".join(rename_column(self.table, name, before.into) for name in new)
        return Refusal(
            f"column {quote(column.name)}: {quote(before.into)} of the target, which the last load filled, is "
            f"gone, and {_listed(new)} is new in it: it may have been renamed",
            f"{renames} If it is another column, set new_columns: leave_out, or add",
        )


def _is_named(column: Column, name: str, exact: bool) -> bool:
    return column.name == name or (not exact and column.name.lower() == name.lower())


def _is_same_type(one: Column, other: Column) -> bool:
    if one.source_type and other.source_type:
        return one.source_type == other.source_type
    return bool(one.type == other.type)


def _takes(there: TargetColumn, column: Column) -> bool:
    wire = target_type(there.type)
    return wire is not None and loadable(column.type, wire)


def adding_refusals(
    added: Sequence[Column],
    target: TargetState,
    table: str,
    around: TargetSurroundings | None,
) -> tuple[Refusal, ...]:
    """Columns that can't be added by this role, or under these names."""
    refusals = []
    typed = [(c, type) for c in added if (type := created_type(c.type, c.source_type)) is not None]
    taken = [column.name for column in target.columns] + [column.into for column in added]
    for column, type in typed:
        statement = add_column(table, column.into, type)
        or_not = "or set new_columns: leave_out"
        if around is not None and around.inheritance.partition_of:
            what = f"the target is a partition of {table}, which has the columns"
            refusals.append(
                Refusal(f'column "{column.name}" is new: {what}', f"{statement} {or_not}")
            )
        elif around is not None and not around.owned:
            what = f"role {around.role} does not own the target, which adding it takes"
            refusals.append(
                Refusal(f'column "{column.name}" is new: {what}', f"{statement} {or_not}")
            )
        elif taken.count(column.into) > 1:
            refusals.append(
                Refusal(
                    f'column "{column.name}" would be added as {quote(column.into)}, which is there',
                    "migrate a view that gives it another name, or set new_columns: leave_out",
                )
            )
    for column in added:
        if created_type(column.type, column.source_type) is None:
            refusals.append(
                Refusal(
                    f'column "{column.name}": {column.source_type or column.type} has no PostgreSQL type here',
                    "cast the column to text in a view and migrate the view, or set new_columns: leave_out",
                )
            )
    return tuple(refusals)


def _listed(names: Iterable[str]) -> str:
    return ", ".join(map(quote, names))
