"""Types of settings, and the units in which they are written: durations, sizes, rates."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any, Final

from pydantic import AfterValidator, BeforeValidator, Field, PlainSerializer
from pydantic.fields import FieldInfo
from pydantic_core import PydanticCustomError

from speclab.core.clock import LONGEST
from speclab.core.paths import FieldPath, PathSyntaxError
from speclab.core.text import TEMPLATE_TOKEN

_SECONDS: Final = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0, "w": 604800.0}
_DURATION: Final = re.compile(r"(?:\d+(?:\.\d+)?\s*(?:ms|s|m|h|d|w)\s*)+")
_DURATION_PART: Final = re.compile(r"(\d+(?:\.\d+)?)\s*(ms|s|m|h|d|w)")
_BYTES: Final = {
    "b": 1,
    "kb": 1000,
    "mb": 1000**2,
    "gb": 1000**3,
    "kib": 1024,
    "mib": 1024**2,
    "gib": 1024**3,
}
_SIZE: Final = re.compile(r"(\d{1,12}(?:\.\d+)?)\s*([kmg]i?b|b)", re.IGNORECASE)
_PER: Final = {
    "s": 1,
    "sec": 1,
    "second": 1,
    "min": 60,
    "m": 60,
    "minute": 60,
    "h": 3600,
    "hour": 3600,
    "d": 86400,
    "day": 86400,
}
_SHARE: Final = re.compile(r"(\d{1,9}(?:\.\d+)?)\s*%")
_RATE: Final = re.compile(r"(\d{1,9})\s*/\s*(\d{0,9})\s*([a-z]+)")


def parse_duration(text: object) -> float:
    """Return the seconds in `30s`, `5m`, `1h30m` or `500ms`; `0` is zero. Raises `ValueError`."""
    if text == "0" or (type(text) is int and text == 0):
        return 0.0
    if isinstance(text, str) and _DURATION.fullmatch(text):
        seconds = sum(float(count) * _SECONDS[unit] for count, unit in _DURATION_PART.findall(text))
        if seconds > LONGEST:
            raise ValueError(f"expected a duration of at most {format_duration(LONGEST)}, got {_describe(text)}")
        return seconds
    raise ValueError(f"expected a duration such as 30s, 5m or 24h, got {_describe(text)}")


def format_duration(seconds: float) -> str:
    """Return `seconds` as a duration, to the millisecond: 90 is `1m30s`."""
    left, out = round(seconds * 1000), ""
    for unit in ("d", "h", "m", "s", "ms"):
        count, left = divmod(left, round(_SECONDS[unit] * 1000))
        out += f"{count}{unit}" if count else ""
    return out or "0s"


def parse_size(text: object) -> int:
    """Return the bytes in `10MB` or `512KiB`; decimal units are powers of 1000 (IEC 80000-13). Raises `ValueError`."""
    if isinstance(text, str) and (match := _SIZE.fullmatch(text)):
        return int(float(match[1]) * _BYTES[match[2].lower()])
    raise ValueError(f"expected a size such as 10MB or 512KiB, got {_describe(text)}")


def format_size(count: int) -> str:
    """Return `count` bytes as a size: 50,000,000 is `50MB`."""
    for unit in ("GB", "MB", "KB"):
        if count and count % _BYTES[unit.lower()] == 0:
            return f"{count // _BYTES[unit.lower()]}{unit}"
    return f"{count}B"


def parse_share(text: object) -> float:
    """Return the fraction in a percentage: `50%` is 0.5. Raises `ValueError`."""
    if isinstance(text, str) and (match := _SHARE.fullmatch(text)):
        return float(match[1]) / 100
    raise ValueError(f"expected a share such as 50% or 300%, got {_describe(text)}")


def format_share(part: float) -> str:
    """Return a fraction as a percentage: 0.5 is `50%`."""
    return f"{part * 100:g}%"


@dataclass(frozen=True, slots=True)
class Rate:
    """At most `count` requests in any window of `seconds`."""

    count: int
    seconds: int

    @classmethod
    def parse(cls, text: object) -> Rate:
        """Return the rate in `100/min`, `10/s` or `1000/15min`. Raises `ValueError`."""
        if isinstance(text, Rate):
            return text
        if isinstance(text, str) and (match := _RATE.fullmatch(text)) and match[3] in _PER:
            count, seconds = int(match[1]), int(match[2] or 1) * _PER[match[3]]
            if count and seconds:
                return cls(count, seconds)
        raise ValueError(f"expected a rate such as 100/min or 10/s, got {_describe(text)}")

    def __str__(self) -> str:
        """Return the rate in the format of a spec."""
        for name, seconds in (("s", 1), ("min", 60), ("h", 3600), ("day", 86400)):
            if self.seconds == seconds:
                return f"{self.count}/{name}"
        return f"{self.count}/{self.seconds}s"


def _describe(value: object) -> str:
    return "a list or mapping" if isinstance(value, list | dict) else repr(value)


@dataclass(frozen=True, slots=True)
class TextType:
    """The name of a settings type in the reference, and the function that renders a value of it."""

    name: str
    show: Callable[[Any], str] = str


def is_secret(info: FieldInfo) -> bool:
    """Whether the setting is a secret."""
    return isinstance(info.json_schema_extra, dict) and info.json_schema_extra.get("secret") is True


def has_login(info: FieldInfo) -> bool:
    """Whether the setting is a URL that may contain credentials; reserved characters in them are percent-encoded."""
    return isinstance(info.json_schema_extra, dict) and info.json_schema_extra.get("login") is True


def conflict(message: str, at: str | None = None) -> PydanticCustomError:
    """Return the error for settings that contradict each other; `at` is the path of the setting at fault."""
    return PydanticCustomError("inconsistent", "{message}", {"message": message, "at": at})


def _invalid_text(message: str, offset: int = 0, *, item: int | None = None) -> PydanticCustomError:
    """Return the error for a text that is invalid from `offset` on; `item` is its index if it is in a list."""
    return PydanticCustomError("invalid_text", "{message}", {"message": message, "offset": offset, "item": item})


def _require_text(text: object) -> object:
    if text == "":
        raise PydanticCustomError("empty", "is empty")
    return text


def _parse_path(text: str, item: int | None = None) -> str:
    try:
        FieldPath.parse(text)
    except PathSyntaxError as error:
        raise _invalid_text(f"{text!r} is not a valid path: {error}", error.offset, item=item) from error
    return text


def _parse_list_path(text: str) -> str:
    if where := text.removesuffix("[*]"):
        _parse_path(where)
    return text


def _check_names(value: object) -> object:
    for item, text in enumerate(value) if isinstance(value, list | tuple) else ():
        if not isinstance(text, str) or not text:
            raise _invalid_text("expected a name such as id", item=item)
    if not value or not isinstance(value, str | list | tuple):
        raise ValueError("expected a name such as id, or a list of names such as [region, id]")
    return value


def _parse_paths(value: str | tuple[str, ...]) -> str | tuple[str, ...]:
    if isinstance(value, str):
        return _parse_path(value)
    return tuple(_parse_path(text, item) for item, text in enumerate(value))


def _parse_rates(value: object) -> tuple[Rate, ...]:
    if not isinstance(value, list | tuple):
        return (Rate.parse(value),)
    found = []
    for item, text in enumerate(value):
        try:
            found.append(Rate.parse(text))
        except ValueError as error:
            raise _invalid_text(str(error), item=item) from error
    return tuple(found)


def _parse_timeout(text: object) -> float:
    seconds = parse_duration(text)
    if not seconds:
        raise ValueError("expected a duration greater than zero, such as 30s")
    return seconds


_METHODS: Final = ("GET", "POST", "PUT", "PATCH", "DELETE")
_REQUEST: Final = re.compile(rf"(?:{'|'.join(_METHODS)}) +\S.*")
WEIGHED: Final = re.compile(rf"(?:{'|'.join(_METHODS)})(?: /\S*)?")
"""Key of a request weight: the method, optionally with a path prefix."""


_HEADER_NAME: Final = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")
_CONTROL: Final = re.compile(r"[\0-\x1f\x7f]")
# A value that does not match is not quoted in the message: it may contain a password.
_HTTP_URL: Final = re.compile(r"https?://[^\s/?#]+(?:[/?#]\S*)?", re.IGNORECASE)
_DATABASE_URL: Final = re.compile(r"[A-Za-z][\w+]*://.*", re.DOTALL)


def _check_header_name(text: str) -> str:
    if not _HEADER_NAME.fullmatch(text) and "${" not in text:  # RFC 9110 section 5.1
        raise ValueError(f"{text!r} is not a header name; expected one such as X-Api-Key")
    return text


def _check_header_text(text: str) -> str:
    if odd := _CONTROL.search(text):
        raise _invalid_text("a header must not contain line breaks or other control characters", odd.start())
    return text


def _check_http_url(text: str) -> str:
    if not _HTTP_URL.fullmatch(text) and "${" not in text:
        raise ValueError("expected an http:// or https:// URL such as https://api.example.com")
    return text


def _check_base_url(text: str) -> str:
    if "${" not in text and (end := re.search("[?#]", _check_http_url(text))):
        raise _invalid_text("expected `base_url` without `?` and `#`; put query parameters into `params`", end.start())
    return text


def _check_database_url(text: str) -> str:
    if not _DATABASE_URL.fullmatch(text) and "${" not in text:
        raise ValueError("expected a database URL such as sqlite:///out/customers.db")
    return text


def _check_template(text: str) -> str:
    for match in TEMPLATE_TOKEN.finditer(text):
        if match["odd"]:
            raise _invalid_text(f"unbalanced {match['odd']}", match.start())
        if match["path"] is not None:
            try:
                FieldPath.parse(match["path"])
            except PathSyntaxError as error:
                at = match.start("path") + error.offset
                raise _invalid_text(f"{match['path']!r} is not a valid path: {error}", at) from error
    return text


def _check_parent_name(text: str) -> str:
    if not text.isidentifier() or text in ("source", "target"):
        raise ValueError(f"expected a name such as account, got {text!r}")
    return text


_SIGNED: Final = ("method", "url", "host", "path", "query", "target", "timestamp", "nonce", "body", "body_hash")


def _check_signed_text(text: str) -> str:
    for match in TEMPLATE_TOKEN.finditer(text):
        if match["odd"]:
            raise _invalid_text(f"unbalanced {match['odd']}", match.start())
        if match["path"] not in _SIGNED:
            known = " ".join(f"{{{name}}}" for name in _SIGNED)
            raise _invalid_text(f"{match[0]} is not a part of a request; expected one of {known}", match.start())
    return text


def _check_location(text: str) -> str:
    if text.split(" ", maxsplit=1)[0] in _METHODS:
        raise ValueError("expected a path, which is read with GET; for another method, use `request`")
    return _check_template(text)


def _check_request(text: str) -> str:
    if not _REQUEST.fullmatch(text):
        raise ValueError(f"expected a method and a path, such as PUT /customers/{{id}}, got {text!r}")
    return _check_template(text)


Duration = Annotated[
    float, BeforeValidator(parse_duration), PlainSerializer(format_duration), TextType("duration", show=format_duration)
]
"""A duration, in seconds."""
Timeout = Annotated[
    float, BeforeValidator(_parse_timeout), PlainSerializer(format_duration), TextType("duration", show=format_duration)
]
"""A duration greater than zero, in seconds."""
Size = Annotated[int, BeforeValidator(parse_size), TextType("size", show=format_size)]
"""A size, in bytes."""
Share = Annotated[
    float, BeforeValidator(parse_share), PlainSerializer(format_share), TextType("share", show=format_share)
]
"""A share, as a fraction: 50% is 0.5."""
Rates = Annotated[
    tuple[Rate, ...],
    BeforeValidator(_parse_rates),
    PlainSerializer(lambda found: [*map(str, found)]),
    TextType("rate, or list of rates"),
]
"""One rate, or a list of them."""
Weight = Annotated[int, Field(ge=1), TextType("whole number")]
"""The number of requests that a request counts as."""
Text = Annotated[str, BeforeValidator(_require_text), TextType("text")]
"""A text that is not empty."""
HttpUrl = Annotated[str, AfterValidator(_check_http_url), TextType("URL")]
"""An http or https URL; a URL with references is not checked."""
BaseUrl = Annotated[str, AfterValidator(_check_base_url), TextType("URL")]
"""The URL that paths are appended to."""
DatabaseUrl = Annotated[str, AfterValidator(_check_database_url), TextType("database URL")]
"""A database URL in SQLAlchemy's format."""
Status = Annotated[int, Field(ge=100, le=599), TextType("HTTP status")]
"""An HTTP status."""
Path = Annotated[str, AfterValidator(_parse_path), TextType("path")]
"""A field path, see `FieldPath`."""
ListPath = Annotated[str, AfterValidator(_parse_list_path), TextType("path")]
"""The field path of a list, optionally followed by `[*]`; `[*]` alone is the whole body."""
Columns = Annotated[str | tuple[str, ...], BeforeValidator(_check_names), TextType("column, or list of columns")]
"""The column that identifies a row, or several that do together."""
Key = Annotated[
    str | tuple[str, ...],
    BeforeValidator(_check_names),
    AfterValidator(_parse_paths),
    TextType("path, or list of paths"),
]
"""The path that identifies a record, or several that do together."""
Location = Annotated[str, AfterValidator(_check_location), TextType("URL path")]
"""A path below the base URL, with `{path}` placeholders."""
Request = Annotated[str, AfterValidator(_check_request), TextType("method and URL path")]
"""A method and a path below the base URL."""
HeaderName = Annotated[str, AfterValidator(_check_header_name), TextType("header name")]
"""The name of an HTTP header."""
HeaderText = Annotated[str, AfterValidator(_check_header_text), TextType("text")]
"""The value of an HTTP header."""
HeaderTemplate = Annotated[
    str, AfterValidator(_check_header_text), AfterValidator(_check_template), TextType("text with {path} placeholders")
]
"""The value of an HTTP header, with `{path}` placeholders."""
ParentName = Annotated[str, AfterValidator(_check_parent_name), TextType("name")]
"""The name of a parent in templates and in the records of its list."""
Cel = Annotated[str, TextType("CEL expression")]
"""A CEL expression; checked later, because CEL is slow to import."""
OptionalSecret = Annotated[
    str | None, Field(json_schema_extra={"secret": True}), TextType("secret, as a ${...} reference")
]
"""A secret: a reference in the spec, and masked in logs."""
Secret = Annotated[
    str,
    BeforeValidator(_require_text),
    Field(json_schema_extra={"secret": True}),
    TextType("secret, as a ${...} reference"),
]
"""A required secret."""
Password = Annotated[str, Field(json_schema_extra={"secret": True}), TextType("secret, as a ${...} reference")]
"""A secret that may be empty: some systems take a key as the user name, and no password."""
SignedText = Annotated[str, AfterValidator(_check_signed_text), TextType("text with {part} placeholders")]
"""The text that a signature covers, with placeholders for parts of the request."""
