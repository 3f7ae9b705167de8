"""Which column of a source goes into which of its target, and what becomes of those that have none.

A column goes into the one of exactly its name, else into the only one that differs by case alone. What the
target lacks is for `new_columns` to sort.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from snowmelt.alterations import quote, rename_column, table_of
from snowmelt.choices import ColumnNames, Mode
from snowmelt.chunking.sizing import row_bytes
from snowmelt.model import Column, LastLoad, Relation, TableJob, TargetColumn, TargetState
from snowmelt.new_columns import Lacking, adding_refusals, names_of_added
from snowmelt.preflight.surroundings import TargetSurroundings
from snowmelt.refusal import Refusal
from snowmelt.types import created_type


@dataclass(frozen=True, slots=True)
class Columns:
    """What is made of the columns of a source and a target.

    `read` are loaded, each with the target's name of it; those of them in `added` the target gets first.
    `left_out` are not asked of the source, and `kept` of the target nobody fills.
    """

    read: tuple[Column, ...]
    added: tuple[Column, ...] = ()
    left_out: tuple[Column, ...] = ()
    kept: tuple[TargetColumn, ...] = ()
    refusals: tuple[Refusal, ...] = ()
    notes: tuple[str, ...] = ()

    def of(self, relation: Relation) -> Relation:
        """The relation as far as it is read."""
        if not self.left_out:
            return replace(relation, columns=self.read)
        whole = relation.row_bytes
        if whole is not None:
            whole = max(whole * row_bytes(self.read) // max(row_bytes(relation.columns), 1), 1)
        about = tuple(f"column {quote(column.name)}: " for column in self.left_out)
        notes = tuple(note for note in relation.notes if not note.startswith(about))
        return replace(relation, columns=self.read, row_bytes=whole, notes=notes)


def found(name: str, names: Iterable[str]) -> str | None:
    """The one of the names that is meant: exactly it, else the only one that differs by case alone.

    >>> found("ID", ["id", "Note"]), found("id", ["Id", "ID"])
    ('id', None)
    """
    known = list(names)
    if name in known:
        return name
    near = [one for one in known if one.lower() == name.lower()]
    return near[0] if len(near) == 1 else None


def spelled(job: TableJob, columns: Sequence[Column]) -> TableJob:
    """The job with uniqueness_columns and chunking_columns as the source spells them, as far as it has them."""
    names = [column.name for column in columns]
    unique = tuple(found(name, names) or name for name in job.uniqueness_columns)
    keys = tuple(replace(key, column=found(key.column, names) or key.column) for key in job.keys)
    return replace(job, uniqueness_columns=unique, keys=keys)


def match(
    job: TableJob,
    relation: Relation,
    target: TargetState,
    *,
    last: LastLoad | None = None,
    around: TargetSurroundings | None = None,
) -> Columns:
    """Match the columns of a source with those of its target."""
    if not target.exists:
        return _created(job, relation.columns)
    table = table_of(around, job.target.schema, job.target.name)
    pairs, ambiguous = _paired(relation.columns, target.columns)
    rest = [c for c in relation.columns if c.name not in pairs and c.name not in ambiguous]
    taken = set(pairs.values())
    kept = tuple(c for c in target.columns if c.name not in taken and not c.generated)
    lacking = Lacking(job, pairs, kept, last, table)
    fresh, left, unclear = lacking.sorted(rest)
    names = {**pairs, **names_of_added(job, fresh, pairs)}
    read = tuple(_named(c, names[c.name]) for c in relation.columns if c.name in names)
    added = tuple(column for column in read if column.name not in pairs)
    refusals = (
        *(_ambiguous(name, near, table) for name, near in ambiguous.items()),
        *unclear,
        *adding_refusals(added, target, table, around),
    )
    if not read and not refusals:
        listed = _listed(column.name for column in relation.columns)
        refusals = (
            Refusal(
                f"the target has none of the source's columns: {listed}",
                "name another target, or set new_columns: add",
            ),
        )
    return Columns(read, added, left, kept, refusals, _notes(read, added, left, kept, last, around))


def needed(job: TableJob, columns: Columns) -> tuple[Refusal, ...]:
    """Columns that are left out, and that the mode can't do without."""
    named = [("source_watermark", job.source_watermark)] if job.source_watermark else []
    if job.mode is Mode.APPEND:
        named = []  # by it rows are chosen at the source
    else:
        named += [("uniqueness_columns", name) for name in job.uniqueness_columns]
    left = {column.name for column in columns.left_out}
    return tuple(
        Refusal(
            f'{setting} names "{name}", which the target lacks, so that it would be left out',
            f"set new_columns: add, or correct {setting}",
        )
        for setting, name in named
        if name in left
    )


