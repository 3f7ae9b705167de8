"""`python -m snowmelt`."""

from snowmelt.cli import main

if __name__ == "__main__":
    main()
