"""Response bodies: the records, messages and identities in them, and the shape of request bodies."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Final, NamedTuple
from urllib.parse import unquote, urlsplit

from speclab.connectors.http.client import Exchange, format_status_line
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
    """Return the error class of a status other than a success."""
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


def parse_body(exchange: Exchange) -> Json:
    """Return the body as JSON, or None if it is not JSON."""
    try:
        return decode(exchange.body)
    except ValueError:
        return None


def describe_error(exchange: Exchange, body: Json) -> str:
    """Return an error response in one line: its status, and the message in its body if there is one."""
    said = find_message(body)
    if said is None and exchange.status < 400:
        location = exchange.headers.get("location")
        said = f"redirects are not followed (to {location})" if location else "expected a success status"
    return f"{format_status_line(exchange)}: {said}" if said else format_status_line(exchange)


def find_message(body: Json) -> str | None:
    """Return the message in an error body, by its usual names: `detail` (RFC 9457), `message`, `error` and others."""
    if isinstance(body, str):
        return _line(body)
    if isinstance(body, list):
        return next((said for said in map(find_message, body) if said), None)
    if not isinstance(body, dict):
        return None
    values = {name.replace("_", "").replace("-", "").casefold(): value for name, value in body.items()}
    for name in _MESSAGES:
        if (value := values.get(name)) and (said := find_message(value)):
            return said
    return None


class UnreadableBody(Exception):
    """A body without the expected content; the message says what it contains instead."""


def find_records(body: Json, where: FieldPath | None, start: str) -> list[Record]:
    """Return the records in a page's body. Raises `UnreadableBody`, whose message starts with `start`."""
    if where is None:
        found = body
        if isinstance(body, dict):
            lists = [name for name, value in body.items() if isinstance(value, list)]
            hint = f"; set `records` to {_names(lists)}" if lists else ""
            raise UnreadableBody(f"{start} an object with {_names(body)}, expected a list{hint}")
    else:
        found = _follow(body, where, start)
    if not isinstance(found, list):
        raise UnreadableBody(f"{start} {describe_kind(found)}{f' at `{where}`' if where else ''}, expected a list")
    for index, record in enumerate(found):
        if not isinstance(record, dict):
            raise UnreadableBody(f"{start} {describe_kind(record)} as entry {index} of the list, expected an object")
    return found  # type: ignore[return-value]  # checked above


def get_value(value: Json, where: FieldPath) -> Json:
    """Return the value at `where`, or None if there is none."""
    try:
        return where.get(value)
    except KeyError:
        return None


def parse_path(text: str, where: str) -> FieldPath:
    """Parse `text`, a path in the setting `where`. Raises `SpecError`."""
    try:
        return FieldPath.parse(text)
    except PathSyntaxError as error:
        raise SpecError(f"{where}: {text!r} is not a valid path: {error}") from None


def describe_kind(value: Json) -> str:
    """Describe the type of `value`, with its article."""
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
                f"{start} {describe_kind(value)}{inside} without `{part}`, expected a list at `{where}`{near}"
            ) from None
    return value


def _names(names: Mapping[str, Json] | list[str]) -> str:
    shown = [f"`{name}`" for name in list(names)[:8]]
    more = len(names) - len(shown)
    return (", ".join(shown) if shown else "no fields") + (f" and {more} more" if more > 0 else "")


def _line(text: str) -> str | None:
    return " ".join(text.split()) or None


def get_body_shape(write: HttpWrite) -> Json:
    """Return the shape of a request body by `body` or `envelope`; in a batch, `$record` is the list of records."""
    if write.body is not None:
        return write.body
    return {write.envelope: RECORD} if write.envelope else RECORD


def fill_shape(shape: Json, record: Json) -> Json:
    """Return `shape` with `record` in place of each `$record`."""
    if shape == RECORD:
        return record
    if isinstance(shape, dict):
        return {name: fill_shape(value, record) for name, value in shape.items()}
    return [fill_shape(value, record) for value in shape] if isinstance(shape, list) else shape


def find_record_steps(shape: Json) -> tuple[str | int, ...]:
    """Return the steps from the top of `shape` to the first `$record`: the prefix of a field in an error."""
    return _steps(shape) or ()


def _steps(shape: Json) -> tuple[str | int, ...] | None:
    if shape == RECORD:
        return ()
    inner = shape.items() if isinstance(shape, dict) else enumerate(shape) if isinstance(shape, list) else ()
    for step, value in inner:
        if (found := _steps(value)) is not None:
            return (step, *found)
    return None


class StoredRecord(NamedTuple):
    """What the response to a write says about the record at the target; each part is None if it does not say."""

    target_id: str | None
    version: str | None
    record: Record | None


def read_stored_record(exchange: Exchange, sent: Record, steps: Sequence[str | int]) -> StoredRecord:
    """Return the identity, version (ETag) and content that the response to a write of `sent` reports.

    The record is at `steps`, as in the request, at `data`, or is the body itself. It is taken as the stored record only
    if it has all fields that were sent. A `Location` header names the identity if the body does not (RFC 9110 section
    15.3.2).
    """
    body = parse_body(exchange) if exchange.body else None
    target_id, record = None, None
    for found in _find_candidates(body, steps) if isinstance(body, dict) else ():
        target_id = target_id or get_target_id(found)
        if record is None and sent.keys() <= found.keys():
            record = found
    version = location = None
    for name, value in exchange.headers.raw:  # once for both: a lookup in the headers takes microseconds
        if name.lower() == b"etag":
            version = value.decode("latin-1")
        elif name.lower() == b"location":
            location = value.decode("latin-1")
    if target_id is None and exchange.status == 201 and location:
        target_id = unquote(urlsplit(location).path.rstrip("/").rpartition("/")[2]) or None
    return StoredRecord(target_id, version, record)


def _find_candidates(body: dict[str, Json], steps: Sequence[str | int]) -> Iterator[dict[str, Json]]:
    if steps and isinstance(found := get_value(body, FieldPath(tuple(steps))), dict):
        yield found
    if isinstance(data := body.get("data"), dict):
        yield data
    yield body


def get_target_id(record: Json) -> str | None:
    """Return the identity that a target gave to `record`, in its field `id` or `_id`."""
    value = (record.get("id") or record.get("_id")) if isinstance(record, dict) else None
    return str(value) if isinstance(value, str | int) and not isinstance(value, bool) else None
