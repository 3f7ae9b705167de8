"""The first mark of a target that was loaded by other means, by choice: its newest row."""

from __future__ import annotations

from datetime import UTC, datetime

from snowmelt.chunking.bounds import Bound
from snowmelt.chunking.chunks import Key
from snowmelt.chunking.keys import KeyProblem, key_of
from snowmelt.incremental import is_of
from snowmelt.model import ChunkKey, Mark, Relation, TableJob
from snowmelt.modes import finds_rows, rows_refusals
from snowmelt.refusal import Refusal
from snowmelt.situation import Situation
from snowmelt.truncation import TargetFacts, decide


def adoptable(job: TableJob, relation: Relation, situation: Situation) -> Key | Refusal:
    """The watermark by whose greatest value in the target the table may be adopted."""
    if not job.incremental:
        return Refusal(
            "the table is not loaded incrementally",
            "name its source_watermark, and leave truncate_onstart out",
        )
    if not finds_rows(job, situation.surroundings):
        return Refusal(
            f"mode {job.mode.value} would double the target's rows with the newest value, which are read again",
            "name uniqueness_columns with mode insert_only or upsert",
        )
    if situation.mark is not None:
        return Refusal(
            f"the table has a mark: {situation.mark.value} of {situation.mark.column}, set by "
            f"{situation.mark.set_by}",
            "leave it as it is; truncating the target drops it",
        )
    if not situation.target.has_rows:
        return Refusal("the target has no rows", "run migrate: it begins with the first row")
    kept = decide(TargetFacts(False, bool(situation.writers), True, configured=False))
    for refusal in rows_refusals(job, situation, kept):
        return refusal
    key = key_of(ChunkKey(job.source_watermark or "", None), relation)
    return Refusal(key.what, key.remedy) if isinstance(key, KeyProblem) else key


def adopted(job: TableJob, key: Key, newest: Bound | None) -> Mark | Refusal:
    """The mark, by the greatest value of target_watermark."""
    column = job.target_watermark or job.source_watermark
    if newest is None:
        return Refusal(f'no row of the target has a "{column}"', "run migrate: it reads all rows")
    if not is_of(newest, key.kind):
        return Refusal(
            f'the newest "{column}" of the target is {newest}, and "{key.column}" of the source '
            f"is a {key.kind.value}",
            "name a target_watermark of the same type",
        )
    return Mark(key.column, newest, datetime.now(UTC), "", filter=job.source.filter)
