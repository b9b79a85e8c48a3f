"""One request and its answer, at the least cost that keeps httpx's transport as the only seam to the network.

`httpx.AsyncClient` stays out: cookies, redirects and header merging, none of which an API wants, are half of a
request's price. What is left is a transport, credentials as an `httpx.Auth`, the pace, a deadline and a size.
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
from speclab.connectors.auth import basic, http_auth
from speclab.connectors.auth.credentials import header_name, header_value
from speclab.connectors.http.rate_limit_headers import RequestWeights, policies, quota, server_time
from speclab.connectors.http.settings import HttpSystem
from speclab.connectors.http_decoding import ACCEPTED, Decoder, Unreadable
from speclab.connectors.http_transport import AiohttpTransport, trouble
from speclab.connectors.rate_limiter import RateLimiter, WaitTooLong
from speclab.connectors.secrets.references import References
from speclab.core.errors import EndpointError, SpecError, SpeclabError, Unreachable
from speclab.core.outcome import ErrorClass, Level
from speclab.spec.auth import Auth, NoAuth
from speclab.spec.units import format_duration

SHOWN: Final = 4096
"""Bytes of a body that a request or a response shows."""
_CONNECT: Final = 10.0
"""Seconds a connection may take to come about: told apart from an answer that does not come, nothing was sent yet."""
_MESSAGE: Final = 400
"""Characters of what a system says that a message repeats."""
_SENSITIVE: Final = re.compile(r"authorization|cookie|token|secret|password|api-?key", re.IGNORECASE)
"""Names of headers whose values are secrets, also where they stand in the spec as they are."""


class RequestFailed(Exception):
    """No answer that could be used; `sent` is False only if the other side surely saw nothing of the request."""

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
    """A request as it was sent and its answer as it came, whole; secrets are still in it."""

    method: str
    url: str
    sent_headers: Sequence[tuple[bytes, bytes]]
    content: bytes
    status: int
    reason: str
    headers: httpx.Headers
    body: bytes


class Client:
    """The HTTP side of one system: its base URL, headers, credentials and limits."""

    def __init__(
        self, system: HttpSystem, auth: Auth, references: References, context: RuntimeContext, *, wait_budget: float
    ) -> None:
        """A client for `system` and `auth`, both with references resolved.

        `wait_budget` is the longest pause, in seconds, that is sat out for the sake of a rate limit.
        """
        self.redactor = references.redactor
        self.clock = context.clock
        self.activity = context.activity
        base = _base_url(system.base_url)
        self._auth = http_auth(auth, self.redactor, context)
        if base.userinfo:
            self.redactor.add(base.password)
            if isinstance(auth, NoAuth):
                self._auth = basic(base.username, base.password, self.redactor)
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
        self._pace = RateLimiter(system.limits.concurrency, system.limits.rate, context.clock, context.activity)
        self._weights = RequestWeights(system.limits.weights, self.base)
        self._heard = httpx.Headers()
        self._wait_budget = wait_budget
        self._report = context.report
        self._timeout = system.limits.timeout
        self._largest = system.limits.response
        defaults = {
            "Accept": "application/json",
            "Accept-Encoding": ACCEPTED,
            "User-Agent": f"speclab/{__version__}",
        }
        own = {name.lower() for name in system.headers}
        headers = {name: value for name, value in defaults.items() if name.lower() not in own} | system.headers
        self._headers = self.encoded(headers)
        self._of_bodies = [] if "content-type" in own else [(b"Content-Type", b"application/json")]

    async def send(
        self, method: str, url: str, *, content: bytes = b"", headers: Sequence[tuple[bytes, bytes]] = ()
    ) -> Exchange:
        """The answer, of whatever status, to a request for `url`, which must be at the origin.

        Of `headers`, each stands in for the system's of that name. Raises `RequestFailed`.
        """
        all_headers = [*self._headers, *(self._of_bodies if content else ())]
        if headers:
            own = {name.lower() for name, _ in headers}
            all_headers = [*(header for header in all_headers if header[0].lower() not in own), *headers]
        try:
            request = httpx.Request(method, url, headers=all_headers, content=content)
        except httpx.InvalidURL as error:  # too long, most of all
            line = self.message(f"{method} {url}")
            raise RequestFailed(ErrorClass.REJECTED, f"{line}: {error}", line, sent=False) from None
        try:
            began = await self._pace.take(self._weights.of(method, url), self._wait_budget)
        except WaitTooLong as error:
            message = f"{error.reason}; the next request may go in {format_duration(error.seconds)}"
            line, wait = self.line(method, url), error.seconds
            raise RequestFailed(ErrorClass.RATE_LIMIT, message, line, sent=False, retry_after=wait) from None
        self.activity.requests += 1
        try:
            response, body = await self._answer(request)
        except (httpx.RequestError, TimeoutError, Unreadable) as error:
            sent = self._request_text(method, url, all_headers, content)
            raise self._failure(error, sent, url) from None
        except SpeclabError as error:
            raise _without_credentials(error, self.line(method, url)) from None
        finally:
            self._pace.give_back()
        exchange = Exchange(
            method, url, all_headers, content, response.status_code, _reason(response), response.headers, body
        )
        self._heard = response.headers
        self._mind_pace(exchange, began)
        return exchange

    def source_time(self) -> datetime:
        """The time at the other side when it last answered, where it says so; before that, and else, it is ours."""
        return server_time(self._heard, self.clock.now())

    def hold(self, seconds: float) -> None:
        """Send nothing for `seconds`, whoever asks: a system that is asked too often is asked by none."""
        self._pace.hold(seconds)

    def encoded(self, headers: Mapping[str, str]) -> list[tuple[bytes, bytes]]:
        """`headers` as they go over the wire, made once; those that carry credentials by their name are secrets.

        Raises `SpecError` for what no header can be called, or carry.
        """
        for name, value in headers.items():
            if _SENSITIVE.search(name):
                self.redactor.add(value)
                self.redactor.add(value.rpartition(" ")[2])  # without its scheme
        return [
            (header_name(name).encode("ascii"), header_value(name, value).encode("utf-8"))
            for name, value in headers.items()
        ]

    async def close(self) -> None:
        """Close the connections."""
        await self._auth.close()
        await self._transport.aclose()

    def report(self, level: Level, message: str) -> None:
        """Report `message`, secrets taken out."""
        self._report(level, self.redactor.redact(message))

    def message(self, text: str) -> str:
        """`text` fit for a message: secrets taken out, then cut if it is long."""
        shown = self.redactor.redact(text)
        return shown if len(shown) <= _MESSAGE else f"{shown[:_MESSAGE]}..."

    def line(self, method: str, url: str) -> str:
        """The request line, secrets taken out."""
        return self.redactor.redact(f"{method} {url}")

    def request_text(self, exchange: Exchange) -> str:
        """The request as a person reads it, bounded, secrets taken out."""
        return self._request_text(exchange.method, exchange.url, exchange.sent_headers, exchange.content)

    def response_text(self, exchange: Exchange) -> str:
        """Status line and body as a person reads them, bounded, secrets taken out."""
        return self._message([self.redactor.redact(status_line(exchange))], exchange.body)

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

    async def _answer(self, request: httpx.Request) -> tuple[httpx.Response, bytes]:
        """The answer to `request` with credentials on, through as many steps as the credentials take, and its body.

        The time limit is for each step, and not for what the credentials ask for themselves, such as a token.
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
        """The body, decoded. Of an answer that is an error anyhow, its status decides also where this cannot be read.

        Raises `Unreadable`.
        """
        try:
            decoder = Decoder(response.headers.get("content-encoding", ""), self._largest)
            pieces = [piece async for raw in response.aiter_raw() for piece in decoder.feed(raw)]
            decoder.finish()
        except Unreadable as error:
            if response.status_code < 400:
                raise
            return f"({error.message})".encode()
        finally:
            await response.aclose()
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def _mind_pace(self, answer: Exchange, began: float) -> None:
        """Keep to what an answer to a request that began then says about the pace."""
        if answer.status == HTTPStatus.TOO_MANY_REQUESTS:
            self._pace.slow_down(began)
        elif answer.status < 400:
            self._pace.ease()
        if not any(b"rate" in name.lower() for name, _ in answer.headers.raw):
            return
        told = quota(answer.headers, self.clock.now())
        if told is None:
            self._pace.keep_to(policies(answer.headers))
            return
        self._pace.left(told.remaining, told.reset)
        if told.remaining <= 0 and told.reset > 0:
            self._pace.hold(told.reset)
            self.report(Level.INFO, f"rate limit: 0 left, resets in {format_duration(told.reset)}")

    def _failure(self, error: Exception, request: str, url: str) -> RequestFailed:
        where = self.redactor.redact(url.partition("?")[0])
        if isinstance(error, Unreadable):
            return RequestFailed(error.error_class, f"{where}: {error.message}", request, sent=True)
        found = trouble(error)
        if found.error_class is ErrorClass.TIMEOUT:
            reason = f"{found.reason} ({format_duration(self._timeout if found.sent else self._connect)})"
        else:
            reason = self.redactor.redact(f"{found.reason}: {error}")
        return RequestFailed(found.error_class, f"{where}: {reason}", request, sent=found.sent, hint=found.hint)


