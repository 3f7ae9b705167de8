"""A DuckDB file, or Parquet and CSV files in a folder, as a source.

    duckdb:///visits.duckdb     a database file; a fourth slash makes the path absolute
    files:///exports            a folder; a table's source is a file or glob in it

Rows stream as Arrow: DuckDB runs a query while its batches are fetched, so memory holds some batches only.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Literal

import duckdb
import pyarrow as pa

from snowmelt.chunking.chunks import Chunk, Key, QueryOnce, ResultBatches, Span
from snowmelt.chunking.histogram import Grain, KeyHistogram
from snowmelt.chunking.sizing import row_bytes
from snowmelt.errors import Interrupted, SourceChanged, TableError, TooHeavy, UsageError
from snowmelt.memory.governor import UNLIMITED, Governor
from snowmelt.model import Column, Reading, Relation, SourceTable, Tag
from snowmelt.ports import Latest
from snowmelt.preflight.questions import Answer, Question
from snowmelt.sources import key_sql
from snowmelt.sources.duckdb_comments import comments
from snowmelt.sources.duckdb_keys import DuckDBKeys, literal, quoted
from snowmelt.sources.duckdb_measures import measures
from snowmelt.sources.duckdb_stability import require_fixed_filter, require_fixed_view
from snowmelt.sources.key_answers import coarse_histogram, fine_histograms, latest_of

KEYS = DuckDBKeys()
BATCH_BYTES = 4 << 20
"""What a batch is meant to weigh; its row count follows from the columns' estimated widths."""
TEXT_BYTES = 48
"""The estimate for a value of text or binary. Too low an estimate only makes batches larger."""

ENGINE_BYTES = 64 << 20
"""What DuckDB holds for a query beside its batches and the files in its cache: measured."""
ENGINE_LEAST = 256 << 20
"""DuckDB gives up a query that needs more than its limit: it is not set lower than what that of a chunk needs."""
SAMPLE_ROWS = 1_000
"""Rows that are looked at for what one weighs."""

_READERS = {".parquet": "read_parquet", ".csv": "read_csv", ".gz": "read_csv", ".tsv": "read_csv"}


