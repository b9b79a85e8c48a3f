"""The text editor of one section: Textual's TextArea, coloured for specs."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import ClassVar, Final, NamedTuple

from rich.text import Text
from textual import events
from textual.binding import BindingType
from textual.message import Message
from textual.widgets import TextArea
from textual.widgets.text_area import Edit, EditResult

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
    }
    """

    def __init__(self, *, id: str | None = None) -> None:  # noqa: A002  Textual's own word
        self._states: list[State] | None = None
        self._underlines: dict[int, list[Underline]] = {}
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

    def _on_key(self, event: events.Key) -> None:  # type: ignore[override]  # Textual calls this one first
        if event.key == "escape":  # a TextArea that takes tabs would give the focus away
            event.prevent_default()
