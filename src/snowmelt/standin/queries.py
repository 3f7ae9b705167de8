"""Statements that run or ran: their states, their results, cancelling and time limits."""

from __future__ import annotations

import logging
import re
import threading
import time
from collections import OrderedDict
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import duckdb
import pyarrow as pa

from snowmelt.standin import information
from snowmelt.standin.answers import Answer
from snowmelt.standin.catalogue import now
from snowmelt.standin.encode import json_value
from snowmelt.standin.engine import Engine
from snowmelt.standin.failures import (
    StatementError,
    cancelled,
    denied,
    no_statement,
    no_warehouse,
    timed_out,
)
from snowmelt.standin.faults import FaultBox
from snowmelt.standin.query import Query, Request
from snowmelt.standin.results import Chunk, Result, Results, Sizes, arrow_parts
from snowmelt.standin.running import answer_of
from snowmelt.standin.session import Session

log = logging.getLogger("snowmelt.standin")

# How the connector reads the result of a statement that it did not wait for.
_RESULT_SCAN = re.compile(
    r"\s*select \* from table\(result_scan\('([^']+)'\)\)\s*;?\s*", re.IGNORECASE
)
_CHUNK_SIZE = "CLIENT_RESULT_CHUNK_SIZE"
_THREADS = 64
_REMEMBERED = 20_000
_INTERRUPT_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class Rules:
    """How statements are run and their results encoded."""

    sizes: Sizes
    compact: bool
    require_warehouse: bool


class Queries:
    """Runs statements on threads of its own; thread-safe."""

    def __init__(self, engine: Engine, faults: FaultBox, rules: Rules) -> None:
        self.results = Results()
        self._engine = engine
        self._faults = faults
        self._rules = rules
        self._lock = threading.Lock()
        self._queries: OrderedDict[str, Query] = OrderedDict()
        self._requests: dict[str, Query] = {}
        self._pool = ThreadPoolExecutor(_THREADS, thread_name_prefix="query")

    def submit(self, session: Session, request: Request) -> Query:
        """Start a statement. A request that came before is the same statement, not another."""
        tag = request.parameters.get("QUERY_TAG", session.parameters.get("QUERY_TAG", ""))
        with self._lock:
            known = self._requests.get(request.request_id) if request.request_id else None
            if known is not None and known.session.user == session.user:
                return known
            query = Query(request, session, str(tag or ""))
            self._queries[query.query_id] = query
            self._requests[request.request_id] = query
            while len(self._queries) > _REMEMBERED:
                _, gone = self._queries.popitem(last=False)
                self._requests.pop(gone.request.request_id, None)
        self._pool.submit(self._work, query)
        return query

    def find(self, query_id: str) -> Query | None:
        return self._queries.get(query_id)

    def by_request(self, request_id: str) -> Query | None:
        return self._requests.get(request_id)

    @property
    def running(self) -> tuple[Query, ...]:
        with self._lock:
            return tuple(one for one in self._queries.values() if not one.finished.is_set())

    def cancel(self, query: Query, why: StatementError | None = None) -> bool:
        """Stop the statement; whether it was still running. Waits until it has stopped."""
        if query.finished.is_set():
            return False
        query.stop = why or cancelled()
        query.stopped.set()
        deadline = time.monotonic() + _INTERRUPT_SECONDS
        # An interrupt that comes just before the statement starts is lost: so more than one.
        while not query.finished.is_set() and time.monotonic() < deadline:
            if query.executing:
                query.session.duck.interrupt()
            query.finished.wait(0.02)
        return True

    def _work(self, query: Query) -> None:
        limit = self._limit(query)
        timer = threading.Timer(limit, self.cancel, (query, timed_out(limit))) if limit else None
        if timer is not None:
            timer.daemon = True
            timer.start()
        try:
            with query.session.lock:
                query.result = self._executed(query)
        except StatementError as exc:
            query.error = exc
        except Exception as exc:  # a fault of the server's own: the client has to hear of it
            log.exception("statement %s: %s", query.query_id, query.request.text)
            query.error = StatementError(370001, "XX000", f"Internal error: {exc!r}")
        finally:
            query.ended = now()
            query.finished.set()
            if timer is not None:
                timer.cancel()

    def _limit(self, query: Query) -> int:
        name = "STATEMENT_TIMEOUT_IN_SECONDS"
        value = query.request.parameters.get(name, query.session.parameters.get(name, 0))
        return int(str(value or 0))

    def _executed(self, query: Query) -> Result:
        faults, text = self._faults.now, query.request.text
        self._check(query)
        if faults.denies(text):
            raise denied()
        seconds = faults.slow(text)
        if seconds:
            query.stopped.wait(seconds)
        self._check(query)
        again = _RESULT_SCAN.fullmatch(text)
        if again is not None:
            return self._repeated(query, again[1])
        query.executing = True
        try:
            answer = answer_of(self, query)
        except duckdb.InterruptException as exc:
            raise query.stop or cancelled() from exc
        finally:
            query.executing = False
        self._check(query)
        query.session.last_query = query.query_id
        result = self._result(query, answer)
        self.results.add(result)
        return result

    def _repeated(self, query: Query, query_id: str) -> Result:
        """The result of an earlier statement of the same user's, under the new statement's id."""
        found = self.results.get(query_id)
        if found is None or found.user != query.session.user:
            raise no_statement(query_id)
        data = {**found.data, "queryId": query.query_id}
        result = Result(query.query_id, found.user, data, found.chunks)
        self.results.add(result)
        return result

    def _check(self, query: Query) -> None:
        if query.stop is not None:
            raise query.stop

    def need_warehouse(self, session: Session) -> None:
        if self._rules.require_warehouse and session.warehouse is None:
            raise no_warehouse()

    def _result(self, query: Query, answer: Answer) -> Result:
        session = query.session
        rowtype = [one.type.rowtype(one.name, one.nullable) for one in answer.outputs]
        chunks: tuple[Chunk, ...] = ()
        if answer.table is not None:
            body, chunks = arrow_parts(
                answer.table,
                answer.outputs,
                self._rules.sizes.under(
                    session.parameters.get(_CHUNK_SIZE, _DEFAULTS[_CHUNK_SIZE])
                ),
                compact=self._rules.compact,
                gzip=self._faults.now.gzip,
            )
        else:
            body = _json(answer)
        data: dict[str, object] = {
            "parameters": parameter_list(session.parameters),
            "rowtype": rowtype,
            **body,
            "queryId": query.query_id,
            "databaseProvider": None,
            "finalDatabaseName": session.database,
            "finalSchemaName": session.schema,
            "finalWarehouseName": session.warehouse,
            "finalRoleName": session.role,
            "numberOfBinds": len(query.request.bindings),
            "arrayBindSupported": False,
            "statementTypeId": answer.type_id,
            "version": 1,
            "sendResultTime": now() // 1000,
        }
        return Result(query.query_id, session.user, data, chunks)

    def virtual_table(
        self, query: Query, database: str, name: str, arguments: Mapping[str, object]
    ) -> pa.Table | None:
        """A view or table function of INFORMATION_SCHEMA, as rows."""
        if name == "POLICY_REFERENCES":
            return information.policies(self._engine.catalogue, database, arguments)
        if name.startswith("QUERY_HISTORY"):
            own = query.session if name.endswith("SESSION") else None
            return self._history(query, own, arguments)
        return information.view(self._engine, database, name)

    def _history(
        self, query: Query, session: Session | None, arguments: Mapping[str, object]
    ) -> pa.Table:
        with self._lock:
            found = [
                one
                for one in reversed(self._queries.values())
                if one.session.user == query.session.user and session in (None, one.session)
            ]
        limit = int(str(arguments.get("RESULT_LIMIT", 100)))
        return information.rows_of(information.HISTORY, [_past(one) for one in found[:limit]])


