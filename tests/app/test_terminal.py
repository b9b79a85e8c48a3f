"""Output to the terminal: only differences are sent, and never too little."""

from __future__ import annotations

from collections.abc import Iterable

import pyte
from hypothesis import given
from hypothesis import strategies as st
from rich.color import ColorSystem
from rich.segment import Segment
from rich.style import Style
from textual._compositor import LayoutUpdate
from textual.geometry import Region, Size
from textual.strip import Strip

from speclab.app.terminal import Terminal

WIDTH, HEIGHT = 12, 3
SIZE = Size(WIDTH, HEIGHT)
STYLES = [Style.parse(text) for text in ("none", "bold", "red", "white on blue", "reverse")]


def update(*lines: tuple[tuple[str, Style], ...]) -> LayoutUpdate:
    strips: list[Iterable[Strip]] = []
    for line in lines:
        strip = Strip([Segment(text, style) for text, style in line])
        strips.append([strip.adjust_cell_length(WIDTH, Style.null())])
    return LayoutUpdate(strips, Region(0, 0, WIDTH, len(lines)))


def plain(*lines: str) -> LayoutUpdate:
    return update(*(((line, Style.null()),) for line in lines))


def sent(terminal: Terminal, drawn: LayoutUpdate) -> str:
    return terminal.difference(drawn, SIZE, ColorSystem.TRUECOLOR)


def test_unchanged_text_is_not_sent_again() -> None:
    terminal = Terminal()
    sent(terminal, plain("one", "two", "three"))
    assert sent(terminal, plain("one", "two", "three")) == ""


def test_one_different_character_is_all_that_is_sent() -> None:
    terminal = Terminal()
    sent(terminal, plain("one", "two 4", "three"))
    assert sent(terminal, plain("one", "two 5", "three")) == "\x1b[2;5H5"


def test_no_control_character_of_a_text_is_sent_and_the_text_beside_it_keeps_its_position() -> None:
    terminal = Terminal()
    hostile = "a\x1b[2J\x9b\u202eb"
    left, right = Strip([Segment(hostile)]), Strip([Segment("beside")])
    text = sent(terminal, LayoutUpdate([[left, right]], Region(0, 0, left.cell_length + 6, 1)))
    assert text == "\x1b[1;1Ha\u241b[2J\x1b[1;6Hbeside"


def test_old_text_is_cleared_beside_a_character_that_the_terminal_draws_narrower() -> None:
    terminal, screen = Terminal(), pyte.Screen(WIDTH, HEIGHT)
    stream = pyte.Stream(screen)
    for text in ("alarm", "❤\ufe0farm"):
        stream.feed(sent(terminal, plain(text, "", "")))
    assert screen.buffer[0][0].data.startswith("❤")
    assert [screen.buffer[0][x].data for x in range(1, 5)] == [" ", "a", "r", "m"]


def test_output_for_a_larger_terminal_is_cut_to_a_smaller_one() -> None:
    strips: list[Iterable[Strip]] = [[Strip([Segment(text)]) for text in ("left " * 3, "wide " * 3, "lost " * 3)]]
    drawn = LayoutUpdate(strips * 5, Region(0, 0, 45, 5))
    screen = pyte.Screen(WIDTH, HEIGHT)
    pyte.Stream(screen).feed(sent(Terminal(), drawn))
    assert screen.display == ["left left le"] * HEIGHT


def test_everything_is_sent_after_a_reset() -> None:
    terminal = Terminal()
    first = sent(terminal, plain("one", "two", "three"))
    terminal.forget()
    assert sent(terminal, plain("one", "two", "three")) == first


def test_other_size_is_sent_in_full() -> None:
    terminal = Terminal()
    sent(terminal, plain("one", "two", "three"))
    assert "one" in terminal.difference(plain("one", "two"), Size(WIDTH, 2), ColorSystem.TRUECOLOR)


lines = st.lists(st.tuples(st.text(st.sampled_from("ab 东é"), max_size=6), st.sampled_from(STYLES)), max_size=2).map(
    tuple
)


@given(st.lists(st.tuples(lines, lines, lines), min_size=2, max_size=5))
def test_differences_draw_the_same_screen_as_the_whole(
    frames: list[tuple[tuple[tuple[str, Style], ...], ...]],
) -> None:
    terminal = Terminal()
    by_differences = pyte.Screen(WIDTH, HEIGHT)
    for frame in frames:
        pyte.Stream(by_differences).feed(sent(terminal, update(*frame)))
    at_once = pyte.Screen(WIDTH, HEIGHT)
    pyte.Stream(at_once).feed(sent(Terminal(), update(*frames[-1])))
    assert by_differences.display == at_once.display
    assert by_differences.buffer == at_once.buffer
