"""The section editor and its panel: text as it is edited, highlighted, and edited outside."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import ClassVar, Final, NamedTuple, Self

from rich.text import Text
from textual import events
from textual.binding import BindingType
from textual.cache import LRUCache
from textual.geometry import Offset, Region
from textual.message import Message
from textual.strip import Strip
from textual.widgets import TextArea
from textual.widgets.text_area import Edit, EditResult, Selection

from speclab.app.actions import Action, Actor, bindings
from speclab.app.widgets.cells import printable
from speclab.core.errors import EditRejected, SpeclabError
from speclab.core.outcome import Level
from speclab.core.processes import attach_child, detach_child

_LINE_END: Final = re.compile(r"\r\n|\n|\r")
_SURROGATE: Final = re.compile(r"[\ud800-\udfff]")

_PICTURES: Final = {
    **{chr(code): chr(0x2400 + code) for code in range(0x20) if chr(code) not in "\t\n\r"},
    "\x7f": "\u2421",
    **{chr(code): chr(0x2800 + code) for code in range(0x80, 0xA0)},
    "\x85": "\u2424",
    "\u2028": "\u21b5",
    "\u2029": "\u00b6",
    **dict(zip("\u202a\u202b\u202c\u202d\u202e", "\u21c9\u21c7\u21c5\u21d2\u21d0", strict=True)),
    **dict(zip("\u2066\u2067\u2068\u2069", "\u21e5\u21e4\u21c6\u21f5", strict=True)),
}
"""Characters that an editor would drop or split lines at, or a terminal obey, and the picture that replaces each.

C1 controls are Braille patterns and bidirectional controls arrows: each is unique, so that it can be restored.
"""


@dataclass(frozen=True, slots=True)
class EditableBody:
    r"""A section's `body`, and `shown`: the same with `\n` line ends and pictures of control characters."""

    body: str
    shown: str

    @classmethod
    def of(cls, body: str) -> EditableBody:
        """Convert a body for the editor.

        Raises `EditRejected` if it cannot be restored unchanged: it has bytes that are not UTF-8, or both a picture
        and the character that it replaces.
        """
        if _SURROGATE.search(body):
            raise EditRejected(
                "this section has bytes that are not UTF-8; this editor would change them",
                hint="F4 opens it in $EDITOR, which can keep them",
            )
        pictures = {ord(char): picture for char, picture in _PICTURES.items() if char in body}
        if clash := next((char for char, picture in pictures.items() if picture in body), None):
            raise EditRejected(
                f"this section has both U+{clash:04X} and {pictures[clash]!r}, which would be shown for it",
                hint="F4 opens it in $EDITOR",
            )
        return cls(body, "\n".join(_LINE_END.split(body)).translate(pictures))

    @classmethod
    def for_display(cls, body: str) -> EditableBody:
        """Convert a body for display only, with a picture for each unprintable character."""
        return cls(body, "\n".join(printable(line) for line in _LINE_END.split(body)))

    def restore(self, edited: str) -> str:
        """Return the body for the edited text of `shown`."""
        if edited == self.shown:
            return self.body
        return edited.translate({ord(picture): char for char, picture in _PICTURES.items() if char in self.body})


class TokenType(StrEnum):
    """The syntax of a range of characters."""

    COMMENT = "comment"
    FENCE = "fence"
    KEY = "key"
    REFERENCE = "reference"  # ${env:NAME}
    CODE = "code"
    MARK = "mark"  # list bullets, check boxes, the pipes of a table


class HighlightToken(NamedTuple):
    """The syntax of characters `start` to `end` (exclusive) of a line."""

    start: int
    end: int
    kind: TokenType


class HighlightState(NamedTuple):
    """The syntax at the start of a line: an open fence (as written, with its language), or an open HTML comment."""

    fence: str = ""
    language: str = ""
    comment: bool = False


