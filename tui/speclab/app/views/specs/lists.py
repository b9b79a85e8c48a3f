"""The lists of specs and sections, and checking specs in the background."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Final

from rich.cells import cell_len
from textual.binding import BindingType
from textual.content import Content
from textual.widgets import OptionList
from textual.widgets.option_list import Option

from speclab.app.actions import Action, bindings
from speclab.app.formatting import ATTENTION, FAILED, IDLE, WELL, Icon
from speclab.app.views.monitor.integrations import mark
from speclab.app.widgets.grid import MOVES, Grid, GridCell, GridColumn, GridRow, TextSpan
from speclab.core.errors import SpeclabError
from speclab.core.files import resolve_path
from speclab.core.outcome import Level
from speclab.core.plugins import load_in_thread
from speclab.core.text import format_count
from speclab.monitor.health import Condition
from speclab.spec.document import Document
from speclab.spec.problems import Problem
from speclab.spec.workspace import SpecFile, State, file_state
from speclab.workbench.open_specs import FRONT_MATTER, count_problems, get_subsections, is_filled

if TYPE_CHECKING:
    from speclab.monitor.health import Health, Overview
    from speclab.workbench.open_specs import OpenSpec


class SpecErrors:
    """The number of errors of each spec file, by its resolved path, as far as they were counted."""

    def __init__(self) -> None:
        self.counts: dict[Path, int] = {}
        self._states: dict[Path, State | None] = {}

    async def count(self, specs: Iterable[SpecFile]) -> AsyncIterator[Path]:
        """Count the errors of specs that changed since the last count; yield each path with a new number."""
        paths = [resolve_path(spec.path) for spec in specs]
        for gone in self.counts.keys() - set(paths):
            del self.counts[gone], self._states[gone]
        for path in paths:
            state = file_state(path)
            if path in self.counts and self._states[path] == state:
                continue
            count = await load_in_thread(partial(_errors, path))
            changed = self.counts.get(path, 0) != count
            self.counts[path], self._states[path] = count, state
            if changed:
                yield path


def _errors(path: Path) -> int:
    from speclab.mapping import lint
    from speclab.spec.document import Document

    try:
        problems = lint(Document.load(path))
    except SpeclabError:  # it was deleted or cannot be read: opening it shows the error
        return 0
    return sum(problem.level is Level.ERROR for problem in problems)


_SHORTEST: Final = 8
"""Minimum width of a name, in cells."""


class SpecList(Grid):
    """The specs; a row's key is the file's path."""

    def __init__(self) -> None:
        super().__init__(
            _columns(()),
            heading=False,
            empty=("No specs here yet.", "n creates one."),
        )

    def show_specs(
        self,
        specs: Sequence[SpecFile],
        overview: Overview | None,
        unsaved: Sequence[OpenSpec],
        errors: Mapping[Path, int],
    ) -> None:
        """Show `specs`, each with the icon of its state and the most important word about it.

        An `unsaved` spec is listed even if its file is gone: it can be opened and saved again. `errors` has the number
        of errors of each checked spec by resolved path.
        """
        healths = {health.integration.spec_id: health for health in overview.integrations} if overview else {}
        changed = {resolve_path(spec.path) for spec in unsaved}
        there = {resolve_path(spec.path) for spec in specs}
        lost = [_of(spec) for spec in unsaved if resolve_path(spec.path) not in there]
        rows = []
        for spec in (*specs, *lost):
            path = resolve_path(spec.path)
            rows.append(_spec_row(spec, healths.get(spec.spec_id), errors.get(path, 0), unsaved=path in changed))
        self.lay_out(_columns(rows))
        self.show(rows)


def _of(spec: OpenSpec) -> SpecFile:
    front_matter, text = spec.document.front_matter, spec.document.text
    spec_id, kind, status = (front_matter.get_text(key, text) for key in ("spec_id", "type", "status"))
    return SpecFile(spec.path, spec_id or spec.path.stem, kind, status, title="")


def _columns(rows: Sequence[GridRow]) -> tuple[GridColumn, ...]:
    """Return the columns: the state is always shown whole, a name that is too long is cut."""
    word = max((cell_len(_text(row.cells[1])) for row in rows), default=0)
    return (GridColumn("", _SHORTEST, flex=1, gap=1), GridColumn("", word, align="right", gap=1))


def _text(cell: GridCell | str) -> str:
    return cell if isinstance(cell, str) else cell.text


def _spec_row(spec: SpecFile, health: Health | None, errors: int, *, unsaved: bool) -> GridRow:
    icon, word = _choose_icon(spec, health)
    running = health is not None and health.running
    if errors and not running:
        icon, word = FAILED, format_count(errors, "error")
    text = f"{icon.glyph} {spec.spec_id}"
    state = GridCell("unsaved", "live") if unsaved else GridCell(word, icon.style if word[:1].isdigit() else "muted")
    return GridRow(str(spec.path), (GridCell(text, spans=(TextSpan(0, 1, icon.style),)), state))


def _choose_icon(spec: SpecFile, health: Health | None) -> tuple[Icon, str]:
    if spec.too_large:
        return ATTENTION, "too large"
    if spec.type not in {"integration", ""}:
        return IDLE, spec.type
    if health is None or mark(health) is IDLE:
        return IDLE, "never run" if spec.status == "in-progress" else spec.status
    condition = health.condition
    dead = health.integration.dead + health.integration.unknown
    if condition is Condition.ATTENTION and dead:
        return mark(health), f"{dead:,} dead"
    word = "running" if health.running else "" if condition is Condition.OK else condition.value
    return mark(health), word


OUTLINE: Final = (
    *(action for action in MOVES if action.id != "choose"),
    Action("choose", "edit", "Edit the section under the cursor.", ("enter",)),
)


class OutlineGrid(Grid):
    """The sections; a row's key is the section's address, or `FRONT_MATTER`."""

    ACTIONS = OUTLINE
    BINDINGS: ClassVar[list[BindingType]] = bindings(OUTLINE)

    def __init__(self) -> None:
        super().__init__(
            (GridColumn("", 16, flex=1, gap=1), GridColumn("", 2, align="right")),
            heading=False,
            empty=("No spec is open.",),
        )


def outline_rows(document: Document, problems: Iterable[Problem]) -> list[GridRow]:
    """Return a row for the front matter and for each section."""
    wrong = count_problems(document, problems)
    sections = document.sections
    front_mark = WELL if document.front_matter.present else IDLE
    rows = [_outline_row(FRONT_MATTER, "Front matter", 0, front_mark, wrong[FRONT_MATTER])]
    for at, section in enumerate(sections):
        inner = get_subsections(sections, at)
        counts = wrong[section.address].copy()
        for other in inner:
            counts.update(wrong[other.address])
        mark = WELL if is_filled(document, section, inner) else IDLE
        rows.append(_outline_row(section.address, section.title, section.level - 2, mark, counts))
    return rows


def _outline_row(address: str, title: str, depth: int, mark: Icon, counts: Counter[Level]) -> GridRow:
    number = counts[Level.ERROR] + counts[Level.WARNING]
    if number:
        mark = FAILED if counts[Level.ERROR] else ATTENTION
    text = f"{'  ' * max(0, depth)}{mark.glyph} {title}"
    at = text.index(mark.glyph)
    style = "muted" if mark is IDLE else ""
    return GridRow(
        address, (GridCell(text, style, (TextSpan(at, at + 1, mark.style),)), GridCell(str(number or ""), mark.style))
    )


LEVELS: Final = {Level.ERROR: FAILED, Level.WARNING: ATTENTION, Level.INFO: IDLE}
COLOURS: Final = {Level.ERROR: "$error", Level.WARNING: "$warning", Level.INFO: "$muted"}


class ProblemList(OptionList):
    """The problems of the section; enter goes to a problem, f fixes it."""

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
        """List `problems`, with their fixes if `offer_fixes`; the selection is kept if possible."""
        shown = (tuple(problems), offer_fixes)
        if shown == self._shown:
            return
        at = self.highlighted
        self.problems, self._shown = tuple(problems), shown
        self.set_options(Option(_build_option(problem, offer_fix=offer_fixes)) for problem in problems)
        if problems and at is not None:
            self.highlighted = min(at, len(problems) - 1)

    @property
    def problem(self) -> Problem | None:
        """The problem under the cursor, or the first."""
        if not self.problems:
            return None
        return self.problems[self.highlighted or 0]


def _build_option(problem: Problem, *, offer_fix: bool) -> Content:
    colour = COLOURS[problem.level]
    fix = ""
    if problem.fix is not None and offer_fix:
        fix = f"  [f] write {problem.fix}" if problem.fix else "  [f] delete it"
    return Content.assemble(
        (f"{LEVELS[problem.level].glyph} {problem.line}:{problem.column} ", colour),
        (problem.code, "$muted"),
        f" {problem.message}",
        (fix, "$accent"),
    )
