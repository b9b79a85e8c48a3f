"""Building requests: path, query, header and body templates, and the parameters of a page."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from copy import copy
from dataclasses import dataclass
from typing import Final
from urllib.parse import parse_qsl, quote, urlencode

from speclab.connectors.api import MappedRecord
from speclab.connectors.auth.credentials import check_header_name, check_header_value
from speclab.connectors.http.client import Client, Exchange
from speclab.connectors.http.pagination import Position
from speclab.connectors.http.settings import HttpRead
from speclab.connectors.http.write_settings import HttpWrite
from speclab.connectors.secrets.references import References
from speclab.core.errors import SpecError
from speclab.core.json import Json, encode
from speclab.core.paths import FieldPath, PathSyntaxError
from speclab.core.text import PLACEHOLDER, split_template

_DOTS: Final = (".", "..")
SCOPE: Final = frozenset({"source", "found"})
"""Scopes of a write's templates beside the record: the record before mapping, and the record that a lookup found."""
_WITHIN: Final = {
    "source": "is not in the source record",
    "found": "is not in the record that the lookup found",
    "lookup": "is not in the response to the lookup",
}


class MissingValue(Exception):
    """A record has no value for a placeholder; `path` is the text of the placeholder, `name` its scope."""

    def __init__(self, path: str, reason: str, name: str = "") -> None:
        super().__init__(f"{{{path}}} {reason}")
        self.path = path
        self.name = name
        self.message = f"{{{path}}} {reason}"


@dataclass(frozen=True, slots=True)
class Placeholder:
    """One `{path}`: the name of a scope and a path in it; without a name, a path in the record."""

    text: str
    name: str
    path: FieldPath

    @classmethod
    def parse(cls, text: str, *, where: str, names: frozenset[str]) -> Placeholder:
        """Parse the text between the braces, see `Template.parse`. Raises `SpecError`."""
        try:
            path = FieldPath.parse(text)
        except PathSyntaxError as error:
            raise SpecError(f"{where}: {{{text}}} is not a valid path: {error}") from None
        first = path.parts[0]
        if first in names and len(path.parts) > 1:
            return cls(text, str(first), FieldPath(path.parts[1:]))
        return cls(text, "", path)

    def value(self, record: Json, scope: Mapping[str, Json]) -> Json:
        """Return the value, which may be null. Raises `MissingValue`."""
        root = scope.get(self.name) if self.name else record
        try:
            return self.path.get(root)
        except KeyError:
            raise MissingValue(self.text, _WITHIN.get(self.name, "is not in the record"), self.name) from None

    def render(self, record: Json, scope: Mapping[str, Json]) -> str:
        """Return the value as text for a URL, not encoded yet. Raises `MissingValue` for a list, an object or null."""
        return _render_value(self, self.value(record, scope))


@dataclass(frozen=True, slots=True)
class Template:
    """Text with placeholders, for URLs."""

    parts: tuple[str | Placeholder, ...]

    @classmethod
    def parse(cls, text: str, *, where: str, names: frozenset[str] = frozenset()) -> Template:
        """Parse a template; a path that starts with one of `names` is resolved in the scope of that name.

        Raises `SpecError`, which names the setting `where`.
        """
        parts: list[str | Placeholder] = []
        for literal, path in split_template(text):
            parts.append(literal)
            if path is not None:
                parts.append(Placeholder.parse(path, where=where, names=names))
        if stray := [brace for part in parts if isinstance(part, str) for brace in part if brace in "{}"]:
            raise SpecError(f"{where}: unmatched '{stray[0]}' in {text!r}")
        return cls(tuple(part for part in parts if part != ""))

    def render(self, record: Json, scope: Mapping[str, Json]) -> str:
        """Return the text with all values, percent-encoded. Raises `MissingValue`."""
        out = ""
        for index, part in enumerate(self.parts):
            if isinstance(part, str):
                out += part
                continue
            text = part.render(record, scope)
            out += quote(text, safe="")
            if self._segment_ends(index) and out.rpartition("/")[2] in _DOTS:
                raise MissingValue(part.text, f"is {text!r}, which would change the path")
        return out

    def _segment_ends(self, index: int) -> bool:
        following = self.parts[index + 1] if index + 1 < len(self.parts) else "/"
        return isinstance(following, str) and following[0] in "/?"