class DuckDBSource:
    """`ports.EmbeddedSource`: one DuckDB connection, opened read-only where there is a database file."""

    def __init__(
        self, kind: Literal["duckdb", "files"], path: Path, memory: Governor = UNLIMITED
    ) -> None:
        """`memory` is whom batches in flight are asked of. Raises UsageError for what is not there or can't be
        opened."""
        self._kind, self._path, self._memory = kind, path, memory
        self._open_cursor: duckdb.DuckDBPyConnection | None = None
        if not self._path.exists():
            raise UsageError(
                f"{self._path} does not exist", remedy="correct `connection` of the source"
            )
        try:
            self._connection = (
                duckdb.connect(self._path, read_only=True)
                if self._kind == "duckdb"
                else duckdb.connect()
            )
            self._connection.execute("SET TimeZone = 'UTC'")
            self._connection.execute("SET enable_progress_bar = false")
            # Without this a parallel scan of a large file holds finished batches back to keep them in order.
            self._connection.execute("SET preserve_insertion_order = false")
            self._limit(memory.engine_bytes)
        except duckdb.Error as error:
            raise UsageError(
                f"{self._path} can't be opened: {_first_line(error)}",
                remedy="is it a DuckDB file, and does no other process have it open for writing?",
            ) from error

    def _limit(self, bytes: int | None) -> None:
        """Of the memory there is, what DuckDB takes at most, files that it keeps in its cache included."""
        if bytes is None:
            return
        self._connection.execute(f"SET memory_limit = '{max(bytes, ENGINE_LEAST) >> 20}MiB'")
        if self._kind == "files":
            # Each worker has a cache of its own, of the same files.
            self._connection.execute("SET enable_external_file_cache = false")
        for threshold in (
            "allocator_flush_threshold",
            "allocator_bulk_deallocation_flush_threshold",
        ):
            self._connection.execute(f"SET {threshold} = '8MiB'")  # what it keeps of freed memory

    def describe(self, table: SourceTable) -> Relation:
        """Columns, declared key, and the files' identity as the snapshot."""
        snapshot = self._fingerprint(table)
        with self._failing(table) as cursor:
            relation = self._relation(table)
            is_view = self._kind == "duckdb" and require_fixed_view(cursor, table)
            described = cursor.sql(f"DESCRIBE SELECT * FROM {relation}").fetchall()
            schema = cursor.sql(f"SELECT * FROM {relation} LIMIT 0").to_arrow_table().schema
            require_fixed_filter(cursor, table, frozenset(schema.names))
            rows = self._counted(cursor, table)
            comment, about = comments(cursor, table) if self._kind == "duckdb" else ("", {})
            columns = tuple(
                Column(
                    name,
                    schema.field(place).type,
                    null != "NO",
                    str(type),
                    comment=about.get(name, ""),
                )
                for place, (name, type, null, *_) in enumerate(described)
            )
            self._require_exact(columns, table)
            texts = self._text_bytes(cursor, columns, relation)
        # A view is described with the keys of what it reads, which need not be its own.
        key = () if is_view else tuple(name for name, _, _, key, *_ in described if key == "PRI")
        return Relation(
            columns,
            key,
            snapshot,
            rows=rows,
            row_bytes=row_bytes(columns, texts),
            comment=comment,
        )

    def _require_exact(self, columns: Sequence[Column], table: SourceTable) -> None:
        """Arrow has no type for DuckDB's unsigned integers of 128 bits: large ones arrive as negative numbers."""
        for column in columns:
            if column.source_type == "UHUGEINT":
                raise TableError(
                    "UHUGEINT has no Arrow type that holds all its values",
                    table=str(table),
                    column=f'"{column.name}"',
                    remedy="cast the column to HUGEINT or VARCHAR in a view and migrate the view",
                )

    def _text_bytes(
        self, cursor: duckdb.DuckDBPyConnection, columns: Sequence[Column], relation: str
    ) -> dict[str, float]:
        """The mean bytes of texts and binaries by some rows, NULL counted as none; inside of DuckDB, since they
        may be large."""
        sizes = {"VARCHAR": "strlen", "BLOB": "octet_length"}
        texts = [column for column in columns if column.source_type in sizes]
        if not texts:
            return {}
        names = ", ".join(quoted(column.name) for column in texts)
        means = ", ".join(
            f"sum({sizes[one.source_type]}({quoted(one.name)})) / count(*)" for one in texts
        )
        query = f"SELECT {means} FROM (SELECT {names} FROM {relation} LIMIT {SAMPLE_ROWS})"
        ((*found,),) = cursor.execute(query).fetchall()
        return {one.name: float(mean or 0) for one, mean in zip(texts, found, strict=True)}

    def _counted(self, cursor: duckdb.DuckDBPyConnection, table: SourceTable) -> int | None:
        """The rows of the table, where DuckDB need not read them to know."""
        if _narrowed(table) is not None or _reader(table.name) == "read_csv":
            return None
        query = f"SELECT count(*) FROM {self._relation(table)}"
        ((rows,),) = cursor.execute(query).fetchall()
        return int(rows)

    def measure(
        self, table: SourceTable, questions: Sequence[Question], snapshot: Mapping[str, object]
    ) -> tuple[Answer, ...]:
        """The answers to the questions, of the rows that pass the filter, by one query."""
        self._check_snapshot(table, snapshot)
        with self._failing(table) as cursor:
            statement = measures(self._relation(table), questions, _narrowed(table))
            (answers,) = _rows(cursor, statement)
        return answers

    def latest(self, table: SourceTable, key: Key, snapshot: Mapping[str, object]) -> Latest:
        """The greatest value of a key among the rows that pass filter and window, by one query."""
        self._check_snapshot(table, snapshot)
        with self._failing(table) as cursor:
            statement = key_sql.newest(KEYS, self._relation(table), f" {_where(table)}", key)
            (row,) = _rows(cursor, statement)
        return latest_of(key, row, str(table))

    def histogram(
        self, table: SourceTable, key: Key, snapshot: Mapping[str, object], grain: Grain
    ) -> KeyHistogram:
        """Rows by ranges of the key, by one aggregated query."""
        self._check_snapshot(table, snapshot)
        with self._failing(table) as cursor:
            relation = self._relation(table)
            statement = key_sql.coarse(KEYS, relation, _where(table), key, grain)
            return coarse_histogram(key, _rows(cursor, statement))

    def refine(
        self,
        table: SourceTable,
        keys: Sequence[Key],
        snapshot: Mapping[str, object],
        spans: Sequence[Span],
        rows: int,
    ) -> tuple[KeyHistogram, ...]:
        """A histogram for each span by the keys' own values, by one aggregated query."""
        self._check_snapshot(table, snapshot)
        narrowed = _narrowed(table)
        conditions = [narrowed] if narrowed is not None else []
        with self._failing(table) as cursor:
            relation = self._relation(table)
            statement = key_sql.fine(KEYS, relation, conditions, keys, spans, rows)
            return fine_histograms(keys, _rows(cursor, statement), spans=len(spans))

    @contextmanager
    def read(
        self,
        table: SourceTable,
        chunk: Chunk,
        columns: Sequence[Column],
        snapshot: Mapping[str, object],
        tag: Tag,
    ) -> Iterator[Reading]:
        """The chunk's rows as batches of some megabytes, of exactly the columns' types."""
        self._check_snapshot(table, snapshot)
        names = ", ".join(quoted(column.name) for column in columns)
        query = f"SELECT {names} FROM {self._relation(table)} {_where(table, _predicate(chunk))}"
        schema = pa.schema([pa.field(column.name, column.type) for column in columns])
        # The reader is closed at once, not when the last who knows of an error forgets it: it holds rows still.
        if self._memory.tight and self._kind == "files":
            # What each of its threads reads ahead is in no batch yet, and each worker has threads of its own.
            self._connection.execute("SET threads = 1")
        with (
            self._memory.flight(ENGINE_BYTES + 2 * BATCH_BYTES),
            self._failing(table) as cursor,
            cursor.sql(query).to_arrow_reader(_batch_rows(schema)) as reader,
        ):
            yield Reading(self._batches(reader, schema, table))
        self._check_snapshot(table, snapshot)

    def _batches(
        self, reader: pa.RecordBatchReader, schema: pa.Schema, table: SourceTable
    ) -> Iterator[pa.RecordBatch]:
        for batch in reader:
            if batch.schema.types != schema.types:
                raise SourceChanged(
                    "the source's column types are not those of the plan", table=str(table)
                )
            yield batch
            del batch  # before the next one is waited for

    def interrupt(self) -> None:
        """From another thread: end the query that runs, if there is one."""
        cursor = self._open_cursor
        if cursor is not None:
            with suppress(duckdb.Error):  # it has just been closed
                cursor.interrupt()

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()

    @contextmanager
    def _failing(self, table: SourceTable) -> Iterator[duckdb.DuckDBPyConnection]:
        cursor = self._open_cursor = self._connection.cursor()
        try:
            yield cursor
        except MemoryError:
            raise  # Arrow's too: the chunk is too heavy, not wrong
        except duckdb.InterruptException as error:
            raise Interrupted(_first_line(error), table=str(table)) from error
        except duckdb.OutOfMemoryException as error:
            raise TooHeavy(_first_line(error), table=str(table)) from error
        except (duckdb.Error, pa.ArrowException) as error:
            remedy = "correct what the message names, or leave the table out"
            if isinstance(error, duckdb.CatalogException | duckdb.IOException):
                remedy = "correct `source` of the table, or the source's schema"
            elif isinstance(error, duckdb.BinderException | duckdb.ParserException):
                remedy = "correct the column names or `source_filter` of the table"
            raise TableError(_first_line(error), table=str(table), remedy=remedy) from error
        finally:
            cursor.close()

    def _relation(self, table: SourceTable) -> str:
        if self._kind == "duckdb":
            parts = (table.database, table.schema, table.name)
            return ".".join(quoted(part) for part in parts if part)
        reader = _reader(table.name)
        if reader is None:
            raise TableError(
                "neither a Parquet nor a CSV file",
                table=str(table),
                remedy="name a file or glob that ends in .parquet, .csv, .tsv or .csv.gz",
            )
        return f"{reader}({literal(str(self._path / table.name))})"

    def _files(self, table: SourceTable) -> list[Path]:
        if self._kind == "duckdb":
            wal = self._path.with_name(self._path.name + ".wal")
            return [self._path, wal] if wal.exists() else [self._path]
        return sorted(path for path in self._path.glob(table.name) if path.is_file())

    def _fingerprint(self, table: SourceTable) -> dict[str, object]:
        """Path, size and time of change of each file: what a reader can know of a file without reading it."""
        files = self._files(table)
        if not files:
            raise TableError(
                f"no file matches in {self._path}",
                table=str(table),
                remedy="correct `source` of the table",
            )
        facts = [(path.name, path.stat()) for path in files]
        return {"files": [[name, stat.st_size, stat.st_mtime_ns] for name, stat in facts]}

    def _check_snapshot(self, table: SourceTable, snapshot: Mapping[str, object]) -> None:
        if self._fingerprint(table) != dict(snapshot):
            raise SourceChanged(
                "the source's files changed after planning",
                table=str(table),
                remedy="put the files back as they were, or load the table anew with --restart-table",
            )


