"""Failures: grouped by what went wrong where, and one by one."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Final

from speclab.app import glyphs
from speclab.app.shell import shell
from speclab.app.widgets.cells import broken
from speclab.app.widgets.grid import Cell, Column, Grid, Row
from speclab.app.widgets.record import lines
from speclab.app.words import ago, count, exactly, until
from speclab.outcome import AlertState, FailureState, RunState
from speclab.plural import plural
from speclab.runlog.progress import progress_text

if TYPE_CHECKING:
    from speclab.app.glyphs import Mark
    from speclab.runlog import AlertRow, FailureRow, RunRow
    from speclab.runlog.rows import FailureGroup

MARKS: Final = {
    FailureState.WAITING: (glyphs.WAITING.glyph, "attention"),
    FailureState.DEAD: (glyphs.FAILED.glyph, "failed"),
    FailureState.UNKNOWN: (glyphs.ATTENTION.glyph, "failed"),
    FailureState.RESOLVED: (glyphs.WELL.glyph, "good"),
    FailureState.SUPERSEDED: (glyphs.WELL.glyph, "muted"),
    FailureState.DISCARDED: (glyphs.IDLE.glyph, "muted"),
}

OPEN: Final = frozenset({FailureState.WAITING, FailureState.DEAD, FailureState.UNKNOWN})

_NO_FAILURE: Final = "there is no failure under the cursor"
_FAILED_RUN: Final = "this row is the failed run itself, not a failed record: r runs the integration again"
_ALERT: Final = "this row is an alert, not a failed record: the failed records are listed below it"


class FailuresGrid(Grid):
    """The open failures of one integration, or of all, alike ones in one row."""

    def __init__(self) -> None:
        super().__init__(
            (
                Column("", 1, gap=1),
                Column("state", 8),
                Column("at", 5),
                Column("what", 24, flex=1),
                Column("count", 6, align="right"),
                Column("last", 10, drop=1),
            ),
            empty=("No failures.", "What cannot be written shows up here, with its place and the record."),
        )
        self.groups: dict[str, FailureGroup] = {}
        self._whole: dict[str, str] = {}  # the full text of rows that are no group, by key
        self._why_not: dict[str, str] = {}  # why their records cannot be retried or discarded, by key

    @property
    def group(self) -> FailureGroup | None:
        """The group under the cursor."""
        return self.groups.get(self.row.key) if self.row is not None else None

    @property
    def note(self) -> str:
        """How many there are, in words."""
        total = sum(group.count for group in self.groups.values())
        return f"{plural(total, 'record')}, grouped" if total else ""

    @property
    def whole(self) -> str | None:
        """What the row under the cursor tells, in full, if it is no group."""
        return self._whole.get(self.row.key) if self.row is not None else None

    @property
    def why_no_records(self) -> str | None:
        """Why there are no records under the cursor to retry or to discard; None if there are."""
        if self.group is not None:
            return None
        return self._why_not.get(self.row.key, _NO_FAILURE) if self.row is not None else _NO_FAILURE

    async def read(self, spec_id: str | None, last_run: RunRow | None) -> None:
        """Ask the run log and show what it says; above it, how the last run goes or why it failed, and alerts."""
        found = await shell(self).ask(lambda reader: (reader.groups(spec_id), reader.alerts(spec_id)))
        if found is None:
            return
        groups, alerts = found
        self.groups = {_key(group): group for group in groups}
        self._whole.clear()
        self._why_not.clear()
        self.show([*self._in_progress(last_run), *self._failed(last_run), *self._firing(alerts), *self._told(groups)])

    def _failed(self, run: RunRow | None) -> Iterator[Row]:
        if run is not None and run.error and run.state in (RunState.FAILED, RunState.INTERRUPTED):
            self._why_not[run.run] = _FAILED_RUN
            yield self._other(run.run, glyphs.FAILED, "failed", "run", run.error, run.ended_at or run.started_at)

    def _in_progress(self, run: RunRow | None) -> Iterator[Row]:
        if run is not None and run.state is RunState.RUNNING and (text := progress_text(run)):
            yield self._other(run.run, glyphs.RUNNING, "running", "run", text, run.started_at)

    def _firing(self, alerts: Sequence[AlertRow]) -> Iterator[Row]:
        for alert in alerts:
            if alert.state is AlertState.FIRING:
                told = f"{alert.name}: {alert.detail}"
                key = f"{alert.spec_id} {alert.name}"
                self._why_not[key] = _ALERT
                yield self._other(key, glyphs.ATTENTION, "firing", "alert", told, alert.since)

    def _other(self, key: str, sign: Mark, state: str, what: str, told: str, since: str) -> Row:
        self._whole[key] = told
        when = Cell(ago(since, shell(self).now()), "muted")
        return Row(key, (Cell(sign.glyph, sign.style), Cell(state, sign.style), Cell(what, "muted"), told, "", when))

    def _told(self, groups: Sequence[FailureGroup]) -> list[Row]:
        at = shell(self).now()
        return [
            Row(
                _key(group),
                (
                    Cell(*MARKS[group.state]),
                    Cell(group.state.value, MARKS[group.state][1]),
                    Cell(group.stage.value, "muted"),
                    f"{group.row}: {group.message}" if group.row else group.message,
                    count(group.count),
                    Cell(ago(group.last_at, at), "muted"),
                ),
            )
            for group in groups
        ]


def _key(group: FailureGroup) -> str:
    same = (group.spec_id, group.stage, group.row, group.error_class, group.status, group.state, group.shape)
    return "\n".join(map(str, same))


def facts(failure: FailureRow, at: datetime, width: int, *, ids: bool = False) -> Iterator[Cell]:
    """What happened, where, and what will come of it as seen at that time, in lines of `width` cells.

    With `ids`, also what the failure and its run are called.
    """
    glyph, style = MARKS[failure.state]
    status = f" {failure.status}" if failure.status else ""
    place = f"{failure.file}:{failure.line}" + (f":{failure.column}" if failure.column else "")
    blame = f", row {failure.row}" if failure.row else ""
    coming = ""
    if failure.state is FailureState.WAITING and failure.next_attempt_at:
        coming = f", next {until(failure.next_attempt_at, at)}"
    when = f"first {ago(failure.first_at, at)}, last {ago(failure.last_at, at)}, at {exactly(failure.last_at)}"
    told = (
        (failure.message, "strong"),
        (f"{glyph} {failure.state} at {failure.stage}, {failure.error_class.replace('_', ' ')}{status}", style),
        (f"{place}{blame}", ""),
        (f"{plural(failure.attempts, 'attempt')}{coming}; {when}", "muted"),
        (f"failure {failure.id} of run {failure.run}" if ids else "", "muted"),
    )
    for text, how in told:
        yield from (Cell(line, how) for line in broken(text, width))


def preview(failure: FailureRow, at: datetime, width: int) -> Iterator[Cell]:
    """The facts, and the record as it was read."""
    yield from facts(failure, at, width)
    yield Cell("")
    yield from lines(failure.source, width)
