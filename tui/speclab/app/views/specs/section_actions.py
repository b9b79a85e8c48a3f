"""Actions on a section: examples, fixes, connection tests."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Final

from textual.binding import BindingType
from textual.widget import Widget
from textual.widgets import Static

from speclab.app.actions import Action, Controller, bindings
from speclab.app.dialogs import ChoiceDialog, ConfirmDialog, Dialog, PromptDialog, may_use
from speclab.app.views.specs import editor
from speclab.app.views.specs.lists import SpecsHost
from speclab.app.widgets.grid import GridRow
from speclab.app.widgets.record import RecordView
from speclab.connectors.auth.oauth2 import has_browser, open_browser
from speclab.core.errors import EditRejected, SpeclabError
from speclab.spec.address import write
from speclab.spec.document import Document, Section
from speclab.spec.guide import SectionForm, guide, is_template_text
from speclab.spec.integration import find_first_line
from speclab.spec.settings_types import format_duration
from speclab.spec.workspace import STATUSES
from speclab.workbench.launcher import ConnectionCallbacks, ConnectionTest, ConnectionTests, get_role
from speclab.workbench.open_specs import OpenSpec, apply_fix

if TYPE_CHECKING:
    from speclab.connectors.auth.login import LoginPrompt
    from speclab.spec.integration import Endpoint, Role


_STATUS_TEXTS: Final = {
    "draft": "being written; runs only on demand",
    "approved": "agreed, not in use yet",
    "in-progress": "in use: `speclab up` runs it on its schedule",
    "completed": "finished, kept for reference",
}
_OTHER: Final = "another"


class SectionActions(Controller):
    """Edits the current section of the open spec."""

    def __init__(self, host: SpecsHost, set_status: Callable[[OpenSpec, str], Awaitable[None]]) -> None:
        self._host = host
        self._set_status = set_status
        self._held: Section | None = None  # the section being edited, in case an external change removes it
        self._edits = 0  # typing between entering and leaving the editor is one undo step

    def is_blank(self, section: Section) -> bool:
        """Return whether the section has no text yet, or only that of the template."""
        opened = self._host.opened
        return opened is not None and (section.empty or is_template_text(opened.document, section))

    def explain_disabled(self, action: str) -> str | None:
        """Return why an action on the section is disabled."""
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
            return "the spec is being checked" if checking else "this problem has no automatic fix"
        if section is None:
            return "the front matter is edited key by key: enter"
        if action == "example" and not guide(section.address).example:
            return "this section has no example"
        if action == "example" and not self.is_blank(section):
            return "the section already has text"
        return None

    # Editing as text

    def action_edit(self) -> None:
        """Ask for the choice of the section, or edit its text or the key under the cursor."""
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
        except EditRejected as error:
            self._host.context.show_error("Cannot be edited here", error)
            return
        self._held = self._host.section
        self._edits += 1
        self._host.show_document()
        self._host.refresh_bindings()

    @property
    def has_draft(self) -> bool:
        """Whether text was typed that is not in the document yet."""
        return self._host.section_panel.has_draft

    def prepare_save(self) -> bool:
        """Return True: editing continues after saving."""
        return True

    def draft(self) -> str | None:
        """Return the whole document with the text that is being typed; None if the document contains it."""
        opened, section, body = self._host.opened, self._host.section, self._host.section_panel.draft()
        if opened is None or body is None:
            return None
        if section is None:  # an external change removed the section: keep its text beside the document
            self.commit_draft()
            return None
        return opened.with_draft(section, body)

    def commit_draft(self) -> None:
        """Bring the typed text into the document, or keep it as rejected text."""
        opened, panel, section = self._host.opened, self._host.section_panel, self._host.section or self._held
        if opened is None or section is None:
            return
        body = panel.take_draft()
        if body is None:
            return
        opened.write_section(section, body, f"{section.address} {self._edits}")
        rejected, now = opened.rejected, self._host.section
        if rejected is not None:
            panel.mark_committed(rejected.body)
        elif now is not None:
            panel.mark_committed(opened.document.body(now))

    def leave(self) -> bool:
        """Stop editing if the document accepts the text; else ask whether to discard it, and return False."""
        self.commit_draft()
        opened = self._host.opened
        if opened is not None and opened.rejected is not None:
            self._host.run_in_background(partial(self._ask_to_discard, opened, opened.rejected.error), "ask")
            return False
        self.end()
        return True

    def end(self) -> None:
        """Stop editing."""
        self.drop_editor()
        self._host.document.refresh()

    def drop_editor(self) -> None:
        """Stop editing, without showing the document again."""
        self._held = None
        self._host.section_panel.end()

    async def _ask_to_discard(self, opened: OpenSpec, error: EditRejected) -> None:
        message = f"{error.message[:1].upper()}{error.message[1:]}. {error.hint}"
        question = ConfirmDialog("this text cannot be saved here", message, yes="discard it", no="keep editing")
        if await self._host.context.push_screen_wait(question):
            opened.discard_rejected()
            self.end()
            self._host.focus_outline()

    # Choices, and values of the front matter

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
            self._host.document.change(section.title, partial(_with_choice, section=section, text=chosen))

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
            status = await context.push_screen_wait(ChoiceDialog("status", options, now=now))
            if status is not None and status != now:
                await self._set_status(opened, status)
            return
        span = opened.document.front_matter.get_span(key)
        written = span.of(opened.document.text) if span else ""
        value = await context.push_screen_wait(PromptDialog(key, "The value, as text.", value=now or written))
        if value is not None and value != now:
            self._host.document.change(key, lambda document: write(document, key, value))

    # Examples, fixes, external editor

    def action_example(self) -> None:
        """Start the section with the example of the guide."""
        section = self._host.section
        if section is None:
            return
        example = guide(section.address).example
        if self._host.document.change(
            f"example in {section.title}", lambda document: document.with_body(section, example)
        ):
            self.action_edit_text()

    def _is_fixable(self, opened: OpenSpec) -> bool:
        problem = self._host.problem_list.problem
        return problem is not None and problem.fix is not None and opened.checked is opened.document

    def action_fix(self) -> None:
        """Fix the problem under the cursor, or the first."""
        problem = self._host.problem_list.problem
        if problem is not None:
            self._host.document.change(f"fix of {problem.code}", partial(apply_fix, problem=problem))

    def action_editor(self) -> None:
        """Edit the section in an external editor; the app waits."""
        opened, section = self._host.opened, self._host.section
        if opened is None or section is None or (self._host.section_panel.editing and not self.leave()):
            return
        body = opened.document.body(section)
        try:
            with self._host.context.suspend():
                after = editor.edit_externally(body, section.title)
        except SpeclabError as error:
            self._host.context.show_error("Not edited", error)
            return
        if after.rstrip("\r\n") != body:
            self._host.document.change(f"edit of {section.title}", lambda document: document.with_body(section, after))


def _with_choice(document: Document, section: Section, text: str) -> Document:
    body = document.body(section)
    line = find_first_line(body)
    if line is None:
        return document.with_body(section, f"{body}{document.newline * 2}{text}" if body else text)
    return document.with_body(section, body[: line.start] + text + body[line.end :])


GIVE_UP: Final = Action("give-up", "give up", "Do not log in; the test ends.", ("escape",))
OPEN: Final = Action("open", "open here", "Open the page in the browser beside this terminal.", ("o",))
COPY: Final = Action("copy", "copy the address", "Copy the page's address to the clipboard.", ("y",))


class LoginDialog(Dialog[bool]):
    """Shows a login until the test closes it; the result is True if the login was given up."""

    ACTIONS = (OPEN, COPY, GIVE_UP)
    BINDINGS: ClassVar[list[BindingType]] = bindings(ACTIONS)
    DEFAULT_CSS = """
    LoginDialog RecordView { height: auto; max-height: 12; margin: 1 0; }
    LoginDialog #code { color: $accent; text-style: bold; margin-bottom: 1; }
    LoginDialog .quiet { color: $muted; }
    """

    def __init__(self, title: str, prompt: LoginPrompt) -> None:
        super().__init__(title)
        self._prompt = prompt
        self._page = prompt.direct or prompt.url
        self._to_close = False

    def inside(self) -> Sequence[Widget]:
        """Return the instructions, the address and the code."""
        prompt, page = self._prompt, RecordView()
        page.show_text(prompt.url if prompt.code else self._page)
        within = f"within {format_duration(prompt.seconds)}"
        if prompt.code:
            first = Static(f"Open this page on any device, and enter the code there, {within}.", markup=False)
            return (first, page, Static(prompt.code, id="code", markup=False), self._waiting())
        here = "The browser is sent back to this machine, so use one here."
        return (Static(f"Log in on this page, {within}. {here}", markup=False), page, self._waiting())

    def _waiting(self) -> Static:
        return Static("This dialog closes after the login.", classes="quiet", markup=False)

    def explain_disabled(self, action: str) -> str | None:
        """Return why the page cannot be opened: over SSH it would open on the other machine."""
        if action == "open" and not has_browser():
            return "no browser on this machine: y copies the address"
        return None

    def action_open(self) -> None:
        """Open the page in the browser."""
        open_browser(self._page)

    def action_copy(self) -> None:
        """Copy the page's address."""
        self.app.copy_to_clipboard(self._page)
        self.notify("The address is in the clipboard.", timeout=3)

    def close(self) -> None:
        """Close the dialog, once no other screen is above it."""
        self._to_close = True
        self.on_screen_resume()

    def on_screen_resume(self) -> None:
        """Close the dialog if wanted: only the topmost screen can be closed, and only once."""
        if self._to_close and self.is_active:
            self._to_close = False
            self.dismiss(False)

    def action_give_up(self) -> None:
        """Do not log in."""
        self.dismiss(True)


