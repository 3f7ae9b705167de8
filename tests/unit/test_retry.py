"""How long is waited before an attempt is made again, and for which errors one is made."""

from __future__ import annotations

from random import Random

import psycopg
import pytest
from hypothesis import given
from hypothesis import strategies as st
from psycopg import errors as pg
from snowflake.connector import errors as sf

from snowmelt.errors import (
    Blocked,
    ConnectionLost,
    FatalError,
    RetriableError,
    RunError,
    SnowmeltError,
    TableError,
    TooHeavy,
    ValueDoesNotFit,
)
from snowmelt.postgres.failures import translate, translate_move, translated
from snowmelt.retry import BASE_SECONDS, CEILING_SECONDS, backoff_seconds
from snowmelt.sources.snowflake import failures as snowflake


class Fixed(Random):
    """A random number generator that always gives the same number."""

    def __init__(self, value: float) -> None:
        super().__init__()
        self.value = value

    def random(self) -> float:
        return self.value


@pytest.mark.parametrize(
    ("attempt", "whole"),
    [(1, 0.25), (2, 0.5), (3, 1), (4, 2), (7, 16), (8, 30), (9, 30), (10**9, 30)],
)
def test_the_wait_doubles_up_to_a_ceiling_and_half_of_it_is_random(
    attempt: int, whole: float
) -> None:
    assert backoff_seconds(attempt, Fixed(0)) == whole / 2
    assert backoff_seconds(attempt, Fixed(0.5)) == whole * 0.75
    assert backoff_seconds(attempt, Fixed(1)) == whole


@given(st.integers(min_value=1), st.randoms(use_true_random=False))
def test_the_wait_has_bounds(attempt: int, random: Random) -> None:
    assert BASE_SECONDS / 2 <= backoff_seconds(attempt, random) <= CEILING_SECONDS


@given(st.integers(1, 40), st.floats(0, 1))
def test_a_later_attempt_never_waits_less(attempt: int, luck: float) -> None:
    assert backoff_seconds(attempt, Fixed(luck)) <= backoff_seconds(attempt + 1, Fixed(luck))


def test_workers_that_failed_together_do_not_come_back_together() -> None:
    random = Random(1)
    waits = {round(backoff_seconds(8, random), 3) for _ in range(100)}
    assert len(waits) > 90


# --- what is tried again --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("sqlstate", "kind"),
    [
        ("40001", RetriableError),  # serialization_failure
        ("40P01", RetriableError),  # deadlock_detected
        ("55P03", Blocked),  # lock_not_available
        ("57014", RetriableError),  # query_canceled
        ("53200", RetriableError),  # out_of_memory
        ("53400", RetriableError),  # configuration_limit_exceeded
        ("55006", RetriableError),  # object_in_use
        ("08006", ConnectionLost),  # connection_failure
        ("08P01", ConnectionLost),  # protocol_violation
        ("25006", ConnectionLost),  # read_only_sql_transaction
        ("25P04", ConnectionLost),  # transaction_timeout
        ("53300", ConnectionLost),  # too_many_connections
        ("57P01", ConnectionLost),  # admin_shutdown
        ("57P02", ConnectionLost),  # crash_shutdown
        ("57P03", ConnectionLost),  # cannot_connect_now
        ("53100", RunError),  # disk_full
        ("28P01", RunError),  # invalid_password
        ("28000", RunError),  # invalid_authorization_specification
        ("3D000", RunError),  # invalid_catalog_name
        ("22001", ValueDoesNotFit),  # string_data_right_truncation
        ("22003", ValueDoesNotFit),  # numeric_value_out_of_range
        ("22P04", ValueDoesNotFit),  # bad_copy_file_format
        ("23505", TableError),  # unique_violation
        ("23502", TableError),  # not_null_violation
        ("42501", TableError),  # insufficient_privilege
        ("42P01", TableError),  # undefined_table
        ("XX000", TableError),  # internal_error
        ("0A000", TableError),  # feature_not_supported
    ],
)
def test_a_sqlstate_decides(sqlstate: str, kind: type[SnowmeltError]) -> None:
    error = translate(pg.lookup(sqlstate)("deadlock, connection lost, disk full, memory"))
    assert type(error) is kind
    assert error.sqlstate == sqlstate


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (psycopg.OperationalError("server closed the connection unexpectedly"), ConnectionLost),
        (psycopg.InterfaceError("the connection is closed"), ConnectionLost),
        (psycopg.ProgrammingError("out of memory"), TableError),
        (psycopg.DataError("PostgreSQL text fields cannot contain NUL"), ValueDoesNotFit),
    ],
)
def test_without_a_sqlstate_the_type_decides(
    error: psycopg.Error, kind: type[SnowmeltError]
) -> None:
    assert type(translate(error)) is kind


