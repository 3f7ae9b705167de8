"""The decisions of the Snowflake source that need no server: types by values, snapshots, errors by number."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from uuid import UUID

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from snowflake.connector import errors as sf
from snowflake.connector.vendored import requests
from snowflake.connector.vendored.urllib3.exceptions import ProtocolError

from snowmelt.choices import Snapshot
from snowmelt.errors import (
    ConnectionLost,
    ResultGone,
    RetriableError,
    RunError,
    SnowmeltError,
    SourceChanged,
    TableError,
    TooHeavy,
)
from snowmelt.model import Column, Tag
from snowmelt.sources.snowflake.columns import (
    Described,
    Observed,
    clustering_columns,
    fitted,
    notes,
    plain,
)
from snowmelt.sources.snowflake.failures import translate
from snowmelt.sources.snowflake.results import planned
from snowmelt.sources.snowflake.snapshot import ReadAs, TableSnapshot

texts = st.text(max_size=12)
policies = st.none() | st.lists(st.tuples(texts, texts, texts), max_size=3).map(tuple)
readers = st.builds(
    ReadAs,
    texts,
    texts,
    st.sampled_from(["TABLE", "VIEW"]),
    st.lists(st.tuples(texts, texts, texts), max_size=4, unique_by=lambda c: c[0]).map(tuple),
    policies,
)
snapshots = st.builds(
    TableSnapshot,
    st.sampled_from(Snapshot),
    st.datetimes(datetime(1, 1, 2), datetime(9999, 12, 30), timezones=st.just(UTC)),
    st.none() | texts,
    readers,
    st.lists(texts, max_size=3).map(tuple),
)


@given(snapshots)
def test_a_snapshot_survives_the_ledger(snapshot: TableSnapshot) -> None:
    assert TableSnapshot.from_json(json.loads(json.dumps(snapshot.to_json()))) == snapshot


@pytest.mark.parametrize("value", [{}, {"files": [["a", 1, 2]]}, {"kind": "later"}])
def test_what_is_no_snapshot_is_refused(value: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="not a snapshot"):
        TableSnapshot.from_json(value)


@given(readers)
def test_a_table_that_is_read_as_before_has_no_differences(reader: ReadAs) -> None:
    more = ("added since", "DATE", "")
    assert reader.differences(reader) == []
    later = ReadAs(
        reader.role,
        reader.secondary_roles,
        reader.kind,
        (*reader.columns, more),
        reader.policies,
    )
    assert reader.differences(later) == []


@given(readers, readers)
def test_every_other_difference_is_told(one: ReadAs, other: ReadAs) -> None:
    now = {name: (type, policy) for name, type, policy in other.columns}
    same_columns = all(now.get(name) == (type, policy) for name, type, policy in one.columns)
    same = (one.role, one.secondary_roles, one.policies) == (
        other.role,
        other.secondary_roles,
        other.policies,
    )
    assert (one.differences(other) == []) == (same and same_columns)


def _column(type: str) -> Column:
    (column,) = plain([Described("c", type, True, False, "")])
    return column


@given(st.integers(-(10**38) + 1, 10**38 - 1), st.integers(-(10**38) + 1, 10**38 - 1))
def test_long_integers_are_bigint_only_where_all_fit(one: int, other: int) -> None:
    low, high = sorted((one, other))
    (column,) = fitted([_column("NUMBER(38,0)")], {"c": Observed(low, high)})
    fits = low >= -(2**63) and high < 2**63
    assert column.type == (pa.int64() if fits else pa.decimal128(38, 0))


@pytest.mark.parametrize(
    ("years", "unit"),
    [
        ((1678, 2261), "ns"),
        ((1677, 2000), "us"),
        ((2000, 2262), "us"),
        ((1, 9999), "us"),
        ((None, None), "ns"),
    ],
)
@pytest.mark.parametrize("type", ["TIMESTAMP_NTZ(9)", "TIMESTAMP_TZ(9)", "TIMESTAMP_LTZ(7)"])
def test_timestamps_are_read_in_nanoseconds_where_those_reach(
    type: str, years: tuple[int | None, int | None], unit: str
) -> None:
    (column,) = fitted([_column(type)], {"c": Observed(*years)})
    assert column.type.unit == unit


def test_a_column_without_values_to_see_keeps_its_type() -> None:
    for type in ("NUMBER(38,0)", "NUMBER(18,4)", "TIMESTAMP_NTZ(3)", "VARCHAR"):
        assert fitted([_column(type)], {}) == (_column(type),)
    (empty,) = fitted([_column("NUMBER(38,0)")], {"c": Observed(None, None)})
    assert empty.type == pa.int64()


def test_what_does_not_go_over_as_it_is_gets_a_note() -> None:
    told = notes([_column("GEOGRAPHY"), _column("TIMESTAMP_TZ(9)"), _column("DATE")])
    assert len(told) == 2
    assert "GEOGRAPHY is read as text" in told[0]
    assert "not the zone" in told[1]


CLUSTERED = [
    ("LINEAR(REGION, AT)", ("REGION", "AT")),
    ("(region)", ("REGION",)),
    ('LINEAR("lower", REGION)', ("lower", "REGION")),
    ("LINEAR(lower)", ()),
    ('LINEAR("odd (1), ""x""", REGION)', ('odd (1), "x"', "REGION")),
    ('LINEAR(TO_DATE("AT"), REGION)', ("AT", "REGION")),
    ("LINEAR(DATE(AT))", ("AT",)),
    ("LINEAR(AT::DATE)", ("AT",)),
    ("LINEAR(CAST(AT AS DATE), REGION)", ("AT", "REGION")),
    ("LINEAR(DATE_TRUNC('MONTH', AT))", ("AT",)),
    ("linear( date_trunc('day', to_date(at)) )", ("AT",)),
    ("LINEAR(SUBSTRING(REGION, 1, 3), AT)", ()),
    ("LINEAR(AT, ABS(N), REGION)", ("AT",)),
    ("LINEAR(HASH(N), AT)", ()),
    ("LINEAR(N + 1)", ()),
    ("LINEAR(GONE, AT)", ()),
    ("REGION", ()),
    ("LINEAR((", ()),
    ("", ()),
]


