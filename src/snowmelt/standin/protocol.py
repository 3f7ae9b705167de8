"""The routes that Snowflake's clients use."""

from __future__ import annotations

import asyncio
import gzip
import json
from collections.abc import Mapping
from typing import Any

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route

from snowmelt.standin import spoil
from snowmelt.standin.catalogue import now
from snowmelt.standin.connections import break_off
from snowmelt.standin.failures import StatementError, no_statement
from snowmelt.standin.names import parts
from snowmelt.standin.queries import parameter_list
from snowmelt.standin.query import Query
from snowmelt.standin.query import Request as Statement
from snowmelt.standin.session import VERSION, Session
from snowmelt.standin.state import State

_VALID_SECONDS = 3600
_MASTER_VALID_SECONDS = 14400


async def _body(request: Request) -> dict[str, Any]:
    body = await request.body()
    if request.headers.get("content-encoding") == "gzip":
        body = gzip.decompress(body)
    document: dict[str, Any] = json.loads(body) if body else {}
    return document


def _success(data: object) -> JSONResponse:
    return JSONResponse({"data": data, "code": None, "message": None, "success": True})


def refused(error: StatementError, query_id: str | None = None) -> JSONResponse:
    """An answer that tells of an error: by its code, with HTTP status 200."""
    data = {
        "internalError": False,
        "errorCode": error.code,
        "sqlState": error.sqlstate,
        "queryId": query_id,
        "age": 0,
    }
    return JSONResponse(
        {"data": data, "code": error.code, "message": error.message, "success": False}
    )


def _token(request: Request) -> str:
    return request.headers.get("authorization", "")[len('Snowflake Token="') : -1]


