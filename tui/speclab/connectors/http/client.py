"""The HTTP client: sends one request and reads its response, with an httpx transport as the only seam to the network.

It does not use `httpx.AsyncClient`, whose cookies, redirects and header merging cost half of a request's time and are
not needed for an API. It adds credentials (an `httpx.Auth`), rate limits, a timeout and a size limit to a transport.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from http import HTTPStatus
from typing import Final

import httpx

from speclab import __version__
from speclab.connectors.api import RuntimeContext
from speclab.connectors.auth import build_basic_auth, build_credentials
from speclab.connectors.auth.credentials import check_header_name, check_header_value
from speclab.connectors.http.rate_limit_headers import RequestWeights, get_server_time, read_policies, read_quota
from speclab.connectors.http.settings import HttpSystem
from speclab.connectors.http_transport import ACCEPTED, AiohttpTransport, Decoder, Unreadable, map_error
from speclab.connectors.rate_limiter import RateLimiter, WaitTooLong
from speclab.connectors.secrets.references import References
from speclab.core.errors import EndpointError, SpecError, SpeclabError, Unreachable
from speclab.core.outcome import ErrorClass, Level
from speclab.spec.auth import Auth, NoAuth
from speclab.spec.settings_types import format_duration

SHOWN: Final = 4096
"""Bytes of a body that a request or a response shows."""
_CONNECT: Final = 10.0
"""Seconds to establish a connection. Shorter than the timeout of a response, because nothing has been sent yet."""
_MESSAGE: Final = 400
"""Characters of a system's own text that a message quotes."""
_SENSITIVE: Final = re.compile(r"authorization|cookie|token|secret|password|api-?key", re.IGNORECASE)
"""Names of headers whose values are secrets, also if the spec contains them literally."""


class RequestFailed(Exception):
    """A request without a usable response; `sent` is False only if the server certainly received nothing of it."""

    def __init__(
        self,
        error_class: ErrorClass,
        message: str,
        request: str,
        *,
        sent: bool,
        retry_after: float | None = None,
        response: str = "",
        hint: str = "",
    ) -> None:
        super().__init__(message)
        self.error_class = error_class
        self.message = message
        self.request = request
        self.sent = sent
        self.retry_after = retry_after
        self.response = response
        self.hint = hint


@dataclass(frozen=True, slots=True)
class Exchange:
    """A request as sent and its complete response, including secrets."""

    method: str
    url: str
    sent_headers: Sequence[tuple[bytes, bytes]]
    content: bytes
    status: int
    reason: str
    headers: httpx.Headers
    body: bytes


