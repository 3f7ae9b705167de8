"""The config: a JSON or YAML file -> `Config`, or every problem of the file at once."""

from snowmelt.config.config import Config
from snowmelt.config.loading import load_config, parse_config
from snowmelt.config.models import Postgres, Session, Snowflake, Source, Table
from snowmelt.config.schema import json_schema
from snowmelt.config.settings import Connection

__all__ = [
    "Config",
    "Connection",
    "Postgres",
    "Session",
    "Snowflake",
    "Source",
    "Table",
    "json_schema",
    "load_config",
    "parse_config",
]
