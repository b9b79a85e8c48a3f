"""What the terminal shows, remembered, so that only the cells that differ are sent to it.

Textual sends a changed line from the widget's left edge on, every segment with its full colours, and the whole screen
on any change of layout. Over SSH, and for a dashboard that ticks, that is most of the traffic: a digit that changes
costs a kilobyte, and here some fifty bytes.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import lru_cache
from typing import Final, TypeAlias, TypeVar, cast

from rich.cells import split_graphemes
from rich.color import ColorSystem
from rich.console import COLOR_SYSTEMS, Console, RenderableType
from textual._compositor import ChopsUpdate, CompositorUpdate, LayoutUpdate
from textual.geometry import Size
from textual.screen import Screen
from textual.strip import Strip

from speclab.app.keyboard import OrderlyApp
from speclab.app.widgets.cells import printable

Return = TypeVar("Return")

_Cell: TypeAlias = "tuple[str, str]"
"""A grapheme and its SGR codes; the right half of a wide grapheme is an empty text."""

_NEAR: Final = 6
"""Unchanged cells that are sent again rather than jumped over: a jump costs as much."""

_UNKNOWN: Final[_Cell] = ("", "?")


class Terminal:
    """The cells on the screen as they were last sent. Call `forget` when the terminal may show something else."""

    def __init__(self) -> None:
        self._rows: list[list[_Cell]] = []
        self._width = 0

    def forget(self) -> None:
        """Know nothing: the next update is sent whole."""
        self._rows = []

    def only_changes(self, update: CompositorUpdate, size: Size) -> CompositorUpdate:
        """An update that, when it is sent to a terminal of `size`, sends only what differs from what is there."""
        return _Changes(self, update, size)

    def difference(self, update: CompositorUpdate, size: Size, colours: ColorSystem) -> str:
        """The text that turns what the terminal shows into `update`; it is taken as sent."""
        if len(self._rows) != size.height or self._width != size.width:
            self._rows = [[_UNKNOWN] * size.width for _ in range(size.height)]
            self._width = size.width
        out: list[str] = []
        style = ""
        for y, x, strip in _pieces(update):
            if y < size.height and x < size.width:  # else it was drawn for a terminal that has become smaller since
                width = min(strip.cell_length, size.width - x)  # pictures of control characters may have made it wider
                style = self._line(out, style, y, x, _cells(strip, colours)[:width])
        if style:
            out.append("\x1b[m")
        return "".join(out)

    def _line(self, out: list[str], style: str, y: int, x: int, new: list[_Cell]) -> str:
        """Send what of `new` differs from what is at (x, y); returns the style the terminal is left in."""
        row = self._rows[y]
        old = row[x : x + len(new)]
        if old == new:
            return style
        for start, end in _runs(old, new):
            out.append(f"\x1b[{y + 1};{x + start + 1}H")
            for at in range(start, end):
                text, wanted = new[at]
                if not text:
                    continue
                if wanted != style:
                    out.append(_turn(style, wanted))
                    style = wanted
                if len(text) == 1:
                    out.append(text)
                    continue
                # Terminals disagree about how wide such a grapheme is: what it may leave of the cells is blank, and the
                # cursor goes where it should be.
                width = 2 if _wide(new, at) else 1
                out.append(f"{' ' * width}\x1b[{x + at + 1}G{text}\x1b[{x + at + width + 1}G")
        row[x : x + len(new)] = new
        return style


class ThriftyApp(OrderlyApp[Return]):
    """An app that sends its terminal only what differs."""

    def __init__(self, *, ansi_color: bool | None = None) -> None:
        super().__init__(ansi_color=ansi_color)
        self._terminal = Terminal()

    def on_mount(self) -> None:
        """Draw all anew after the terminal was somebody else's: a shell's (SIGTSTP), or an editor's."""
        self.app_resume_signal.subscribe(self, lambda _app: self.action_redraw())

    def _display(self, screen: Screen[object], renderable: RenderableType | CompositorUpdate | None) -> None:
        if isinstance(renderable, CompositorUpdate) and not self.is_inline:
            renderable = self._terminal.only_changes(renderable, self.size)
        super()._display(screen, cast("RenderableType | None", renderable))

    def on_resize(self) -> None:
        """The terminal may have moved its text about, or be back from another program."""
        self._terminal.forget()

    def action_redraw(self) -> None:
        """Draw the whole screen again."""
        self._terminal.forget()
        self.screen.refresh()


