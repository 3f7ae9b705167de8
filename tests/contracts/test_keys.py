"""Chunks of any key, over any source: disjoint, total, as large as was asked for, the rows of a full scan."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from uuid import UUID

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from snowmelt.choices import KeyType
from snowmelt.chunking.chunks import Chunk
from snowmelt.chunking.keys import KeyProblem, keys_of
from snowmelt.chunking.strategies import FAR_OVER, chunks_of
from snowmelt.extraction import counted, recounted
from snowmelt.model import ChunkKey, Relation, Tag
from snowmelt.standin.server import StandIn
from tests.contracts.places import Made, Place, Snowflake

TAG = Tag(UUID(int=1), "db", 1)
UNSHRUNK = (Phase.explicit, Phase.reuse, Phase.generate)
"""Each try makes a table: looking for the smallest that fails would take minutes."""


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of key: the column's kind at a place, the config's hint, and values as text, extremes first."""

    column: str
    hint: KeyType | None
    values: st.SearchStrategy[str]
    edges: tuple[str, ...]


def _mixed_case(value: UUID, style: int) -> str:
    text = str(value) if style & 1 else value.hex
    return text.upper() if style & 2 else text


_text = st.text(
    st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=6
) | st.sampled_from(["CUSTOMER-0001", "CUSTOMER-0002", "CUSTOMER-00021", "customer-0002"])

KINDS = {
    "date": Kind(
        "date",
        KeyType.DATE,
        st.dates(date(2024, 1, 1), date(2024, 1, 9)).map(str),
        ("0001-01-01", "9999-12-31", "1969-12-31"),
    ),
    "timestamp": Kind(
        "timestamp",
        KeyType.TIMESTAMP,
        st.datetimes(datetime(2024, 1, 1), datetime(2024, 1, 2)).map(str),
        ("0001-01-01 00:00:00", "9999-12-31 23:59:59.999999", "1969-12-31 23:59:59.999999"),
    ),
    "instant": Kind(
        "instant",
        None,
        st.builds(
            lambda at, zone: f"{at}{zone}",
            st.datetimes(datetime(2024, 1, 1), datetime(2024, 1, 3)),
            st.sampled_from(["+00:00", "-11:00", "+05:30", "+14:00"]),
        ),
        ("0001-01-02 00:00:00+05:30", "9999-12-30 23:59:59.999999-11:00"),
    ),
    "whole": Kind(
        "whole",
        KeyType.INT,
        st.integers(-50, 50).map(str) | st.integers(-(2**63), 2**63 - 1).map(str),
        (str(-(2**63)), str(2**63 - 1), "0"),
    ),
    "decimal": Kind(
        "decimal",
        KeyType.NUMERIC,
        st.decimals(-1000, 1000, places=10).map(str),
        ("-" + "9" * 28 + "." + "9" * 10, "9" * 28 + "." + "9" * 10, "0", "0.0000000001"),
    ),
    "float": Kind(
        "float",
        None,
        st.floats(-10, 10).map(repr) | st.floats(allow_nan=True, allow_infinity=True).map(repr),
        ("nan", "inf", "-inf", "-0.0", "0.0", "5e-324", "1.7976931348623157e+308"),
    ),
    "text": Kind("text", None, _text, ("", " ", "a", "A", "é", "\U0010ffff", "'\\\"%", "a\nb")),
    "folded": Kind("folded", KeyType.VARCHAR, _text, ("a", "A", "B", "b", "")),
    "uuid": Kind(
        "text",
        KeyType.UUID,
        st.builds(_mixed_case, st.uuids(), st.integers(0, 3)),
        ("00000000-0000-0000-0000-000000000000", "F" * 32, "f" * 32, ""),
    ),
    "text_number": Kind(
        "text",
        KeyType.VARCHAR_NUMERIC,
        st.integers(-(10**6), 10**6).map(str) | _text,
        ("9" * 38, "-" + "9" * 38, "9" * 60, "12.5", "1e3", " 7 ", "", "x", "٣"),
    ),
}


@st.composite
def _columns(draw: st.DrawFn) -> dict[str, list[str | None]]:
    """A column for each kind: values that repeat, some of them often, extremes, and rows without any."""
    rows = draw(st.integers(0, 60))
    columns: dict[str, list[str | None]] = {}
    for name, kind in KINDS.items():
        pool = [None, *kind.edges, *draw(st.lists(kind.values, min_size=1, max_size=20))]
        heavy = draw(st.sampled_from(pool))
        share = draw(st.sampled_from([0, 0, 3, 9]))
        values = draw(st.lists(st.sampled_from(pool), min_size=rows, max_size=rows))
        columns[name] = [heavy if n % 10 < share else value for n, value in enumerate(values)]
    return columns


def _made(place: Place, columns: dict[str, list[str | None]]) -> Made:
    declared = [("i", "whole"), *((name, KINDS[name].column) for name in columns)]
    rows = [(str(n), *values) for n, values in enumerate(zip(*columns.values(), strict=True))]
    return place.make(declared, rows)


def _numbers(made: Made, relation: Relation, chunk: Chunk) -> list[int]:
    """Which rows are read."""
    wanted = [column for column in relation.columns if column.name == "i"]
    with made.source.read(made.table, chunk, wanted, relation.snapshot, TAG) as reading:
        return [number for batch in reading for number in batch.column(0).to_pylist()]


