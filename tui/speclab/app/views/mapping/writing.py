"""Writing in the Field Mapping: cells in place, rows added, moved, doubled, deleted, suggestions taken."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from typing import Final

from textual import on
from textual.events import Paste
from textual.geometry import Region

from speclab.app.context import AppContext
from speclab.app.views.document import DocumentView
from speclab.app.views.mapping.cell_editor import CellInput, CompletionPopup, Editing, Hint
from speclab.app.views.mapping.rows import EDITED, TRANSFORMATION_AT, Suggested, Unmapped, text_of
from speclab.app.widgets.grid import Grid
from speclab.core.errors import EditRejected
from speclab.core.json import Record
from speclab.core.outcome import Level
from speclab.core.text import format_count
from speclab.mapping.completion import Candidate, complete_source, complete_step, complete_target, qualify_path
from speclab.mapping.fields import Field, collect_fields
from speclab.spec.document import Document, MarkdownTable
from speclab.spec.table import SOURCE, TARGET, TRANSFORMATION
from speclab.workbench.mapping_sheet import MappingSheet, SheetRow
from speclab.workbench.samples import NONE, SampleRecords

_ON_A_ROW: Final = {"edit", "delete", "duplicate", "move-up", "move-down"}


@dataclass(frozen=True, slots=True)
class _Edited:
    """The cell that is edited: of row `index` of the table, in column `column` of the grid.

    `before` is its text as it was, `taken` as the document has it by now; by that and the row's `target` it is known
    again when others changed the table.
    """

    index: int
    column: int
    target: str
    before: str
    taken: str
    group: str


class RowWriting(DocumentView):
    """A place with a grid of the mapping's rows, of which the cells are written in place."""

    def __init__(self, context: AppContext) -> None:
        super().__init__(context)
        self.sheet: MappingSheet | None = None
        self.records: SampleRecords = NONE
        self.number = 0  # of the record in hand
        self.fields: tuple[Field, ...] = ()
        self.offered: dict[str, Unmapped] = {}
        self.suggested: Suggested = {}  # for these fields
        self.below = CompletionPopup()
        self.line = CellInput(self.below)
        self._edited: _Edited | None = None
        self._stay = 0  # which stay in the cells this is: what is written in one is one step to undo

    @property
    def grid(self) -> Grid:
        """The grid of rows."""
        raise NotImplementedError

    @property
    def record(self) -> Record | None:
        """The sample record in hand."""
        return self.records.records[self.number] if self.number < len(self.records.records) else None

    @property
    def row(self) -> SheetRow | None:
        """The row of the table under the cursor."""
        at = self.grid.cursor_row
        return self.sheet.rows[at] if self.sheet is not None and at < len(self.sheet.rows) else None

    @property
    def offer(self) -> Unmapped | None:
        """The unmapped target under the cursor."""
        return self.offered.get(self.grid.row.key) if self.grid.row is not None else None

    def why_not(self, action: str) -> str | None:
        """Why the mapping cannot be written so."""
        if action in {"undo", "redo"} and self.line.editing:
            return "a cell is being edited: enter writes it, esc leaves it as it was"
        if action not in {*_ON_A_ROW, "add", "suggest"}:
            return super().why_not(action)
        return self._why_no_row_change(action)

    def _why_no_row_change(self, action: str) -> str | None:
        if self.opened is None:
            return "no spec is open"
        if self.opened.read_only:
            return self.opened.read_only
        if self.sheet is None or self.sheet.table is None:
            return "the spec has no Field Mapping table; its section in Specs begins one with i"
        if action == "suggest":
            return None if any(each.suggestion for each in self.offered.values()) else "there is nothing to suggest"
        if action in _ON_A_ROW and self.row is None and not (action == "edit" and self.offer):
            return "there is no row"
        if action == "edit" and self.row is not None and not self._is_there(self._column):
            return f"the table has no column {EDITED[self._column]}"
        if action == "move-up" and self.row is not None and self.row.index == 0:
            return "it is the first row"
        if action == "move-down" and self.row is not None and self.row.index == len(self.sheet.rows) - 1:
            return "it is the last row"
        return None

    # Cells

    def action_edit(self) -> None:
        """Edit the cell under the cursor in place, or take the suggestion."""
        if self.offer is not None:
            self._take_offers([self.offer])
        elif self.row is not None:
            self.begin(self.row.index, self._column)

    @property
    def _column(self) -> int:
        """The grid's column of the cell that would be edited."""
        at = self.grid.cursor_column
        return at if at in EDITED else TRANSFORMATION_AT

    def _is_there(self, column: int) -> bool:
        """Whether the table has what is that column in the grid."""
        return self.sheet is not None and self.sheet.table is not None and EDITED[column] in self.sheet.table.columns

    def begin(self, index: int, column: int, group: str = "") -> None:
        """Edit the cell of that row of the table, in that column of the grid, as a part of that step of the history."""
        if self.sheet is None:
            return
        self.grid.move(index, column)
        if not self.grid.region_of(index, column):
            return
        if not group:
            self._stay += 1
            group = f"cells {self._stay}"
        name, row = EDITED[column], self.sheet.rows[index]
        text = row.texts[name]
        self._edited = _Edited(index, column, row.texts[TARGET], text, text, group)
        editing = Editing(partial(self._hint, index, name), partial(self._complete, name))
        self.line.begin(text, editing, self._over(index, column), Region(0, 0, *self.size))
        self.refresh_bindings()

    def _over(self, index: int, column: int) -> Region:
        """Where that cell of the grid is in the place."""
        return self.grid.region_of(index, column).translate(self.grid.content_region.offset - self.region.offset)

    def on_resize(self) -> None:
        """The cell that is edited may be elsewhere now."""
        if self._edited is not None:
            self.call_after_refresh(self._follow_cell)

    def _follow_cell(self) -> None:
        if self._edited is not None:
            self.line.put(self._over(self._edited.index, self._edited.column), Region(0, 0, *self.size))

    def _hint(self, index: int, column: str, text: str) -> Hint:
        """What the cell would do with `text` in it; the row shows it already."""
        self.put_aside_soon()
        if self.sheet is None:
            return Hint("")
        try:
            trial = self.sheet.trial(index, column, text)
        except EditRejected as refusal:
            return Hint(refusal.message, "failed")
        self.show_trial(trial)
        errors = [each for each in trial.wrong if each.level is Level.ERROR]
        here = next((each for each in errors if each.column == column), None)
        if here is not None:
            return Hint(here.message, "failed", here.start, max(here.end, here.start + 1))
        if errors:
            return Hint(errors[0].message, "muted")
        outcome = trial.outcome(self.record) if self.record is not None else None
        if outcome is None:
            return Hint("")
        if outcome.failure is not None:
            return Hint(outcome.failure.reason, "attention")
        return Hint(f"→ {text_of(outcome.result.value)}", "good")

    def show_trial(self, trial: SheetRow) -> None:
        """Show what the row that is edited would make."""
        raise NotImplementedError

    def _complete(self, column: str, text: str, cursor: int) -> tuple[Candidate, ...]:
        paths = [field.path for field in self.fields]
        if column == SOURCE:
            return complete_source(text, cursor, paths)
        if column == TARGET:
            return complete_target(text, cursor, [offer.target for offer in self.offered.values()])
        if column == TRANSFORMATION and self.sheet is not None:
            return complete_step(text, cursor, fields=paths, lookups=self.sheet.settings.lookups)
        return ()

    @on(Grid.Chosen, "CompletionPopup Grid")
    def _completed(self, event: Grid.Chosen) -> None:
        event.stop()
        self.line.take_chosen()

    @on(CellInput.Done)
    def _done(self, event: CellInput.Done) -> None:
        edited = self._edited
        if edited is None or not self.write_cell(event.text) or not event.onward:
            return
        here = self.grid.cursor_row
        seen = [each for each in EDITED if self._is_there(each) and self.grid.region_of(here, each)]
        if edited.column != seen[-1]:
            self.begin(here, seen[seen.index(edited.column) + 1], edited.group)

    def write_cell(self, text: str) -> bool:
        """Write `text` in the cell that is edited; where it is refused, tell why, and let it be mended."""
        try:
            self._put(text)
        except EditRejected as refusal:
            self.context.tell("Not changed", refusal)
            self.line.focus()
            return False
        self._end()
        return True

    @on(CellInput.Cancelled)
    def _cancelled(self) -> None:
        edited = self._edited
        if edited is not None and edited.taken != edited.before:
            try:
                self._put(edited.before)
            except EditRejected as refusal:
                self.context.tell("Not taken back", refusal)
        self._end()

    def _end(self) -> None:
        self._edited = None
        self.line.end()
        self.grid.focus()
        self.changed()

    def untaken(self) -> bool:
        """Whether the cell that is edited says something else by now."""
        return self._edited is not None and self.line.value != self._edited.taken

    def draft(self) -> str | None:
        """Return the text with what is being typed in the cell."""
        edited, opened = self._edited, self.opened
        if edited is None or opened is None or not self.untaken():
            return None
        name = EDITED[edited.column]
        try:
            table = _table(opened.document)
            return opened.document.with_cell(table, _found_again(edited, name, table), name, self.line.value).text
        except EditRejected:  # the hint says why, and the text stays in the cell
            return None

    def take(self) -> None:
        """Bring what is written so far into the document, as a part of the step that it will be."""
        if self.untaken():
            with suppress(EditRejected):  # the hint says so already, and the text stays in the line
                self._put(self.line.value)

    def _put(self, text: str) -> None:
        """Have `text` in the cell that is edited. Raises `EditRejected`."""
        edited, opened = self._edited, self.opened
        if edited is None or opened is None:
            return
        name, table = EDITED[edited.column], _table(opened.document)
        index = _found_again(edited, name, table)
        opened.edit(opened.document.with_cell(table, index, name, text), f"{name} of row {index + 1}", edited.group)
        target = text if name == TARGET else edited.target
        self._edited = replace(edited, index=index, taken=text.strip(), target=target.strip())

    # Cells of a spreadsheet

    def on_paste(self, event: Paste) -> None:
        """Write the cells that are pasted, from the cell under the cursor on."""
        event.stop()
        self._paste(event.text, self.row.index if self.row is not None else None, self._column)

    @on(CellInput.CellsPasted)
    def _paste_over_cell(self, event: CellInput.CellsPasted) -> None:
        if (edited := self._edited) is not None:
            self._cancelled()
            self._paste(event.text, edited.index, edited.column)

    def _paste(self, text: str, first: int | None, column: int) -> None:
        """Write lines of cells separated by tabs into the rows from `first` on; rows that are missing are added."""
        lines = [line for line in csv.reader(io.StringIO(text), dialect="excel-tab") if any(line)]
        names = [EDITED[at] for at in EDITED if at >= column and self._is_there(at)]
        if lines and {cell.strip().lower() for cell in lines[0]} <= {name.lower() for name in EDITED.values()}:
            del lines[0]  # the heading of the table
        widest = max(map(len, lines), default=0)
        reason = self.why_not("add")
        if reason is None and not widest:
            reason = "the clipboard has no cells"
        if reason is None and widest > len(names):
            reason = f"{widest} columns do not fit: there are {len(names)} from {EDITED[column]} on"
        if reason is not None:
            self.notify(reason, title="Not pasted", severity="warning")
            return
        cells = [dict(zip(names, (" ".join(cell.split()) for cell in line), strict=False)) for line in lines]
        if self.change(f"paste of {format_count(len(cells), 'row')}", partial(_with_cells, first=first, rows=cells)):
            self.notify(f"{format_count(len(cells), 'row')} pasted; u undoes it.", timeout=3)

    # Rows

    def action_add(self) -> None:
        """Add a row below the one under the cursor and begin to write it; both are one step to undo."""
        at = self.row.index + 1 if self.row is not None else len(self.sheet.rows) if self.sheet else 0
        self._stay += 1
        group = f"cells {self._stay}"
        if self.change("a new row", lambda document: document.with_row_added(_table(document), at, {}), group):
            self.begin(at, 1, group)

    def action_delete(self) -> None:
        """Delete the row under the cursor."""
        if (row := self.row) is not None:
            self.change(
                f"row {row.target} deleted",
                lambda document: document.with_row_deleted(_table(document), row.index),
            )

    def action_duplicate(self) -> None:
        """Write the row under the cursor a second time, and its target anew."""
        row = self.row
        if row is not None and self.change(
            f"row {row.target} twice",
            lambda document: document.with_row_duplicated(_table(document), row.index),
        ):
            self.begin(row.index + 1, 2)

    def action_move_up(self) -> None:
        """Move the row up."""
        self._move(-1)

    def action_move_down(self) -> None:
        """Move the row down."""
        self._move(1)

    def _move(self, by: int) -> None:
        if (row := self.row) is not None:
            self.change(
                f"row {row.target} moved",
                lambda document: document.with_row_moved(_table(document), row.index, row.index + by),
                f"move {row.target}",
            )

    # Suggestions

    def action_suggest(self) -> None:
        """Add a row for every target that a field is like."""
        self._take_offers([offer for offer in self.offered.values() if offer.suggestion is not None])

    def _take_offers(self, offers: list[Unmapped]) -> None:
        if self.sheet is None:
            return
        first = len(self.sheet.rows)
        label = f"row {offers[0].target}" if len(offers) == 1 else f"{len(offers)} rows"
        if not self.change(f"{label} suggested", partial(_with_offers, offers=offers)):
            return
        if len(offers) == 1 and offers[0].suggestion is None:
            self.begin(first, 1)
        else:
            self.grid.move(first)

    def take_records(self, records: SampleRecords, number: int = 0) -> None:
        """Have these sample records from now on."""
        self.records, self.number = records, number
        self.fields, self.suggested = collect_fields(records.records), {}


