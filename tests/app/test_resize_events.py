"""Every widget gets its size, also one whose position was queried before its layout."""

from __future__ import annotations

from textual.app import App
from textual.widget import Widget

from speclab.app.terminal import ResizeFixScreen


class ResizeRecorder(Widget):
    """A widget that records the heights of its resize events."""

    def __init__(self) -> None:
        super().__init__()
        self.heights: list[int] = []

    def on_resize(self) -> None:
        self.heights.append(self.size.height)


class QueryingApp(App[None]):
    def get_default_screen(self) -> ResizeFixScreen[None]:
        return ResizeFixScreen()


async def test_widget_queried_after_a_scroll_and_before_its_layout_gets_its_size() -> None:
    async with QueryingApp().run_test(size=(40, 10)) as pilot:
        screen = pilot.app.screen
        await screen.mount(widget := ResizeRecorder())
        widget.display = False
        await pilot.pause()
        widget.heights.clear()
        widget.display = True
        screen._compositor.reflow_visible(screen, screen.size)  # a scroll
        assert widget in screen._compositor.full_map  # queries the position of every widget
        await pilot.pause()
        assert widget.heights == [10]
