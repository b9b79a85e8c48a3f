"""The few signs the screens are drawn with, each status as glyph and word and colour, and their twins in ASCII."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from rich.segment import Segment
from textual.color import Color
from textual.filter import LineFilter

ELLIPSIS: Final = "…"
RULE: Final = "─"
SIDE: Final = "│"
CRUMB: Final = "▸"
ARROW: Final = "→"
BECOMES: Final = "◀"
NOTHING: Final = "–"  # noqa: RUF001 (a dash where a number would be)
SPARKS: Final = "▁▂▃▄▅▆▇"
BAR_DONE: Final = "█"
BAR_LEFT: Final = "░"


@dataclass(frozen=True, slots=True)
class Icon:
    """One status, told three ways so that none has to be trusted alone; `style` names a `Grid` style."""

    glyph: str
    word: str
    style: str


RUNNING: Final = Icon("●", "running", "live")
WELL: Final = Icon("✔", "well", "good")
ATTENTION: Final = Icon("▲", "needs attention", "attention")
FAILED: Final = Icon("✖", "failed", "failed")
IDLE: Final = Icon("◌", "idle", "muted")
WAITING: Final = Icon("↻", "waiting", "attention")
PAUSED: Final = Icon("‖", "paused", "muted")
PARKED: Final = Icon("↻", "parked", "attention")

MARKS: Final = (RUNNING, WELL, ATTENTION, FAILED, IDLE, WAITING, PAUSED, PARKED)

_TWINS: Final = (
    ("●✔▲✖◌↻‖", "*+!x.@|"),
    ("─━│┃┬┴├┤┼┌┐└┘╭╮╰╯", "--||+++++++++++++"),
    ("▁▂▃▄▅▆▇█", "_.:-=+*#"),
    ("░▒▓▌▐▀▎▊▔▕▏", '.:#||"||-||'),
    ("…▸→←↑↓◀▶–·⏎", "~>><^v<>-.<"),  # noqa: RUF001 (the dash is one of the signs)
)
_ASCII: Final = str.maketrans(dict(pair for signs, twins in _TWINS for pair in zip(signs, twins, strict=True)))


class AsciiOnly(LineFilter):
    """Draws the signs of this module, and Textual's borders and bars, in ASCII (`--ascii`).

    Text that came from a file or a system is left as it is: its letters are not ours to change.
    """

    def apply(self, segments: list[Segment], background: Color) -> list[Segment]:  # noqa: ARG002 (Textual's signature)
        """The same segments, sign by sign in ASCII; every twin is one cell wide, as the sign is."""
        return [Segment(text.translate(_ASCII), style, control) for text, style, control in segments]


def bar(share: float, width: int) -> str:
    """`share` (0 to 1) of `width` cells, filled."""
    done = round(min(1.0, max(0.0, share)) * width)
    return BAR_DONE * done + BAR_LEFT * (width - done)
