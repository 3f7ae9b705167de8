"""The config file as types. Every key, its default and its description have their home here.

The defaults of a table's settings are those of `model.TableJob` and `model.SourceTable`.
"""

from __future__ import annotations

import dataclasses
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationInfo, field_validator, model_validator

from snowmelt.choices import ColumnNames, Extraction, KeyType, NewColumns, NulCharacters, Snapshot
from snowmelt.config.dsn import read_dsn
from snowmelt.config.load_mode import LoadMode
from snowmelt.config.settings import (
    BatchSize,
    Commit,
    ConnectionText,
    Filter,
    FromOne,
    FromTwo,
    FromZero,
    Host,
    Memory,
    Port,
    SchemaName,
    Secret,
    Size,
    Text,
    problem,
)
from snowmelt.model import SourceTable, TableJob

_JOB: dict[str, Any] = {
    setting.name: setting.default
    for kind in (SourceTable, TableJob)
    for setting in dataclasses.fields(kind)
}
_THREADS = "Chunks moved at the same time."
_BATCH_SIZE = (
    "Rows of a chunk, about; auto has them follow from the width of the rows, the time that a chunk "
    "takes and the number of threads."
)
_RETRIES = "How often a chunk is tried again."
_INSERT_ONLY = "Insert rows, and skip those whose key is there; `mode: insert_only` says the same."
_MODE = (
    "What becomes of rows whose key is there: append does not look, insert_only skips them, upsert keeps "
    "the newer; truncate empties the target first, then appends; replace loads a table beside the target and "
    "puts it in its place when it is complete."
)
_KEEP = (
    "Hours for which mode replace keeps the table that was replaced, for `snowmelt rollback`; it is dropped at "
    "once if left out."
)
_ALLOW_TRUNCATE = (
    "Empty the target also of rows that no completed run recorded, where it is to be emptied."
)
_OVERLAP = (
    "Seconds before the mark that an incremental load reads again, for rows that came late; 3600 for times "
    "with insert_only and upsert if left out, else 0."
)
_SNAPSHOT = (
    "How all queries of a table see one state of it: by Time Travel, from a clone in "
    "snowflake.clone_schema, or not at all (none)."
)
_EXTRACTION = (
    "How a table's rows leave Snowflake: one query for each chunk, one query for all of them, or "
    "whichever suits the table (auto)."
)
_NUL_CHARACTERS = (
    "What becomes of the character NUL in texts and JSON, which PostgreSQL does not hold: fail refuses the value, "
    "strip leaves the character out, replace puts U+FFFD in its place."
)
_COLUMN_NAMES = (
    "How a table that is created, and columns that are added, are named: as in the source (exact), or in "
    "lower case."
)
_NEW_COLUMNS = (
    "What becomes of columns that the target lacks: auto adds those that the source gained since the last "
    "load and leaves out others; add, leave_out and refuse mean all of them."
)

_TLS = ("sslmode", "sslrootcert", "sslcert", "sslkey")

SORT_COLUMNS = "chunking_columns decide the order, nothing is sorted"
BATCH_SIZE_COPY_MODE = "batch_size takes its place, in every mode"
RETIRED = {"sort_columns": SORT_COLUMNS, "batch_size_copy_mode": BATCH_SIZE_COPY_MODE}
"""Keys of the running system that have no effect any more, with what takes their place."""

SortColumns = Annotated[
    object, Field(description=f"Retired: {SORT_COLUMNS}.", json_schema_extra={"deprecated": True})
]
BatchSizeCopyMode = Annotated[
    object,
    Field(description=f"Retired: {BATCH_SIZE_COPY_MODE}.", json_schema_extra={"deprecated": True}),
]


class FileModel(BaseModel):
    """A mapping of the file. A null is a key that is not set."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    @classmethod
    def known_keys(cls) -> tuple[str, ...]:
        """The keys as they stand in a file."""
        return tuple(setting.alias or name for name, setting in cls.model_fields.items())

    @model_validator(mode="before")
    @classmethod
    def _null_is_not_set(cls, data: object) -> object:
        if not isinstance(data, dict):
            return data
        # An unknown key stays, null or not: it is a typing error all the same.
        known = cls.known_keys()
        return {key: value for key, value in data.items() if value is not None or key not in known}


class Session(FileModel):
    """Settings of PostgreSQL for snowmelt's own sessions."""

    synchronous_commit: Commit = Field(
        default="off",
        description="For chunks only; what must survive a crash is committed with on.",
    )
    work_mem: Size = Field(default="256MB", description="Memory of one sort or hash.")
    maintenance_work_mem: Size = Field(default="512MB", description="Memory for building an index.")


