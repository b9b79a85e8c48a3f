"""The HTTP source, and the connection check of an HTTP target."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncGenerator, Mapping
from functools import partial
from typing import Final, Protocol
from urllib.parse import parse_qsl

from speclab.connectors.api import Page, Reader, RuntimeContext
from speclab.connectors.http.client import Client, Exchange, RequestFailed, format_status_line
from speclab.connectors.http.nested import NestedReader, ParentRequests
from speclab.connectors.http.page_reader import PageReader
from speclab.connectors.http.request_builder import EndpointTemplate, RequestBuilder
from speclab.connectors.http.response import describe_error, parse_body
from speclab.connectors.http.settings import HttpRead, HttpSystem
from speclab.connectors.http.windows import WindowReader
from speclab.connectors.http.write_settings import HttpWrite
from speclab.connectors.secrets.references import References
from speclab.core.errors import BadResponse, EndpointError, SpecError, Unauthorized, Unreachable
from speclab.core.json import Json, encode_canonical
from speclab.core.outcome import ErrorClass
from speclab.core.paths import FieldPath
from speclab.spec.auth import ApiKeyAuth, Auth
from speclab.spec.settings import RetrySettings


class _Pages(Protocol):
    def __call__(self, cursor: Json, *, full: bool) -> AsyncGenerator[Page]: ...


class HttpReader(Reader):
    """Reads what `read` of an HTTP system describes."""

    def __init__(
        self, system: HttpSystem, auth: Auth, references: References, context: RuntimeContext, retry: RetrySettings
    ) -> None:
        """A reader for settings as the spec has them. Raises `SpecError` for those that cannot work."""
        written = system.read
        system = references.resolve_settings(system)
        auth = references.resolve_settings(auth)
        if system.read is None or written is None:
            raise SpecError("an http source needs `read`, such as `read: {path: /contacts, records: data}`")
        read = system.read
        self._client = Client(system, auth, references, context, wait_budget=retry.cap)
        self._fingerprint = _fingerprint(read, {"since": {"sorted", "window"}})
        self._listing = partial(
            PageReader,
            client=self._client,
            retry=retry,
            random=context.random,
            concurrency=system.limits.concurrency,
            fingerprint=self._fingerprint,
        )
        self._key = [FieldPath.parse(path) for path in ([system.key] if isinstance(system.key, str) else system.key)]
        self._hidden = {auth.param} if isinstance(auth, ApiKeyAuth) and auth.param is not None else set[str]()
        self._pages = self._nested(written, read, system.limits.concurrency) or self._single(
            written, read, system.limits.concurrency
        )

    def pages(self, cursor: Json, *, full: bool) -> AsyncGenerator[Page]:
        """Pages from after `cursor` to the end."""
        return self._pages(cursor, full=full)

    async def close(self) -> None:
        """Close the connections."""
        await self._client.close()

    def _single(self, written: HttpRead, read: HttpRead, concurrency: int) -> _Pages:
        """One list, in windows where the settings have them."""
        hidden = self._hidden | _secret(written.request or written.path, written.params)
        requests = RequestBuilder(read, self._client.base, self._client.origin, hidden=hidden)
        listing = self._listing(read, key=self._key)
        if read.since is None or read.since.window is None:
            return partial(listing.pages, requests)
        closed = self._listing(read.model_copy(update={"since": None}), concurrency=1)
        windows = WindowReader(
            listing,
            closed,
            requests,
            self._client,
            since=read.since,
            concurrency=concurrency,
            fingerprint=self._fingerprint,
        )
        return windows.pages

    def _nested(self, written: HttpRead, read: HttpRead, concurrency: int) -> _Pages | None:
        """A list for each of the parents; None where the settings have none."""
        each = read.for_each
        if each is None or written.for_each is None:
            return None
        client = self._client
        above = HttpRead(path=each.path, params=each.params, records=each.records, pagination=each.pagination)
        above = above.model_copy(update={"missing": read.missing})  # a parent that is missed takes its list with it
        hidden = self._hidden | _secret(written.request or written.path, written.params)
        hidden_above = self._hidden | _secret(written.for_each.path, written.for_each.params)
        own = [path for path in self._key if path.parts[0] != each.name]
        nested = NestedReader(
            (self._listing(above), RequestBuilder(above, client.base, client.origin, hidden=hidden_above)),
            (
                self._listing(read, identity=own),
                ParentRequests(read, each.name, client.base, client.origin, hidden=hidden),
            ),
            name=each.name,
            since=read.since,
            concurrency=concurrency,
            fingerprint=_fingerprint(read, {"since": True}),  # a parent that was read to its end has its mark
            report=client.report,
        )
        return nested.pages


def _fingerprint(read: HttpRead, beside: Mapping[str, set[str] | bool]) -> str:
    """What tells the requests of `read` from those of other settings, `beside` some that are not to count."""
    described = read.model_dump(mode="json", exclude={"deleted": True, "missing": True, **beside})
    return hashlib.blake2b(encode_canonical(described), digest_size=6).hexdigest()


def _secret(location: str | None, params: Mapping[str, Json]) -> set[str]:
    """The parameters, in the query of a path or by themselves, that hold references, which is to say secrets."""
    asked = [*parse_qsl((location or "").partition("?")[2]), *params.items()]
    return {name for name, value in asked if "${" in str(value)}


_STAND_IN: Final = "0"
"""What stands for a record's values in the path: there is hardly a record by that name, and it may be a number."""