class Client:
    """Sends requests to one system with its base URL, headers, credentials and limits."""

    def __init__(
        self, system: HttpSystem, auth: Auth, references: References, context: RuntimeContext, *, wait_budget: float
    ) -> None:
        """Create a client for `system` and `auth`, whose references are resolved.

        `wait_budget` is the longest time in seconds that a request waits for a rate limit.
        """
        self.redactor = references.redactor
        self.clock = context.clock
        self.activity = context.activity
        base = _base_url(system.base_url)
        self._auth = build_credentials(auth, self.redactor, context)
        if base.userinfo:
            self.redactor.add(base.password)
            if isinstance(auth, NoAuth):
                self._auth = build_basic_auth(base.username, base.password, self.redactor)
            base = base.copy_with(userinfo=b"")
        self.base = str(base).rstrip("/")
        self.origin = str(base.copy_with(path="/")).rstrip("/")
        self._connect = min(_CONNECT, system.limits.timeout / 2)
        self._transport = (
            context.transport()
            if context.transport is not None
            else AiohttpTransport(
                connections=system.limits.concurrency, connect=self._connect, tls=base.scheme == "https"
            )
        )
        self._rate_limiter = RateLimiter(system.limits.concurrency, system.limits.rate, context.clock, context.activity)
        self._weights = RequestWeights(system.limits.weights, self.base)
        self._last_headers = httpx.Headers()
        self._wait_budget = wait_budget
        self._report = context.report
        self._timeout = system.limits.timeout
        self._max_body = system.limits.response
        defaults = {
            "Accept": "application/json",
            "Accept-Encoding": ACCEPTED,
            "User-Agent": f"speclab/{__version__}",
        }
        own = {name.lower() for name in system.headers}
        headers = {name: value for name, value in defaults.items() if name.lower() not in own} | system.headers
        self._headers = self.encode_headers(headers)
        self._body_headers = [] if "content-type" in own else [(b"Content-Type", b"application/json")]

    async def send(
        self, method: str, url: str, *, content: bytes = b"", headers: Sequence[tuple[bytes, bytes]] = ()
    ) -> Exchange:
        """Send a request to `url`, which must be at the origin, and return the response of any status.

        Each of `headers` replaces the system's header of that name. Raises `RequestFailed`.
        """
        all_headers = [*self._headers, *(self._body_headers if content else ())]
        if headers:
            own = {name.lower() for name, _ in headers}
            all_headers = [*(header for header in all_headers if header[0].lower() not in own), *headers]
        try:
            request = httpx.Request(method, url, headers=all_headers, content=content)
        except httpx.InvalidURL as error:  # usually because it is too long
            line = self.message(f"{method} {url}")
            raise RequestFailed(ErrorClass.REJECTED, f"{line}: {error}", line, sent=False) from None
        try:
            started = await self._rate_limiter.acquire(self._weights.get(method, url), self._wait_budget)
        except WaitTooLong as error:
            message = f"{error.reason}; the next request may be sent in {format_duration(error.seconds)}"
            line, wait = self.line(method, url), error.seconds
            raise RequestFailed(ErrorClass.RATE_LIMIT, message, line, sent=False, retry_after=wait) from None
        self.activity.requests += 1
        try:
            with self.activity.telemetry.request(method, self.line(method, url).partition(" ")[2]) as measured:
                response, body = await self._send(request)
                measured.set("http.response.status_code", response.status_code)
        except (httpx.RequestError, TimeoutError, Unreadable) as error:
            sent = self._request_text(method, url, all_headers, content)
            raise self._failure(error, sent, url) from None
        except SpeclabError as error:
            raise _without_credentials(error, self.line(method, url)) from None
        finally:
            self._rate_limiter.release()
        exchange = Exchange(
            method, url, all_headers, content, response.status_code, _reason(response), response.headers, body
        )
        self._last_headers = response.headers
        self._update_rate_limits(exchange, started)
        return exchange

    def get_source_time(self) -> datetime:
        """Return the time of the last response by the server's clock, or the local time if there is none."""
        return get_server_time(self._last_headers, self.clock.now())

    def hold(self, seconds: float) -> None:
        """Send no request for `seconds`, for all callers."""
        self._rate_limiter.hold(seconds)

    def encode_headers(self, headers: Mapping[str, str]) -> list[tuple[bytes, bytes]]:
        """Return `headers` as bytes, and redact the values of those whose name says that they carry credentials.

        Raises `SpecError` for an invalid name or value.
        """
        for name, value in headers.items():
            if _SENSITIVE.search(name):
                self.redactor.add(value)
                self.redactor.add(value.rpartition(" ")[2])  # without its scheme
        return [
            (check_header_name(name).encode("ascii"), check_header_value(name, value).encode("utf-8"))
            for name, value in headers.items()
        ]

    async def close(self) -> None:
        """Close the connections."""
        await self._auth.close()
        await self._transport.aclose()

    def report(self, level: Level, message: str) -> None:
        """Report `message` without secrets."""
        self._report(level, self.redactor.redact(message))

    def message(self, text: str) -> str:
        """Return `text` without secrets, shortened for a message."""
        shown = self.redactor.redact(text)
        return shown if len(shown) <= _MESSAGE else f"{shown[:_MESSAGE]}..."

    def line(self, method: str, url: str) -> str:
        """Return the request line without secrets."""
        return self.redactor.redact(f"{method} {url}")

    def request_text(self, exchange: Exchange) -> str:
        """Return the request as text, shortened and without secrets."""
        return self._request_text(exchange.method, exchange.url, exchange.sent_headers, exchange.content)

    def response_text(self, exchange: Exchange) -> str:
        """Return the status line and body as text, shortened and without secrets."""
        return self._message([self.redactor.redact(format_status_line(exchange))], exchange.body)

    def _request_text(self, method: str, url: str, headers: Sequence[tuple[bytes, bytes]], content: bytes) -> str:
        lines = [self.line(method, url)]
        for name, value in headers:
            lines.append(self.redactor.redact(f"{name.decode('ascii')}: {value.decode()}"))
        return self._message(lines, content)

    def _message(self, head: list[str], body: bytes) -> str:
        if not body:
            return "\n".join(head)
        text = self.redactor.excerpt(body, SHOWN)
        more = [f"... ({len(body):,} bytes)"] if len(body) > SHOWN else []
        return "\n".join([*head, "", text, *more])

    async def _send(self, request: httpx.Request) -> tuple[httpx.Response, bytes]:
        """Add credentials to `request`, send it, and return the response and its body.

        Some credentials take several requests. The timeout applies to each, but not to requests that the credentials
        make themselves, for example for a token.
        """
        flow = self._auth.async_auth_flow(request)
        try:
            request = await anext(flow)
            while True:
                async with asyncio.timeout(self._timeout):
                    response = await self._transport.handle_async_request(request)
                    body = await self._body(response)
                try:
                    request = await flow.asend(response)
                except StopAsyncIteration:
                    return response, body
        finally:
            await flow.aclose()

    async def _body(self, response: httpx.Response) -> bytes:
        """Return the decoded body; for an error response that cannot be decoded, the reason.

        Raises `Unreadable`.
        """
        try:
            decoder = Decoder(response.headers.get("content-encoding", ""), self._max_body)
            pieces = [piece async for raw in response.aiter_raw() for piece in decoder.feed(raw)]
            decoder.finish()
        except Unreadable as error:
            if response.status_code < 400:
                raise
            return f"({error.message})".encode()
        finally:
            await response.aclose()
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def _update_rate_limits(self, exchange: Exchange, started: float) -> None:
        """Adapt the rate limiter to a response, whose request was sent at `started`."""
        if exchange.status == HTTPStatus.TOO_MANY_REQUESTS:
            self._rate_limiter.slow_down(started)
        elif exchange.status < 400:
            self._rate_limiter.speed_up()
        if not any(b"rate" in name.lower() for name, _ in exchange.headers.raw):
            return
        quota = read_quota(exchange.headers, self.clock.now())
        if quota is None:
            self._rate_limiter.set_policies(read_policies(exchange.headers))
            return
        self._rate_limiter.set_quota(quota.remaining, quota.reset)
        if quota.remaining <= 0 and quota.reset > 0:
            self._rate_limiter.hold(quota.reset)
            self.report(Level.INFO, f"rate limit: 0 left, resets in {format_duration(quota.reset)}")

    def _failure(self, error: Exception, request: str, url: str) -> RequestFailed:
        where = self.redactor.redact(url.partition("?")[0])
        if isinstance(error, Unreadable):
            return RequestFailed(error.error_class, f"{where}: {error.message}", request, sent=True)
        found = map_error(error)
        if found.error_class is ErrorClass.TIMEOUT:
            reason = f"{found.reason} ({format_duration(self._timeout if found.sent else self._connect)})"
        else:
            reason = self.redactor.redact(f"{found.reason}: {error}")
        return RequestFailed(found.error_class, f"{where}: {reason}", request, sent=found.sent, hint=found.hint)


