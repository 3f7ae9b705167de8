"""Chunks survive the ledger's JSON, also that of release 0.2.0; what is not known is refused."""

from __future__ import annotations

import json
from datetime import UTC, date, datetime
from decimal import Decimal
from random import Random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from snowmelt.chunking.bounds import Timestamp
from snowmelt.chunking.chunks import (
    Chunk,
    Key,
    KeyKind,
    KeyRange,
    NullKeys,
    QueryOnce,
    Range,
    ResultBatches,
    Span,
    WholeTable,
    query_once,
    range_from_json,
    range_to_json,
    whole_table,
)
from snowmelt.chunking.strategies import chunks_of, strategy_of
from tests.unit.key_tables import Table
from tests.unit.key_values import BOUNDS, keys, tables

# --- ranges and their JSON ------------------------------------------------------------------------


@st.composite
def spans(draw: st.DrawFn, depth: int = 2) -> Span:
    """A range or the NULL keys, perhaps within those of another key."""
    within = draw(spans(depth - 1)) if depth and draw(st.booleans()) else None
    key = draw(keys)
    if draw(st.booleans()):
        return NullKeys(key, within)
    ends = st.none() | BOUNDS[key.kind]
    return KeyRange(key, draw(ends), draw(ends), within)


batches = st.builds(
    ResultBatches, st.text(), st.integers(0), st.lists(st.integers(0, 2**62)).map(tuple)
)
ranges: st.SearchStrategy[Range] = spans() | batches | st.sampled_from([WholeTable(), QueryOnce()])


def stored(range: Range) -> Range:
    """As it comes back from the ledger."""
    return range_from_json(json.loads(json.dumps(range_to_json(range))))


def shown(range: Range | None) -> str:
    """All that a chunk's rows depend on, told exactly: NaN has no equal, and -0.0 is equal to 0.0."""
    match range:
        case KeyRange(key, low, high, within):
            return f"{key.column!r} {key.kind} {low!r} {high!r} / {shown(within)}"
        case NullKeys(key, within):
            return f"{key.column!r} {key.kind} NULL / {shown(within)}"
    return repr(range)


@given(ranges)
def test_a_range_survives_json_exactly(range: Range) -> None:
    """To the last digit, and of the same types."""
    again = stored(range)
    assert shown(again) == shown(range)
    assert type(again) is type(range)


@given(tables(), st.integers(1, 20), st.integers())
def test_the_chunks_of_a_plan_survive_json(table: Table, chunk_rows: int, seed: int) -> None:
    """Whatever they are made of: the same rows are in the same chunks."""
    grain = strategy_of(table.keys[0].kind).grain(len(table.rows), chunk_rows)
    for chunk in chunks_of(table.planned(chunk_rows, grain, Random(seed)), chunk_rows):
        again = stored(chunk.range)
        assert shown(again) == shown(chunk.range)
        assert table.of(again) == table.of(chunk.range)


def test_a_range_does_not_depend_on_whether_its_key_may_be_null() -> None:
    """What the source says of its column decides which chunks are made, not which rows one has."""
    one, other = (Key("k", KeyKind.DATE, nullable=nullable) for nullable in (True, False))
    assert KeyRange(one) == KeyRange(other)
    assert range_to_json(NullKeys(one)) == range_to_json(NullKeys(other))
    assert one != Key("k", KeyKind.TIMESTAMP)


DAY, TEXT = Key("k", KeyKind.DATE), Key('a "b"', KeyKind.TEXT)


@pytest.mark.parametrize(
    ("range", "text"),
    [
        (WholeTable(), '{"kind": "table"}'),
        (QueryOnce(), '{"kind": "query"}'),
        (
            ResultBatches("01b2", 3, (50, 7)),
            '{"kind": "result", "query_id": "01b2", "first": 3, "rows": [50, 7]}',
        ),
        (NullKeys(DAY), '{"kind": "null", "column": "k", "key": "date"}'),
        (
            KeyRange(DAY),
            '{"kind": "range", "column": "k", "key": "date", "low": null, "high": null}',
        ),
        (
            KeyRange(DAY, date(2025, 1, 2), date(2025, 1, 3)),
            '{"kind": "range", "column": "k", "key": "date", "low": ["date", "2025-01-02"],'
            ' "high": ["date", "2025-01-03"]}',
        ),
        (
            KeyRange(Key("k", KeyKind.TEXT_NUMBER), 5, None),
            '{"kind": "range", "column": "k", "key": "text_number", "low": ["integer", "5"], "high": null}',
        ),
        (
            KeyRange(Key("k", KeyKind.NUMBER), None, Decimal("0.5"), NullKeys(TEXT)),
            '{"kind": "range", "column": "k", "key": "number", "low": null, "high": ["decimal", "0.5"],'
            ' "within": {"kind": "null", "column": "a \\"b\\"", "key": "text"}}',
        ),
        (
            NullKeys(Key("n", KeyKind.FLOAT), KeyRange(TEXT, "a", "a\0", KeyRange(DAY))),
            '{"kind": "null", "column": "n", "key": "float", "within": {"kind": "range",'
            ' "column": "a \\"b\\"", "key": "text", "low": ["text", "a"], "high": ["utf8", "6100"],'
            ' "within": {"kind": "range", "column": "k", "key": "date", "low": null, "high": null}}}',
        ),
    ],
)
def test_the_stored_form_stays_as_it_is(range: Range, text: str) -> None:
    """Chunks that an earlier release stored must be read back: changing this needs a migration."""
    assert json.dumps(range_to_json(range)) == text
    assert range_from_json(json.loads(text)) == range


