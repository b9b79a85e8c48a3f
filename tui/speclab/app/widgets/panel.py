"""Panels with a title, and toasts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Final

from rich.cells import cell_len
from rich.segment import Segment
from textual.app import App, ComposeResult
from textual.containers import Vertical
from textual.notifications import Notification, Notify
from textual.reactive import reactive
from textual.screen import Screen
from textual.strip import Strip
from textual.widget import Widget

from speclab.app.formatting import RULE, SIDE
from speclab.app.widgets.cells import fit

_JOINTS: Final = {(True, True): "┼", (True, False): "┬", (False, True): "├", (False, False): "┌"}
"""The joint of the rule and the line on the left, by whether a rule is beside it and a line above it."""


class Panel(Vertical):
    """A container of one pane; a view has several.

    `title` is shown in the rule above it, followed by a dim `note` with its state ("live", "3 rows"). It draws the line
    to a neighbour on its left. The rule has the accent colour while a widget inside has the focus.
    """

    DEFAULT_CSS = """
    Panel {
        width: 1fr;
        height: 1fr;
        background: $background;
        &:focus-within { background: $background; }  /* without this line, Textual drops the rule above it */
    }
    """

    title: reactive[str] = reactive("")
    note: reactive[str] = reactive("")

    def __init__(
        self,
        *children: Widget,
        title: str,
        note: str = "",
        id: str | None = None,  # noqa: A002 (Textual's name)
        classes: str | None = None,
    ) -> None:
        super().__init__(*children, id=id, classes=classes)
        self.joint = RULE
        self.set_reactive(Panel.title, title)
        self.set_reactive(Panel.note, note)

    def compose(self) -> ComposeResult:
        """Compose the rule above and the line on the left."""
        yield _Side()
        yield _Rule(self)

    def on_mount(self) -> None:
        """Check for a neighbour on the left after each layout."""
        self.screen.screen_layout_refresh_signal.subscribe(self, self._join)

    def _join(self, screen: Screen[object]) -> None:
        if not self.region:
            return  # not visible
        x, y = self.region.offset
        others = [panel.region for panel in screen.query(Panel) if panel.region and panel is not self]
        beside = any(other.y == y and other.right == x for other in others)
        above = any(other.bottom == y and other.x == x for other in others)
        joint = _JOINTS[beside, above] if x else RULE
        if joint != self.joint:
            self.joint = joint
            self.set_class(x > 0, "-joined")
            self._redraw()

    def watch_title(self) -> None:
        """Redraw the rule."""
        self._redraw()

    def watch_note(self) -> None:
        """Redraw the rule."""
        self._redraw()

    def _redraw(self) -> None:
        for rule in self.query_children(_Rule):
            rule.refresh()


class _Rule(Widget):
    SCOPED_CSS = False
    COMPONENT_CLASSES: ClassVar[set[str]] = {"rule--title", "rule--note"}
    DEFAULT_CSS = """
    _Rule {
        dock: top;
        height: 1;
        color: $rule;
        & > .rule--title { color: $foreground; text-style: bold; }
        & > .rule--note { color: $muted; }
        &:ansi > .rule--note { text-style: dim; }
    }
    Panel:focus-within > _Rule { color: $accent; }
    Panel:focus-within > _Rule > .rule--title { color: $accent; }
    """

    def __init__(self, panel: Panel) -> None:
        super().__init__()
        self._panel = panel

    def render_line(self, y: int) -> Strip:  # noqa: ARG002 (there is only one)
        width = self.size.width
        line = self.rich_style
        title = fit(self._panel.title, width - 4)
        note = fit(self._panel.note, width - cell_len(title) - 8) if self._panel.note else ""
        segments = [Segment(self._panel.joint, line)]
        if title:
            segments.append(Segment(f" {title} ", self.get_component_rich_style("rule--title", partial=True)))
        if note:
            segments.append(Segment(RULE * 2, line))
            segments.append(Segment(f" {note} ", self.get_component_rich_style("rule--note", partial=True)))
        used = sum(cell_len(segment.text) for segment in segments)
        segments.append(Segment(RULE * max(0, width - used), line))
        return Strip([Segment(text, line if style is line else line + style) for text, style, _ in segments], width)


class _Side(Widget):
    SCOPED_CSS = False
    DEFAULT_CSS = """
    _Side {
        display: none;
        dock: left;
        width: 1;
        margin-top: 1;
        color: $rule;
    }
    Panel.-joined > _Side { display: block; }
    """

    def render_line(self, y: int) -> Strip:  # noqa: ARG002 (all lines are equal)
        return Strip([Segment(SIDE, self.rich_style)], 1)


@dataclass
class RefusalToast(Notification):
    """Why something cannot be done now."""


def refuse(app: App[object], title: str, reason: str) -> None:
    """Show why something cannot be done now."""
    app.post_message(Notify(RefusalToast(reason, title, "warning", app.NOTIFICATION_TIMEOUT, markup=False)))