@pytest.mark.parametrize(("key", "found"), CLUSTERED)
def test_a_clustering_key_is_followed_as_far_as_it_keeps_the_order_of_columns(
    key: str, found: tuple[str, ...]
) -> None:
    names = ("N", "AT", "REGION", "lower", 'odd (1), "x"')
    assert clustering_columns(key, [Column(name, pa.string()) for name in names]) == found


@given(st.text(max_size=30))
def test_a_clustering_key_that_nobody_understands_is_none(key: str) -> None:
    assert set(clustering_columns(f"LINEAR({key})", [_column("DATE")])) <= {"c"}


def _programming(number: int) -> sf.Error:
    return sf.ProgrammingError(msg="what the server says", errno=number, sqlstate="XX000")


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (_programming(707), SourceChanged),
        (_programming(709), ResultGone),
        (_programming(604), RetriableError),
        (_programming(630), TooHeavy),
        (_programming(606), RunError),
        (_programming(2003), TableError),
        (_programming(3001), TableError),
        (_programming(904), TableError),
        (_programming(390112), ConnectionLost),
        (_programming(390114), ConnectionLost),
        (_programming(100038), TableError),
        (_programming(999999), TableError),
        (sf.DatabaseError(msg="Incorrect username or password", errno=390100), RunError),
        (sf.DatabaseError(msg="refused", errno=250001), RunError),
        (sf.OperationalError(msg="nobody there", errno=250001), ConnectionLost),
        (sf.OperationalError(msg="no answer", errno=250003), ConnectionLost),
        (sf.ServiceUnavailableError(errno=503), ConnectionLost),
        (sf.BadGatewayError(errno=502), ConnectionLost),
        (sf.InternalServerError(errno=500), ConnectionLost),
        (sf.InterfaceError(msg="closed", errno=252006), ConnectionLost),
    ],
)
def test_an_error_is_known_by_its_number(error: sf.Error, kind: type[SnowmeltError]) -> None:
    known = translate(error)
    assert type(known) is kind
    assert known.sqlstate == error.sqlstate


def test_the_tag_of_a_chunk_begins_no_other_chunks() -> None:
    table = Tag(UUID(int=1), "db", 3)
    assert str(table.chunk(10)).startswith(str(table))
    assert str(table).startswith(str(Tag(UUID(int=1))))
    assert not str(table.chunk(10)).startswith(str(table.chunk(1)))
    assert not str(Tag(UUID(int=1), "db", 33)).startswith(str(table))


