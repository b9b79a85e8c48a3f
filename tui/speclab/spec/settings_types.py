"""The types of single settings: how each is read, what it is called, and what is said of a value that does not fit.

Apart from the models, so that those read as the specification they are.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any, Final

from pydantic import AfterValidator, BeforeValidator, Field, PlainSerializer
from pydantic.fields import FieldInfo
from pydantic_core import PydanticCustomError

from speclab.core.paths import FieldPath, PathSyntaxError
from speclab.spec.units import Rate, duration, duration_text, share, share_text, size, size_text


@dataclass(frozen=True, slots=True)
class TextType:
    """What a type of setting is called, and how a value of it is written."""

    name: str
    show: Callable[[Any], str] = str


def is_secret(info: FieldInfo) -> bool:
    """Whether a setting is a secret."""
    return isinstance(info.json_schema_extra, dict) and info.json_schema_extra.get("secret") is True


def has_login(info: FieldInfo) -> bool:
    """Whether a setting is a URL with a login, in which characters that URLs are made of are encoded."""
    return isinstance(info.json_schema_extra, dict) and info.json_schema_extra.get("login") is True


def misfit(message: str, at: str | None = None) -> PydanticCustomError:
    """The error of settings that do not go together; `at` is the setting to blame, if there is one."""
    return PydanticCustomError("misfit", "{message}", {"message": message, "at": at})


def _misread(message: str, offset: int = 0, *, item: int | None = None) -> PydanticCustomError:
    """The error of a text, which may be an `item` of a list, that cannot be read from `offset` on."""
    return PydanticCustomError("misread", "{message}", {"message": message, "offset": offset, "item": item})


def _filled(text: object) -> object:
    if text == "":
        raise PydanticCustomError("empty", "is empty")
    return text


def _path(text: str, item: int | None = None) -> str:
    try:
        FieldPath.parse(text)
    except PathSyntaxError as error:
        raise _misread(f"{text!r} is no path: {error}", error.offset, item=item) from error
    return text


def _list_path(text: str) -> str:
    if where := text.removesuffix("[*]"):
        _path(where)
    return text


def _names(value: object) -> object:
    for item, text in enumerate(value) if isinstance(value, list | tuple) else ():
        if not isinstance(text, str) or not text:
            raise _misread("expected a name such as id", item=item)
    if not value or not isinstance(value, str | list | tuple):
        raise ValueError("expected a name such as id, or a list of names such as [region, id]")
    return value


def _paths(value: str | tuple[str, ...]) -> str | tuple[str, ...]:
    if isinstance(value, str):
        return _path(value)
    return tuple(_path(text, item) for item, text in enumerate(value))


def _rates(value: object) -> tuple[Rate, ...]:
    if not isinstance(value, list | tuple):
        return (Rate.parse(value),)
    found = []
    for item, text in enumerate(value):
        try:
            found.append(Rate.parse(text))
        except ValueError as error:
            raise _misread(str(error), item=item) from error
    return tuple(found)


def _timeout(text: object) -> float:
    seconds = duration(text)
    if not seconds:
        raise ValueError("expected some time, such as 30s: nothing is done in none")
    return seconds


_METHODS: Final = ("GET", "POST", "PUT", "PATCH", "DELETE")
_REQUEST: Final = re.compile(rf"(?:{'|'.join(_METHODS)}) +\S.*")
WEIGHED: Final = re.compile(rf"(?:{'|'.join(_METHODS)})(?: /\S*)?")
"""What a request may be named by that has a weight: its method, and the beginning of its path."""
_PLACEHOLDER: Final = re.compile(r"\$\{[^{}]*\}|\{(?P<path>[^{}]*)\}|(?P<odd>[{}])")


_HEADER_NAME: Final = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")
_CONTROL: Final = re.compile(r"[\0-\x1f\x7f]")
# What is no URL is not shown: it may hold a password all the same.
_HTTP_URL: Final = re.compile(r"https?://[^\s/?#]+(?:[/?#]\S*)?", re.IGNORECASE)
_DATABASE_URL: Final = re.compile(r"[A-Za-z][\w+]*://.*", re.DOTALL)


def _header_name(text: str) -> str:
    if not _HEADER_NAME.fullmatch(text) and "${" not in text:  # RFC 9110 section 5.1
        raise ValueError(f"{text!r} is no name of a header; expected one such as X-Api-Key")
    return text


def _header_text(text: str) -> str:
    if odd := _CONTROL.search(text):
        raise _misread("a header cannot have a line break or another control character in it", odd.start())
    return text


def _http_url(text: str) -> str:
    if not _HTTP_URL.fullmatch(text) and "${" not in text:
        raise ValueError("expected an http:// or https:// URL such as https://api.example.com")
    return text


def _base_url(text: str) -> str:
    if "${" not in text and (end := re.search("[?#]", _http_url(text))):
        raise _misread("`base_url` must end before `?` and `#`; what is asked of every page is `params`", end.start())
    return text


def _database_url(text: str) -> str:
    if not _DATABASE_URL.fullmatch(text) and "${" not in text:
        raise ValueError("expected a database URL such as sqlite:///out/customers.db")
    return text


def _template(text: str) -> str:
    for match in _PLACEHOLDER.finditer(text):
        if match["odd"]:
            raise _misread(f"a {match['odd']} without its other half", match.start())
        if match["path"] is not None:
            try:
                FieldPath.parse(match["path"])
            except PathSyntaxError as error:
                at = match.start("path") + error.offset
                raise _misread(f"{match['path']!r} is no path: {error}", at) from error
    return text


def places(value: object) -> list[str]:
    """What stands in braces in `value`, a text or JSON with texts in it; references are none."""
    if isinstance(value, str):
        return [match["path"].strip() for match in _PLACEHOLDER.finditer(value) if match["path"] is not None]
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return [found for one in inner for found in places(one)]


def _parent(text: str) -> str:
    if not text.isidentifier() or text in ("source", "target"):
        raise ValueError(f"expected a name such as account, not {text!r}")
    return text


_SIGNED: Final = ("method", "url", "host", "path", "query", "target", "timestamp", "nonce", "body", "body_hash")
_PART: Final = re.compile(r"\{(?P<name>[^{}]*)\}|(?P<odd>[{}])")


def _signed(text: str) -> str:
    for match in _PART.finditer(text):
        if match["odd"]:
            raise _misread(f"a {match['odd']} without its other half", match.start())
        if match["name"] not in _SIGNED:
            known = " ".join(f"{{{name}}}" for name in _SIGNED)
            raise _misread(f"{match[0]} is no part of a request; expected one of {known}", match.start())
    return text


def _location(text: str) -> str:
    if text.split(" ", maxsplit=1)[0] in _METHODS:
        raise ValueError("expected a path alone, which is asked with GET; a method goes into `request`")
    return _template(text)


def _request(text: str) -> str:
    if not _REQUEST.fullmatch(text):
        raise ValueError(f"expected a method and a path, such as PUT /customers/{{id}}, not {text!r}")
    return _template(text)


Duration = Annotated[
    float, BeforeValidator(duration), PlainSerializer(duration_text), TextType("duration", show=duration_text)
]
"""Seconds; written as a duration."""
Timeout = Annotated[
    float, BeforeValidator(_timeout), PlainSerializer(duration_text), TextType("duration", show=duration_text)
]
"""The same, but not none."""
Size = Annotated[int, BeforeValidator(size), TextType("size", show=size_text)]
"""Bytes; written as a size."""
Share = Annotated[float, BeforeValidator(share), PlainSerializer(share_text), TextType("share", show=share_text)]
"""A part of one, or more than one; written in percent."""
Rates = Annotated[
    tuple[Rate, ...],
    BeforeValidator(_rates),
    PlainSerializer(lambda found: [*map(str, found)]),
    TextType("rate, or list of rates"),
]
"""Some `Rate`; written as one, or as a list."""
Weight = Annotated[int, Field(ge=1), TextType("whole number")]
"""What a request counts in a rate."""
Text = Annotated[str, BeforeValidator(_filled), TextType("text")]
"""A text that says something."""
HttpUrl = Annotated[str, AfterValidator(_http_url), TextType("URL")]
"""A URL of the web; like every text, it may have references in it, and is then not looked into."""
BaseUrl = Annotated[str, AfterValidator(_base_url), TextType("URL")]
"""A URL that others begin with."""
DatabaseUrl = Annotated[str, AfterValidator(_database_url), TextType("URL of a database")]
"""A URL as SQLAlchemy reads it."""
Status = Annotated[int, Field(ge=100, le=599), TextType("HTTP status")]
"""A status of HTTP."""
Path = Annotated[str, AfterValidator(_path), TextType("path")]
"""A field path, see `FieldPath`."""
ListPath = Annotated[str, AfterValidator(_list_path), TextType("path")]
"""A field path, of a list; `[*]` may stand after it, or for the list that is all there is."""
Columns = Annotated[str | tuple[str, ...], BeforeValidator(_names), TextType("column, or list of columns")]
"""The column of an identity, or the columns of its parts."""
Key = Annotated[
    str | tuple[str, ...], BeforeValidator(_names), AfterValidator(_paths), TextType("path, or list of paths")
]
"""The path of an identity, or the paths of its parts."""
Location = Annotated[str, AfterValidator(_location), TextType("URL path")]
"""What stands after a base URL; `{path}` in it is filled in."""
Request = Annotated[str, AfterValidator(_request), TextType("method and URL path")]
"""A method and a location."""
HeaderName = Annotated[str, AfterValidator(_header_name), TextType("name of a header")]
"""What a header is called."""
HeaderText = Annotated[str, AfterValidator(_header_text), TextType("text")]
"""The value of a header."""
HeaderTemplate = Annotated[
    str, AfterValidator(_header_text), AfterValidator(_template), TextType("text, with {paths} to be filled in")
]
"""The value of a header; `{path}` in it is filled in."""
ParentName = Annotated[str, AfterValidator(_parent), TextType("name")]
"""What a parent goes by in templates and in the records of its list."""
Cel = Annotated[str, TextType("CEL expression")]
"""An expression; whether it can be read is checked apart, for CEL is slow to load."""
OptionalSecret = Annotated[
    str | None, Field(json_schema_extra={"secret": True}), TextType("secret, as a ${...} reference")
]
"""What must not stand in the file, and is taken out of whatever is logged."""
Secret = Annotated[
    str, BeforeValidator(_filled), Field(json_schema_extra={"secret": True}), TextType("secret, as a ${...} reference")
]
"""The same, where there must be one."""
Password = Annotated[str, Field(json_schema_extra={"secret": True}), TextType("secret, as a ${...} reference")]
"""The same, where it may be empty: some systems take a key for the user's name, and no password."""
SignedText = Annotated[str, AfterValidator(_signed), TextType("text with {parts} of the request")]
"""What a signature is over."""