def _named(column: Column, name: str) -> Column:
    return column if name == column.name else replace(column, target=name)


def _created(job: TableJob, columns: Sequence[Column]) -> Columns:
    """Of a table that is created: all, by the names that the config asks for."""
    if job.column_names is ColumnNames.EXACT:
        return Columns(tuple(columns))
    read = tuple(_named(column, column.name.lower()) for column in columns)
    refusals = []
    for name in dict.fromkeys(column.into for column in read):
        same = [column.name for column in read if column.into == name]
        if len(same) > 1:
            refusals.append(
                Refusal(
                    f"columns {_listed(same)} would all be {quote(name)}",
                    "set column_names: exact, or migrate a view that gives them names of their own",
                )
            )
    return Columns(read, refusals=tuple(refusals))


def _paired(
    columns: Sequence[Column], there: Sequence[TargetColumn]
) -> tuple[dict[str, str], dict[str, list[str]]]:
    """Names of the source -> those of the target, and names for which there are several."""
    targets, sources = _by_case(there), _by_case(columns)
    names = {column.name for column in there}
    pairs = {column.name: column.name for column in columns if column.name in names}
    ambiguous: dict[str, list[str]] = {}
    for column in columns:
        low = column.name.lower()
        near = [name for name in targets.get(low, ()) if name not in pairs]
        if column.name in pairs or not near:
            continue
        if len(sources[low]) == len(targets[low]) == 1:
            pairs[column.name] = near[0]
        else:
            ambiguous[column.name] = sorted(near)
    return pairs, ambiguous


def _by_case(columns: Iterable[Column] | Iterable[TargetColumn]) -> dict[str, list[str]]:
    """Names in lower case -> the names that are so."""
    found: dict[str, list[str]] = {}
    for column in columns:
        found.setdefault(column.name.lower(), []).append(column.name)
    return found


def _ambiguous(name: str, near: Sequence[str], table: str) -> Refusal:
    renames = " or ".join(rename_column(table, there, name) for there in near)
    return Refusal(
        f"column {quote(name)}: only case tells which column of the target takes it, {_listed(near)}, or which of "
        "the source goes there",
        f"{renames} Or migrate a view with names of their own",
    )


def _notes(
    read: Sequence[Column],
    added: Sequence[Column],
    left_out: Sequence[Column],
    kept: Sequence[TargetColumn],
    last: LastLoad | None,
    around: TargetSurroundings | None,
) -> tuple[str, ...]:
    told = []
    new = {column.name for column in added}
    folded = [c for c in read if c.target is not None and c.name not in new]
    if folded:
        many = "1 column is" if len(folded) == 1 else f"{len(folded):,} columns are"
        told.append(
            f"{many} matched without regard to case, such as {quote(folded[0].name)} -> {quote(folded[0].into)}"
        )
    if added:
        spelled_out = ", ".join(
            f"{quote(c.into)} {created_type(c.type, c.source_type) or c.source_type}" for c in added
        )
        told.append(
            f"the target gets new columns, without values in the rows that are there: {spelled_out}"
        )
        if around is not None and around.publications:
            told.append(
                "the rows are sent to subscribers, whose tables need the new columns first: "
                + ", ".join(around.publications)
            )
    strict = [c.name for c in added if not c.nullable]
    if strict:
        told.append(
            f"NOT NULL in the source, and not in the target as rows are there: {_listed(strict)}"
        )
    if left_out:
        told.append(
            f"left out, since the target has no such column: {_listed(c.name for c in left_out)}"
        )
    filled = {c.into for c in last.columns} if last else set()
    gone = [c.name for c in kept if c.name in filled]
    if gone:
        told.append(
            f"not in the source any more, so that new rows have no value of it: {_listed(gone)}"
        )
    others = [c.name for c in kept if c.name not in filled]
    if others:
        told.append(f"only in the target, and left as they are: {_listed(others)}")
    return tuple(told)


def _listed(names: Iterable[str]) -> str:
    return ", ".join(map(quote, names))