@dataclass(frozen=True, slots=True)
class EndpointTemplate:
    """An HTTP method and a path."""

    method: str
    target: Template
    text: str

    @classmethod
    def parse_fixed(cls, text: str, *, where: str) -> tuple[str, str]:
        """Return the method and path of an endpoint without placeholders. Raises `SpecError`."""
        endpoint = cls.parse(text, where=where)
        try:
            return endpoint.method, endpoint.target.render({}, {})
        except MissingValue as error:
            raise SpecError(f"{where}: {{{error.path}}}: this request has no record to take a value from") from None

    @classmethod
    def parse(cls, text: str, *, where: str, names: frozenset[str] = frozenset()) -> EndpointTemplate:
        """Parse an endpoint such as `PUT /customers/{id}`. Raises `SpecError`."""
        method, _, path = text.partition(" ")
        target = f"/{path.strip().removeprefix('/')}"
        return cls(method, Template.parse(target, where=where, names=names), text)


def format_scalar(value: Json) -> str | None:
    """Return text, a number or a boolean as text for a URL, and None for other values."""
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return str(value)
    return None


def _render_value(place: Placeholder, value: Json) -> str:
    text = format_scalar(value)
    if text is None:
        reason = "is null" if value is None else "is a list" if isinstance(value, list) else "is an object"
        raise MissingValue(place.text, f"{reason}, which a URL cannot contain")
    if not text:
        raise MissingValue(place.text, "is empty")
    if any("\ud800" <= character <= "\udfff" for character in text):
        raise MissingValue(place.text, "contains half a surrogate pair, which is not valid text")
    return text


_NAMES: Final = frozenset({"source", "found", "lookup"})
_LOOKUP_SCOPES: Final = frozenset({"found", "lookup"})
_UNSENDABLE: Final = re.compile(r"[\x00-\x1f\x7f]|^ | $")


class HeaderTemplates:
    """The headers of a target's write requests."""

    def __init__(self, write: HttpWrite, client: Client, references: References) -> None:
        """Parse `write.headers`, whose references are not resolved, because secrets are not templates.

        Raises `SpecError`.
        """
        texts = write.headers
        fixed = {name: references.resolve(text) for name, text in texts.items() if not PLACEHOLDER.search(text)}
        self.fixed: Sequence[tuple[bytes, bytes]] = client.encode_headers(fixed)
        """Headers that are the same for every record."""
        self._filled = [_Header.parse(name, text, references) for name, text in texts.items() if name not in fixed]
        self._key = check_header_name(write.idempotency).encode("ascii") if write.idempotency else None

    def render(self, record: MappedRecord, scope: Mapping[str, Json]) -> list[tuple[bytes, bytes]]:
        """Return the headers for `record`, without those that use the lookup if it found nothing.

        Raises `MissingValue`.
        """
        headers = [
            header.render(record.payload, scope)
            for header in self._filled
            if not header.uses_lookup or "lookup" in scope
        ]
        return [*self.fixed, *headers, *self.build_key_header(record.idempotency_key)]

    def build_key_header(self, key: str) -> list[tuple[bytes, bytes]]:
        """Return the header with the idempotency key, if the spec names one."""
        return [] if self._key is None else [(self._key, key.encode("ascii"))]


def build_lookup_scope(response: Exchange) -> Json:
    """Return the values of `{lookup.etag}` and `{lookup.header.NAME}` in the response to a lookup."""
    headers: dict[str, Json] = dict(response.headers.items())
    etag: dict[str, Json] = {"etag": headers["etag"]} if "etag" in headers else {}
    return {**etag, "header": headers}


@dataclass(frozen=True, slots=True)
class _Header:
    name: str
    parts: Sequence[str | Placeholder]

    @classmethod
    def parse(cls, name: str, text: str, references: References) -> _Header:
        parts: list[str | Placeholder] = []
        for literal, path in split_template(text, PLACEHOLDER):
            parts.append(check_header_value(name, references.resolve(literal)))
            if path is not None:
                # Header names are case-insensitive.
                inner = path.lower() if path.lower().startswith("lookup.") else path
                parts.append(Placeholder.parse(inner, where=f"write.headers.{name}", names=_NAMES))
        return cls(check_header_name(name), parts)

    @property
    def uses_lookup(self) -> bool:
        return any(isinstance(part, Placeholder) and part.name in _LOOKUP_SCOPES for part in self.parts)

    def render(self, record: Json, scope: Mapping[str, Json]) -> tuple[bytes, bytes]:
        value = "".join(
            part if isinstance(part, str) else self._render_value(part, record, scope) for part in self.parts
        )
        return self.name.encode("ascii"), value.encode("utf-8")

    def _render_value(self, place: Placeholder, record: Json, scope: Mapping[str, Json]) -> str:
        text = place.render(record, scope)
        if _UNSENDABLE.search(text):
            raise MissingValue(place.text, f"contains characters that a header such as {self.name} cannot contain")
        return text


