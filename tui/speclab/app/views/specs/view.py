"""The Specs place: the specs there are, the outline of the open one, its section in hand, and what belongs there."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from datetime import date
from functools import partial
from pathlib import Path
from typing import ClassVar, Final

from rich.cells import cell_len
from textual import on, work
from textual.app import ComposeResult
from textual.binding import BindingType
from textual.containers import Vertical
from textual.timer import Timer
from textual.widgets import OptionList, TextArea

from speclab.app.actions import Action, Command, Controller, bindings
from speclab.app.dialogs import PromptDialog
from speclab.app.formatting import CRUMB, FAILED
from speclab.app.view import AppContext
from speclab.app.views.document import DOCUMENT, DocumentView
from speclab.app.views.specs.editor import SectionEditor
from speclab.app.views.specs.lists import COLOURS, LEVELS, OutlineGrid, ProblemList, SpecErrors, SpecList, outline_rows
from speclab.app.views.specs.panel import GuideView, Paragraph, SectionPanel
from speclab.app.views.specs.section_actions import TRY, ConnectionAction, SectionActions, paragraphs
from speclab.app.widgets.grid import Grid
from speclab.app.widgets.panel import Panel
from speclab.core.errors import EditRejected, SpeclabError
from speclab.core.files import resolve_path
from speclab.core.outcome import Level
from speclab.spec.document import Section
from speclab.spec.guide import guide
from speclab.spec.problems import Problem
from speclab.workbench.open_specs import FRONT_MATTER, find_section_address

SPECS: Final = (
    Action("edit", "edit", "Edit the section.", ("enter",)),
    Action("edit-text", "edit as text", "Edit the section as text, even if it is a choice.", ("e",), footer=False),
    Action("find", "find section", "Go to a section by name.", ("slash",)),
    Action("fix", "fix", "Apply the suggested fix for the problem.", ("f",), footer=False),
    *DOCUMENT,
    Action("preview", "preview", "Switch between the rendered section and its text.", ("p",)),
    Action("editor", "$EDITOR", "Edit the section in your editor ($EDITOR).", ("f4",)),
    *TRY,
    Action("run", "run", "Run the open spec in a separate process.", ("f5",)),
    Action("new", "new spec", "Create a spec from the template.", ("n",)),
    Action("next-problem", "next problem", "Go to the next problem of the spec.", ("f8",), footer=False),
    Action("example", "insert example", "Insert an example into the section.", ("i",), footer=False),
    Action("guide", "guide", "Show the guide instead of the outline if both do not fit.", ("g",), footer=False),
)

WHILE_WRITING: Final = tuple(action for action in SPECS if action.id in {"save", "editor", "run", "next-problem"})

PAUSE: Final = 0.25
"""Seconds without a key before what is typed is brought into the document."""

DWELL: Final = 0.12
"""Seconds the cursor rests on a spec before it is opened."""


class SpecsView(DocumentView):
    """The list and the outline, the desk, the guide and the problems."""

    NAME = "specs"
    ACTIONS = SPECS
    BINDINGS: ClassVar[list[BindingType]] = bindings(SPECS)
    CONTROLLERS = (SectionActions, ConnectionAction)
    SCOPED_CSS = False
    DEFAULT_CSS = """
    SpecsView {
        layout: horizontal;
        #shelf { width: 22%; min-width: 28; max-width: 36; }
        #specs { height: auto; max-height: 40%; }
        #specs > Grid { height: auto; max-height: 100%; min-height: 1; }
        #side { width: 24%; min-width: 30; max-width: 44; }
        #problems { height: auto; max-height: 50%; }
    }
    .-medium SpecsView #side { display: none; }
    .-medium SpecsView.-guide #side { display: block; min-width: 36; }
    .-medium SpecsView.-guide #shelf { display: none; }
    .-narrow SpecsView .column { display: none; }
    .-narrow SpecsView .column.-here { display: block; }
    .-narrow SpecsView #shelf, .-narrow SpecsView #side { width: 1fr; min-width: 0; max-width: 100%; }
    """

    def __init__(self, context: AppContext) -> None:
        super().__init__(context)
        self.at: str | None = None
        self.section_panel = SectionPanel()
        self.problem_list = ProblemList()
        self.sections = SectionActions(self)
        self.connection = ConnectionAction(self, self.sections)
        self._pause: Timer | None = None
        self._listed, self._outline, self._guide = SpecList(), OutlineGrid(), GuideView()
        self._specs_panel = Panel(self._listed, title="specs", id="specs")
        self._outline_panel = Panel(self._outline, title="outline", id="outline")
        self._problems_panel = Panel(self.problem_list, title="problems", id="problems")
        self._shelf = Vertical(self._specs_panel, self._outline_panel, id="shelf", classes="column")
        self._guide_panel = Panel(self._guide, title="guide", id="guide")
        self._problems_panel.display = False
        self._problems_panel.add_class("-extra")
        self._side = Vertical(self._guide_panel, self._problems_panel, id="side", classes="column")
        self._dwell: Timer | None = None
        self._spec_errors = SpecErrors()

    def compose(self) -> ComposeResult:
        """The panels."""
        yield self._shelf
        yield self.section_panel
        yield self._side

    def on_mount(self) -> None:
        """Take what the app knows, as it changes."""
        self.watch(self.app, "specs", self._specs_found)
        self.watch(self.app, "overview", self._list)

    def on_arrive(self) -> None:
        """The outline has the focus, or the list while there is nothing to outline."""
        super().on_arrive()
        self.enter(self._outline_panel if self.opened is not None else self._specs_panel)

    @property
    def controllers(self) -> Sequence[Controller]:
        """What does the actions on sections and connections."""
        return (self.sections, self.connection)

    @property
    def section(self) -> Section | None:
        """The current section as the document has it; None for the front matter, or if nothing is shown."""
        if self.opened is None or not self.at:
            return None
        return next((each for each in self.opened.document.sections if each.address == self.at), None)

    def suspend_app(self) -> AbstractContextManager[None]:
        """Give the terminal to another program."""
        return self.app.suspend()

    def open(self, spec: Path) -> None:
        """Show another spec; what is being written in this one is kept."""
        if (
            self.opened is not None
            and self.section_panel.editing
            and (resolve_path(self.opened.path) != resolve_path(spec))
        ):
            self.sections.take()
            self.sections.drop_editor()
        super().open(spec)

    # What is being typed

    @on(TextArea.Changed)
    def _typed(self) -> None:
        if self._pause is not None:
            self._pause.stop()
        if self.section_panel.editing:
            self.put_aside_soon()
            self._pause = self.set_timer(PAUSE, self._take_typed)

    def _take_typed(self) -> None:
        self.take()
        self.changed()

    def untaken(self) -> bool:
        """Return whether text was typed that is not in the document yet."""
        return self.section_panel.untaken

    def draft(self) -> str | None:
        """Return the text with what is being typed in the section, not verified yet."""
        return self.sections.draft()

    def take(self) -> None:
        """Bring what was typed into the document."""
        self.sections.take()

    def leave(self) -> bool:
        """Stop editing if the document accepts what was written; else ask, and go on editing."""
        return self.sections.leave()

    @on(SectionEditor.Left)
    def _left(self) -> None:
        if self.leave():
            self.focus_outline()

    @on(SectionEditor.Beyond)
    async def _beyond(self, event: SectionEditor.Beyond) -> None:
        await self.action_act("redo" if event.redo else "undo")

    @on(Grid.Chosen, "FrontMatterGrid")
    def _change_key(self, event: Grid.Chosen) -> None:
        self.sections.edit_key(event.row.key)

    # What is there

    def _here(self) -> list[Problem]:
        """The problems of what is in hand."""
        if self.opened is None or self.at is None:
            return []
        document = self.opened.checked or self.opened.document
        return [problem for problem in self.opened.problems if find_section_address(document, problem.line) == self.at]

    # What is shown

    def _list(self) -> None:
        context = self.context
        if context.specs is None:
            return
        self._listed.show_specs(context.specs, context.overview, context.session.unsaved(), self._errors())
        if self.opened is None and context.specs and context.spec is None:
            self._open_soon(Path(self._listed.rows[0].key))

    def _errors(self) -> Mapping[Path, int]:
        """Return the number of errors of each spec; of the open one as it is edited."""
        opened = self.opened
        if opened is None or opened.checked is None:
            return self._spec_errors.counts
        errors = sum(problem.level is Level.ERROR for problem in opened.problems)
        return {**self._spec_errors.counts, resolve_path(opened.path): errors}

    @work(exclusive=True, group="errors")
    async def _count_errors(self) -> None:
        async for _ in self._spec_errors.count(self.context.specs or ()):
            self._list()

    def _specs_found(self) -> None:
        self._list()
        self._count_errors()

    def specs_changed(self, paths: Iterable[Path]) -> None:
        """Take over external changes, and count the errors of the specs that changed."""
        super().specs_changed(paths)
        self._count_errors()

    def show_document(self) -> None:
        """The outline, the section in hand, and its guide."""
        if self.opened is None:
            return
        rows = outline_rows(self.opened.document, self.opened.problems)
        lost = self.at not in {row.key for row in rows}
        if lost and self.opened.typed is not None and not self.section_panel.editing:
            self.at = self.opened.typed.section.address
        elif lost and self.opened.typed is None:
            self.at = rows[0].key
        self._outline.show(rows)
        self._outline.move(next((index for index, row in enumerate(rows) if row.key == self.at), 0))
        listed = next((index for index, row in enumerate(self._listed.rows) if row.key == str(self.opened.path)), None)
        if listed is not None:
            self._listed.move(listed)
        self._list()
        self._show_section()

    def show_problems(self) -> None:
        """The outline's marks, the underlines and the list of problems."""
        if self.opened is not None:
            self._outline.show(outline_rows(self.opened.document, self.opened.problems))
            self._list()
            self._show_section()

    def _show_section(self) -> None:
        opened, section, here = self.opened, self.section, self._here()
        if opened is None:
            return
        typed = opened.typed if opened.typed is not None and opened.typed.section.address == self.at else None
        shown = typed.section if typed is not None and section is None else section  # others may have taken it out
        self.section_panel.show(opened.document, shown, here, typed.body if typed else None)
        self.section_panel.say(*self._word(typed.refusal if typed else None, here))
        self._show_title()
        self._show_guide()
        if not here and self.here is self._problems_panel:
            self.enter(self._outline_panel)
        self._problems_panel.display = bool(here)
        self._problems_panel.set_class(not here, "-extra")
        self.problem_list.show(here, offer_fixes=not self.section_panel.editing)
        total = len(opened.problems)
        self._problems_panel.note = f"{len(here)} here of {total}" if total > len(here) else f"{total} here"

    def _word(self, refusal: EditRejected | None, here: Sequence[Problem]) -> tuple[str, str]:
        """What to say below the text: why it is refused; where the side is not seen, what it would say first."""
        if refusal is not None:
            hint = f"; {refusal.hint}" if refusal.hint else ""
            return f"{FAILED.glyph} {refusal.message}{hint}", "$error"
        if self._side.display:
            return "", ""
        if here:
            first = here[0]
            editing = self.section_panel.editing  # then letters are text: they are offered as actions before and after
            fix = f"  [f] {first.fix}" if first.fix and not editing else ""
            example = "  [i] an example" if self.why_not("example") is None and not editing else ""
            said = f"{LEVELS[first.level].glyph} {first.line}:{first.column} {first.message}{fix}{example}"
            return said, COLOURS[first.level]
        section = self.section
        if (
            section is None
            or self.section_panel.editing
            or not self.sections.is_blank(section)
            or self.why_not("edit") is not None
        ):
            return "", ""
        example = ", i with an example" if self.why_not("example") is None else ""
        return f"{guide(section.address).summary}\nenter fills it in{example}, g tells more", "$muted"

    def _show_title(self) -> None:
        if self.opened is None:
            return
        states = [
            "editing" if self.section_panel.editing else "preview" if self.section_panel.previewing else "",
            "read-only" if self.opened.read_only else "",
            "unsaved" if self.opened.unsaved else "",
        ]
        self.section_panel.note = ", ".join(state for state in states if state)
        words = (self.opened.path.stem, *(self.section.path if self.section is not None else ("Front matter",)))
        titles = [f" {CRUMB} ".join(words[at:]) for at in range(len(words))]
        room = self.section_panel.size.width - len(self.section_panel.note) - 12
        self.section_panel.title = next((title for title in titles if cell_len(title) <= room), titles[-1])

    def _show_guide(self) -> None:
        view, section = self._guide, self.section
        if section is None or self.opened is None:
            view.show_front_matter()
            return
        found = guide(section.address)
        offered = []
        editing = self.section_panel.editing
        if found.example and self.sections.is_blank(section) and not editing:
            offered.append(Paragraph("i begins it with an example", "$accent"))
        elif self.connection.role is not None:
            test = self.connection.test
            offered += paragraphs(test) if test is not None else ()
            if self.why_not("try-access") is None and not editing:
                offered.append(Paragraph("t tests the credentials", "$accent"))
        view.show(found, self.opened.document.body(section), offered)

    def show_test(self) -> None:
        """Show the connection test in the guide."""
        if self.is_attached:  # else the app is being closed
            self._show_guide()
            self.refresh_bindings()

    def show_guide_panel(self) -> None:
        """Bring the guide, where results of a test are shown, into view."""
        self.add_class("-guide")
        if not self.screen.has_class("-wide"):
            self.enter(self._guide_panel)
        self.call_after_refresh(self._show_section)

    # Going about

    @on(Grid.Moved, "SpecList")
    def _open_under_cursor(self) -> None:
        row = self._listed.row
        if row is not None and self._listed.has_focus:
            self._open_soon(Path(row.key))

    def _open_soon(self, path: Path) -> None:
        if self._dwell is not None:
            self._dwell.stop()
        self._dwell = self.set_timer(DWELL, partial(self._open, path))

    async def _open(self, path: Path) -> None:
        if self.opened is None or self.opened.path != path:
            await self.context.open_spec(path)
        if len(self._listed.rows) == 1:
            self.enter(self._outline_panel)

    @on(Grid.Chosen, "SpecList")
    async def _enter_spec(self, event: Grid.Chosen) -> None:
        await self._open(Path(event.row.key))
        self.enter(self._outline_panel)

    @on(Grid.Chosen, "OutlineGrid")
    async def _edit_under_cursor(self) -> None:
        await self.action_act("edit")

    @on(Grid.Moved, "OutlineGrid")
    def _take_in_hand(self) -> None:
        row = self._outline.row
        if row is None or row.key == self.at:
            return
        if self.section_panel.editing and not self.leave():
            self.show_document()  # the cursor goes back to what is edited
            return
        self.at = row.key
        self._show_section()
        self.refresh_bindings()

    def go_to(self, address: str) -> None:
        """Take the section at `address` in hand."""
        if self.section_panel.editing and not self.leave():
            return
        self.at = address
        self.show_document()
        self.enter(self._outline_panel)

    @on(OptionList.OptionSelected, "ProblemList")
    def _go_to_problem(self) -> None:
        problem = self.problem_list.problem
        if problem is not None and self._show_problem(problem):
            self._edit_at_cursor()

    def _show_problem(self, problem: Problem) -> bool:
        """Show the section of the problem, with the cursor at its place; return whether it is there now."""
        if self.opened is None:
            return False
        address = find_section_address(self.opened.document, problem.line)
        self.go_to(address)
        if (
            self.at != address or self.section_panel.editing
        ):  # what is written here is refused: it asks what to do about that
            return False
        if self.section is None:
            self.section_panel.keys.focus()
        else:
            self._place_cursor(self.section, problem.line, problem.column)
        return True

    def _place_cursor(self, section: Section, line: int, column: int) -> None:
        """Put the editor's cursor at that place of the file (both from 1), or at the start of the section's text."""
        if self.opened is not None:
            first = self.opened.document.position(section.body.start)[0]
            self.section_panel.editor.place_cursor((line - first, column - 1) if line >= first else (0, 0))
            self.section_panel.editor.scroll_to_cursor()

    async def show_change(self, line: int, column: int) -> None:
        """Go to the section that changed; where a section was edited, editing goes on in this one."""
        if self.opened is None:
            return
        address = find_section_address(self.opened.document, line)
        editing = self.section_panel.editing
        if editing and address != self.at:
            self.sections.end()
        self.at = address
        self.changed()
        if self.section is None:
            if editing:
                self.focus_outline()
            return
        self._place_cursor(self.section, line, column)
        if editing and not self.section_panel.editing:
            self._edit_at_cursor()

    def _edit_at_cursor(self) -> None:
        if self.section is not None and self.why_not("edit-text") is None:
            self.sections.action_edit_text()

    def _mark(self, panel: Panel) -> None:
        """Bring the column of the panel that has focus to be seen where not all are."""
        for column in (self._shelf, self._side):
            column.set_class(panel in column.children, "-here")
        super()._mark(panel)

    def commands(self) -> Iterable[Command]:
        """Every spec and every section."""
        for spec in self.context.specs or ():
            yield Command(spec.spec_id, "open", partial(self.context.open_spec, spec.path), spec.title)
        yield from self._sections()

    def _sections(self) -> Iterable[Command]:
        if self.opened is None:
            return
        targets = [(FRONT_MATTER, "Front matter", "")]
        targets += [(each.address, each.title, " > ".join(each.path[:-1])) for each in self.opened.document.sections]
        for address, title, above in targets:

            async def go(address: str = address) -> None:
                self.go_to(address)

            yield Command(title, "section", go, above)

    # What can be done

    def actions(self) -> Sequence[Action]:
        """While somebody writes, only what the keys that write leave over."""
        if self.section_panel.editing:
            return WHILE_WRITING
        return [action for action in SPECS if action.id != "stop-trying" or self.connection.running]

    def why_not(self, action: str) -> str | None:
        """Why an action cannot be done now."""
        if action == "new" and self.context.read_only:
            return "speclab was started with --read-only"
        if action in {"find", "preview", "run", "next-problem", "guide"} and self.opened is None:
            return "no spec is open"
        if action == "preview" and self.section is None:
            return "the front matter is no text to read"
        if action == "next-problem" and self.opened is not None and not self.opened.problems:
            return "the spec has no problems"
        if action == "run":
            return self._why_not_run()
        return super().why_not(action)

    def _why_not_run(self) -> str | None:
        if self.context.read_only:
            return "speclab was started with --read-only"
        if self.opened is not None and (self.opened.unsaved or self.untaken()):
            return "what is unsaved would not be in it: F2 first"
        return None

    def focus_outline(self) -> None:
        """Focus the outline."""
        self.enter(self._outline_panel)

    @work(group="ask")
    async def action_find(self) -> None:
        """Go to a section by name."""
        from speclab.app.help import Palette

        command = await self.app.push_screen_wait(
            Palette(self._sections(), title="find section", placeholder="a section")
        )
        if command is not None:
            await command.run()

    def action_preview(self) -> None:
        """Switch between the rendered section and its text."""
        if self.section_panel.editing and not self.leave():
            return
        self.section_panel.previewing = not self.section_panel.previewing
        self._show_section()

    def action_guide(self) -> None:
        """Show the guide in place of the outline, or the outline again."""
        self.toggle_class("-guide")
        self.enter(self._guide_panel if self.has_class("-guide") else self._outline_panel)
        self.call_after_refresh(self._show_section)

    def on_resize(self) -> None:
        """The title, and what stands below the text, are as there is room for; what is not seen has no focus."""
        self.call_after_refresh(self._fit)

    def _fit(self) -> None:
        if not self._shelf.display and self.here in self._shelf.children:
            self.enter(self._guide_panel)
        self._show_section()

    def action_next_problem(self) -> None:
        """Go to the problem after the section in hand, round and round."""
        opened = self.opened
        if opened is None or not opened.problems:
            return
        line = self.section.line if self.section is not None else 0
        here = self._here()
        after = here[-1].line if here else line
        editing = self.section_panel.editing
        problem = next((each for each in opened.problems if each.line > after), opened.problems[0])
        if self._show_problem(problem) and editing:
            self._edit_at_cursor()

    def action_run(self) -> None:
        """Run the open spec."""
        if self.opened is None:
            return
        document = self.opened.document
        self.context.run_spec(
            self.opened.path, document.front_matter.get_text("spec_id", document.text) or self.opened.path.stem
        )

    @work(group="ask")
    async def action_new(self) -> None:
        """Make a spec from the template, next to the one that is open."""
        from speclab.spec.guide import create_spec

        directory = self.opened.path.parent if self.opened is not None else self.context.directory
        message = f"Its name, such as orders-to-erp. The file goes to {directory}."
        made: list[Path] = []

        def wrong(name: str) -> str | None:
            try:
                made.append(create_spec(directory, name, date.today()))  # noqa: DTZ011 (the day where the user is)
            except SpeclabError as error:
                return f"{error.message}\n{error.hint}".strip()
            return None

        await self.app.push_screen_wait(PromptDialog("new spec", message, placeholder="source-to-target", wrong=wrong))
        for path in made:
            await self.context.open_spec(path)
            self.enter(self._outline_panel)
