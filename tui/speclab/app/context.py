"""The one seam between the views and the application: what a view may read and call, as a typed protocol."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, TypeVar

if TYPE_CHECKING:
    from textual.notifications import SeverityLevel
    from textual.screen import Screen

    from speclab.core.errors import RunLogError, SpeclabError
    from speclab.monitor.health import Overview
    from speclab.runlog import FailureRow, RunLogReader
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
    def trouble(self) -> RunLogError | None:
        """Why the run log cannot be read; None if it can."""

    @property
    def service_state(self) -> ServiceState | None:
        """Whether a service runs in this workspace; None until that is known."""

    @property
    def starting(self) -> bool:
        """Whether a service was started that has not reported yet."""

    def now(self) -> datetime:
        """Return the current time, in UTC."""

    async def ask(self, question: Callable[[RunLogReader], Result]) -> Result | None:
        """Return what `question` reads from the run log; None, after reporting the error, if it cannot be read."""

    def tell(self, title: str, error: SpeclabError) -> None:
        """Show an error with its hint."""

    def notify(
        self, message: str, *, title: str = "", severity: SeverityLevel = "information", timeout: float | None = None
    ) -> None:
        """Show a toast."""

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
        """Show a changed place of the open spec in the Specs view."""

    async def show_failure(self, spec: Path, failure: FailureRow) -> None:
        """Open the Mapping view with the record of `failure` as its sample."""
