"""Where a write error's response body names the field it refuses: one table of the shapes in use.

A row of the table is a shape as its vendor or framework documents it. The first row that leads to a field decides.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from speclab.connectors.http.response import look, message_in, path
from speclab.connectors.http.write_settings import ErrorFields
from speclab.core.json import Json, decode
from speclab.core.paths import FieldPath


@dataclass(frozen=True, slots=True)
class Shape:
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
    Shape("RFC 9457 problem details", "errors.*", "pointer", "detail"),
    Shape("JSON:API", "errors.*", "source.pointer", "detail"),
    Shape("JSON:API", "errors.*", "source.parameter", "detail"),
    Shape("RFC 7807 problem details", "invalid-params.*", "name", "reason"),
    Shape("RFC 7807 problem details", "invalid_params.*", "name", "reason"),
    Shape("FastAPI", "detail.*", "loc", "msg"),
    Shape("Prism", "validation.*", "location", "message"),
    Shape("Google", "error.details.*.fieldViolations.*", "field", "description"),
    Shape("Google (gRPC gateway)", "details.*.fieldViolations.*", "field", "description"),
    Shape("Google (gRPC gateway)", "details.*.field_violations.*", "field", "description"),
    Shape("Google (older)", "error.errors.*", "location", "message"),
    Shape("Azure", "error.details.*", "target", "message"),
    Shape("Azure", "error.innererror.details.*", "target", "message"),
    Shape("Azure", "error.innererror", "target", "message"),
    Shape("Azure", "error", "target", "message"),
    Shape("Stripe", "error", "param", "message"),
    Shape("Salesforce", "*", "fields.0", "message"),
    Shape("Salesforce (collections)", "*.errors.*", "fields.0", "message"),
    Shape("Salesforce (collections)", "errors.*", "fields.0", "message"),
    Shape("HubSpot", "errors.*", "context.propertyName.0", "message"),
    Shape("HubSpot", "errors.*", "context.propertyName", "message"),
    Shape("HubSpot", "context.propertyName.*", "", ""),
    Shape("Shopify (GraphQL)", "data.%.userErrors.*", "field", "message"),
    Shape("GraphQL", "errors.*.extensions.problems.*", "path", "explanation"),
    Shape("GraphQL", "errors.*.extensions.validation.%%"),
    Shape("GraphQL", "errors.*", "extensions.field", "message"),
    Shape("GraphQL", "errors.*", "extensions.argumentName", "message"),
    Shape("GraphQL", "errors.*", "extensions.exception.invalidArgs.0", "message"),
    Shape("GraphQL", "errors.*", "path", "message", operation=True),
    Shape("Spring", "errors.*", "field", "defaultMessage"),
    Shape("Spring", "fieldErrors.*", "field", "message"),
    Shape("Zod", "issues.*", "path", "message"),
    Shape("Zod", "error.issues.*", "path", "message"),
    Shape("Zod (flattened)", "fieldErrors.%%"),
    Shape("Zod (flattened)", "error.fieldErrors.%%"),
    Shape("Zod (flattened)", "errors.fieldErrors.%%"),
    Shape("Ajv", "errors.*", "instancePath", "message"),
    Shape("Ajv", "errors.*", "params.missingProperty", "message"),
    Shape("Ajv", "*", "instancePath", "message"),
    Shape("Ajv", "*", "params.missingProperty", "message"),
    Shape("NestJS", "message.*", "property", "constraints"),
    Shape("express-validator", "errors.*", "path", "msg"),
    Shape("express-validator", "errors.*", "param", "msg"),
    *(
        Shape("common names", f"{entries}.*", field)
        for entries in ("errors", "detail", "details", "violations", "error.errors", "error.details")
        for field in ("field", "pointer", "source", "path", "propertyPath", "loc", "property", "param", "name",
                      "attribute", "in", "key")
    ),
    Shape("Laravel, Rails, ASP.NET, Shopify (REST)", "errors.%%"),
    Shape("Laravel, Rails, ASP.NET, Shopify (REST)", "error.errors.%%"),
    *(Shape("common names", entry, field) for entry in ("error", "") for field in ("field", "param", "pointer")),
    Shape("Django REST framework", "%%!"),
)  # fmt: skip
_NOT_OF_THE_BODY: Final = frozenset({"query", "path", "header", "headers", "cookie"})
_OF_THE_RECORD: Final = frozenset(
    {"non_field_errors", "nonFieldErrors", "base", "formErrors", "errors", "error", "message", "messages", "detail"}
)
"""Keys for messages about the whole record, beside those of fields: Django REST framework, Rails, Zod."""
_DEPTH: Final = 5
_LONGEST: Final = 200
_SEPARATORS: Final = re.compile(r"""[.\[\]'"]+""")
_EMBEDDED: Final = re.compile(r":\s*(?=\[\{)")
"""Where a list of errors begins in a message, as HubSpot writes one: `Property values were not valid: [{...}]`."""


class ErrorLocator:
    """Finds the field an error body refuses."""

    def __init__(self, fields: ErrorFields | None, envelope: Sequence[str | int]) -> None:
        """Look where `fields` says, else by the table.

        `envelope` are the steps that lead to the record in a request body; they are removed from the field.
        """
        self._envelope = tuple(envelope)
        self._at = None if fields is None else path(fields.at.removesuffix("[*]"), "write.errors.at")
        self._field = None if fields is None else path(fields.field, "write.errors.field")
        self._message = None if fields is None else path(fields.message, "write.errors.message")

    def find(self, body: Json) -> tuple[str | None, str | None]:
        """Return the first field that is refused and its message, each None where the body has none."""
        if self._at is not None and self._field is not None and self._message is not None:
            entries = look(body, self._at)
            for refused in entries if isinstance(entries, list) else [entries]:
                if named := self._name(look(refused, self._field)):
                    return named, message_in(look(refused, self._message))
            return None, None
        for shape in SHAPES:
            for entry, keys in _entries(body, tuple(shape.entries.split(".")) if shape.entries else ()):
                if shape.operation and not _is_graphql(body, entry):
                    continue
                value: Json = list(keys) if not shape.field else _at(entry, shape.field)
                if not shape.field and not keys:
                    value = entry
                if named := self._name(value, operation=shape.operation):
                    return named, _said(shape, entry)
        return self._embedded(body)

    def _embedded(self, body: Json) -> tuple[str | None, str | None]:
        """The first field in a list of errors that a message has as JSON text."""
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
                return named, message_in(entry.get("message"))
        return None, None

    def _name(self, value: Json, *, operation: bool = False) -> str | None:
        """Return a field as a path, from a name, a JSON pointer (RFC 6901), a JSON path or a list of steps."""
        steps = _steps(value)
        if operation:
            steps = steps[1:]
        if steps[:1] == ("request",) and steps[1:2] == ("body",):
            steps = steps[1:]
        if isinstance(value, list) and len(steps) > 1:
            if steps[0] in _NOT_OF_THE_BODY and not self._envelope:
                return None
            steps = steps[1:] if steps[0] == "body" else steps
        if self._envelope and steps[: len(self._envelope)] == self._envelope:
            steps = steps[len(self._envelope) :]
        return str(FieldPath(steps)) if steps else None


def _entries(value: Json, steps: tuple[str, ...], keys: tuple[str, ...] = ()) -> Iterator[tuple[Json, tuple[str, ...]]]:
    """Yield what `steps` lead to, with the keys by which it was reached."""
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
        yield from _leaves(value, keys)
    elif first == "%":
        for entry in value.values():
            yield from _entries(entry, rest, keys)
    elif first in value:
        yield from _entries(value[first], rest, keys)


def _is_keyed(value: Json, depth: int = _DEPTH) -> bool:
    """Whether `value` is an object of messages by field, nested at most: `{email: [...], address: {zip: [...]}}`."""
    if not isinstance(value, dict) or not value or not depth:
        return False
    texts = (isinstance(said, list) and said and all(isinstance(one, str) for one in said) for said in value.values())
    return all(plain or _is_keyed(said, depth - 1) for plain, said in zip(texts, value.values(), strict=True))


def _is_said(value: Json) -> bool:
    """Whether `value` holds the messages of one field: a list of texts, or of objects with texts."""
    return isinstance(value, list) and bool(value) and all(isinstance(said, str | dict) for said in value)


def _is_graphql(body: Json, entry: Json) -> bool:
    """Whether an error is GraphQL's: others have a `path` too (GraphQL specification, section 7.1)."""
    beside = isinstance(body, dict) and "data" in body
    return beside or (isinstance(entry, dict) and ("locations" in entry or "extensions" in entry))


def _leaves(value: dict[str, Json], keys: tuple[str, ...]) -> Iterator[tuple[Json, tuple[str, ...]]]:
    for key, said in value.items():
        steps = (*keys, *(step for step in _SEPARATORS.split(key.removeprefix("$.")) if step))
        if key in _OF_THE_RECORD or not steps:
            continue
        if isinstance(said, dict) and len(steps) < _DEPTH:
            yield from _leaves(said, steps)
        elif _is_said(said) or (isinstance(said, str) and said):
            yield said, steps


def _at(entry: Json, where: str) -> Json:
    value = entry
    for step in where.split("."):
        if isinstance(value, dict):
            value = value.get(step)
        elif isinstance(value, list) and step.isdecimal() and int(step) < len(value):
            value = value[int(step)]
        else:
            return None
    return value


def _steps(value: Json) -> tuple[str | int, ...]:
    """Return the steps that `value` names; none where it names no field."""
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


def _said(shape: Shape, entry: Json) -> str | None:
    if not shape.field:
        return message_in(entry) if "%" in shape.entries else None
    if shape.message and (said := message_in(_at(entry, shape.message))):
        return said
    top = shape.field.partition(".")[0]
    return message_in({key: value for key, value in entry.items() if key != top}) if isinstance(entry, dict) else None
