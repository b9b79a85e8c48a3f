"""The HTTP server of `speclab up --listen`: metrics, health, runs that other tools report, and heartbeat URLs.

Handlers touch the run log in threads, so that a slow disk does not delay the scheduler. A caller gets a JSON document
(RFC 9457) for each error, with the location of invalid values, and never a traceback.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import partial
from http import HTTPStatus
from pathlib import Path
from threading import Lock
from typing import Any, Final, TypeVar

import orjson
from aiohttp import web
from pydantic import ValidationError

from speclab import __version__
from speclab.core.clock import Clock
from speclab.core.errors import RunEnded, RunNotFound, SpeclabError, UsageError
from speclab.core.json import Json, JsonView
from speclab.core.outcome import Level
from speclab.monitor.metrics import MetricsCollector
from speclab.runlog import RunLog, RunLogReader, run_json
from speclab.runlog.reports import (
    FailureReported,
    ProgressReported,
    Report,
    RunEndReported,
    RunReports,
    RunStarted,
    get_last_lines,
)
from speclab.service import heartbeat
from speclab.service.openapi import JSON, MAX_PING, PROBLEM, ROUTES, ApiRoute, build_openapi
from speclab.service.spec_registry import is_run_here

MAX_BODY: Final = 1024 * 1024
"""Maximum size of a report, in bytes."""
PING_LINES: Final = 20
"""Last lines of the body of a ping that are logged."""
BODY_TIMEOUT: Final = 15.0
"""Seconds in which a body must arrive."""
MIN_TOKEN: Final = 16
MAX_WAITING: Final = 100
"""Maximum requests in progress; further ones are refused with 503."""
_LOOPBACK: Final = ("127.0.0.1", "::1", "localhost")

ReportT = TypeVar("ReportT", bound=Report)
Work = TypeVar("Work")


@dataclass(frozen=True, slots=True)
class ListenOptions:
    """The address of the server, and the bearer token that it requires; without one, only this machine has access."""

    host: str
    port: int
    token: str = field(default="", repr=False)

    @classmethod
    def parse(cls, address: str, token: str = "") -> ListenOptions:
        """Parse `HOST:PORT`, `[IPv6]:PORT`, `:PORT` (all interfaces) or `PORT` (this machine).

        Raises `UsageError` if it is invalid, or if other machines have access and there is no token.
        """
        match = re.fullmatch(r"(?:(?P<host>\[[0-9A-Fa-f:.]+\]|[^:\[\]]*):)?(?P<port>\d{1,5})", address.strip())
        if match is None or int(match["port"]) > 65535:
            raise UsageError(
                f"--listen: expected HOST:PORT, got {address!r}", hint="Examples: 127.0.0.1:9464, [::1]:9464, :9464."
            )
        host = "127.0.0.1" if match["host"] is None else match["host"].strip("[]") or "0.0.0.0"  # noqa: S104
        if token and len(token) < MIN_TOKEN:
            raise UsageError(
                f"--token: the token has fewer than {MIN_TOKEN} characters", hint="`openssl rand -hex 32` makes one."
            )
        if not token and host not in _LOOPBACK:
            raise UsageError(
                f"--listen {address}: other machines would have access without a token",
                hint="Add --token '${env:SPECLAB_TOKEN}', or listen on 127.0.0.1.",
            )
        return cls(host, int(match["port"]), token)


def build_ping_token(name: str, token: str) -> str:
    """Return the last part of the heartbeat URL of an integration: its name, signed with the token of the server."""
    if not token:
        return name
    return f"{name}.{hmac.new(token.encode(), f'ping {name}'.encode(), hashlib.sha256).hexdigest()[:32]}"


class ApiProblem(Exception):
    """A request that is refused: the status, the reason, and the locations of invalid values."""

    def __init__(
        self, status: HTTPStatus, detail: str, *, hint: str = "", errors: list[dict[str, str]] | None = None
    ) -> None:
        super().__init__(detail)
        self.status = status
        self.detail = detail
        self.hint = hint
        self.errors = errors or []

    def build_response(self) -> web.Response:
        """Return the response, as of RFC 9457."""
        body: dict[str, Any] = {"title": self.status.phrase, "status": self.status.value, "detail": self.detail}
        body |= ({"hint": self.hint} if self.hint else {}) | ({"errors": self.errors} if self.errors else {})
        headers = {"WWW-Authenticate": "Bearer"} if self.status is HTTPStatus.UNAUTHORIZED else None
        return web.Response(status=self.status, body=orjson.dumps(body), content_type=PROBLEM, headers=headers)


class HttpApi:
    """The handlers, on the run log of one workspace."""

    def __init__(self, options: ListenOptions, workspace: Path, runlog: Path, clock: Clock) -> None:
        self.token = options.token
        self.hosts = {*_LOOPBACK, options.host}
        self._workspace = workspace
        self._clock = clock
        self._log = RunLog.open(runlog, clock)
        self._reader = RunLogReader.open(runlog)
        self._reports = RunReports(self._log, RunLogReader.open(runlog), partial(is_run_here, workspace))
        self._metrics = MetricsCollector(self._reader)
        self._writing, self._reading = Lock(), Lock()
        self._in_progress = 0

    def close(self) -> None:
        """Close the run log."""
        self._log.close()
        self._reader.close()
        self._reports.close()

    def build_application(self) -> web.Application:
        """Return the application with all routes."""
        app = web.Application(client_max_size=MAX_BODY, middlewares=[self._guard])
        for route in ROUTES:
            handler = self._bind(route)
            app.router.add_route(route.method, route.path, handler)
            if route.method == "GET":
                app.router.add_route("HEAD", route.path, handler)
        return app

    def _bind(self, route: ApiRoute) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
        operation: Callable[[web.Request], Awaitable[web.StreamResponse]] = getattr(self, route.operation)

        async def handle(request: web.Request) -> web.StreamResponse:
            if route.access == "bearer":
                self._require_token(request)
            return await operation(request)

        return handle

    @web.middleware
    async def _guard(
        self, request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
    ) -> web.StreamResponse:
        """Answer every error with a JSON document, and limit the number of requests in progress."""
        self._in_progress += 1
        try:
            self._refuse_browsers(request)
            if self._in_progress > MAX_WAITING:
                raise ApiProblem(HTTPStatus.SERVICE_UNAVAILABLE, f"more than {MAX_WAITING} requests in progress")
            return await handler(request)
        except ApiProblem as problem:
            return problem.build_response()
        except RunNotFound as error:
            return ApiProblem(HTTPStatus.NOT_FOUND, error.message, hint=error.hint).build_response()
        except RunEnded as error:
            return ApiProblem(HTTPStatus.CONFLICT, error.message, hint=error.hint).build_response()
        except SpeclabError as error:
            status = HTTPStatus.CONFLICT if isinstance(error, UsageError) else HTTPStatus.SERVICE_UNAVAILABLE
            return ApiProblem(status, error.message, hint=error.hint).build_response()
        except web.HTTPException as error:  # no route, wrong method, body too large
            response = ApiProblem(HTTPStatus(error.status), _describe(request, error)).build_response()
            if "Allow" in error.headers:
                response.headers["Allow"] = error.headers["Allow"]
            return response
        finally:
            self._in_progress -= 1

    def _refuse_browsers(self, request: web.Request) -> None:
        """Refuse requests that a web page makes: without a token, every page that a user opens could report runs."""
        if request.headers.get("Sec-Fetch-Site", "none") not in ("none", "same-origin"):
            raise ApiProblem(HTTPStatus.FORBIDDEN, "requests from web pages are not allowed")
        host = re.sub(r":\d*$", "", request.headers.get("Host", "")).strip("[]")
        if not self.token and host not in self.hosts:
            raise ApiProblem(HTTPStatus.FORBIDDEN, f"the host {host!r} is not this server")

    def _require_token(self, request: web.Request) -> None:
        if not self.token:
            return
        scheme, _, given = request.headers.get("Authorization", "").partition(" ")
        if scheme.lower() != "bearer" or not _is_same(given.strip(), self.token):
            raise ApiProblem(
                HTTPStatus.UNAUTHORIZED, "the token is missing or wrong", hint="Send `Authorization: Bearer TOKEN`."
            )

    async def get_metrics(self, request: web.Request) -> web.Response:
        """Return the metrics in the format of the Accept header."""
        body, content_type = await asyncio.to_thread(self._render_metrics, request.headers.get("Accept", ""))
        return web.Response(body=body, headers={"Content-Type": content_type})

    def _render_metrics(self, accept: str) -> tuple[bytes, str]:
        with self._reading:
            beat = heartbeat.read_heartbeat(self._workspace)
            self._metrics.now = self._clock.now()
            self._metrics.beat = datetime.fromisoformat(beat.beat) if beat else None
            self._metrics.due = heartbeat.get_due(beat) if beat else {}
            return self._metrics.render(accept)

    async def get_health(self, _request: web.Request) -> web.Response:
        """Return that the process runs."""
        return _respond({"status": "ok", "version": __version__})

    async def get_readiness(self, _request: web.Request) -> web.Response:
        """Return whether the scheduler works: 503 with the reasons if not."""
        reasons = await asyncio.to_thread(self._find_unready)
        if reasons:
            problem = ApiProblem(HTTPStatus.SERVICE_UNAVAILABLE, "; ".join(reasons))
            return problem.build_response()
        return _respond({"status": "ready"})

    def _find_unready(self) -> list[str]:
        beat = heartbeat.read_heartbeat(self._workspace)
        if beat is None:
            return ["the scheduler has not started"]
        reasons = []
        if beat.stopping or beat.stopped:
            reasons.append("the scheduler is stopping")
        if self._clock.now() - datetime.fromisoformat(beat.beat) > timedelta(seconds=3 * heartbeat.PERIOD):
            reasons.append(f"the last heartbeat of the scheduler was at {beat.beat}")
        try:
            with self._reading:
                self._reader.get_last_event_id()
        except SpeclabError as error:
            reasons.append(error.message)
        return reasons

    async def get_openapi(self, _request: web.Request) -> web.Response:
        """Return the OpenAPI document."""
        return _respond(build_openapi())

    async def start_run(self, request: web.Request) -> web.Response:
        """Start a run."""
        report = await _read_report(request, RunStarted)
        row = await self._write(self._reports.start, report)
        return _respond(run_json(row), HTTPStatus.CREATED, {"Location": f"/runs/{row.run}"})

    async def get_run(self, request: web.Request) -> web.Response:
        """Return a run."""
        return _respond(run_json(await self._write(self._reports.get, request.match_info["run"])))

    async def add_progress(self, request: web.Request) -> web.Response:
        """Add counts to a run."""
        report = await _read_report(request, ProgressReported)
        return _respond(run_json(await self._write(self._reports.add, request.match_info["run"], report)))

    async def add_failure(self, request: web.Request) -> web.Response:
        """Add a dead letter to a run."""
        report = await _read_report(request, FailureReported)
        return _respond(run_json(await self._write(self._reports.fail, request.match_info["run"], report)))

    async def end_run(self, request: web.Request) -> web.Response:
        """End a run."""
        report = await _read_report(request, RunEndReported)
        return _respond(run_json(await self._write(self._reports.end, request.match_info["run"], report)))

    async def ping(self, request: web.Request) -> web.Response:
        """Report a run by heartbeat URLs."""
        signal = request.match_info.get("signal", "success")
        if signal not in ("success", "start", "fail", "log") and not (signal.isdecimal() and int(signal) <= 255):
            raise ApiProblem(HTTPStatus.NOT_FOUND, f"expected start, fail, log or an exit code, got {signal!r}")
        name = self._find_pinged(request.match_info["token"])
        body = await _read_body(request, MAX_PING, cut=True)
        report = _validate(RunStarted, {"integration": name, "trigger": "ping"})
        await self._write(self._record_ping, report, signal, get_last_lines(body, PING_LINES))
        return web.Response(text="OK")

    def _find_pinged(self, token: str) -> str:
        name = token.rpartition(".")[0] if self.token else token
        if not _is_same(token, build_ping_token(name, self.token)):
            raise ApiProblem(HTTPStatus.NOT_FOUND, "the heartbeat URL is wrong", hint="'speclab log url' prints it.")
        return name

    def _record_ping(self, started: RunStarted, signal: str, lines: list[str]) -> None:
        """Record a ping: `start` begins a run, `log` adds to it, and the others end it, or a new run of no duration."""
        found = self._reports.find_open(started.integration, started.trigger)
        if signal == "start" and found is not None:
            self._reports.interrupt(found, "another start was reported before the end")
            found = None
        run = found or self._reports.start(started).run
        failed = signal == "fail" or (signal.isdecimal() and int(signal) > 0)
        self._reports.log_lines(run, lines, Level.WARNING if failed else Level.INFO)
        if signal in ("start", "log"):
            return
        error = f"exit code {signal}" if signal.isdecimal() else "fail was reported"
        last = f": {lines[-1]}" if lines else ""
        end = {"status": "failed", "error": f"{error}{last}"} if failed else {}
        self._reports.end(run, RunEndReported.model_validate(end))

    async def _write(self, work: Callable[..., Work], *arguments: object) -> Work:
        """Do `work` on the run log in a thread, one at a time."""

        def locked() -> Work:
            with self._writing:
                return work(*arguments)

        return await asyncio.to_thread(locked)


@asynccontextmanager
async def open_http_api(options: ListenOptions, workspace: Path, runlog: Path, clock: Clock) -> AsyncIterator[str]:
    """Serve until the block ends; yields the base URL. Raises `SpeclabError` if the address cannot be used."""
    api = HttpApi(options, workspace, runlog, clock)
    runner = web.AppRunner(api.build_application(), access_log=None, shutdown_timeout=2.0)  # pings have tokens in URLs
    try:
        await runner.setup()
        try:
            await web.TCPSite(runner, options.host, options.port).start()
        except OSError as error:
            raise SpeclabError(
                f"cannot listen on {options.host}:{options.port}: {error.strerror or error}",
                hint="Choose another address with --listen.",
            ) from error
        host, port = runner.addresses[0][:2]
        yield f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
    finally:
        await runner.cleanup()
        api.close()


def _respond(
    body: JsonView, status: HTTPStatus = HTTPStatus.OK, headers: Mapping[str, str] | None = None
) -> web.Response:
    return web.Response(status=status, body=orjson.dumps(body), content_type=JSON, headers=headers)


def _is_same(given: str, expected: str) -> bool:
    """Compare in constant time, for any length."""
    digests = (hashlib.sha256(text.encode("utf-8", "surrogateescape")).digest() for text in (given, expected))
    return hmac.compare_digest(*digests)


def _describe(request: web.Request, error: web.HTTPException) -> str:
    if error.status == HTTPStatus.NOT_FOUND:
        return f"there is nothing at {request.path}; /openapi.json lists what there is"
    if error.status == HTTPStatus.REQUEST_ENTITY_TOO_LARGE:
        return f"the body is larger than {MAX_BODY:,} bytes"
    if error.status == HTTPStatus.METHOD_NOT_ALLOWED:
        return f"{request.method} is not allowed here"
    return error.reason


async def _read_body(request: web.Request, most: int, *, cut: bool = False) -> bytes:
    """Read at most `most` bytes of the body; a larger one is refused, or `cut`."""
    body = bytearray()
    try:
        async with asyncio.timeout(BODY_TIMEOUT):
            async for chunk in request.content.iter_any():
                body += chunk
                if len(body) > most:
                    if not cut:
                        raise web.HTTPRequestEntityTooLarge(most, len(body))
                    break
    except TimeoutError:
        raise ApiProblem(
            HTTPStatus.REQUEST_TIMEOUT, f"the body did not arrive within {BODY_TIMEOUT:g} seconds"
        ) from None
    return bytes(body[:most])


async def _read_report(request: web.Request, kind: type[ReportT]) -> ReportT:
    """Read a report from the body of a request."""
    if request.content_type != JSON:
        raise ApiProblem(
            HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
            f"expected a body of type {JSON}, got {request.content_type}",
            hint=f"Send `Content-Type: {JSON}`; `curl --json` does.",
        )
    body = await _read_body(request, MAX_BODY)
    try:
        given: Json = orjson.loads(body or b"{}")
    except orjson.JSONDecodeError as error:
        raise ApiProblem(HTTPStatus.BAD_REQUEST, f"the body is not valid JSON: {error}") from None
    return _validate(kind, given)


def _validate(kind: type[ReportT], given: Json) -> ReportT:
    try:
        return kind.model_validate(given)
    except ValidationError as error:
        errors = [
            {"pointer": "".join(f"/{part}" for part in one["loc"]), "detail": one["msg"]}
            for one in error.errors(include_url=False, include_context=False, include_input=False)[:20]
        ]
        raise ApiProblem(HTTPStatus.UNPROCESSABLE_ENTITY, "the report is invalid", errors=errors) from None
