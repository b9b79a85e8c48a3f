"""The problems of the section in hand, each with its place in the file; `f` mends what speclab can."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from textual.content import Content
from textual.widgets import OptionList
from textual.widgets.option_list import Option

from speclab.app.glyphs import ATTENTION, FAILED, IDLE
from speclab.errors import EditRefused
from speclab.outcome import Level
from speclab.spec.document import Document
from speclab.spec.problem import Problem

LEVELS: Final = {Level.ERROR: FAILED, Level.WARNING: ATTENTION, Level.INFO: IDLE}
COLOURS: Final = {Level.ERROR: "$error", Level.WARNING: "$warning", Level.INFO: "$muted"}


class ProblemList(OptionList):
    """Problems to read, to go to (enter) and to mend."""

    DEFAULT_CSS = """
    ProblemList, ProblemList:focus {
        height: auto;
        max-height: 100%;
        border: none;
        padding: 0;
        background: $background;
        background-tint: $background 0%;
        & > .option-list--option { padding: 0 1; }
        & > .option-list--option-highlighted { background: $background; color: $foreground; text-style: none; }
    }
    ProblemList:focus > .option-list--option-highlighted { background: $cursor; }
    """

    def __init__(self) -> None:
        super().__init__(markup=False)
        self.problems: tuple[Problem, ...] = ()
        self._shown: tuple[tuple[Problem, ...], bool] = ((), True)

    def show(self, problems: Sequence[Problem], *, offer_fixes: bool) -> None:
        """List these, with the key that fixes each where `f` is not text; the chosen one stays chosen if possible."""
        shown = (tuple(problems), offer_fixes)
        if shown == self._shown:
            return
        at = self.highlighted
        self.problems, self._shown = tuple(problems), shown
        self.set_options(Option(_told(problem, offer_fix=offer_fixes)) for problem in problems)
        if problems and at is not None:
            self.highlighted = min(at, len(problems) - 1)

    @property
    def problem(self) -> Problem | None:
        """The one under the cursor, or the first."""
        if not self.problems:
            return None
        return self.problems[self.highlighted or 0]


def _told(problem: Problem, *, offer_fix: bool) -> Content:
    colour = COLOURS[problem.level]
    fix = ""
    if problem.fix is not None and offer_fix:
        fix = f"  [f] write {problem.fix}" if problem.fix else "  [f] take it out"
    return Content.assemble(
        (f"{LEVELS[problem.level].glyph} {problem.line}:{problem.column} ", colour),
        (problem.code, "$muted"),
        f" {problem.message}",
        (fix, "$accent"),
    )


def mended(document: Document, problem: Problem) -> Document:
    """`document` with the problem's fix in its place. Raises `EditRefused` where that is not safe."""
    start = document.lines.starts[problem.line - 1] + problem.column - 1
    end, fix = start + problem.length, problem.fix or ""
    for section in document.sections:
        if section.body.start <= start and end <= section.body.end:
            body, at = document.body(section), section.body.start
            return document.with_body(section, body[: start - at] + fix + body[end - at :])
    for entry in document.front_matter.entries:
        if entry.value.start <= start and end <= max(entry.value.end, start + 1):
            return document.with_front_matter(entry.key, fix)
    raise EditRefused("this has to be mended by hand", hint=problem.message)
