"""Building requests: path, query, header and body templates, and the parameters of a page."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from copy import copy
from dataclasses import dataclass
from typing import Final
from urllib.parse import parse_qsl, quote, urlencode

from speclab.connectors.api import MappedRecord
from speclab.connectors.auth.credentials import header_name, header_value
from speclab.connectors.http.client import Client, Exchange
from speclab.connectors.http.pagination import Position
from speclab.connectors.http.settings import HttpRead
from speclab.connectors.http.write_settings import HttpWrite
from speclab.connectors.secrets.references import References
from speclab.core.errors import SpecError
from speclab.core.json import Json, encode
from speclab.core.paths import FieldPath, PathSyntaxError

_PLACE: Final = re.compile(r"\{([^{}]*)\}")
_DOTS: Final = (".", "..")
SCOPE: Final = frozenset({"source", "found"})
"""What a write's request is about beside the record: the record before mapping, and what the lookup found."""
_WITHIN: Final = {
    "source": "is not in the source record",
    "found": "is not in what the lookup found",
    "lookup": "is not in the answer to the lookup",
}


class MissingValue(Exception):
    """A record has nothing that could stand in a template's place; `path` is the place, `name` what it looks into."""

    def __init__(self, path: str, reason: str, name: str = "") -> None:
        super().__init__(f"{{{path}}} {reason}")
        self.path = path
        self.name = name
        self.message = f"{{{path}}} {reason}"


@dataclass(frozen=True, slots=True)
class Placeholder:
    """One `{path}`: a name of the scope and a path from there; without one, a path in the record itself."""

    text: str
    name: str
    path: FieldPath

    @classmethod
    def parse(cls, text: str, *, where: str, names: frozenset[str]) -> Placeholder:
        """The place whose braces hold `text`, see `Template.parse`. Raises `SpecError`."""
        try:
            path = FieldPath.parse(text)
        except PathSyntaxError as error:
            raise SpecError(f"{where}: {{{text}}} is no field: {error}") from None
        first = path.parts[0]
        if first in names and len(path.parts) > 1:
            return cls(text, str(first), FieldPath(path.parts[1:]))
        return cls(text, "", path)

    def value(self, record: Json, scope: Mapping[str, Json]) -> Json:
        """The value here, which may be null. Raises `MissingValue`."""
        root = scope.get(self.name) if self.name else record
        try:
            return self.path.get(root)
        except KeyError:
            raise MissingValue(self.text, _WITHIN.get(self.name, "is not in the record"), self.name) from None

    def written(self, record: Json, scope: Mapping[str, Json]) -> str:
        """The value here as a URL has it, not encoded yet. Raises `MissingValue` for what cannot stand in one."""
        return _text(self, self.value(record, scope))


@dataclass(frozen=True, slots=True)
class Template:
    """Text with places, for URLs."""

    parts: tuple[str | Placeholder, ...]

    @classmethod
    def parse(cls, text: str, *, where: str, names: frozenset[str] = frozenset()) -> Template:
        """The template `text`; a path that begins with one of `names` is looked up in the scope under that name.

        Raises `SpecError`, which says `where` the template stands.
        """
        parts: list[str | Placeholder] = []
        at = 0
        for match in _PLACE.finditer(text):
            parts.append(text[at : match.start()])
            parts.append(Placeholder.parse(match[1].strip(), where=where, names=names))
            at = match.end()
        parts.append(text[at:])
        if stray := [brace for part in parts if isinstance(part, str) for brace in part if brace in "{}"]:
            raise SpecError(f"{where}: '{stray[0]}' without its partner in {text!r}")
        return cls(tuple(part for part in parts if part != ""))

    def render(self, record: Json, scope: Mapping[str, Json]) -> str:
        """The text with every value in its place, percent-encoded. Raises `MissingValue`."""
        out = ""
        for index, part in enumerate(self.parts):
            if isinstance(part, str):
                out += part
                continue
            text = part.written(record, scope)
            out += quote(text, safe="")
            if self._segment_ends(index) and out.rpartition("/")[2] in _DOTS:
                raise MissingValue(part.text, f"is {text!r}, which would change the path it stands in")
        return out

    def _segment_ends(self, index: int) -> bool:
        following = self.parts[index + 1] if index + 1 < len(self.parts) else "/"
        return isinstance(following, str) and following[0] in "/?"


