"""The event log: lines as they are committed, the newest last, followed until one looks elsewhere."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Final

from textual.message import Message
from textual.reactive import reactive

from speclab.app.widgets.grid import Cell, Column, Grid, Row
from speclab.app.words import clock_time
from speclab.outcome import Level

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
        columns = [Column("time", 8), Column("spec", 12, flex=1, most=24, drop=1), Column("event", 24, flex=9)]
        super().__init__(
            columns if with_spec else [columns[0], columns[2]],
            heading=False,
            empty=("No events yet.", "Every run tells here what it does."),
            id=id,
        )
        self._with_spec = with_spec
        self._lines: list[Row] = []

    @property
    def spec_id(self) -> str | None:
        """The integration whose event is under the cursor."""
        return self.row.key.partition(" ")[2] if self.row is not None else None

    def append(self, events: Sequence[EventRow]) -> None:
        """Add events, oldest first."""
        if not events:
            return
        self._lines = [*self._lines, *map(self._line, events)][-KEPT:]
        self.show(self._lines)
        if self.following:
            self.move(len(self._lines) - 1)

    def replace(self, events: Iterable[EventRow]) -> None:
        """Show these events instead: another run, or another filter."""
        self._lines = []
        found = list(events)
        if found:
            self.append(found)
        else:
            self.show([])

    def _line(self, event: EventRow) -> Row:
        style = _STYLES[event.level]
        cells = (Cell(clock_time(event.at), "muted"), Cell(event.spec_id, "muted"), Cell(event.message, style))
        return Row(f"{event.id} {event.spec_id}", cells if self._with_spec else (cells[0], cells[2]))

    def watch_cursor_row(self, before: int, now: int) -> None:
        """Following goes on at the newest line, and stops where someone looks further up."""
        super().watch_cursor_row(before, now)
        self.following = now >= len(self._lines) - 1

    def watch_following(self, following: bool) -> None:  # noqa: FBT001 (Textual's signature)
        """Catch up, and tell."""
        if following and self._lines:
            self.move(len(self._lines) - 1)
        self.post_message(self.Followed())
