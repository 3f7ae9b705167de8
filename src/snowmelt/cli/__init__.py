"""The command line."""

from snowmelt.cli import house as house
from snowmelt.cli import upkeep as upkeep
from snowmelt.cli.commands import main

__all__ = ["main"]
