"""The character NUL, which PostgreSQL holds in no text: taken out of values or replaced, and told with keys."""

from __future__ import annotations

from collections.abc import Callable

import pyarrow as pa
import pyarrow.compute as pc

from snowmelt.choices import NulCharacters
from snowmelt.postgres.json_rules import without_escaped_nuls

SHOWN_KEYS = 20


def without_nuls(
    array: pa.StringArray, rows: pa.BooleanArray, instead: str, *, escapes: bool
) -> pa.StringArray:
    """A column with `instead` for NUL characters in the rows given, of which none is NULL; with `escapes` also for
    those that JSON spells \\u0000."""
    mended = [text.replace("\0", instead) for text in array.filter(rows).to_pylist()]
    if escapes:
        mended = [without_escaped_nuls(text, instead) for text in mended]
    return pc.replace_with_mask(array, rows, pa.array(mended, array.type))


class Changes:
    """The values of one chunk that were changed: how many, and where the first of them are."""

    def __init__(self, how: NulCharacters) -> None:
        self.count = 0
        self._how = how
        self._places: list[tuple[str, str]] = []

    def note(self, column: str, rows: pa.BooleanArray, key_of: Callable[[int], str]) -> None:
        """Note the rows of a batch; `key_of` tells the key of one."""
        self.count += pc.sum(rows).as_py() or 0
        room = SHOWN_KEYS - len(self._places)
        self._places += [
            (column, key_of(row.as_py())) for row in pc.indices_nonzero(rows)[: max(room, 0)]
        ]

    def __str__(self) -> str:
        """One line: how many values, and column and key of the first.

        >>> changes = Changes(NulCharacters.STRIP)
        >>> changes.note("v", pa.array([False, True]), lambda row: f'"id" = {row}')
        >>> str(changes)
        'NUL characters were taken out of 1 value: column "v", "id" = 1'
        """
        values = "1 value" if self.count == 1 else f"{self.count:,} values"
        told = "; ".join(f'column "{column}", {key}' for column, key in self._places)
        more = self.count - len(self._places)
        done = "replaced in" if self._how is NulCharacters.REPLACE else "taken out of"
        rest = f"; and {more:,} more" if more else ""
        return f"NUL characters were {done} {values}: {told}{rest}"