class Postgres(FileModel):
    """Where the rows go: `dsn`, or separate keys; what is left out comes from libpq's defaults."""

    host: Host | None = Field(default=None, description="Server name, address or socket directory.")
    port: Port | None = Field(default=None, description="Port of the server.")
    user: Text | None = Field(default=None, description="Role to connect as.")
    password: Secret | None = Field(default=None, description="Its password, best as ${VARIABLE}.")
    database: Text | None = Field(
        default=None, description="Database of sources without a target_pg_database."
    )
    sslmode: Literal["disable", "allow", "prefer", "require", "verify-ca", "verify-full"] | None = (
        Field(
            default=None,
            description="How the connection is encrypted, as libpq names it; verify-full is the one that knows "
            "the server.",
        )
    )
    sslrootcert: Text | None = Field(
        default=None,
        description="CAs of the server's certificate: the path of a PEM file, its text, or system for those that "
        "this machine trusts.",
    )
    sslcert: Text | None = Field(
        default=None, description="Certificate of the client: the path of a PEM file, or its text."
    )
    sslkey: Secret | None = Field(
        default=None,
        description="Its private key: the path of a PEM file, or its text, best as ${VARIABLE}.",
    )
    # After the other connection keys: its check looks at them.
    dsn: Secret | None = Field(
        default=None,
        description="A connection string, postgresql://user@host/database, in place of the keys.",
    )
    session: Session = Field(default=Session(), description="Settings of snowmelt's own sessions.")

    @field_validator("dsn")
    @classmethod
    def _dsn_stands_alone(cls, dsn: Secret | None, info: ValidationInfo) -> Secret | None:
        if dsn is None:
            return None
        facts = read_dsn(dsn.get_secret_value())
        if facts is None:
            raise problem("is no connection string", "write postgresql://user@host:5432/database")
        # A key whose own value was wrong is absent from `data`: it was given as well.
        separate = ("host", "port", "user", "database", *_TLS)
        given = ", ".join(key for key in separate if info.data.get(key, "") is not None)
        if given:
            raise problem(f"stands beside {given}", f"say it once: in the dsn, or in {given}")
        if facts.has_password and info.data.get("password", "") is not None:
            raise problem("has a password, and the key password gives another", "keep one of them")
        return dsn

    @property
    def database_name(self) -> str | None:
        """The database that the block or its dsn names."""
        facts = read_dsn(self.dsn.get_secret_value()) if self.dsn else None
        return facts.database if facts else self.database


class Snowflake(FileModel):
    """The Snowflake account of every source that has no connection of its own."""

    account: Text = Field(description="Account identifier, such as xy12345.eu-central-1.")
    user: Text = Field(description="User to connect as.")
    warehouse: Text | None = Field(default=None, description="Warehouse that runs the queries.")
    role: Text | None = Field(default=None, description="Role to use.")
    rsa_key: Secret | None = Field(
        default=None,
        description="Private key: PEM text, best as ${VARIABLE}, or the path of a PEM file.",
    )
    passphrase: Secret | None = Field(default=None, description="Passphrase of the private key.")
    password: Secret | None = Field(default=None, description="Password, where no key is used.")
    token: Secret | None = Field(
        default=None,
        description="Programmatic access token, or OAuth token with authenticator: oauth.",
    )
    authenticator: Text | None = Field(
        default=None,
        description="How to log in, as Snowflake names it; follows from rsa_key, password or token "
        "if left out.",
    )
    database: Text | None = Field(
        default=None, description="Database of sources without a source_sf_database."
    )
    schema_: Text | None = Field(
        default=None, alias="schema", description="Schema of sources without a source_sf_schema."
    )
    clone_schema: SchemaName | None = Field(
        default=None,
        description="Where snapshot: clone puts its clones, as SCHEMA or DATABASE.SCHEMA.",
    )
    statement_timeout_seconds: FromOne = Field(
        default=14_400, description="How long a query may run before Snowflake ends it."
    )
    host: Text | None = Field(
        default=None, description="Server, where it is not the account's own."
    )
    port: Port | None = Field(default=None, description="Port, where it is not the protocol's own.")
    protocol: Literal["https", "http"] | None = Field(
        default=None, description="https, or http in tests."
    )


