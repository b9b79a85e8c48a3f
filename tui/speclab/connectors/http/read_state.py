"""The state of one read, and its cursor: plain JSON from which a later run, or another machine, continues."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime

from speclab.connectors.http.pagination import Position
from speclab.connectors.http.response_check import Doubt, SeenKeys
from speclab.connectors.incremental import Bookmark, Watermark, build_time_ceiling
from speclab.core.clock import format_timestamp
from speclab.core.json import Json, Record, encode_canonical
from speclab.core.paths import FieldPath
from speclab.spec.settings import Since


@dataclass(slots=True)
class ReadState:
    """The state of one read.

    `fingerprint` identifies the settings, because a position is only valid for the same ones. `before` is the bookmark
    from which the read starts, None for a full read. `shrunk` is True once the source's total has decreased. `doubt` is
    the first reason why records may be missing. `longest` is the number of records of the longest page, `last` that of
    the previous page, `empty` the number of empty pages in a row.
    """

    fingerprint: str
    since: Since | None
    position: Position
    before: Bookmark | None
    full: bool
    resumed: bool = False
    count: int = 0
    total: int | None = None
    shrunk: bool = False
    started: datetime | None = None
    watermark: Watermark | None = None
    previous: list[Record] | None = None
    empty: int = 0
    last: int = 0
    longest: int = 0
    doubt: Doubt | None = None
    keys: SeenKeys | None = None
    visited: set[bytes] = field(default_factory=set)

    @classmethod
    def begin(cls, cursor: Json, *, full: bool, fingerprint: str, since: Since | None, first: Position) -> ReadState:
        """Resume the read that `cursor` describes if it was interrupted with the same settings, or start a new one."""
        stored = cursor if isinstance(cursor, dict) else {}
        before = (
            Bookmark.load(stored.get("since")) if since is not None and stored.get("field") == since.field else None
        )
        position, was_full = stored.get("page"), stored.get("full") is True
        if not isinstance(position, dict) or stored.get("of") != fingerprint or (full and not was_full):
            return cls(fingerprint, since, first, None if full else before, full)
        read = cls(fingerprint, since, position, before, was_full, resumed=True)
        count, total, started = stored.get("read"), stored.get("total"), stored.get("started")
        read.count = count if isinstance(count, int) else 0
        read.total = total if isinstance(total, int) else None
        read.shrunk = stored.get("shrunk") is True
        doubt = stored.get("doubt")
        read.doubt = Doubt(doubt) if isinstance(doubt, str) else None
        read.empty = 1 if stored.get("after_empty") is True else 0
        if isinstance(started, str):
            read.watch(datetime.fromisoformat(started), Bookmark.load(stored.get("reached")))
        return read

    @property
    def whole(self) -> bool:
        """Whether the read covers all records of the source."""
        return self.since is None or self.full or (self.before is None and self.since.start is None)

    def watch(self, started: datetime, reached: Bookmark | None = None) -> None:
        """Track the `since` field in a read that began at `started`, by the source's clock."""
        if self.since is not None:
            self.started = started.astimezone(UTC)
            self.watermark = Watermark(
                FieldPath.parse(self.since.field), build_time_ceiling(self.started), before=self.before, reached=reached
            )

    def restart(self, first: Position) -> None:
        """Restart at the `first` page; if the source is sorted, from the value that was reached."""
        if self.watermark is not None and self.since is not None and self.since.sorted and not self.full:
            self.before = self.watermark.get_reached()
        self.position = first
        self.resumed = False
        self.count = 0
        self.total = None
        self.shrunk = False
        self.doubt = None
        self.empty = 0
        self.started = self.watermark = None

    def add_page(self, records: int, total: int | None) -> None:
        """Count the records of a page, which reports `total` records at the source."""
        self.count += records
        self.shrunk = self.shrunk or (total is not None and self.total is not None and total < self.total)
        self.total = total

    def visit(self, position: Position) -> bool:
        """Store `position`, and return False if it was requested before."""
        place = encode_canonical(position)
        if place in self.visited:
            return False
        self.visited.add(place)
        return True

    def build_cursor(self, following: Position | None) -> Json:
        """Return the cursor after the current page: within the read, or at its end if `following` is None."""
        since = self.since
        if following is None:
            return self._build_final_cursor(self.watermark.get_reached() if self.watermark else None)
        stored: dict[str, Json] = {"page": following, "of": self.fingerprint, "full": self.full, "read": self.count}
        if self.total is not None:
            stored |= {"total": self.total, "shrunk": self.shrunk}
        if self.doubt is not None:
            stored["doubt"] = self.doubt.message
        if self.empty:
            stored["after_empty"] = True
        if since is not None and self.watermark is not None and self.started is not None:
            reached = self.watermark.get_reached()
            stored |= {
                "since": self.before.dump() if self.before else None,
                "field": since.field,
                "started": format_timestamp(self.started),
                "reached": reached.dump() if reached else None,
            }
        return stored

    def build_restart_cursor(self) -> Json:
        """Return the cursor that repeats this read from its first page."""
        return self._build_final_cursor(self.before)

    def _build_final_cursor(self, mark: Bookmark | None) -> Json:
        return build_bookmark_cursor(mark.dump() if mark else None, self.since)


def build_bookmark_cursor(mark: Json, since: Since | None, **more: Json) -> Json:
    """Return the cursor of a read that starts from the bookmark `mark`, with `more` fields."""
    return {"page": None, "since": mark, "field": since.field if since else None, **more}


def read_bookmark(cursor: Json) -> Json:
    """Return the bookmark in the cursor of a finished read."""
    return cursor["since"] if isinstance(cursor, dict) else None