def _reader(name: str) -> str | None:
    return _READERS.get(Path(name).suffix.lower())


def _narrowed(table: SourceTable) -> str | None:
    return key_sql.narrowed(KEYS, table.filter, table.window)


def _where(table: SourceTable, predicate: str | None = None) -> str:
    conditions = [predicate] if predicate else []
    narrowed = _narrowed(table)
    if narrowed is not None:
        conditions.append(f"(\n{narrowed}\n)")
    return f"WHERE {' AND '.join(conditions)}" if conditions else ""


def _predicate(chunk: Chunk) -> str | None:
    if isinstance(chunk.range, QueryOnce | ResultBatches):
        raise TableError("a chunk of a query's result can't be read from files")
    return key_sql.condition(KEYS, chunk.range)


def _rows(cursor: duckdb.DuckDBPyConnection, statement: str) -> Sequence[tuple[Any, ...]]:
    return cursor.execute(statement).fetchall()


def _batch_rows(schema: pa.Schema) -> int:
    width = sum(
        TEXT_BYTES if pa.types.is_nested(type) or not _fixed(type) else type.bit_width // 8 + 1
        for type in schema.types
    )
    return max(2_048, BATCH_BYTES // max(width, 1))


def _fixed(type: pa.DataType) -> bool:
    try:
        return bool(type.bit_width > 0)
    except ValueError:
        return False


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0]