@dataclass(frozen=True, slots=True)
class EndpointTemplate:
    """A method and where to send it."""

    method: str
    target: Template
    text: str

    @classmethod
    def fixed(cls, text: str, *, where: str) -> tuple[str, str]:
        """Method and path of an endpoint that is asked for no record in particular. Raises `SpecError`."""
        endpoint = cls.parse(text, where=where)
        try:
            return endpoint.method, endpoint.target.render({}, {})
        except MissingValue as error:
            raise SpecError(f"{where}: there is no record that could fill in {{{error.path}}}") from None

    @classmethod
    def parse(cls, text: str, *, where: str, names: frozenset[str] = frozenset()) -> EndpointTemplate:
        """The endpoint written as `PUT /customers/{id}`. Raises `SpecError`."""
        method, _, path = text.partition(" ")
        target = f"/{path.strip().removeprefix('/')}"
        return cls(method, Template.parse(target, where=where, names=names), text)


def scalar_text(value: Json) -> str | None:
    """`value` as it stands in a URL: text, a number, true or false; None for what cannot."""
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return str(value)
    return None


def _text(place: Placeholder, value: Json) -> str:
    text = scalar_text(value)
    if text is None:
        reason = "is null" if value is None else "is a list" if isinstance(value, list) else "is an object"
        raise MissingValue(place.text, f"{reason}, which cannot stand in a URL")
    if not text:
        raise MissingValue(place.text, "is empty")
    if any("\ud800" <= character <= "\udfff" for character in text):
        raise MissingValue(place.text, "holds half a surrogate pair, which is no text")
    return text


_HEADER_PLACEHOLDER: Final = re.compile(r"(?<!\$)\{([^{}]*)\}")
"""What is filled in: anything in braces but references."""
_NAMES: Final = frozenset({"source", "found", "lookup"})
_OF_THE_LOOKUP: Final = frozenset({"found", "lookup"})
_UNSENDABLE: Final = re.compile(r"[\x00-\x1f\x7f]|^ | $")


class HeaderTemplates:
    """The headers of one target's writes."""

    def __init__(self, write: HttpWrite, client: Client, references: References) -> None:
        """Headers as `write.headers` has them, with the references still in them: a secret is no template.

        Raises `SpecError`.
        """
        texts = write.headers
        fixed = {name: references.resolve(text) for name, text in texts.items() if not _HEADER_PLACEHOLDER.search(text)}
        self.fixed: Sequence[tuple[bytes, bytes]] = client.encoded(fixed)
        """The headers that are the same for every record."""
        self._filled = [_Header.parse(name, text, references) for name, text in texts.items() if name not in fixed]
        self._key = header_name(write.idempotency).encode("ascii") if write.idempotency else None

    def given(self, item: MappedRecord, scope: Mapping[str, Json]) -> list[tuple[bytes, bytes]]:
        """The headers of the write of `item`; without those that tell of what the lookup found, if it found nothing.

        Raises `MissingValue`.
        """
        headers = [
            header.given(item.payload, scope)
            for header in self._filled
            if not header.of_the_lookup or "lookup" in scope
        ]
        return [*self.fixed, *headers, *self.keyed(item.idempotency_key)]

    def keyed(self, key: str) -> list[tuple[bytes, bytes]]:
        """The header that carries the idempotency key, where the spec has one."""
        return [] if self._key is None else [(self._key, key.encode("ascii"))]


def of_lookup(answer: Exchange) -> Json:
    """What `{lookup.etag}` and `{lookup.header.NAME}` stand for after `answer`."""
    headers: dict[str, Json] = dict(answer.headers.items())
    etag: dict[str, Json] = {"etag": headers["etag"]} if "etag" in headers else {}
    return {**etag, "header": headers}


@dataclass(frozen=True, slots=True)
class _Header:
    name: str
    parts: Sequence[str | Placeholder]

    @classmethod
    def parse(cls, name: str, text: str, references: References) -> _Header:
        parts: list[str | Placeholder] = []
        at = 0
        for match in _HEADER_PLACEHOLDER.finditer(text):
            inner = match[1].strip()
            if inner.lower().startswith("lookup."):  # names of headers are in no case
                inner = inner.lower()
            parts.append(header_value(name, references.resolve(text[at : match.start()])))
            parts.append(Placeholder.parse(inner, where=f"write.headers.{name}", names=_NAMES))
            at = match.end()
        return cls(header_name(name), [*parts, header_value(name, references.resolve(text[at:]))])

    @property
    def of_the_lookup(self) -> bool:
        return any(isinstance(part, Placeholder) and part.name in _OF_THE_LOOKUP for part in self.parts)

    def given(self, record: Json, scope: Mapping[str, Json]) -> tuple[bytes, bytes]:
        value = "".join(part if isinstance(part, str) else self._text(part, record, scope) for part in self.parts)
        return self.name.encode("ascii"), value.encode("utf-8")

    def _text(self, place: Placeholder, record: Json, scope: Mapping[str, Json]) -> str:
        text = place.written(record, scope)
        if _UNSENDABLE.search(text):
            raise MissingValue(place.text, f"has what cannot stand in a header, such as {self.name}")
        return text


