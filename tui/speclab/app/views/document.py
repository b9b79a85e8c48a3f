"""Editing the open spec in a view: undo, saving, external changes, problems, and recovery."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import ClassVar, Final, Protocol

from textual.binding import BindingType
from textual.widget import Widget
from textual.widgets import Static

from speclab.app.actions import Action, Controller, bindings
from speclab.app.dialogs import Dialog
from speclab.app.view import AppContext
from speclab.app.widgets.record import RecordView
from speclab.core.errors import EditRejected, SpeclabError, UsageError
from speclab.core.files import resolve_path
from speclab.core.plugins import load_in_thread
from speclab.spec import store
from speclab.spec.document import Document
from speclab.spec.problems import Problem
from speclab.spec.store import Conflict, SaveConflict, Side
from speclab.workbench.open_specs import OpenOutcome, OpenSpec, find_section_title

SAVE: Final = Action("save", "save", "Save the spec, merging external changes.", ("f2",))
UNDO: Final = Action("undo", "undo", "Undo the last change.", ("u", "ctrl+z"))
REDO: Final = Action("redo", "redo", "Redo the last undone change.", ("ctrl+y",), footer=False)
DOCUMENT: Final = (SAVE, UNDO, REDO)

RECOVERY_DELAY: Final = 0.15
"""Seconds from a change or a key until the recovery file is written: the most that a crash can lose."""
DURABLE_INTERVAL: Final = 2.0
"""Seconds between two checks whether the recovery file must be written through to the disk, for a power failure."""
CHECK_DELAY: Final = 0.15
"""Seconds without a further change before the spec is checked."""


class DraftEditor(Protocol):
    """The editor of the view, as its `DocumentController` sees it: a draft is typed text that the document lacks."""

    @property
    def has_draft(self) -> bool:
        """Whether there is a draft."""

    def draft(self) -> str | None:
        """Return the whole text with the draft, for the recovery file; None without a draft."""

    def commit_draft(self) -> None:
        """Bring the draft into the document."""

    def prepare_save(self) -> bool:
        """Finish what must be finished before saving; return whether that was possible."""


class DocumentHost(Protocol):
    """The view, as its `DocumentController` sees it."""

    context: AppContext

    @property
    def display(self) -> bool:
        """Whether the view is visible."""

    def show_document(self) -> None:
        """Show the document after a change here, in another view or on disk."""

    def show_problems(self) -> None:
        """Show `opened.problems` after a check."""

    async def show_change(self, line: int, column: int) -> None:
        """Show the document and the position (both from 1) that an undo or redo has just changed."""

    def refresh_bindings(self) -> None:
        """Update the available keys."""

    def run_in_background(self, work: Callable[[], Coroutine[None, None, None]], group: str = "") -> Callable[[], None]:
        """Run `work`, and with `group` cancel earlier work of that group; return a function that cancels it."""


class DocumentController(Controller):
    """Edits the open spec: changes, undo, redo, saving with conflicts, external changes, checks and recovery."""

    def __init__(self, host: DocumentHost, editor: DraftEditor) -> None:
        self._host = host
        self._editor = editor
        self.opened: OpenSpec | None = None
        self._recovery_pending = False
        self._recovery_error = ""  # why the recovery file could not be written; each reason is shown once
        self._in_conflict = False  # whether a conflict with the file was shown already

    @property
    def has_draft(self) -> bool:
        """Whether text was typed that is not in the document yet."""
        return self._editor.has_draft

    # Opening and closing

    def start(self) -> None:
        """Start writing the recovery file."""
        self._host.run_in_background(self._update_recovery_durably, "durable recovery")

    def close(self) -> None:
        """Keep unsaved changes, however the app ended."""
        self._editor.commit_draft()
        self._update_recovery(durable=True)

    def leave(self) -> None:
        """Bring the typed text into the document, for the other views."""
        self._editor.commit_draft()
        if self.opened is not None:
            self.opened.draft_source = None

    def open(self, spec: Path) -> None:
        """Open the spec at `spec`, and offer its recovered changes."""
        context = self._host.context
        first = context.session.opened(spec) is None
        try:
            opened = context.session.open(spec)
        except UsageError as error:
            context.show_error("Cannot open the spec", error)
            return
        if opened is not self.opened:
            self.leave()
            self.opened, self._in_conflict = opened, False
        opened.draft_source = self._editor.draft
        if not first:
            self._reload(opened)
        self.refresh()
        if first and not opened.read_only and (found := store.find_recovery(spec)) is not None:
            self._host.run_in_background(partial(self._offer_recovery, opened, found))

    async def _offer_recovery(self, opened: OpenSpec, found: store.Recovery) -> None:
        message = (
            f"{opened.path.name} has unsaved changes from {found.at.astimezone():%H:%M on %d %b} "
            "of a speclab that ended, or that is still open elsewhere."
        )
        if await self._host.context.push_screen_wait(UnsavedDialog(message)):
            opened.recover(found)
            self.refresh()
        else:
            store.drop_recovery(opened.path)

    def describe_unsaved(self) -> str | None:
        """Return a sentence about the specs with unsaved changes; None without any."""
        self._editor.commit_draft()
        sentences = (
            (False, "unsaved changes. They are kept and offered at the next start."),
            (True, "the file is gone. Its text is kept, and offered once a file of that name exists again."),
        )
        found = []
        for gone, sentence in sentences:
            names = [spec.path.name for spec in self._host.context.session.unsaved() if spec.gone is gone]
            if names:
                found.append(f"{', '.join(names)}: {sentence}")
        return "\n".join(found) or None

    # Recovery

    def update_recovery_soon(self) -> None:
        """Write the recovery file within `RECOVERY_DELAY` seconds, also while typing goes on."""
        if not self._recovery_pending:
            self._recovery_pending = True
            self._host.run_in_background(self._update_recovery_later, "recovery")

    async def _update_recovery_later(self) -> None:
        await asyncio.sleep(RECOVERY_DELAY)
        self._recovery_pending = False
        self._update_recovery(durable=False)

    async def _update_recovery_durably(self) -> None:
        while True:
            await asyncio.sleep(DURABLE_INTERVAL)
            self._update_recovery(durable=True)

    def _update_recovery(self, *, durable: bool) -> None:
        context = self._host.context
        try:
            context.session.update_recovery(durable=durable)
        except SpeclabError as error:
            if error.message != self._recovery_error:
                self._recovery_error = error.message
                context.show_error("The recovery file cannot be written", error)

    # Changes

    def change(self, label: str, edit: Callable[[Document], Document], group: str = "") -> bool:
        """Apply `edit` to the document as one step of the history; return False, with an error, if it is rejected."""
        if self.opened is None:
            return False
        try:
            self.opened.edit(edit(self.opened.document), label, group)
        except EditRejected as error:
            self._host.context.show_error("Not changed", error)
            return False
        self.refresh()
        return True

    def refresh(self) -> None:
        """Show the document after it changed, and check it."""
        self.update_recovery_soon()
        self._host.show_document()
        self._host.run_in_background(self._check, "lint")
        self._host.refresh_bindings()

    async def _check(self) -> None:
        """Check the spec after a pause in typing."""
        opened = self.opened
        if opened is None or opened.checked is opened.document:
            self._host.show_problems()
            return
        await asyncio.sleep(CHECK_DELAY)
        document = opened.document
        problems = await load_in_thread(partial(_problems, document))
        if opened.document is document:
            opened.problems, opened.checked = problems, document
            if opened is self.opened:
                self._host.show_problems()

    def reload(self, paths: Iterable[Path]) -> None:
        """Merge external changes if `paths` has the open spec; a hidden view does so when it is shown again."""
        opened = self.opened
        if self._host.display and opened and resolve_path(opened.path) in set(map(resolve_path, paths)):
            self._editor.commit_draft()
            self._reload(opened)
            self.refresh()

    def _reload(self, opened: OpenSpec) -> None:
        was_gone, was_unreadable, was_in_conflict = opened.gone, opened.unreadable, self._in_conflict
        outcome, name, notify = opened.reload(), opened.path.name, self._host.context.notify
        self._in_conflict = outcome is OpenOutcome.CONFLICT
        if outcome is OpenOutcome.CONFLICT and not was_in_conflict:
            notify(
                f"{name}: changed externally where you changed it too.\nF2 asks which version to keep.",
                severity="warning",
            )
        elif outcome is OpenOutcome.GONE and not was_gone:
            notify(f"{name} is gone. Press F2 to save it again.", severity="warning")
        elif outcome is OpenOutcome.UNREADABLE and opened.unreadable != was_unreadable:
            notify(
                f"{opened.unreadable}\nThis is the last text that could be read. Remove what replaced the file.",
                title="The spec was replaced",
                severity="warning",
            )
        elif outcome is OpenOutcome.MERGED:
            notify(f"{name}: changed externally.\nYour unsaved changes are kept.")

    # Actions

    def explain_disabled(self, action: str) -> str | None:
        """Return why save, undo or redo is disabled."""
        if action not in {"save", "undo", "redo"}:
            return None
        if self.opened is None:
            return "no spec is open"
        if self.opened.read_only:
            return self.opened.read_only
        if action == "save" and not self.opened.unsaved and not self.has_draft:
            return "nothing to save"
        if action == "undo" and not self.opened.next_undo:
            return "nothing to undo"
        if action == "redo" and not self.opened.next_redo:
            return "nothing to redo"
        return None

    async def action_undo(self) -> None:
        """Undo the last change."""
        await self._step(OpenSpec.undo, "Undone")

    async def action_redo(self) -> None:
        """Redo the change undone last."""
        await self._step(OpenSpec.redo, "Redone")

    async def _step(self, step: Callable[[OpenSpec], str], title: str) -> None:
        """Undo or redo, name the change and show it, also in another section or view."""
        opened, context = self.opened, self._host.context
        if opened is None:
            return
        self._editor.commit_draft()
        before = opened.document
        try:
            label = step(opened)
        except EditRejected as error:
            context.show_error("Not changed", error)
            return
        after = opened.document
        line, column = after.position(_first_difference(before.text, after.text))
        where = find_section_title(after, line)
        context.notify(label if where in label else f"{label} ({where})", title=title, timeout=3)
        await self._host.show_change(line, column)

    def action_save(self) -> None:
        """Save the spec; ask about external changes to the same lines."""
        if self._editor.prepare_save():
            self._host.run_in_background(self._save)

    async def _save(self) -> None:
        await self.save()

    async def save(self) -> bool:
        """Save the spec, in a worker; return whether it is in its file now."""
        opened, context = self.opened, self._host.context
        if opened is None:
            return False
        self._editor.commit_draft()
        saved = False
        while not saved:
            try:
                merged = opened.save()
            except SaveConflict as conflict:
                sides = await self._ask_for_sides(conflict.conflicts)
                if sides is None:
                    return False
                opened.resolve_conflicts(conflict, sides)
            except SpeclabError as error:
                context.show_error("Not saved", error)
                break
            else:
                more = "; external changes are merged" if merged else ""
                context.notify(f"{opened.path.name} is saved{more}.", timeout=2)
                saved, self._in_conflict = True, False
        self.refresh()
        return saved

    async def _ask_for_sides(self, conflicts: Sequence[Conflict]) -> list[Side] | None:
        sides: list[Side] = []
        for number, conflict in enumerate(conflicts, 1):
            side = await self._host.context.push_screen_wait(MergeDialog(conflict, number, len(conflicts)))
            if side is None:
                return None
            sides.append(side)
        return sides


def _first_difference(before: str, after: str) -> int:
    """Return the offset at which two texts differ; the length of the shorter one if it is a prefix."""
    pairs = zip(before, after, strict=False)
    return next((at for at, (one, other) in enumerate(pairs) if one != other), min(len(before), len(after)))


def _problems(document: Document) -> Sequence[Problem]:
    from speclab.mapping import lint

    return lint(document)


RESTORE: Final = Action("restore", "restore", "Restore the changes; undo removes them again.", ("y", "enter"))
DELETE: Final = Action("delete", "delete", "Delete the changes permanently.", ("d",))


class UnsavedDialog(Dialog[bool]):
    """Offers recovered changes. A key pressed in haste, such as escape, does not delete them."""

    ACTIONS = (RESTORE, DELETE)
    BINDINGS: ClassVar[list[BindingType]] = bindings(ACTIONS)

    def __init__(self, message: str) -> None:
        super().__init__("unsaved changes")
        self._message = message

    def inside(self) -> Sequence[Widget]:
        """Return the message."""
        return (Static(self._message, markup=False),)

    def action_restore(self) -> None:
        """Restore the changes."""
        self.dismiss(True)

    def action_delete(self) -> None:
        """Delete the changes."""
        self.dismiss(False)


MINE: Final = Action("mine", "mine", "Keep your lines.", ("m",))
THEIRS: Final = Action("theirs", "theirs", "Keep the lines of the file.", ("t",))
BOTH: Final = Action("both", "both", "Keep both, yours first.", ("b",))
NEITHER: Final = Action("cancel", "do not save", "Leave the file and the changes here as they are.", ("escape",))


class MergeDialog(Dialog[Side | None]):
    """Asks which lines to keep where two writers changed the same ones."""

    ACTIONS = (MINE, THEIRS, BOTH, NEITHER)
    BINDINGS: ClassVar[list[BindingType]] = bindings(ACTIONS)
    DEFAULT_CSS = """
    MergeDialog .whose { color: $muted; }
    MergeDialog RecordView { height: auto; max-height: 20vh; margin-bottom: 1; }
    MergeDialog KeyBar { margin-top: 0; }
    """

    def __init__(self, conflict: Conflict, number: int, total: int) -> None:
        super().__init__(f"changed here and in the file ── {number} of {total}")
        self._conflict = conflict

    def inside(self) -> Sequence[Widget]:
        """Return both versions, each in a list that scrolls."""
        mine, theirs = RecordView(), RecordView()
        mine.show_text(self._conflict.mine.rstrip("\r\n") or "(deleted)")
        theirs.show_text(self._conflict.theirs.rstrip("\r\n") or "(deleted)")
        return Static("mine", classes="whose"), mine, Static("theirs", classes="whose"), theirs

    def action_mine(self) -> None:
        """Take mine."""
        self.dismiss(Side.MINE)

    def action_theirs(self) -> None:
        """Take theirs."""
        self.dismiss(Side.THEIRS)

    def action_both(self) -> None:
        """Take both."""
        self.dismiss(Side.BOTH)

    def action_cancel(self) -> None:
        """Do not save."""
        self.dismiss(None)
