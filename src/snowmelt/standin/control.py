"""Routes under /standin/, by which the handle of the server directs it."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import pyarrow as pa
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route

from snowmelt.standin.catalogue import Column, Policy, Table
from snowmelt.standin.failures import StatementError
from snowmelt.standin.faults import Faults
from snowmelt.standin.loading import Load, load
from snowmelt.standin.names import TableName
from snowmelt.standin.state import State
from snowmelt.standin.types import parsed


class Control:
    """Answers the handle; `state` is the whole server's."""

    def __init__(self, state: State) -> None:
        self._state = state

    @property
    def routes(self) -> list[BaseRoute]:
        return [
            Route("/standin/table", self.table, methods=["POST"]),
            Route("/standin/{action}", self.act, methods=["POST"]),
        ]

    async def table(self, request: Request) -> Response:
        """A JSON line that describes the table; behind it its rows as an Arrow stream, if any."""
        line, _, stream = (await request.body()).partition(b"\n")
        document: dict[str, Any] = json.loads(line)
        try:
            await run_in_threadpool(self._load, document, stream)
        except (StatementError, pa.ArrowException, ValueError) as exc:
            return JSONResponse({"error": str(exc)}, status_code=400)
        return JSONResponse({})

    def _load(self, document: dict[str, Any], stream: bytes) -> None:
        columns = tuple(
            Column(one["name"], parsed(one["type"]), one["nullable"], None, one["masking_policy"])
            for one in document["columns"]
        )
        table = Table(
            TableName(*document["name"]),
            columns,
            tuple(document["primary_key"]),
            document["retention_days"],
            document["transient"],
            created=0,  # as if it had been there all along
        )
        rows = pa.ipc.open_stream(stream).read_all() if stream else None
        try:
            load(self._state.engine, table, Load(rows, document["query"]))
        except Exception as exc:
            raise ValueError(f"{table.name}: {exc}") from exc

    async def act(self, request: Request) -> Response:
        body = await request.body()
        document: dict[str, Any] = json.loads(body) if body else {}
        action = getattr(self, f"_{request.path_params['action']}", None)
        if action is None:
            return JSONResponse({"error": "no such action"}, status_code=404)
        try:
            answer = await run_in_threadpool(action, document)
        except (StatementError, TypeError) as exc:
            return JSONResponse({"error": str(exc)}, status_code=400)
        return JSONResponse(answer)

    def _ping(self, _: dict[str, Any]) -> object:
        return {}

    def _faults(self, document: dict[str, Any]) -> object:
        numbers = tuple(document.pop("fail_chunk_numbers", ()))
        self._state.faults.set(Faults(**document, fail_chunk_numbers=numbers))
        return {}

    def _stats(self, _: dict[str, Any]) -> object:
        return dataclasses.asdict(self._state.counts.now)

    def _reset_stats(self, _: dict[str, Any]) -> object:
        self._state.counts.reset()
        return {}

    def _forget_history(self, document: dict[str, Any]) -> object:
        table = self._state.engine.catalogue.get(TableName(*document["name"]))
        with table.lock:
            self._state.engine.discard(table.forget())
            table.changes += 1
        return {}

    def _set_policies(self, document: dict[str, Any]) -> object:
        catalogue = self._state.engine.catalogue
        table = catalogue.get(TableName(*document["name"]))
        policies = tuple(Policy(*one) for one in document["policies"])
        catalogue.changed(table, policies=policies)
        return {}

    def _forget_results(self, _: dict[str, Any]) -> object:
        self._state.queries.results.forget()
        return {}

    def _expire_urls(self, _: dict[str, Any]) -> object:
        self._state.queries.results.expire_urls()
        return {}

    def _expire_sessions(self, document: dict[str, Any]) -> object:
        self._state.sessions.expire(master=bool(document.get("master")))
        return {}

    def _running(self, _: dict[str, Any]) -> object:
        return [query.query_id for query in self._state.queries.running]
