"""The command line."""

from snowmelt.cli.commands import main

__all__ = ["main"]
