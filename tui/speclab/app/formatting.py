"""How values look: colours, icons, and figures as text."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from math import floor
from typing import Final

from rich.segment import Segment
from textual.color import Color
from textual.filter import LineFilter
from textual.theme import Theme

ELLIPSIS: Final = "…"
RULE: Final = "─"
SIDE: Final = "│"
CRUMB: Final = "▸"
ARROW: Final = "→"
POINTER: Final = "◀"
NOTHING: Final = "–"  # noqa: RUF001 (a dash where a number would be)
SPARKS: Final = "▁▂▃▄▅▆▇"
BAR_DONE: Final = "█"
BAR_LEFT: Final = "░"


@dataclass(frozen=True, slots=True)
class Icon:
    """A status as glyph, word and colour, so that none is needed alone; `style` names a `Grid` style."""

    glyph: str
    word: str
    style: str


RUNNING: Final = Icon("●", "running", "live")
WELL: Final = Icon("✔", "ok", "good")
ATTENTION: Final = Icon("▲", "attention", "attention")
FAILED: Final = Icon("✖", "failing", "failed")
IDLE: Final = Icon("◌", "idle", "muted")
WAITING: Final = Icon("↻", "waiting", "attention")
PAUSED: Final = Icon("‖", "paused", "muted")
PARKED: Final = Icon("◷", "parked", "attention")

MARKS: Final = (RUNNING, WELL, ATTENTION, FAILED, IDLE, WAITING, PAUSED, PARKED)

_TWINS: Final = (
    ("●✔▲✖◌↻‖◷", "*+!x.@|p"),
    ("─━│┃┬┴├┤┼┌┐└┘╭╮╰╯", "--||+++++++++++++"),
    ("▁▂▃▄▅▆▇█", "_.:-=+*#"),
    ("░▒▓▌▐▀▎▊▔▕▏", '.:#||"||-||'),
    ("…▸→←↑↓◀▶–·⏎", "~>><^v<>-.<"),  # noqa: RUF001 (the dash is one of the signs)
)
_ASCII: Final = str.maketrans(dict(pair for signs, twins in _TWINS for pair in zip(signs, twins, strict=True)))


class AsciiOnly(LineFilter):
    """Replace the icons of this module and Textual's borders and bars by ASCII (`--ascii`).

    Text of files and systems is not changed.
    """

    def apply(self, segments: list[Segment], background: Color) -> list[Segment]:  # noqa: ARG002 (Textual's signature)
        """Return the segments in ASCII; every replacement is one cell wide, like the original."""
        return [Segment(text.translate(_ASCII), style, control) for text, style, control in segments]


def bar(share: float, width: int) -> str:
    """Return a progress bar: `share` (0 to 1) of `width` cells filled."""
    done = round(min(1.0, max(0.0, share)) * width)
    return BAR_DONE * done + BAR_LEFT * (width - done)


_UNITS: Final = ((86400, "d"), (3600, "h"), (60, "min"))


def moment(at: str) -> datetime:
    """Parse a timestamp of the run log."""
    return datetime.fromisoformat(at)


def span(seconds: float) -> str:
    """Format a duration in one unit: `41 s`, `6 min`, `3 h`, `12 d`; under ten seconds with a decimal."""
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    size, name = next(((size, name) for size, name in _UNITS if seconds >= size), (1, "s"))
    return f"{int(seconds // size)} {name}"


def ago(at: str, now: datetime) -> str:
    """Format the time since `at`: `just now`, `6 min ago`."""
    seconds = (now - moment(at)).total_seconds()
    return "just now" if seconds < 10 else f"{span(seconds)} ago"


def until(at: str, now: datetime) -> str:
    """Format the time until `at`: `in 4 s`, `due` if it has passed, or `late 5 min` after more than a minute."""
    seconds = (moment(at) - now).total_seconds()
    if seconds < -60:
        return f"late {span(-seconds)}"
    return "due" if seconds <= 0 else f"in {max(1, round(seconds))} s" if seconds < 60 else f"in {span(seconds)}"


def clock_time(at: str) -> str:
    """Format the local time of day: `10:42:07`."""
    return moment(at).astimezone().strftime("%H:%M:%S")


def exactly(at: str) -> str:
    """Format the local date and time with its zone: `2026-11-24 10:42:07 CET`."""
    return moment(at).astimezone().strftime("%Y-%m-%d %H:%M:%S %Z")


def percent(share: float | None, decimals: int = 1) -> str:
    """Format a share as a percentage, rounded down, so that only the whole is `100.0 %`; a dash for None."""
    if share is None:
        return NOTHING
    scale = 10**decimals
    return f"{floor(share * 100 * scale + 1e-9) / scale:.{decimals}f} %"


def count(number: int) -> str:
    """Format a count with thousands separators."""
    return f"{number:,}"


_SHARED: Final = {
    "block-cursor-text-style": "none",
    "input-cursor-text-style": "none",
}

DARK: Final = Theme(
    name="speclab-dark",
    primary="#6cb6d9",
    secondary="#8f9fb3",
    accent="#6cb6d9",
    success="#83b88a",
    warning="#e0b15e",
    error="#e57b6f",
    foreground="#d5dae1",
    background="#14171c",
    surface="#1a1e25",
    panel="#20262e",
    boost="#252c36",
    dark=True,
    variables={
        **_SHARED,
        "border": "#6cb6d9",
        "muted": "#838d9b",
        "rule": "#39424e",
        "spark": "#5b8a66",
        "cursor": "#26384a",
        "cursor-blurred": "#20262e",
        "block-cursor-background": "#26384a",
        "block-cursor-foreground": "#eef1f5",
        "block-cursor-blurred-background": "#20262e",
        "input-selection-background": "#6cb6d9 35%",
        "scrollbar": "#39424e",
        "scrollbar-hover": "#4a5563",
        "scrollbar-active": "#6cb6d9",
        "scrollbar-background": "#14171c",
        "scrollbar-background-hover": "#14171c",
        "scrollbar-background-active": "#14171c",
        "scrollbar-corner-color": "#14171c",
    },
)

LIGHT: Final = Theme(
    name="speclab-light",
    primary="#1f6f96",
    secondary="#5a6675",
    accent="#1f6f96",
    success="#38763f",
    warning="#8f5c00",
    error="#b23a2e",
    foreground="#262b32",
    background="#f8f8f5",
    surface="#f0f0ec",
    panel="#e8e8e3",
    boost="#dfdfd9",
    dark=False,
    variables={
        **_SHARED,
        "border": "#1f6f96",
        "muted": "#69717c",
        "rule": "#c9c9c2",
        "spark": "#7ca882",
        "cursor": "#d3e5ee",
        "cursor-blurred": "#e8e8e3",
        "block-cursor-background": "#d3e5ee",
        "block-cursor-foreground": "#16191d",
        "block-cursor-blurred-background": "#e8e8e3",
        "input-selection-background": "#1f6f96 25%",
        "scrollbar": "#c9c9c2",
        "scrollbar-hover": "#b3b3ab",
        "scrollbar-active": "#1f6f96",
        "scrollbar-background": "#f8f8f5",
        "scrollbar-background-hover": "#f8f8f5",
        "scrollbar-background-active": "#f8f8f5",
        "scrollbar-corner-color": "#f8f8f5",
    },
)

ANSI: Final = Theme(
    name="speclab-ansi",
    ansi=True,
    primary="ansi_cyan",
    secondary="ansi_default",
    accent="ansi_cyan",
    success="ansi_green",
    warning="ansi_yellow",
    error="ansi_red",
    foreground="ansi_default",
    background="ansi_default",
    surface="ansi_default",
    panel="ansi_default",
    boost="ansi_default",
    dark=True,
    variables={
        **_SHARED,
        "input-cursor-text-style": "reverse",
        "ansi-background": "ansi_default",
        "ansi-foreground": "ansi_default",
        "border": "ansi_cyan",
        "border-blurred": "ansi_default",
        "block-hover-background": "ansi_default",
        "input-cursor-background": "ansi_default",
        "input-cursor-foreground": "ansi_default",
        "input-selection-background": "ansi_cyan",
        "input-selection-foreground": "ansi_black",
        "screen-selection-background": "ansi_cyan",
        "screen-selection-foreground": "ansi_black",
        "muted": "ansi_default",
        "rule": "ansi_default",
        "spark": "ansi_green",
        "cursor": "ansi_default",
        "cursor-blurred": "ansi_default",
        "block-cursor-background": "ansi_cyan",
        "block-cursor-foreground": "ansi_black",
        "scrollbar": "ansi_bright_black",
        "scrollbar-hover": "ansi_bright_black",
        "scrollbar-active": "ansi_cyan",
        "scrollbar-background": "ansi_default",
        "scrollbar-background-hover": "ansi_default",
        "scrollbar-background-active": "ansi_default",
        "scrollbar-corner-color": "ansi_default",
    },
)
"""The terminal's 16 colours, for terminals without more, and without any colour for NO_COLOR.

It has no tints: muted text is `dim` and the cursor is `reverse`, see the `:ansi` rules of the widgets.
"""

THEMES: Final = (DARK, LIGHT, ANSI)