async def check_target(
    system: HttpSystem, auth: Auth, references: References, context: RuntimeContext, retry: RetrySettings
) -> str:
    """What the target answers to a GET of what would be written; any answer but a refusal of the credentials is good.

    Raises `Unauthorized`, `Unreachable`, `BadResponse` and `SpecError`.
    """
    system = references.resolve_settings(system)
    if system.write is None:
        raise SpecError('an http target needs `write`, such as `write: {upsert: "PUT /customers/{id}"}`')
    client = Client(system, references.resolve_settings(auth), references, context, wait_budget=retry.cap)
    try:
        exchange = await client.send("GET", client.base + _probe_path(system.write))
    except RequestFailed as error:
        raise _probe_failure(error) from None
    finally:
        await client.close()
    line = client.line(exchange.method, exchange.url)
    if exchange.status in (401, 403) or 300 <= exchange.status < 400 or exchange.status >= 500:
        raise _probe_error(client, line, exchange)
    return f"{line}: {format_status_line(exchange)}, so the credentials were not refused"


def _probe_path(write: HttpWrite) -> str:
    """The path of the lookup, or else of what is written."""
    known = (write.lookup, write.update, write.upsert, write.create, write.batch)
    endpoint = EndpointTemplate.parse(next(text for text in known if text), where="write")
    return "".join(part if isinstance(part, str) else _STAND_IN for part in endpoint.target.parts)


def _probe_error(client: Client, line: str, exchange: Exchange) -> EndpointError:
    message = f"{line}: {client.redactor.redact(describe_error(exchange, parse_body(exchange)))}"
    told = client.request_text(exchange), client.response_text(exchange)
    if exchange.status == 401:
        return Unauthorized(
            message, request=told[0], response=told[1], hint="Check the Auth section and the secrets it references."
        )
    if exchange.status == 403:
        hint = "They may still be good for writing; `speclab run --limit 1` tells."
        return Unauthorized(message, request=told[0], response=told[1], hint=hint)
    failure = Unreachable if exchange.status >= 500 else BadResponse
    return failure(message, request=told[0], response=told[1])


def _probe_failure(error: RequestFailed) -> EndpointError:
    failure = {ErrorClass.UNAUTHORIZED: Unauthorized, ErrorClass.BAD_ANSWER: BadResponse}.get(
        error.error_class, Unreachable
    )
    return failure(error.message, request=error.request, response=error.response, hint=error.hint)
