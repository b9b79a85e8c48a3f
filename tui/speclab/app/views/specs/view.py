"""The Specs view: the list of specs, the outline of the open one, its current section, and the guide."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import ClassVar, Final

from textual import on, work
from textual.app import ComposeResult
from textual.binding import BindingType
from textual.containers import Vertical
from textual.timer import Timer
from textual.widgets import OptionList, TextArea

from speclab.app.actions import Action, Command, bindings
from speclab.app.formatting import FAILED
from speclab.app.view import AppContext, View
from speclab.app.views.document import DOCUMENT, DocumentController
from speclab.app.views.specs.criteria import ACTIONS as CRITERIA_ACTIONS
from speclab.app.views.specs.criteria import CriteriaActions
from speclab.app.views.specs.editor import SectionEditor
from speclab.app.views.specs.lifecycle import DECOMPOSE, LifecycleActions
from speclab.app.views.specs.lists import (
    OutlineGrid,
    ProblemList,
    SectionNavigation,
    SpecActions,
    SpecList,
    describe_problem,
    outline_rows,
)
from speclab.app.views.specs.panel import GuideView, Paragraph, SectionPanel, describe_test
from speclab.app.views.specs.section_actions import TRY, ConnectionAction, SectionActions
from speclab.app.widgets.grid import Grid
from speclab.app.widgets.panel import Panel
from speclab.core.errors import EditRejected
from speclab.core.files import resolve_path
from speclab.spec.document import Section
from speclab.spec.guide import guide
from speclab.spec.problems import Problem
from speclab.workbench.open_specs import OpenSpec, SpecErrors

SPECS: Final = (
    Action("edit", "edit", "Edit the section.", ("enter",)),
    Action("edit-text", "edit as text", "Edit the section as text, even if it is a choice.", ("e",), footer=False),
    Action("find", "find section", "Go to a section by name.", ("slash",)),
    Action("fix", "fix", "Apply the suggested fix for the problem.", ("f",), footer=False),
    *DOCUMENT,
    Action("preview", "preview", "Switch between the rendered section and its text.", ("p",)),
    Action("editor", "$EDITOR", "Edit the section in your editor ($EDITOR).", ("f4",)),
    *TRY,
    DECOMPOSE,
    *CRITERIA_ACTIONS,
    Action("run", "run", "Run the open spec in a separate process.", ("f5",)),
    Action("new", "new spec", "Create a spec from the template.", ("n",)),
    Action("next-problem", "next problem", "Go to the next problem of the spec.", ("f8",), footer=False),
    Action("example", "insert example", "Insert an example into the section.", ("i",), footer=False),
    Action("guide", "guide", "Show the guide instead of the outline if both do not fit.", ("g",), footer=False),
)

WHILE_WRITING: Final = tuple(action for action in SPECS if action.id in {"save", "editor", "run", "next-problem"})

SECTION_CONTROLLERS: Final = (SectionActions, ConnectionAction, LifecycleActions, CriteriaActions)

COMMIT_DELAY: Final = 0.25
"""Seconds without a key after which the typed text is brought into the document."""

OPEN_DELAY: Final = 0.12
"""Seconds the cursor rests on a spec before it is opened."""


class SpecsView(View):
    """The sidebar (specs and outline), the section panel, and the guide column (guide and problems)."""

    NAME = "specs"
    ACTIONS = SPECS
    BINDINGS: ClassVar[list[BindingType]] = bindings(SPECS)
    CONTROLLERS = (*SECTION_CONTROLLERS, SectionNavigation, SpecActions, DocumentController)
    SCOPED_CSS = False
    DEFAULT_CSS = """
    SpecsView {
        layout: horizontal;
        #sidebar { width: 22%; min-width: 28; max-width: 36; }
        #specs { height: auto; max-height: 40%; }
        #specs > Grid { height: auto; max-height: 100%; min-height: 1; }
        #guide-column { width: 24%; min-width: 30; max-width: 44; }
        #problems { height: auto; max-height: 50%; }
    }
    .-medium SpecsView #guide-column { display: none; }
    .-medium SpecsView.-guide #guide-column { display: block; min-width: 36; }
    .-medium SpecsView.-guide #sidebar { display: none; }
    .-narrow SpecsView .column { display: none; }
    .-narrow SpecsView .column.-here { display: block; }
    .-narrow SpecsView #sidebar, .-narrow SpecsView #guide-column { width: 1fr; min-width: 0; max-width: 100%; }
    """

    def __init__(self, context: AppContext) -> None:
        super().__init__(context)
        self.at: str | None = None
        self.section_panel = SectionPanel()
        self.problem_list = ProblemList()
        self.lifecycle = LifecycleActions(self)
        self.criteria = CriteriaActions(self)
        self.sections = SectionActions(self, self.lifecycle.set_status)
        self.document = DocumentController(self, self.sections)
        self.connection = ConnectionAction(self, self.sections)
        self.navigation = SectionNavigation(self)
        self.specs = SpecActions(self)
        self.controllers = (
            *(self.sections, self.connection, self.lifecycle, self.criteria),
            *(self.navigation, self.specs, self.document),
        )
        self._commit_timer: Timer | None = None
        self._listed, self._outline, self._guide = SpecList(), OutlineGrid(), GuideView()
        self._specs_panel = Panel(self._listed, title="specs", id="specs")
        self._outline_panel = Panel(self._outline, title="outline", id="outline")
        self._problems_panel = Panel(self.problem_list, title="problems", id="problems")
        self._sidebar = Vertical(self._specs_panel, self._outline_panel, id="sidebar", classes="column")
        self._guide_panel = Panel(self._guide, title="guide", id="guide")
        self._problems_panel.display = False
        self._problems_panel.add_class("-extra")
        self._guide_column = Vertical(self._guide_panel, self._problems_panel, id="guide-column", classes="column")
        self._open_timer: Timer | None = None
        self._spec_errors = SpecErrors()

    def compose(self) -> ComposeResult:
        """Compose the panels."""
        yield self._sidebar
        yield self.section_panel
        yield self._guide_column

    def on_mount(self) -> None:
        """Watch the state of the app."""
        self.document.start()
        self.watch(self.app, "specs", self._specs_found)
        self.watch(self.app, "overview", self._list)

    def activate(self) -> None:
        """Focus the outline or, if no spec is open, the list."""
        if self.context.spec is not None:
            self.open(self.context.spec)
        self.enter(self._outline_panel if self.opened is not None else self._specs_panel)

    def deactivate(self) -> None:
        """Bring the typed text into the document, for the other views."""
        self.document.leave()

    def on_unmount(self) -> None:
        """Keep unsaved changes."""
        self.document.close()

    def unsaved(self) -> str | None:
        """Return a sentence about changes that quitting would lose; None if nothing is unsaved."""
        return self.document.describe_unsaved()

    @property
    def opened(self) -> OpenSpec | None:
        """The open spec."""
        return self.document.opened

    @property
    def section(self) -> Section | None:
        """The current section of the document; None for the front matter, or if no spec is open."""
        if self.opened is None or not self.at:
            return None
        return next((each for each in self.opened.document.sections if each.address == self.at), None)

    def open(self, spec: Path) -> None:
        """Show another spec; text typed in this one is kept."""
        opened = self.opened
        if opened is not None and self.section_panel.editing and resolve_path(opened.path) != resolve_path(spec):
            self.sections.commit_draft()
            self.sections.drop_editor()
        self.document.open(spec)

    # Typed text

    @on(TextArea.Changed)
    def _typed(self) -> None:
        if self._commit_timer is not None:
            self._commit_timer.stop()
        if self.section_panel.editing:
            self.document.update_recovery_soon()
            self._commit_timer = self.set_timer(COMMIT_DELAY, self._commit_draft)

    def _commit_draft(self) -> None:
        self.sections.commit_draft()
        self.document.refresh()

    def leave(self) -> bool:
        """Stop editing if the document accepts the text; else ask whether to discard it, and return False."""
        return self.sections.leave()

    def end_editing(self) -> None:
        """Stop editing."""
        self.sections.end()

    def edit_text(self) -> None:
        """Edit the text of the current section, unless that is disabled."""
        if self.section is not None and self.explain_disabled("edit-text") is None:
            self.sections.action_edit_text()

    @on(SectionEditor.Finished)
    def _finish_editing(self) -> None:
        if self.leave():
            self.focus_outline()

    @on(SectionEditor.HistoryExhausted)
    async def _continue_history(self, event: SectionEditor.HistoryExhausted) -> None:
        await self.action_act("redo" if event.redo else "undo")

    @on(Grid.Chosen, "FrontMatterGrid")
    def _change_key(self, event: Grid.Chosen) -> None:
        self.sections.edit_key(event.row.key)

    # Rendering

    def _list(self) -> None:
        context = self.context
        if context.specs is None:
            return
        errors = self._spec_errors.get_counts(self.opened)
        self._listed.show_specs(context.specs, context.overview, context.session.unsaved(), errors)
        if self.opened is None and context.specs and context.spec is None:
            self._open_soon(Path(self._listed.rows[0].key))

    @work(exclusive=True, group="errors")
    async def _count_errors(self) -> None:
        async for _ in self._spec_errors.count(self.context.specs or ()):
            self._list()

    def _specs_found(self) -> None:
        self._list()
        self._count_errors()

    def specs_changed(self, paths: Iterable[Path]) -> None:
        """Take over external changes, and count the errors of the specs that changed."""
        self.document.reload(paths)
        self._count_errors()

    def show_document(self) -> None:
        """Show the outline, the current section, and its guide."""
        if self.opened is None:
            return
        rows = outline_rows(self.opened.document, self.opened.problems)
        lost = self.at not in {row.key for row in rows}
        if lost and self.opened.rejected is not None and not self.section_panel.editing:
            self.at = self.opened.rejected.section.address
        elif lost and self.opened.rejected is None:
            self.at = rows[0].key
        self._outline.show(rows)
        self._outline.move(next((index for index, row in enumerate(rows) if row.key == self.at), 0))
        listed = next((index for index, row in enumerate(self._listed.rows) if row.key == str(self.opened.path)), None)
        if listed is not None:
            self._listed.move(listed)
        self._list()
        self._show_section()

    def show_problems(self) -> None:
        """Show the problems: icons of the outline, underlines and list."""
        if self.opened is not None:
            self._outline.show(outline_rows(self.opened.document, self.opened.problems))
            self._list()
            self._show_section()

    def _show_section(self) -> None:
        opened, section, here = self.opened, self.section, self.navigation.list_problems()
        if opened is None:
            return
        typed = opened.rejected if opened.rejected is not None and opened.rejected.section.address == self.at else None
        removed = typed is not None and section is None  # by an external change
        shown = typed.section if typed is not None and removed else section
        self.section_panel.show(opened.document, shown, here, typed.body if typed else None)
        self.section_panel.show_message(*self._build_message(typed.error if typed else None, here))
        self.section_panel.show_title(opened, section)
        self._show_guide()
        if not here and self.here is self._problems_panel:
            self.enter(self._outline_panel)
        self._problems_panel.display = bool(here)
        self._problems_panel.set_class(not here, "-extra")
        self.problem_list.show(here, offer_fixes=not self.section_panel.editing)
        total = len(opened.problems)
        self._problems_panel.note = f"{len(here)} here of {total}" if total > len(here) else f"{total} here"

    def _build_message(self, error: EditRejected | None, here: Sequence[Problem]) -> tuple[str, str]:
        """Return the message below the text: why it is rejected or, if the guide column is hidden, its first line."""
        if error is not None:
            hint = f"; {error.hint}" if error.hint else ""
            return f"{FAILED.glyph} {error.message}{hint}", "$error"
        if self._guide_column.display:
            return "", ""
        if here:
            editing = self.section_panel.editing  # letters are text then, not keys
            with_example = self.explain_disabled("example") is None and not editing
            return describe_problem(here[0], fixable=not editing, with_example=with_example)
        section = self.section
        if (
            section is None
            or self.section_panel.editing
            or not self.sections.is_blank(section)
            or self.explain_disabled("edit") is not None
        ):
            return "", ""
        example = ", i with an example" if self.explain_disabled("example") is None else ""
        return f"{guide(section.address).summary}\nenter fills it in{example}, g shows the guide", "$muted"

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
            offered += describe_test(test) if test is not None else ()
            if self.explain_disabled("try-access") is None and not editing:
                offered.append(Paragraph("t tests the credentials", "$accent"))
        elif self.explain_disabled("decompose") is None and not editing:
            offered.append(Paragraph("d creates the tasks", "$accent"))
        elif self.criteria.is_at_criteria and not editing:
            offered += self.criteria.describe()
        view.show(found, self.opened.document.body(section), offered)

    def show_test(self) -> None:
        """Show the connection test in the guide."""
        if self.is_attached:  # else the app is being closed
            self._show_guide()
            self.refresh_bindings()

    def show_guide_panel(self) -> None:
        """Make the guide visible, which shows test results."""
        self.add_class("-guide")
        if not self.screen.has_class("-wide"):
            self.enter(self._guide_panel)
        self.call_after_refresh(self._show_section)

    # Navigation

    @on(Grid.Moved, "SpecList")
    def _open_under_cursor(self) -> None:
        row = self._listed.row
        if row is not None and self._listed.has_focus:
            self._open_soon(Path(row.key))

    def _open_soon(self, path: Path) -> None:
        if self._open_timer is not None:
            self._open_timer.stop()
        self._open_timer = self.set_timer(OPEN_DELAY, partial(self._open, path))

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
    def _select_section(self) -> None:
        row = self._outline.row
        if row is None or row.key == self.at:
            return
        if self.section_panel.editing and not self.leave():
            self.show_document()  # the cursor returns to the edited section
            return
        self.at = row.key
        self._show_section()
        self.refresh_bindings()

    def go_to(self, address: str) -> None:
        """Go to the section at `address`."""
        self.navigation.go_to(address)

    async def show_change(self, line: int, column: int) -> None:
        """Go to the section that changed."""
        self.navigation.show_change(line, column)

    @on(OptionList.OptionSelected, "ProblemList")
    def _go_to_problem(self) -> None:
        problem = self.problem_list.problem
        if problem is not None and self.navigation.go_to_problem(problem):
            self.edit_text()

    def _mark(self, panel: Panel) -> None:
        """Make the column of the focused panel visible on a narrow screen."""
        for column in (self._sidebar, self._guide_column):
            column.set_class(panel in column.children, "-here")
        super()._mark(panel)

    def commands(self) -> Iterable[Command]:
        """Yield a command per spec and per section."""
        for spec in self.context.specs or ():
            yield Command(spec.spec_id, "open", partial(self.context.open_spec, spec.path), spec.title)
        yield from self.navigation.list_commands()

    # Actions

    def actions(self) -> Sequence[Action]:
        """Return the actions; while text is edited, only those whose keys are not text."""
        if self.section_panel.editing:
            return WHILE_WRITING
        return [action for action in SPECS if action.id != "stop-trying" or self.connection.running]

    def explain_disabled(self, action: str) -> str | None:
        """Return why an action is disabled."""
        if action in {"preview", "guide"} and self.opened is None:
            return "no spec is open"
        if action == "preview" and self.section is None:
            return "the front matter has no preview"
        return super().explain_disabled(action)

    def focus_outline(self) -> None:
        """Focus the outline."""
        self.enter(self._outline_panel)

    def action_preview(self) -> None:
        """Switch between the rendered section and its text."""
        if self.section_panel.editing and not self.leave():
            return
        self.section_panel.previewing = not self.section_panel.previewing
        self._show_section()

    def action_guide(self) -> None:
        """Switch between guide and outline."""
        self.toggle_class("-guide")
        self.enter(self._guide_panel if self.has_class("-guide") else self._outline_panel)
        self.call_after_refresh(self._show_section)

    def on_resize(self) -> None:
        """Fit title and message to the new size; a hidden panel loses the focus."""
        self.call_after_refresh(self._fit)

    def _fit(self) -> None:
        if not self._sidebar.display and self.here in self._sidebar.children:
            self.enter(self._guide_panel)
        self._show_section()
