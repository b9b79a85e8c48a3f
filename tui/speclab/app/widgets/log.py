"""The event log: lines in the order of commits, following the newest until the user scrolls up."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from rich.cells import cell_len
from textual.message import Message
from textual.reactive import reactive

from speclab.app.formatting import clock_time
from speclab.app.widgets.grid import Grid, GridCell, GridColumn, GridRow
from speclab.core.outcome import Level

if TYPE_CHECKING:
    from speclab.runlog import EventRow

KEPT: Final = 10_000
"""Maximum number of lines; older events stay in the run log."""

_STYLES: Final = {Level.ERROR: "failed", Level.WARNING: "attention", Level.INFO: ""}


class EventLog(Grid):
    """The tail of the run log.

    While `following`, the newest line stays visible; moving up stops following, `end` resumes it.
    """

    DEFAULT_CSS = """
    EventLog > .grid--cursor { background: $background; }
    EventLog:focus > .grid--cursor { background: $cursor; }
    """

    following: reactive[bool] = reactive(True, repaint=False)

    class Followed(Message):
        """Posted when following starts or stops."""

    def __init__(self, *, with_spec: bool = True, id: str | None = None) -> None:  # noqa: A002 (Textual's name)
        super().__init__(
            _columns(0),
            heading=False,
            empty=("No events yet.", "Runs report their progress here."),
            id=id,
        )
        self._with_spec = with_spec
        self._events: list[EventRow] = []
        self._lines: list[GridRow] = []
        self._specs: set[str] = set()

    @property
    def event(self) -> EventRow | None:
        """Return the event under the cursor."""
        return self._events[self.cursor_row] if self.cursor_row < len(self._events) else None

    def append(self, events: Sequence[EventRow]) -> None:
        """Add events, oldest first; events already shown are skipped."""
        shown = self._events[-1].id if self._events else 0
        events = [event for event in events if event.id > shown]
        if not events:
            return
        self._events = [*self._events, *events][-KEPT:]
        self._lines = [*self._lines, *map(self._line, events)][-KEPT:]
        self._specs.update(event.spec_id for event in events)
        several = self._with_spec and len(self._specs) > 1
        self.lay_out(_columns(max(map(cell_len, self._specs)) if several else 0))
        following = self.following
        self.show(self._lines)  # the cursor stays on its line when older ones are dropped
        if following:
            self.move(len(self._lines) - 1)

    def replace(self, events: Sequence[EventRow]) -> None:
        """Replace the events, for another run or filter."""
        self._events = []
        self._lines = []
        self._specs = set()
        if events:
            self.append(events)
        else:
            self.show([])

    def _line(self, event: EventRow) -> GridRow:
        message = GridCell(event.message, _STYLES[event.level])
        spec = event.spec_id if self._with_spec else ""
        return GridRow(str(event.id), (GridCell(clock_time(event.at), "muted"), GridCell(spec, "muted"), message))

    def watch_cursor_row(self, before: int, now: int) -> None:
        """Follow at the newest line; stop when the cursor moves up."""
        super().watch_cursor_row(before, now)
        self.following = now >= len(self._lines) - 1

    def watch_following(self, following: bool) -> None:  # noqa: FBT001 (Textual's signature)
        """Move to the newest line and post the change."""
        if following and self._lines:
            self.move(len(self._lines) - 1)
        self.post_message(self.Followed())


def _columns(spec: int) -> tuple[GridColumn, ...]:
    """Return the columns time, integration (`width` cells; none if 0) and event."""
    width = min(spec, 24)
    return (
        GridColumn("time", 8),
        GridColumn("spec", width, gap=2 if width else 0, drop=1),
        GridColumn("event", 24, flex=1),
    )
