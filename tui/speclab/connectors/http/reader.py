"""The HTTP reader, and the connection check of an HTTP target."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from contextlib import aclosing
from functools import partial
from typing import Final, Protocol
from urllib.parse import parse_qsl

from speclab.connectors.api import Page, Reader, RecordLister, RuntimeContext
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
from speclab.core.json import Json, Record, encode_canonical
from speclab.core.outcome import ErrorClass
from speclab.core.paths import FieldPath
from speclab.spec.auth import ApiKeyAuth, Auth
from speclab.spec.settings import RetrySettings


class _Pages(Protocol):
    def __call__(self, cursor: Json, *, full: bool) -> AsyncGenerator[Page]: ...


class HttpReader(Reader):
    """Reads a list, or a list for each record of a parent list, as `read` of an HTTP system describes."""

    def __init__(
        self, system: HttpSystem, auth: Auth, references: References, context: RuntimeContext, retry: RetrySettings
    ) -> None:
        """Create a reader for settings with unresolved references. Raises `SpecError` for settings that cannot work."""
        unresolved = system.read
        system = references.resolve_settings(system)
        auth = references.resolve_settings(auth)
        if system.read is None or unresolved is None:
            raise SpecError("an http source needs `read`, such as `read: {path: /contacts, records: data}`")
        read = system.read
        self._client = Client(system, auth, references, context, wait_budget=retry.cap)
        self._fingerprint = _fingerprint(read, {"since": {"sorted", "window"}})
        self._build_page_reader = partial(
            PageReader,
            client=self._client,
            retry=retry,
            random=context.random,
            concurrency=system.limits.concurrency,
            fingerprint=self._fingerprint,
        )
        self._key = [FieldPath.parse(path) for path in ([system.key] if isinstance(system.key, str) else system.key)]
        self._hidden = {auth.param} if isinstance(auth, ApiKeyAuth) and auth.param is not None else set[str]()
        self._pages = self._open_nested_list(unresolved, read, system.limits.concurrency) or self._open_list(
            unresolved, read, system.limits.concurrency
        )

    def pages(self, cursor: Json, *, full: bool) -> AsyncGenerator[Page]:
        """Yield the pages after `cursor`."""
        return self._pages(cursor, full=full)

    async def close(self) -> None:
        """Close the connections."""
        await self._client.close()

    def _open_list(self, unresolved: HttpRead, read: HttpRead, concurrency: int) -> _Pages:
        """Open a single list, in time windows if the settings have them."""
        hidden = self._hidden | _find_secret_params(unresolved.request or unresolved.path, unresolved.params)
        requests = RequestBuilder(read, self._client.base, self._client.origin, hidden=hidden)
        list_reader = self._build_page_reader(read, key=self._key)
        if read.since is None or read.since.window is None:
            return partial(list_reader.pages, requests)
        closed = self._build_page_reader(read.model_copy(update={"since": None}), concurrency=1)
        windows = WindowReader(
            list_reader,
            closed,
            requests,
            self._client,
            since=read.since,
            concurrency=concurrency,
            fingerprint=self._fingerprint,
        )
        return windows.pages

    def _open_nested_list(self, unresolved: HttpRead, read: HttpRead, concurrency: int) -> _Pages | None:
        """Open a list for each parent, or return None if the settings have no `for_each`."""
        each = read.for_each
        if each is None or unresolved.for_each is None:
            return None
        client = self._client
        parent_read = HttpRead(path=each.path, params=each.params, records=each.records, pagination=each.pagination)
        parent_read = parent_read.model_copy(
            update={"missing": read.missing}
        )  # missing a parent means missing its list
        hidden = self._hidden | _find_secret_params(unresolved.request or unresolved.path, unresolved.params)
        hidden_in_parents = self._hidden | _find_secret_params(unresolved.for_each.path, unresolved.for_each.params)
        own = [path for path in self._key if path.parts[0] != each.name]
        nested = NestedReader(
            (
                self._build_page_reader(parent_read),
                RequestBuilder(parent_read, client.base, client.origin, hidden=hidden_in_parents),
            ),
            (
                self._build_page_reader(read, identity=own),
                ParentRequests(read, each.name, client.base, client.origin, hidden=hidden),
            ),
            name=each.name,
            since=read.since,
            concurrency=concurrency,
            fingerprint=_fingerprint(read, {"since": True}),  # each finished parent has its own bookmark
            report=client.report,
        )
        return nested.pages


def _fingerprint(read: HttpRead, beside: Mapping[str, set[str] | bool]) -> str:
    """Return a hash of `read` without the settings `beside`, which do not change its requests."""
    described = read.model_dump(mode="json", exclude={"deleted": True, "missing": True, **beside})
    return hashlib.blake2b(encode_canonical(described), digest_size=6).hexdigest()


def _find_secret_params(location: str | None, params: Mapping[str, Json]) -> set[str]:
    """Return the names of the parameters that contain references, which are treated as secrets."""
    params_of_path = [*parse_qsl((location or "").partition("?")[2]), *params.items()]
    return {name for name, value in params_of_path if "${" in str(value)}


_PLACEHOLDER_VALUE: Final = "0"
"""Replaces placeholders in a path: valid as a number, and unlikely to be the key of a record."""


class HttpLister(RecordLister):
    """Lists the records of a target by the `read` of its settings."""

    def __init__(self, reader: HttpReader) -> None:
        self._reader = reader

    async def pages(self, fields: Sequence[str]) -> AsyncIterator[Sequence[Record]]:
        """Yield all records of the list. Raise `IncompleteRead` if some may have been missed."""
        del fields  # the API decides which ones a record has
        async with aclosing(self._reader.pages(None, full=True)) as pages:
            async for page in pages:
                yield page.records

    async def close(self) -> None:
        """Close the connections."""
        await self._reader.close()


def open_lister(
    system: HttpSystem, auth: Auth, references: References, context: RuntimeContext, retry: RetrySettings
) -> HttpLister | None:
    """Return a lister for a target that has `read`, as a source has it. Raises `SpecError`."""
    if system.read is None:
        return None
    return HttpLister(HttpReader(system, auth, references, context, retry))


async def check_target(
    system: HttpSystem, auth: Auth, references: References, context: RuntimeContext, retry: RetrySettings
) -> str:
    """Send a GET to the path of a write; any response passes except a redirect, a server error or rejected credentials.

    Raises `Unauthorized`, `Unreachable`, `BadResponse` and `SpecError`.
    """
    system = references.resolve_settings(system)
    if system.write is None:
        raise SpecError('an http target needs `write`, such as `write: {upsert: "PUT /customers/{id}"}`')
    client = Client(system, references.resolve_settings(auth), references, context, wait_budget=retry.cap)
    try:
        exchange = await client.send("GET", client.base + _get_check_path(system.write))
    except RequestFailed as error:
        raise _convert_check_failure(error) from None
    finally:
        await client.close()
    line = client.line(exchange.method, exchange.url)
    if exchange.status in (401, 403) or 300 <= exchange.status < 400 or exchange.status >= 500:
        raise _build_check_error(client, line, exchange)
    return f"{line}: {format_status_line(exchange)}, so the credentials were accepted"


def _get_check_path(write: HttpWrite) -> str:
    """Return the path of the lookup, or else of a write."""
    known = (write.lookup, write.update, write.upsert, write.create, write.batch)
    endpoint = EndpointTemplate.parse(next(text for text in known if text), where="write")
    return "".join(part if isinstance(part, str) else _PLACEHOLDER_VALUE for part in endpoint.target.parts)


def _build_check_error(client: Client, line: str, exchange: Exchange) -> EndpointError:
    message = f"{line}: {client.redactor.redact(describe_error(exchange, parse_body(exchange)))}"
    texts = client.request_text(exchange), client.response_text(exchange)
    if exchange.status == 401:
        return Unauthorized(
            message, request=texts[0], response=texts[1], hint="Check the Auth section and the secrets it references."
        )
    if exchange.status == 403:
        hint = "The credentials may still allow writing; try `speclab run --limit 1`."
        return Unauthorized(message, request=texts[0], response=texts[1], hint=hint)
    failure = Unreachable if exchange.status >= 500 else BadResponse
    return failure(message, request=texts[0], response=texts[1])


def _convert_check_failure(error: RequestFailed) -> EndpointError:
    failure = {ErrorClass.UNAUTHORIZED: Unauthorized, ErrorClass.BAD_ANSWER: BadResponse}.get(
        error.error_class, Unreachable
    )
    return failure(error.message, request=error.request, response=error.response, hint=error.hint)
