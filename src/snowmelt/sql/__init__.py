"""The ledger's SQL: statements by name, and numbered migrations."""
