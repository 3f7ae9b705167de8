"""snowmelt moves tables into PostgreSQL: each row exactly once, resumable, as fast as COPY takes them.

import snowmelt

config = snowmelt.load_config("snowmelt.yaml")
with snowmelt.open(config) as mover:
    plan = mover.plan()
    print(plan)
    report = mover.run(plan, executor=snowmelt.Threads(8))
    report.raise_for_failures()
"""

from snowmelt.app import Mover
from snowmelt.app import open_mover as open
from snowmelt.config import Config, load_config
from snowmelt.errors import SnowmeltError
from snowmelt.executors.threads import Threads
from snowmelt.plan import Plan
from snowmelt.status import Report
from snowmelt.survey import Choice

__all__ = [
    "Choice",
    "Config",
    "Mover",
    "Plan",
    "Report",
    "SnowmeltError",
    "Threads",
    "load_config",
    "open",
]