class _Changes(CompositorUpdate):
    """Works out the difference only when Textual really sends it."""

    def __init__(self, terminal: Terminal, update: CompositorUpdate, size: Size) -> None:
        self._terminal = terminal
        self._update = update
        self._size = size

    def render_segments(self, console: Console) -> str:
        colours = COLOR_SYSTEMS[console.color_system or "standard"]
        return self._terminal.difference(self._update, self._size, colours)


def _pieces(update: CompositorUpdate) -> Iterator[tuple[int, int, Strip]]:
    """The parts of lines an update draws: y, x and what stands there."""
    if isinstance(update, LayoutUpdate):
        for y, line in enumerate(update.strips, update.region.y):
            x = update.region.x
            for strip in line:
                yield y, x, strip
                x += strip.cell_length
    elif isinstance(update, ChopsUpdate):
        for y, first, last in update.spans:
            for (x, part), end in zip(update.chops[y].items(), update.chop_ends[y], strict=False):
                if part is not None and x < last and end > first:
                    yield y, x, part


def _cells(strip: Strip, colours: ColorSystem) -> list[_Cell]:
    cells: list[_Cell] = []
    for text, style, control in strip:
        if control:
            continue
        codes = Strip.render_ansi(style, colours) if style else ""
        text = printable(text)  # noqa: PLW2901 - whatever a widget shows, the terminal is never given a control character
        if text.isascii():
            cells.extend([(character, codes) for character in text])
            continue
        for start, end, width in split_graphemes(text)[0]:
            if width:
                cells.append((text[start:end], codes))
            if width == 2:
                cells.append(("", codes))
    return cells


def _runs(old: list[_Cell], new: list[_Cell]) -> Iterator[tuple[int, int]]:
    """Where `new` differs from `old`, as (start, end); what is near is taken together."""
    start = end = -1
    for at, cell in enumerate(new):
        if cell == old[at]:
            continue
        if start < 0:
            start = at
        elif at - end > _NEAR:
            yield start, end
            start = at
        end = at + 1
    if start >= 0:
        yield start, end


@lru_cache(4096)
def _turn(old: str, new: str) -> str:
    """What turns the SGR codes `old` into `new`: only the colour that differs, where nothing has to be taken back."""
    have, want = _parts(old), _parts(new)
    if have[0] != want[0] or (have[1] and not want[1]) or (have[2] and not want[2]):
        return f"\x1b[0;{new}m" if new else "\x1b[m"
    return f"\x1b[{';'.join(part for part, before in zip(want, have, strict=True) if part != before)}m"


_COLOUR: Final = re.compile(r"(?:^|;)(?P<code>[34]8;(?:2;\d+;\d+;\d+|5;\d+)|3[0-79]|9[0-7]|4[0-79]|10[0-7])(?=;|$)")


@lru_cache(4096)
def _parts(codes: str) -> tuple[str, str, str]:
    """SGR codes as attributes, foreground and background."""
    colours = [match["code"] for match in _COLOUR.finditer(codes)]
    front = next((code for code in colours if code[0] in "39"), "")
    back = next((code for code in colours if code[0] in "41"), "")
    return _COLOUR.sub("", codes), front, back


def _wide(cells: list[_Cell], at: int) -> bool:
    return at + 1 < len(cells) and not cells[at + 1][0]
