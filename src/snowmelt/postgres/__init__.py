"""PostgreSQL: the target of every run, and the home of its ledger."""
