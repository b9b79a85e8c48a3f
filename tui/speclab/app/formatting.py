"""How values look: colours, icons, and figures as text."""

from __future__ import annotations

from collections.abc import Mapping
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

_PALETTE: Final = (  # name, dark, light
    ("primary", "#6cb6d9", "#1f6f96"),
    ("secondary", "#8f9fb3", "#5a6675"),
    ("success", "#83b88a", "#38763f"),
    ("warning", "#e0b15e", "#8f5c00"),
    ("error", "#e57b6f", "#b23a2e"),
    ("foreground", "#d5dae1", "#262b32"),
    ("background", "#14171c", "#f8f8f5"),
    ("surface", "#1a1e25", "#f0f0ec"),
    ("panel", "#20262e", "#e8e8e3"),
    ("boost", "#252c36", "#dfdfd9"),
    ("muted", "#838d9b", "#69717c"),
    ("rule", "#39424e", "#c9c9c2"),
    ("spark", "#5b8a66", "#7ca882"),
    ("cursor", "#26384a", "#d3e5ee"),
    ("block-cursor-foreground", "#eef1f5", "#16191d"),
    ("input-selection-background", "#6cb6d9 35%", "#1f6f96 25%"),
    ("scrollbar-hover", "#4a5563", "#b3b3ab"),
)
_FIELDS: Final = "primary secondary success warning error foreground background surface panel boost".split()
"""The colors of the palette that are fields of a theme; the others are variables."""


def _build_theme(name: str, colors: Mapping[str, str], *, dark: bool) -> Theme:
    """Build a theme from the colors of the palette, and from those that are the same as another one."""
    theme = Theme(
        name=name,
        primary=colors["primary"],
        accent=colors["primary"],
        dark=dark,
        variables={
            **_SHARED,
            **{key: color for key, color in colors.items() if key not in _FIELDS},
            **dict.fromkeys(("border", "scrollbar-active"), colors["primary"]),
            **dict.fromkeys(("cursor-blurred", "block-cursor-blurred-background"), colors["panel"]),
            "block-cursor-background": colors["cursor"],
            "scrollbar": colors["rule"],
            **{
                f"scrollbar-{part}": colors["background"]
                for part in ("background", "background-hover", "background-active", "corner-color")
            },
        },
    )
    for field in _FIELDS:
        setattr(theme, field, colors[field])
    return theme


DARK: Final = _build_theme("speclab-dark", {name: color for name, color, _ in _PALETTE}, dark=True)
LIGHT: Final = _build_theme("speclab-light", {name: color for name, _, color in _PALETTE}, dark=False)

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
