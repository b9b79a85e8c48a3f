"""The palette (ctrl+p) and the help (F1), both built from the action registry."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from typing import ClassVar, Final

from textual import events, on
from textual.app import App, ComposeResult
from textual.binding import BindingType
from textual.containers import Vertical
from textual.dom import DOMNode
from textual.fuzzy import FuzzySearch
from textual.screen import ModalScreen
from textual.widget import Widget
from textual.widgets import Input

from speclab.app.actions import Action, Actor, Command, Offer, bindings, key_name, offers, working_keys
from speclab.app.dialogs import Dialog
from speclab.app.view import Reference
from speclab.app.widgets.grid import Grid, GridCell, GridColumn, GridRow, TextSpan
from speclab.app.widgets.header import KeyBar

RUN: Final = Action("run", "run", "Run the command under the cursor.", ("enter",))
CLOSE: Final = Action("close", "close", "Close the dialog.", ("escape",))

_ELSEWHERE: Final = "everywhere"
_MOVING: Final = "moving around"
_LEAST: Final = 10
"""Minimum width of the descriptions, in cells."""


def list_offers(focused: DOMNode) -> list[Offer]:
    """Return the actions available at `focused`, each with the keys that work there."""
    found = []
    for offer in offers(focused):
        keys = working_keys(offer, focused)
        if keys or not offer.action.keys:
            found.append(replace(offer, action=replace(offer.action, keys=keys)))
    return found


def list_commands(focused: DOMNode, here: str) -> Iterator[Command]:
    """Yield a command of the palette per action available at `focused`; `here` is the name of the view."""
    for offer in offers(focused):
        action = offer.action
        if not action.palette:
            continue
        keys = working_keys(offer, focused)
        yield Command(
            action.title,
            "anywhere" if isinstance(offer.actor, App) else here,
            partial(offer.actor.action_act, action.id),
            action.description,
            key_name(keys[0]) if keys else "",
            offer.reason,
        )


class Palette(ModalScreen[Command | None], Actor):
    """Commands filtered by a fuzzy search, the best match first; the result is the chosen command."""

    ACTIONS = (RUN, CLOSE)
    BINDINGS: ClassVar[list[BindingType]] = bindings(ACTIONS)
    DEFAULT_CSS = """
    Palette { align: center top; background: transparent; }
    Palette > #box {
        width: 100;
        max-width: 94%;
        height: 70%;
        margin-top: 2;
        background: $surface;
        border: round $accent;
        border-title-color: $accent;
        border-title-style: bold;
    }
    Palette Input, Palette Input:focus {
        background: $surface;
        background-tint: $surface 0%;
        border: none;
        height: 1;
        padding: 0 1;
        margin: 0 0 1 0;
    }
    Palette Grid { height: 1fr; background: $surface; }
    Palette Grid > .grid--cursor { background: $cursor; }
    Palette Grid:ansi > .grid--cursor { text-style: reverse; }
    Palette KeyBar { background: $surface; }
    """

    def __init__(
        self,
        commands: Iterable[Command],
        *,
        title: str = "everything",
        placeholder: str = "action, spec or view",
    ) -> None:
        super().__init__()
        self._title = title
        self._placeholder = placeholder
        self._commands = list(commands)
        self._search = FuzzySearch()

    def compose(self) -> ComposeResult:
        """Compose the search input and the matches."""
        line = Input(placeholder=self._placeholder)
        line.cursor_blink = False
        grid = Grid(
            [
                GridColumn("", 24, flex=1, most=40),
                GridColumn("", 8),
                GridColumn("", 9),
                GridColumn("", 10, flex=3, drop=1),
            ],
            heading=False,
            empty=("No match.", "Type fewer letters."),
        )
        grid.can_focus = False
        box = Vertical(line, grid, KeyBar(), id="box")
        box.border_title = self._title
        yield box

    def on_mount(self) -> None:
        """Show all commands."""
        self._narrow("")

    @on(Input.Changed)
    def _changed(self, event: Input.Changed) -> None:
        self._narrow(event.value.strip())

    def _narrow(self, query: str) -> None:
        scored = []
        for index, command in enumerate(self._commands):
            score, offsets = self._search.match(query, command.title) if query else (1.0, ())
            if score > 0:
                scored.append((-score, command.reason is not None, index, offsets))
        grid = self.query_one(Grid)
        grid.show([self._row(index, offsets) for _score, _cannot, index, offsets in sorted(scored)])
        grid.move(0)

    def _row(self, index: int, offsets: Sequence[int]) -> GridRow:
        command = self._commands[index]
        spans = tuple(TextSpan(offset, offset + 1, "live") for offset in offsets)
        cannot = command.reason is not None
        return GridRow(
            str(index),
            (
                GridCell(command.title, "muted" if cannot else "", spans),
                GridCell(command.where, "muted"),
                GridCell(command.key, "live"),
                GridCell(command.reason or command.detail, "attention" if cannot else "muted"),
            ),
        )

    def on_key(self, event: events.Key) -> None:
        """Move in the list with the arrow keys while letters go into the input."""
        grid = self.query_one(Grid)
        moves = {
            "up": grid.action_up,
            "down": grid.action_down,
            "pageup": grid.action_page_up,
            "pagedown": grid.action_page_down,
        }
        if event.key in moves:
            moves[event.key]()
            event.stop()

    @on(Input.Submitted)
    @on(Grid.Chosen)
    def action_run(self) -> None:
        """Close with the command under the cursor."""
        row = self.query_one(Grid).row
        self.dismiss(self._commands[int(row.key)] if row is not None else None)

    def action_close(self) -> None:
        """Close without a command."""
        self.dismiss(None)


class Help(Dialog[None]):
    """Every available action, its keys, what it does, and why it is disabled, if it is."""

    ACTIONS = (CLOSE,)
    BINDINGS: ClassVar[list[BindingType]] = bindings(ACTIONS)
    DEFAULT_CSS = """
    Help > #box { width: 100; height: 80%; padding: 0 0 0 1; }
    Help > #box > Grid { height: 1fr; }
    """

    def __init__(self, here: str, offers: Sequence[Offer], reference: Reference = ()) -> None:
        super().__init__("help")
        self._here = here
        self._offers = offers
        self._reference = reference
        self._beside = 0  # width of the columns beside the descriptions

    def inside(self) -> Sequence[Widget]:
        """Return the table of keys."""
        keys = max(
            len(text)
            for text in (
                self._here,
                _ELSEWHERE,
                _MOVING,
                *(_keys(o.action) for o in self._offers),
                *(name for name, _ in self._reference),
            )
        )
        titles = max(len(offer.action.title) for offer in self._offers)
        self._beside = keys + titles + 10  # with the gaps, the frame and the scroll bar
        columns = [GridColumn("", keys), GridColumn("", titles), GridColumn("", _LEAST, flex=1)]
        return (Grid(columns, heading=False, cursor="none"),)

    def on_resize(self) -> None:
        """Wrap the descriptions to the available width."""
        width = max(_LEAST, min(100, self.size.width * 94 // 100) - self._beside)
        groups = (
            (self._here, [o for o in self._offers if o.action.palette and not isinstance(o.actor, App)]),
            (_ELSEWHERE, [o for o in self._offers if o.action.palette and isinstance(o.actor, App)]),
            (_MOVING, [o for o in self._offers if not o.action.palette]),
        )
        rows: list[GridRow] = []
        for name, listed in groups:
            rows.append(GridRow(name, (GridCell(name, "strong"), "", "")))
            rows.extend(row for offer in listed for row in self._lines(offer, width))
            rows.append(GridRow(f"after {name}", ("", "", "")))
        for name, entries in self._reference:
            rows.append(GridRow(name, (GridCell(name, "strong"), "", "")))
            for term, explanation in entries:
                rows.append(GridRow(term, ("", "", GridCell(term, "live"))))
                rows.extend(
                    GridRow(f"{term} {line}", ("", "", GridCell(line, "muted")))
                    for line in textwrap.wrap(explanation, width)
                )
            rows.append(GridRow(f"after {name}", ("", "", "")))
        self.query_one(Grid).show(rows[:-1])

    @staticmethod
    def _lines(offer: Offer, width: int) -> Iterable[GridRow]:
        action = offer.action
        wrapped = [(line, "") for line in textwrap.wrap(action.description, width)]
        if offer.reason is not None:
            wrapped += [(line, "attention") for line in textwrap.wrap(f"Not now: {offer.reason}", width)]
        for number, (line, style) in enumerate(wrapped):
            first = number == 0
            yield GridRow(
                f"{action.id} {number}",
                (
                    GridCell(_keys(action) if first else "", "live"),
                    action.title if first else "",
                    GridCell(line, style or "muted"),
                ),
            )

    def action_close(self) -> None:
        """Close the help."""
        self.dismiss(None)


def _keys(action: Action) -> str:
    return " ".join(key_name(key) for key in action.keys)