@pytest.mark.parametrize(
    "kind",
    [
        requests.exceptions.ConnectionError,
        requests.exceptions.ChunkedEncodingError,
        ProtocolError,
        TimeoutError,
    ],
)
def test_a_network_that_fails_passes_and_its_words_are_left_out(kind: type[Exception]) -> None:
    known = translate(kind("Max retries exceeded with url: /chunk/9?sig=secret"))
    assert isinstance(known, ConnectionLost)
    assert "secret" not in str(known)


def test_a_url_in_a_message_is_left_out() -> None:
    url = "https://bucket.s3.amazonaws.com/results/1?Signature=secret"
    known = translate(sf.InterfaceError(msg=f"404 Client Error for url: {url}", errno=252005))
    assert "secret" not in str(known)
    assert "://" not in str(known)
    relative = sf.OperationalError(msg="failed with url: /chunk/9?sig=secret", errno=250003)
    assert "secret" not in str(translate(relative))


ARRIVES = [
    ("NUMBER(38,0)", pa.decimal128(38, 0), pa.array([1], pa.int8())),
    ("NUMBER(38,0)", pa.int64(), pa.array([1], pa.int16())),
    ("NUMBER(18,4)", pa.decimal128(18, 4), pa.array(["1.5"]).cast(pa.decimal128(38, 4))),
    ("TIMESTAMP_NTZ(9)", pa.timestamp("ns"), pa.array([1], pa.timestamp("us"))),
    ("TIMESTAMP_LTZ(3)", pa.timestamp("us", "UTC"), pa.array([1], pa.timestamp("ms", "Etc/UTC"))),
    ("TIME(0)", pa.time64("us"), pa.array([1], pa.time32("s"))),
]
DOES_NOT = [
    ("NUMBER(38,0)", pa.int64(), pa.array(["12"])),
    ("NUMBER(38,0)", pa.decimal128(38, 0), pa.array([1.0])),
    ("NUMBER(18,4)", pa.decimal128(18, 4), pa.array([15000], pa.int32())),
    ("NUMBER(18,4)", pa.decimal128(18, 4), pa.array(["1.5"]).cast(pa.decimal128(38, 2))),
    ("NUMBER(18,0)", pa.int64(), pa.array(["1.5"]).cast(pa.decimal128(38, 1))),
    ("TIMESTAMP_NTZ(9)", pa.timestamp("ns"), pa.array([1], pa.timestamp("ns", "UTC"))),
    ("TIMESTAMP_TZ(9)", pa.timestamp("ns", "UTC"), pa.array([1], pa.timestamp("ns"))),
    ("VARCHAR", pa.string(), pa.array([1])),
    ("DATE", pa.date32(), pa.array([1], pa.timestamp("us"))),
    ("BOOLEAN", pa.bool_(), pa.array([1])),
]


@pytest.mark.parametrize(("spelling", "type", "array"), ARRIVES)
def test_a_value_arrives_in_any_form_that_has_it_exactly(
    spelling: str, type: pa.DataType, array: pa.Array
) -> None:
    cast = planned(pa.chunked_array([array]), Column("c", type, True, spelling), "t")
    assert cast.type == type
    assert len(cast) == 1


@pytest.mark.parametrize(("spelling", "type", "array"), DOES_NOT)
def test_another_type_than_planned_is_refused(
    spelling: str, type: pa.DataType, array: pa.Array
) -> None:
    with pytest.raises(SourceChanged, match="was planned"):
        planned(pa.chunked_array([array]), Column("c", type, True, spelling), "t")


def test_a_value_that_the_planned_type_can_not_hold_is_refused() -> None:
    for type, array in (
        (pa.int16(), pa.array([1 << 20])),
        (pa.int64(), pa.array(["9" * 30]).cast(pa.decimal128(38, 0))),
        (pa.timestamp("ns"), pa.array([1 << 62], pa.timestamp("us"))),
    ):
        with pytest.raises(TableError, match="does not fit"):
            planned(pa.chunked_array([array]), Column("c", type, True, "?"), "t")
