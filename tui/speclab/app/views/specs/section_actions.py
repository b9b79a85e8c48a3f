"""Editing the current section: as text, by a choice, from an example, by a fix, or in an external editor."""

from __future__ import annotations

from functools import partial
from typing import Final

from speclab.app.actions import Controller
from speclab.app.dialogs import ChoiceDialog, ConfirmDialog, PromptDialog
from speclab.app.views.specs import editor
from speclab.app.views.specs.host import SpecsHost
from speclab.app.widgets.grid import GridRow
from speclab.core.errors import EditRejected, SpeclabError
from speclab.spec.address import write
from speclab.spec.choices import find_first_line
from speclab.spec.document import Document, Section
from speclab.spec.guide import SectionForm, guide
from speclab.spec.template import is_template_text
from speclab.spec.workspace import STATUSES
from speclab.workbench.open_specs import OpenSpec
from speclab.workbench.outline import apply_fix

_STATUS_TEXTS: Final = {
    "draft": "being written; runs only on demand",
    "approved": "agreed, not in use yet",
    "in-progress": "in use: `speclab up` runs it on its schedule",
    "completed": "finished, kept for reference",
}
_OTHER: Final = "another"


class SectionActions(Controller):
    """Edits the current section of the open spec."""

    def __init__(self, host: SpecsHost) -> None:
        self._host = host
        self._held: Section | None = None  # the section being edited, in case an external change removes it
        self._edits = 0  # what is typed between entering and leaving the editor is one step to undo

    def is_blank(self, section: Section) -> bool:
        """Return whether the section has no text yet, or only that of the template."""
        opened = self._host.opened
        return opened is not None and (section.empty or is_template_text(opened.document, section))

    def why_not(self, action: str) -> str | None:
        """Return why the section cannot be edited so."""
        if action not in {"edit", "edit-text", "editor", "example", "fix"}:
            return None
        opened, section = self._host.opened, self._host.section
        if opened is None or self._host.at is None:
            return "no spec is open"
        if opened.read_only:
            return opened.read_only
        if action == "edit" or (action == "fix" and self._is_fixable(opened)):
            return None
        if action == "fix":
            checking = opened.checked is not opened.document
            return "the spec is being checked" if checking else "there is no automatic fix here"
        if section is None:
            return "the front matter is edited key by key: enter"
        if action == "example" and not guide(section.address).example:
            return "there is no example for this section"
        if action == "example" and not self.is_blank(section):
            return "the section already has text"
        return None

    # As text

    def action_edit(self) -> None:
        """Choose, if the section is a choice; else edit its text, or the key under the cursor."""
        section = self._host.section
        if section is None:
            self._host.section_panel.keys.action_choose()
        elif guide(section.address).form is SectionForm.CHOICE:
            self._host.run_in_background(partial(self._choose, section), "ask")
        else:
            self.action_edit_text()

    def action_edit_text(self) -> None:
        """Edit the text of the section."""
        self._host.section_panel.previewing = False
        self._host.show_document()
        try:
            self._host.section_panel.begin()
        except EditRejected as refusal:
            self._host.context.tell("Cannot be edited here", refusal)
            return
        self._held = self._host.section
        self._edits += 1
        self._host.show_document()
        self._host.refresh_bindings()

    def draft(self) -> str | None:
        """Return the whole document with the text that is being typed; None if the document contains it."""
        opened, section, body = self._host.opened, self._host.section, self._host.section_panel.draft()
        if opened is None or body is None:
            return None
        if section is None:  # an external change removed the section: keep its text beside the document
            self.take()
            return None
        return opened.with_draft(section, body)

    def take(self) -> None:
        """Bring what was typed into the document, or keep it beside the document if that rejects it."""
        opened, panel, section = self._host.opened, self._host.section_panel, self._host.section or self._held
        if opened is None or section is None:
            return
        body = panel.written()
        if body is None:
            return
        opened.type(section, body, f"{section.address} {self._edits}")
        typed, now = opened.typed, self._host.section
        if typed is not None:
            panel.taken(typed.body)
        elif now is not None:
            panel.taken(opened.document.body(now))

    def leave(self) -> bool:
        """Stop editing if the document accepts what was written; else ask, and go on editing."""
        self.take()
        opened = self._host.opened
        if opened is not None and opened.typed is not None:
            self._host.run_in_background(partial(self._ask_to_discard, opened, opened.typed.refusal), "ask")
            return False
        self.end()
        return True

    def end(self) -> None:
        """Stop editing."""
        self.drop_editor()
        self._host.changed()

    def drop_editor(self) -> None:
        """Stop editing, without showing the document again."""
        self._held = None
        self._host.section_panel.end()

    async def _ask_to_discard(self, opened: OpenSpec, refusal: EditRejected) -> None:
        message = f"{refusal.message[:1].upper()}{refusal.message[1:]}. {refusal.hint}"
        question = ConfirmDialog("this text cannot be saved here", message, yes="discard it", no="keep editing")
        if await self._host.context.push_screen_wait(question):
            opened.drop_typed()
            self.end()
            self._host.focus_outline()

    # By a choice, or a value of the front matter

    async def _choose(self, section: Section) -> None:
        opened = self._host.opened
        if opened is None:
            return
        body = opened.document.body(section)
        line = find_first_line(body)
        options = [
            GridRow(choice.text, (choice.text, choice.summary if choice.runs else f"{choice.summary} (not run yet)"))
            for choice in guide(section.address).choices
        ]
        options.append(GridRow(_OTHER, ("another", "write it as text")))
        now = line.of(body) if line else ""
        chosen = await self._host.context.push_screen_wait(ChoiceDialog(section.title.lower(), options, now=now))
        if chosen == _OTHER:
            self.action_edit_text()
        elif chosen is not None:
            self._host.change(section.title, partial(_with_choice, section=section, text=chosen))

    def edit_key(self, key: str) -> None:
        """Ask for the value of a key of the front matter."""
        opened = self._host.opened
        if opened is None:
            return
        if opened.read_only:
            self._host.context.notify(opened.read_only, title=f"Not now: change {key}", severity="warning")
            return
        self._host.run_in_background(partial(self._ask_for_value, opened, key), "ask")

    async def _ask_for_value(self, opened: OpenSpec, key: str) -> None:
        context = self._host.context
        now = str(opened.document.front_matter.get(key) or "")
        if key == "status":
            options = [GridRow(status, (status, _STATUS_TEXTS[status])) for status in STATUSES]
            value = await context.push_screen_wait(ChoiceDialog("status", options, now=now))
        else:
            span = opened.document.front_matter.get_span(key)
            written = span.of(opened.document.text) if span else ""
            value = await context.push_screen_wait(PromptDialog(key, "The value, as text.", value=now or written))
        if value is not None and value != now:
            self._host.change(key, lambda document: write(document, key, value))

    # By an example, a fix, an external editor

    def action_example(self) -> None:
        """Start the section with the example of the guide."""
        section = self._host.section
        if section is None:
            return
        example = guide(section.address).example
        if self._host.change(f"example in {section.title}", lambda document: document.with_body(section, example)):
            self.action_edit_text()

    def _is_fixable(self, opened: OpenSpec) -> bool:
        problem = self._host.problem_list.problem
        return problem is not None and problem.fix is not None and opened.checked is opened.document

    def action_fix(self) -> None:
        """Fix the problem under the cursor, or the first."""
        problem = self._host.problem_list.problem
        if problem is not None:
            self._host.change(f"fix of {problem.code}", partial(apply_fix, problem=problem))

    def action_editor(self) -> None:
        """Edit the section in an external editor; the app waits."""
        opened, section = self._host.opened, self._host.section
        if opened is None or section is None or (self._host.section_panel.editing and not self.leave()):
            return
        body = opened.document.body(section)
        try:
            with self._host.suspend_app():
                after = editor.edited(body, section.title)
        except SpeclabError as error:
            self._host.context.tell("Not edited", error)
            return
        if after.rstrip("\r\n") != body:
            self._host.change(f"edit of {section.title}", lambda document: document.with_body(section, after))


def _with_choice(document: Document, section: Section, text: str) -> Document:
    body = document.body(section)
    line = find_first_line(body)
    if line is None:
        return document.with_body(section, f"{body}{document.newline * 2}{text}" if body else text)
    return document.with_body(section, body[: line.start] + text + body[line.end :])
