"""Failures: groups of an integration, single records, and the actions on them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Final

import orjson
from textual import on, work
from textual.app import ComposeResult
from textual.binding import BindingType
from textual.containers import Grid as Tiles
from textual.containers import Horizontal, Vertical

from speclab.app import formatting
from speclab.app.actions import Action, bindings
from speclab.app.formatting import NOTHING, ago, clock_time, count, exactly, until
from speclab.app.view import BACK, DetailScreen
from speclab.app.views.monitor.actions import DISCARD, RETRY, ChosenFailures, FailureActions, FiringAlert
from speclab.app.widgets.cells import broken
from speclab.app.widgets.grid import Grid, GridCell, GridColumn, GridRow
from speclab.app.widgets.panel import Panel
from speclab.app.widgets.record import RecordView, lines
from speclab.core.outcome import AlertState, FailureState, RunState, Stage
from speclab.core.text import format_count
from speclab.runlog.outbox import get_silences
from speclab.runlog.rows import format_progress

if TYPE_CHECKING:
    from speclab.app.formatting import Icon
    from speclab.app.view import AppContext
    from speclab.runlog import FailureRow, RunLogReader, RunRow
    from speclab.runlog.reader import LogUpdate
    from speclab.runlog.rows import FailureGroup


MARKS: Final = {
    FailureState.WAITING: (formatting.WAITING.glyph, "attention"),
    FailureState.DEAD: (formatting.FAILED.glyph, "failed"),
    FailureState.UNKNOWN: (formatting.ATTENTION.glyph, "failed"),
    FailureState.RESOLVED: (formatting.WELL.glyph, "good"),
    FailureState.SUPERSEDED: (formatting.WELL.glyph, "muted"),
    FailureState.DISCARDED: (formatting.IDLE.glyph, "muted"),
}

OPEN: Final = frozenset({FailureState.WAITING, FailureState.DEAD, FailureState.UNKNOWN})

_NO_FAILURE: Final = "no failure is selected"
_FAILED_RUN: Final = "this row is a failed run, not a failed record: press r to run the integration again"
_ALERT: Final = "this row is an alert, not a failed record: failed records are listed below it"


class FailuresGrid(Grid):
    """The open failures of one integration, or of all; similar failures share a row."""

    def __init__(self, context: AppContext) -> None:
        self.context = context
        super().__init__(
            (
                GridColumn("", 1, gap=1),
                GridColumn("state", 8),
                GridColumn("at", 5),
                GridColumn("what", 24, flex=1),
                GridColumn("count", 6, align="right"),
                GridColumn("last", 10, drop=1),
            ),
            empty=("No failures.", "Records that cannot be written appear here, with their location."),
        )
        self.groups: dict[str, FailureGroup] = {}
        self._full_texts: dict[str, str] = {}  # the full text of rows that are not groups, by key
        self._disabled_reasons: dict[str, str] = {}  # why a row has no records to retry or discard, by key
        self._alerts: dict[str, FiringAlert] = {}

    @property
    def alert(self) -> FiringAlert | None:
        """The firing alert under the cursor."""
        return self._alerts.get(self.row.key) if self.row is not None else None

    @property
    def group(self) -> FailureGroup | None:
        """The group under the cursor."""
        return self.groups.get(self.row.key) if self.row is not None else None

    @property
    def note(self) -> str:
        """The number of failed records, in words."""
        total = sum(group.count for group in self.groups.values())
        return f"{format_count(total, 'record')}, grouped" if total else ""

    @property
    def full_text(self) -> str | None:
        """The full text of the row under the cursor, if it is not a group."""
        return self._full_texts.get(self.row.key) if self.row is not None else None

    @property
    def disabled_reason(self) -> str | None:
        """Why the row under the cursor has no records to retry or discard; None if it has some."""
        if self.group is not None:
            return None
        return self._disabled_reasons.get(self.row.key, _NO_FAILURE) if self.row is not None else _NO_FAILURE

    async def read(self, spec_id: str | None, last_run: RunRow | None) -> None:
        """Read the failures and show them; above them, the progress or error of the last run, and alerts."""
        now = self.context.now()
        found = await self.context.ask(
            lambda reader: (reader.groups(spec_id), reader.alerts(spec_id), get_silences(reader, now, spec_id))
        )
        if found is None:
            return
        groups, alerts, silences = found
        silenced = {(silence.spec_id, silence.alert): silence.until for silence in reversed(silences)}
        self.groups = {_key(group): group for group in groups}
        self._full_texts.clear()
        self._disabled_reasons.clear()
        self._alerts = {}
        for alert in alerts:
            if alert.state is AlertState.FIRING:
                ends = [silenced.get((alert.spec_id, name)) for name in (None, alert.name)]
                firing = FiringAlert(alert, max(filter(None, ends), default=None))
                self._alerts[f"{alert.spec_id} {alert.name}"] = firing
        self.show(
            [*self._in_progress(last_run), *self._failed(last_run), *self._firing_rows(), *self._group_rows(groups)]
        )

    def _failed(self, run: RunRow | None) -> Iterator[GridRow]:
        if run is not None and run.error and run.state in (RunState.FAILED, RunState.INTERRUPTED):
            self._disabled_reasons[run.run] = _FAILED_RUN
            yield self._other(run.run, formatting.FAILED, "failed", "run", run.error, run.ended_at or run.started_at)

    def _in_progress(self, run: RunRow | None) -> Iterator[GridRow]:
        if run is not None and run.state is RunState.RUNNING and (text := format_progress(run)):
            yield self._other(run.run, formatting.RUNNING, "running", "run", text, run.started_at)

    def _firing_rows(self) -> Iterator[GridRow]:
        for key, firing in self._alerts.items():
            alert, end = firing.row, firing.silenced_until
            text = f"{alert.name}: {alert.detail}" + (f" (silenced until {clock_time(end)[:5]})" if end else "")
            self._disabled_reasons[key] = _ALERT
            yield self._other(key, formatting.ATTENTION, "firing", "alert", text, alert.since)

    def _other(self, key: str, icon: Icon, state: str, what: str, text: str, since: str) -> GridRow:
        self._full_texts[key] = text
        when = GridCell(ago(since, self.context.now()), "muted")
        return GridRow(
            key,
            (GridCell(icon.glyph, icon.style), GridCell(state, icon.style), GridCell(what, "muted"), text, "", when),
        )

    def _group_rows(self, groups: Sequence[FailureGroup]) -> list[GridRow]:
        at = self.context.now()
        return [
            GridRow(
                _key(group),
                (
                    GridCell(*MARKS[group.state]),
                    GridCell(group.state.value, MARKS[group.state][1]),
                    GridCell(group.stage.value, "muted"),
                    f"{group.row}: {group.message}" if group.row else group.message,
                    count(group.count),
                    GridCell(ago(group.last_at, at), "muted"),
                ),
            )
            for group in groups
        ]


def _key(group: FailureGroup) -> str:
    same = (group.spec_id, group.stage, group.row, group.error_class, group.status, group.state, group.shape)
    return "\n".join(map(str, same))


def facts(failure: FailureRow, at: datetime, width: int, *, ids: bool = False) -> Iterator[GridCell]:
    """Yield error, location and next attempt as of `at`, in lines of `width` cells.

    With `ids`, also the ids of the failure and its run.
    """
    glyph, style = MARKS[failure.state]
    status = f" {failure.status}" if failure.status else ""
    location = f"{failure.file}:{failure.line}" + (f":{failure.column}" if failure.column else "")
    blame = f", row {failure.row}" if failure.row else ""
    coming = ""
    if failure.state is FailureState.WAITING and failure.next_attempt_at:
        coming = f", next {until(failure.next_attempt_at, at)}"
    when = f"first {ago(failure.first_at, at)}, last {ago(failure.last_at, at)}, at {exactly(failure.last_at)}"
    parts = (
        (failure.message, "strong"),
        (f"{glyph} {failure.state} at {failure.stage}, {failure.error_class.replace('_', ' ')}{status}", style),
        (f"{location}{blame}", ""),
        (f"{format_count(failure.attempts, 'attempt')}{coming}; {when}", "muted"),
        (f"failure {failure.id} of run {failure.run}" if ids else "", "muted"),
    )
    for text, how in parts:
        yield from (GridCell(line, how) for line in broken(text, width))


def preview(failure: FailureRow, at: datetime, width: int) -> Iterator[GridCell]:
    """Yield the facts and the source record."""
    yield from facts(failure, at, width)
    yield GridCell("")
    yield from lines(failure.source, width)


Question = Callable[["RunLogReader"], "Sequence[FailureRow]"]

RECORD: Final = (
    BACK,
    Action("next", "next", "Next failed record.", ("n",)),
    Action("previous", "previous", "Previous failed record.", ("p",)),
    Action("row", "mapping row", "Open the mapping row that failed, with this record as the sample.", ("e",)),
    RETRY,
    DISCARD,
    Action("copy", "copy", "Copy the source record as JSON.", ("y",)),
)

NONE_LEFT: Final = ("No failures left.", "All of them were resolved or discarded.")

MOST: Final = 1000
"""Failures listed at once: the newest."""


class FailuresPage(DetailScreen[None]):
    """The failures that a query of the run log returns, and the details of the one under the cursor."""

    ACTIONS = RECORD
    BINDINGS: ClassVar[list[BindingType]] = bindings(RECORD)
    CONTROLLERS = (FailureActions,)
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

    def __init__(self, context: AppContext, crumbs: Sequence[str], question: Question) -> None:
        super().__init__(context)
        self.controllers = (FailureActions(self),)
        self._crumbs = tuple(crumbs)
        self._question = question
        self._failures: dict[str, FailureRow] = {}
        self._shown: FailureRow | None = None

    def crumbs(self) -> tuple[str, ...]:
        """Return the path to this screen."""
        return self._crumbs

    def body(self) -> ComposeResult:
        """Yield the list on the left, and on the right the facts and the record at each stage."""
        columns = (GridColumn("", 1, gap=1), GridColumn("record", 10, flex=1), GridColumn("last", 10))
        with Horizontal():
            yield Panel(Grid(columns, id="keys"), title="failures", id="list")
            with Vertical(id="record"):
                yield Panel(RecordView(id="facts"), title="failure", id="what")
                with Tiles(id="tiles"):
                    yield Panel(RecordView(id="source"), title="source record")
                    yield Panel(RecordView(id="payload"), title="target record")
                    yield Panel(RecordView(id="request"), title="request")
                    yield Panel(RecordView(id="response"), title="response")

    def on_mount(self) -> None:
        """Read the list."""
        self.query_one("#keys", Grid).focus()
        self._read()

    def log_changed(self, update: LogUpdate | None) -> None:  # noqa: ARG002 (any change may change the list)
        """Read the list again."""
        self._read()

    @work(exclusive=True, group="list")
    async def _read(self) -> None:
        found = await self.context.ask(self._question)
        if found is None:
            return
        self._failures = {failure.id: failure for failure in found}
        at = self.context.now()
        self.query_one("#keys", Grid).show(
            [
                GridRow(
                    failure.id,
                    (
                        GridCell(*MARKS[failure.state]),
                        failure.key or NOTHING,
                        GridCell(ago(failure.last_at, at), "muted"),
                    ),
                )
                for failure in found
            ],
            empty=NONE_LEFT,
        )
        more = len(found) == MOST
        self.query_one("#list", Panel).note = f"the newest {MOST:,}" if more else format_count(len(found), "record")
        self._show()

    @on(Grid.Moved, "#keys")
    @work(exclusive=True, group="record")
    async def _show(self) -> None:
        row = self.query_one("#keys", Grid).row
        self._shown = await self.context.ask(lambda reader: reader.failure(row.key)) if row is not None else None
        if self._shown is not None:
            self._show_failure(self._shown)
        elif row is None:
            self._show_none()
        self.refresh_bindings()

    def _show_none(self) -> None:
        what = self.query_one("#what", Panel)
        what.title, what.note = "failure", ""
        for each in self.query(RecordView):
            each.show_text(None, instead=NONE_LEFT if each.id == "facts" else ())

    def _show_failure(self, failure: FailureRow) -> None:
        keys = self.query_one("#keys", Grid)
        what = self.query_one("#what", Panel)
        what.title = failure.key or "a record without a key"
        what.note = f"{keys.cursor_row + 1} of {len(keys.rows)}"
        at = self.context.now()
        self.query_one("#facts", RecordView).show_lines(lambda width: facts(failure, at, width, ids=True))
        self.query_one("#source", RecordView).show_value(failure.source)
        unmapped = ("Not mapped.",) if failure.stage in (Stage.READ, Stage.MAP) else ("No payload was kept.",)
        self.query_one("#payload", RecordView).show_value(failure.payload, instead=unmapped)
        unsent = ("Nothing was sent.", f"It failed earlier, at {failure.stage}.")
        self.query_one("#request", RecordView).show_text(failure.request, instead=unsent)
        unanswered = ("No response.",) if failure.request else ("Nothing was sent.",)
        self.query_one("#response", RecordView).show_text(failure.response, instead=unanswered)

    # Actions

    def explain_disabled(self, action: str) -> str | None:
        """Return why an action is disabled."""
        keys = self.query_one("#keys", Grid)
        if action == "next" and keys.cursor_row >= len(keys.rows) - 1:
            return "this is the last record"
        if action == "previous" and keys.cursor_row == 0:
            return "this is the first record"
        if action in {"row", "retry", "discard", "copy"} and self._shown is None:
            return "no record is selected"
        if action == "row" and self._spec() is None:
            return "the spec is not in this directory"
        return super().explain_disabled(action)

    @property
    def chosen_failures(self) -> ChosenFailures | None:
        """The failure that is shown."""
        shown = self._shown
        return ChosenFailures(shown.spec_id, 1, lambda _reader: [shown]) if shown is not None else None

    @property
    def no_failures_reason(self) -> str | None:
        """Why the failure cannot be retried or discarded; None if it can."""
        closed = self._shown is not None and self._shown.state not in OPEN
        return "the failure is already closed" if closed else None

    def _spec(self) -> Path | None:
        """Return the spec of the failure that is shown, if it is in this workspace."""
        if self._shown is None:
            return None
        specs = self.context.specs or ()
        return next((spec.path for spec in specs if spec.spec_id == self._shown.spec_id), None)

    def action_next(self) -> None:
        """Go to the next record."""
        self.query_one("#keys", Grid).action_down()

    def action_previous(self) -> None:
        """Go to the previous record."""
        self.query_one("#keys", Grid).action_up()

    async def action_row(self) -> None:
        """Open the mapping row, with this record as the sample."""
        spec, failure = self._spec(), self._shown
        if spec is not None and failure is not None:
            await self.context.show_failure(spec, failure)

    def action_copy(self) -> None:
        """Copy the source record."""
        if self._shown is not None and self._shown.source is not None:
            self.app.copy_to_clipboard(orjson.dumps(self._shown.source, option=orjson.OPT_INDENT_2).decode())
            self.notify("Source record copied.", timeout=3)
