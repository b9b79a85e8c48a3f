"""The integrations as rows of the Monitor's grid: those that ran, and those that have a spec but never did."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Final, overload

from rich.cells import cell_len

from speclab.app import glyphs
from speclab.app.glyphs import NOTHING, Mark, bar
from speclab.app.monitor.figures import sparkline
from speclab.app.widgets.grid import Cell, Column, Row
from speclab.app.words import ago, clock_time, count, percent, span, until
from speclab.monitor.health import Condition
from speclab.outcome import RunState

if TYPE_CHECKING:
    from speclab.monitor.health import Health, Overview
    from speclab.spec.workspace import SpecFile
    from speclab.sync.heartbeat import Served

_MARKS: Final = {
    Condition.RUNNING: glyphs.RUNNING,
    Condition.FAILED: glyphs.FAILED,
    Condition.ATTENTION: glyphs.ATTENTION,
    Condition.PAUSED: glyphs.PAUSED,
    Condition.PARKED: glyphs.PARKED,
    Condition.WELL: glyphs.WELL,
    Condition.IDLE: glyphs.IDLE,
}
_SPARK: Final = {False: 12, True: 24}
"""Cells of a sparkline, by whether the screen is wide: then it has one for every hour of a day."""
_WANTING: Final = (Condition.FAILED, Condition.ATTENTION)
_STATES: Final = {
    RunState.SUCCEEDED: ("", "good"),
    RunState.PARTIAL: ("partial ", "attention"),
    RunState.FAILED: ("failed ", "failed"),
    RunState.CANCELLED: ("cancelled ", "muted"),
    RunState.INTERRUPTED: ("interrupted ", "failed"),
}


@dataclass(frozen=True, slots=True)
class Listed:
    """One integration in the list: what is known of its runs, of its spec file, or of both."""

    spec_id: str
    path: Path | None
    status: str
    health: Health | None

    @property
    def condition(self) -> Condition:
        """The integration in one word."""
        return self.health.condition if self.health is not None else Condition.IDLE

    @property
    def running(self) -> bool:
        """Whether a run of it is going on."""
        return self.condition is Condition.RUNNING

    @property
    def paused(self) -> bool:
        """Whether `speclab up` is to leave it alone."""
        return self.health is not None and self.health.integration.paused_at is not None


def listing(specs: Sequence[SpecFile], overview: Overview | None) -> dict[str, Listed]:
    """All integrations by id: those with a spec in the workspace, and those the run log knows."""
    files = {spec.spec_id: spec for spec in specs if spec.type in {"integration", ""}}
    healths = {health.integration.spec_id: health for health in overview.integrations} if overview else {}
    return {
        name: Listed(
            name,
            files[name].path if name in files else None,
            files[name].status if name in files else healths[name].integration.status,
            healths.get(name),
        )
        for name in files.keys() | healths.keys()
    }


def mark(condition: Condition) -> Mark:
    """The sign of a condition."""
    return _MARKS[condition]


def columns(listed: Iterable[Listed], *, wide: bool) -> tuple[Column, ...]:
    """The grid's columns: that of the names as wide as the longest, that of the sparklines wide where there is room."""
    longest = max((cell_len(one.spec_id) for one in listed), default=16)
    return (
        Column("", 1, gap=1),
        Column("spec", min(19, longest), flex=9, most=min(40, longest)),
        Column("success", 7, align="right", drop=2),
        Column("", _SPARK[wide], drop=4),
        Column("rec/s", 6, align="right", drop=5),
        Column("last run", 17, flex=1, most=30),
        Column("next", 14 if wide else 9, flex=1, most=30, drop=1),
        Column("schedule", 12, flex=9, drop=7),
        Column("p95", 6, align="right", drop=6),
        Column("errors", 7, align="right", drop=3),
        Column("wait", 5, align="right"),
        Column("dead", 5, align="right"),
    )