_FENCE: Final = re.compile(r" {0,3}(?P<fence>`{3,}|~{3,})\s*(?P<language>[\w-]*)")
_SETTING: Final = re.compile(r"\s*(?:- +)?(?P<key>[\w.\"'-]+)\s*:(?=\s|$)")
_FLOW_KEY: Final = re.compile(r"[{,]\s*(?P<key>[\w.\"'-]+)\s*:(?=\s)")
_REFERENCE: Final = re.compile(r"\$\{[^}\s]*\}")
_YAML_COMMENT: Final = re.compile(r"(?:^|\s)(?P<comment>#.*)")
_CODE: Final = re.compile(r"(`+)(?!`).+?(?<!`)\1(?!`)")
_MARK: Final = re.compile(r"\s*(?P<mark>(?:[-*+]|\d+[.)])(?: \[[ xX]\])?)(?= )")
_PIPE: Final = re.compile(r"(?<!\\)\|")


def line_states(lines: Iterable[str]) -> list[HighlightState]:
    """Return the state at the start of each line."""
    result, state = [], HighlightState()
    for line in lines:
        result.append(state)
        state = _after(line, state)
    return result


def highlight_line(line: str, state: HighlightState) -> list[HighlightToken]:
    """Return the tokens of `line`, which begins in `state`; prose has none."""
    if state.fence:
        if not _after(line, state).fence:
            return [HighlightToken(0, len(line), TokenType.FENCE)]
        return (
            list(_yaml(line)) if state.language in ("yaml", "yml") else [HighlightToken(0, len(line), TokenType.CODE)]
        )
    if not state.comment and _FENCE.match(line):
        return [HighlightToken(0, len(line), TokenType.FENCE)]
    return list(_markdown(line, state))


def _after(line: str, state: HighlightState) -> HighlightState:
    match = _FENCE.match(line)
    if state.fence:
        closes = match and match["fence"].startswith(state.fence) and not line[match.end("fence") :].strip()
        return HighlightState() if closes else state
    if match and not state.comment:
        return HighlightState(fence=match["fence"], language=match["language"].lower())
    opened = line.rfind("<!--")
    closed = line.rfind("-->")
    return HighlightState(comment=opened > closed or (state.comment and closed < 0))


def _yaml(line: str) -> Iterator[HighlightToken]:
    for pattern, kind, group in (
        (_SETTING, TokenType.KEY, "key"),
        (_FLOW_KEY, TokenType.KEY, "key"),
        (_REFERENCE, TokenType.REFERENCE, 0),
        (_YAML_COMMENT, TokenType.COMMENT, "comment"),
    ):
        found = [pattern.match(line)] if pattern is _SETTING else pattern.finditer(line)
        yield from (HighlightToken(match.start(group), match.end(group), kind) for match in found if match)


def _markdown(line: str, state: HighlightState) -> Iterator[HighlightToken]:
    if mark := _MARK.match(line):
        yield HighlightToken(mark.start("mark"), mark.end("mark"), TokenType.MARK)
    if "|" in line:
        yield from (HighlightToken(pipe.start(), pipe.end(), TokenType.MARK) for pipe in _PIPE.finditer(line))
    yield from (HighlightToken(code.start(), code.end(), TokenType.CODE) for code in _CODE.finditer(line))
    at = 0
    inside = state.comment
    while at < len(line):
        start = at if inside else line.find("<!--", at)
        if start < 0:
            return
        close = line.find("-->", start)
        end = len(line) if close < 0 else close + 3
        yield HighlightToken(start, end, TokenType.COMMENT)
        at, inside = end, False


def edit_externally(body: str, name: str) -> str:
    """Open `body` in the user's editor, as a file called `name`, and return the edited text.

    Raises `SpeclabError` if the editor cannot be started or fails.
    """
    command = os.environ.get("VISUAL") or os.environ.get("EDITOR") or "vi"
    with tempfile.TemporaryDirectory(prefix="speclab-") as directory:
        path = Path(directory, f"{name}.md")
        path.write_bytes(body.encode("utf-8", "surrogateescape"))
        try:
            process = subprocess.Popen([*shlex.split(command), str(path)])
        except (OSError, ValueError) as error:
            hint = "set EDITOR to an installed editor, such as EDITOR=nano"
            raise SpeclabError(f"the editor {command!r} cannot be started: {error}", hint=hint) from error
        attach_child(process.pid)
        code = process.wait()
        detach_child(process.pid)
        if code != 0:
            raise SpeclabError(f"the editor {command!r} ended with exit code {code}")
        return path.read_bytes().decode("utf-8", "surrogateescape")


