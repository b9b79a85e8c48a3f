"""The event log: lines as they are committed, the newest last, followed until one looks elsewhere."""

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
"""Lines kept; older ones are in the run log."""

_STYLES: Final = {Level.ERROR: "failed", Level.WARNING: "attention", Level.INFO: ""}


class EventLog(Grid):
    """The tail of the run log.

    While it is `following`, the newest line is in sight; going up stops that, `end` resumes it.
    """

    DEFAULT_CSS = """
    EventLog > .grid--cursor { background: $background; }
    EventLog:focus > .grid--cursor { background: $cursor; }
    """

    following: reactive[bool] = reactive(True, repaint=False)

    class Followed(Message):
        """It began to follow, or stopped."""

    def __init__(self, *, with_spec: bool = True, id: str | None = None) -> None:  # noqa: A002 (Textual's name)
        super().__init__(
            _columns(0),
            heading=False,
            empty=("No events yet.", "Every run tells here what it does."),
            id=id,
        )
        self._with_spec = with_spec
        self._events: list[EventRow] = []
        self._lines: list[GridRow] = []
        self._specs: set[str] = set()

    @property
    def event(self) -> EventRow | None:
        """The event under the cursor."""
        return self._events[self.cursor_row] if self.cursor_row < len(self._events) else None

    def append(self, events: Sequence[EventRow]) -> None:
        """Add events, oldest first; those that are shown already came while these were read."""
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
        self.show(self._lines)  # where older lines are left out, the cursor goes up with its line
        if following:
            self.move(len(self._lines) - 1)

    def replace(self, events: Sequence[EventRow]) -> None:
        """Show these events instead: another run, or another filter."""
        self._events = []
        self._lines = []
        self._specs = set()
        if events:
            self.append(events)
        else:
            self.show([])

    def _line(self, event: EventRow) -> GridRow:
        told = GridCell(event.message, _STYLES[event.level])
        spec = event.spec_id if self._with_spec else ""
        return GridRow(str(event.id), (GridCell(clock_time(event.at), "muted"), GridCell(spec, "muted"), told))

    def watch_cursor_row(self, before: int, now: int) -> None:
        """Following goes on at the newest line, and stops where someone looks further up."""
        super().watch_cursor_row(before, now)
        self.following = now >= len(self._lines) - 1

    def watch_following(self, following: bool) -> None:  # noqa: FBT001 (Textual's signature)
        """Catch up, and tell."""
        if following and self._lines:
            self.move(len(self._lines) - 1)
        self.post_message(self.Followed())


def _columns(spec: int) -> tuple[GridColumn, ...]:
    """Time, integration (as wide as its longest name, up to a point; none if 0), and what happened."""
    width = min(spec, 24)
    return (
        GridColumn("time", 8),
        GridColumn("spec", width, gap=2 if width else 0, drop=1),
        GridColumn("event", 24, flex=1),
    )
