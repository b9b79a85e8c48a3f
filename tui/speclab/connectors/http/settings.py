"""Settings of a system with a JSON API over HTTP."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from math import ceil
from typing import Final, Literal

from pydantic import Field, JsonValue, model_validator

from speclab.connectors.http.write_settings import HttpWrite, find_record_paths
from speclab.core.paths import FieldPath
from speclab.core.text import find_placeholders
from speclab.spec.settings import Limited, Limits, Missing, Settings, Since, strip_login
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
    conflict,
)

_PAGED: Final[Mapping[str, tuple[str, ...]]] = {
    "param": ("cursor", "page", "offset"),
    "next": ("cursor", "next_url"),
    "header": ("cursor", "next_url"),
    "start": ("page", "offset"),
    "pages": ("page",),
}
"""Settings of `pagination` that have an effect only with some values of `by`."""
_ENDS: Final[Mapping[str, tuple[str, ...]]] = {
    "empty": ("cursor", "page", "offset", "next_url", "link"),
    "short": ("cursor", "page", "offset", "next_url", "link"),
    "none": ("cursor", "next_url", "link"),
    "total": ("cursor", "page", "offset", "next_url", "link"),
}
"""Values of `end`, each with the values of `by` that support it."""
_SHORTEST_WINDOW: Final = 60.0
_DATE: Final = len("2024-01-31")
_UNIX_DIGITS: Final = (10, 13)  # of seconds and of milliseconds


class Pagination(Settings):
    """Pagination of a list."""

    by: Literal["auto", "cursor", "page", "offset", "next_url", "link", "none"] = Field(
        default="auto", description="How the next page is requested; `auto` detects it from the response."
    )
    param: Text | None = Field(
        default=None, description="Query parameter that carries the cursor, the page or the offset."
    )
    next: Path | None = Field(default=None, description="Path of the next cursor or URL in the body.")
    header: HeaderName | None = Field(default=None, description="Response header that carries the next cursor or URL.")
    start: int | None = Field(
        default=None, description="Number of the first page or offset; default: 1 for pages, 0 for offsets."
    )
    size_param: Text | None = Field(default=None, description="Query parameter that carries the page size.")
    size: int | None = Field(default=None, ge=1, description="Number of records per page.")
    pages: Path | None = Field(default=None, description="Path of the number of pages in the body.")
    total: Path | None = Field(default=None, description="Path of the number of records in the body.")
    end: Literal["empty", "short", "none", "total"] | None = Field(
        default=None,
        description="End of the list: an `empty` page, a page `short` of `size`, a page with `none` after it, or the "
        "`total`; default: `total` or `pages` if set, `none` for cursors and links, otherwise an empty page, after "
        "which one more is requested.",
    )

    @model_validator(mode="after")
    def _check_required(self) -> Pagination:
        if self.by == "cursor" and not (self.param and (self.next or self.header)):
            raise conflict("pagination by cursor needs `param`, and `next` (path in the body) or `header`", at="by")
        if self.by in ("page", "offset") and not self.param:
            raise conflict(f"pagination by {self.by} needs `param`", at="by")
        if self.by == "next_url" and not (self.next or self.header):
            raise conflict("pagination by next_url needs `next` (path in the body) or `header`", at="by")
        return self

    @model_validator(mode="after")
    def _check_effect(self) -> Pagination:
        for name, styles in _PAGED.items():
            if getattr(self, name) is not None and self.by not in styles:
                raise conflict(f"`{name}` is for pagination by {' or '.join(styles)}, not by {self.by}", at=name)
        if self.next is not None and self.header is not None:
            raise conflict("expected one of `next` and `header`, not both", at="header")
        self._check_end()
        if self.size_param is not None and self.size is None:
            raise conflict("`size_param` needs `size`, the value to send", at="size_param")
        if self.size is not None and self.size_param is None and self.by not in ("page", "offset"):
            raise conflict("`size` needs `size_param`, the parameter that carries it", at="size")
        return self

    def _check_end(self) -> None:
        if self.end is None:
            return
        styles = _ENDS[self.end]
        if self.by not in styles:
            raise conflict(f"`end: {self.end}` is for pagination by {', '.join(styles)}, not by {self.by}", at="end")
        if self.pages is not None:
            raise conflict("expected one of `end` and `pages`, not both: each says where the list ends", at="end")
        if self.end == "short" and self.size is None:
            raise conflict("`end: short` needs `size`, the number of records of a full page", at="end")
        if self.end == "total" and self.total is None:
            raise conflict("`end: total` needs `total`, the Path of the number of records in the body.", at="end")


class HttpSince(Since):
    """Incremental read over HTTP: only records that changed since the last run."""

    field: Path = Field(description="Path of the time or number in a record.")
    until: Text | None = Field(default=None, description="Query parameter that carries the time to read to.")
    window: Duration | None = Field(
        default=None,
        description="Length of the windows into which a read from `start` is split; they are read concurrently.",
    )

    @model_validator(mode="after")
    def _check_window(self) -> HttpSince:
        if self.window is None:
            if self.until is not None:
                raise conflict("`until` needs `window`; without it, a read has no upper bound", at="until")
            return self
        if self.window < _SHORTEST_WINDOW:
            raise conflict(
                "expected a window of at least one minute, such as 1d; each window is a separate request", at="window"
            )
        if self.until is None:
            raise conflict("`window` needs `until`, the parameter that carries a window's end", at="window")
        if self.until == self.param:
            raise conflict(
                "`param` and `until` are the same; expected one parameter for each bound of a window",
                at="until",
            )
        if self.start is None:
            raise conflict("`window` needs `start`, the start of the first window in the first run", at="window")
        if not _is_time(self.start):
            raise conflict(
                "with `window`, expected `start` to be a time: 2024-01-31, 2024-01-31T00:00:00Z or Unix",
                "start",
            )
        return self


class ForEach(Settings):
    """A parent list: the read is repeated for each of its records."""

    path: Location = Field(description="Path of the parent list.")
    params: dict[str, JsonValue] = Field(default_factory=dict, description="Query parameters of the parent list.")
    records: Path | None = Field(default=None, description="Path of the list in the body.")
    pagination: Pagination = Field(default_factory=Pagination, description="Pagination of the parent list.")
    name: ParentName = Field(
        alias="as",
        description="Name of a parent in templates, `{account.id}`, and in the mapping, `source.account.id`.",
    )


class HttpRead(Settings):
    """Read requests to an HTTP source."""

    path: Location | None = Field(default=None, description="URL path of the list, requested with GET.")
    request: Request | None = Field(
        default=None, description="Method and URL path of the list, for methods other than GET."
    )
    body: JsonValue = Field(default=None, description="Body of `request`.")
    params: dict[str, JsonValue] = Field(default_factory=dict, description="Query parameters.")
    records: Path | None = Field(default=None, description="Path of the list in the body; default: the body itself.")
    pagination: Pagination = Field(default_factory=Pagination, description="Pagination of the list.")
    since: HttpSince | None = Field(default=None, description="Incremental read.")
    ok: Cel | None = Field(
        default=None,
        description="CEL expression over the body of a page (`item`), true for a complete page.",
    )
    deleted: Cel | None = Field(default=None, description="CEL expression over `source`, true for a deleted record.")
    missing: Missing = "keep"
    for_each: ForEach | None = Field(
        default=None, description="Parent list; the read is repeated for each of its records."
    )

    @model_validator(mode="after")
    def _check_request(self) -> HttpRead:
        if self.path is None and self.request is None:
            raise conflict("expected `path`, or `request` for methods other than GET")
        if self.path is not None and self.request is not None:
            raise conflict("expected one of `path` and `request`, not both", at="request")
        if self.body is not None and self.request is None:
            raise conflict("a `body` needs `request`, such as POST /search", at="body")
        return self

    @model_validator(mode="after")
    def _check_windows(self) -> HttpRead:
        if self.since is not None and self.since.param is None:
            raise conflict("over HTTP, `since` needs `param`, the parameter that carries the start", at="since")
        if self.since is None or self.since.window is None:
            return self
        if self.for_each is not None:
            raise conflict(
                "`window` is not supported with `for_each`, which reads the parents concurrently", at="since.window"
            )
        if self.pagination.by in ("page", "offset") and self.pagination.total is None:
            raise conflict(
                "a record that changes leaves its window and shifts the later ones to other pages; `window` needs "
                "`total` in `pagination` to detect that, or pagination by cursor",
                at="since.window",
            )
        return self

    @model_validator(mode="after")
    def _check_missing(self) -> HttpRead:
        numbered = self.pagination.by in ("page", "offset")
        if self.missing == "delete" and numbered and self.pagination.total is None:
            raise conflict(
                "a record deleted during the read shifts the later ones to other pages, and a skipped record would be "
                "deleted from the target; `missing: delete` needs `total` in `pagination` to detect that, or "
                "pagination by cursor",
                at="missing",
            )
        return self

    @model_validator(mode="after")
    def _check_parents(self) -> HttpRead:
        at, each = "path" if self.path else "request", self.for_each
        names = find_placeholders(self.path or self.request)
        if each is None:
            if names:
                raise conflict(
                    f"{{{names[0]}}}: a read has no record for placeholders but the parent of `for_each`", at=at
                )
            return self
        own = f"{each.name}."
        if stray := [name for name in names if not name.startswith(own)]:
            raise conflict(
                f"{{{stray[0]}}} is not a field of `{each.name}`, the only record available to a read", at=at
            )
        if above := find_placeholders(each.path):
            raise conflict(f"{{{above[0]}}}: the parent list has no record for placeholders", at="for_each.path")
        if not any(
            name.startswith(own) for name in [*names, *find_placeholders(self.params), *find_placeholders(self.body)]
        ):
            named = f"{{{own}id}}"
            raise conflict(
                f"each `{each.name}` would get the same request; add {named} to path, params or body", "for_each"
            )
        return self


def _is_time(text: str) -> bool:
    """Whether `text` is a time; a reference counts as one until a run resolves it."""
    if "${" in text or (text.isdecimal() and len(text) in _UNIX_DIGITS):
        return True
    try:
        datetime.fromisoformat(text)
    except ValueError:
        return False
    return len(text) == _DATE or (len(text) > _DATE and text[_DATE] in "T ")


class HttpLimits(Limits):
    """Limits on the requests to an HTTP API."""

    weights: dict[str, Weight] = Field(
        default_factory=dict,
        description="Number of requests that a request counts as in `rate`, by method {POST: 5} or path prefix "
        "{GET /search: 10}; default: 1.",
    )

    @model_validator(mode="after")
    def _check_weights(self) -> HttpLimits:
        least = min((rate.count for rate in self.rate), default=None)
        for name, weight in self.weights.items():
            if not WEIGHED.fullmatch(name):
                raise conflict(
                    f"{name!r}: expected a method such as POST, or a method and a path", at=f"weights.{name}"
                )
            if least is None:
                raise conflict("`weights` needs `rate`", at="weights")
            if weight > least:
                raise conflict(f"a weight of {weight} is more than `rate` allows in one window", at=f"weights.{name}")
        return self


class HttpSystem(Limited):
    """A system with a JSON API over HTTP."""

    requires_auth = True
    reads_target_fields = True
    expressions = {("read", "deleted"): "source", ("write", "ok"): "item"}  # noqa: RUF012 - a ClassVar of the base

    base_url: BaseUrl = Field(description="URL that every path is appended to.", json_schema_extra={"login": True})
    limits: HttpLimits = Field(default_factory=HttpLimits, description="Limits on the requests.")
    headers: dict[HeaderName, HeaderText] = Field(default_factory=dict, description="Headers of every request.")
    read: HttpRead | None = Field(
        default=None,
        description="Read requests of a source; of a target, used by `speclab fields` and `speclab reconcile`.",
    )
    write: HttpWrite | None = Field(default=None, description="Write requests of a target.")

    def destination(self) -> str:
        """Return the URL of the API and the write request."""
        request = (self.write.upsert or self.write.create or self.write.batch) if self.write else None
        return f"http {strip_login(self.base_url)} {request}"

    def origin(self) -> str:
        """Return the API, the list and the parent list."""
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
        """Return whether `read.missing` is `delete`."""
        return self.read is not None and self.read.missing == "delete"

    def explain_no_delete(self) -> str:
        """Return a reason unless `write.delete` is set."""
        return "" if self.write and self.write.delete else "the target has no `write.delete`"

    def get_delete_paths(self) -> Sequence[FieldPath]:
        """Return the placeholders of the delete requests; the key only if they have none."""
        templates = [self.write.delete, self.write.lookup, self.write.headers] if self.write else []
        return find_record_paths(templates) or super().get_delete_paths()

    def explain_unclear_success(self) -> tuple[tuple[str, ...], str] | None:
        """Return the batch if neither `results` nor `ok` says which records succeeded."""
        write = self.write
        if write is None or write.batch is None or write.ok is not None or write.results is not None:
            return None
        return ("write", "batch"), "set `results` or `ok` to define which records of a batch succeeded"

    def get_required_paths(self) -> Mapping[tuple[str, ...], Sequence[FieldPath]]:
        """Return the placeholders of the write requests."""
        write = self.write
        if write is None:
            return {}
        templates: dict[tuple[str, ...], object] = {
            ("write", name): getattr(write, name) for name in ("upsert", "create", "update", "lookup", "delete")
        }
        templates |= {("write", "headers", name): text for name, text in write.headers.items()}
        templates["write", "item", "path"] = write.item.path if write.item is not None else None
        return {
            setting: [path for path in find_record_paths(template) if path.parts[0] != "source"]
            for setting, template in templates.items()
        }
