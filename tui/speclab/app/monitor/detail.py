"""Failed records one by one: each with its place, the record as it was read and as it was sent, and what came back."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Final

import orjson
from textual import on, work
from textual.app import ComposeResult
from textual.binding import BindingType
from textual.containers import Grid as Tiles
from textual.containers import Horizontal, Vertical

from speclab.app.actions import Action, bindings
from speclab.app.glyphs import NOTHING
from speclab.app.monitor.decide import DISCARD, RETRY, Chosen, discard, retry
from speclab.app.monitor.failures import MARKS, OPEN, facts
from speclab.app.monitor.integrations import listing
from speclab.app.shell import BACK, Page, shell
from speclab.app.widgets.grid import Cell, Column, Grid, Row
from speclab.app.widgets.panel import Panel
from speclab.app.widgets.record import Lines
from speclab.app.words import ago
from speclab.outcome import Stage
from speclab.plural import plural

if TYPE_CHECKING:
    from speclab.runlog import FailureRow, RunLogReader
    from speclab.runlog.tail import News

Question = Callable[["RunLogReader"], "Sequence[FailureRow]"]

RECORD: Final = (
    BACK,
    Action("next", "next", "Go to the next failed record.", ("n",)),
    Action("previous", "previous", "Go to the failed record before.", ("p",)),
    Action("row", "mapping row", "Go to the mapping row to blame, with this record as the sample.", ("e",)),
    RETRY,
    DISCARD,
    Action("copy", "copy", "Copy the record as it was read, as JSON, to the clipboard.", ("y",)),
)

NONE_LEFT: Final = ("None is left.", "All of these were settled.")

MOST: Final = 1000
"""Failures listed at once; the newest."""


class FailuresPage(Page[None]):
    """The failures that answer a question to the run log, and all there is to know of the one under the cursor."""

    ACTIONS = RECORD
    BINDINGS: ClassVar[list[BindingType]] = bindings(RECORD)
    SCOPED_CSS = False
    DEFAULT_CSS = """
    FailuresPage {
        #list { width: 34; }
        #what { height: 7; }
        #tiles { grid-size: 2 2; }
    }
    FailuresPage.-medium #list, FailuresPage.-narrow #list { display: none; }
    FailuresPage.-narrow #what, FailuresPage.-narrow #facts { height: auto; }
    FailuresPage.-narrow #record { overflow-y: auto; scrollbar-size-vertical: 1; }
    FailuresPage.-narrow #tiles { grid-size: 1 4; grid-rows: 8; height: auto; }
    """

    def __init__(self, crumbs: Sequence[str], question: Question) -> None:
        super().__init__()
        self._crumbs = tuple(crumbs)
        self._question = question
        self._failures: dict[str, FailureRow] = {}
        self._shown: FailureRow | None = None

    def crumbs(self) -> tuple[str, ...]:
        """The way here."""
        return self._crumbs

    def body(self) -> ComposeResult:
        """The list on the left; on the right what happened, and the record at each stage."""
        columns = (Column("", 1, gap=1), Column("record", 10, flex=1), Column("last", 10))
        with Horizontal():
            yield Panel(Grid(columns, id="keys"), title="failures", id="list")
            with Vertical(id="record"):
                yield Panel(Lines(id="facts"), title="failure", id="what")
                with Tiles(id="tiles"):
                    yield Panel(Lines(id="source"), title="source record")
                    yield Panel(Lines(id="payload"), title="becomes")
                    yield Panel(Lines(id="request"), title="request")
                    yield Panel(Lines(id="response"), title="response")

    def on_mount(self) -> None:
        """Read the list."""
        self.query_one("#keys", Grid).focus()
        self._read()

    def log_changed(self, news: News | None) -> None:  # noqa: ARG002 (whatever is new, the list may be another)
        """Read the list again."""
        self._read()

    @work(exclusive=True, group="list")
    async def _read(self) -> None:
        found = await shell(self).ask(self._question)
        if found is None:
            return
        self._failures = {failure.id: failure for failure in found}
        at = shell(self).now()
        self.query_one("#keys", Grid).show(
            [
                Row(
                    failure.id,
                    (Cell(*MARKS[failure.state]), failure.key or NOTHING, Cell(ago(failure.last_at, at), "muted")),
                )
                for failure in found
            ],
            empty=NONE_LEFT,
        )
        more = len(found) == MOST
        self.query_one("#list", Panel).note = f"the newest {MOST:,}" if more else plural(len(found), "record")
        self._show()

    @on(Grid.Moved, "#keys")
    @work(exclusive=True, group="record")
    async def _show(self) -> None:
        row = self.query_one("#keys", Grid).row
        self._shown = await shell(self).ask(lambda reader: reader.failure(row.key)) if row is not None else None
        if self._shown is not None:
            self._tell(self._shown)
        elif row is None:
            self._tell_none()
        self.refresh_bindings()

    def _tell_none(self) -> None:
        what = self.query_one("#what", Panel)
        what.title, what.note = "failure", ""
        for each in self.query(Lines):
            each.tell_text(None, instead=NONE_LEFT if each.id == "facts" else ())

    def _tell(self, failure: FailureRow) -> None:
        keys = self.query_one("#keys", Grid)
        what = self.query_one("#what", Panel)
        what.title = failure.key or "a record without a key"
        what.note = f"{keys.cursor_row + 1} of {len(keys.rows)}"
        at = shell(self).now()
        self.query_one("#facts", Lines).tell(lambda width: facts(failure, at, width, ids=True))
        self.query_one("#source", Lines).tell_record(failure.source)
        unmapped = ("It was not mapped.",) if failure.stage in (Stage.READ, Stage.MAP) else ("No payload was kept.",)
        self.query_one("#payload", Lines).tell_record(failure.payload, instead=unmapped)
        unsent = ("Nothing was sent.", f"It failed before, at {failure.stage}.")
        self.query_one("#request", Lines).tell_text(failure.request, instead=unsent)
        unanswered = ("There was no answer.",) if failure.request else ("Nothing was sent.",)
        self.query_one("#response", Lines).tell_text(failure.response, instead=unanswered)

    # What can be done

    def why_not(self, action: str) -> str | None:
        """Why an action cannot be done now."""
        keys = self.query_one("#keys", Grid)
        if action == "next" and keys.cursor_row >= len(keys.rows) - 1:
            return "this is the last one"
        if action == "previous" and keys.cursor_row == 0:
            return "this is the first one"
        if action in {"row", "retry", "discard", "copy"} and self._shown is None:
            return "there is no record"
        if action == "row" and self._spec() is None:
            return "the spec is not in this directory"
        if action in {"retry", "discard"}:
            if shell(self).read_only:
                return "the app was started with --read-only"
            if self._shown is not None and self._shown.state not in OPEN:
                return "there is nothing to decide: it is settled"
        return None

    def _chosen(self) -> Chosen | None:
        """The failure that is shown, for a decision."""
        if (shown := self._shown) is None:
            return None
        return Chosen(shown.spec_id, 1, lambda _reader: [shown])

    @work
    async def action_retry(self) -> None:
        """Try this record again."""
        app = shell(self)
        if (chosen := self._chosen()) is not None:
            await retry(app, chosen, listing(app.specs or (), app.overview).get(chosen.spec_id))

    @work
    async def action_discard(self) -> None:
        """Give this record up."""
        if (chosen := self._chosen()) is not None:
            await discard(shell(self), chosen)

    def _spec(self) -> Path | None:
        """The spec of the failure that is shown, where it is among those of this workspace."""
        if self._shown is None:
            return None
        specs = shell(self).specs or ()
        return next((spec.path for spec in specs if spec.spec_id == self._shown.spec_id), None)

    def action_next(self) -> None:
        """Go to the next one."""
        self.query_one("#keys", Grid).action_down()

    def action_previous(self) -> None:
        """Go to the one before."""
        self.query_one("#keys", Grid).action_up()

    async def action_row(self) -> None:
        """Go to the mapping, with this record as the sample."""
        from speclab.app.mapping.place import MappingPlace

        app, spec, failure = shell(self), self._spec(), self._shown
        if spec is not None:
            app.spec = spec
            place = await app.show_place("mapping")
            assert isinstance(place, MappingPlace)  # noqa: S101 (that is its name)
            place.open(spec, failure)

    def action_copy(self) -> None:
        """Copy the record as it was read."""
        if self._shown is not None and self._shown.source is not None:
            self.app.copy_to_clipboard(orjson.dumps(self._shown.source, option=orjson.OPT_INDENT_2).decode())
            self.notify("The record as it was read is in the clipboard.", timeout=3)
