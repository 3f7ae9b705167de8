"""What stands in the way of a table's load: names, types, its target's surroundings, and on request its values."""

from __future__ import annotations

from snowmelt.model import Relation, TableJob
from snowmelt.ports import Source
from snowmelt.preflight import target_limits
from snowmelt.preflight.findings import findings
from snowmelt.preflight.questions import questions
from snowmelt.preflight.surroundings import Problems, problems
from snowmelt.situation import Situation


def examine(
    job: TableJob, relation: Relation, source: Source, situation: Situation, *, values: bool
) -> Problems:
    """Refusals and notes. `values` has one query measure whether they fit: it reads the columns in question whole.

    Values of a table that is refused for another reason are not measured.
    """
    around = situation.surroundings
    found = problems(around) if around is not None else Problems((), ())
    refusals = (*found.refusals, *target_limits.limits(relation, situation.target, job.target))
    if values and not refusals:
        asked = questions(relation, situation.target)
        if asked:
            answers = source.measure(job.source, asked, relation.snapshot)
            refusals = findings(asked, answers)
    # What is worth a line of the surroundings, a plan tells from these themselves.
    return Problems(refusals, target_limits.notes(relation, situation.target))
