"""What the controllers of the Mapping view use of the view: a typed protocol, so that none imports the view."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Protocol

from textual.geometry import Region, Size

from speclab.app.context import AppContext
from speclab.app.widgets.grid import Grid
from speclab.spec.document import Document
from speclab.workbench.mapping_sheet import SheetRow
from speclab.workbench.mapping_state import MappingState
from speclab.workbench.open_specs import OpenSpec
from speclab.workbench.unmapped import UnmappedTarget


class MappingHost(Protocol):
    """The Mapping view, as its controllers see it."""

    context: AppContext
    state: MappingState
    opened: OpenSpec | None
    grid: Grid

    @property
    def size(self) -> Size:
        """The size of the view."""

    @property
    def region(self) -> Region:
        """The region of the view on the screen."""

    @property
    def row(self) -> SheetRow | None:
        """The row of the table under the cursor."""

    @property
    def unmapped(self) -> UnmappedTarget | None:
        """The unmapped target under the cursor."""

    def change(self, label: str, made: Callable[[Document], Document], group: str = "") -> bool:
        """Change the document as one step of the history; return whether that worked."""

    def changed(self) -> None:
        """Show the document after it changed."""

    def put_aside_soon(self) -> None:
        """Write the recovery file soon."""

    def show_document(self) -> None:
        """Show the rows of the document."""

    def show_record(self) -> None:
        """Show the current sample record and its results."""

    def show_trial(self, trial: SheetRow) -> None:
        """Show a row as it would be with the text that is being typed."""

    def check_samples(self) -> object:
        """Check all sample records against the mapping, in the background."""

    def refresh_bindings(self) -> None:
        """Update the keys that are offered."""

    def run_in_background(self, work: Callable[[], Coroutine[None, None, None]], group: str) -> Callable[[], None]:
        """Run `work`, in place of work of the same group that is still running; return a function that cancels it."""

    async def action_act(self, action: str) -> None:
        """Do the action of that id."""

    async def save(self) -> bool:
        """Save the spec; return whether it is in its file now."""
