"""What the controllers of the Specs view use of the view: a typed protocol, so that none imports the view."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from contextlib import AbstractContextManager
from typing import Protocol

from speclab.app.context import AppContext
from speclab.app.views.specs.lists import ProblemList
from speclab.app.views.specs.panel import SectionPanel
from speclab.spec.document import Document, Section
from speclab.workbench.open_specs import OpenSpec


class SpecsHost(Protocol):
    """The Specs view, as its controllers see it. `at` is the address of the current section, None for none."""

    context: AppContext
    opened: OpenSpec | None
    at: str | None
    section_panel: SectionPanel
    problem_list: ProblemList

    @property
    def section(self) -> Section | None:
        """The current section; None for the front matter."""

    def change(self, label: str, made: Callable[[Document], Document], group: str = "") -> bool:
        """Change the document as one step of the history; return whether that worked."""

    def changed(self) -> None:
        """Show the document after it changed."""

    def show_document(self) -> None:
        """Show the document as it is now."""

    def show_test(self) -> None:
        """Show the connection test of the current section."""

    def show_guide_panel(self) -> None:
        """Bring the guide, where results of a test are shown, into view."""

    def focus_outline(self) -> None:
        """Focus the outline."""

    def refresh_bindings(self) -> None:
        """Update the keys that are offered."""

    def run_in_background(self, work: Callable[[], Coroutine[None, None, None]], group: str) -> Callable[[], None]:
        """Run `work`, in place of work of the same group that is still running; return a function that cancels it."""

    def suspend_app(self) -> AbstractContextManager[None]:
        """Give the terminal to another program."""
