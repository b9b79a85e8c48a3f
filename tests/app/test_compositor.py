"""Every widget is told its size, also one that something asked about before it was laid out."""

from __future__ import annotations

from textual.app import App
from textual.widget import Widget

from speclab.app.terminal import ResizeFixScreen


class Told(Widget):
    """Remembers the heights it was told."""

    def __init__(self) -> None:
        super().__init__()
        self.heights: list[int] = []

    def on_resize(self) -> None:
        self.heights.append(self.size.height)


class Asking(App[None]):
    def get_default_screen(self) -> ResizeFixScreen[None]:
        return ResizeFixScreen()


async def test_a_widget_asked_about_after_a_scroll_and_before_its_layout_is_told_its_size() -> None:
    async with Asking().run_test(size=(40, 10)) as pilot:
        screen = pilot.app.screen
        await screen.mount(widget := Told())
        widget.display = False
        await pilot.pause()
        widget.heights.clear()
        widget.display = True
        screen._compositor.reflow_visible(screen, screen.size)  # a scroll
        assert widget in screen._compositor.full_map  # something asks where everything is
        await pilot.pause()
        assert widget.heights == [10]
