"""Screens whose widgets are all told their size.

Textual's compositor tells a widget its size when a layout shows it for the first time. But when anything asks where a
widget is after a scroll and before that layout (a change of focus does), it takes the new widgets into its map by the
way, and the layout then finds nothing new: they are never told, and stay blank.
"""

from __future__ import annotations

from typing import Generic, TypeVar

from textual._compositor import Compositor, CompositorMap, ReflowResult
from textual.geometry import Size
from textual.screen import Screen
from textual.widget import Widget

Result = TypeVar("Result")


class TellingCompositor(Compositor):
    """Remembers whom it took in by the way, and tells them at the next layout."""

    def __init__(self) -> None:
        super().__init__()
        self._untold: set[Widget] = set()

    @property
    def full_map(self) -> CompositorMap:
        """Where every widget is."""
        before = self._full_map
        now = super().full_map
        if now is not before:
            self._untold |= {
                widget
                for widget, place in now.items()
                if widget not in before or before[widget].region.size != place.region.size
            }
        return now

    def reflow(self, parent: Widget, size: Size) -> ReflowResult:
        """Lay everything out; gives who is hidden, shown and resized."""
        hidden, shown, resized = super().reflow(parent, size)
        untold, self._untold = self._untold & self.widgets, set()
        return ReflowResult(hidden, shown, resized | untold)


class TellingScreen(Screen[Result], Generic[Result]):
    """A screen with that compositor."""

    def __init__(self) -> None:
        super().__init__()
        self._compositor = TellingCompositor()
