"""The statement that lets a target take the values that were measured."""

from __future__ import annotations

from dataclasses import replace

from snowmelt.alterations import drop_not_null, retype
from snowmelt.model import Column
from snowmelt.preflight.questions import Measure, Question
from snowmelt.refusal import Refusal
from snowmelt.types import created_type

_WIDENED = frozenset({Measure.LEAST, Measure.GREATEST, Measure.FINER})


def with_statement(refusal: Refusal, question: Question, table: str) -> Refusal:
    """The refusal of what a question found, with the statement that its remedy means, where it means one."""
    if len(question.columns) != 1:
        return refusal
    (column,) = question.columns
    statement = _statement(question, column, table)
    if statement is None:
        return refusal
    return replace(refusal, remedy=f"{refusal.remedy}: {statement}")


def _statement(question: Question, column: Column, table: str) -> str | None:
    wanted = None
    match question.measure:
        case Measure.NULLS:
            return drop_not_null(table, column.into)
        case measure if measure in _WIDENED:
            wanted = created_type(column.type, column.source_type)
        case Measure.CHARACTERS | Measure.NO_UUIDS:
            wanted = "text"
        case Measure.ESCAPED_NULS:
            wanted = "json"
    if wanted is None or wanted == question.holds:
        return None
    return str(retype(table, column.into, question.holds, wanted))