class Underline(NamedTuple):
    """A problem in the text: `length` characters from `column` of `line`, both from 0."""

    line: int
    column: int
    length: int
    level: Level


WRITING: Final = (
    Action("leave", "done", "Stop editing; the text stays in the spec.", ("escape",)),
    Action("undo", "undo", "Undo the last typing or, without any, the last change.", ("ctrl+z",)),
    Action("redo", "redo", "Redo the undone typing.", ("ctrl+y",), footer=False),
)


class SectionEditor(Actor, TextArea):
    """A section's text, read-only or edited until `escape`."""

    ACTIONS = WRITING
    BINDINGS: ClassVar[list[BindingType]] = bindings(ACTIONS)

    def actions(self) -> Sequence[Action]:
        """Return no actions while the text is read-only."""
        return () if self.read_only else WRITING

    class Finished(Message):
        """Posted when `escape` is pressed."""

    class HistoryExhausted(Message):
        """Posted on undo (or redo) without any typing left to undo (or redo)."""

        def __init__(self, *, redo: bool) -> None:
            super().__init__()
            self.redo = redo

    COMPONENT_CLASSES: ClassVar[set[str]] = {
        *(f"section-editor--{kind}" for kind in TokenType),
        *(f"section-editor--{level}" for level in Level),
    }

    DEFAULT_CSS = """
    SectionEditor {
        border: none;
        padding: 0;
        background: $background;
        &:focus { border: none; }
        &.-editing { background: $surface; }
        .section-editor--comment { color: $muted; }
        .section-editor--fence { color: $muted; }
        .section-editor--key { color: $secondary; }
        .section-editor--reference { color: $success; }
        .section-editor--code { color: $secondary; }
        .section-editor--mark { color: $muted; }
        .section-editor--error { color: $error; text-style: underline; }
        .section-editor--warning { color: $warning; text-style: underline; }
        .section-editor--info { text-style: underline; }
        &:ansi .section-editor--comment, &:ansi .section-editor--fence, &:ansi .section-editor--mark {
            text-style: dim;
        }
    }
    """

    def __init__(self, *, id: str | None = None) -> None:  # noqa: A002  Textual's own word
        self._states: list[HighlightState] | None = None
        self._underlines: dict[int, list[Underline]] = {}
        self._strips: LRUCache[tuple[object, ...], Strip] = LRUCache(500)  # of lines without the cursor
        self._painted: dict[int, Strip] = {}  # by y
        self._comparing = False
        super().__init__(
            id=id,
            soft_wrap=True,
            show_line_numbers=False,
            tab_behavior="indent",
            read_only=True,
            show_cursor=False,
            highlight_cursor_line=False,  # its colours would hide those of the text
        )
        self.indent_width = 2
        self.cursor_blink = False  # an idle app sends nothing to the terminal

    def underline(self, underlines: Iterable[Underline]) -> None:
        """Underline problems; earlier underlines are removed."""
        by_line: dict[int, list[Underline]] = {}
        for each in underlines:
            by_line.setdefault(each.line, []).append(each)
        if by_line != self._underlines:
            self._underlines = by_line
            self.notify_style_update()  # drops the cached lines
            self.refresh()

    def load_text(self, text: str) -> None:
        """Show `text` and clear the history."""
        self._states = None
        super().load_text(text)
        self.refresh()  # Textual skips it if size and selection stay the same

    def place_cursor(self, at: tuple[int, int]) -> None:
        """Move the cursor to (line, column) from 0, or to the nearest position, also while it is hidden.

        `load_text` keeps the position of the cursor in the old text, which may be outside the new one.
        """
        self.selection = Selection.cursor(at)

    def scroll_to_cursor(self) -> None:
        """Scroll to the line of the cursor; Textual does so only while the cursor is shown."""
        y = self.wrapped_document.location_to_offset(self.selection.end).y
        self.scroll_to_region(Region(0, y, 1, 1), animate=False)

    def edit(self, edit: Edit) -> EditResult:
        """Perform an edit."""
        self._states = None
        return super().edit(edit)

    def action_undo(self) -> None:
        """Undo the last typing or, without any, the last change."""
        if self.read_only or not self.history.undo_stack:
            self.post_message(self.HistoryExhausted(redo=False))
        else:
            self._states = None
            self.undo()

    def action_redo(self) -> None:
        """Redo the undone typing or, without any, the undone change."""
        if self.read_only or not self.history.redo_stack:
            self.post_message(self.HistoryExhausted(redo=True))
        else:
            self._states = None
            self.redo()

    def action_leave(self) -> None:
        """Stop editing."""
        self.post_message(self.Finished())

    def get_line(self, line_index: int) -> Text:
        """Return the line with syntax colours and underlines."""
        text = super().get_line(line_index)
        if self._states is None:
            self._states = line_states(self.document.lines)
        for start, end, kind in highlight_line(text.plain, self._states[line_index]):
            text.stylize(self.get_component_rich_style(f"section-editor--{kind}", partial=True), start, end)
        for mark in self._underlines.get(line_index, ()):
            style = self.get_component_rich_style(f"section-editor--{mark.level}", partial=True)
            text.stylize(style, mark.column, mark.column + mark.length)
        return text

    def render_line(self, y: int) -> Strip:
        """Render a line; unchanged lines without the cursor come from a cache."""
        strip = self._line(y)
        self._painted[y] = strip
        return strip

    def _line(self, y: int) -> Strip:
        at = y + self.scroll_offset.y
        first, last = sorted(self.selection)
        if at >= self.wrapped_document.height:
            return super().render_line(y)
        row, column = self.wrapped_document.offset_to_location(Offset(0, at))
        if first[0] <= row <= last[0]:
            return super().render_line(y)
        if self._states is None:
            self._states = line_states(self.document.lines)
        marks = tuple(self._underlines.get(row, ()))
        breaks = tuple(self.wrapped_document.get_offsets(row))  # they may lag behind the width
        key = (self.document[row], column, breaks, self._states[row], marks, self.size.width)
        strip = self._strips.get(key)
        if strip is None:
            strip = self._strips[key] = super().render_line(y)
        return strip

    def notify_style_update(self) -> None:
        """Clear the cache of rendered lines."""
        self._strips.clear()
        super().notify_style_update()

    def refresh(self, *regions: Region, repaint: bool = True, layout: bool = False, recompose: bool = False) -> Self:
        """Redraw `regions` or, without any, the lines that changed. There is no border to redraw."""
        if regions or layout or recompose or not repaint or not self.is_mounted:
            return super().refresh(*regions, repaint=repaint, layout=layout, recompose=recompose)
        if not self._comparing:
            self._comparing = True
            self.call_later(self._refresh_changed_lines)
        return self

    def _refresh_changed_lines(self) -> None:
        self._comparing = False
        left, width = self.gutter.left, self.outer_size.width
        height = self.size.height
        changed = [y for y in range(height) if self._line(y) != self._painted.get(y)]
        # Textual caches hidden lines (all of them while another view is visible) as last painted.
        hidden = [y for y in self._painted if y >= height]
        for y in hidden:
            del self._painted[y]
        changed += hidden
        if changed:
            super().refresh(*(Region(-left, y, width, 1) for y in changed))

    def on_key(self, event: events.Key) -> None:
        """Keep the focus on escape, which a TextArea that takes tabs would give away."""
        if event.key == "escape":
            event.prevent_default()
