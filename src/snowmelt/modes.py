"""What a mode asks of a table, and of the rows that are there: each no with what would make it a yes."""

from __future__ import annotations

from collections.abc import Iterable

from snowmelt.choices import Mode
from snowmelt.formats import utc
from snowmelt.model import ENDED, Column, Relation, TableJob, Writer, into
from snowmelt.preflight.surroundings import APPEND, TargetSurroundings, UniqueKey
from snowmelt.preflight.target_limits import uniqueness
from snowmelt.refusal import Refusal
from snowmelt.replacement import Replacement, Way
from snowmelt.situation import Situation
from snowmelt.truncation import Action, Truncation


def key_of_mode(
    job: TableJob, columns: Iterable[Column], around: TargetSurroundings | None
) -> UniqueKey | Refusal | None:
    """The target's unique key that rows are found by; None where the mode looks for none, or takes whatever there
    is."""
    if job.mode is Mode.APPEND or not job.uniqueness_columns or around is None:
        return None
    return uniqueness(into(columns, job.uniqueness_columns), around)


def finds_rows(job: TableJob, around: TargetSurroundings | None) -> bool:
    """Whether a row that is there is found again, so that loading it twice does not double it."""
    if job.mode is Mode.APPEND:
        return False
    if job.uniqueness_columns:
        return True
    return around is not None and any(key.unfit is None for key in around.unique_keys)


def rights_of(
    job: TableJob, truncation: Truncation, way: Replacement | None = None
) -> frozenset[str]:
    """The rights on the target that the load uses."""
    if way is not None:
        # Who owns a table has these; to refill it they are all there is to do.
        return frozenset({"SELECT"}) if way.way is Way.SWAP else APPEND | {"TRUNCATE"}
    rights = APPEND | ({"UPDATE"} if job.mode is Mode.UPSERT else set())
    return rights | ({"TRUNCATE"} if truncation.action is Action.TRUNCATE else set())


def mode_refusals(job: TableJob, relation: Relation) -> tuple[Refusal, ...]:
    """Settings that this release does not carry out, and columns that the source lacks."""
    refusals = []
    named: list[tuple[str, str]] = []
    if job.mode is not Mode.APPEND:
        named += [("uniqueness_columns", name) for name in job.uniqueness_columns]
    if job.source_watermark is not None:
        named.append(("source_watermark", job.source_watermark))
    for setting, name in named:
        if relation.column(name) is None:
            near = next(
                (c.name for c in relation.columns if c.name.casefold() == name.casefold()), ""
            )
            remedy = (
                f'"{near}" was perhaps meant: names keep their case'
                if near
                else f"correct {setting}"
            )
            refusals.append(
                Refusal(f'{setting} names "{name}", which the source does not have', remedy)
            )
    return tuple(refusals)


def rows_refusals(
    job: TableJob, situation: Situation, truncation: Truncation
) -> tuple[Refusal, ...]:
    """Nothing is loaded onto rows that it could double, nor beside a run that may go on writing."""
    newest = _newest(situation)
    if newest is not None and not newest.completed and newest.ending not in ENDED:
        return (_held(newest),)
    if truncation.action is Action.STOP:
        return (
            Refusal(
                f"whether the target may be truncated is not known: {truncation.reason}",
                "see the warning in the log; let the role count the target (SELECT, statement_timeout), "
                "or run once with --allow-truncate",
            ),
        )
    if truncation.action is Action.TRUNCATE or situation.target.has_rows is False:
        return ()
    if situation.target.has_rows is None:
        return (
            Refusal(
                "whether the target has rows could not be found out",
                "grant SELECT on the target to the role of the postgres block",
            ),
        )
    if finds_rows(job, situation.surroundings):
        return ()
    # Only an append reads nothing twice: the others read from the mark on, and what lies before it by the overlap.
    if job.mode is Mode.APPEND and job.incremental and situation.mark is not None:
        if situation.restarted_rows:
            return (_twice(situation.restarted_rows),)
        if newest is None or newest.completed:
            return ()
    return (_doubling(job, situation, newest),)


def _newest(situation: Situation) -> Writer | None:
    """Who wrote the target last, or may yet."""
    return next((writer for writer in situation.writers if writer.is_there), None)


def _held(newest: Writer) -> Refusal:
    by = f"begun by {newest.created_by}, " if newest.created_by else ""
    if newest.workers:
        alive = f"at work in {', '.join(newest.workers)} (host:pid)"
        remedy = f"wait for it, or join it, by its own config, with --join --resume-run-id {newest.run_id}"
    else:
        alive = f"with no live worker, last active {utc(newest.active_at)}"
        remedy = f"resume it, by its own config, with --resume-run-id {newest.run_id}"
    return Refusal(
        f"run {newest.run_id}, {by}{alive}, has not finished writing this table",
        f"{remedy}, or end it for good with: snowmelt abort {newest.run_id}",
    )


def _twice(rows: int) -> Refusal:
    return Refusal(
        f"the load that is to be restarted has appended {rows:,} rows beyond the mark, "
        "and would append them again",
        "leave --restart-table out: the load goes on; or name uniqueness_columns with mode upsert",
    )


def _doubling(job: TableJob, situation: Situation, newest: Writer | None) -> Refusal:
    if newest is None:
        by = "no run recorded them"
    elif newest.completed:
        by = f"run {newest.run_id} wrote it last"
    else:
        by = f"run {newest.run_id}, which was aborted, wrote it last"
    if job.refreshes:
        return Refusal(
            f"the target has rows that may not be ours ({by}), so they are preserved, "
            "and loading could double them",
            "see to them; to remove them all the same run once with --allow-truncate",
        )
    if (
        job.incremental
        and newest is not None
        and not newest.completed
        and situation.mark is not None
    ):
        return Refusal(
            f"the target has rows beyond its mark ({by}), and appending would double them",
            "TRUNCATE the table, and all rows of the source are read again; or name uniqueness_columns with mode "
            "upsert, by which rows that are there are found",
        )
    return Refusal(
        f"the target has rows ({by}), and mode {job.mode.value} could double them",
        "TRUNCATE the table; or name uniqueness_columns with mode insert_only or upsert, by which rows that are "
        "there are found; or set mode: truncate for a full refresh",
    )
