"""What a Lambda function is asked: an event, checked as strictly as a config."""

from __future__ import annotations

import re
from collections.abc import Iterable
from enum import StrEnum
from typing import Annotated, Self
from uuid import UUID

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError
from pydantic_core import ErrorDetails

from snowmelt.config import Config
from snowmelt.config.document import is_text
from snowmelt.config.settings import BatchSize, nearest, problem
from snowmelt.errors import ConfigError, Problem
from snowmelt.survey import Choice

WHOLE = "the event"
_LONGEST_SHOWN = 60
_MOST = 2**31 - 1
"""Of a number: what the ledger's columns take."""
_KINDS = {
    bool: "a boolean",
    int: "a number",
    float: "a number",
    str: "text",
    list: "a list",
    dict: "a mapping",
}


class Action(StrEnum):
    """What an event asks for."""

    MIGRATE = "migrate"
    VALIDATE_CONFIG = "validate_config"
    TEST_CONNECTIONS = "test_connections"
    PLAN = "plan"
    STATUS = "status"


def _action(value: object) -> Action:
    known = ", ".join(Action)
    if not isinstance(value, str):
        raise problem(f"must be one of {known}, but is {_shown(value)}", "choose one of them")
    if value not in set(Action):
        meant = nearest(value, Action)
        remedy = f"did you mean {meant}?" if meant else "choose one of them"
        raise problem(f"must be one of {known}, but is {_shown(value)}", remedy)
    return Action(value)


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise problem(f"must be text, but is {_noun(value)}", "write it in quotes")
    if not value.strip():
        raise problem("is empty", "give it a value, or leave it out")
    if not is_text(value):
        raise problem("has half a surrogate pair, which no name has", "correct its encoding")
    return value


def _texts(value: object) -> tuple[str, ...]:
    """A list, or the one text that would be in it."""
    items = value if isinstance(value, list | tuple) else [value]
    if not all(isinstance(item, str) and item.strip() and is_text(item) for item in items):
        raise problem("must be a list of names", 'write it as a list: ["first", "second"]')
    return tuple(items)


def _names(value: object) -> tuple[str, ...]:
    """The same, but not empty: who asks for no table does not mean all of them."""
    if isinstance(value, list) and not value:
        raise problem("has no names", "name a table, or leave it out for all of them")
    return _texts(value)


def _number(value: object) -> int:
    """A whole number from 1, or its digits as text."""
    if isinstance(value, str) and re.fullmatch("[0-9]{1,18}", value):
        value = int(value)
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int):
        raise problem(f"must be a whole number, but is {_shown(value)}", "write it in digits")
    if not 1 <= value <= _MOST:
        bound = "at least 1" if value < 1 else f"at most {_MOST}"
        raise problem(f"must be {bound}", "choose another number")
    return value


def _batch_size(value: object) -> int | str:
    return value if value == "auto" and isinstance(value, str) else _number(value)


def _switch(value: object) -> bool:
    """true or false, or the same as text; no other text, and no number, is one of them."""
    if isinstance(value, str) and value in ("true", "false"):
        return value == "true"
    if not isinstance(value, bool):
        raise problem(f"must be true or false, but is {_shown(value)}", "write true or false")
    return value


def _run(value: object) -> UUID:
    try:
        return UUID(value if isinstance(value, str) else "")
    except ValueError:
        pass
    raise problem(
        f"must be the id of a run, but is {_shown(value)}", "write it as the ledger has it"
    )


Text = Annotated[str, BeforeValidator(_text)]
Texts = Annotated[tuple[str, ...], BeforeValidator(_texts)]
Names = Annotated[tuple[str, ...], BeforeValidator(_names)]
Number = Annotated[int, BeforeValidator(_number)]
Rows = Annotated[BatchSize, BeforeValidator(_batch_size)]
Switch = Annotated[bool, BeforeValidator(_switch)]
Run = Annotated[UUID, BeforeValidator(_run)]


