"""What stands in the way of a table's load: names, types, its target's surroundings, and on request its values."""

from __future__ import annotations

from collections.abc import Collection

from snowmelt.alterations import table_of
from snowmelt.choices import Mode
from snowmelt.model import Relation, TableJob
from snowmelt.modes import key_of_mode
from snowmelt.ports import Source
from snowmelt.preflight import target_limits
from snowmelt.preflight.findings import findings
from snowmelt.preflight.questions import key_questions, questions
from snowmelt.preflight.remedies import with_statement
from snowmelt.preflight.surroundings import Problems, problems
from snowmelt.refusal import Refusal
from snowmelt.situation import Situation


def examine(
    job: TableJob,
    relation: Relation,
    source: Source,
    situation: Situation,
    rights: Collection[str],
    *,
    ask: bool,
    values: bool,
) -> Problems:
    """Refusals and notes, by the `rights` that the load uses. What can't be done without an answer is asked of the
    source by one query unless `ask` is False; with `values` it measures whether all fit as well, and reads the
    columns in question whole.

    Values of a table that is refused for another reason are not measured.
    """
    around = situation.surroundings
    found = problems(around, rights) if around is not None else Problems((), ())
    refusals = (*found.refusals, *target_limits.limits(relation, situation.target, job.target))
    key = key_of_mode(job, relation.columns, around)
    if isinstance(key, Refusal):
        refusals = (*refusals, key)
        key = None
    nuls = job.nul_characters
    if ask and not refusals:
        asked = questions(relation, situation.target, nul_characters=nuls) if values else ()
        if key is not None:
            # Without a watermark nothing tells which of two rows with one key is to stay.
            ordered = job.mode is not Mode.UPSERT or job.source_watermark is not None
            asked = (
                *asked,
                *key_questions(relation, key, repeated=not ordered, nul=nuls.replacement),
            )
        if asked:
            answers = source.measure(job.source, asked, relation.snapshot)
            table = table_of(around, job.target.schema, job.target.name)
            refusals = tuple(
                with_statement(refusal, question, table)
                for question, answer in zip(asked, answers, strict=True)
                for refusal in findings([question], [answer])
            )
    # What is worth a line of the surroundings, a plan tells from these themselves.
    return Problems(refusals, target_limits.notes(relation, situation.target))