@dataclass(frozen=True, slots=True)
class PageRequest:
    """A request for a page."""

    method: str
    url: str
    content: bytes = b""


class RequestBuilder:
    """Builds the requests of one read.

    Parameters that change from page to page are added to the query, or to the body if it is an object.
    """

    def __init__(self, read: HttpRead, base: str, origin: str, *, hidden: Collection[str]) -> None:
        """Create a builder for `base`; `hidden` are parameters with secrets, which are removed from positions."""
        self._method, self._path = EndpointTemplate.parse_fixed(read.request or f"GET {read.path}", where="read")
        self._base = base
        self._origin = origin
        self._params = read.params
        self._since = read.since.param if read.since else None
        self._body = read.body
        self._hidden = frozenset(hidden)
        asked = {**dict(parse_qsl(self._path.partition("?")[2])), **read.params}
        self._secret = {name: value for name, value in asked.items() if name in self._hidden}
        self._fixed: Mapping[str, Json] = {}

    def with_bounds(self, bounds: Mapping[str, Json]) -> RequestBuilder:
        """Return a copy with the parameters `bounds`, which are the same for all pages of a list."""
        builder = copy(self)
        builder._fixed = bounds  # noqa: SLF001 - of the same class
        return builder

    def build(self, position: Position, since: str | None) -> PageRequest:
        """Return the request for the page at `position`, for records changed since `since`."""
        url = position.get("url")
        if isinstance(url, str):
            return PageRequest(self._method, self._origin + self._add_secrets(url), self._content({}))
        changing = {**self._fixed, **get_position_params(position)}
        if since is not None and self._since is not None:
            changing = {self._since: since, **changing}
        if isinstance(self._body, dict) and self._method != "GET":
            return PageRequest(self._method, self._url(self._params), self._content(changing))
        return PageRequest(self._method, self._url({**self._params, **changing}), self._content({}))

    def remove_secrets(self, position: Position) -> Position:
        """Return `position` without the secrets in a next-page URL."""
        url = position.get("url")
        if not self._hidden or not isinstance(url, str):
            return position
        path, _, query = url.partition("?")
        pairs = parse_qsl(query, keep_blank_values=True)
        visible = [(name, value) for name, value in pairs if name not in self._hidden]
        if len(visible) == len(pairs):
            return position
        return {"url": f"{path}?{urlencode(visible, quote_via=quote)}" if visible else path}

    def _add_secrets(self, url: str) -> str:
        """Return a next-page URL with the secret parameters of the settings, which every page needs."""
        names = (
            {name for name, _ in parse_qsl(url.partition("?")[2], keep_blank_values=True)} if self._hidden else set()
        )
        own = {name: value for name, value in self._secret.items() if name not in names}
        if not own:
            return url
        return f"{url}{'&' if '?' in url else '?'}{urlencode(list(_iterate_params(own)), quote_via=quote)}"

    def _url(self, params: Mapping[str, Json]) -> str:
        query = urlencode(list(_iterate_params(params)), quote_via=quote)
        joint = "&" if "?" in self._path else "?"
        return f"{self._base}{self._path}{joint}{query}" if query else self._base + self._path

    def _content(self, changing: Mapping[str, Json]) -> bytes:
        if self._body is None:
            return b""
        body: Json = self._body
        for name, value in changing.items():
            body = _set_at(body, _split_name(name), value)
        return encode(body)


def get_position_params(position: Position) -> Mapping[str, Json]:
    """Return the parameters of a position; empty if it is a URL."""
    params = position.get("params")
    return params if isinstance(params, dict) else {}


def _iterate_params(params: Mapping[str, Json]) -> Iterator[tuple[str, str]]:
    for name, value in params.items():
        if value is None:
            continue
        for one in value if isinstance(value, list) else [value]:
            text = format_scalar(one)
            if text is None:
                raise SpecError(f"read.params.{name}: expected text, a number, true or false, or a list of these")
            yield name, text


def _split_name(name: str) -> tuple[str | int, ...]:
    try:
        return FieldPath.parse(name).parts
    except PathSyntaxError:
        return (name,)


def _set_at(body: Json, steps: tuple[str | int, ...], value: Json) -> Json:
    """Return `body` with `value` at `steps`; missing objects are created."""
    if not steps:
        return value
    inner = body if isinstance(body, dict) else {}
    name = str(steps[0])
    return {**inner, name: _set_at(inner.get(name), steps[1:], value)}
