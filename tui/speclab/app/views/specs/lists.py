"""The lists of specs, sections and problems, going to their entries, and creating and running specs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Coroutine, Iterable, Iterator, Mapping, Sequence
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Final, Protocol

from rich.cells import cell_len
from textual.binding import BindingType
from textual.content import Content
from textual.widgets import OptionList
from textual.widgets.option_list import Option

from speclab.app.actions import Action, Command, Controller, bindings
from speclab.app.dialogs import PromptDialog
from speclab.app.formatting import ATTENTION, FAILED, IDLE, WELL, Icon
from speclab.app.view import AppContext
from speclab.app.views.document import DocumentController
from speclab.app.views.monitor.integrations import mark
from speclab.app.views.specs.panel import SectionPanel
from speclab.app.widgets.grid import MOVES, Grid, GridCell, GridColumn, GridRow, TextSpan
from speclab.core.errors import SpeclabError
from speclab.core.files import resolve_path
from speclab.core.outcome import Level
from speclab.core.text import format_count
from speclab.monitor.health import Condition
from speclab.spec.document import Document, Section
from speclab.spec.problems import Problem
from speclab.spec.workspace import SpecFile
from speclab.workbench.open_specs import FRONT_MATTER, count_problems, find_section_address, get_subsections, is_filled

if TYPE_CHECKING:
    from speclab.monitor.health import Health, Overview
    from speclab.workbench.open_specs import OpenSpec


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


def describe_problem(problem: Problem, *, fixable: bool, with_example: bool) -> tuple[str, str]:
    """Return the text and the colour of a problem, with the keys that fix it or insert an example."""
    fix = f"  [f] {problem.fix}" if problem.fix and fixable else ""
    example = "  [i] an example" if with_example else ""
    text = f"{LEVELS[problem.level].glyph} {problem.line}:{problem.column} {problem.message}{fix}{example}"
    return text, COLOURS[problem.level]


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


class SpecsHost(Protocol):
    """The Specs view, as its controllers see it. `at` is the address of the current section; None if there is none."""

    context: AppContext
    document: DocumentController
    at: str | None
    section_panel: SectionPanel
    problem_list: ProblemList

    @property
    def opened(self) -> OpenSpec | None:
        """The open spec."""

    @property
    def section(self) -> Section | None:
        """The current section; None for the front matter."""

    def leave(self) -> bool:
        """Stop editing if the document accepts the text; else ask whether to discard it, and return False."""

    def end_editing(self) -> None:
        """Stop editing."""

    def edit_text(self) -> None:
        """Edit the text of the current section, unless that is disabled."""

    def show_document(self) -> None:
        """Show the document."""

    def show_test(self) -> None:
        """Show the connection test of the current section."""

    def show_guide_panel(self) -> None:
        """Make the guide visible, which shows test results."""

    def focus_outline(self) -> None:
        """Focus the outline."""

    def refresh_bindings(self) -> None:
        """Update the available keys."""

    def run_in_background(self, work: Callable[[], Coroutine[None, None, None]], group: str = "") -> Callable[[], None]:
        """Run `work`, and with `group` cancel earlier work of that group; return a function that cancels it."""


class SectionNavigation(Controller):
    """Goes to sections, problems and changes of the open spec."""

    def __init__(self, host: SpecsHost) -> None:
        self._host = host

    def explain_disabled(self, action: str) -> str | None:
        """Return why going to a section or a problem is disabled."""
        if action not in {"find", "next-problem"}:
            return None
        if self._host.opened is None:
            return "no spec is open"
        return "the spec has no problems" if action == "next-problem" and not self._host.opened.problems else None

    def list_problems(self) -> list[Problem]:
        """Return the problems of the current section."""
        opened, at = self._host.opened, self._host.at
        if opened is None or at is None:
            return []
        document = opened.checked or opened.document
        return [problem for problem in opened.problems if find_section_address(document, problem.line) == at]

    def list_commands(self) -> Iterator[Command]:
        """Yield a command per section, and one for the front matter."""
        if self._host.opened is None:
            return
        sections = self._host.opened.document.sections
        targets = [(FRONT_MATTER, "Front matter", "")]
        targets += [(each.address, each.title, " > ".join(each.path[:-1])) for each in sections]
        for address, title, above in targets:

            async def go(address: str = address) -> None:
                self.go_to(address)

            yield Command(title, "section", go, above)

    def go_to(self, address: str) -> None:
        """Go to the section at `address`."""
        if self._host.section_panel.editing and not self._host.leave():
            return
        self._host.at = address
        self._host.show_document()
        self._host.focus_outline()

    def go_to_problem(self, problem: Problem) -> bool:
        """Show the problem in its section, with the cursor on it; return whether that is possible now."""
        host = self._host
        if host.opened is None:
            return False
        address = find_section_address(host.opened.document, problem.line)
        self.go_to(address)
        if host.at != address or host.section_panel.editing:
            return False  # the typed text is rejected, and a dialog asks about it
        if host.section is None:
            host.section_panel.keys.focus()
        else:
            self._place_cursor(host.section, problem.line, problem.column)
        return True

    def _place_cursor(self, section: Section, line: int, column: int) -> None:
        """Move the editor's cursor to that position of the file (both from 1), or to the start of the section."""
        if self._host.opened is not None:
            first = self._host.opened.document.position(section.body.start)[0]
            editor = self._host.section_panel.editor
            editor.place_cursor((line - first, column - 1) if line >= first else (0, 0))
            editor.scroll_to_cursor()

    def show_change(self, line: int, column: int) -> None:
        """Go to the section that changed; if a section was being edited, edit this one."""
        host = self._host
        if host.opened is None:
            return
        address = find_section_address(host.opened.document, line)
        editing = host.section_panel.editing
        if editing and address != host.at:
            host.end_editing()
        host.at = address
        host.document.refresh()
        if host.section is None:
            if editing:
                host.focus_outline()
            return
        self._place_cursor(host.section, line, column)
        if editing and not host.section_panel.editing:
            host.edit_text()

    def action_find(self) -> None:
        """Go to a section by name."""
        self._host.run_in_background(self._find, "ask")

    async def _find(self) -> None:
        from speclab.app.help import Palette

        palette = Palette(self.list_commands(), title="find section", placeholder="a section")
        command = await self._host.context.push_screen_wait(palette)
        if command is not None:
            await command.run()

    def action_next_problem(self) -> None:
        """Go to the next problem after the current section, around the end."""
        opened, section = self._host.opened, self._host.section
        if opened is None or not opened.problems:
            return
        here = self.list_problems()
        after = here[-1].line if here else section.line if section is not None else 0
        editing = self._host.section_panel.editing
        problem = next((each for each in opened.problems if each.line > after), opened.problems[0])
        if self.go_to_problem(problem) and editing:
            self._host.edit_text()


