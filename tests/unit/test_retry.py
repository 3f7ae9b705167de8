"""How long is waited before an attempt is made again, and for which errors one is made."""

from __future__ import annotations

from random import Random

import psycopg
import pytest
from hypothesis import given
from hypothesis import strategies as st
from psycopg import errors as pg

from snowmelt.errors import (
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
        ("55P03", RetriableError),  # lock_not_available
        ("57014", RetriableError),  # query_canceled
        ("53200", RetriableError),  # out_of_memory
        ("55006", RetriableError),  # object_in_use
        ("08006", ConnectionLost),  # connection_failure
        ("08P01", ConnectionLost),  # protocol_violation
        ("25006", ConnectionLost),  # read_only_sql_transaction
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
            heavy = kind.sqlstate in ("57014", "53200")
            assert type(known) is (TooHeavy if heavy else type(translate(kind("x"))))
            assert known.sqlstate == kind.sqlstate
            assert known.remedy or not heavy


def test_the_place_is_filled_in_and_the_driver_error_is_the_cause() -> None:
    cause = pg.DeadlockDetected("deadlock detected")
    with pytest.raises(RetriableError) as caught, translated(table="public.t", chunk=0):
        raise cause
    assert (caught.value.table, caught.value.chunk) == ("public.t", 0)
    assert caught.value.__cause__ is cause
