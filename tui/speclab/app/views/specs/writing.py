"""Writing in the section in hand: by keys, by choosing, by an example, by a fix, or in an editor outside."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Final

from textual import on, work
from textual.timer import Timer
from textual.widgets import TextArea

from speclab.app.context import AppContext
from speclab.app.dialogs import ChoiceDialog, ConfirmDialog, PromptDialog
from speclab.app.views.document import DocumentView
from speclab.app.views.specs import editor
from speclab.app.views.specs.editor import SectionEditor
from speclab.app.views.specs.lists import ProblemList, mended
from speclab.app.views.specs.panel import SectionPanel
from speclab.app.widgets.grid import Grid, GridRow
from speclab.core.errors import EditRejected, SpeclabError
from speclab.core.files import resolve_path
from speclab.spec.address import write
from speclab.spec.choices import find_first_line
from speclab.spec.document import Document, Section
from speclab.spec.guide import SectionForm, guide
from speclab.spec.template import is_template_text
from speclab.spec.workspace import STATUSES
from speclab.workbench.open_specs import OpenSpec

PAUSE: Final = 0.25
"""Seconds without a key before what is typed is taken into the document."""

_STATUS_WORDS: Final = {
    "draft": "being written; runs only when it is told to",
    "approved": "agreed on, not yet at work",
    "in-progress": "at work: `speclab up` runs it on its schedule",
    "completed": "done, kept to be read",
}
_OTHER: Final = "another"


class SectionEditing(DocumentView):
    """A place with a desk, on which the section at the address `at` of the open spec is written.

    `at` is empty for the front matter, and None while there is nothing in hand.
    """

    def __init__(self, context: AppContext) -> None:
        super().__init__(context)
        self.at: str | None = None
        self.section_panel = SectionPanel()
        self.problem_list = ProblemList()
        self._held: Section | None = None  # the section that is edited, should others take it out of the file
        self._stay = 0  # which stay in the editor this is: what is typed in one is one step to undo
        self._pause: Timer | None = None

    @property
    def section(self) -> Section | None:
        """The section in hand, as the document has it; None if that is the front matter, or nothing."""
        if self.opened is None or not self.at:
            return None
        return next((each for each in self.opened.document.sections if each.address == self.at), None)

    def is_blank(self, section: Section) -> bool:
        """Whether nobody has written anything there yet."""
        return self.opened is not None and (section.empty or is_template_text(self.opened.document, section))

    def why_not(self, action: str) -> str | None:
        """Why the section cannot be written so."""
        if action not in {"edit", "edit-text", "editor", "example", "fix"}:
            return super().why_not(action)
        if self.opened is None or self.at is None:
            return "no spec is open"
        if self.opened.read_only:
            return self.opened.read_only
        section = self.section
        if action == "edit" or (action == "fix" and self._fixable(self.opened)):
            return None
        if action == "fix":
            looking = self.opened.checked is not self.opened.document
            return "problems are being looked for" if looking else "speclab knows no fix for what is here"
        if section is None:
            return "the front matter is changed key by key: enter"
        if action == "example" and not guide(section.address).example:
            return "there is no example for this section"
        if action == "example" and not self.is_blank(section):
            return "the section has text already"
        return None

    # By keys

    def action_edit(self) -> None:
        """Choose, where the section is a choice; else edit the text, or the key under the cursor."""
        section = self.section
        if section is None:
            self.section_panel.keys.action_choose()
        elif guide(section.address).form is SectionForm.CHOICE:
            self._choose(section)
        else:
            self.action_edit_text()

    def action_edit_text(self) -> None:
        """Edit the section's text."""
        self.section_panel.previewing = False
        self.show_document()
        try:
            self.section_panel.begin()
        except EditRejected as refusal:
            self.context.tell("Cannot be edited here", refusal)
            return
        self._held = self.section
        self._stay += 1
        self.show_document()
        self.refresh_bindings()

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
        """Whether something was typed since it was last taken."""
        return self.section_panel.untaken

    def draft(self) -> str | None:
        """The text with what is being typed in the section, not verified yet."""
        body, section = self.section_panel.draft(), self.section
        if self.opened is None or body is None:
            return None
        if section is None:  # the section was removed from the file: keep its text beside the document
            self.take()
            return None
        return self.opened.with_draft(section, body)

    def take(self) -> None:
        """Bring what was typed into the document, or keep it beside where the document refuses it."""
        section = self.section or self._held
        if self.opened is None or section is None:
            return
        body = self.section_panel.written()
        if body is None:
            return
        self.opened.type(section, body, f"{section.address} {self._stay}")
        typed, now = self.opened.typed, self.section
        if typed is not None:
            self.section_panel.taken(typed.body)
        elif now is not None:
            self.section_panel.taken(self.opened.document.body(now))

    @on(SectionEditor.Left)
    def _left(self) -> None:
        if self.leave():
            self.step_back()

    def step_back(self) -> None:
        """Editing has ended: give the focus to where one came from."""

    def leave(self) -> bool:
        """Stop editing, if the document takes what was written; else ask, and stay."""
        self.take()
        if self.opened is not None and self.opened.typed is not None:
            self._ask_to_give_up(self.opened.typed.refusal)
            return False
        self._end()
        return True

    def _end(self) -> None:
        self._held = None
        self.section_panel.end()
        self.changed()

    def open(self, spec: Path) -> None:
        """Show another spec; what is written in this one is in it, or kept beside it."""
        if (
            self.opened is not None
            and self.section_panel.editing
            and resolve_path(self.opened.path) != resolve_path(spec)
        ):
            self.take()
            self._held = None
            self.section_panel.end()
        super().open(spec)

    @work(group="ask")
    async def _ask_to_give_up(self, refusal: EditRejected) -> None:
        message = f"{refusal.message[:1].upper()}{refusal.message[1:]}. {refusal.hint}"
        question = ConfirmDialog("this text is not allowed here", message, yes="give it up", no="keep editing")
        if await self.app.push_screen_wait(question) and self.opened is not None:
            self.opened.drop_typed()
            self._end()
            self.step_back()

    @on(SectionEditor.Beyond)
    async def _beyond(self, event: SectionEditor.Beyond) -> None:
        await self.action_act("redo" if event.redo else "undo")

    # By choosing

    @work(group="ask")
    async def _choose(self, section: Section) -> None:
        if self.opened is None:
            return
        body = self.opened.document.body(section)
        line = find_first_line(body)
        options = [
            GridRow(choice.text, (choice.text, choice.summary if choice.runs else f"{choice.summary} (not run yet)"))
            for choice in guide(section.address).choices
        ]
        options.append(GridRow(_OTHER, ("another", "write it as text")))
        now = line.of(body) if line else ""
        chosen = await self.app.push_screen_wait(ChoiceDialog(section.title.lower(), options, now=now))
        if chosen == _OTHER:
            self.action_edit_text()
        elif chosen is not None:
            self.change(section.title, partial(_with_choice, section=section, text=chosen))

    @on(Grid.Chosen, "FrontMatterGrid")
    @work(group="ask")
    async def _change_key(self, event: Grid.Chosen) -> None:
        opened, key = self.opened, event.row.key
        if opened is None:
            return
        if opened.read_only:
            self.notify(opened.read_only, title=f"Not now: change {key}", severity="warning")
            return
        now = str(opened.document.front_matter.get(key) or "")
        if key == "status":
            options = [GridRow(word, (word, _STATUS_WORDS[word])) for word in STATUSES]
            value = await self.app.push_screen_wait(ChoiceDialog("status", options, now=now))
        else:
            span = opened.document.front_matter.get_span(key)
            written = span.of(opened.document.text) if span else ""
            value = await self.app.push_screen_wait(PromptDialog(key, "The value, as text.", value=now or written))
        if value is not None and value != now:
            self.change(key, lambda document: write(document, key, value))

    # By an example, a fix, an editor outside

    def action_example(self) -> None:
        """Begin the section with the guide's example."""
        section = self.section
        if section is None:
            return
        example = guide(section.address).example
        if self.change(f"example in {section.title}", lambda document: document.with_body(section, example)):
            self.action_edit_text()

    def _fixable(self, opened: OpenSpec) -> bool:
        problem = self.problem_list.problem
        return problem is not None and problem.fix is not None and opened.checked is opened.document

    def action_fix(self) -> None:
        """Mend the problem under the cursor, or the first."""
        problem = self.problem_list.problem
        if problem is not None:
            self.change(f"fix of {problem.code}", partial(mended, problem=problem))

    def action_editor(self) -> None:
        """Edit the section in the person's own editor; the app waits."""
        section = self.section
        if self.opened is None or section is None or (self.section_panel.editing and not self.leave()):
            return
        body = self.opened.document.body(section)
        try:
            with self.app.suspend():
                after = editor.edited(body, section.title)
        except SpeclabError as error:
            self.context.tell("Not edited", error)
            return
        if after.rstrip("\r\n") != body:
            self.change(f"edit of {section.title}", lambda document: document.with_body(section, after))


def _with_choice(document: Document, section: Section, text: str) -> Document:
    body = document.body(section)
    line = find_first_line(body)
    if line is None:
        return document.with_body(section, f"{body}{document.newline * 2}{text}" if body else text)
    return document.with_body(section, body[: line.start] + text + body[line.end :])