class Table(FileModel):
    """One table of a source. What is left out comes from the source, then from the top level."""

    enabled: bool = Field(default=True, description="false leaves the table out.")
    source: Text = Field(description="Source table; for files a path or glob below the folder.")
    target: Text | None = Field(
        default=None, description="Target table; the source's name if left out."
    )
    source_filter: Filter = Field(default=None, description="SQL condition on the source's rows.")
    warehouse: Text | None = Field(
        default=None, description="Warehouse that runs the table's queries."
    )
    snapshot: Snapshot | None = Field(default=None, description=_SNAPSHOT)
    extraction: Extraction | None = Field(default=None, description=_EXTRACTION)
    column_names: ColumnNames | None = Field(default=None, description=_COLUMN_NAMES)
    new_columns: NewColumns | None = Field(default=None, description=_NEW_COLUMNS)
    chunking_columns: tuple[Text, ...] = Field(
        default=(),
        description="Columns whose ranges make the chunks; the second splits a value of the first "
        "that is too heavy for one. Without any, a key of the table or one query does.",
    )
    chunking_column_types: tuple[KeyType, ...] = Field(
        default=(), description="How each chunking column is ranged over, one per column."
    )
    uniqueness_columns: tuple[Text, ...] = Field(
        default=(), description="Columns that identify a row."
    )
    source_watermark: Text | None = Field(
        default=None,
        description="Source column that says when a row changed; only what is new by it is read, unless the "
        "target is emptied first.",
    )
    target_watermark: Text | None = Field(
        default=None,
        description="Target column whose greatest value `snowmelt adopt` begins at; source_watermark if left out.",
    )
    mode: LoadMode | None = Field(default=None, description=_MODE)
    truncate_onstart: bool | None = Field(
        default=None, description="Empty the target before a fresh load, whatever the mode is."
    )
    allow_truncate: bool | None = Field(default=None, description=_ALLOW_TRUNCATE)
    overlap_seconds: FromZero | None = Field(default=None, description=_OVERLAP)
    keep_previous_hours: FromZero | None = Field(default=None, description=_KEEP)
    nul_characters: NulCharacters | None = Field(default=None, description=_NUL_CHARACTERS)
    insert_only_mode: bool | None = Field(default=None, description=_INSERT_ONLY)
    disable_index: bool = Field(
        default=_JOB["disable_index"],
        description="Drop indexes during the load and build them after it.",
    )
    parallel_threads: FromOne | None = Field(default=None, description=_THREADS)
    batch_size: BatchSize | None = Field(default=None, description=_BATCH_SIZE)
    max_retry_attempts: FromZero | None = Field(default=None, description=_RETRIES)
    sort_columns: SortColumns = None
    batch_size_copy_mode: BatchSizeCopyMode = None

    @field_validator("chunking_column_types")
    @classmethod
    def _one_type_per_column(
        cls, types: tuple[KeyType, ...], info: ValidationInfo
    ) -> tuple[KeyType, ...]:
        columns = info.data.get("chunking_columns")
        if columns is not None and types and len(types) != len(columns):
            raise problem(
                f"has {len(types)} for {len(columns)} chunking_columns",
                "give one type per chunking column, or leave the key out",
            )
        return types


