"""Trying the credentials of the end in hand, as `speclab auth` does, while everything else goes on."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final

from textual import work
from textual.worker import Worker

from speclab.app.actions import Action
from speclab.app.loading import loaded
from speclab.app.shell import shell
from speclab.app.specs.login import LoginDialog
from speclab.app.specs.trial import Trial
from speclab.app.specs.writing import Writing
from speclab.app.trust import may_use
from speclab.errors import SpecError
from speclab.outcome import Level
from speclab.spec.document import Document
from speclab.spec.outline import comparable
from speclab.spec.sections import SOURCE_AUTH, SOURCE_SYSTEM, TARGET_AUTH, TARGET_SYSTEM

if TYPE_CHECKING:
    from speclab.connectors import Access
    from speclab.connectors.auth.login import Prompt
    from speclab.spec.integration import End, Role

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


class Trying(Writing):
    """A place that tries the credentials of the end whose section is in hand."""

    def __init__(self) -> None:
        super().__init__()
        self._trials: dict[tuple[Path, Role], Trial] = {}
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
    def trial(self) -> Trial | None:
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
        trial = Trial(_said(document, role), role, "looking the settings up")

        def tell(now: Trial) -> None:
            nonlocal trial
            trial = replace(now, reports=tuple(reports))
            self._trials[path, role] = trial
            self.show_trial()

        tell(trial)
        try:
            if not await may_use(shell(self), path, [await loaded(partial(_end, document, role))]):
                return  # it ends as stopped
            end, attempt = await loaded(partial(_means, document, path, role, reports))
            tell(replace(trial, title=f"{role}: {end.system.connector}, {end.login}"))

            def further(access: Access) -> None:
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

    def _show_login(self, role: Role, prompt: Prompt) -> None:
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


_Attempt = Callable[..., Awaitable["Access"]]


def _means(document: Document, path: Path, role: Role, reports: list[str]) -> tuple[End, _Attempt]:
    """The end, and what tries it; all that takes time to load is loaded then. Raises `SpecError`."""
    from speclab.connectors import this_machine, try_access
    from speclab.connectors.opening import connector_of

    def report(level: Level, message: str) -> None:
        if level is not Level.INFO:
            reports.append(message)

    end = _end(document, role)
    connector_of(end.system)
    references, seams = this_machine(path, [end], report=report)
    return end, partial(try_access, end, references, seams)


def _end(document: Document, role: Role) -> End:
    """The end that the document writes. Raises `SpecError`."""
    from speclab.spec.read import read_end

    return read_end(document, role)


def _said(document: Document, role: Role) -> tuple[str, ...]:
    """What the sections of an end say."""
    titles = _TITLES[role]
    return tuple(document.body(section) for section in document.sections if comparable(section.title) in titles)
