"""What can be known before anything moves: PostgreSQL's limits, and the key of an upsert."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence

from snowmelt.model import Relation, TargetState, TargetTable
from snowmelt.preflight import fit
from snowmelt.preflight.questions import HEADER_BYTES, PAGE_BYTES
from snowmelt.preflight.surroundings import TargetSurroundings, UniqueKey
from snowmelt.refusal import Refusal

COLUMNS = 1_600
"""MaxHeapAttributeNumber of PostgreSQL."""
NAME_BYTES = 63
"""NAMEDATALEN - 1: longer names are cut."""
_SYSTEM_COLUMNS = frozenset({"tableoid", "xmin", "cmin", "xmax", "cmax", "ctid"})
_POINTER_BYTES = 18
"""Of a value that is stored apart (TOAST)."""


def limits(relation: Relation, target: TargetState, table: TargetTable) -> tuple[Refusal, ...]:
    """What PostgreSQL can't be given, whatever the values are."""
    columns = relation.columns
    there = {column.name for column in target.columns}
    new = [column.into for column in columns if column.into not in there]
    refusals = []
    if len(there) + len(new) > COLUMNS:
        whose = f"the source has {len(columns):,} columns"
        if there:
            whose = f"the target would have {len(there) + len(new):,} columns"
        refusals.append(
            Refusal(
                f"{whose}, and a table of PostgreSQL holds {COLUMNS:,}",
                "migrate views with some of the columns and the key each",
            )
        )
    for what, name in (("the schema", table.schema), ("the table", table.name)):
        if _is_cut(name):
            refusals.append(_cut(f"{what} {_quote(name)}", name, "name another target"))
    refusals += _name_refusals(new)
    if not target.exists:
        least = _least_row([p for p in fit.pairs(relation, target) if not p.target.nullable])
        if least > PAGE_BYTES:
            refusals.append(
                Refusal(
                    f"each row takes at least {least:,} bytes on a page, "
                    f"and PostgreSQL holds {PAGE_BYTES:,} there",
                    "migrate views with some of the columns and the key each",
                )
            )
    return tuple(refusals)


def _is_cut(name: str) -> bool:
    return len(name.encode()) > NAME_BYTES


def _cut(what: str, name: str, remedy: str) -> Refusal:
    length = len(name.encode())
    return Refusal(
        f"{what} has a name of {length} bytes, and PostgreSQL keeps {NAME_BYTES}", remedy
    )


def _kept(name: str) -> str:
    """What PostgreSQL would keep of a name: whole characters."""
    return name.encode()[:NAME_BYTES].decode(errors="ignore")


def _name_refusals(names: Sequence[str]) -> Iterable[Refusal]:
    shorter = "migrate a view that gives it a shorter name"
    for name in names:
        if _is_cut(name):
            yield _cut(f"column {_quote(name)}", name, shorter)
    for kept, same in _grouped(names, _kept):
        yield Refusal(
            f"columns {_quoted(same)} would all be {_quote(kept)} in PostgreSQL",
            "migrate a view that gives them shorter names",
        )
    for name in sorted(_SYSTEM_COLUMNS.intersection(names)):
        yield Refusal(
            f'column "{name}" has the name of a system column of PostgreSQL',
            "migrate a view that gives it another name",
        )


def _least_row(filled: Sequence[fit.Pair]) -> int:
    """Bytes on a page of a row that has a value in these columns, short ones where lengths differ."""
    end = HEADER_BYTES
    for pair in filled:
        step = fit.alignment(pair)
        end = -(-end // step) * step + (fit.width(pair) or 1)
    return end


def notes(relation: Relation, target: TargetState) -> tuple[str, ...]:
    """What is allowed and worth a line: names that only quotes keep apart, rows that may be too wide."""
    told = []
    for whose, names in (
        ("source", [column.name for column in relation.columns]),
        ("target", [column.name for column in target.columns]),
    ):
        told += [
            f"columns {_quoted(same)} of the {whose} differ by case only"
            for _, same in _grouped(names, str.casefold)
        ]
    if not target.exists:
        widths = [fit.width(pair) or _POINTER_BYTES for pair in fit.pairs(relation, target)]
        most = HEADER_BYTES + sum(widths)
        if most > PAGE_BYTES:
            told.append(
                f"a row with long values in all of its {len(widths):,} columns would take {most:,} bytes on "
                f"a page, and PostgreSQL holds {PAGE_BYTES:,} there"
            )
    return tuple(told)


def _grouped(names: Iterable[str], by: Callable[[str], str]) -> Iterator[tuple[str, list[str]]]:
    """Names that are one by `by`, where there are several."""
    groups: defaultdict[str, list[str]] = defaultdict(list)
    for name in names:
        groups[by(name)].append(name)
    return ((one, same) for one, same in groups.items() if len(same) > 1)


def _quote(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _quoted(names: Iterable[str]) -> str:
    return ", ".join(map(_quote, names))


def uniqueness(columns: Sequence[str], around: TargetSurroundings) -> UniqueKey | Refusal:
    """The key by which ON CONFLICT finds the rows of an upsert: a unique index on exactly these columns, in any
    order. One that is to be created with its table has no name.

    A column without a value keeps its row from ever being found, unless the index is NULLS NOT DISTINCT:
    `questions` asks for such rows.
    """
    if not around.exists:
        return UniqueKey("", tuple(columns))
    same = [key for key in around.unique_keys if set(key.columns) == set(columns)]
    listed = _quoted(columns)
    for key in same:
        if key.deferrable:
            return Refusal(
                f"the unique constraint {key.name} on {listed} is deferrable, and ON CONFLICT takes none that is",
                f"ALTER TABLE {around.name} DROP CONSTRAINT {key.name}, ADD UNIQUE ({listed});",
            )
    fitting = [key for key in same if key.unfit is None]
    if fitting:
        # Of two the one that meets rows without a value as well.
        return min(fitting, key=lambda key: key.nulls_distinct)
    if around.inheritance.key and not set(around.inheritance.key_columns) <= set(columns):
        return _beside_partitions(columns, around)
    near = "; ".join(f"{key.name} has these columns, but {key.unfit}" for key in same)
    return Refusal(
        f"no unique index is on exactly {listed}" + (f": {near}" if near else ""),
        f"CREATE UNIQUE INDEX ON {around.name} ({listed}); or correct uniqueness_columns",
    )


def _beside_partitions(columns: Sequence[str], around: TargetSurroundings) -> Refusal:
    """A key that no unique index of a partitioned table can have."""
    what = f"no unique index is on exactly {_quoted(columns)}"
    named = [name for name in around.inheritance.key_columns if name is not None]
    if len(named) < len(around.inheritance.key_columns):
        return Refusal(
            f"{what}: the table is partitioned by an expression, beside which PostgreSQL has no unique index",
            "load it by mode append, or into a table that is partitioned by columns",
        )
    whole = [*columns, *(name for name in named if name not in columns)]
    return Refusal(
        f"{what}: one of a partitioned table holds all columns that it is partitioned by, {_quoted(named)}",
        f"set uniqueness_columns to {', '.join(whole)}, and where there is none yet: "
        f"CREATE UNIQUE INDEX ON {around.name} ({_quoted(whole)});",
    )
