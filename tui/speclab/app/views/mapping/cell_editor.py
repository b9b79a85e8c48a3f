"""The cell editor of the mapping grid, with completion."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from math import ceil
from typing import TYPE_CHECKING, ClassVar, Final

from rich.cells import cell_len
from textual import on
from textual.binding import BindingType
from textual.containers import Vertical
from textual.content import Content
from textual.events import Paste
from textual.geometry import Offset, Region
from textual.message import Message
from textual.widgets import Input, Static

from speclab.app.actions import Action, Actor, bindings
from speclab.app.views.mapping.rows import EDITED, MappingHost, text_of
from speclab.app.widgets.cells import fit, fit_middle
from speclab.app.widgets.grid import Grid, GridCell, GridColumn, GridRow
from speclab.core.errors import EditRejected
from speclab.core.outcome import Level
from speclab.mapping.completion import Candidate, complete_source, complete_step, complete_target
from speclab.spec.table import SOURCE, TARGET, TRANSFORMATION
from speclab.workbench.mapping_state import CellEdit

if TYPE_CHECKING:
    from speclab.mapping.completion import Candidate

EDITING: Final = (
    Action("commit", "done", "Write the cell.", ("enter",)),
    Action("complete", "complete", "Accept the completion, or go to the next cell.", ("tab",)),
    Action("cancel", "cancel", "Leave the cell as it was.", ("escape",)),
    Action("next", "next completion", "Select the next completion.", ("down",), footer=False, palette=False),
    Action("previous", "previous completion", "Select the previous completion.", ("up",), footer=False, palette=False),
)

SHOWN: Final = 6
"""Completions that are visible at once."""

_LINE_END: Final = re.compile(r"\r\n|\r|\n")
_WIDEST: Final = 56
_LINES: Final = 3
_COLOURS: Final = {"": "", "good": "$success", "attention": "$warning", "failed": "$error", "muted": "$muted"}


@dataclass(frozen=True, slots=True)
class Hint:
    """A message about the text so far, on `start` to `end` of it (both 0: its result); style as in `GridCell`."""

    message: str
    style: str = ""
    start: int = 0
    end: int = 0


@dataclass(frozen=True, slots=True)
class Editing:
    """Functions of the sheet that the editor calls: a hint for a text, and completions at a position in it."""

    hint: Callable[[str], Hint]
    complete: Callable[[str, int], Sequence[Candidate]]


class CellInput(Actor, Input):
    """The input over the cell."""

    ACTIONS = EDITING
    BINDINGS: ClassVar[list[BindingType]] = bindings(EDITING)
    DEFAULT_CSS = """
    CellInput, CellInput:focus {
        position: absolute;
        layer: above;
        height: 1;
        border: none;
        padding: 0;
        background: $surface;
        background-tint: $surface 0%;
    }
    """

    @dataclass
    class Done(Message):
        """Posted to write the text; `onward` asks for the next cell."""

        text: str
        onward: bool

    class Cancelled(Message):
        """Posted to leave the cell unchanged."""

    @dataclass
    class CellsPasted(Message):
        """Posted when cells separated by tabs are pasted."""

        text: str

    def __init__(self, popup: CompletionPopup) -> None:
        super().__init__(select_on_focus=False)
        self.cursor_blink = False
        self._popup = popup
        self.editing = False
        self._asked: Editing | None = None
        self._update_pending = False
        self._begun = ""

    def begin(self, text: str, editing: Editing, region: Region, bounds: Region) -> None:
        """Edit `text` over the cell at `region`; both regions are relative to the view."""
        self._asked = editing
        self.editing = True
        self.put(region, bounds)
        self._begun = text
        with self.prevent(Input.Changed):
            self.value = text
        self.cursor_position = len(text)
        self._update_popup()
        self.focus()

    def put(self, region: Region, bounds: Region) -> None:
        """Move over the cell at `region`, as wide as fits inside `bounds`."""
        room = max(region.width, min(_WIDEST, bounds.right - region.x))
        self.styles.width = room
        self.styles.offset = region.offset
        self._popup.put(region, room, bounds)
        self.display = True

    def end(self) -> None:
        """Stop editing."""
        self.editing = self.display = self._popup.display = False

    def on_blur(self) -> None:
        """Write the cell when the focus moves elsewhere in the app."""
        if self.editing and self.app.app_focus and self.screen.focused is not self:
            self.post_message(self.Done(self.value, onward=False))

    def on_paste(self, event: Paste) -> None:
        """Join pasted lines: a cell is one line, and the input alone would keep only the first."""
        event.prevent_default().stop()
        if "\t" in event.text:
            self.post_message(self.CellsPasted(event.text))
            return
        first, *others = _LINE_END.split(event.text)
        text = " ".join([first, *filter(None, map(str.strip, others))])
        self.replace(text, *self.selection)

    @on(Input.Changed)
    def _changed(self, event: Input.Changed) -> None:
        event.stop()
        self._update_popup()

    def watch_cursor_position(self) -> None:
        """Update the completions for the cursor position."""
        self._update_popup()

    def _update_popup(self) -> None:
        """Update the hint soon; a key changes both the text and the cursor, which needs only one update."""
        if self.editing and not self._update_pending:
            self._update_pending = True
            self.call_later(self._update_popup_now)

    def _update_popup_now(self) -> None:
        self._update_pending = False
        if self.editing and self._asked is not None:
            hint = self._asked.hint(self.value)
            start, end = (cell_len(self.value[:at]) for at in (hint.start, hint.end))
            self._popup.update_hint(
                replace(hint, start=start, end=max(end, start + (hint.end > hint.start))),
                self._asked.complete(self.value, self.cursor_position),
                self.scroll_offset.x,
            )

    def take_chosen(self) -> None:
        """Accept the completion under the cursor, as a click does."""
        if (chosen := self._popup.chosen) is not None:
            self._take(chosen)

    def _take(self, candidate: Candidate) -> None:
        text = self.value[: candidate.start] + candidate.text + self.value[candidate.end :]
        self.value = text
        self.cursor_position = candidate.start + len(candidate.text)

    def on_input_submitted(self, event: Input.Submitted) -> None:
        """Handle enter, which the input receives first."""
        event.stop()
        self.action_commit()

    def action_commit(self) -> None:
        """Accept the completion that was selected, or write the cell."""
        chosen = self._popup.chosen
        if chosen is not None and self._popup.went:
            self._take(chosen)
        else:
            self.post_message(self.Done(self.value, onward=False))

    def action_complete(self) -> None:
        """Accept the completion of the text, or write the cell and go to the next."""
        chosen = self._popup.chosen
        asked = self.value != self._begun or self._popup.went
        if asked and chosen is not None and chosen.text != self.value[chosen.start : chosen.end]:
            self._take(chosen)
        else:
            self.post_message(self.Done(self.value, onward=True))

    def action_cancel(self) -> None:
        """Leave the cell as it was."""
        self.post_message(self.Cancelled())

    def action_next(self) -> None:
        """Select the next completion."""
        self._popup.go(1)

    def action_previous(self) -> None:
        """Select the previous completion."""
        self._popup.go(-1)


class CompletionPopup(Vertical):
    """The hint and the completions, below the input, or above it if they do not fit below."""

    DEFAULT_CSS = """
    CompletionPopup {
        position: absolute;
        layer: above;
        height: auto;
        background: $panel;
        & > Static { padding: 0 1; background: $panel; }
        & > Grid { height: auto; background: $panel; }
        & > Grid > .grid--cursor { background: $cursor; }
    }
    """

    def __init__(self) -> None:
        self._hint = Static(markup=False)
        self._list = Grid(_columns((), _WIDEST), heading=False)
        self._list.can_focus = False
        super().__init__(self._hint, self._list)
        self._candidates: Sequence[Candidate] = ()
        self.went = False
        self._region = self._bounds = Region()
        self._width = 0

    def put(self, region: Region, width: int, bounds: Region) -> None:
        """Move below (or above) `region`, `width` cells wide, inside `bounds`."""
        self._region, self._bounds, self._width = region, bounds, width
        self.styles.width = width + 2
        self.display = True

    @property
    def chosen(self) -> Candidate | None:
        """The completion under the cursor."""
        at = self._list.cursor_row
        return self._candidates[at] if at < len(self._candidates) else None

    def go(self, by: int) -> None:
        """Move the cursor in the completions."""
        if self._candidates:
            self._list.move(self._list.cursor_row + (by if self.went else 0))
            self.went = True

    def update_hint(self, hint: Hint, candidates: Sequence[Candidate], scrolled: int) -> None:
        """Show `hint`, whose range is in cells, and `candidates`; the input is scrolled by `scrolled` cells."""
        if candidates != self._candidates:
            self._candidates = candidates
            self.went = False
            self._list.lay_out(_columns(candidates, self._width))
            room = self._list.columns[0].width
            self._list.show(
                [
                    GridRow(each.text, (fit_middle(each.text, room), GridCell(each.about, "muted")))
                    for each in candidates
                ]
            )
            self._list.move(0)
        lines: list[Content] = []
        if hint.end > hint.start:
            start = max(hint.start, scrolled)
            lines.append(Content.styled(" " * (start - scrolled) + "~" * max(1, hint.end - start), "$error"))
        message = fit(hint.message, _LINES * self._width)
        if message:
            lines.append(Content.styled(message, _COLOURS[hint.style]))
        self._hint.update(Content("\n").join(lines))
        self._hint.display = bool(lines)
        self._list.styles.height = min(SHOWN, len(candidates))
        self._list.display = bool(candidates)
        height = (hint.end > hint.start) + ceil(cell_len(message) / self._width) + min(SHOWN, len(candidates))
        below = self._region.y + 1
        fits = below + height <= self._bounds.bottom
        self.styles.offset = Offset(self._region.x - 1, below if fits else max(0, self._region.y - height))


def _columns(candidates: Sequence[Candidate], width: int) -> tuple[GridColumn, ...]:
    """Return the columns of the completions: the text, whole if it fits, then its description."""
    longest = max((cell_len(each.text) for each in candidates), default=12)
    about = max((cell_len(each.about) for each in candidates), default=0)
    first = max(12, min(longest, width if not about else max(24, width // 2)))
    return (GridColumn("", first), GridColumn("", 10, flex=1, drop=1))


class CellEditing:
    """The cell that is being edited, if any."""

    def __init__(self, host: MappingHost) -> None:
        self._host = host
        self.popup = CompletionPopup()
        self.line = CellInput(self.popup)
        self._edit: CellEdit | None = None
        self._column = 0  # of the grid
        self._groups = 0

    @property
    def active(self) -> bool:
        """Whether a cell is being edited."""
        return self.line.editing

    @property
    def index(self) -> int:
        """The row of the table that is being edited."""
        return self._edit.index if self._edit is not None else 0

    @property
    def column(self) -> int:
        """The column of the grid that is being edited."""
        return self._column

    def new_group(self) -> str:
        """Return a name for edits that are one step to undo."""
        self._groups += 1
        return f"cells {self._groups}"

    def begin(self, index: int, column: int, group: str = "") -> None:
        """Edit the cell of that row of the table, in that column of the grid."""
        host, sheet = self._host, self._host.state.sheet
        if sheet is None:
            return
        host.grid.move(index, column)
        if not host.grid.region_of(index, column):
            return
        name, row = EDITED[column], sheet.rows[index]
        text = row.texts[name]
        self._edit = CellEdit(index, name, row.texts[TARGET], text, text, group or self.new_group())
        self._column = column
        editing = Editing(partial(self._hint, index, name), partial(self._complete, name))
        self.line.begin(text, editing, self._region(), Region(0, 0, *host.size))
        host.refresh_bindings()

    def follow_cell(self) -> None:
        """Move the input to where the cell is after a resize."""
        if self._edit is not None:
            self.line.put(self._region(), Region(0, 0, *self._host.size))

    def _region(self) -> Region:
        """Return the region of the cell in the view."""
        grid = self._host.grid
        return grid.region_of(self.index, self._column).translate(grid.content_region.offset - self._host.region.offset)

    def _hint(self, index: int, column: str, text: str) -> Hint:
        """Return the effect of `text` in the cell, and show the row with it."""
        self._host.document.update_recovery_soon()
        state = self._host.state
        if state.sheet is None:
            return Hint("")
        try:
            trial = state.sheet.trial(index, column, text)
        except EditRejected as error:
            return Hint(error.message, "failed")
        self._host.show_trial(trial)
        errors = [each for each in trial.problems if each.level is Level.ERROR]
        here = next((each for each in errors if each.column == column), None)
        if here is not None:
            return Hint(here.message, "failed", here.start, max(here.end, here.start + 1))
        if errors:
            return Hint(errors[0].message, "muted")
        outcome = trial.outcome(state.record) if state.record is not None else None
        if outcome is None:
            return Hint("")
        if outcome.failure is not None:
            return Hint(outcome.failure.reason, "attention")
        return Hint(f"→ {text_of(outcome.result.value)}", "good")

    def _complete(self, column: str, text: str, cursor: int) -> tuple[Candidate, ...]:
        state = self._host.state
        paths = [field.path for field in state.fields]
        if column == SOURCE:
            return complete_source(text, cursor, paths)
        if column == TARGET:
            return complete_target(text, cursor, [each.target for each in state.unmapped.values()])
        if column == TRANSFORMATION and state.sheet is not None:
            return complete_step(text, cursor, fields=paths, lookups=state.sheet.settings.lookups)
        return ()

    # Writing

    def prepare_save(self) -> bool:
        """Write the cell and stop editing; return whether it was accepted."""
        return not self.active or self.write(self.line.value)

    def finish(self, text: str, *, onward: bool) -> None:
        """Write the cell; with `onward`, edit the next cell of the row."""
        edit, grid = self._edit, self._host.grid
        if edit is None or not self.write(text) or not onward:
            return
        here = grid.cursor_row
        visible = [at for at in EDITED if self.has_column(at) and grid.region_of(here, at)]
        if self._column != visible[-1]:
            self.begin(here, visible[visible.index(self._column) + 1], edit.group)

    def has_column(self, column: int) -> bool:
        """Return whether the table has the column that is shown there in the grid."""
        sheet = self._host.state.sheet
        return sheet is not None and sheet.table is not None and EDITED[column] in sheet.table.columns

    def write(self, text: str) -> bool:
        """Write `text` into the cell and stop editing; if it is rejected, show why and continue editing."""
        try:
            self._put(text)
        except EditRejected as error:
            self._host.context.show_error("Not changed", error)
            self.line.focus()
            return False
        self._end()
        return True

    def cancel(self) -> None:
        """Stop editing and restore the text the cell had before."""
        edit = self._edit
        if edit is not None and edit.written != edit.before:
            try:
                self._put(edit.before)
            except EditRejected as error:
                self._host.context.show_error("Not restored", error)
        self._end()

    def _end(self) -> None:
        self._edit = None
        self.line.end()
        self._host.grid.focus()
        self._host.document.refresh()

    @property
    def has_draft(self) -> bool:
        """Whether the text in the input is not in the document yet."""
        return self._edit is not None and self.line.value != self._edit.written

    def draft(self) -> str | None:
        """Return the whole document with the text that is being typed; None if the document contains it."""
        opened = self._host.opened
        if self._edit is None or opened is None or not self.has_draft:
            return None
        try:
            return self._edit.apply(opened.document, self.line.value)[0].text
        except EditRejected:  # the hint says why, and the text stays in the input
            return None

    def commit_draft(self) -> None:
        """Bring the text that is being typed into the document, and continue editing."""
        if self.has_draft:
            with suppress(EditRejected):  # the hint says why, and the text stays in the input
                self._put(self.line.value)

    def _put(self, text: str) -> None:
        """Replace the text of the cell. Raises `EditRejected`."""
        edit, opened = self._edit, self._host.opened
        if edit is None or opened is None:
            return
        document, written = edit.apply(opened.document, text)
        opened.edit(document, f"{edit.name} of row {written.index + 1}", edit.group)
        self._edit = written