def _past(query: Query) -> dict[str, object]:
    return {
        "QUERY_ID": query.query_id,
        "QUERY_TEXT": query.request.text,
        "DATABASE_NAME": query.session.database,
        "SCHEMA_NAME": query.session.schema,
        "SESSION_ID": query.session.number,
        "USER_NAME": query.session.user.upper(),
        "ROLE_NAME": query.session.role,
        "WAREHOUSE_NAME": query.session.warehouse,
        "QUERY_TAG": query.tag,
        "EXECUTION_STATUS": query.status,
        "ERROR_CODE": query.error.code if query.error else None,
        "ERROR_MESSAGE": query.error.message if query.error else None,
        "START_TIME": query.started,
        "END_TIME": query.ended,
        "TOTAL_ELAPSED_TIME": ((query.ended or now()) - query.started) // 1000,
    }


def _json(answer: Answer) -> dict[str, object]:
    rowset = [
        [json_value(value, one.type) for value, one in zip(row, answer.outputs, strict=True)]
        for row in answer.values
    ]
    size = len(rowset)
    return {"queryResultFormat": "json", "rowset": rowset, "total": size, "returned": size}


_DEFAULTS: Mapping[str, object] = {
    "TIMEZONE": "UTC",
    "AUTOCOMMIT": True,
    "CLIENT_PREFETCH_THREADS": 4,
    _CHUNK_SIZE: 160,
    "CLIENT_TELEMETRY_ENABLED": False,
    "CLIENT_SESSION_KEEP_ALIVE": False,
    "CLIENT_SESSION_KEEP_ALIVE_HEARTBEAT_FREQUENCY": 3600,
    "CLIENT_STAGE_ARRAY_BINDING_THRESHOLD": 0,
    "PYTHON_CONNECTOR_QUERY_RESULT_FORMAT": "arrow",
    "QUERY_RESULT_FORMAT": "arrow",
    "TIMESTAMP_OUTPUT_FORMAT": "YYYY-MM-DD HH24:MI:SS.FF3 TZHTZM",
    "TIMESTAMP_NTZ_OUTPUT_FORMAT": "YYYY-MM-DD HH24:MI:SS.FF3",
    "TIMESTAMP_LTZ_OUTPUT_FORMAT": "",
    "TIMESTAMP_TZ_OUTPUT_FORMAT": "",
    "DATE_OUTPUT_FORMAT": "YYYY-MM-DD",
    "TIME_OUTPUT_FORMAT": "HH24:MI:SS",
    "BINARY_OUTPUT_FORMAT": "HEX",
}


def parameter_list(parameters: Mapping[str, object]) -> list[dict[str, object]]:
    """The session's parameters as the protocol lists them."""
    known = {key: parameters.get(key, value) for key, value in _DEFAULTS.items()}
    return [{"name": key, "value": value} for key, value in known.items()]
