"""Ends of ranges: ordered as a server orders them, and the same after the ledger's JSON."""

from __future__ import annotations

import json
from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from snowmelt.chunking.bounds import (
    Bound,
    Timestamp,
    bound_from_json,
    bound_to_json,
    day_of,
    number,
)
from snowmelt.chunking.chunks import KeyKind
from tests.unit.key_values import BOUNDS, LONGEST, moments, nanoseconds, wall_clocks

bounds: st.SearchStrategy[Bound] = st.sampled_from(KeyKind).flatmap(lambda kind: BOUNDS[kind])
naive = st.builds(Timestamp, wall_clocks, nanoseconds)
instants = st.builds(Timestamp, moments, nanoseconds)

# --- timestamps -----------------------------------------------------------------------------------


@given(naive | instants)
def test_a_timestamp_is_read_as_it_is_written(at: Timestamp) -> None:
    again = Timestamp.parse(str(at))
    assert again == at
    assert repr(again) == repr(at)
    assert again.is_instant == at.is_instant


@given(naive | instants)
def test_a_server_s_nine_digits_are_read_exactly(at: Timestamp) -> None:
    shown = at.at.replace(tzinfo=None).isoformat(timespec="microseconds") + f"{at.nanosecond:03}"
    assert Timestamp.parse(shown + ("Z" if at.is_instant else "")) == at


@given(st.tuples(naive, naive) | st.tuples(instants, instants))
def test_timestamps_compare_as_their_nanoseconds_do(pair: tuple[Timestamp, Timestamp]) -> None:
    one, other = pair
    epoch = datetime(1970, 1, 1, tzinfo=one.at.tzinfo)

    def nanosecond(at: Timestamp) -> int:
        return (at.at - epoch) // timedelta(microseconds=1) * 1000 + at.nanosecond

    assert (one < other) == (nanosecond(one) < nanosecond(other))
    assert (one == other) == (nanosecond(one) == nanosecond(other))


@given(
    st.datetimes(datetime(1, 1, 2), datetime(9999, 12, 30)),
    st.integers(-14 * 60, 14 * 60).filter(bool),
    st.sampled_from(["", ".5", ".000001", ".123456789"]),
)
def test_an_instant_of_any_zone_is_kept_in_utc(at: datetime, minutes: int, fraction: str) -> None:
    at = at.replace(microsecond=0)
    zone = timezone(timedelta(minutes=minutes))
    sign, (hours, rest) = "-" if minutes < 0 else "+", divmod(abs(minutes), 60)
    read = Timestamp.parse(f"{at.isoformat()}{fraction}{sign}{hours:02}:{rest:02}")
    expected = Timestamp.parse(f"{at.replace(tzinfo=zone).astimezone(UTC).isoformat()}")
    digits = fraction[1:].ljust(9, "0")
    assert read.at == expected.at + timedelta(microseconds=int(digits[:6]))
    assert read.nanosecond == int(digits[6:])
    assert read.at.tzinfo is UTC


@pytest.mark.parametrize(
    "text",
    ["", "soon", "infinity", "2025-13-01T00:00:00", "0000-12-31T00:00:00", "10000-01-01T00:00:00",
     "2025-01-01T00:00:00.1234567890", "2025-01-01T00:00:00 BC"],
)  # fmt: skip
def test_what_is_no_timestamp_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"not a timestamp|isoformat|month|year"):
        Timestamp.parse(text)


# --- days -----------------------------------------------------------------------------------------


@given(st.dates(), st.booleans(), st.integers(1, 999))
def test_a_day_begins_with_its_midnight_only(day: date, utc: bool, nanosecond: int) -> None:
    midnight = Timestamp.midnight(day, utc=utc)
    assert day_of(midnight) == day == day_of(day)
    assert midnight.is_instant == utc
    assert day_of(Timestamp(midnight.at, nanosecond)) is None
    assert day_of(Timestamp(midnight.at + timedelta(microseconds=nanosecond))) is None


@pytest.mark.parametrize("bound", [0, 20250101, 1.5, Decimal(1), "2025-01-01", True])
def test_other_bounds_begin_no_day(bound: Bound) -> None:
    assert day_of(bound) is None


# --- numbers --------------------------------------------------------------------------------------


