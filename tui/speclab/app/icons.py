"""Icons of the screens: each status as a glyph, a word and a colour, with ASCII replacements."""

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
    """A status as glyph, word and colour, so that none is needed alone; `style` names a `Grid` style."""

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