INSTANT, MOMENT = Key("k", KeyKind.INSTANT), Key("k", KeyKind.TIMESTAMP)


@pytest.mark.parametrize(
    ("text", "range"),
    [
        ('{"kind": "table"}', WholeTable()),
        ('{"kind": "query"}', QueryOnce()),
        (
            '{"kind": "range", "column": "k", "low": ["date", "2025-01-02"], "high": null}',
            KeyRange(DAY, date(2025, 1, 2)),
        ),
        (
            '{"kind": "range", "column": "k", "low": null, "high": ["date", "2025-01-02"]}',
            KeyRange(DAY, None, date(2025, 1, 2)),
        ),
        (
            '{"kind": "range", "column": "k", "low": ["timestamp", "2025-01-02T03:04:05.000006"], "high": null}',
            KeyRange(MOMENT, Timestamp(datetime(2025, 1, 2, 3, 4, 5, 6))),
        ),
        (
            '{"kind": "range", "column": "k", "low": ["instant", "2025-01-02T05:00:00+00:00"],'
            ' "high": ["instant", "2025-01-02T05:00:00.500000+00:00"]}',
            KeyRange(
                INSTANT,
                Timestamp(datetime(2025, 1, 2, 5, tzinfo=UTC)),
                Timestamp(datetime(2025, 1, 2, 5, 0, 0, 500_000, tzinfo=UTC)),
            ),
        ),
        # Rows of these two do not depend on what the key is.
        ('{"kind": "range", "column": "k", "low": null, "high": null}', KeyRange(MOMENT)),
        ('{"kind": "null", "column": "k"}', NullKeys(MOMENT)),
    ],
)
def test_what_release_0_2_0_stored_is_read(text: str, range: Range) -> None:
    """It had keys of time only, and did not store which."""
    assert range_from_json(json.loads(text)) == range


@pytest.mark.parametrize(
    "value",
    [
        {},
        {"kind": "hash", "column": "k"},
        {"kind": "range", "column": None, "low": None, "high": None},
        {"kind": "range", "column": "k", "low": ["float", "1.5"], "high": None},
        {"kind": "range", "column": "k", "low": [], "high": None},
        {"kind": "range", "column": "k", "low": "2025-01-01", "high": None},
        {"kind": "range", "column": "k", "low": ["date", "soon"], "high": None},
        {"kind": "range", "column": "k", "key": "date", "low": ["boolean", "x"], "high": None},
        {"kind": "range", "column": "k", "key": "date", "high": None},
        {"kind": "range", "column": "k", "key": "hash", "low": None, "high": None},
        {"kind": "range", "column": "k", "key": None, "low": None, "high": None},
        {"kind": "null", "column": "k", "key": "date", "within": {"kind": "table"}},
        {"kind": "null", "column": "k", "key": "date", "within": {"kind": "null"}},
        {"kind": "null", "column": "k", "key": "date", "within": "k"},
        {"kind": "null", "column": "k", "key": "date", "within": False},
        {"kind": "result", "query_id": "01b2", "first": 3},
        {"kind": "result", "query_id": None, "first": 3, "rows": [1]},
        {"start_date": "2025-01-01", "end_date": "2025-01-31"},
    ],
)
def test_a_range_that_is_not_known_is_refused(value: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"not a|Invalid isoformat"):
        range_from_json(value)


# --- chunks without a key -------------------------------------------------------------------------


def test_a_table_without_a_key_is_one_chunk() -> None:
    for rows in (7, 0, None):
        assert whole_table(rows) == (Chunk(0, WholeTable(), rows),)


def test_a_query_that_has_not_run_is_one_step_without_rows() -> None:
    assert query_once() == (Chunk(0, QueryOnce(), 0),)
