"""What client libraries log by themselves."""

from __future__ import annotations

import logging

CLIENTS = ("snowflake", "botocore", "boto3", "urllib3", "psycopg")
"""Loggers whose lines may have URLs of results, which are secrets, or whole answers of a server."""


def hand_over(handler: logging.Handler | None) -> None:
    """Their lines go to the handler alone, or nowhere.

    What a client library logs is said again, in our words, by the error that it ends in.
    """
    for name in CLIENTS:
        client = logging.getLogger(name)
        client.handlers[:] = [handler or logging.NullHandler()]
        client.propagate = False
