"""Tables of a Snowflake account, read through its own connector."""
