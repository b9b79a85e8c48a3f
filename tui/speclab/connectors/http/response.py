"""Responses: records, messages and field names found in a body, and request lines for messages."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from speclab.connectors.http.client import Exchange, status_line
from speclab.connectors.http.write_settings import RECORD, HttpWrite
from speclab.core.errors import SpecError
from speclab.core.json import Json, Record, decode
from speclab.core.outcome import ErrorClass
from speclab.core.paths import FieldPath, PathSyntaxError
from speclab.core.text import format_suggestion

_MESSAGES: Final = (
    "detail", "message", "errordescription", "errormessage", "errormsg", "errmsg", "faultstring", "error", "fault",
    "exception", "title", "msg", "reason", "description", "usererrors", "errors",
)  # fmt: skip
"""Names of messages, compared without case, `_` and `-`."""


def classify(status: int) -> ErrorClass:
    """The class of a status that is no success."""
    if status == 408:
        return ErrorClass.TIMEOUT
    if status == 429:
        return ErrorClass.RATE_LIMIT
    if status in (401, 403):
        return ErrorClass.UNAUTHORIZED
    if status in (409, 412):
        return ErrorClass.CONFLICT
    if status >= 500:
        return ErrorClass.SERVER
    if status >= 400:
        return ErrorClass.REJECTED
    return ErrorClass.BAD_ANSWER


def parsed(exchange: Exchange) -> Json:
    """The body as JSON; None where it is none. For answers whose body is only looked at."""
    try:
        return decode(exchange.body)
    except ValueError:
        return None


def explain(exchange: Exchange, body: Json) -> str:
    """The answer in a line: its status and what its body says is wrong, where it says so."""
    said = message_in(body)
    if said is None and exchange.status < 400:
        location = exchange.headers.get("location")
        said = f"it redirects to {location}, which is not followed" if location else "expected a success"
    return f"{status_line(exchange)}: {said}" if said else status_line(exchange)


def message_in(body: Json) -> str | None:
    """What an error body says, by the names in use: RFC 9457 `detail`, `message`, `error` and their like."""
    if isinstance(body, str):
        return _line(body)
    if isinstance(body, list):
        return next((said for said in map(message_in, body) if said), None)
    if not isinstance(body, dict):
        return None
    values = {name.replace("_", "").replace("-", "").casefold(): value for name, value in body.items()}
    for name in _MESSAGES:
        if (value := values.get(name)) and (said := message_in(value)):
            return said
    return None


class UnreadableBody(Exception):
    """A body without the list of records that was expected; the message says what is there."""


def records_at(body: Json, where: FieldPath | None, start: str) -> list[Record]:
    """The records of a page's body. Raises `UnreadableBody` saying what was found instead, after `start`."""
    if where is None:
        found = body
        if isinstance(body, dict):
            lists = [name for name, value in body.items() if isinstance(value, list)]
            hint = f"; set `records` to {_names(lists)}" if lists else ""
            raise UnreadableBody(f"{start} an object with {_names(body)}, expected a list{hint}")
    else:
        found = _follow(body, where, start)
    if not isinstance(found, list):
        raise UnreadableBody(f"{start} {kind(found)}{f' at `{where}`' if where else ''}, expected a list")
    for index, record in enumerate(found):
        if not isinstance(record, dict):
            raise UnreadableBody(f"{start} {kind(record)} as entry {index} of the list, expected an object")
    return found  # type: ignore[return-value]  # just looked at


def look(value: Json, where: FieldPath) -> Json:
    """What is at `where`; None where nothing is."""
    try:
        return where.get(value)
    except KeyError:
        return None


def path(text: str, where: str) -> FieldPath:
    """The path `text` of the setting `where`. Raises `SpecError`."""
    try:
        return FieldPath.parse(text)
    except PathSyntaxError as error:
        raise SpecError(f"{where}: {text!r} is not a valid path: {error}") from None


def kind(value: Json) -> str:
    """What `value` is, in a word with its article."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, dict):
        return f"an object with {_names(value)}"
    if isinstance(value, list):
        return "a list"
    return "a text" if isinstance(value, str) else "a number"


def _follow(body: Json, where: FieldPath, start: str) -> Json:
    value = body
    for depth, part in enumerate(where.parts):
        try:
            value = FieldPath((part,)).get(value)
        except KeyError:
            inside = f" in `{FieldPath(where.parts[:depth])}`" if depth else ""
            near = format_suggestion(str(part), value) if isinstance(value, dict) else ""
            raise UnreadableBody(
                f"{start} {kind(value)}{inside} and no `{part}` in it, expected a list at `{where}`{near}"
            ) from None
    return value


def _names(names: Mapping[str, Json] | list[str]) -> str:
    shown = [f"`{name}`" for name in list(names)[:8]]
    more = len(names) - len(shown)
    return (", ".join(shown) if shown else "nothing in it") + (f" and {more} more" if more > 0 else "")


def _line(text: str) -> str | None:
    return " ".join(text.split()) or None


def shape_of(write: HttpWrite) -> Json:
    """The shape of one request's body, by `body` or `envelope`; in a batch `$record` is the list of records."""
    if write.body is not None:
        return write.body
    return {write.envelope: RECORD} if write.envelope else RECORD


def filled(shape: Json, record: Json) -> Json:
    """`shape` with `record` wherever it says `$record`."""
    if shape == RECORD:
        return record
    if isinstance(shape, dict):
        return {name: filled(value, record) for name, value in shape.items()}
    return [filled(value, record) for value in shape] if isinstance(shape, list) else shape


def steps_to_record(shape: Json) -> tuple[str | int, ...]:
    """The way from the top of `shape` to the first `$record`, which what is said of a field of the body begins with."""
    return _steps(shape) or ()


def _steps(shape: Json) -> tuple[str | int, ...] | None:
    if shape == RECORD:
        return ()
    inner = shape.items() if isinstance(shape, dict) else enumerate(shape) if isinstance(shape, list) else ()
    for step, value in inner:
        if (found := _steps(value)) is not None:
            return (step, *found)
    return None
