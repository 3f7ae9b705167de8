"""A stand-in for Snowflake's server: the real connector talks to it over HTTP; DuckDB holds the rows.

server.py      StandIn, the handle on a server process
app.py         routes
queries.py     statements that run, their states, cancelling, time limits
session.py     one login: its parameters, its transaction, its statements one at a time
statements.py  what each kind of statement does
rewrite.py     Snowflake's queries as DuckDB's, with each column's Snowflake type
grouping.py    GROUP BY, ORDER BY and OVER, to the nanosecond
functions.py   functions; arithmetic.py, choices.py, comparisons.py, texts.py are its parts
encode.py      Arrow as Snowflake sends it
catalogue.py   tables with the types they were declared with, and their history
"""
