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

from speclab.app.glyphs import ELLIPSIS, SPARKS
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
        success = (("success ", "muted"), (percent(rate, 2), style))
        rest = [
            Part((("records ", "muted"), (count(figures.read), "strong"))),
            Part((("errors ", "muted"), (count(figures.errors), "strong"))),
            *self._open(shown, shell(self).now()),
        ]
        drawn = [Part((*success, ("  ", ""), (spark, "spark"))), *rest]
        return drawn if self._fits(drawn) else [Part(success), *rest]

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
        named = [(name.value.replace("_", " "), number) for name, number in by_class]
        if named and figures.unclassified:
            named.append(("no class", figures.unclassified))
        parts = [Part(((f"{name} ", "muted"), (count(number), ""))) for name, number in named]
        return [Part((("errors by class", "muted"),)), *parts] if parts else []

    @property
    def _apart(self) -> int:
        """Blank cells between two parts."""
        return 4 if self.size.width >= 100 else 3

    def _fits(self, parts: Sequence[Part]) -> bool:
        return 1 + sum(part.width for part in parts) + self._apart * (len(parts) - 1) < self.size.width

    def _strip(self, parts: Sequence[Part]) -> Strip:
        """Draw the parts, as many as fit; an ellipsis takes the place of the others."""
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


_MORE: Final = Part(((ELLIPSIS, "muted"),))
"""Stands for the parts that do not fit."""
