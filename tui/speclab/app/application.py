"""The application: the state that all views share, watching for changes, and the actions available everywhere."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Callable, Sequence
from collections.abc import Set as AbstractSet
from datetime import datetime
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Final, TypeVar

from textual import on, work
from textual.binding import Binding, BindingType
from textual.filter import LineFilter
from textual.notifications import Notify
from textual.reactive import reactive
from textual.screen import Screen

from speclab.app.actions import Action, Actor, bindings
from speclab.app.formatting import ANSI, DARK, LIGHT, THEMES, AsciiOnly
from speclab.app.main_screen import MainScreen
from speclab.app.terminal import DiffingApp
from speclab.app.view import DetailScreen, View
from speclab.app.widgets.header import HeaderBar
from speclab.app.widgets.panel import RefusalToast
from speclab.core.clock import Clock, SystemClock
from speclab.core.errors import RunLogError, SpeclabError, UsageError
from speclab.core.files import resolve_path
from speclab.core.processes import Hangup
from speclab.workbench.run_log_client import RunLogClient, WorkspaceWatcher

if TYPE_CHECKING:
    from textual.driver import Driver
    from textual.notifications import SeverityLevel

    from speclab.app.views.specs.view import SpecsView
    from speclab.monitor.health import Overview
    from speclab.runlog import FailureRow, RunLogReader
    from speclab.runlog.reader import LogUpdate
    from speclab.service.heartbeat import ServiceState
    from speclab.spec.workspace import SpecFile
    from speclab.workbench.open_specs import Session

APP: Final = (
    Action("specs", "specs", "Show the Specs view.", ("1",), footer=False),
    Action("mapping", "mapping", "Show the mapping of the open spec.", ("2",), footer=False),
    Action("monitor", "monitor", "Show the Monitor: runs and failures of every integration.", ("3",), footer=False),
    Action("help", "help", "Available actions, and why others are disabled.", ("question_mark", "f1")),
    Action("palette", "everything", "Find an action, a spec or a view by name.", ("ctrl+p",)),
    Action("theme", "light or dark", "Switch between the light and the dark theme.", footer=False),
    Action("redraw", "redraw", "Redraw the screen.", ("ctrl+l",), footer=False),
    Action("quit", "quit", "Quit speclab. Started runs continue.", ("q", "ctrl+c"), footer=False),
)


Result = TypeVar("Result")


class SpeclabApp(DiffingApp[None], Actor):
    """The app on one workspace.

    The views share its attributes: `directory`; `read_only`; `session`, the open specs; `run_log`, queried with `ask`;
    `spec`, the path of the open spec; `specs`, every spec of the workspace (None until the first scan); `overview`, the
    health of all integrations over the last `window` seconds (None until the run log was read), and `run_log_error`,
    why the run log cannot be read; `service_state`, the heartbeat of `speclab up` (None until the first check), and
    `starting`, whether the service was started and has no heartbeat yet. From `specs` on, all are updated
    automatically. Errors are shown with `show_error`, other messages with Textual's `notify`.
    """

    TITLE = "speclab"
    ENABLE_COMMAND_PALETTE = False  # ctrl+p opens ours: see `action_palette`
    HORIZONTAL_BREAKPOINTS = [(0, "-narrow"), (80, "-medium"), (120, "-wide")]  # noqa: RUF012 (no ClassVar in Textual)
    VERTICAL_BREAKPOINTS = [(0, "-low"), (36, "-tall")]  # noqa: RUF012
    ACTIONS = APP
    BINDINGS: ClassVar[list[BindingType]] = [
        *bindings(APP),
        Binding("ctrl+q", "act('quit')", show=False, priority=True),
    ]
    CSS = """
    #views { width: 1fr; height: 1fr; }
    Toast { background: $panel; max-width: 70%; }
    """

    here: reactive[str] = reactive("")
    spec: reactive[Path | None] = reactive(None, init=False)
    specs: reactive[tuple[SpecFile, ...] | None] = reactive(None)
    overview: reactive[Overview | None] = reactive(None)
    window: reactive[float] = reactive(86400.0)
    run_log_error: reactive[RunLogError | None] = reactive(None)
    service_state: reactive[ServiceState | None] = reactive(None)
    starting: reactive[bool] = reactive(False)

    def __init__(
        self,
        directory: Path,
        *,
        read_only: bool = False,
        ascii_only: bool = False,
        runlog: Path | None = None,
        view: str = "specs",
        clock: Clock | None = None,
        hangup: Hangup | None = None,
    ) -> None:
        no_colour = bool(os.environ.get("NO_COLOR"))  # https://no-color.org
        super().__init__(ansi_color=True if no_colour else None)
        self.directory = resolve_path(directory)
        self.run_log = RunLogClient(self.directory, runlog, read_only=read_only)
        self.read_only = read_only
        self._clock = clock or SystemClock()
        self._hangup = hangup
        self.first_view = view
        self._recovery_errors: list[str] = []  # why unsaved text could not be written during a crash
        self._ascii = [AsciiOnly()] if ascii_only else []
        self._watcher = WorkspaceWatcher(self.directory, self.run_log, self)
        self.animation_level = "none"
        for theme in THEMES:
            self.register_theme(theme)
        few = no_colour or self.console.color_system in {None, "standard"}
        self.theme = ANSI.name if few else DARK.name

    @cached_property
    def session(self) -> Session:
        """The open specs; created on first use, because its imports take time."""
        from speclab.workbench.open_specs import Session

        return Session(read_only=self.read_only)

    def get_default_screen(self) -> Screen[None]:
        """Return the screen with the views."""
        return MainScreen(self, self.first_view)

    def get_driver_class(self) -> type[Driver]:
        """Return Textual's driver, or on Linux and macOS a driver that survives the end of its terminal."""
        from textual.drivers.linux_driver import LinuxDriver

        from speclab.app.terminal import LastingDriver

        found = super().get_driver_class()
        return LastingDriver if found is LinuxDriver else found

    def on_load(self) -> None:
        """Exit on hang-up through the event loop from now on."""
        if self._hangup is not None:
            self._hangup.ask = partial(asyncio.get_running_loop().call_soon_threadsafe, self.exit)

    def on_mount(self) -> None:
        """Start watching for changes after the first paint."""
        self.call_after_refresh(self._start_watching)

    def on_unmount(self) -> None:
        """Stop watching and close the run log."""
        self._watcher.stop()
        self.run_log.close()

    def save_before_crash(self) -> None:
        """Update the recovery files during a crash, in which more may fail; see `crash_error`."""
        for spec in self.session.specs() if "session" in self.__dict__ else ():
            try:
                spec.update_recovery(durable=False)
            except Exception as error:  # noqa: BLE001 (the cause of the crash may make this fail too: it is reported at exit)
                self._recovery_errors.append(str(error) or type(error).__name__)

    def crash_error(self) -> SpeclabError:
        """Return the error to exit with after a crash; it names the files that hold unsaved text."""
        found = self.session.recovery_files() if "session" in self.__dict__ else []
        kept = [f"The unsaved text of {spec} is in {file}; the next start offers it." for spec, file in found]
        lost = [f"Unsaved text may be incomplete: {reason}" for reason in self._recovery_errors]
        hint = "\n".join([*(kept or ["No text was unsaved."]), *lost, "Please report the traceback above."])
        return SpeclabError("the app crashed", hint=hint)

    def get_line_filters(self) -> list[LineFilter]:
        """Return Textual's filters, and the ASCII filter with `--ascii`."""
        return [*super().get_line_filters(), *self._ascii]

    # External changes

    def _start_watching(self) -> None:
        """Start watching after the first paint, because the imports take time."""
        self.run_worker(self._watcher.follow_run_log(), group="watch")
        self.run_worker(self._watcher.follow_specs(), group="watch")
        self.run_worker(self._watcher.follow_service(), group="watch")

    def set_overview(self, overview: Overview, update: LogUpdate | None) -> None:
        """Show new figures, and pass the update of the run log to the visible view and the screens above it."""
        self.overview = overview
        for listener in (*self.screen_stack, self.view):
            if isinstance(listener, DetailScreen | View):
                listener.log_changed(update)

    def set_run_log_error(self, error: RunLogError | None) -> None:
        """Show that the run log cannot be read, once per reason; None: it can be read again."""
        if error is None:
            self.run_log_error = None
        elif self.run_log_error is None or error.message != self.run_log_error.message:
            self.show_error("The run log cannot be read", error)
            self.run_log_error = error

    def set_service_state(self, state: ServiceState) -> None:
        """Show the state of the scheduler."""
        self.service_state = state
        if state.alive:
            self.starting = False

    def set_specs(self, specs: Sequence[SpecFile]) -> None:
        """Show the specs of the workspace."""
        self.specs = tuple(specs)

    def files_changed(self, paths: AbstractSet[Path]) -> None:
        """Pass changed files to the views."""
        for view in self.main.views():
            view.specs_changed(paths)

    def show_warning(self, message: str) -> None:
        """Show a warning."""
        self.notify(message, severity="warning")

    async def ask(self, query: Callable[[RunLogReader], Result]) -> Result | None:
        """Return the result of `query` on the run log; None, with an error shown, if it cannot be read."""
        try:
            result = await self.run_log.ask(query)
        except RunLogError as error:
            self.set_run_log_error(error)
            return None
        if not self.is_running:
            raise asyncio.CancelledError  # the caller is being removed
        return result

    def now(self) -> datetime:
        """Return the current time in UTC."""
        return self._clock.now()

    def watch_window(self) -> None:
        """Read the figures again when their time window changes."""
        self._watcher.expire_figures()

    # Views

    @property
    def main(self) -> MainScreen:
        """Return the screen with the views."""
        main = self.screen_stack[0]
        assert isinstance(main, MainScreen)  # noqa: S101 (get_default_screen made it)
        return main

    @property
    def view(self) -> View | None:
        """The visible view, or the view under the open screen."""
        return self.main.view

    async def show_view(self, name: str) -> View:
        """Show the view `name` (specs, mapping or monitor) and close the screens above it."""
        while len(self.screen_stack) > 1:
            await self.pop_screen()
        return await self.main.show(name)

    async def open_spec(self, path: Path, view: str | None = None) -> None:
        """Open the spec at `path` in the visible view, or in the named one."""
        self.spec = path
        target = await self.show_view(view) if view else self.view
        if target is not None:
            target.open(path)

    def set_visible_view(self, name: str) -> None:
        """Record which view is visible; the header shows it."""
        self.here = name

    def select_spec(self, path: Path) -> None:
        """Make the spec at `path` the open one, without going to another view."""
        self.spec = path

    def show_window(self, seconds: float) -> None:
        """Have the figures cover another window."""
        self.window = seconds

    async def show_section(self, address: str) -> None:
        """Show a section of the open spec in the Specs view."""
        (await self._show_specs()).go_to(address)

    async def show_change(self, line: int, column: int) -> None:
        """Show a changed position of the open spec in the Specs view."""
        await (await self._show_specs()).show_change(line, column)

    async def _show_specs(self) -> SpecsView:
        from speclab.app.views.specs.view import SpecsView

        view = await self.show_view("specs")
        assert isinstance(view, SpecsView)  # noqa: S101 (its name)
        return view

    async def show_failure(self, spec: Path, failure: FailureRow) -> None:
        """Open the Mapping view with the record of `failure` as its sample."""
        from speclab.app.views.mapping.view import MappingView

        self.spec = spec
        view = await self.show_view("mapping")
        assert isinstance(view, MappingView)  # noqa: S101 (its name)
        view.open(spec, failure)

    async def action_specs(self) -> None:
        """Show the Specs view."""
        await self.show_view("specs")

    async def action_mapping(self) -> None:
        """Show the Mapping view."""
        await self.show_view("mapping")

    async def action_monitor(self) -> None:
        """Show the Monitor."""
        await self.show_view("monitor")

    @on(HeaderBar.Tab)
    async def _tab(self, event: HeaderBar.Tab) -> None:
        await self.show_view(event.view)

    # Runs

    @work(group="runs")
    async def run_spec(self, path: Path, name: str) -> None:
        """Start a run of the spec at `path`, called `name`, and show an error if it fails."""
        from speclab.app.dialogs import may_use
        from speclab.workbench.launcher import launch

        if not await may_use(self, path):
            return
        try:
            launched = launch(path, name, self.run_log.workspace, self.run_log.path)
        except SpeclabError as error:
            self.show_error(f"{name} was not started", error)
            return
        self.notify("The run continues when speclab is closed.", title=f"{name} was started", timeout=3)
        if (failure := await launched.end()) is not None:
            self.show_error(f"The run of {name} failed", failure)

    @work(group="service")
    async def start_service(self) -> None:
        """Start `speclab up` for the workspace, and show an error if it ends with one."""
        from speclab.app.dialogs import may_use
        from speclab.workbench.launcher import launch_service

        for spec in self.specs or ():
            if spec.type == "integration" and spec.status == "in-progress":
                await may_use(self, spec.path)  # the service skips and reports a spec without trust
        try:
            launched = launch_service(self.directory, self.run_log.workspace, self.run_log.path)
        except SpeclabError as error:
            self.show_error("speclab up was not started", error)
            return
        self.starting = True
        failure = await launched.end()
        self.starting = False
        if failure is not None:
            self.show_error("speclab up ended", failure)

    # Everywhere

    def notify(
        self,
        message: str,
        *,
        title: str = "",
        severity: SeverityLevel = "information",
        timeout: float | None = None,
        markup: bool = False,  # noqa: ARG002 (Textual's signature)
    ) -> None:
        """Show a toast as plain text: brackets in names are not markup."""
        super().notify(message, title=title, severity=severity, timeout=timeout, markup=False)

    @on(Notify)
    def _refuse_once(self, event: Notify) -> None:
        """Replace the previous toast about a disabled action."""
        if isinstance(event.notification, RefusalToast):
            self.remove_toasts(RefusalToast)

    def show_error(self, title: str, error: SpeclabError) -> None:
        """Show an error with its hint."""
        message = f"{error.message}\n{error.hint}" if error.hint else error.message
        self.notify(message, title=title, severity="error", timeout=10)

    def explain_disabled(self, action: str) -> str | None:
        """Disable the theme action with 16 colours, which have no light and dark variant."""
        if action == "theme" and self.theme == ANSI.name:
            return "the terminal's 16 colours are used; change them in the terminal's settings"
        return None

    def action_theme(self) -> None:
        """Switch between light and dark."""
        self.theme = LIGHT.name if self.theme == DARK.name else DARK.name

    def action_help(self) -> None:
        """Open the help for the focused widget."""
        from speclab.app.help import Help, list_offers

        here = f"in {self.here}" if self.screen is self.main else "on this page"
        listed = list_offers(self.screen.focused or self.screen)
        self.push_screen(Help(here, listed, self.view.reference() if self.view is not None else ()))

    @work
    async def action_palette(self) -> None:
        """Open the palette and run the chosen command."""
        from speclab.app.help import Palette, list_commands

        commands = [*list_commands(self.screen.focused or self.screen, self.here)]
        if self.view is not None:
            commands += self.view.commands()
        command = await self.push_screen_wait(Palette(commands))
        if command is not None:
            await command.run()

    @work
    async def action_quit(self) -> None:  # type: ignore[override]
        """Quit, after a confirmation if unsaved changes would be lost."""
        from speclab.app.dialogs import ConfirmDialog

        lost = [sentence for view in self.main.views() if (sentence := view.unsaved()) is not None]
        if lost and not await self.push_screen_wait(ConfirmDialog("quit", "\n".join(lost), yes="quit", no="stay")):
            return
        self.exit()


def run_app(
    directory: Path,
    *,
    read_only: bool = False,
    ascii: bool = False,  # noqa: A002 (the option's name)
    runlog: Path | None = None,
    view: str = "specs",
    hangup: Hangup | None = None,
) -> None:
    """Run the app on the workspace `directory` until it is quit.

    `hangup` (default: a new one) ends it cleanly on SIGTERM, on SIGHUP and when the terminal is gone: unsaved text is
    kept and the terminal is restored. Raises `UsageError` without a usable terminal.
    """
    if not (sys.stdin.isatty() and sys.stderr.isatty()) or os.environ.get("TERM", "") in {"", "dumb"}:
        raise UsageError(
            "the app needs a terminal with cursor control; this is not one",
            hint="Use `speclab status`, `speclab runs` and `speclab failures` instead; `speclab --help` lists more.",
        )
    hangup = hangup or Hangup()
    app = SpeclabApp(directory, read_only=read_only, ascii_only=ascii, runlog=runlog, view=view, hangup=hangup)
    try:
        app.run()
    finally:
        hangup.ask = None
    if app.return_code:
        raise app.crash_error()
