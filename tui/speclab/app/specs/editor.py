"""The text editor of one section: Textual's TextArea, coloured for specs."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
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
from speclab.app.specs.highlight import Kind, State, states, tokens
from speclab.outcome import Level


class Underline(NamedTuple):
    """A problem in the text: `length` characters from `column` of `line`, both from 0."""

    line: int
    column: int
    length: int
    level: Level


WRITING: Final = (
    Action("leave", "done", "Stop editing; what was written stays in the spec.", ("escape",)),
    Action("undo", "undo", "Undo what was typed last, or else what was done before.", ("ctrl+z",)),
    Action("redo", "redo", "Type again what was undone.", ("ctrl+y",), footer=False),
)


class SectionEditor(Actor, TextArea):
    """A section's text: to look at, or (not `read_only`) to edit until `escape`."""

    ACTIONS = WRITING
    BINDINGS: ClassVar[list[BindingType]] = bindings(ACTIONS)

    def actions(self) -> Sequence[Action]:
        """Nothing while the text is only looked at."""
        return () if self.read_only else WRITING

    class Left(Message):
        """`escape` was pressed."""

    class Beyond(Message):
        """Undo (or redo) was asked for, and there is nothing more of it in this text."""

        def __init__(self, *, redo: bool) -> None:
            super().__init__()
            self.redo = redo

    COMPONENT_CLASSES: ClassVar[set[str]] = {
        *(f"section-editor--{kind}" for kind in Kind),
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
        self._states: list[State] | None = None
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
            highlight_cursor_line=False,  # its colours would take the place of those of the text
        )
        self.indent_width = 2
        self.cursor_blink = False  # nothing moves but what changed, and nothing is sent while nobody types

    def underline(self, underlines: Iterable[Underline]) -> None:
        """Show where problems are; takes the place of what was shown before."""
        by_line: dict[int, list[Underline]] = {}
        for each in underlines:
            by_line.setdefault(each.line, []).append(each)
        if by_line != self._underlines:
            self._underlines = by_line
            self.notify_style_update()  # drops the cached lines
            self.refresh()

    def load_text(self, text: str) -> None:
        """Show `text`; its history starts anew."""
        self._states = None
        super().load_text(text)
        self.refresh()  # Textual sees no need for it where size and selection stay as they were

    def place_cursor(self, at: tuple[int, int]) -> None:
        """Put the cursor at (line, column) from 0, or at the nearest place in the text, also while it is not shown.

        `load_text` leaves the cursor where it was in the text before, which may be outside this one.
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
        """Undo what was typed last, or else what was done before."""
        if self.read_only or not self.history.undo_stack:
            self.post_message(self.Beyond(redo=False))
        else:
            self._states = None
            self.undo()

    def action_redo(self) -> None:
        """Type it again, or else do again what was undone before."""
        if self.read_only or not self.history.redo_stack:
            self.post_message(self.Beyond(redo=True))
        else:
            self._states = None
            self.redo()

    def action_leave(self) -> None:
        """Leave the text."""
        self.post_message(self.Left())

    def get_line(self, line_index: int) -> Text:
        """The line, coloured."""
        text = super().get_line(line_index)
        if self._states is None:
            self._states = states(self.document.lines)
        for start, end, kind in tokens(text.plain, self._states[line_index]):
            text.stylize(self.get_component_rich_style(f"section-editor--{kind}", partial=True), start, end)
        for mark in self._underlines.get(line_index, ()):
            style = self.get_component_rich_style(f"section-editor--{mark.level}", partial=True)
            text.stylize(style, mark.column, mark.column + mark.length)
        return text

    def render_line(self, y: int) -> Strip:
        """One line on the screen; one without the cursor that looks as before is not made again at each key."""
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
            self._states = states(self.document.lines)
        marks = tuple(self._underlines.get(row, ()))
        breaks = tuple(self.wrapped_document.get_offsets(row))  # they may lag behind the width
        key = (self.document[row], column, breaks, self._states[row], marks, self.size.width)
        strip = self._strips.get(key)
        if strip is None:
            strip = self._strips[key] = super().render_line(y)
        return strip

    def notify_style_update(self) -> None:
        """Forget how lines looked."""
        self._strips.clear()
        super().notify_style_update()

    def refresh(self, *regions: Region, repaint: bool = True, layout: bool = False, recompose: bool = False) -> Self:
        """Draw again; where no regions are named, the lines that look different. It has no border to be drawn."""
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
        # Textual keeps lines that are out of sight (all of them while another view is shown) as they were painted last.
        hidden = [y for y in self._painted if y >= height]
        for y in hidden:
            del self._painted[y]
        changed += hidden
        if changed:
            super().refresh(*(Region(-left, y, width, 1) for y in changed))

    def _on_key(self, event: events.Key) -> None:  # type: ignore[override]  # Textual calls this one first
        if event.key == "escape":  # a TextArea that takes tabs would give the focus away
            event.prevent_default()
