"""Reading over HTTP: one list, or a list for each record of another."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncGenerator, Mapping
from functools import partial
from typing import Protocol
from urllib.parse import parse_qsl

from speclab.connectors.base import Page, Seams
from speclab.connectors.http.client import Client
from speclab.connectors.http.listing import Listing
from speclab.connectors.http.nested import Nested
from speclab.connectors.http.parents import ParentQuestions
from speclab.connectors.http.question import Questions
from speclab.connectors.http.windows import Windows
from speclab.connectors.jsontext import encode_sorted
from speclab.connectors.references import References
from speclab.errors import SpecError
from speclab.jsonvalue import Json
from speclab.paths import FieldPath
from speclab.spec.auth import ApiKeyAuth, Auth
from speclab.spec.settings import RetrySettings
from speclab.spec.systems.http import HttpRead, HttpSystem


class _Pages(Protocol):
    def __call__(self, cursor: Json, *, full: bool) -> AsyncGenerator[Page]: ...


class HttpReader:
    """Reads what `read` of an HTTP system describes."""

    def __init__(
        self, system: HttpSystem, auth: Auth, references: References, seams: Seams, retry: RetrySettings
    ) -> None:
        """A reader for settings as the spec has them. Raises `SpecError` for those that cannot work."""
        written = system.read
        system = references.resolve_settings(system)
        auth = references.resolve_settings(auth)
        if system.read is None or written is None:
            raise SpecError("an http source needs `read`, such as `read: {path: /contacts, records: data}`")
        read = system.read
        self._client = Client(system, auth, references, seams, patience=retry.cap)
        self._fingerprint = _fingerprint(read, {"since": {"sorted", "window"}})
        self._listing = partial(
            Listing,
            client=self._client,
            retry=retry,
            random=seams.random,
            at_once=system.limits.concurrency,
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

    def _single(self, written: HttpRead, read: HttpRead, at_once: int) -> _Pages:
        """One list, in windows where the settings have them."""
        hidden = self._hidden | _secret(written.request or written.path, written.params)
        questions = Questions(read, self._client.base, self._client.origin, hidden=hidden)
        listing = self._listing(read, key=self._key)
        if read.since is None or read.since.window is None:
            return partial(listing.pages, questions)
        closed = self._listing(read.model_copy(update={"since": None}), at_once=1)
        windows = Windows(
            listing,
            closed,
            questions,
            self._client,
            since=read.since,
            at_once=at_once,
            fingerprint=self._fingerprint,
        )
        return windows.pages

    def _nested(self, written: HttpRead, read: HttpRead, at_once: int) -> _Pages | None:
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
        nested = Nested(
            (self._listing(above), Questions(above, client.base, client.origin, hidden=hidden_above)),
            (
                self._listing(read, identity=own),
                ParentQuestions(read, each.name, client.base, client.origin, hidden=hidden),
            ),
            name=each.name,
            since=read.since,
            at_once=at_once,
            fingerprint=_fingerprint(read, {"since": True}),  # a parent that was read to its end has its mark
            report=client.report,
        )
        return nested.pages


def _fingerprint(read: HttpRead, beside: Mapping[str, set[str] | bool]) -> str:
    """What tells the requests of `read` from those of other settings, `beside` some that are not to count."""
    described = read.model_dump(mode="json", exclude={"deleted": True, "missing": True, **beside})
    return hashlib.blake2b(encode_sorted(described), digest_size=6).hexdigest()


def _secret(location: str | None, params: Mapping[str, Json]) -> set[str]:
    """The parameters, in the query of a path or by themselves, that hold references, which is to say secrets."""
    asked = [*parse_qsl((location or "").partition("?")[2]), *params.items()]
    return {name for name, value in asked if "${" in str(value)}
