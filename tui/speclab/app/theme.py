"""The themes: one accent colour for focus and live data, and three status colours."""

from __future__ import annotations

from typing import Final

from textual.theme import Theme

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
