"""A login that a person has to do: the page to open, the code to enter there, and the wait until it is done."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar, Final

from textual.binding import BindingType
from textual.widget import Widget
from textual.widgets import Static

from speclab.app.actions import Action, bindings
from speclab.app.widgets.dialogs import Dialog
from speclab.app.widgets.record import Lines
from speclab.connectors.auth.browser import has_browser, open_page
from speclab.spec.units import duration_text

if TYPE_CHECKING:
    from speclab.connectors.auth.login import Prompt

GIVE_UP: Final = Action("give-up", "give up", "Do not log in; the try ends there.", ("escape",))
OPEN: Final = Action("open", "open here", "Open the page in the browser beside this terminal.", ("o",))
COPY: Final = Action("copy", "copy the address", "Copy the page's address to the clipboard.", ("y",))


class LoginDialog(Dialog[bool]):
    """Shows a login until whoever waits for it closes it; the result is True if the person gave it up."""

    ACTIONS = (OPEN, COPY, GIVE_UP)
    BINDINGS: ClassVar[list[BindingType]] = bindings(ACTIONS)
    DEFAULT_CSS = """
    LoginDialog Lines { height: auto; max-height: 12; margin: 1 0; }
    LoginDialog #code { color: $accent; text-style: bold; margin-bottom: 1; }
    LoginDialog .quiet { color: $muted; }
    """

    def __init__(self, title: str, prompt: Prompt) -> None:
        super().__init__(title)
        self._prompt = prompt
        self._page = prompt.direct or prompt.url
        self._to_close = False

    def inside(self) -> Sequence[Widget]:
        """What to do, where, and with which code."""
        prompt, page = self._prompt, Lines()
        page.tell_text(prompt.url if prompt.code else self._page)
        within = f"within {duration_text(prompt.seconds)}"
        if prompt.code:
            first = Static(f"Open this page on any device, and enter the code there, {within}.", markup=False)
            return (first, page, Static(prompt.code, id="code", markup=False), self._waiting())
        here = "The browser comes back to this machine, so it has to be one here."
        return (Static(f"Log in on this page, {within}. {here}", markup=False), page, self._waiting())

    def _waiting(self) -> Static:
        return Static("This closes when it is done.", classes="quiet", markup=False)

    def why_not(self, action: str) -> str | None:
        """Over SSH there is no browser beside the terminal."""
        if action == "open" and not has_browser():
            return "there is no browser beside this terminal: y copies the address"
        return None

    def action_open(self) -> None:
        """Open the page in the browser."""
        open_page(self._page)

    def action_copy(self) -> None:
        """Copy the page's address."""
        self.app.copy_to_clipboard(self._page)
        self.notify("The address is in the clipboard.", timeout=3)

    def close(self) -> None:
        """Nobody waits for it any more: close it, or have it closed once what is above it is."""
        self._to_close = True
        self.on_screen_resume()

    def on_screen_resume(self) -> None:
        """Close it if that is wanted: only the topmost screen can be closed, and only once."""
        if self._to_close and self.is_active:
            self._to_close = False
            self.dismiss(False)

    def action_give_up(self) -> None:
        """Do not log in."""
        self.dismiss(True)