@dataclass(frozen=True, slots=True)
class PageRequest:
    """One request as it is to be sent."""

    method: str
    url: str
    content: bytes = b""


class RequestBuilder:
    """Makes the requests of one read.

    What changes from page to page goes into the query; of a `request` with a body that is an object, into the body.
    """

    def __init__(self, read: HttpRead, base: str, origin: str, *, hidden: Collection[str]) -> None:
        """Questions to `base`; `hidden` are parameters that carry secrets, which no position may keep."""
        self._method, self._path = EndpointTemplate.fixed(read.request or f"GET {read.path}", where="read")
        self._base = base
        self._origin = origin
        self._params = read.params
        self._since = read.since.param if read.since else None
        self._body = read.body
        self._hidden = frozenset(hidden)
        asked = {**dict(parse_qsl(self._path.partition("?")[2])), **read.params}
        self._secret = {name: value for name, value in asked.items() if name in self._hidden}
        self._fixed: Mapping[str, Json] = {}

    def between(self, bounds: Mapping[str, Json]) -> RequestBuilder:
        """These questions with the parameters `bounds`, which change from list to list and not from page to page."""
        questions = copy(self)
        questions._fixed = bounds  # noqa: SLF001 - a copy of its own kind
        return questions

    def ask(self, position: Position, since: str | None) -> PageRequest:
        """The request for the page at `position`, of what changed since `since`."""
        url = position.get("url")
        if isinstance(url, str):
            return PageRequest(self._method, self._origin + self._whole(url), self._content({}))
        changing = {**self._fixed, **position_params(position)}
        if since is not None and self._since is not None:
            changing = {self._since: since, **changing}
        if isinstance(self._body, dict) and self._method != "GET":
            return PageRequest(self._method, self._url(self._params), self._content(changing))
        return PageRequest(self._method, self._url({**self._params, **changing}), self._content({}))

    def kept(self, position: Position) -> Position:
        """`position` without the secrets that a next-page URL brought along."""
        url = position.get("url")
        if not self._hidden or not isinstance(url, str):
            return position
        path, _, query = url.partition("?")
        pairs = parse_qsl(query, keep_blank_values=True)
        open_ones = [(name, value) for name, value in pairs if name not in self._hidden]
        if len(open_ones) == len(pairs):
            return position
        return {"url": f"{path}?{urlencode(open_ones, quote_via=quote)}" if open_ones else path}

    def _whole(self, url: str) -> str:
        """A next-page URL that was kept, with the secret parameters of the settings, as every page is asked for."""
        names = (
            {name for name, _ in parse_qsl(url.partition("?")[2], keep_blank_values=True)} if self._hidden else set()
        )
        own = {name: value for name, value in self._secret.items() if name not in names}
        if not own:
            return url
        return f"{url}{'&' if '?' in url else '?'}{urlencode(list(_pairs(own)), quote_via=quote)}"

    def _url(self, params: Mapping[str, Json]) -> str:
        query = urlencode(list(_pairs(params)), quote_via=quote)
        joint = "&" if "?" in self._path else "?"
        return f"{self._base}{self._path}{joint}{query}" if query else self._base + self._path

    def _content(self, changing: Mapping[str, Json]) -> bytes:
        if self._body is None:
            return b""
        body: Json = self._body
        for name, value in changing.items():
            body = _with(body, _steps(name), value)
        return encode(body)


def position_params(position: Position) -> Mapping[str, Json]:
    """The parameters of a position that has them."""
    params = position.get("params")
    return params if isinstance(params, dict) else {}


def _pairs(params: Mapping[str, Json]) -> Iterator[tuple[str, str]]:
    for name, value in params.items():
        if value is None:
            continue
        for one in value if isinstance(value, list) else [value]:
            text = scalar_text(one)
            if text is None:
                raise SpecError(f"read.params.{name}: expected text, a number, true or false, or a list of those")
            yield name, text


def _steps(name: str) -> tuple[str | int, ...]:
    try:
        return FieldPath.parse(name).parts
    except PathSyntaxError:
        return (name,)


def _with(body: Json, steps: tuple[str | int, ...], value: Json) -> Json:
    """`body` with `value` at `steps`; objects on the way are made where they are not."""
    if not steps:
        return value
    inner = body if isinstance(body, dict) else {}
    name = str(steps[0])
    return {**inner, name: _with(inner.get(name), steps[1:], value)}