def _table(document: Document) -> MarkdownTable:
    if document.mapping is None:
        raise EditRejected("the spec has no Field Mapping table any more")
    return document.mapping


def _found_again(edited: _Edited, name: str, table: MarkdownTable) -> int:
    """Where the row that is edited is by now. Raises `EditRejected` if it, or the cell, is not there as it was."""
    if name not in table.columns:
        raise EditRejected(f"the table has no column {name} any more")
    nearest = sorted(range(len(table.rows)), key=lambda index: abs(index - edited.index))
    for index in nearest:
        same = table.cell(index, TARGET).text == edited.target and table.cell(index, name).text == edited.taken
        if same:
            return index
    raise EditRejected("the cell was changed by others meanwhile", hint="esc leaves it as they wrote it")


def _with_cells(document: Document, first: int | None, rows: Sequence[Mapping[str, str]]) -> Document:
    start = len(_table(document).rows) if first is None else first
    for index, cells in enumerate(rows, start):
        if index < len(_table(document).rows):
            for name, text in cells.items():
                document = document.with_cell(_table(document), index, name, text)
        else:
            document = document.with_row_added(_table(document), len(_table(document).rows), cells)
    return document


def _with_offers(document: Document, offers: list[Unmapped]) -> Document:
    for offer in offers:
        cells = {TARGET: qualify_path("target", offer.target), TRANSFORMATION: "Direct"}
        if offer.suggestion is not None:
            cells |= {SOURCE: offer.suggestion.source, TRANSFORMATION: offer.suggestion.transformation}
        if TRANSFORMATION not in _table(document).columns and cells.pop(TRANSFORMATION) != "Direct":
            raise EditRejected(f"the table has no column {TRANSFORMATION} for what {offer.target} needs")
        document = document.with_row_added(_table(document), len(_table(document).rows), cells)
    return document
