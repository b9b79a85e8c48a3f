"""The request for one page: path, parameters, the time to read from, and the position, in a URL or in a body."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from copy import copy
from dataclasses import dataclass
from urllib.parse import parse_qsl, quote, urlencode

from speclab.connectors.http.pagination import Position
from speclab.connectors.http.templates import Endpoint, scalar_text
from speclab.connectors.jsontext import encode
from speclab.errors import SpecError
from speclab.jsonvalue import Json
from speclab.paths import FieldPath, PathSyntaxError
from speclab.spec.systems.http import HttpRead


@dataclass(frozen=True, slots=True)
class Question:
    """One request as it is to be sent."""

    method: str
    url: str
    content: bytes = b""


class Questions:
    """Makes the requests of one read.

    What changes from page to page goes into the query; of a `request` with a body that is an object, into the body.
    """

    def __init__(self, read: HttpRead, base: str, origin: str, *, hidden: Collection[str]) -> None:
        """Questions to `base`; `hidden` are parameters that carry secrets, which no position may keep."""
        self._method, self._path = Endpoint.fixed(read.request or f"GET {read.path}", where="read")
        self._base = base
        self._origin = origin
        self._params = read.params
        self._since = read.since.param if read.since else None
        self._body = read.body
        self._hidden = frozenset(hidden)
        asked = {**dict(parse_qsl(self._path.partition("?")[2])), **read.params}
        self._secret = {name: value for name, value in asked.items() if name in self._hidden}
        self._fixed: Mapping[str, Json] = {}

    def between(self, bounds: Mapping[str, Json]) -> Questions:
        """These questions with the parameters `bounds`, which change from list to list and not from page to page."""
        questions = copy(self)
        questions._fixed = bounds  # noqa: SLF001 - a copy of its own kind
        return questions

    def ask(self, position: Position, since: str | None) -> Question:
        """The request for the page at `position`, of what changed since `since`."""
        url = position.get("url")
        if isinstance(url, str):
            return Question(self._method, self._origin + self._whole(url), self._content({}))
        changing = {**self._fixed, **position_params(position)}
        if since is not None and self._since is not None:
            changing = {self._since: since, **changing}
        if isinstance(self._body, dict) and self._method != "GET":
            return Question(self._method, self._url(self._params), self._content(changing))
        return Question(self._method, self._url({**self._params, **changing}), self._content({}))

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
