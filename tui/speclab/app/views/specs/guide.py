"""The guide beside the editor: what belongs in the section in hand, the settings it takes, and what is wrong in it."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from textwrap import wrap
from typing import Final

from textual.containers import VerticalScroll
from textual.content import Content
from textual.widgets import Static

from speclab.spec.guide import Guide, SettingHelp, Variant

_WHICH: Final = re.compile(r"^(?:connector|type):\s*[\"']?([\w.-]+)", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Paragraph:
    """Words in a style, `indent` cells in; a line that is broken goes on `hang` cells further in.

    `head` are words before them in a style of their own.
    """

    words: str
    style: str = ""
    head: str = ""
    head_style: str = ""
    indent: int = 0
    hang: int = 0

    def lines(self, width: int) -> Iterator[Content]:
        """The lines of it that fit into `width` cells."""
        text = f"{self.head}{self.words}"
        first, rest = " " * self.indent, " " * (self.indent + self.hang)
        head = len(self.head)
        for line in wrap(text, max(12, width), initial_indent=first, subsequent_indent=rest) or [""]:
            cut = self.indent + head if head else 0
            yield Content.assemble((line[:cut], self.head_style), (line[cut:], self.style))
            head = 0


BLANK: Final = Paragraph("")


class GuideView(VerticalScroll, can_focus=True):
    """What belongs here, in words, as choices, as settings."""

    DEFAULT_CSS = """
    GuideView { padding: 0 1; scrollbar-size-vertical: 1; }
    GuideView Static { color: $foreground; }
    """

    def __init__(self) -> None:
        self._text = Static()
        super().__init__(self._text)
        self._paragraphs: Sequence[Paragraph] = ()

    def show(self, guide: Guide, body: str, offered: Sequence[Paragraph]) -> None:
        """Show what belongs in a section whose text is `body`, and what can be done about it, or came of it."""
        apart = (BLANK,) if offered else ()
        self._tell([Paragraph(guide.summary), *apart, *offered, *_choices(guide), *_variants(guide, body)])

    def show_front_matter(self) -> None:
        """Show what belongs in the front matter."""
        self._tell([Paragraph("What the spec is called, and how far it is. Keys that other tools use are kept.")])

    def on_resize(self) -> None:
        """Break the lines anew."""
        self._break()

    def _tell(self, paragraphs: Sequence[Paragraph]) -> None:
        if paragraphs != self._paragraphs:
            self._paragraphs = paragraphs
            self._break()
            self.scroll_home(animate=False)

    def _break(self) -> None:
        width = self.size.width - 3  # what padding takes, and the scroll bar where there is one
        lines = [line for paragraph in self._paragraphs for line in paragraph.lines(width)]
        self._text.update(Content("\n").join(lines))


def _choices(guide: Guide) -> Iterator[Paragraph]:
    for choice in guide.choices:
        yield BLANK
        yield Paragraph(choice.text, "bold" if choice.runs else "", hang=2)
        yield Paragraph(choice.summary if choice.runs else f"{choice.summary}; not run yet", "$muted", indent=2)


def _variants(guide: Guide, body: str) -> Iterator[Paragraph]:
    chosen = _chosen(guide, body)
    if chosen is not None:
        yield BLANK
        if not chosen.settings:
            yield Paragraph(chosen.summary)
        for setting in chosen.settings:
            yield from _setting(setting)
        return
    for variant in guide.variants:
        yield BLANK
        yield Paragraph(variant.name, "bold")
        yield Paragraph(variant.summary, "$muted", indent=2)
        if variant.provider:
            yield Paragraph(f"from {variant.provider}", "$muted", indent=2)


def _chosen(guide: Guide, body: str) -> Variant | None:
    """The variant that the section's settings block says it is, or the only one there is."""
    if len(guide.variants) == 1:
        return guide.variants[0]
    names = set(_WHICH.findall(body))
    return next((variant for variant in guide.variants if variant.name in names), None)


def _setting(setting: SettingHelp) -> Iterator[Paragraph]:
    depth = 2 * setting.name.count(".")
    expected = setting.type
    if setting.required:
        expected += ", required"
    elif setting.default:
        expected += f", default {setting.default}"
    name = setting.name.rpartition(".")[2]
    yield Paragraph(expected, "$secondary", f"{name}  ", "bold" if setting.required else "", indent=depth, hang=4)
    if setting.description:
        yield Paragraph(setting.description, "$muted", indent=depth + 2)