class Rows(Sequence[Row]):
    """A row each, made when it is asked for: first those that want someone, then the others, by name.

    `served` is what a service that is alive tells of a spec; where it is `wide`, more is told.
    """

    def __init__(
        self, listed: Iterable[Listed], served: Callable[[str], Served | None], now: datetime, *, wide: bool
    ) -> None:
        self._served = served
        self._listed = sorted(listed, key=lambda one: (one.condition not in _WANTING, one.spec_id))
        self._now = now
        self._wide = wide

    def __len__(self) -> int:
        return len(self._listed)

    @overload
    def __getitem__(self, index: int) -> Row: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Row]: ...
    def __getitem__(self, index: int | slice) -> Row | Sequence[Row]:
        if isinstance(index, slice):
            return [self._row(one) for one in self._listed[index]]
        return self._row(self._listed[index])

    def _row(self, one: Listed) -> Row:
        served = self._served(one.spec_id)
        coming = _next_run(one, served, self._now, wide=self._wide)
        return _row(one, coming, served.schedule if served is not None else "", self._now, _SPARK[self._wide])


def _next_run(one: Listed, served: Served | None, now: datetime, *, wide: bool) -> Cell:
    """When an integration runs next, by what the service tells of it; a dash where none does."""
    if one.health is not None and one.paused:
        by = f" by {one.health.integration.paused_by}" if wide else ""
        return Cell(f"{glyphs.PAUSED.word}{by}", glyphs.PAUSED.style)
    if served is None:
        return Cell(NOTHING, "muted")
    if served.problem:
        return Cell("cannot", "failed")
    return Cell(until(served.next, now)) if served.next else Cell("on demand", "muted")


def _row(one: Listed, coming: Cell, schedule: str, now: datetime, spark: int) -> Row:
    sign = mark(one.condition)
    first = Cell(sign.glyph, sign.style)
    if one.health is None or one.health.last_run is None:
        draft = one.status if one.status not in {"", "in-progress"} else ""
        told = Cell(f"never run, {draft}" if draft else "never run", "muted")
        return Row(one.spec_id, (first, one.spec_id, "", "", "", told, coming, Cell(schedule, "muted"), "", "", "", ""))
    health = one.health
    rate = health.figures.success_rate
    return Row(
        one.spec_id,
        (
            first,
            Cell(one.spec_id, "strong" if one.condition in _WANTING else ""),
            Cell(percent(rate), "" if rate is None or rate >= 0.99 else "attention" if rate >= 0.95 else "failed"),
            Cell(sparkline(health.buckets, spark), "spark"),
            Cell(count(round(health.rate)), "live") if health.rate >= 0.5 else Cell("0", "muted"),
            _last_run(health, now),
            coming,
            Cell(schedule or health.integration.schedule, "muted"),
            span(health.duration_p95) if health.duration_p95 is not None else Cell(NOTHING, "muted"),
            _counted(health.figures.errors, ""),
            _counted(health.integration.waiting, "attention"),
            _counted(health.integration.dead + health.integration.unknown, "failed"),
        ),
    )


def _last_run(health: Health, now: datetime) -> Cell:
    run = health.last_run
    assert run is not None  # noqa: S101 (the caller asked)
    if health.condition is Condition.PARKED:
        mark = glyphs.PARKED
        return Cell(f"{mark.word}, {until(max(health.parked.values()), now)}", mark.style)
    if run.state is not RunState.RUNNING:
        word, style = _STATES[run.state]
        return Cell(f"{word}{ago(run.ended_at or run.started_at, now)}", style if word else "muted")
    progress = run.progress or {}
    if run.cancel:
        return Cell(f"stopping, {count(run.read)} read", "attention")
    if until_ := progress.get("until"):
        return Cell(f"waits to {clock_time(str(until_))}", "attention")
    if run.total:
        share = min(1.0, (run.read + int(str(progress.get("sent", 0)))) / run.total)
        return Cell(f"{bar(share, 10)} {int(share * 100):3d} %", "live")
    if records := progress.get("records"):
        return Cell(f"running, {count(run.read)} + {progress['sent']:,}/{records:,}", "live")
    return Cell(f"running, {count(run.read)} read", "live")


def _counted(number: int, style: str) -> Cell:
    return Cell(count(number), style) if number else Cell("0", "muted")