class Event(BaseModel):
    """One request. A null is a field that is not given; fields that its action has no use for are checked all
    the same."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    action: Annotated[Action, BeforeValidator(_action)] = Field(
        default=Action.MIGRATE, description="What to do."
    )
    source_name: Text | None = Field(
        default=None, description="The source that is meant; all that are enabled if left out."
    )
    tables: Names = Field(
        default=(), description="Only these tables, by source or target, with or without schema."
    )
    config: Text | None = Field(
        default=None,
        description="The config, a path or s3://BUCKET/KEY, in place of what SNOWMELT_CONFIG names.",
    )
    resume_max_age: Number | None = Field(
        default=None, description="Hours since a run's last activity in which it is resumed."
    )
    no_resume: Switch = Field(default=False, description="Begin a new run.")
    resume_run_id: Run | None = Field(default=None, description="Resume this run.")
    begin_run_id: Run | None = Field(
        default=None,
        description="The id of the run if one is begun. A run that has it is gone on with, so that an event "
        "may be sent again when its answer was lost.",
    )
    restart_tables: Texts = Field(
        default=(), description="Plan these tables anew within the resumed run."
    )
    allow_truncate: Switch = Field(
        default=False,
        description="Where a table is to be emptied, remove rows of unknown origin as well.",
    )
    parallel_threads: Number | None = Field(
        default=None, description="Workers, in place of the config's at every level."
    )
    batch_size: Rows | None = Field(
        default=None,
        description="Rows of a chunk, or auto, in place of the config's at every level.",
    )
    no_values: Switch = Field(
        default=False,
        description="With plan: leave out the query per table that measures whether its values fit.",
    )
    run_id: Run | None = Field(
        default=None, description="With status: the run; the latest of the source if left out."
    )

    @classmethod
    def of(cls, event: object) -> Self:
        """Raises ConfigError with every problem of the event."""
        if not isinstance(event, dict):
            what = f"must be a mapping of fields, but is {_noun(event)}"
            remedy = f"known fields are {', '.join(cls.model_fields)}"
            raise ConfigError(WHOLE, (Problem(WHOLE, what, remedy),))
        problems = [
            _unknown(str(name), cls.model_fields) for name in event if name not in cls.model_fields
        ]
        # An unknown field is a typing error, null or not.
        fields = set(event) & set(cls.model_fields)
        given = {name: event[name] for name in fields if event[name] is not None}
        try:
            parsed = cls.model_validate(given)
        except ValidationError as error:
            problems += [_problem(details) for details in error.errors(include_url=False)]
        else:
            problems += parsed._contradictions()
            if not problems:
                return parsed
        raise ConfigError(WHOLE, tuple(problems))

    def _contradictions(self) -> list[Problem]:
        found = []
        if self.no_resume and self.resume_run_id:
            what = "stands beside resume_run_id, and they exclude each other"
            found.append(Problem("no_resume", what, "leave one of them out"))
        if self.begin_run_id and self.resume_run_id:
            what = "stands beside resume_run_id, and they exclude each other"
            found.append(Problem("begin_run_id", what, "leave one of them out"))
        if self.no_resume and self.restart_tables:
            what = "stands beside restart_tables, which are of a run that is resumed"
            found.append(Problem("no_resume", what, "leave one of them out"))
        if self.run_id and self.action is not Action.STATUS:
            what = f"is a field of status, and the action is {self.action.value}"
            found.append(Problem("run_id", what, "write resume_run_id to resume this run"))
        return found

    def overridden(self, config: Config) -> Config:
        """The config with the values of the event over its own. Raises UnknownName for a table not in it."""
        return config.with_overrides(
            threads=self.parallel_threads,
            tables=self.tables,
            batch_size=self.batch_size,
            resume_max_age=self.resume_max_age,
        )

    def choice(self, deadline_seconds: float | None = None) -> Choice:
        """How the run is found or begun. `deadline_seconds` is how long the process may run."""
        return Choice(
            resume=not self.no_resume,
            run_id=self.resume_run_id,
            begin_as=self.begin_run_id,
            restart=self.restart_tables,
            values=self.action is Action.PLAN and not self.no_values,
            allow_truncate=self.allow_truncate,
            deadline_seconds=deadline_seconds,
        )


def _problem(details: ErrorDetails) -> Problem:
    """Each validator here says its own."""
    context = details.get("ctx", {})
    what, remedy = context.get("what", "can't be used"), context.get("remedy", "correct the value")
    return Problem(str(details["loc"][0]), str(what), str(remedy))


def _unknown(name: str, known: Iterable[str]) -> Problem:
    meant = nearest(name, known)
    remedy = f"did you mean {meant}?" if meant else f"remove it; known are {', '.join(known)}"
    plain = re.fullmatch(r"[\w.-]+", name)
    return Problem(_cut(name) if plain else repr(_cut(name)), "is not a known field", remedy)


def _noun(value: object) -> str:
    return _KINDS.get(type(value), "null")


def _shown(value: object) -> str:
    if isinstance(value, str):
        return repr(_cut(value))
    return str(value) if isinstance(value, int | float) else _noun(value)


def _cut(text: str) -> str:
    return text if len(text) <= _LONGEST_SHOWN else text[:_LONGEST_SHOWN] + "…"