class Clients:
    """Answers clients; `state` is the whole server's."""

    def __init__(self, state: State) -> None:
        self._state = state

    @property
    def routes(self) -> list[BaseRoute]:
        post, get = ["POST"], ["GET"]
        return [
            Route("/session/v1/login-request", self.login, methods=post),
            Route("/session/token-request", self.renew, methods=post),
            Route("/session/heartbeat", self.heartbeat, methods=post),
            Route("/session", self.session, methods=post),
            Route("/queries/v1/query-request", self.query, methods=post),
            Route("/queries/v1/abort-request", self.abort, methods=post),
            Route("/queries/{query_id}/abort-request", self.abort, methods=post),
            Route("/queries/{query_id}/result", self.result, methods=get),
            Route("/monitoring/queries/{query_id}", self.monitoring, methods=get),
            Route("/chunk/{query_id}/{number:int}", self.chunk, methods=get),
            Route("/telemetry/send", self.telemetry, methods=post),
            Route("/telemetry/send/sessionless", self.telemetry, methods=post),
        ]

    async def login(self, request: Request) -> Response:
        self._state.counts.login()
        data = (await _body(request)).get("data", {})
        try:
            if self._state.faults.take("refuse_logins"):
                raise StatementError(
                    390100, "08001", "Incorrect username or password was specified."
                )
            user = self._state.users.verified(data)
            given = {**data.get("SESSION_PARAMETERS", {})}
            answer = await run_in_threadpool(self._opened, user, given, request.query_params)
        except StatementError as exc:
            return refused(exc)
        return _success(answer)

    def _opened(
        self, user: str, parameters: Mapping[str, object], query: Mapping[str, str]
    ) -> dict[str, object]:
        session, token, master = self._state.sessions.open(user)
        session.parameters.update({key.upper(): value for key, value in parameters.items()})
        if warehouse := query.get("warehouse"):
            session.warehouse = parts(warehouse)[-1]
        if role := query.get("roleName"):
            session.role = parts(role)[-1]
        database, schema = (
            parts(query[name])[-1] if query.get(name) else None
            for name in ("databaseName", "schemaName")
        )
        catalogue = self._state.engine.catalogue
        # A name that there is nothing of is no error at login: the session just has no database.
        if database in catalogue.databases and database is not None:
            known = schema in catalogue.schemas(database) or schema == "INFORMATION_SCHEMA"
            session.move(database, schema if known else "PUBLIC" if schema is None else None)
        return self._session_data(session, token, master)

    def _session_data(self, session: Session, token: str, master: str) -> dict[str, object]:
        return {
            "token": token,
            "masterToken": master,
            "validityInSeconds": _VALID_SECONDS,
            "masterValidityInSeconds": _MASTER_VALID_SECONDS,
            "displayUserName": session.user.upper(),
            "serverVersion": VERSION,
            "firstLogin": False,
            "remMeToken": None,
            "remMeValidityInSeconds": 0,
            "healthCheckInterval": 45,
            "newClientForUpgrade": None,
            "sessionId": session.number,
            "idToken": None,
            "idTokenValidityInSeconds": 0,
            "parameters": parameter_list(session.parameters),
            "sessionInfo": {
                "databaseName": session.database,
                "schemaName": session.schema,
                "warehouseName": session.warehouse,
                "roleName": session.role,
            },
        }

    async def renew(self, request: Request) -> Response:
        try:
            session, token = self._state.sessions.renew(_token(request))
        except StatementError as exc:
            return refused(exc)
        return _success(
            {
                "sessionToken": token,
                "validityInSecondsST": _VALID_SECONDS,
                "masterToken": _token(request),
                "validityInSecondsMT": _MASTER_VALID_SECONDS,
                "sessionId": session.number,
            }
        )

    async def heartbeat(self, request: Request) -> Response:
        try:
            self._state.sessions.find(_token(request))
        except StatementError as exc:
            return refused(exc)
        return _success(None)

    async def session(self, request: Request) -> Response:
        if request.query_params.get("delete"):
            await run_in_threadpool(self._state.sessions.close, _token(request))
        return _success(None)

    async def telemetry(self, request: Request) -> Response:
        return _success("Log Received")

    async def query(self, request: Request) -> Response:
        body = await _body(request)
        try:
            session = self._state.sessions.find(_token(request))
        except StatementError as exc:
            return refused(exc)
        if self._state.faults.take("unavailable_queries"):
            return Response(status_code=503)
        sent = Statement(
            request.query_params.get("requestId", ""),
            body.get("sqlText", ""),
            body.get("bindings") or {},
            {key.upper(): value for key, value in (body.get("parameters") or {}).items()},
            bool(body.get("describeOnly")),
        )
        query = self._state.queries.submit(session, sent)
        self._state.counts.query(sent.text, query.tag)
        if body.get("asyncExec"):
            return self._in_progress(query, "333334")
        if self._state.faults.take("drop_queries"):
            await self._finished(query, None)
            break_off(request)
            return Response()
        return await self._answer(query, request)

    async def _finished(self, query: Query, seconds: float | None) -> bool:
        return await run_in_threadpool(query.finished.wait, seconds)

    async def _answer(self, query: Query, request: Request) -> Response:
        if not await self._finished(query, self._state.ping_pong_seconds):
            return self._in_progress(query, "333333")
        if query.error is not None:
            return refused(query.error, query.query_id)
        return await self._data(query.query_id, query.session.user, request)

    async def _data(self, query_id: str, user: str, request: Request) -> Response:
        result = self._state.queries.results.get(query_id)
        if result is None or result.user != user:
            return refused(no_statement(query_id), query_id)
        faults = self._state.faults
        data = spoil.answer(
            self._state.queries.results.answer(result, str(request.base_url).rstrip("/")),
            short=result.data.get("queryResultFormat") == "arrow" and faults.take("short_inline"),
            empty=result.data.get("queryResultFormat") == "arrow" and faults.take("empty_inline"),
        )
        return await run_in_threadpool(_success, data)

    def _in_progress(self, query: Query, code: str) -> Response:
        data = {
            "queryId": query.query_id,
            "getResultUrl": f"/queries/{query.query_id}/result",
            "queryAbortsAfterSecs": 300,
            "progressDesc": None,
        }
        message = "Query execution in progress."
        return JSONResponse({"data": data, "code": code, "message": message, "success": True})

    async def result(self, request: Request) -> Response:
        query_id = request.path_params["query_id"]
        try:
            session = self._state.sessions.find(_token(request))
        except StatementError as exc:
            return refused(exc)
        query = self._state.queries.find(query_id)
        if query is None or query.session.user != session.user:
            return refused(no_statement(query_id), query_id)
        return await self._answer(query, request)

    async def abort(self, request: Request) -> Response:
        try:
            session = self._state.sessions.find(_token(request))
        except StatementError as exc:
            return refused(exc)
        queries = self._state.queries
        query_id = request.path_params.get("query_id")
        if query_id is not None:
            query = queries.find(query_id)
        else:
            query = queries.by_request(str((await _body(request)).get("requestId", "")))
        if query is None or query.session.user != session.user:
            return refused(StatementError(605, "02000", "Identified query not found."))
        await run_in_threadpool(queries.cancel, query)
        return _success(None)

    async def monitoring(self, request: Request) -> Response:
        try:
            session = self._state.sessions.find(_token(request))
        except StatementError as exc:
            return refused(exc)
        query = self._state.queries.find(request.path_params["query_id"])
        if query is None or query.session.user != session.user:
            return _success({"queries": []})
        one = {
            "id": query.query_id,
            "status": query.status,
            "state": query.status,
            "sqlText": query.request.text,
            "startTime": query.started // 1000,
            "endTime": (query.ended or 0) // 1000,
            "totalDuration": ((query.ended or now()) - query.started) // 1000,
            "errorCode": query.error.code if query.error else None,
            "errorMessage": query.error.message if query.error else None,
        }
        return _success({"queries": [one]})

    async def chunk(self, request: Request) -> Response:
        counts, faults = self._state.counts, self._state.faults
        counts.chunk_starts()
        size = 0
        try:
            if faults.now.chunk_latency_seconds:
                await asyncio.sleep(faults.now.chunk_latency_seconds)
            response = await run_in_threadpool(self._chunk, request)
            if response.status_code == 200 and faults.take("drop_chunks"):
                return _Halved(response, request)
            size = len(response.body) if response.status_code == 200 else 0
            return response
        finally:
            counts.chunk_ends(size)

    def _chunk(self, request: Request) -> Response:
        number, faults = request.path_params["number"], self._state.faults
        if number in faults.now.fail_chunk_numbers:
            return Response(status_code=500)
        if faults.unavailable():
            return Response(status_code=503)
        result = self._state.queries.results.get(request.path_params["query_id"])
        if (
            faults.take("forbid_chunks")
            or result is None
            or request.query_params.get("sig") != result.signature
            or number >= len(result.chunks)
        ):
            return Response("<Error><Code>AccessDenied</Code></Error>", status_code=403)
        chunk = result.chunks[number]
        body = spoil.chunk_body(
            chunk, short=faults.take("short_chunks"), wrong_width=faults.take("wrong_width")
        )
        headers = {"content-encoding": "gzip"} if chunk.gzip == "header" else {}
        return Response(body, media_type="application/octet-stream", headers=headers)


class _Halved(Response):
    """Half of a response's body, and the connection breaks off."""

    def __init__(self, whole: Response, request: Request) -> None:
        super().__init__(whole.body, whole.status_code)
        self._request = request
        self.raw_headers = whole.raw_headers

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        start = {"status": self.status_code, "headers": self.raw_headers}
        await send({"type": "http.response.start", **start})
        half = bytes(self.body)[: len(self.body) // 2]
        await send({"type": "http.response.body", "body": half, "more_body": True})
        await asyncio.sleep(0.05)  # so that the half is on its way
        break_off(self._request)
        await send({"type": "http.response.body", "body": b"\0" * (len(self.body) - len(half))})
