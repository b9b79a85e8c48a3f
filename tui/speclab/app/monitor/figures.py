"""The figures over the Monitor: how all integrations together did in the window, in as many lines as it is given."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Final

from rich.cells import cell_len
from rich.segment import Segment
from textual.reactive import reactive
from textual.strip import Strip
from textual.widget import Widget

from speclab.app.glyphs import SPARKS
from speclab.app.shell import shell
from speclab.app.widgets.cells import fit
from speclab.app.words import count, moment, percent, span

if TYPE_CHECKING:
    from datetime import datetime

    from speclab.monitor.health import Bucket, Overview

_LOWEST: Final = 0.8
"""The success rate at the foot of a sparkline: below it, it is bad enough."""


@dataclass(frozen=True, slots=True)
class Part:
    """A few words that belong together, each with its style."""

    words: tuple[tuple[str, str], ...]

    @property
    def width(self) -> int:
        """In cells."""
        return sum(cell_len(text) for text, _ in self.words)


def sparkline(buckets: Sequence[Bucket], width: int) -> str:
    """Success rates over time as small bars, `width` at most; a blank where nothing was read."""
    each = max(1, -(-len(buckets) // max(1, width)))
    groups = [buckets[at : at + each] for at in range(0, len(buckets), each)]
    sums = [(sum(bucket.well for bucket in group), sum(bucket.read for bucket in group)) for group in groups]
    return "".join(_bar(well / read) if read else " " for well, read in sums)


def _bar(rate: float) -> str:
    highest = len(SPARKS) - 1
    return SPARKS[min(highest, max(0, int((rate - _LOWEST) / (1 - _LOWEST) * highest)))]


class FiguresLine(Widget):
    """Success, records, errors, what waits and what is dead; where it is two lines high, errors by class below."""

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

    shown: reactive[Overview | None] = reactive(None, always_update=True)

    def render_line(self, y: int) -> Strip:
        """The figures, as many as fit; then the errors by class."""
        if self.shown is None:
            return self._strip([Part((("reading the run log", "muted"),))] if y == 0 else [])
        if not self.shown.figures.read and not self.shown.figures.errors:
            nothing = Part((("nothing was read in this window", "muted"),))
            return self._strip([nothing, *self._open(self.shown, shell(self).now())]) if y == 0 else self._strip([])
        return self._strip(self._first(self.shown) if y == 0 else self._second(self.shown))

    def _first(self, shown: Overview) -> list[Part]:
        figures = shown.figures
        rate = figures.success_rate
        style = "strong" if rate is None or rate >= 0.99 else "attention" if rate >= 0.95 else "failed"
        spark = sparkline(shown.buckets, 24 if self.size.width >= 100 else 12)
        return [
            Part((("success ", "muted"), (percent(rate, 2), style), ("  ", ""), (spark, "spark"))),
            Part((("records ", "muted"), (count(figures.read), "strong"))),
            Part((("errors ", "muted"), (count(figures.errors), "strong"))),
            *self._open(shown, shell(self).now()),
        ]

    @staticmethod
    def _open(shown: Overview, at: datetime) -> list[Part]:
        """What is not done with, whenever it failed."""
        parts = []
        if shown.waiting:
            oldest = ""
            if shown.oldest_waiting is not None:
                oldest = f"  oldest {span((at - moment(shown.oldest_waiting)).total_seconds())}"
            parts.append(Part((("waiting ", "muted"), (count(shown.waiting), "attention"), (oldest, "muted"))))
        if shown.dead:
            parts.append(Part((("dead ", "muted"), (count(shown.dead), "failed"))))
        if shown.unknown:
            parts.append(Part((("unknown ", "muted"), (count(shown.unknown), "failed"))))
        return parts

    @staticmethod
    def _second(shown: Overview) -> list[Part]:
        figures = shown.figures
        by_class = sorted(figures.errors_by_class.items(), key=lambda item: -item[1])
        parts = [Part(((f"{name.value.replace('_', ' ')} ", "muted"), (count(n), ""))) for name, n in by_class]
        return [Part((("errors by class", "muted"),)), *parts] if parts else []

    def _strip(self, parts: Sequence[Part]) -> Strip:
        width = self.size.width
        apart = 4 if width >= 100 else 3
        base = self.rich_style
        segments = [Segment(" ", base)]
        at = 1
        for part in parts:
            if at + part.width > width - 1 and at > 1:
                break
            for text, style in part.words:
                extra = self.get_component_rich_style(f"figures--{style}", partial=True) if style else None
                segments.append(Segment(fit(text, width - 2), base + extra if extra else base))
            segments.append(Segment(" " * apart, base))
            at += part.width + apart
        return Strip(segments).adjust_cell_length(width, base)
