"""The list of integrations, and the figures above it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Final, overload

from rich.cells import cell_len
from rich.segment import Segment
from textual.reactive import reactive
from textual.strip import Strip
from textual.widget import Widget

from speclab.app import formatting
from speclab.app.formatting import (
    ELLIPSIS,
    NOTHING,
    SPARKS,
    Icon,
    ago,
    bar,
    clock_time,
    count,
    moment,
    percent,
    span,
    until,
)
from speclab.app.widgets.cells import fit
from speclab.app.widgets.grid import GridCell, GridColumn, GridRow
from speclab.core.outcome import RunState
from speclab.monitor.health import Condition

if TYPE_CHECKING:
    from datetime import datetime

    from speclab.monitor.health import Bucket, Health, Overview
    from speclab.service.heartbeat import ServedSpec
    from speclab.spec.workspace import SpecFile


_LOWEST: Final = 0.8
"""The success rate at the bottom of a sparkline."""


@dataclass(frozen=True, slots=True)
class Figure:
    """A label and its value, each with its style."""

    words: tuple[tuple[str, str], ...]

    @property
    def width(self) -> int:
        """In cells."""
        return sum(cell_len(text) for text, _ in self.words)


def sparkline(buckets: Sequence[Bucket], width: int) -> str:
    """Return success rates over time as at most `width` small bars; a blank where nothing was read."""
    each = max(1, -(-len(buckets) // max(1, width)))
    groups = [buckets[at : at + each] for at in range(0, len(buckets), each)]
    sums = [(sum(bucket.successful for bucket in group), sum(bucket.read for bucket in group)) for group in groups]
    return "".join(_bar(well / read) if read else " " for well, read in sums)


def _bar(rate: float) -> str:
    highest = len(SPARKS) - 1
    return SPARKS[min(highest, max(0, int((rate - _LOWEST) / (1 - _LOWEST) * highest)))]


class FiguresLine(Widget):
    """Success rate, records, errors, waiting and dead records; on a second line, if there is one, errors by class."""

    COMPONENT_CLASSES: ClassVar[set[str]] = {
        f"figures--{name}" for name in ("strong", "muted", "spark", "attention", "failed")
    }
    DEFAULT_CSS = """
    FiguresLine {
        height: 1;
        background: $background;
        & > .figures--strong { text-style: bold; }
        & > .figures--muted { color: $muted; }
        & > .figures--spark { color: $spark; }
        & > .figures--attention { color: $warning; text-style: bold; }
        & > .figures--failed { color: $error; text-style: bold; }
        &:ansi > .figures--muted { text-style: dim; }
    }
    """

    def __init__(self, now: Callable[[], datetime]) -> None:
        super().__init__()
        self._now = now

    shown: reactive[Overview | None] = reactive(None, always_update=True)

    def render_line(self, y: int) -> Strip:
        """Render as many figures as fit; on the second line, errors by class."""
        if self.shown is None:
            return self._strip([Figure((("Reading the run log.", "muted"),))] if y == 0 else [])
        if not self.shown.figures.read and not self.shown.figures.errors:
            nothing = Figure((("No records in this window.", "muted"),))
            return self._strip([nothing, *self._open(self.shown, self._now())]) if y == 0 else self._strip([])
        return self._strip(self._first(self.shown) if y == 0 else self._second(self.shown))

    def _first(self, shown: Overview) -> list[Figure]:
        figures = shown.figures
        rate = figures.success_rate
        style = "strong" if rate is None or rate >= 0.99 else "attention" if rate >= 0.95 else "failed"
        spark = sparkline(shown.buckets, 24 if self.size.width >= 100 else 12)
        success = (("success ", "muted"), (percent(rate, 2), style))
        rest = [
            Figure((("records ", "muted"), (count(figures.read), "strong"))),
            Figure((("errors ", "muted"), (count(figures.errors), "strong"))),
            *self._open(shown, self._now()),
        ]
        drawn = [Figure((*success, ("  ", ""), (spark, "spark"))), *rest]
        return drawn if self._fits(drawn) else [Figure(success), *rest]

    @staticmethod
    def _open(shown: Overview, at: datetime) -> list[Figure]:
        """Return the open failures of any age."""
        parts = []
        if shown.waiting:
            oldest = ""
            if shown.oldest_waiting is not None:
                oldest = f"  oldest {span((at - moment(shown.oldest_waiting)).total_seconds())}"
            parts.append(Figure((("waiting ", "muted"), (count(shown.waiting), "attention"), (oldest, "muted"))))
        if shown.dead:
            parts.append(Figure((("dead ", "muted"), (count(shown.dead), "failed"))))
        if shown.unknown:
            parts.append(Figure((("unknown ", "muted"), (count(shown.unknown), "failed"))))
        return parts

    @staticmethod
    def _second(shown: Overview) -> list[Figure]:
        figures = shown.figures
        by_class = sorted(figures.errors_by_class.items(), key=lambda item: -item[1])
        named = [(name.value.replace("_", " "), number) for name, number in by_class]
        if named and figures.unclassified:
            named.append(("no class", figures.unclassified))
        parts = [Figure(((f"{name} ", "muted"), (count(number), ""))) for name, number in named]
        return [Figure((("errors by class", "muted"),)), *parts] if parts else []

    @property
    def _apart(self) -> int:
        """Blank cells between two parts."""
        return 4 if self.size.width >= 100 else 3

    def _fits(self, parts: Sequence[Figure]) -> bool:
        return 1 + sum(part.width for part in parts) + self._apart * (len(parts) - 1) < self.size.width

    def _strip(self, parts: Sequence[Figure]) -> Strip:
        """Render as many parts as fit, then an ellipsis if any is left out."""
        width = self.size.width
        base = self.rich_style
        shown = list(parts)
        while len(shown) > 1 and not self._fits(shown if len(shown) == len(parts) else [*shown, _MORE]):
            shown.pop()
        if len(shown) < len(parts):
            shown.append(_MORE)
        segments = [Segment(" ", base)]
        for part in shown:
            for text, style in part.words:
                extra = self.get_component_rich_style(f"figures--{style}", partial=True) if style else None
                segments.append(Segment(fit(text, width - 2), base + extra if extra else base))
            segments.append(Segment(" " * self._apart, base))
        return Strip(segments).adjust_cell_length(width, base)


_MORE: Final = Figure(((ELLIPSIS, "muted"),))
"""Shown in place of parts that do not fit."""


_MARKS: Final = {
    Condition.OK: formatting.WELL,
    Condition.ATTENTION: formatting.ATTENTION,
    Condition.FAILING: formatting.FAILED,
    Condition.PAUSED: formatting.PAUSED,
    Condition.PARKED: formatting.PARKED,
}
_SPARK: Final = {False: 12, True: 24}
"""Cells of a sparkline, by whether the screen is wide: then it has one per hour of a day."""
_STATES: Final = {
    RunState.SUCCEEDED: ("", "good"),
    RunState.PARTIAL: ("partial ", "attention"),
    RunState.FAILED: ("failed ", "failed"),
    RunState.CANCELLED: ("cancelled ", "muted"),
    RunState.INTERRUPTED: ("interrupted ", "failed"),
}


@dataclass(frozen=True, slots=True)
class ListedIntegration:
    """One integration in the list, from its runs, its spec file, or both."""

    spec_id: str
    path: Path | None
    status: str
    health: Health | None

    @property
    def is_problem(self) -> bool:
        """Whether it is failing or needs attention."""
        return self.health is not None and self.health.condition.is_problem

    @property
    def running(self) -> bool:
        """Whether it is running."""
        return self.health is not None and self.health.running

    @property
    def paused(self) -> bool:
        """Whether it is paused: the scheduler skips it."""
        return self.health is not None and self.health.integration.paused_at is not None


def list_integrations(specs: Sequence[SpecFile], overview: Overview | None) -> dict[str, ListedIntegration]:
    """Return all integrations by id, from the specs of the workspace and from the run log."""
    files = {spec.spec_id: spec for spec in specs if spec.type in {"integration", ""}}
    healths = {health.integration.spec_id: health for health in overview.integrations} if overview else {}
    return {
        name: ListedIntegration(
            name,
            files[name].path if name in files else None,
            files[name].status if name in files else healths[name].integration.status,
            healths.get(name),
        )
        for name in files.keys() | healths.keys()
    }


def mark(health: Health | None) -> Icon:
    """Return the icon of an integration: running, never run, or its condition."""
    if health is not None and health.running:
        return formatting.RUNNING
    if health is None or (health.last_run is None and health.condition is Condition.OK):
        return formatting.IDLE
    return _MARKS[health.condition]


def columns(listed: Iterable[ListedIntegration], *, wide: bool) -> tuple[GridColumn, ...]:
    """Return the columns: names as wide as the longest, sparklines wider on a wide screen."""
    longest = max((cell_len(one.spec_id) for one in listed), default=16)
    return (
        GridColumn("", 1, gap=1),
        GridColumn("spec", min(19, longest), flex=9, most=min(40, longest)),
        GridColumn("success", 7, align="right", drop=2),
        GridColumn("", _SPARK[wide], drop=4),
        GridColumn("rec/s", 6, align="right", drop=5),
        GridColumn("last run", 17, flex=1, most=30),
        GridColumn("next", 14 if wide else 9, flex=1, most=30, drop=1),
        GridColumn("schedule", 12, flex=9, drop=7),
        GridColumn("p95", 6, align="right", drop=6),
        GridColumn("errors", 7, align="right", drop=3),
        GridColumn("wait", 5, align="right"),
        GridColumn("dead", 5, align="right"),
    )


class IntegrationRows(Sequence[GridRow]):
    """A lazily built row per integration: integrations that need attention first, then by name.

    `served` returns the scheduler's report about a spec; `wide` rows have more details.
    """

    def __init__(
        self,
        listed: Iterable[ListedIntegration],
        served: Callable[[str], ServedSpec | None],
        now: datetime,
        *,
        wide: bool,
    ) -> None:
        self._served = served
        self._listed = sorted(listed, key=lambda one: (not one.is_problem, one.spec_id))
        self._now = now
        self._wide = wide

    def __len__(self) -> int:
        return len(self._listed)

    @overload
    def __getitem__(self, index: int) -> GridRow: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[GridRow]: ...
    def __getitem__(self, index: int | slice) -> GridRow | Sequence[GridRow]:
        if isinstance(index, slice):
            return [self._row(one) for one in self._listed[index]]
        return self._row(self._listed[index])

    def _row(self, one: ListedIntegration) -> GridRow:
        served = self._served(one.spec_id)
        coming = _next_run(one, served, self._now, wide=self._wide)
        return _row(one, coming, served.schedule if served is not None else "", self._now, _SPARK[self._wide])


def _next_run(one: ListedIntegration, served: ServedSpec | None, now: datetime, *, wide: bool) -> GridCell:
    """Return when an integration runs next, as the scheduler reports it; a dash if it does not."""
    if one.health is not None and one.paused:
        by = f" by {one.health.integration.paused_by}" if wide else ""
        return GridCell(f"{formatting.PAUSED.word}{by}", formatting.PAUSED.style)
    if served is None:
        return GridCell(NOTHING, "muted")
    if served.problem:
        return GridCell("cannot", "failed")
    return GridCell(until(served.next, now)) if served.next else GridCell("on demand", "muted")


def _row(one: ListedIntegration, coming: GridCell, schedule: str, now: datetime, spark: int) -> GridRow:
    icon = mark(one.health)
    first = GridCell(icon.glyph, icon.style)
    if one.health is None or one.health.last_run is None:
        draft = one.status if one.status not in {"", "in-progress"} else ""
        text = GridCell(f"never run, {draft}" if draft else "never run", "muted")
        return GridRow(
            one.spec_id, (first, one.spec_id, "", "", "", text, coming, GridCell(schedule, "muted"), "", "", "", "")
        )
    health = one.health
    rate = health.figures.success_rate
    return GridRow(
        one.spec_id,
        (
            first,
            GridCell(one.spec_id, "strong" if one.is_problem else ""),
            GridCell(percent(rate), "" if rate is None or rate >= 0.99 else "attention" if rate >= 0.95 else "failed"),
            GridCell(sparkline(health.buckets, spark), "spark"),
            GridCell(count(round(health.rate)), "live") if health.rate >= 0.5 else GridCell("0", "muted"),
            _last_run(health, now),
            coming,
            GridCell(schedule or health.integration.schedule, "muted"),
            span(health.duration_p95) if health.duration_p95 is not None else GridCell(NOTHING, "muted"),
            _counted(health.figures.errors, ""),
            _counted(health.integration.waiting, "attention"),
            _counted(health.integration.dead + health.integration.unknown, "failed"),
        ),
    )


def _last_run(health: Health, now: datetime) -> GridCell:
    run = health.last_run
    assert run is not None  # noqa: S101 (the caller asked)
    if health.condition is Condition.PARKED:
        mark = formatting.PARKED
        return GridCell(f"{mark.word}, {until(max(health.parked.values()), now)}", mark.style)
    if run.state is not RunState.RUNNING:
        word, style = _STATES[run.state]
        return GridCell(f"{word}{ago(run.ended_at or run.started_at, now)}", style if word else "muted")
    progress = run.progress or {}
    if run.cancel:
        return GridCell(f"stopping, {count(run.read)} read", "attention")
    if until_ := progress.get("until"):
        return GridCell(f"waits to {clock_time(str(until_))}", "attention")
    if run.total:
        share = min(1.0, (run.read + int(str(progress.get("sent", 0)))) / run.total)
        return GridCell(f"{bar(share, 10)} {int(share * 100):3d} %", "live")
    if records := progress.get("records"):
        return GridCell(f"running, {count(run.read)} + {progress['sent']:,}/{records:,}", "live")
    return GridCell(f"running, {count(run.read)} read", "live")


def _counted(number: int, style: str) -> GridCell:
    return GridCell(count(number), style) if number else GridCell("0", "muted")