class Source(FileModel):
    """Tables that come from one place and go to one schema."""

    source_name: Text = Field(description="Name on the command line and in the ledger.")
    enabled: bool = Field(default=True, description="false leaves the source out.")
    connection: ConnectionText | None = Field(
        default=None,
        description="duckdb:///path.duckdb or files:///folder; four slashes for an absolute path. "
        "Without it the source is the snowflake block.",
    )
    source_sf_database: Text | None = Field(default=None, description="Source database.")
    source_sf_schema: Text | None = Field(default=None, description="Source schema.")
    warehouse: Text | None = Field(
        default=None, description="Warehouse that runs the queries of the source's tables."
    )
    snapshot: Snapshot | None = Field(default=None, description=_SNAPSHOT)
    extraction: Extraction | None = Field(default=None, description=_EXTRACTION)
    column_names: ColumnNames | None = Field(default=None, description=_COLUMN_NAMES)
    new_columns: NewColumns | None = Field(default=None, description=_NEW_COLUMNS)
    target_pg_database: Text | None = Field(
        default=None, description="Target database; that of the postgres block if left out."
    )
    target_pg_schema: Text = Field(default="public", description="Target schema.")
    parallel_threads: FromOne | None = Field(default=None, description=_THREADS)
    batch_size: BatchSize | None = Field(default=None, description=_BATCH_SIZE)
    max_retry_attempts: FromZero | None = Field(default=None, description=_RETRIES)
    mode: LoadMode | None = Field(default=None, description=_MODE)
    insert_only_mode: bool | None = Field(default=None, description=_INSERT_ONLY)
    truncate_onstart: bool | None = Field(
        default=None, description="Empty the targets before a fresh load, whatever the mode is."
    )
    allow_truncate: bool | None = Field(default=None, description=_ALLOW_TRUNCATE)
    overlap_seconds: FromZero | None = Field(default=None, description=_OVERLAP)
    keep_previous_hours: FromZero | None = Field(default=None, description=_KEEP)
    nul_characters: NulCharacters | None = Field(default=None, description=_NUL_CHARACTERS)
    sort_columns: SortColumns = None
    batch_size_copy_mode: BatchSizeCopyMode = None
    tables: tuple[Table, ...] = Field(description="The tables to move.")


class ConfigFile(FileModel):
    """Moves Snowflake tables into PostgreSQL."""

    schema_url: str | None = Field(
        default=None, alias="$schema", description="Where editors find this schema; not used."
    )
    snowflake: Snowflake | None = Field(
        default=None, description="The account of sources without a connection."
    )
    postgres: Postgres = Field(description="Where the rows go.")
    parallel_threads: FromOne = Field(default=_JOB["parallel_threads"], description=_THREADS)
    batch_size: BatchSize = Field(default="auto", description=_BATCH_SIZE)
    max_retry_attempts: FromZero = Field(default=_JOB["max_retry_attempts"], description=_RETRIES)
    mode: LoadMode | None = Field(default=None, description=_MODE)
    insert_only_mode: bool | None = Field(default=None, description=_INSERT_ONLY)
    overlap_seconds: FromZero | None = Field(default=None, description=_OVERLAP)
    keep_previous_hours: FromZero | None = Field(default=None, description=_KEEP)
    retention_days: FromOne | None = Field(
        default=None,
        description="Days after their end that runs stay in the ledger; `snowmelt cleanup` removes older "
        "ones. Without it they stay.",
    )
    snapshot: Snapshot = Field(default=_JOB["snapshot"], description=_SNAPSHOT)
    extraction: Extraction = Field(default=_JOB["extraction"], description=_EXTRACTION)
    column_names: ColumnNames = Field(default=_JOB["column_names"], description=_COLUMN_NAMES)
    new_columns: NewColumns = Field(default=_JOB["new_columns"], description=_NEW_COLUMNS)
    lambda_memory: Memory | None = Field(
        default=None, description="Memory of the Lambda function: MB, or a text such as 10GB."
    )
    lambda_timeout_buffer_seconds: FromZero = Field(
        default=60,
        description="How long before Lambda's own deadline what is in flight is cut off and given back; at most a "
        "third of the time counts.",
    )
    resume_max_age: FromOne = Field(
        default=168, description="Hours since its last activity in which a run is resumed."
    )
    lease_seconds: FromTwo = Field(
        default=60, description="How long a silent worker keeps its claims."
    )
    stall_seconds: FromOne = Field(
        default=1800, description="How long a claim of a live worker may make no progress."
    )
    outage_seconds: FromZero = Field(
        default=900, description="How long an unreachable server is waited for."
    )
    sort_columns: SortColumns = None
    batch_size_copy_mode: BatchSizeCopyMode = None
    sources: tuple[Source, ...] = Field(description="What to move.")