def _without_credentials(error: SpeclabError, line: str) -> RequestFailed:
    """The failure of a request that had no credentials to go with, or whose credentials could not be renewed."""
    request, response = (error.request, error.response) if isinstance(error, EndpointError) else (line, "")
    error_class = ErrorClass.NETWORK if isinstance(error, Unreachable) else ErrorClass.UNAUTHORIZED
    return RequestFailed(error_class, error.message, request, sent=False, response=response, hint=error.hint)


def _reason(response: httpx.Response) -> str:
    """The reason phrase, as UTF-8 or else Latin-1: servers send words of their own language in either."""
    raw = response.extensions.get("reason_phrase")
    if not isinstance(raw, bytes):
        return response.reason_phrase
    try:
        return raw.decode()
    except UnicodeDecodeError:
        return raw.decode("latin-1")


def status_line(exchange: Exchange) -> str:
    """`422 Unprocessable Content`, in the words of the answer."""
    return f"{exchange.status} {exchange.reason}" if exchange.reason else status_text(exchange.status)


def status_text(status: int) -> str:
    """`422 Unprocessable Content`, in the usual words; the number alone where there are none."""
    try:
        return f"{status} {HTTPStatus(status).phrase}"
    except ValueError:
        return str(status)


def _base_url(text: str) -> httpx.URL:
    try:
        url = httpx.URL(text)
    except httpx.InvalidURL as error:
        raise SpecError(f"base_url is no URL: {error}") from None
    if url.scheme not in ("http", "https") or not url.host:
        raise SpecError("base_url must be an http:// or https:// URL, such as https://api.example.com")
    if url.query or url.fragment:
        raise SpecError("base_url must end before `?` and `#`; what is asked of every page goes into `params`")
    return url
