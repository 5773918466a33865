"""`python -m schemaseal.devstack.clickhouse`: stand-in for a ClickHouse server, on the real engine (chDB).

Speaks enough of ClickHouse's HTTP interface for an unmodified clickhouse-connect: queries, `INSERT … FORMAT
Native`, parameters, `/ping`. It checks users itself, because the engine in-process knows none:

    admin    one statement a request, anything but other files: migrations
    writer   inserts into the tables of `evidence`, and SELECT on them
    auditor  one SELECT on the views of `evidence`, known functions, no settings, in limits of time and memory

The users file holds digests only, the process starts itself again with an empty environment, and sealed
parts are served by another process on another data path: nothing secret is within reach of a query.
"""

from __future__ import annotations

import argparse
import base64
import binascii
import hashlib
import hmac
import json
import os
import re
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import anyio
import anyio.to_thread
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from schemaseal.devstack.engine import DATABASE, Engine, EngineError
from schemaseal.devstack.guard import FORMATS, QueryRefused, check_select, explainable, single

Role = Literal["admin", "writer", "auditor"]
READERS = 8  # audit queries at a time; more wait
KEPT = ("PATH", "LANG", "TMPDIR")
# Of the request's parameters these travel with a query and change nothing about it.
TRANSPORT = frozenset(
    [
        "query",
        "database",
        "default_format",
        "query_id",
        "session_id",
        "session_timeout",
        "session_check",
        "wait_end_of_query",
        "buffer_size",
        "send_progress_in_http_headers",
        "http_headers_progress_interval_ms",
        "enable_http_compression",
        "compress",
        "decompress",
        "client_protocol_version",
        "http_compression_method",
        "date_time_input_format",
        "cast_string_to_dynamic_use_inference",
        "cancel_http_readonly_queries_on_client_close",
        "role",
        "user",
        "password",
    ]
)
TOKEN_SETTING = "insert_deduplication_token"
_TOKEN = re.compile(r"[A-Za-z0-9./:_-]{1,200}")
_INSERT = re.compile(
    rb"\s*INSERT\s+INTO\s+(?:`?" + DATABASE.encode() + rb"`?\s*\.\s*)?`?(?P<table>[a-z_]+)`?\s*"
    rb"\((?P<columns>[`a-z0-9_,\s]+)\)\s*FORMAT\s+Native[ \t]*\r?\n",
    re.IGNORECASE,
)
_FILES = re.compile(r"\b(INFILE|OUTFILE)\b", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Users:
    """Name → SHA-256 of the password (hex) and role."""

    entries: dict[str, dict[str, str]]

    def role(self, name: str, password: str) -> Role | None:
        """The user's role if the password is right, else None; takes the same time either way."""
        entry = self.entries.get(name, {"password_sha256": "", "role": ""})
        digest = hashlib.sha256(password.encode()).hexdigest()
        if not hmac.compare_digest(digest, entry["password_sha256"]):
            return None
        role: Role = entry["role"]  # type: ignore[assignment]
        return role


@dataclass(frozen=True, slots=True)
class Query:
    """A statement, its parameters (as the HTTP interface takes them: escaped like TSV), the result's format."""

    text: str
    parameters: dict[str, str]
    fmt: str


class Endpoint:
    """The HTTP handlers over one engine."""

    def __init__(self, engine: Engine, users: Users) -> None:
        self._engine, self._users = engine, users
        # Threads of their own, so that any number of slow audit queries leaves some for an insert.
        self._readers = anyio.CapacityLimiter(READERS)

    def app(self) -> Starlette:
        async def ping(_request: Request) -> Response:
            return PlainTextResponse("Ok.\n")

        return Starlette(
            routes=[Route("/ping", ping), Route("/", self.handle, methods=["GET", "POST"])],
        )

    async def handle(self, request: Request) -> Response:
        role = self._role(request)
        if role is None:
            return _error(401, 516, "authentication failed: the password is incorrect, or there is no such user")
        body = await request.body()
        try:
            insert = _INSERT.match(body)
            if insert is not None and "query" not in request.query_params:
                data = await anyio.to_thread.run_sync(self._insert, role, request, insert, body)
            else:
                query = _query(request, body)
                limiter = self._readers if role == "auditor" else None
                data = await anyio.to_thread.run_sync(self._query, role, query, limiter=limiter)
        except QueryRefused as refused:
            return _error(403, 497, f"refused: {refused}")
        except EngineError as error:
            return _error(404 if error.code in (60, 81) else 400, error.code, str(error))
        return Response(data, headers={"X-ClickHouse-Timezone": "UTC", "Content-Type": "application/octet-stream"})

    def _role(self, request: Request) -> Role | None:
        name = request.headers.get("x-clickhouse-user", "")
        password = request.headers.get("x-clickhouse-key", "")
        scheme, _, encoded = request.headers.get("authorization", "").partition(" ")
        if scheme.lower() == "basic":
            try:
                name, _, password = base64.b64decode(encoded, validate=True).decode().partition(":")
            except (binascii.Error, UnicodeDecodeError):
                return None
        return self._users.role(name, password)

    def _insert(self, role: Role, request: Request, found: re.Match[bytes], body: bytes) -> bytes:
        if role == "auditor":
            raise QueryRefused("an auditor reads; nobody but the evidence service writes")
        token = request.query_params.get(TOKEN_SETTING)
        if token is not None and not _TOKEN.fullmatch(token):
            raise QueryRefused(f"{TOKEN_SETTING} may hold letters, digits and ./:_-")
        _no_settings(request, TRANSPORT | {TOKEN_SETTING})
        table = found["table"].decode()
        if table.startswith("_") or f"{DATABASE}.{table}" not in self._engine.allowed(views_only=False).tables:
            raise QueryRefused(f"{table} is not a table of {DATABASE}")
        self._engine.insert(table, found["columns"].decode(), body[found.end() :], token)
        return b""

    def _query(self, role: Role, query: Query) -> bytes:
        statement = single(query.text)
        if role == "admin":
            if _FILES.search(statement):
                raise QueryRefused("INFILE and OUTFILE are not allowed")
            return self._engine.run(statement, query.parameters, query.fmt)
        allowed = self._engine.allowed(views_only=role == "auditor")
        check_select(self._engine.explain(explainable(statement), query.parameters), allowed)
        # The writer's client must see that it may send a deduplication token, so its session is not readonly.
        return self._engine.run(statement, query.parameters, query.fmt, readonly=role == "auditor")


def _query(request: Request, body: bytes) -> Query:
    _no_settings(request, TRANSPORT)
    text = request.query_params.get("query", "")
    try:
        text = f"{text} {body.decode()}" if text else body.decode()
    except UnicodeDecodeError as error:
        raise QueryRefused("the query is not UTF-8") from error
    database = request.query_params.get("database", DATABASE)
    if database not in (DATABASE, "default", "system", ""):
        raise QueryRefused(f"the only database is {DATABASE}")
    fmt = request.headers.get("x-clickhouse-format") or request.query_params.get("default_format", "TabSeparated")
    if fmt not in FORMATS:
        raise QueryRefused(f"the format {fmt[:40]} is not served")
    return Query(text, {k[6:]: v for k, v in request.query_params.items() if k.startswith("param_")}, fmt)


def _no_settings(request: Request, known: frozenset[str]) -> None:
    for name in request.query_params:
        if name not in known and not name.startswith("param_"):
            raise QueryRefused(f"the setting {name} cannot be set by clients")


def _error(status: int, code: int, text: str) -> Response:
    body = text if text.startswith("Code: ") else f"Code: {code}. DB::Exception: {text}"
    headers = {"X-ClickHouse-Exception-Code": str(code)}
    if status == 401:
        headers["WWW-Authenticate"] = 'Basic realm="ClickHouse"'
    return PlainTextResponse(body + "\n", status, headers)


def main() -> int:
    parser = argparse.ArgumentParser(description="ClickHouse's HTTP interface on the engine in-process")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--users", type=Path, required=True)
    parser.add_argument("--clean", action="store_true", help="the environment is clean already")
    arguments = parser.parse_args()
    if not arguments.clean:
        # What stood in the environment at the start stays readable in /proc for as long as the process lives.
        environment = {name: os.environ[name] for name in KEPT if name in os.environ}
        again = [sys.executable, "-m", "schemaseal.devstack.clickhouse", *sys.argv[1:], "--clean"]
        os.execve(sys.executable, again, environment)  # noqa: S606
    users = Users(json.loads(arguments.users.read_text("utf-8")))
    engine = Engine(arguments.data)
    try:
        uvicorn.run(Endpoint(engine, users).app(), host="127.0.0.1", port=arguments.port, log_level="warning")
    finally:
        engine.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
