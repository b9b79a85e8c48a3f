"""Write errors of an HTTP target: built from error responses and failed requests, with the field they blame.

`SHAPES` is one table of the shapes of error bodies in use. A row is a shape as its vendor or framework documents it;
the first row that leads to a field decides.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Final

from speclab.connectors.api import WriteError
from speclab.connectors.http.client import Client, Exchange, RequestFailed, format_status
from speclab.connectors.http.rate_limit_headers import read_retry_after
from speclab.connectors.http.request_builder import MissingValue
from speclab.connectors.http.response import classify, describe_error, find_message, get_value, parse_body, parse_path
from speclab.connectors.http.write_settings import ErrorFields
from speclab.core.json import Json, decode
from speclab.core.outcome import ErrorClass
from speclab.core.paths import FieldPath


class WriteErrors:
    """Builds the write errors of one target."""

    def __init__(self, client: Client, locator: ErrorLocator) -> None:
        self._client = client
        self._locator = locator

    def from_response(self, exchange: Exchange) -> WriteError:
        """Return the error of a response without a success status."""
        body = parse_body(exchange)
        field, found_message = self._locator.find(body)
        message = describe_error(exchange, body)
        if found_message and found_message not in message:
            message = f"{message}: {found_message}"
        return WriteError(
            error_class=classify(exchange.status),
            message=self._client.message(message),
            request=self._client.request_text(exchange),
            response=self._client.response_text(exchange),
            status=exchange.status,
            retry_after=read_retry_after(exchange.headers, self._client.clock.now()),
            field=field,
        )

    def from_entry(self, exchange: Exchange, entry: Json, status: int | None, message: str | None) -> WriteError:
        """Return the error of one entry in the response to a batch."""
        known = status if status is not None and status >= 300 else None
        field, found_message = self._locator.find(entry)
        text = message or found_message or (format_status(known) if known else "the target rejected this record")
        return WriteError(
            error_class=classify(known) if known else ErrorClass.REJECTED,
            message=self._client.message(text),
            request=self._client.request_text(exchange),
            response=self._client.response_text(exchange),
            status=known,
            field=field,
        )

    def rejected(self, exchange: Exchange, message: str) -> WriteError:
        """Return the error of a success status whose body reports a failure."""
        field, _ = self._locator.find(parse_body(exchange))
        return WriteError(
            error_class=ErrorClass.REJECTED,
            message=self._client.message(message),
            request=self._client.request_text(exchange),
            response=self._client.response_text(exchange),
            status=exchange.status,
            field=field,
        )

    def bad_response(self, exchange: Exchange, message: str) -> WriteError:
        """Return the error of a response that cannot be interpreted: the record may have been written."""
        return WriteError(
            error_class=ErrorClass.BAD_ANSWER,
            message=self._client.message(message),
            request=self._client.request_text(exchange),
            response=self._client.response_text(exchange),
            status=exchange.status,
        )


def convert_failed_request(error: RequestFailed) -> WriteError:
    """Return the error of a request without a response."""
    return WriteError(
        error_class=error.error_class,
        message=f"{error.message}. {error.hint}" if error.hint else error.message,
        request=error.request,
        response=error.response,
        retry_after=error.retry_after,
        sent=error.sent,
    )


def reject_missing_value(error: MissingValue, request: str) -> WriteError:
    """Return the error of a record that lacks a value for its request."""
    return WriteError(
        error_class=ErrorClass.REJECTED,
        message=f"{request}: {error.message}",
        request=request,
        field=error.path,
        sent=False,
    )


def mark_not_sent(write_error: WriteError) -> WriteError:
    """Return the error of a record that was not sent because of `write_error`."""
    return replace(write_error, message=f"not sent: {write_error.message}", sent=False)


@dataclass(frozen=True, slots=True)
class ErrorShape:
    """One shape of error bodies.

    `entries` leads from the body to the entries that may each name a field: `*` is each entry of a list, `%` each value
    of an object, `%%` each text or list of texts in an object by its path of keys, `%%!` if it has nothing but lists of
    texts. `field` leads from an entry to the name, empty where the keys are the name; `message` to its message.
    With `operation`, the first step of the name is a GraphQL operation.
    """

    system: str
    entries: str
    field: str = ""
    message: str = ""
    operation: bool = False


SHAPES: Final = (
    ErrorShape("RFC 9457 problem details", "errors.*", "pointer", "detail"),
    ErrorShape("JSON:API", "errors.*", "source.pointer", "detail"),
    ErrorShape("JSON:API", "errors.*", "source.parameter", "detail"),
    ErrorShape("RFC 7807 problem details", "invalid-params.*", "name", "reason"),
    ErrorShape("RFC 7807 problem details", "invalid_params.*", "name", "reason"),
    ErrorShape("FastAPI", "detail.*", "loc", "msg"),
    ErrorShape("Prism", "validation.*", "location", "message"),
    ErrorShape("Google", "error.details.*.fieldViolations.*", "field", "description"),
    ErrorShape("Google (gRPC gateway)", "details.*.fieldViolations.*", "field", "description"),
    ErrorShape("Google (gRPC gateway)", "details.*.field_violations.*", "field", "description"),
    ErrorShape("Google (older)", "error.errors.*", "location", "message"),
    ErrorShape("Azure", "error.details.*", "target", "message"),
    ErrorShape("Azure", "error.innererror.details.*", "target", "message"),
    ErrorShape("Azure", "error.innererror", "target", "message"),
    ErrorShape("Azure", "error", "target", "message"),
    ErrorShape("Stripe", "error", "param", "message"),
    ErrorShape("Salesforce", "*", "fields.0", "message"),
    ErrorShape("Salesforce (collections)", "*.errors.*", "fields.0", "message"),
    ErrorShape("Salesforce (collections)", "errors.*", "fields.0", "message"),
    ErrorShape("HubSpot", "errors.*", "context.propertyName.0", "message"),
    ErrorShape("HubSpot", "errors.*", "context.propertyName", "message"),
    ErrorShape("HubSpot", "context.propertyName.*", "", ""),
    ErrorShape("Shopify (GraphQL)", "data.%.userErrors.*", "field", "message"),
    ErrorShape("GraphQL", "errors.*.extensions.problems.*", "path", "explanation"),
    ErrorShape("GraphQL", "errors.*.extensions.validation.%%"),
    ErrorShape("GraphQL", "errors.*", "extensions.field", "message"),
    ErrorShape("GraphQL", "errors.*", "extensions.argumentName", "message"),
    ErrorShape("GraphQL", "errors.*", "extensions.exception.invalidArgs.0", "message"),
    ErrorShape("GraphQL", "errors.*", "path", "message", operation=True),
    ErrorShape("Spring", "errors.*", "field", "defaultMessage"),
    ErrorShape("Spring", "fieldErrors.*", "field", "message"),
    ErrorShape("Zod", "issues.*", "path", "message"),
    ErrorShape("Zod", "error.issues.*", "path", "message"),
    ErrorShape("Zod (flattened)", "fieldErrors.%%"),
    ErrorShape("Zod (flattened)", "error.fieldErrors.%%"),
    ErrorShape("Zod (flattened)", "errors.fieldErrors.%%"),
    ErrorShape("Ajv", "errors.*", "instancePath", "message"),
    ErrorShape("Ajv", "errors.*", "params.missingProperty", "message"),
    ErrorShape("Ajv", "*", "instancePath", "message"),
    ErrorShape("Ajv", "*", "params.missingProperty", "message"),
    ErrorShape("NestJS", "message.*", "property", "constraints"),
    ErrorShape("express-validator", "errors.*", "path", "msg"),
    ErrorShape("express-validator", "errors.*", "param", "msg"),
    *(
        ErrorShape("common names", f"{entries}.*", field)
        for entries in ("errors", "detail", "details", "violations", "error.errors", "error.details")
        for field in ("field", "pointer", "source", "path", "propertyPath", "loc", "property", "param", "name",
                      "attribute", "in", "key")
    ),
    ErrorShape("Laravel, Rails, ASP.NET, Shopify (REST)", "errors.%%"),
    ErrorShape("Laravel, Rails, ASP.NET, Shopify (REST)", "error.errors.%%"),
    *(ErrorShape("common names", entry, field) for entry in ("error", "") for field in ("field", "param", "pointer")),
    ErrorShape("Django REST framework", "%%!"),
)  # fmt: skip
_OUTSIDE_BODY: Final = frozenset({"query", "path", "header", "headers", "cookie"})
_RECORD_KEYS: Final = frozenset(
    {"non_field_errors", "nonFieldErrors", "base", "formErrors", "errors", "error", "message", "messages", "detail"}
)
"""Keys for messages about the whole record, beside those of fields: Django REST framework, Rails, Zod."""
_DEPTH: Final = 5
_LONGEST: Final = 200
_SEPARATORS: Final = re.compile(r"""[.\[\]'"]+""")
_EMBEDDED: Final = re.compile(r":\s*(?=\[\{)")
"""Start of a list of errors in a message of HubSpot: `Property values were not valid: [{...}]`."""


class ErrorLocator:
    """Finds the field that an error body blames."""

    def __init__(self, fields: ErrorFields | None, envelope: Sequence[str | int]) -> None:
        """Use `fields`, or else the table of shapes.

        `envelope` are the steps that lead to the record in a request body; they are removed from the field.
        """
        self._envelope = tuple(envelope)
        self._at = None if fields is None else parse_path(fields.at.removesuffix("[*]"), "write.errors.at")
        self._field = None if fields is None else parse_path(fields.field, "write.errors.field")
        self._message = None if fields is None else parse_path(fields.message, "write.errors.message")

    def find(self, body: Json) -> tuple[str | None, str | None]:
        """Return the first blamed field and its message; each is None if the body has none."""
        if self._at is not None and self._field is not None and self._message is not None:
            entries = get_value(body, self._at)
            for entry in entries if isinstance(entries, list) else [entries]:
                if named := self._name(get_value(entry, self._field)):
                    return named, find_message(get_value(entry, self._message))
            return None, None
        for shape in SHAPES:
            for entry, keys in _entries(body, tuple(shape.entries.split(".")) if shape.entries else ()):
                if shape.operation and not _is_graphql(body, entry):
                    continue
                value: Json = list(keys) if not shape.field else _get_at(entry, shape.field)
                if not shape.field and not keys:
                    value = entry
                if named := self._name(value, operation=shape.operation):
                    return named, _find_shape_message(shape, entry)
        return self._embedded(body)

    def _embedded(self, body: Json) -> tuple[str | None, str | None]:
        """Return the first field in a list of errors that a message contains as JSON."""
        said = body.get("message") if isinstance(body, dict) else None
        found = _EMBEDDED.search(said) if isinstance(said, str) else None
        if found is None or not isinstance(said, str):
            return None, None
        try:
            entries = decode(said[found.end() :].encode())
        except ValueError:
            return None, None
        for entry in entries if isinstance(entries, list) else []:
            if isinstance(entry, dict) and (named := self._name(entry.get("name"))):
                return named, find_message(entry.get("message"))
        return None, None

    def _name(self, value: Json, *, operation: bool = False) -> str | None:
        """Return a field as a path, from a name, a JSON pointer (RFC 6901), a JSON path or a list of steps."""
        steps = _split_steps(value)
        if operation:
            steps = steps[1:]
        if steps[:1] == ("request",) and steps[1:2] == ("body",):
            steps = steps[1:]
        if isinstance(value, list) and len(steps) > 1:
            if steps[0] in _OUTSIDE_BODY and not self._envelope:
                return None
            steps = steps[1:] if steps[0] == "body" else steps
        if self._envelope and steps[: len(self._envelope)] == self._envelope:
            steps = steps[len(self._envelope) :]
        return str(FieldPath(steps)) if steps else None


def _entries(value: Json, steps: tuple[str, ...], keys: tuple[str, ...] = ()) -> Iterator[tuple[Json, tuple[str, ...]]]:
    """Yield each value that `steps` lead to, with the keys on the path to it."""
    if not steps:
        yield value, keys
        return
    first, rest = steps[0], steps[1:]
    if first == "*":
        for entry in value if isinstance(value, list) else ():
            yield from _entries(entry, rest, keys)
    elif not isinstance(value, dict):
        return
    elif first == "%%" or (first == "%%!" and _is_keyed(value)):
        yield from _find_leaves(value, keys)
    elif first == "%":
        for entry in value.values():
            yield from _entries(entry, rest, keys)
    elif first in value:
        yield from _entries(value[first], rest, keys)


def _is_keyed(value: Json, depth: int = _DEPTH) -> bool:
    """Return whether `value` is an object of messages by field: `{email: [...], address: {zip: [...]}}`."""
    if not isinstance(value, dict) or not value or not depth:
        return False
    texts = (isinstance(said, list) and said and all(isinstance(one, str) for one in said) for said in value.values())
    return all(plain or _is_keyed(said, depth - 1) for plain, said in zip(texts, value.values(), strict=True))


def _is_message_list(value: Json) -> bool:
    """Return whether `value` is a list of messages: texts, or objects with texts."""
    return isinstance(value, list) and bool(value) and all(isinstance(said, str | dict) for said in value)


def _is_graphql(body: Json, entry: Json) -> bool:
    """Return whether an error is one of GraphQL (specification, section 7.1): others have a `path`, too."""
    beside = isinstance(body, dict) and "data" in body
    return beside or (isinstance(entry, dict) and ("locations" in entry or "extensions" in entry))


def _find_leaves(value: dict[str, Json], keys: tuple[str, ...]) -> Iterator[tuple[Json, tuple[str, ...]]]:
    for key, said in value.items():
        steps = (*keys, *(step for step in _SEPARATORS.split(key.removeprefix("$.")) if step))
        if key in _RECORD_KEYS or not steps:
            continue
        if isinstance(said, dict) and len(steps) < _DEPTH:
            yield from _find_leaves(said, steps)
        elif _is_message_list(said) or (isinstance(said, str) and said):
            yield said, steps


def _get_at(entry: Json, where: str) -> Json:
    value = entry
    for step in where.split("."):
        if isinstance(value, dict):
            value = value.get(step)
        elif isinstance(value, list) and step.isdecimal() and int(step) < len(value):
            value = value[int(step)]
        else:
            return None
    return value


def _split_steps(value: Json) -> tuple[str | int, ...]:
    """Return the steps of the field that `value` names; empty if it names none."""
    if isinstance(value, list):
        if not all(isinstance(step, str | int) and not isinstance(step, bool) for step in value):
            return ()
        return tuple(_step(step) if isinstance(step, str) else step for step in value if isinstance(step, str | int))
    if not isinstance(value, str) or not value.strip() or len(value) > _LONGEST or "\n" in value:
        return ()
    if value.startswith(("/", "#/")):
        steps = value.removeprefix("#")[1:].split("/")
        return tuple(_step(step.replace("~1", "/").replace("~0", "~")) for step in steps if step)
    text = value.removeprefix("$.") if value.startswith("$.") else value
    return tuple(_step(step) for step in _SEPARATORS.split(text) if step)


def _step(text: str) -> str | int:
    return int(text) if text.isascii() and text.isdecimal() and len(text) < 10 else text


def _find_shape_message(shape: ErrorShape, entry: Json) -> str | None:
    if not shape.field:
        return find_message(entry) if "%" in shape.entries else None
    if shape.message and (said := find_message(_get_at(entry, shape.message))):
        return said
    top = shape.field.partition(".")[0]
    return find_message({key: value for key, value in entry.items() if key != top}) if isinstance(entry, dict) else None
