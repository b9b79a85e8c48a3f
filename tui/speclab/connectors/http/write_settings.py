"""Settings for writing records over HTTP."""

from __future__ import annotations

import re
from typing import Final

from pydantic import Field, JsonValue, model_validator

from speclab.core.paths import FieldPath
from speclab.core.text import find_placeholders
from speclab.spec.settings import Settings
from speclab.spec.settings_types import (
    Cel,
    HeaderName,
    HeaderTemplate,
    ListPath,
    Location,
    Path,
    Request,
    Status,
    Text,
    conflict,
)

RECORD: Final = "$record"
"""Placeholder for the record in the body of a write."""
_LOOKUP_ROOTS: Final = ("lookup", "found")
_LOOKUP_PATH: Final = re.compile(r"lookup\.(?:etag|header\.[^\s.\[\]]+)", re.IGNORECASE)


class ErrorFields(Settings):
    """Location of field errors in a response."""

    at: ListPath = Field(description='Path of the list of errors, such as "errors[*]".')
    field: Path = Field(description="Path of the field name in an error.")
    message: Path = Field(description="Path of the message in an error.")


class BatchItem(Settings):
    """An element of a batch's list, if it is not the record itself."""

    method: Text | None = Field(default=None, description="Method of the request for one record.")
    path: Location | None = Field(default=None, description="URL path of the request for one record.")
    body: JsonValue = Field(default=RECORD, description="Body of the request for one record; `$record` is the record.")


class HttpWrite(Settings):
    """Write requests: one of `upsert`, `create` (with `update` and `lookup`) and `batch`."""

    upsert: Request | None = Field(
        default=None, description='Request that creates or replaces a record, such as "PUT /customers/{external_id}".'
    )
    create: Request | None = Field(
        default=None, description='Request that creates a record, such as "POST /customers".'
    )
    update: Request | None = Field(
        default=None, description="Request that updates a record; `{found.id}` is from the response to `lookup`."
    )
    lookup: Request | None = Field(default=None, description="Request that finds the existing record.")
    found: Path | None = Field(default=None, description="Path of the existing record in the response to `lookup`.")
    delete: Request | None = Field(default=None, description="Request that deletes a record.")
    batch: Request | None = Field(
        default=None, description='Request that writes several records, such as "POST /customers/batch".'
    )
    size: int = Field(default=100, ge=1, description="Maximum number of records per batch.")
    envelope: Text | None = Field(default=None, description="Key that wraps the record or list in the body.")
    body: JsonValue = Field(
        default=None, description="Body of a write, if `envelope` is not enough; `$record` is the record."
    )
    item: BatchItem | None = Field(default=None, description="Element of a batch's list; default: the record.")
    results: ListPath | None = Field(
        default=None, description='Path of the list of results, one per record, in order; "[*]" is the response itself.'
    )
    ok: Cel | None = Field(
        default=None, description="CEL expression over a result or the response (`item`), true for a success."
    )
    status: Path | None = Field(
        default=None, description="Path of the HTTP status in a result, starting with `item`; default: `item.status`."
    )
    message: Path | None = Field(
        default=None, description="Path of the message in a result or response, starting with `item`."
    )
    headers: dict[HeaderName, HeaderTemplate] = Field(
        default_factory=dict, description='Headers of every write, such as If-Match: "{lookup.etag}".'
    )
    idempotency: HeaderName | None = Field(default=None, description="Header that carries the idempotency key.")
    exists: tuple[Status, ...] = Field(
        default=(), description="HTTP statuses that mean that the record exists already and is up to date."
    )
    errors: ErrorFields | None = Field(default=None, description="Location of field errors in a response.")

    @property
    def conditional(self) -> bool:
        """Whether a write requires that the record has not changed since the lookup (RFC 9110 section 13.1.1)."""
        return any(_root(place) in _LOOKUP_ROOTS for text in self.headers.values() for place in find_placeholders(text))

    @model_validator(mode="after")
    def _check_requests(self) -> HttpWrite:
        requests = [name for name in ("upsert", "create", "batch") if getattr(self, name)]
        if not requests:
            raise conflict("expected one of `upsert`, `create` and `batch`")
        if len(requests) > 1:
            raise conflict(
                f"expected one of `upsert`, `create` and `batch`, not {len(requests)} of them", at=requests[1]
            )
        if self.update is not None and self.create is None:
            raise conflict("`update` needs `create`", at="update")
        if self.update is not None and self.lookup is None:
            raise conflict("`update` needs `lookup`, which finds the existing record", at="update")
        for name in ("item", "results", "size"):
            if name in self.model_fields_set and self.batch is None:
                raise conflict(f"`{name}` needs `batch`", at=name)
        if self.found is not None and self.lookup is None:
            raise conflict("`found` needs `lookup`", at="found")
        if self.status is not None and self.results is None:
            raise conflict("`status` needs `results`", at="status")
        return self

    @model_validator(mode="after")
    def _check_body(self) -> HttpWrite:
        if self.body is None:
            return self
        if self.batch is not None:
            raise conflict("`body` is for single records; use `envelope` and `item` for a batch", at="body")
        if self.envelope is not None:
            raise conflict("expected one of `envelope` and `body`, not both", at="envelope")
        if not _holds_record(self.body):
            raise conflict(
                f"this body is the same for every record; write {RECORD} where the record belongs", at="body"
            )
        return self

    @model_validator(mode="after")
    def _check_placeholders(self) -> HttpWrite:
        """Check that the value of every placeholder is available when the request is made."""
        for name in ("upsert", "create", "lookup", *(("delete",) if self.lookup is None else ())):
            if any(_root(place) == "found" for place in find_placeholders(getattr(self, name))):
                raise conflict(
                    "`found` is only available in `update`, `headers`, and a `delete` with a `lookup`", at=name
                )
        if self.batch is not None and (names := find_placeholders(self.batch)):
            raise conflict(f"{{{names[0]}}}: a batch has no single record for placeholders", at="batch")
        for name, text in self.headers.items():
            self._check_header(name, text)
        return self

    def _check_header(self, name: str, text: str) -> None:
        for place in find_placeholders(text):
            at, root = f"headers.{name}", _root(place)
            if self.batch is not None:
                raise conflict(f"{{{place}}}: a batch has no single record for placeholders", at=at)
            if root not in _LOOKUP_ROOTS:
                continue
            if self.lookup is None:
                raise conflict(f"{{{place}}} needs a `lookup`", at=at)
            if root == "lookup" and not _LOOKUP_PATH.fullmatch(place):
                raise conflict(f"{{{place}}}: expected {{lookup.etag}} or {{lookup.header.NAME}}", at=at)
            if 412 in self.exists:
                message = f"with {{{place}}}, 412 means that the record has changed, not that it exists"
                raise conflict(message, at="exists")


def find_record_paths(template: object) -> list[FieldPath]:
    """Return the paths of the placeholders in `template`, without those from a lookup."""
    found = [FieldPath.parse(place) for place in find_placeholders(template)]
    return [path for path in found if path.parts[0] not in _LOOKUP_ROOTS]


def _holds_record(body: JsonValue) -> bool:
    inner = body.values() if isinstance(body, dict) else body if isinstance(body, list) else ()
    return body == RECORD or any(map(_holds_record, inner))


def _root(placeholder: str) -> str:
    """Return the first part of the path in a placeholder."""
    return re.split(r"[.\[]", placeholder, maxsplit=1)[0]