TRY: Final = (
    Action("try-access", "test credentials", "Test the connection to the system of this section.", ("t",)),
    Action("stop-trying", "stop the test", "Stop the connection test.", ("escape",), footer=False),
)


class ConnectionAction(Controller):
    """Tests the connection to the system whose section is shown."""

    def __init__(self, host: SpecsHost, sections: SectionActions) -> None:
        self._host = host
        self._sections = sections
        callbacks = ConnectionCallbacks(host.show_test, self._may_use, self._show_login, self._close_login)
        self._tests = ConnectionTests(callbacks)
        self._cancel: Callable[[], None] | None = None
        self._login: LoginDialog | None = None

    @property
    def role(self) -> Role | None:
        """The system whose section is shown."""
        return get_role(self._host.section.title) if self._host.section is not None else None

    @property
    def test(self) -> ConnectionTest | None:
        """The last test of the system whose section is shown, if it tested the current text."""
        opened, role = self._host.opened, self.role
        return self._tests.get(opened.document, opened.path, role) if opened is not None and role is not None else None

    @property
    def running(self) -> bool:
        """Whether a test is running."""
        return self._cancel is not None

    def explain_disabled(self, action: str) -> str | None:
        """Return why the connection cannot be tested."""
        if action != "try-access":
            return None
        if self._host.opened is None:
            return "no spec is open"
        if self.role is None:
            return "tests start from the sections Source System, Target System and their Auth"
        return "a test is running; esc stops it" if self.running else None

    def action_try_access(self) -> None:
        """Test the connection."""
        if (role := self.role) is not None:
            self._sections.commit_draft()
            self._cancel = self._host.run_in_background(partial(self._run, role), "test")
            self._host.refresh_bindings()
            self._host.show_guide_panel()

    async def _run(self, role: Role) -> None:
        opened = self._host.opened
        try:
            if opened is not None:
                await self._tests.run(opened.document, opened.path, role)
        finally:
            self._cancel = None
            self._host.show_test()

    def action_stop_trying(self) -> None:
        """Stop the test."""
        if self._cancel is not None:
            self._cancel()

    async def _may_use(self, path: Path, endpoint: Endpoint) -> bool:
        return await may_use(self._host.context, path, [endpoint])

    def _show_login(self, role: Role, prompt: LoginPrompt) -> None:
        self._close_login()
        self._login = LoginDialog(f"log in at the {role}", prompt)
        self._host.context.push_screen(self._login, self._on_login_closed)

    def _on_login_closed(self, gave_up: bool | None) -> None:  # noqa: FBT001 (the result of the dialog)
        if gave_up:
            self.action_stop_trying()

    def _close_login(self) -> None:
        login, self._login = self._login, None
        if login is not None:
            login.close()
