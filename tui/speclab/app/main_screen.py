"""The main screen: header, the visible view, footer. It builds each view when it is first shown."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import TYPE_CHECKING, ClassVar, Final

from textual.app import ComposeResult
from textual.binding import BindingType
from textual.widgets import ContentSwitcher

from speclab.app.actions import Action, Actor, bindings
from speclab.app.terminal import ResizeFixScreen
from speclab.app.view import View
from speclab.app.widgets.header import HeaderBar, KeyBar
from speclab.core.plugins import load_in_thread

if TYPE_CHECKING:
    from speclab.app.view import AppContext

PANES: Final = (
    Action("next-panel", "pane", "Focus the next pane.", ("tab",)),
    Action("previous-panel", "previous pane", "Focus the previous pane.", ("shift+tab",), footer=False),
)


class MainScreen(ResizeFixScreen[None], Actor):
    """Header, the visible view, footer."""

    ACTIONS = PANES
    BINDINGS: ClassVar[list[BindingType]] = bindings(PANES)

    def compose(self) -> ComposeResult:
        """Yield the frame; each view is built when it is first shown."""
        yield HeaderBar()
        yield self._switcher
        yield KeyBar()

    def __init__(self, context: AppContext, first: str) -> None:
        super().__init__()
        self._app_context = context
        self._first = first
        self._switcher = ContentSwitcher(id="views")
        self._showing = asyncio.Lock()

    def on_mount(self) -> None:
        """Show the first view once the frame is painted: loading a view takes time."""
        self.call_after_refresh(self._show_first)

    async def _show_first(self) -> None:
        async with self._showing:
            if self.view is None:  # else a key was faster and showed another view
                await self._show(self._first)

    def views(self) -> list[View]:
        """Return the views built so far."""
        return [view for view in self.query(View) if view.is_mounted]

    @property
    def view(self) -> View | None:
        """The visible view."""
        content = self._switcher.visible_content
        return content if isinstance(content, View) else None

    async def show(self, name: str) -> View:
        """Show the view `name`; build it on first use."""
        async with self._showing:
            return await self._show(name)

    async def _show(self, name: str) -> View:
        self._app_context.set_visible_view(name)
        before = self.view
        view = next((view for view in self.views() if name == view.NAME), None)
        if before is not None and before is not view:
            before.deactivate()
        if view is None:
            self._switcher.current = None
            view = (await load_in_thread(partial(_view_class, name)))(self._app_context)
            await self._switcher.add_content(view, id=f"view-{name}")
        self._switcher.current = view.id
        if view is not before:
            view.activate()
        self.refresh_bindings()
        return view

    def on_descendant_focus(self) -> None:
        """Update the header: on a narrow screen it names the visible panel."""
        self._update_crumbs()

    def on_resize(self) -> None:
        """Update the header for the new width."""
        self._update_crumbs()

    def _update_crumbs(self) -> None:
        narrow = self.size.width < 80
        self.query_one(HeaderBar).crumbs = self.view.crumbs() if narrow and self.view is not None else ()

    def action_next_panel(self) -> None:
        """Focus the next panel."""
        if self.view is not None:
            self.view.step(1)

    def action_previous_panel(self) -> None:
        """Focus the previous panel."""
        if self.view is not None:
            self.view.step(-1)


def _view_class(name: str) -> type[View]:
    if name == "specs":
        from speclab.app.views.specs.view import SpecsView

        return SpecsView
    if name == "mapping":
        from speclab.app.views.mapping.view import MappingView

        return MappingView
    from speclab.app.views.monitor.view import MonitorView

    return MonitorView