def test_every_sqlstate_is_translated_and_only_known_ones_are_retried() -> None:
    """An error that nobody thought of ends its table: unknown means stop."""
    states = {
        kind.sqlstate: type(translate(kind("x")))
        for kind in vars(pg).values()
        if isinstance(kind, type) and issubclass(kind, psycopg.Error) and kind.sqlstate
    }
    assert len(states) > 200
    retried = {state for state, kind in states.items() if issubclass(kind, RetriableError)}
    classes = {"08", "40", "53", "55", "57", "25"}
    assert {state[:2] for state in retried} == classes
    assert len(retried) < 30
    ended = {kind for kind in states.values() if not issubclass(kind, RetriableError)}
    assert all(issubclass(kind, FatalError) for kind in ended)


def test_a_move_is_too_heavy_by_its_time_and_by_memory_alone() -> None:
    states = [
        kind for kind in vars(pg).values() if isinstance(kind, type) and hasattr(kind, "sqlstate")
    ]
    for kind in states:
        if issubclass(kind, psycopg.Error) and kind.sqlstate:
            known = translate_move(kind("x"))
            heavy = kind.sqlstate in ("57014", "25P04", "53200", "53400")
            assert type(known) is (TooHeavy if heavy else type(translate(kind("x"))))
            assert known.sqlstate == kind.sqlstate
            assert known.remedy or not heavy


def of_snowflake(number: int, sqlstate: str = "XX000", text: str = "it went wrong") -> sf.Error:
    return sf.ProgrammingError(msg=text, errno=number, sqlstate=sqlstate)


QUEUED = "Statement was queued for 300 second(s), reached its queued timeout and was canceled."
TOO_LONG = "Statement reached its statement or warehouse timeout of 300 second(s) and was canceled."
KILLED = (
    "SQL execution internal error: Processing aborted due to error 300005; Disappeared worker(s)."
)


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (of_snowflake(604, "57014", "SQL execution canceled"), RetriableError),
        (of_snowflake(604, "57014", QUEUED), RetriableError),
        (of_snowflake(630, "57014", QUEUED), RetriableError),
        (of_snowflake(888, "57014", QUEUED), RetriableError),
        (of_snowflake(625, "57014", "the number of waiters exceeds 20"), RetriableError),
        (of_snowflake(888, "57P03", "Warehouse 'W' is being resumed"), RetriableError),
        (of_snowflake(603, "XX000", "SQL execution internal error"), RetriableError),
        (of_snowflake(390114, "08001", "the token has expired"), ConnectionLost),
        (sf.ServiceUnavailableError(errno=503), ConnectionLost),
        (sf.TooManyRequests(errno=429), ConnectionLost),
        (sf.OperationalError(msg="no answer", errno=250003), ConnectionLost),
        (sf.OperationalError(msg="cut short", errno=252013), ConnectionLost),
        (of_snowflake(630, "57014", TOO_LONG), TooHeavy),
        (of_snowflake(603, "XX000", KILLED), TooHeavy),
        (of_snowflake(3001, "42501", "Insufficient privileges"), TableError),
        (of_snowflake(2003, "42S02", "Table 'T' does not exist"), TableError),
        (of_snowflake(904, "42000", "invalid identifier"), TableError),
        (of_snowflake(888, "42000", "nobody knows"), TableError),
        (of_snowflake(606, "57P03", "No active warehouse selected"), RunError),
        (of_snowflake(90073, "22000", "resource monitor has exceeded its quota"), RunError),
        (sf.DatabaseError(msg="wrong password", errno=390100), RunError),
        (
            sf.DatabaseError(msg="your free trial has ended", errno=390913, sqlstate="08004"),
            TableError,
        ),
    ],
)
def test_an_error_of_snowflake_is_of_one_tier(error: sf.Error, kind: type[SnowmeltError]) -> None:
    assert type(snowflake.translate(error)) is kind


def test_what_is_not_known_of_snowflake_s_numbers_is_not_tried_again() -> None:
    numbers = snowflake._BY_NUMBER.keys() | range(1_000)
    kinds = {number: type(snowflake.translate(of_snowflake(number))) for number in numbers}
    retried = {number for number, kind in kinds.items() if issubclass(kind, RetriableError)}
    session_over = {250002, 390103, 390104, 390111, 390112, 390114, 390115}
    assert retried == {603, 604, 630, 709, 710} | session_over


def test_the_place_is_filled_in_and_the_driver_error_is_the_cause() -> None:
    cause = pg.DeadlockDetected("deadlock detected")
    with pytest.raises(RetriableError) as caught, translated(table="public.t", chunk=0):
        raise cause
    assert (caught.value.table, caught.value.chunk) == ("public.t", 0)
    assert caught.value.__cause__ is cause
