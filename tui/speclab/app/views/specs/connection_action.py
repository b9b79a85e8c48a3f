"""Connection tests in the Specs view: running one, the login it may need, and its result as text."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Final

from textual.binding import BindingType
from textual.widget import Widget
from textual.widgets import Static

from speclab.app.actions import Action, Controller, bindings
from speclab.app.dialogs import Dialog
from speclab.app.formatting import exactly
from speclab.app.icons import ELLIPSIS, FAILED, IDLE, RUNNING, WELL, Icon
from speclab.app.trust import may_use
from speclab.app.views.specs.guide import Paragraph
from speclab.app.views.specs.host import SpecsHost
from speclab.app.views.specs.section_actions import SectionActions
from speclab.app.widgets.record import RecordView
from speclab.connectors.auth.oauth2 import has_browser, open_browser
from speclab.core.errors import EndpointError, SpeclabError, UnresolvedReference
from speclab.spec.units import format_duration
from speclab.workbench.connection_tests import ConnectionCallbacks, ConnectionTest, ConnectionTests, get_role

if TYPE_CHECKING:
    from speclab.connectors.auth.login import LoginPrompt
    from speclab.connectors.check import ConnectionCheck
    from speclab.spec.integration import Endpoint, Role


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
        page.tell_text(prompt.url if prompt.code else self._page)
        within = f"within {format_duration(prompt.seconds)}"
        if prompt.code:
            first = Static(f"Open this page on any device, and enter the code there, {within}.", markup=False)
            return (first, page, Static(prompt.code, id="code", markup=False), self._waiting())
        here = "The browser is sent back to this machine, so use one here."
        return (Static(f"Log in on this page, {within}. {here}", markup=False), page, self._waiting())

    def _waiting(self) -> Static:
        return Static("This closes when it is done.", classes="quiet", markup=False)

    def why_not(self, action: str) -> str | None:
        """Return why the page cannot be opened: over SSH there is no browser beside the terminal."""
        if action == "open" and not has_browser():
            return "there is no browser beside this terminal: y copies the address"
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


_COLOURS: Final = {WELL: "$success", FAILED: "$error", IDLE: "$muted", RUNNING: "$accent"}
_MOST: Final = 12
"""Lines of a response that are shown; `speclab auth` prints all of it."""


def paragraphs(test: ConnectionTest) -> Iterator[Paragraph]:
    """Yield the steps of a connection test and its result."""
    yield Paragraph(test.title, "bold")
    error = test.error or (test.check.error if test.check is not None else None)
    if test.check is not None:
        yield from _steps(test.check, unresolved=isinstance(error, UnresolvedReference))
    for report in test.reports:
        yield _line(IDLE, report, "$muted")
    if test.step:
        yield _line(RUNNING, f"{test.step} {ELLIPSIS}")
        yield Paragraph("esc stops it", "$muted", indent=2)
    elif test.stopped:
        yield _line(IDLE, "stopped", "$muted")
    elif error is not None:
        yield from _failure(error)
    else:
        yield _line(WELL, "connected", "bold")


def _steps(check: ConnectionCheck, *, unresolved: bool) -> Iterator[Paragraph]:
    if check.references:
        names = ", ".join(check.references)
        yield _line(IDLE, f"names {names}", "$muted") if unresolved else _line(WELL, f"found {names}")
    if check.token is not None:
        until = check.token_expires_at
        valid = f"valid until {exactly(until)}" if until else "without an expiry"
        yield _line(WELL, f"{'a new' if check.is_new else 'the kept'} token, {valid}")
    if check.request:
        yield _line(WELL, check.request)


def _failure(error: SpeclabError) -> Iterator[Paragraph]:
    """Yield the error and its hint, then the request and the response."""
    yield _line(FAILED, error.message)
    if error.hint:
        yield Paragraph(error.hint, "$accent", indent=2)
    if isinstance(error, EndpointError):
        for name, text in (("request", error.request), ("response", error.response)):
            lines = text.splitlines()
            if lines:
                yield Paragraph(name, "$secondary", indent=2)
            yield from (Paragraph(line, "$muted", indent=2, hang=2) for line in lines[:_MOST])
            if len(lines) > _MOST:
                yield Paragraph(f"{ELLIPSIS} {len(lines) - _MOST} more lines", "$muted", indent=2)


def _line(mark: Icon, text: str, style: str = "") -> Paragraph:
    return Paragraph(text, style, f"{mark.glyph} ", _COLOURS[mark], hang=2)


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
        """The last test of the system whose section is shown, if it is still of this text."""
        opened, role = self._host.opened, self.role
        return self._tests.get(opened.document, opened.path, role) if opened is not None and role is not None else None

    @property
    def running(self) -> bool:
        """Whether a test is running."""
        return self._cancel is not None

    def why_not(self, action: str) -> str | None:
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
            self._sections.take()
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
