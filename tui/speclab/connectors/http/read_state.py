"""Where one read stands, and the cursor that says so: plain JSON that a later run, or another machine, goes on from."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime

from speclab.connectors.http.pagination import Position
from speclab.connectors.http.response_check import Doubt, SeenKeys
from speclab.connectors.incremental import Bookmark, Watermark, no_later_than
from speclab.core.clock import format_timestamp
from speclab.core.json import Json, Record, encode_canonical
from speclab.core.paths import FieldPath
from speclab.spec.settings import Since


@dataclass(slots=True)
class ReadState:
    """One read on its way through the pages.

    `fingerprint` is of the settings: a position is of no use to others. `before` is the mark the read asks from, and
    None for a read of everything. `shrunk` is True once the source's total was less than before; `doubt` is the first
    reason why records may be missing; `longest` is the length of the longest page, and `last` that of the page before.
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
        """The read that `cursor` asks for: one that was broken off under the same settings goes on, else a new one."""
        held = cursor if isinstance(cursor, dict) else {}
        before = Bookmark.load(held.get("since")) if since is not None and held.get("field") == since.field else None
        position, was_full = held.get("page"), held.get("full") is True
        if not isinstance(position, dict) or held.get("of") != fingerprint or (full and not was_full):
            return cls(fingerprint, since, first, None if full else before, full)
        read = cls(fingerprint, since, position, before, was_full, resumed=True)
        count, total, started = held.get("read"), held.get("total"), held.get("started")
        read.count = count if isinstance(count, int) else 0
        read.total = total if isinstance(total, int) else None
        read.shrunk = held.get("shrunk") is True
        doubt = held.get("doubt")
        read.doubt = Doubt(doubt) if isinstance(doubt, str) else None
        read.empty = 1 if held.get("after_empty") is True else 0
        if isinstance(started, str):
            read.watch(datetime.fromisoformat(started), Bookmark.load(held.get("reached")))
        return read

    @property
    def whole(self) -> bool:
        """Whether all that the source holds is asked for."""
        return self.since is None or self.full or (self.before is None and self.since.start is None)

    def watch(self, started: datetime, reached: Bookmark | None = None) -> None:
        """Follow the `since` field in a read that began at `started`, by the source's clock."""
        if self.since is not None:
            self.started = started.astimezone(UTC)
            self.watermark = Watermark(
                FieldPath.parse(self.since.field), no_later_than(self.started), before=self.before, reached=reached
            )

    def restart(self, first: Position) -> None:
        """Begin anew at the `first` page; from where the read had got to, if that is proven by the source's order."""
        if self.watermark is not None and self.since is not None and self.since.sorted and not self.full:
            self.before = self.watermark.reached()
        self.position = first
        self.resumed = False
        self.count = 0
        self.total = None
        self.shrunk = False
        self.doubt = None
        self.empty = 0
        self.started = self.watermark = None

    def count_on(self, records: int, total: int | None) -> None:
        """Count so many records more, on a page that says the source holds `total`."""
        self.count += records
        self.shrunk = self.shrunk or (total is not None and self.total is not None and total < self.total)
        self.total = total

    def visit(self, position: Position) -> bool:
        """Remember that `position` is asked for; False if it was before."""
        place = encode_canonical(position)
        if place in self.visited:
            return False
        self.visited.add(place)
        return True

    def cursor(self, following: Position | None) -> Json:
        """The cursor after the page just taken: in the middle of the read, or (None) at its end."""
        since = self.since
        if following is None:
            return self._anew(self.watermark.reached() if self.watermark else None)
        held: dict[str, Json] = {"page": following, "of": self.fingerprint, "full": self.full, "read": self.count}
        if self.total is not None:
            held |= {"total": self.total, "shrunk": self.shrunk}
        if self.doubt is not None:
            held["doubt"] = self.doubt.message
        if self.empty:
            held["after_empty"] = True
        if since is not None and self.watermark is not None and self.started is not None:
            reached = self.watermark.reached()
            held |= {
                "since": self.before.dump() if self.before else None,
                "field": since.field,
                "started": format_timestamp(self.started),
                "reached": reached.dump() if reached else None,
            }
        return held

    def again(self) -> Json:
        """The cursor of this same read, from its first page on."""
        return self._anew(self.before)

    def _anew(self, mark: Bookmark | None) -> Json:
        return build_bookmark_cursor(mark.dump() if mark else None, self.since)


def build_bookmark_cursor(mark: Json, since: Since | None, **more: Json) -> Json:
    """The cursor of a read that begins where `mark`, as a checkpoint holds it, says; it may hold `more`."""
    return {"page": None, "since": mark, "field": since.field if since else None, **more}


def read_bookmark(cursor: Json) -> Json:
    """The mark that the next read goes by, in the cursor of one that is over."""
    return cursor["since"] if isinstance(cursor, dict) else None
