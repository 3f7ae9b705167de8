"""What is done to ledgers between runs: first marks, cleaning, questions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import closing

from snowmelt.adoption import adoptable, adopted
from snowmelt.chunking.chunks import Key
from snowmelt.cleaning import Cleaned, cleaned
from snowmelt.columns import found
from snowmelt.config import Config
from snowmelt.config.checks import unknown_name
from snowmelt.database import Database
from snowmelt.errors import Refused
from snowmelt.executors.threads import Threads
from snowmelt.matching import names_of
from snowmelt.model import Mark, TableJob
from snowmelt.origin import Origins
from snowmelt.postgres.migrations import migrate_ledger
from snowmelt.postgres.monitoring import Answer, ask, question
from snowmelt.postgres.post_data import Index
from snowmelt.postgres.restoring import Missing, Restored, give_up, missing
from snowmelt.postgres.rollback import Kept, kept, roll_back
from snowmelt.postgres.upkeep import Cleaning
from snowmelt.refusal import Refusal
from snowmelt.restoration import restore
from snowmelt.survey import Survey


class Upkeep:
    """Over the ledgers of a config's target databases."""

    def __init__(
        self,
        config: Config,
        origins: Origins,
        databases: Mapping[str, Database],
        survey: Survey,
    ) -> None:
        self._config = config
        self._origins = origins
        self._databases = databases
        self._survey = survey

    def adopt(self) -> tuple[tuple[TableJob, Mark | Refusal], ...]:
        """Set the first mark of each table whose target was loaded by other means, where that may be done."""
        done: list[tuple[TableJob, Mark | Refusal]] = []
        for job in self._config.jobs():
            database = self._databases[job.target.database]
            migrate_ledger(database.session)
            with closing(self._origins.open(job.source_name)()) as source:
                relation = source.describe(job.source)
            situation = self._survey.situation(job, None, ())
            outcome: Mark | Refusal | Key = adoptable(job, relation, situation)
            if isinstance(outcome, Key):
                column = self._watermark(job, outcome)
                outcome = adopted(job, outcome, database.target.latest(job.target, column))
            if isinstance(outcome, Mark):
                place = str(situation.facts["connection"])
                if not database.loads.adopt(place, job.source, job.target, outcome):
                    outcome = Refusal(
                        "another process has set a mark just now", "run again to see it"
                    )
            done.append((job, outcome))
        return tuple(done)

    def _watermark(self, job: TableJob, key: Key) -> str:
        """The target's name of the column that says how new a row is."""
        names = [
            c.name for c in self._databases[job.target.database].target.inspect(job.target).columns
        ]
        wanted = job.target_watermark or key.column
        return found(wanted, names) or wanted

    def cleanup(self, days: int | None = None, *, dry_run: bool = False) -> tuple[Cleaned, ...]:
        """Remove what ended loads have left: staging tables, clones at the sources, workers long gone, and
        runs that ended more than `days` days ago, else `retention_days` of the config, if either is set.
        What can't be removed is told. `dry_run` tells the same, and removes nothing."""
        days = self._config.retention_days if days is None else days
        return tuple(
            cleaned(
                database.server.database,
                Cleaning(database.session, days=days, resume_hours=self._config.resume_max_age),
                self._origins,
                dry_run=dry_run,
            )
            for database in self._databases.values()
            if database.keeps_house  # a ledger of an older release is upgraded by `migrate`
        )

    def rollback(self, name: str) -> Kept:
        """Put the table that `mode: replace` replaced last back in its place. Raises Refused, UnknownName."""
        job = self._job(name)
        database = self._databases[job.target.database]
        if not database.keeps_house:
            raise Refused("nothing was replaced here", table=str(job.target))
        return roll_back(database.session, job.target)

    def kept(self) -> tuple[Kept, ...]:
        """Replaced tables that are still there, of all targets."""
        return tuple(
            one
            for database in self._databases.values()
            if database.keeps_house
            for one in kept(database.session)
        )

    def missing(self) -> tuple[Missing, ...]:
        """Indexes that loads have dropped and that are not back."""
        return tuple(
            one
            for database in self._databases.values()
            if database.keeps_house
            for one in missing(database.session)
        )

    def restore(self, names: Sequence[str], threads: int) -> tuple[Restored, ...]:
        """Build them again, of all targets or of those that are named. Raises UnknownName."""
        only = {self._job(name).target for name in names} or None
        return tuple(
            one
            for database in self._databases.values()
            if database.keeps_house
            for one in restore(database, Threads(), threads=threads, only=only)
        )

    def give_up(self, name: str, indexes: Sequence[str]) -> tuple[Index, ...]:
        """Forget indexes of a target that are not back, all or those that are named. Raises UnknownName."""
        target = self._job(name).target
        database = self._databases[target.database]
        if not database.keeps_house:
            return ()
        migrate_ledger(database.session)
        return give_up(database.session, target, indexes)

    def _job(self, name: str) -> TableJob:
        jobs = self._config.jobs()
        found = [job for job in jobs if name in names_of(job)]
        if len(found) != 1:
            raise unknown_name("table", name, sorted({n for job in jobs for n in names_of(job)}))
        return found[0]

    def ask(self, name: str) -> tuple[Answer, ...]:
        """What each ledger answers to a question of `monitoring.sql`. Raises UnknownName."""
        question(name)
        return tuple(
            ask(database.session, name)
            for database in self._databases.values()
            if database.has_ledger
        )
