"""The settings by which records are written over HTTP."""

from __future__ import annotations

import re
from typing import Final

from pydantic import Field, JsonValue, model_validator

from speclab.core.paths import FieldPath
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
    misfit,
    places,
)

RECORD: Final = "$record"
"""Stands for the record in the body of a write."""
_OF_THE_LOOKUP: Final = ("lookup", "found")
_LOOKED_UP: Final = re.compile(r"lookup\.(?:etag|header\.[^\s.\[\]]+)", re.IGNORECASE)


class ErrorFields(Settings):
    """Where an answer names the fields it refuses."""

    at: ListPath = Field(description='path of the list, such as "errors[*]"')
    field: Path = Field(description="path of the field's name in an entry")
    message: Path = Field(description="path of the message in an entry")


class BatchItem(Settings):
    """What stands in a batch's list, if not the record itself."""

    method: Text | None = Field(default=None, description="method of one record's request")
    path: Location | None = Field(default=None, description="path of one record's request")
    body: JsonValue = Field(default=RECORD, description="its body; $record is the record")


class HttpWrite(Settings):
    """How records are written over HTTP: one of upsert, create (with update and lookup) or batch."""

    upsert: Request | None = Field(default=None, description='method and path, such as "PUT /customers/{external_id}"')
    create: Request | None = Field(default=None, description='method and path, such as "POST /customers"')
    update: Request | None = Field(
        default=None, description="method and path; {found.id} is from the answer to `lookup`"
    )
    lookup: Request | None = Field(default=None, description="method and path that finds what is already there")
    found: Path | None = Field(default=None, description="path of what was found in the answer to `lookup`")
    delete: Request | None = Field(default=None, description="method and path that deletes")
    batch: Request | None = Field(
        default=None, description='method and path that takes many, such as "POST /customers/batch"'
    )
    size: int = Field(default=100, ge=1, description="records a batch")
    envelope: Text | None = Field(default=None, description="key the record or list is wrapped in")
    body: JsonValue = Field(
        default=None, description="body around the record, where an envelope is not enough: $record"
    )
    item: BatchItem | None = Field(default=None, description="what stands in a batch's list")
    results: ListPath | None = Field(
        default=None, description='path of the list of results, one a record, in order; "[*]" is the answer itself'
    )
    ok: Cel | None = Field(
        default=None, description="CEL over an entry, or a whole answer (`item`), that is true of a success"
    )
    status: Path | None = Field(
        default=None, description="path of the HTTP status in an entry, from `item` (default: item.status)"
    )
    message: Path | None = Field(default=None, description="path of the message in an entry or answer, from `item`")
    headers: dict[HeaderName, HeaderTemplate] = Field(
        default_factory=dict, description='headers of every write, such as If-Match: "{lookup.etag}"'
    )
    idempotency: HeaderName | None = Field(default=None, description="header that carries the idempotency key")
    exists: tuple[Status, ...] = Field(default=(), description='statuses that mean "already there as it should be"')
    errors: ErrorFields | None = Field(default=None, description="where an answer names the fields it refuses")

    @property
    def conditional(self) -> bool:
        """Whether a write depends on nobody having written since the lookup (RFC 9110 section 13.1.1)."""
        return any(_root(place) in _OF_THE_LOOKUP for text in self.headers.values() for place in places(text))

    @model_validator(mode="after")
    def _one_way(self) -> HttpWrite:
        ways = [name for name in ("upsert", "create", "batch") if getattr(self, name)]
        if not ways:
            raise misfit("expected one of `upsert`, `create` and `batch`")
        if len(ways) > 1:
            raise misfit(f"expected one of `upsert`, `create` and `batch`, not {len(ways)} of them", at=ways[1])
        if self.update is not None and self.create is None:
            raise misfit("`update` goes with `create`", at="update")
        if self.update is not None and self.lookup is None:
            raise misfit("`update` needs `lookup`, which finds what is already there", at="update")
        for name in ("item", "results", "size"):
            if name in self.model_fields_set and self.batch is None:
                raise misfit(f"`{name}` goes with `batch`", at=name)
        if self.found is not None and self.lookup is None:
            raise misfit("`found` goes with `lookup`", at="found")
        if self.status is not None and self.results is None:
            raise misfit("`status` goes with `results`", at="status")
        return self

    @model_validator(mode="after")
    def _one_shape(self) -> HttpWrite:
        if self.body is None:
            return self
        if self.batch is not None:
            raise misfit("`body` is about one record; a batch has `envelope` and `item`", at="body")
        if self.envelope is not None:
            raise misfit("expected one of `envelope` and `body`, not both", at="envelope")
        if not _holds_record(self.body):
            raise misfit(f"this body is the same for every record; put {RECORD} where the record belongs", at="body")
        return self

    @model_validator(mode="after")
    def _about_a_record(self) -> HttpWrite:
        """What stands in braces is known when the request is made."""
        for name in ("upsert", "create", "lookup", *(("delete",) if self.lookup is None else ())):
            if any(_root(place) == "found" for place in places(getattr(self, name))):
                raise misfit("what `lookup` found is known in `update`, `headers`, and `delete` beside it", at=name)
        if self.batch is not None and (names := places(self.batch)):
            raise misfit(f"{{{names[0]}}}: a batch is about no one record", at="batch")
        for name, text in self.headers.items():
            self._check_header(name, text)
        return self

    def _check_header(self, name: str, text: str) -> None:
        for place in places(text):
            at, root = f"headers.{name}", _root(place)
            if self.batch is not None:
                raise misfit(f"{{{place}}}: a batch is about no one record", at=at)
            if root not in _OF_THE_LOOKUP:
                continue
            if self.lookup is None:
                raise misfit(f"{{{place}}} is known from a `lookup`, and there is none", at=at)
            if root == "lookup" and not _LOOKED_UP.fullmatch(place):
                raise misfit(f"{{{place}}}: expected {{lookup.etag}}, or {{lookup.header.NAME}}", at=at)
            if 412 in self.exists:
                message = f"with {{{place}}}, 412 says that the record was changed meanwhile, not that it is there"
                raise misfit(message, at="exists")


def of_the_record(template: object) -> list[FieldPath]:
    """What stands in braces in `template`, but for what a lookup finds."""
    found = [FieldPath.parse(place) for place in places(template)]
    return [path for path in found if path.parts[0] not in _OF_THE_LOOKUP]


def _holds_record(body: JsonValue) -> bool:
    inner = body.values() if isinstance(body, dict) else body if isinstance(body, list) else ()
    return body == RECORD or any(map(_holds_record, inner))


def _root(place: str) -> str:
    """What the path in a place begins with."""
    return re.split(r"[.\[]", place, maxsplit=1)[0]
