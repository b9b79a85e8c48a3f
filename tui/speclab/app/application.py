"""The app: the shell that holds the three places, what they share, and what can be done everywhere."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import ClassVar, Final

from textual import on
from textual.app import App, ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Container
from textual.reactive import reactive

from speclab.app.actions import Action, Actor, bindings
from speclab.app.glyphs import AsciiOnly
from speclab.app.place import Place
from speclab.app.theme import ANSI, DARK, LIGHT, THEMES
from speclab.app.widgets.header import Header, Totals
from speclab.app.widgets.keybar import KeyBar
from speclab.errors import SpeclabError, UsageError

APP: Final = (
    Action("specs", "specs", "Go to the specs: what each integration says.", ("1",), footer=False),
    Action("mapping", "mapping", "Go to the mapping of the open spec.", ("2",), footer=False),
    Action("monitor", "monitor", "Go to the monitor: how every integration runs.", ("3",), footer=False),
    Action("next-panel", "next pane", "Give the next pane the focus.", ("tab",), footer=False),
    Action("previous-panel", "previous pane", "Give the pane before the focus.", ("shift+tab",), footer=False),
    Action("help", "help", "What can be done here, and why something cannot.", ("question_mark", "f1")),
    Action("palette", "everything", "Find an action, a spec or a place by a few letters.", ("ctrl+p",)),
    Action("theme", "light or dark", "Change between the light and the dark theme.", footer=False),
    Action("redraw", "redraw", "Draw the whole screen again.", ("ctrl+l",), footer=False),
    Action("quit", "quit", "Leave speclab; runs that were started go on.", ("q", "ctrl+c"), footer=False),
)

PLACES: Final = ("specs", "mapping", "monitor")


class SpeclabApp(App[None], Actor):
    """The whole app on one workspace.

    What the places share: `directory`, `runlog` (its path), `read_only`, and `spec`, the spec that is open. Anything
    a person should know goes through `tell` (an error) or Textual's `notify`.
    """

    TITLE = "speclab"
    ENABLE_COMMAND_PALETTE = False  # ctrl+p opens it with our registry: see `action_palette`
    HORIZONTAL_BREAKPOINTS = [(0, "-narrow"), (80, "-medium"), (120, "-wide")]  # noqa: RUF012 (no ClassVar in Textual)
    ACTIONS = APP
    BINDINGS: ClassVar[list[BindingType]] = [
        *bindings(APP),
        Binding("ctrl+q", "act('quit')", show=False, priority=True),
    ]
    CSS = """
    Screen { background: $background; color: $foreground; }
    #places { width: 1fr; height: 1fr; }
    Toast { background: $panel; max-width: 70%; }
    """

    spec: reactive[Path | None] = reactive(None, init=False)
    totals: reactive[Totals | None] = reactive(None)

    def __init__(
        self,
        directory: Path,
        *,
        read_only: bool = False,
        ascii_only: bool = False,
        runlog: Path | None = None,
        place: str = "specs",
    ) -> None:
        super().__init__(ansi_color=True if _few_colours() else None)
        self.directory = directory
        self.runlog = runlog or directory / ".speclab" / "runlog.db"
        self.read_only = read_only
        self._first_place = place
        self._ascii = ascii_only
        self.animation_level = "none"
        for theme in THEMES:
            self.register_theme(theme)
        self.theme = ANSI.name if _few_colours() else DARK.name

    def compose(self) -> ComposeResult:
        """The frame; places are made when they are first shown."""
        yield Header()
        yield Container(id="places")
        yield KeyBar()

    async def on_mount(self) -> None:
        """Show the first place."""
        if self._ascii:
            self._filters.append(AsciiOnly())
        await self.show_place(self._first_place)

    # Places

    @property
    def place(self) -> Place | None:
        """The place that is seen."""
        return next((place for place in self._places() if place.display), None)

    def _places(self) -> list[Place]:
        return list(self.screen_stack[0].query_one("#places").query_children(Place)) if self.screen_stack else []

    async def show_place(self, name: str) -> Place:
        """Bring the place `name` to be seen, made now if it never was; closes what is open above it."""
        while len(self.screen_stack) > 1:
            await self.pop_screen()
        before = self.place
        place = next((place for place in self._places() if name == place.NAME), None)
        if before is not None and before is not place:
            before.on_leave()
            before.display = False
        if place is None:
            place = _place_class(name)()
            await self.screen.query_one("#places").mount(place)
        place.display = True
        self.query_one(Header).here = name
        if place is not before:
            place.on_arrive()
        self.refresh_bindings()
        return place

    async def open_spec(self, path: Path, place: str | None = None) -> None:
        """Make `path` the open spec, in the place that is seen or the one named."""
        self.spec = path
        target = await self.show_place(place) if place else self.place
        if target is not None:
            target.open(path)

    async def action_specs(self) -> None:
        """Go to the specs."""
        await self.show_place("specs")

    async def action_mapping(self) -> None:
        """Go to the mapping."""
        await self.show_place("mapping")

    async def action_monitor(self) -> None:
        """Go to the monitor."""
        await self.show_place("monitor")

    @on(Header.Tab)
    async def _tab(self, event: Header.Tab) -> None:
        await self.show_place(event.place)

    def action_next_panel(self) -> None:
        """Give the next panel the focus."""
        if self.place is not None:
            self.place.step(1)

    def action_previous_panel(self) -> None:
        """Give the panel before the focus."""
        if self.place is not None:
            self.place.step(-1)

    # Everywhere

    def tell(self, title: str, error: SpeclabError) -> None:
        """Show an error as what it is and what to do about it."""
        message = f"{error.message}\n{error.hint}" if error.hint else error.message
        self.notify(message, title=title, severity="error", timeout=10, markup=False)

    def action_theme(self) -> None:
        """Change between light and dark."""
        self.theme = LIGHT.name if self.theme == DARK.name else DARK.name

    def why_not(self, action: str) -> str | None:
        """Sixteen colours have no light and dark of their own."""
        if action == "theme" and self.theme == ANSI.name:
            return "This terminal's own sixteen colours are used; change them in the terminal."
        return None

    def action_redraw(self) -> None:
        """Draw the whole screen again."""
        self.screen.refresh()

    def action_quit(self) -> None:  # type: ignore[override]
        """Leave."""
        self.exit()


def _place_class(name: str) -> type[Place]:
    if name == "specs":
        from speclab.app.specs.place import SpecsPlace

        return SpecsPlace
    if name == "mapping":
        from speclab.app.mapping.place import MappingPlace

        return MappingPlace
    from speclab.app.monitor.place import MonitorPlace

    return MonitorPlace


def _few_colours() -> bool:
    """True where tints cannot be shown: NO_COLOR (https://no-color.org), or a terminal of sixteen colours."""
    if os.environ.get("NO_COLOR"):
        return True
    if os.environ.get("COLORTERM", "") in {"truecolor", "24bit"}:
        return False
    return "256color" not in os.environ.get("TERM", "") and "direct" not in os.environ.get("TERM", "")


def run_app(
    directory: Path,
    *,
    read_only: bool = False,
    ascii: bool = False,  # noqa: A002 (the option's name)
    runlog: Path | None = None,
    place: str = "specs",
) -> None:
    """Open the app on the workspace `directory` and stay until it is left.

    Raises `UsageError` where there is no terminal to draw on.
    """
    if not (sys.stdin.isatty() and sys.stderr.isatty()) or os.environ.get("TERM", "") in {"", "dumb"}:
        raise UsageError(
            "the app needs a terminal that can place text, and this is none",
            hint="Use `speclab status`, `speclab runs` and `speclab failures` here; `speclab --help` lists the rest.",
        )
    SpeclabApp(directory, read_only=read_only, ascii_only=ascii, runlog=runlog, place=place).run()