@given(st.integers(-LONGEST, LONGEST), st.integers(0, 38))
def test_a_number_is_read_exactly_as_a_server_writes_it(digits: int, scale: int) -> None:
    shown = f"{abs(digits):0{scale + 1}}"
    shown = f"{shown[:-scale]}.{shown[-scale:]}" if scale else shown
    read = number(f"-{shown}" if digits < 0 else shown)
    assert type(read) is (Decimal if scale else int)
    assert Decimal(read).as_tuple() == Decimal(f"{digits}E-{scale}").as_tuple()


# --- JSON -----------------------------------------------------------------------------------------


def stored(bound: Bound) -> Bound:
    """As it comes back from the ledger."""
    return bound_from_json(json.loads(json.dumps(bound_to_json(bound))))


@given(bounds)
def test_a_bound_survives_json_exactly(bound: Bound) -> None:
    """To the last digit and the sign of zero, and of the same type. NaN has no equal, so texts are compared."""
    again = stored(bound)
    assert type(again) is type(bound)
    assert repr(again) == repr(bound)


@given(bounds)
def test_postgresql_can_store_it(bound: Bound) -> None:
    """Its jsonb has neither the character NUL, nor NaN and infinities, nor numbers that keep the sign of zero."""
    kind, text = bound_to_json(bound)
    assert "\0" not in kind + text
    assert "\\u0000" not in json.dumps([kind, text])


@pytest.mark.parametrize(
    ("bound", "value"),
    [
        (date(1, 1, 1), ["date", "0001-01-01"]),
        (date(9999, 12, 31), ["date", "9999-12-31"]),
        (Timestamp(datetime(2025, 1, 2)), ["timestamp", "2025-01-02T00:00:00"]),
        (Timestamp(datetime(2025, 1, 2, 3, 4, 5, 6)), ["timestamp", "2025-01-02T03:04:05.000006"]),
        (Timestamp(datetime(1, 1, 1), 7), ["timestamp", "0001-01-01T00:00:00.000000007"]),
        (
            Timestamp(datetime(9999, 12, 31, 23, 59, 59, 999999, UTC), 999),
            ["instant", "9999-12-31T23:59:59.999999999+00:00"],
        ),
        (0, ["integer", "0"]),
        (-LONGEST, ["integer", "-" + "9" * 38]),
        (Decimal("-0.0000000001"), ["decimal", "-1E-10"]),
        (Decimal("9" * 28 + "." + "9" * 10), ["decimal", "9" * 28 + "." + "9" * 10]),
        (Decimal("1.50"), ["decimal", "1.50"]),
        (0.1, ["float", "0x1.999999999999ap-4"]),
        (-0.0, ["float", "-0x0.0p+0"]),
        (5e-324, ["float", "0x0.0000000000001p-1022"]),
        (float("inf"), ["float", "inf"]),
        (float("-inf"), ["float", "-inf"]),
        (float("nan"), ["float", "nan"]),
        ("", ["text", ""]),
        ('it\'s "x" \\ é \U0010ffff', ["text", 'it\'s "x" \\ é \U0010ffff']),
        ("é\0", ["utf8", "c3a900"]),
    ],
)
def test_the_stored_form_stays_as_it_is(bound: Bound, value: list[str]) -> None:
    """Bounds that an earlier release stored must be read back: changing this needs a migration."""
    assert bound_to_json(bound) == value
    assert repr(bound_from_json(value)) == repr(bound)


def test_an_instant_that_was_stored_in_another_zone_is_the_same_instant() -> None:
    found = bound_from_json(["instant", "2025-01-02T00:00:00-05:00"])
    assert found == Timestamp(datetime(2025, 1, 2, 5, tzinfo=UTC))


@pytest.mark.parametrize(
    "value",
    [None, "2025-01-01", 5, 1.5, [], {}, ["date"], ["date", "soon"], ["date", None],
     ["date", "2025-01-01", "x"], ["boolean", "true"], ["integer", "1.5"], ["integer", 5],
     ["timestamp", "infinity"], ["float", "one"], ["utf8", "zz"], ["utf8", "ff"], ["Date", "2025-01-01"]],
)  # fmt: skip
def test_a_bound_that_is_not_known_is_refused(value: Any) -> None:
    with pytest.raises(ValueError, match=r"not a|isoformat|invalid|non-hex|can't decode"):
        bound_from_json(value)


@pytest.mark.parametrize("value", [None, True, datetime(2025, 1, 1), b"x", [1]])
def test_what_is_no_bound_is_not_stored(value: Any) -> None:
    with pytest.raises(TypeError, match="not a bound"):
        bound_to_json(value)
