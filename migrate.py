"""Kept for those who call it: `python migrate.py -c config.json [SOURCE ...]` is `snowmelt migrate`."""

import sys

from snowmelt.cli import main

if __name__ == "__main__":
    main(["migrate", *sys.argv[1:]])
