"""Following the run log: what is new since the last look, for the price of a look when nothing is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Self

from speclab.runlog.reader import RunLogReader
from speclab.runlog.rows import EventRow

_AT_ONCE: Final = 1000


@dataclass(frozen=True, slots=True)
class News:
    """What a look found.

    `changed` if anything in the run log may have changed, be it figures only; `replaced` if it is another file than
    before (or there is one now, or none any more), so that all that was shown is void. `events` are the new ones,
    oldest first; `skipped` counts events between those and what was seen before that are not among them, because there
    were too many to tell one by one.
    """

    changed: bool
    replaced: bool
    events: Sequence[EventRow]
    skipped: int


class Tail:
    """Follows the events of a run log, from the moment it is opened."""

    def __init__(self, reader: RunLogReader, version: tuple[int, int], last: int) -> None:
        self._reader = reader
        self._version = version
        self._last = last

    @classmethod
    def open(cls, reader: RunLogReader) -> Self:
        """A tail of what comes from now on; `latest_events` of the reader has what came before."""
        version = reader.version()
        return cls(reader, version, _last(reader))

    def poll(self) -> News:
        """What is new. One `PRAGMA data_version` if nothing is; otherwise as much work as there are new events."""
        version = self._reader.version()
        if version == self._version:
            return News(changed=False, replaced=False, events=(), skipped=0)
        replaced = version[0] != self._version[0]
        seen = 0 if replaced else self._last
        self._version, newest = version, _last(self._reader)
        after = max(seen, newest - _AT_ONCE)
        events = self._reader.events(after, limit=_AT_ONCE)
        self._last = events[-1].id if events else newest
        return News(changed=True, replaced=replaced, events=events, skipped=after - seen)


def _last(reader: RunLogReader) -> int:
    ((last,),) = reader.query("SELECT max(id) FROM event") or [(None,)]
    return last or 0
