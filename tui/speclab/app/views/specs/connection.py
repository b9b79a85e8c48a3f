"""Connection checks in the Specs view, with a login where the system needs one."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Final

from textual import work
from textual.binding import BindingType
from textual.widget import Widget
from textual.widgets import Static
from textual.worker import Worker

from speclab.app.actions import Action, bindings
from speclab.app.dialogs import Dialog
from speclab.app.formatting import exactly
from speclab.app.icons import ELLIPSIS, FAILED, IDLE, RUNNING, WELL, Icon
from speclab.app.trust import may_use
from speclab.app.views.specs.guide import Paragraph
from speclab.app.views.specs.writing import SectionEditing
from speclab.app.widgets.record import RecordView
from speclab.connectors.auth.oauth2 import has_browser, open_browser
from speclab.core.errors import EndpointError, SpecError, SpeclabError, UnresolvedReference
from speclab.core.outcome import Level
from speclab.spec.document import SOURCE_AUTH, SOURCE_SYSTEM, TARGET_AUTH, TARGET_SYSTEM, Document
from speclab.spec.outline import comparable
from speclab.spec.units import format_duration
from speclab.workbench.samples import loaded

if TYPE_CHECKING:
    from speclab.app.context import AppContext
    from speclab.connectors.auth.login import LoginPrompt
    from speclab.connectors.check import ConnectionCheck
    from speclab.spec.integration import Endpoint, Role


GIVE_UP: Final = Action("give-up", "give up", "Do not log in; the try ends there.", ("escape",))
OPEN: Final = Action("open", "open here", "Open the page in the browser beside this terminal.", ("o",))
COPY: Final = Action("copy", "copy the address", "Copy the page's address to the clipboard.", ("y",))


class LoginDialog(Dialog[bool]):
    """Shows a login until whoever waits for it closes it; the result is True if the person gave it up."""

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
        """What to do, where, and with which code."""
        prompt, page = self._prompt, RecordView()
        page.tell_text(prompt.url if prompt.code else self._page)
        within = f"within {format_duration(prompt.seconds)}"
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
        open_browser(self._page)

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


_COLOURS: Final = {WELL: "$success", FAILED: "$error", IDLE: "$muted", RUNNING: "$accent"}
_MOST: Final = 12
"""Lines of an answer that are shown; `speclab auth` shows all there is."""


@dataclass(frozen=True, slots=True)
class ConnectionTrial:
    """A try, as far as it has come: `doing` says what is waited for, and is empty once it is over.

    `of` is what the end's sections said when it began: where they say something else by now, it tells nothing any
    more. `reports` are what the connector told on the way, `refusal` is why it could not even begin.
    """

    of: tuple[str, ...]
    title: str
    doing: str = ""
    access: ConnectionCheck | None = None
    reports: tuple[str, ...] = ()
    refusal: SpeclabError | None = None
    stopped: bool = False

    def paragraphs(self) -> Iterator[Paragraph]:
        """What happened, line by line."""
        yield Paragraph(self.title, "bold")
        error = self.refusal or (self.access.error if self.access is not None else None)
        if self.access is not None:
            yield from _steps(self.access, unresolved=isinstance(error, UnresolvedReference))
        for report in self.reports:
            yield _line(IDLE, report, "$muted")
        if self.doing:
            yield _line(RUNNING, f"{self.doing} {ELLIPSIS}")
            yield Paragraph("esc stops it", "$muted", indent=2)
        elif self.stopped:
            yield _line(IDLE, "stopped", "$muted")
        elif error is not None:
            yield from _failure(error)
        else:
            yield _line(WELL, "let in", "bold")


def _steps(access: ConnectionCheck, *, unresolved: bool) -> Iterator[Paragraph]:
    if access.references:
        names = ", ".join(access.references)
        yield _line(IDLE, f"names {names}", "$muted") if unresolved else _line(WELL, f"found {names}")
    if access.token is not None:
        until = access.token_expires_at
        good = f"good until {exactly(until)}" if until else "for as long as the server likes"
        yield _line(WELL, f"{'a new' if access.is_new else 'the kept'} token, {good}")
    if access.request:
        yield _line(WELL, access.request)


def _failure(error: SpeclabError) -> Iterator[Paragraph]:
    """What is wrong and what to do; below, for whoever wants to know, what was asked and answered."""
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


def _line(mark: Icon, words: str, style: str = "") -> Paragraph:
    return Paragraph(words, style, f"{mark.glyph} ", _COLOURS[mark], hang=2)


TRY: Final = (
    Action("try-access", "test credentials", "Try to get in at the system whose section this is.", ("t",)),
    Action("stop-trying", "stop the test", "Stop trying to get in.", ("escape",), footer=False),
)

_ADDRESSES: Final[dict[Role, tuple[str, str]]] = {
    "source": (SOURCE_SYSTEM, SOURCE_AUTH),
    "target": (TARGET_SYSTEM, TARGET_AUTH),
}
_TITLES: Final = {
    role: tuple(comparable(address.rpartition(" > ")[2]) for address in addresses)
    for role, addresses in _ADDRESSES.items()
}
"""The titles of the sections that say how an end is reached."""


class ConnectionTesting(SectionEditing):
    """A place that tries the credentials of the end whose section is in hand."""

    def __init__(self, context: AppContext) -> None:
        super().__init__(context)
        self._trials: dict[tuple[Path, Role], ConnectionTrial] = {}
        self._worker: Worker[None] | None = None
        self._login: LoginDialog | None = None

    def show_trial(self) -> None:
        """Show `trial`; it has come further."""
        raise NotImplementedError

    @property
    def role(self) -> Role | None:
        """The end whose section is in hand."""
        title = comparable(self.section.title) if self.section is not None else ""
        return next((role for role, titles in _TITLES.items() if title in titles), None)

    @property
    def trial(self) -> ConnectionTrial | None:
        """The last try of the end in hand, if its sections are still what was tried."""
        if self.opened is None or (role := self.role) is None:
            return None
        trial = self._trials.get((self.opened.path, role))
        return trial if trial is not None and trial.of == _said(self.opened.document, role) else None

    def why_not(self, action: str) -> str | None:
        """Why nothing can be tried."""
        if action != "try-access":
            return super().why_not(action)
        if self.opened is None:
            return "no spec is open"
        if self.role is None:
            return "it is tried from the sections Source System, Target System and their Auth"
        return "a test is going on; esc stops it" if self.trying else None

    @property
    def trying(self) -> bool:
        """Whether a test is going on."""
        return self._worker is not None

    def action_try_access(self) -> None:
        """Try to get in at the end in hand."""
        if self.opened is not None and (role := self.role) is not None:
            self.take()
            self._worker = self._try(self.opened.document, self.opened.path, role)
            self.refresh_bindings()

    def action_stop_trying(self) -> None:
        """Stop trying."""
        if self._worker is not None:
            self._worker.cancel()

    @work(group="try")
    async def _try(self, document: Document, path: Path, role: Role) -> None:
        reports: list[str] = []  # a connector may report from a thread of its own
        trial = ConnectionTrial(_said(document, role), role, "looking the settings up")

        def tell(now: ConnectionTrial) -> None:
            nonlocal trial
            trial = replace(now, reports=tuple(reports))
            self._trials[path, role] = trial
            self.show_trial()

        tell(trial)
        try:
            if not await may_use(self.context, path, [await loaded(partial(_end, document, role))]):
                return  # it ends as stopped
            end, attempt = await loaded(partial(_means, document, path, role, reports))
            tell(replace(trial, title=f"{role}: {end.system.connector}, {end.login}"))

            def further(access: ConnectionCheck) -> None:
                wants_token = end.auth.type == "oauth2" and access.token is None
                tell(replace(trial, access=access, doing="getting a token" if wants_token else "asking the system"))
                if access.token is not None:
                    self._close_login()

            access = await attempt(tell=further, show=partial(self._show_login, role))
            trial = replace(trial, access=access, doing="")
        except SpecError as error:
            trial = replace(trial, refusal=error, doing="")
        finally:
            self._worker = None
            self._close_login()
            tell(replace(trial, doing="", stopped=bool(trial.doing)))
            if self.is_attached:  # else the app is going down
                self.refresh_bindings()

    def _show_login(self, role: Role, prompt: LoginPrompt) -> None:
        self._close_login()
        self._login = LoginDialog(f"log in at the {role}", prompt)
        self.app.push_screen(self._login, self._gave_up)

    def _gave_up(self, gave_up: bool | None) -> None:  # noqa: FBT001 (what the dialog gives)
        if gave_up:
            self.action_stop_trying()

    def _close_login(self) -> None:
        login, self._login = self._login, None
        if login is not None:
            login.close()


_Attempt = Callable[..., Awaitable["ConnectionCheck"]]


def _means(document: Document, path: Path, role: Role, reports: list[str]) -> tuple[Endpoint, _Attempt]:
    """The end, and what tries it; all that takes time to load is loaded then. Raises `SpecError`."""
    from speclab.connectors.check import check_connection
    from speclab.connectors.machine import this_machine
    from speclab.connectors.registry import load_parts

    def report(level: Level, message: str) -> None:
        if level is not Level.INFO:
            reports.append(message)

    end = _end(document, role)
    load_parts(end.system)
    references, context = this_machine(path, [end], report=report)
    return end, partial(check_connection, end, references, context)


def _end(document: Document, role: Role) -> Endpoint:
    """The end that the document writes. Raises `SpecError`."""
    from speclab.spec.parser import read_endpoint

    return read_endpoint(document, role)


def _said(document: Document, role: Role) -> tuple[str, ...]:
    """What the sections of an end say."""
    titles = _TITLES[role]
    return tuple(document.body(section) for section in document.sections if comparable(section.title) in titles)
