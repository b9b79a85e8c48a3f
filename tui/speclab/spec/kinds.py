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

from speclab.paths import FieldPath, PathSyntaxError
from speclab.spec.units import Rate, duration, duration_text, rates, share, share_text, size, size_text


@dataclass(frozen=True, slots=True)
class Kind:
    """What a type of setting is called, and how a value of it is written."""

    name: str
    show: Callable[[Any], str] = str


def is_secret(info: FieldInfo) -> bool:
    """Whether a setting is a secret."""
    return isinstance(info.json_schema_extra, dict) and info.json_schema_extra.get("secret") is True


def misfit(message: str, at: str | None = None) -> PydanticCustomError:
    """The error of settings that do not go together; `at` is the setting to blame, if there is one."""
    return PydanticCustomError("misfit", "{message}", {"message": message, "at": at})


def _misread(message: str, offset: int) -> PydanticCustomError:
    """The error of a text that cannot be read from `offset` on."""
    return PydanticCustomError("misread", "{message}", {"message": message, "offset": offset})


def _path(text: str) -> str:
    try:
        FieldPath.parse(text)
    except PathSyntaxError as error:
        raise _misread(f"{text!r} is no path: {error}", error.offset) from error
    return text


def _list_path(text: str) -> str:
    if where := text.removesuffix("[*]"):
        _path(where)
    return text


def _names(value: object) -> object:
    texts = [value] if isinstance(value, str) else value
    if not isinstance(texts, list | tuple) or not texts or not all(isinstance(text, str) and text for text in texts):
        raise ValueError("expected a name such as id, or a list of names such as [region, id]")
    return value


def _paths(value: str | tuple[str, ...]) -> str | tuple[str, ...]:
    for text in [value] if isinstance(value, str) else value:
        _path(text)
    return value


_METHODS: Final = ("GET", "POST", "PUT", "PATCH", "DELETE")
_REQUEST: Final = re.compile(rf"(?:{'|'.join(_METHODS)}) +\S.*")
WEIGHED: Final = re.compile(rf"(?:{'|'.join(_METHODS)})(?: /\S*)?")
"""What a request may be named by that has a weight: its method, and the beginning of its path."""
_PLACEHOLDER: Final = re.compile(r"\$\{[^{}]*\}|\{(?P<path>[^{}]*)\}|(?P<odd>[{}])")


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
    float, BeforeValidator(duration), PlainSerializer(duration_text), Kind("duration", show=duration_text)
]
"""Seconds; written as a duration."""
Size = Annotated[int, BeforeValidator(size), Kind("size", show=size_text)]
"""Bytes; written as a size."""
Share = Annotated[float, BeforeValidator(share), PlainSerializer(share_text), Kind("share", show=share_text)]
"""A part of one, or more than one; written in percent."""
Rates = Annotated[
    tuple[Rate, ...],
    BeforeValidator(rates),
    PlainSerializer(lambda found: [*map(str, found)]),
    Kind("rate, or list of rates"),
]
"""Some `Rate`; written as one, or as a list."""
Weight = Annotated[int, Field(ge=1), Kind("whole number")]
"""What a request counts in a rate."""
Path = Annotated[str, AfterValidator(_path), Kind("path")]
"""A field path, see `FieldPath`."""
ListPath = Annotated[str, AfterValidator(_list_path), Kind("path")]
"""A field path, of a list; `[*]` may stand after it, or for the list that is all there is."""
Columns = Annotated[str | tuple[str, ...], BeforeValidator(_names), Kind("column, or list of columns")]
"""The column of an identity, or the columns of its parts."""
Key = Annotated[str | tuple[str, ...], BeforeValidator(_names), AfterValidator(_paths), Kind("path, or list of paths")]
"""The path of an identity, or the paths of its parts."""
Location = Annotated[str, AfterValidator(_location), Kind("URL path")]
"""What stands after a base URL; `{path}` in it is filled in."""
Request = Annotated[str, AfterValidator(_request), Kind("method and URL path")]
"""A method and a location."""
HeaderText = Annotated[str, AfterValidator(_template), Kind("text, with {paths} to be filled in")]
"""The value of a header; `{path}` in it is filled in."""
ParentName = Annotated[str, AfterValidator(_parent), Kind("name")]
"""What a parent goes by in templates and in the records of its list."""
Cel = Annotated[str, Kind("CEL expression")]
"""An expression; whether it can be read is checked apart, for CEL is slow to load."""
Secret = Annotated[str, Field(json_schema_extra={"secret": True}), Kind("secret, as a ${...} reference")]
"""What must not stand in the file, and is taken out of whatever is logged."""
OptionalSecret = Annotated[str | None, Field(json_schema_extra={"secret": True}), Kind("secret, as a ${...} reference")]
"""The same, where there may be none."""
SignedText = Annotated[str, AfterValidator(_signed), Kind("text with {parts} of the request")]
"""What a signature is over."""
