"""Base classes of views and detail screens, and the application context that views use."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Iterable, Sequence
from contextlib import AbstractContextManager
from datetime import datetime
from itertools import takewhile
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Final, Protocol, TypeAlias, TypeVar

from textual import events
from textual.app import ComposeResult
from textual.binding import BindingType
from textual.containers import Container
from textual.dom import DOMNode
from textual.widget import Widget
from textual.worker import Worker

from speclab.app.actions import Action, Actor, Command, bindings
from speclab.app.terminal import ResizeFixScreen
from speclab.app.widgets.header import HeaderBar, KeyBar
from speclab.app.widgets.panel import Panel

if TYPE_CHECKING:
    from textual.notifications import SeverityLevel
    from textual.screen import Screen

    from speclab.core.errors import RunLogError, SpeclabError
    from speclab.monitor.health import Overview
    from speclab.runlog import FailureRow, RunLogReader
    from speclab.runlog.reader import LogUpdate
    from speclab.service.heartbeat import ServiceState
    from speclab.spec.workspace import SpecFile
    from speclab.workbench.open_specs import Session
    from speclab.workbench.run_log_client import RunLogClient

Result = TypeVar("Result")


class AppContext(Protocol):
    """What the application offers to its views; each view receives it when it is built.

    The attributes from `specs` on are kept up to date by the application: a view watches them on `self.app`.
    """

    directory: Path
    """The directory the app was opened on."""
    read_only: bool
    """Whether the app was started with `--read-only`."""
    run_log: RunLogClient

    @property
    def session(self) -> Session:
        """All open specs, as they are edited."""

    @property
    def spec(self) -> Path | None:
        """The open spec."""

    @property
    def specs(self) -> tuple[SpecFile, ...] | None:
        """All specs of the workspace; None until they have been found."""

    @property
    def overview(self) -> Overview | None:
        """The health of all integrations over the last `window` seconds; None until the run log has been read."""

    @property
    def window(self) -> float:
        """Seconds that the figures cover."""

    @property
    def run_log_error(self) -> RunLogError | None:
        """Why the run log cannot be read; None if it can."""

    @property
    def service_state(self) -> ServiceState | None:
        """The heartbeat of the scheduler in this workspace; None until the first check."""

    @property
    def starting(self) -> bool:
        """Whether the scheduler was started and has no heartbeat yet."""

    def now(self) -> datetime:
        """Return the current time, in UTC."""

    async def ask(self, query: Callable[[RunLogReader], Result]) -> Result | None:
        """Return the result of `query` on the run log; None, with an error shown, if it cannot be read."""

    def show_error(self, title: str, error: SpeclabError) -> None:
        """Show an error with its hint."""

    def notify(
        self, message: str, *, title: str = "", severity: SeverityLevel = "information", timeout: float | None = None
    ) -> None:
        """Show a toast."""

    def suspend(self) -> AbstractContextManager[None]:
        """Suspend the app while another program uses the terminal."""

    def copy_to_clipboard(self, text: str) -> None:
        """Copy `text` to the clipboard of the terminal."""

    async def push_screen_wait(self, screen: Screen[Result]) -> Result:
        """Show a dialog and return its result."""

    def show_window(self, seconds: float) -> None:
        """Have the figures cover another window."""

    def push_screen(self, screen: Screen[Result], callback: Callable[[Result | None], None]) -> object:
        """Show a dialog and pass its result to `callback`."""

    def select_spec(self, path: Path) -> None:
        """Make the spec at `path` the open one, without going to another view."""

    def set_visible_view(self, name: str) -> None:
        """Record which view is visible: `specs`, `mapping` or `monitor`."""

    def run_spec(self, path: Path, name: str) -> object:
        """Start a run of the spec at `path`."""

    def start_service(self) -> object:
        """Start `speclab up`."""

    async def open_spec(self, path: Path, view: str | None = None) -> None:
        """Open the spec at `path` in the visible view, or in the one named."""

    async def show_section(self, address: str) -> None:
        """Show a section of the open spec in the Specs view."""

    async def show_change(self, line: int, column: int) -> None:
        """Show a changed position of the open spec in the Specs view."""

    async def show_failure(self, spec: Path, failure: FailureRow) -> None:
        """Open the Mapping view with the record of `failure` as its sample."""


Reference: TypeAlias = Sequence[tuple[str, Sequence[tuple[str, str]]]]
"""Groups of the help, each with a title, terms and their explanations."""


class View(Container, Actor):
    """One of the three views: a widget that fills the screen between header and footer.

    A view is built when it is first shown, and kept. It contains `Panel`s; a narrow terminal shows only the panel with
    the focus, `tab` focuses the next one, and `crumbs` names it in the header. The screen has the class `-wide` from
    120 columns, `-medium` from 80 and `-narrow` below; a view with `DEFAULT_CSS` for these classes needs
    `SCOPED_CSS = False`, because the screen is its parent.
    """

    NAME: ClassVar[str]
    """Its name: `specs`, `mapping` or `monitor`."""

    SCOPED_CSS = False
    DEFAULT_CSS = """
    View { width: 1fr; height: 1fr; background: $background; }
    .-narrow View Panel { display: none; }
    .-narrow View Panel.-here { display: block; width: 1fr; height: 1fr; }
    """

    def __init__(self, context: AppContext) -> None:
        super().__init__()
        self.context = context

    def activate(self) -> None:
        """Take the focus and update, after the view became visible."""

    def deactivate(self) -> None:
        """Prepare for another view to become visible."""

    def open(self, spec: Path) -> None:
        """Show the spec at `spec`."""

    def specs_changed(self, paths: Iterable[Path]) -> None:
        """Update after spec files changed on disk; `app.specs` is already updated."""

    def log_changed(self, update: LogUpdate | None) -> None:
        """Update after a commit to the run log while the view is visible; `app.overview` is already updated.

        `update` is None if everything must be read again.
        """

    def crumbs(self) -> tuple[str, ...]:
        """Return the path inside the view, for the header of a narrow screen."""
        here = self.here
        return (here.title,) if here is not None else ()

    def unsaved(self) -> str | None:
        """Return a sentence about changes that quitting would lose; None if there are none."""
        return None

    def commands(self) -> Iterable[Command]:
        """Return palette commands in addition to the actions: specs to open, sections to show."""
        return ()

    def reference(self) -> Reference:
        """Return what the help lists below the actions."""
        return ()

    def run_in_background(self, work: Callable[[], Coroutine[None, None, None]], group: str = "") -> Callable[[], None]:
        """Run `work`, and with `group` cancel earlier work of that group; return a function that cancels it."""
        return _run_in_background(self, work, group)

    # Panels

    def panels(self) -> list[Panel]:
        """Return the panels that can have the focus, in order; those with the class `-extra` only if visible."""
        return [
            panel
            for panel in self.query(Panel)
            if _first_focusable(panel) and (panel.region or not panel.has_class("-extra"))
        ]

    @property
    def here(self) -> Panel | None:
        """The panel that has, or last had, the focus."""
        return next((panel for panel in self.query(Panel) if panel.has_class("-here")), None)

    def enter(self, panel: Panel) -> None:
        """Focus `panel`; a narrow terminal shows only this panel."""
        self._mark(panel)
        if (target := _first_focusable(panel)) is not None:
            target.focus()

    def step(self, by: int) -> None:
        """Focus the panel `by` positions further, around the ends."""
        panels = self.panels()
        if not panels:
            return
        here = self.here
        at = panels.index(here) if here in panels else -1 if by > 0 else 0
        self.enter(panels[(at + by) % len(panels)])

    def on_descendant_focus(self, event: events.DescendantFocus) -> None:
        """Mark the panel that has the focus."""
        panel = next((node for node in event.widget.ancestors if isinstance(node, Panel)), None)
        if panel is not None:
            self._mark(panel)

    def _mark(self, panel: Panel) -> None:
        for other in self.query(Panel):
            other.set_class(other is panel, "-here")


def _first_focusable(panel: Panel) -> Widget | None:
    return next((widget for widget in panel.query(Widget) if _takes_focus(widget, panel)), None)


def _takes_focus(widget: Widget, panel: Panel) -> bool:
    """Return whether `widget` can have the focus and is visible if its panel is."""
    inside = takewhile(lambda node: node is not panel, widget.ancestors_with_self)
    return widget.can_focus and not widget.disabled and all(node.display for node in inside)


def _run_in_background(
    node: DOMNode, work: Callable[[], Coroutine[None, None, None]], group: str
) -> Callable[[], None]:
    worker: Worker[None] = node.run_worker(work, group=group or "background", exclusive=bool(group))
    return worker.cancel


BACK: Final = Action("back", "back", "Go back.", ("escape", "backspace"))


class DetailScreen(ResizeFixScreen[Result], Actor):
    """A screen above the views, such as one failure: a subclass defines `crumbs`, `body` and perhaps more actions.

    `ACTIONS` of a subclass include `BACK`, so that `esc` stays in the footer.
    """

    ACTIONS: ClassVar[Sequence[Action]] = (BACK,)
    BINDINGS: ClassVar[list[BindingType]] = bindings((BACK,))

    def __init__(self, context: AppContext) -> None:
        super().__init__()
        self.context = context

    def compose(self) -> ComposeResult:
        """Compose header, body and footer."""
        header = HeaderBar()
        header.crumbs = self.crumbs()
        yield header
        yield from self.body()
        yield KeyBar()

    def crumbs(self) -> tuple[str, ...]:
        """Return the path to this screen, for the header."""
        return ()

    def body(self) -> ComposeResult:
        """Compose the content."""
        yield from ()

    def log_changed(self, update: LogUpdate | None) -> None:
        """Update after a commit to the run log; see `View.log_changed`."""

    def run_in_background(self, work: Callable[[], Coroutine[None, None, None]], group: str = "") -> Callable[[], None]:
        """Run `work`, and with `group` cancel earlier work of that group; return a function that cancels it."""
        return _run_in_background(self, work, group)

    def action_back(self) -> None:
        """Go back."""
        self.dismiss()