def _check(
    made: Made, columns: dict[str, list[str | None]], names: Sequence[str], size: int
) -> None:
    relation = made.source.describe(made.table)
    keys = keys_of([ChunkKey(name, KINDS[name].hint) for name in names], relation)
    assert not isinstance(keys, KeyProblem)
    rows = len(columns[names[0]])
    of = (made.table, keys, made.source, relation.snapshot, size)

    histogram = recounted(counted(*of, rows), *of)
    chunks = chunks_of(histogram, size)
    read = [_numbers(made, relation, chunk) for chunk in chunks]

    assert Counter(n for numbers in read for n in numbers) == Counter(range(rows))
    assert [chunk.planned_rows for chunk in chunks] == [len(numbers) for numbers in read]
    for chunk, numbers in zip(chunks, read, strict=True):
        if len(numbers) > FAR_OVER * size:
            values = {tuple(_canonical(name, columns[name][n]) for name in names) for n in numbers}
            assert len(values) == 1, (chunk, values)


def _canonical(name: str, value: str | None) -> object:
    """What counts as one value of a key."""
    if value is None:
        return "another, or none" if name == "text_number" else None
    match name:
        case "instant" if "0002" < value[:4] < "9999":
            return datetime.fromisoformat(value).astimezone(UTC)
        case "float":
            return str(float(value) + 0.0)
        case "decimal":
            return Decimal(value)
        case "text_number":
            return int(value) if re.fullmatch("-?[0-9]{1,38}", value) else "another, or none"
    return value


@settings(
    max_examples=12,
    phases=UNSHRUNK,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(columns=_columns(), size=st.integers(1, 25), data=st.data())
def test_any_keys_give_each_row_once(
    place: Place, columns: dict[str, list[str | None]], size: int, data: st.DataObject
) -> None:
    made = _made(place, columns)
    several_of = 4 if isinstance(place, Snowflake) else len(columns)  # each chunk is a query there
    some = data.draw(st.permutations(sorted(columns)))[:several_of]
    for name in some:
        _check(made, columns, [name], size)
    several = data.draw(
        st.lists(st.sampled_from(sorted(columns)), min_size=2, max_size=3, unique=True)
    )
    _check(made, columns, several, size)


def _ids(*parts: tuple[int, int, int]) -> list[str]:
    """So many ids, evenly between two ends, for each part."""
    return [str(low + (high - low) * n // rows) for low, high, rows in parts for n in range(rows)]


SPARSE = _ids((1, 1_000, 50), (1_001, 1_000_000, 450), (5_000_001, 5_100_000, 3_500))


def test_ids_with_gaps_of_millions(place: Place) -> None:
    """Equal widths of the ids would have one chunk hold nearly all of them."""
    made = place.make([("i", "whole"), ("k", "whole")], [(str(n), k) for n, k in enumerate(SPARSE)])
    chunks = _chunks(made, ["k"], 200, len(SPARSE))

    read = [_numbers(made, made.source.describe(made.table), chunk) for chunk in chunks]

    assert sorted(n for numbers in read for n in numbers) == list(range(len(SPARSE)))
    assert max(len(numbers) for numbers in read) <= 400
    assert len(chunks) <= 2 * len(SPARSE) // 200 + 2


@pytest.mark.parametrize("keys", [["k"], ["k", "i"]])
def test_one_timestamp_on_half_the_rows(place: Place, keys: list[str]) -> None:
    """It can't be split by itself; by a second column it can."""
    stamped = "2024-03-01 12:00:00"
    rows = 3_000
    at = [
        stamped if n % 2 else str(datetime(2024, 2, 28) + timedelta(minutes=n)) for n in range(rows)
    ]
    made = place.make([("i", "whole"), ("k", "timestamp")], [(str(n), k) for n, k in enumerate(at)])

    chunks = _chunks(made, keys, 100, rows)
    read = [_numbers(made, made.source.describe(made.table), chunk) for chunk in chunks]

    assert sorted(n for numbers in read for n in numbers) == list(range(rows))
    assert [chunk.planned_rows for chunk in chunks] == [len(numbers) for numbers in read]
    heavy = [numbers for numbers in read if len(numbers) > 200]
    assert [{at[n] for n in numbers} for numbers in heavy] == [{stamped}] * (len(keys) == 1)


def test_a_filter_that_has_the_keys_values(place: Place) -> None:
    """The key is renamed within the queries; the filter means the table's columns."""
    rows = [(str(n), str(n % 40)) for n in range(400)]
    made = place.make([("i", "whole"), ("k", "whole")], rows)
    table = replace(made.table, filter='"k" < 30 AND "i" >= 0 -- kept')
    filtered = Made(made.source, table)

    chunks = _chunks(filtered, ["k", "i"], 4, 300)

    assert sum(chunk.planned_rows or 0 for chunk in chunks) == 300
    assert max(chunk.planned_rows or 0 for chunk in chunks) <= 8


@pytest.mark.parametrize("size", [1, 10, 1_000])
def test_two_aggregated_queries_at_most(standin: StandIn, size: int) -> None:
    """Whatever the number of chunks and of keys."""
    place = Snowflake.stood_in(standin)
    rows = [(str(n), str(n * n)) for n in range(1_500)]
    made = place.make([("i", "whole"), ("k", "whole")], rows)
    standin.reset_stats()

    chunks = _chunks(made, ["k", "i"], size, len(rows))

    statements = standin.stats().statements
    assert len([text for text in statements if "GROUP BY" in text]) <= 2
    assert len(chunks) > 1_000 // size
    place.close()


def _chunks(made: Made, names: Sequence[str], size: int, rows: int) -> tuple[Chunk, ...]:
    relation = made.source.describe(made.table)
    keys = keys_of([ChunkKey(name, None) for name in names], relation)
    assert not isinstance(keys, KeyProblem)
    of = (made.table, keys, made.source, relation.snapshot, size)
    return chunks_of(recounted(counted(*of, rows), *of), size)