def _without_credentials(error: SpeclabError, line: str) -> RequestFailed:
    """Return the failure of a request whose credentials could not be obtained or renewed."""
    request, response = (error.request, error.response) if isinstance(error, EndpointError) else (line, "")
    error_class = ErrorClass.NETWORK if isinstance(error, Unreachable) else ErrorClass.UNAUTHORIZED
    return RequestFailed(error_class, error.message, request, sent=False, response=response, hint=error.hint)


def _reason(response: httpx.Response) -> str:
    """Return the reason phrase, decoded as UTF-8 or else Latin-1: servers send either."""
    raw = response.extensions.get("reason_phrase")
    if not isinstance(raw, bytes):
        return response.reason_phrase
    try:
        return raw.decode()
    except UnicodeDecodeError:
        return raw.decode("latin-1")


def format_status_line(exchange: Exchange) -> str:
    """Return the status and reason phrase of the response, such as `422 Unprocessable Content`."""
    return f"{exchange.status} {exchange.reason}" if exchange.reason else format_status(exchange.status)


def format_status(status: int) -> str:
    """Return the status with its standard reason phrase, or the number alone if there is none."""
    try:
        return f"{status} {HTTPStatus(status).phrase}"
    except ValueError:
        return str(status)


def _base_url(text: str) -> httpx.URL:
    try:
        url = httpx.URL(text)
    except httpx.InvalidURL as error:
        raise SpecError(f"base_url: not a valid URL: {error}") from None
    if url.scheme not in ("http", "https") or not url.host:
        raise SpecError("base_url must be an http:// or https:// URL, such as https://api.example.com")
    if url.query or url.fragment:
        raise SpecError("base_url must not contain `?` or `#`; put parameters of every page into `params`")
    return url
