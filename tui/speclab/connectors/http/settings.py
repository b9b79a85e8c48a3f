"""The settings of a system that speaks JSON over HTTP."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from math import ceil
from typing import Final, Literal

from pydantic import Field, JsonValue, model_validator

from speclab.connectors.http.write_settings import HttpWrite, of_the_record
from speclab.core.paths import FieldPath
from speclab.spec.settings import Limited, Limits, Missing, Settings, Since, without_login
from speclab.spec.settings_types import (
    WEIGHED,
    BaseUrl,
    Cel,
    Duration,
    HeaderName,
    HeaderText,
    Location,
    ParentName,
    Path,
    Request,
    Text,
    Weight,
    misfit,
    places,
)

_PAGED: Final[Mapping[str, tuple[str, ...]]] = {
    "param": ("cursor", "page", "offset"),
    "next": ("cursor", "next_url"),
    "header": ("cursor", "next_url"),
    "start": ("page", "offset"),
    "pages": ("page",),
}
"""Settings of a pagination that mean something to some ways of paging, and to others nothing."""
_ENDS: Final[Mapping[str, tuple[str, ...]]] = {
    "empty": ("cursor", "page", "offset", "next_url", "link"),
    "short": ("cursor", "page", "offset", "next_url", "link"),
    "none": ("cursor", "next_url", "link"),
    "total": ("cursor", "page", "offset", "next_url", "link"),
}
"""What may end a list, and the ways of paging that know it."""
_SHORTEST_WINDOW: Final = 60.0
_DATE: Final = len("2024-01-31")
_UNIX_DIGITS: Final = (10, 13)  # of seconds and of milliseconds


class Pagination(Settings):
    """How the next page is asked for."""

    by: Literal["auto", "cursor", "page", "offset", "next_url", "link", "none"] = Field(
        default="auto", description="how the next page is found; auto goes by what the answer says"
    )
    param: Text | None = Field(default=None, description="parameter that carries the cursor, the page or the offset")
    next: Path | None = Field(default=None, description="path of the next cursor or URL in the body")
    header: HeaderName | None = Field(
        default=None, description="header of the answer that holds the next cursor or URL"
    )
    start: int | None = Field(default=None, description="number of the first page (default 1)")
    size_param: Text | None = Field(default=None, description="parameter that asks for the size of a page")
    size: int | None = Field(default=None, ge=1, description="records a page")
    pages: Path | None = Field(default=None, description="path of the number of pages in the body")
    total: Path | None = Field(default=None, description="path of the number of records in the body")
    end: Literal["empty", "short", "none", "total"] | None = Field(
        default=None,
        description="what ends the list: an `empty` page, a page `short` of `size`, a page that names `none` next, or "
        "the `total` (default: total or pages where given, none for cursors and links, else an empty page after which "
        "one more is requested)",
    )

    @model_validator(mode="after")
    def _complete(self) -> Pagination:
        if self.by == "cursor" and not (self.param and (self.next or self.header)):
            raise misfit("pagination by cursor needs `param`, and `next` (path in the body) or `header`", at="by")
        if self.by in ("page", "offset") and not self.param:
            raise misfit(f"pagination by {self.by} needs `param`", at="by")
        if self.by == "next_url" and not (self.next or self.header):
            raise misfit("pagination by next_url needs `next` (path in the body) or `header`", at="by")
        return self

    @model_validator(mode="after")
    def _of_effect(self) -> Pagination:
        for name, ways in _PAGED.items():
            if getattr(self, name) is not None and self.by not in ways:
                raise misfit(f"`{name}` goes with pagination by {' or '.join(ways)}, not by {self.by}", at=name)
        if self.next is not None and self.header is not None:
            raise misfit("expected one of `next` and `header`, not both", at="header")
        self._check_end()
        if self.size_param is not None and self.size is None:
            raise misfit("`size_param` needs `size`, what is asked for with it", at="size_param")
        if self.size is not None and self.size_param is None and self.by not in ("page", "offset"):
            raise misfit("`size` needs `size_param`, the parameter that asks for it", at="size")
        return self

    def _check_end(self) -> None:
        if self.end is None:
            return
        ways = _ENDS[self.end]
        if self.by not in ways:
            raise misfit(f"`end: {self.end}` goes with pagination by {', '.join(ways)}, not by {self.by}", at="end")
        if self.pages is not None:
            raise misfit("expected one of `end` and `pages`, not both: each says where the list ends", at="end")
        if self.end == "short" and self.size is None:
            raise misfit("`end: short` needs `size`, the number of records of a full page", at="end")
        if self.end == "total" and self.total is None:
            raise misfit("`end: total` needs `total`, the path of the number of records in the body", at="end")


class HttpSince(Since):
    """How only what changed is asked for, over HTTP."""

    field: Path = Field(description="path of the time or number in a record")
    until: Text | None = Field(default=None, description="parameter that carries the time to read to")
    window: Duration | None = Field(
        default=None, description="cuts a read from `start` on into stretches of time that are asked for at once"
    )

    @model_validator(mode="after")
    def _to_be_cut(self) -> HttpSince:
        if self.window is None:
            if self.until is not None:
                raise misfit("`until` goes with `window`; without one, a read has no end to ask for", at="until")
            return self
        if self.window < _SHORTEST_WINDOW:
            raise misfit("expected a window of a minute or more, such as 1d; each is a request of its own", at="window")
        if self.until is None:
            raise misfit("`window` needs `until`, the parameter that carries a window's end", at="window")
        if self.until == self.param:
            raise misfit("`param` and `until` are the same; expected one for each end of a window", at="until")
        if self.start is None:
            raise misfit("`window` needs `start`: the first run has nothing else to cut windows from", at="window")
        if not _is_time(self.start):
            raise misfit(
                "with `window`, `start` is a time as the field has it: 2024-01-31, 2024-01-31T00:00:00Z or Unix",
                "start",
            )
        return self


class ForEach(Settings):
    """The read is made once for each record of a parent list."""

    path: Location = Field(description="path of the parent list")
    params: dict[str, JsonValue] = Field(default_factory=dict, description="query parameters of it")
    records: Path | None = Field(default=None, description="where the list is in the body")
    pagination: Pagination = Field(default_factory=Pagination, description="how its pages follow")
    name: ParentName = Field(alias="as", description="the name parents go by: `{account.id}`, and `source.account.id`")


class HttpRead(Settings):
    """What is asked of an HTTP source."""

    path: Location | None = Field(default=None, description="path of the list, asked with GET")
    request: Request | None = Field(default=None, description="method and path, where it is no GET")
    body: JsonValue = Field(default=None, description="body of that request")
    params: dict[str, JsonValue] = Field(default_factory=dict, description="query parameters")
    records: Path | None = Field(default=None, description="path of the list in the body (default: the body itself)")
    pagination: Pagination = Field(default_factory=Pagination, description="how pages follow")
    since: HttpSince | None = Field(default=None, description="read only what changed")
    ok: Cel | None = Field(
        default=None,
        description="CEL over the body of a page (`item`) that is true of a complete page",
    )
    deleted: Cel | None = Field(default=None, description="CEL that is true of a deleted record")
    missing: Missing = "keep"
    for_each: ForEach | None = Field(default=None, description="a parent list to read once for each of")

    @model_validator(mode="after")
    def _one_request(self) -> HttpRead:
        if self.path is None and self.request is None:
            raise misfit("expected `path`, or `request` where it is no GET")
        if self.path is not None and self.request is not None:
            raise misfit("expected one of `path` and `request`, not both", at="request")
        if self.body is not None and self.request is None:
            raise misfit("a `body` needs `request`, such as POST /search", at="body")
        return self

    @model_validator(mode="after")
    def _in_windows(self) -> HttpRead:
        if self.since is not None and self.since.param is None:
            raise misfit("over HTTP `since` needs `param`, the parameter that asks for what changed", at="since")
        if self.since is None or self.since.window is None:
            return self
        if self.for_each is not None:
            raise misfit("with `for_each` it is the parents that are read at once, no windows", at="since.window")
        if self.pagination.by in ("page", "offset") and self.pagination.total is None:
            raise misfit(
                "a record that changes leaves its window and moves those after it to other pages; `window` needs "
                "`total` in `pagination`, by which that is noticed, or pages by cursor",
                at="since.window",
            )
        return self

    @model_validator(mode="after")
    def _of_all_there_is(self) -> HttpRead:
        numbered = self.pagination.by in ("page", "offset")
        if self.missing == "delete" and numbered and self.pagination.total is None:
            raise misfit(
                "a record that goes while pages are read moves those after it to other pages, and one that is skipped "
                "would be deleted; `missing: delete` needs `total` in `pagination`, by which that is noticed, or pages "
                "by cursor",
                at="missing",
            )
        return self

    @model_validator(mode="after")
    def _about_the_parent(self) -> HttpRead:
        at, each = "path" if self.path else "request", self.for_each
        names = places(self.path or self.request)
        if each is None:
            if names:
                raise misfit(f"{{{names[0]}}}: a read is about no record, unless `for_each` gives it one", at=at)
            return self
        own = f"{each.name}."
        if stray := [name for name in names if not name.startswith(own)]:
            raise misfit(f"{{{stray[0]}}} is no field of `{each.name}`, the only record a read can be about", at=at)
        if above := places(each.path):
            raise misfit(f"{{{above[0]}}}: the parent list is about no record", at="for_each.path")
        if not any(name.startswith(own) for name in [*names, *places(self.params), *places(self.body)]):
            named = f"{{{own}id}}"
            raise misfit(
                f"each `{each.name}` would be asked the same; put {named} into path, params or body", "for_each"
            )
        return self


def _is_time(text: str) -> bool:
    """Whether `text` is a time that can be reckoned with; so are references, until a run resolves them."""
    if "${" in text or (text.isdecimal() and len(text) in _UNIX_DIGITS):
        return True
    try:
        datetime.fromisoformat(text)
    except ValueError:
        return False
    return len(text) == _DATE or (len(text) > _DATE and text[_DATE] in "T ")


class HttpLimits(Limits):
    """What a system may be asked for over HTTP."""

    weights: dict[str, Weight] = Field(
        default_factory=dict,
        description="what requests count in `rate`, if not 1: {POST: 5}, or by a path's beginning {GET /search: 10}",
    )

    @model_validator(mode="after")
    def _bearable(self) -> HttpLimits:
        least = min((rate.count for rate in self.rate), default=None)
        for name, weight in self.weights.items():
            if not WEIGHED.fullmatch(name):
                raise misfit(f"{name!r}: expected a method such as POST, or a method and a path", at=f"weights.{name}")
            if least is None:
                raise misfit("`weights` goes with `rate`", at="weights")
            if weight > least:
                raise misfit(f"a request of {weight} is more than `rate` ever allows at once", at=f"weights.{name}")
        return self


class HttpSystem(Limited):
    """A system that speaks JSON over HTTP."""

    logs_in = True
    reads_target_fields = True
    expressions = {("read", "deleted"): "source", ("write", "ok"): "item"}  # noqa: RUF012 - a ClassVar of the base

    base_url: BaseUrl = Field(description="where every path starts", json_schema_extra={"login": True})
    limits: HttpLimits = Field(default_factory=HttpLimits, description="what it may be asked for")
    headers: dict[HeaderName, HeaderText] = Field(default_factory=dict, description="headers of every request")
    read: HttpRead | None = Field(
        default=None, description="how it is read, at the source; at the target, for `speclab fields` alone"
    )
    write: HttpWrite | None = Field(default=None, description="how it is written, at the target")

    def destination(self) -> str:
        """The URL of the API, and the request that writes."""
        way = (self.write.upsert or self.write.create or self.write.batch) if self.write else None
        return f"http {without_login(self.base_url)} {way}"

    def origin(self) -> str:
        """The API, the list and the parent list."""
        if self.read is None:
            return self.destination()
        parents = self.read.for_each.path if self.read.for_each else ""
        return f"{self.destination()} {self.read.path or self.read.request} {parents}"

    def tombstone(self) -> str | None:
        """Return `read.deleted`."""
        return self.read.deleted if self.read else None

    def always_creates(self) -> bool:
        """Return whether records are created without looking for existing ones."""
        return self.write is not None and self.write.create is not None and self.write.lookup is None

    def count_calls(self, writes: int, deletes: int, batch: int) -> int:
        """Return the number of requests, lookups included."""
        if self.write is None:
            return super().count_calls(writes, deletes, batch)
        per_record = 2 if self.write.lookup else 1
        if self.write.batch is not None:
            return ceil(writes / self.write.size) + deletes * per_record
        looks_up = self.write.upsert is None or self.write.conditional  # an upsert needs none, unless it is conditional
        return writes * (per_record if looks_up else 1) + deletes * per_record

    def deletes_missing(self) -> bool:
        """As `read.missing` says."""
        return self.read is not None and self.read.missing == "delete"

    def why_not_delete(self) -> str:
        """Only `write.delete` can."""
        return "" if self.write and self.write.delete else "the target has no `write.delete` to delete with"

    def known_by(self) -> Sequence[FieldPath]:
        """What stands in braces in the requests that delete; the key is only what records are known by elsewhere."""
        templates = [self.write.delete, self.write.lookup, self.write.headers] if self.write else []
        return of_the_record(templates) or super().known_by()

    def unclear_success(self) -> tuple[tuple[str, ...], str] | None:
        """A batch has one response for many records."""
        write = self.write
        if write is None or write.batch is None or write.ok is not None or write.results is not None:
            return None
        return ("write", "batch"), "`results` or `ok` is missing: it says which records of a batch the target took"

    def needs(self) -> Mapping[tuple[str, ...], Sequence[FieldPath]]:
        """What stands in braces in its requests."""
        write = self.write
        if write is None:
            return {}
        templates: dict[tuple[str, ...], object] = {
            ("write", name): getattr(write, name) for name in ("upsert", "create", "update", "lookup", "delete")
        }
        templates |= {("write", "headers", name): text for name, text in write.headers.items()}
        templates["write", "item", "path"] = write.item.path if write.item is not None else None
        return {
            setting: [path for path in of_the_record(template) if path.parts[0] != "source"]
            for setting, template in templates.items()
        }