class SpecActions(Controller):
    """Creates specs, and runs the open one."""

    def __init__(self, host: SpecsHost) -> None:
        self._host = host

    def explain_disabled(self, action: str) -> str | None:
        """Return why a spec cannot be created or run."""
        if action not in {"new", "run"}:
            return None
        opened = self._host.opened
        if action == "run" and opened is None:
            return "no spec is open"
        if self._host.context.read_only:
            return "speclab was started with --read-only"
        if action == "run" and opened is not None and (opened.unsaved or self._host.document.has_draft):
            return "the run would not include unsaved changes: press F2 first"
        return None

    def action_run(self) -> None:
        """Run the open spec."""
        if (opened := self._host.opened) is not None:
            document = opened.document
            spec_id = document.front_matter.get_text("spec_id", document.text) or opened.path.stem
            self._host.context.run_spec(opened.path, spec_id)

    def action_new(self) -> None:
        """Create a spec from the template, next to the open one."""
        self._host.run_in_background(self._create, "ask")

    async def _create(self) -> None:
        from speclab.spec.guide import create_spec

        context, opened = self._host.context, self._host.opened
        directory = opened.path.parent if opened is not None else context.directory
        message = f"Enter a name, such as orders-to-erp. The file goes to {directory}."
        created: list[Path] = []

        def create(name: str) -> str | None:
            try:
                created.append(create_spec(directory, name, date.today()))  # noqa: DTZ011 (the day where the user is)
            except SpeclabError as error:
                return f"{error.message}\n{error.hint}".strip()
            return None

        dialog = PromptDialog("new spec", message, placeholder="source-to-target", validate=create)
        await context.push_screen_wait(dialog)
        for path in created:
            await context.open_spec(path)
            self._host.focus_outline()
