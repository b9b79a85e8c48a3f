"""The shell: the screen the places stand in, and the pages that open above it."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, ClassVar, Final, TypeVar, cast

from textual import on
from textual.app import ComposeResult
from textual.binding import BindingType
from textual.containers import Container
from textual.dom import DOMNode

from speclab.app.actions import Action, Actor, bindings
from speclab.app.compositor import TellingScreen
from speclab.app.loading import loaded
from speclab.app.place import Place
from speclab.app.widgets.header import Header
from speclab.app.widgets.keybar import KeyBar

if TYPE_CHECKING:
    from speclab.app.application import SpeclabApp
    from speclab.runlog.tail import News

Result = TypeVar("Result")

PANES: Final = (
    Action("next-panel", "pane", "Give the next pane the focus.", ("tab",)),
    Action("previous-panel", "previous pane", "Give the pane before the focus.", ("shift+tab",), footer=False),
)
BACK: Final = Action("back", "back", "Go back to where this was opened from.", ("escape", "backspace"))


def shell(node: DOMNode) -> SpeclabApp:
    """The app `node` stands in, with what the places share."""
    return cast("SpeclabApp", node.app)


class Main(TellingScreen[None], Actor):
    """Header, the place that is seen, footer."""

    ACTIONS = PANES
    BINDINGS: ClassVar[list[BindingType]] = bindings(PANES)

    def compose(self) -> ComposeResult:
        """The frame; places are made when they are first shown."""
        yield Header()
        yield Container(id="places")
        yield KeyBar()

    def __init__(self) -> None:
        super().__init__()
        self._showing = asyncio.Lock()

    def on_mount(self) -> None:
        """Show the first place, once the frame is painted: what a place needs takes time to load."""
        self.call_after_refresh(self._show_first)

    async def _show_first(self) -> None:
        if not shell(self).here:  # else somebody was faster, and went elsewhere
            await self.show(shell(self).first_place)

    def places(self) -> list[Place]:
        """The places made so far, complete with what is in them."""
        return [place for place in self.query(Place) if place.is_mounted]

    @property
    def place(self) -> Place | None:
        """The place that is seen."""
        return next((place for place in self.places() if place.display), None)

    async def show(self, name: str) -> Place:
        """Bring the place `name` to be seen, made now if it never was."""
        async with self._showing:
            return await self._show(name)

    async def _show(self, name: str) -> Place:
        shell(self).here = name
        before = self.place
        place = next((place for place in self.places() if name == place.NAME), None)
        if before is not None and before is not place:
            before.on_leave()
            before.display = False
        if place is None:
            place = (await loaded(partial(_place_class, name)))()
            place.display = False  # what is laid out before it is seen would not be told its size
            await self.query_one("#places").mount(place)
        place.display = True
        if place is not before:
            place.on_arrive()
        self.refresh_bindings()
        return place

    def on_descendant_focus(self) -> None:
        """In a narrow screen the header says which panel is seen."""
        self._tell_crumbs()

    def on_resize(self) -> None:
        """Whether that is needed depends on the width."""
        self._tell_crumbs()

    def _tell_crumbs(self) -> None:
        narrow = self.size.width < 80
        self.query_one(Header).crumbs = self.place.crumbs() if narrow and self.place is not None else ()

    def action_next_panel(self) -> None:
        """Give the next panel the focus."""
        if self.place is not None:
            self.place.step(1)

    def action_previous_panel(self) -> None:
        """Give the panel before the focus."""
        if self.place is not None:
            self.place.step(-1)


class Page(TellingScreen[Result], Actor):
    """A whole screen above the places, such as one failure: a subclass gives `crumbs` and `body`, and may add actions.

    A subclass with actions of its own lists `BACK` among them, so that `esc` stays in the footer.
    """

    ACTIONS: ClassVar[Sequence[Action]] = (BACK,)
    BINDINGS: ClassVar[list[BindingType]] = bindings((BACK,))

    def compose(self) -> ComposeResult:
        """Header, body, footer."""
        header = Header()
        header.crumbs = self.crumbs()
        yield header
        yield from self.body()
        yield KeyBar()

    def crumbs(self) -> tuple[str, ...]:
        """Where this is, for the header."""
        return ()

    def body(self) -> ComposeResult:
        """What the page shows."""
        yield from ()

    def log_changed(self, news: News | None) -> None:
        """Something was committed to the run log; see `Place.log_changed`."""

    def action_back(self) -> None:
        """Go back to where this was opened from."""
        self.dismiss()

    @on(Header.Tab)
    async def _tab(self, event: Header.Tab) -> None:
        event.stop()
        await shell(self).show_place(event.place)


def _place_class(name: str) -> type[Place]:
    if name == "specs":
        from speclab.app.specs.place import SpecsPlace

        return SpecsPlace
    if name == "mapping":
        from speclab.app.mapping.place import MappingPlace

        return MappingPlace
    from speclab.app.monitor.place import MonitorPlace

    return MonitorPlace
