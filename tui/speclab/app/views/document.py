"""The views that edit a spec: undo, saving, external changes, problems, and recovery."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import ClassVar, Final

from textual import work
from textual.binding import BindingType
from textual.timer import Timer
from textual.widget import Widget
from textual.widgets import Static
from textual.worker import Worker

from speclab.app.actions import Action, bindings
from speclab.app.dialogs import Dialog
from speclab.app.view import AppContext, View
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


class DocumentView(View):
    """A view that shows and edits the open spec.

    A subclass shows the document (`show_document`) and its problems (`show_problems`), and brings the text of an
    editor into the document (`commit_draft`).
    """

    opened: OpenSpec | None = None

    def __init__(self, context: AppContext) -> None:
        super().__init__(context)
        self._recovery_timer: Timer | None = None
        self._recovery_error = ""  # why the recovery file could not be written; each reason is shown once

    def commit_draft(self) -> None:
        """Bring the text that was typed so far into the document."""

    def has_draft(self) -> bool:
        """Return whether text was typed that is not in the document yet."""
        return False

    def draft(self) -> str | None:
        """Return the whole text with the draft, for the recovery file; None if there is no draft."""
        return None

    def show_document(self) -> None:
        """Show the document after a change here, in another view or on disk."""

    def show_problems(self) -> None:
        """Show `opened.problems` after a check."""

    # Coming and going

    def on_mount(self) -> None:
        """Start writing the recovery file."""
        self.set_interval(DURABLE_INTERVAL, partial(self._update_recovery, durable=True))

    def on_unmount(self) -> None:
        """Keep unsaved changes, however the app ended."""
        self.commit_draft()
        self._update_recovery(durable=True)

    def activate(self) -> None:
        """Show the current state of the open spec."""
        spec = self.context.spec
        if spec is not None:
            self.open(spec)

    def deactivate(self) -> None:
        """Bring the typed text into the document, for the other views."""
        self.commit_draft()
        if self.opened is not None:
            self.opened.draft_source = None

    def open(self, spec: Path) -> None:
        """Show the spec at `spec`, and offer its recovered changes."""
        session = self.context.session
        first = session.opened(spec) is None
        try:
            opened = session.open(spec)
        except UsageError as error:
            self.context.show_error("Cannot open the spec", error)
            return
        if opened is not self.opened:
            self.commit_draft()
            if self.opened is not None:
                self.opened.draft_source = None
            self.opened = opened
        opened.draft_source = self.draft
        if not first:
            self._reload()
        self.changed()
        if first and not opened.read_only and (found := store.find_recovery(spec)) is not None:
            self._offer_recovery(opened, found)

    def unsaved(self) -> str | None:
        """The specs with unsaved changes, in a sentence."""
        self.commit_draft()
        sentences = (
            (False, "unsaved changes. They are kept and offered at the next start."),
            (True, "the file is gone. Its text is kept, and offered once a file of that name exists again."),
        )
        found = []
        for gone, sentence in sentences:
            names = [spec.path.name for spec in self.context.session.unsaved() if spec.gone is gone]
            if names:
                found.append(f"{', '.join(names)}: {sentence}")
        return "\n".join(found) or None

    def update_recovery_soon(self) -> None:
        """Write the recovery file within `RECOVERY_DELAY` seconds, also while typing goes on."""
        if self._recovery_timer is None:
            self._recovery_timer = self.set_timer(RECOVERY_DELAY, self._update_recovery)

    def _update_recovery(self, *, durable: bool = False) -> None:
        if not durable:
            self._recovery_timer = None
        try:
            self.context.session.update_recovery(durable=durable)
        except SpeclabError as error:
            if error.message != self._recovery_error:
                self._recovery_error = error.message
                self.context.show_error("The recovery file cannot be written", error)

    @work(group="recovery")
    async def _offer_recovery(self, opened: OpenSpec, found: store.Recovery) -> None:
        message = (
            f"{opened.path.name} has unsaved changes from {found.at.astimezone():%H:%M on %d %b} "
            "of a speclab that ended, or that is still open elsewhere."
        )
        if await self.app.push_screen_wait(UnsavedDialog(message)):
            opened.recover(found)
            self.changed()
        else:
            store.drop_recovery(opened.path)

    # Changes

    def change(self, label: str, made: Callable[[Document], Document], group: str = "") -> bool:
        """Replace the document by what `made` returns, as one step of the history; show why if it is rejected."""
        if self.opened is None:
            return False
        try:
            self.opened.edit(made(self.opened.document), label, group)
        except EditRejected as error:
            self.context.show_error("Not changed", error)
            return False
        self.changed()
        return True

    def changed(self) -> None:
        """Show the document after it changed, and check it."""
        self.update_recovery_soon()
        self.show_document()
        self.check_spec()
        self.refresh_bindings()

    @work(exclusive=True, group="lint")
    async def check_spec(self) -> None:
        """Check the spec after a pause in typing."""
        opened = self.opened
        if opened is None or opened.checked is opened.document:
            self.show_problems()
            return
        await asyncio.sleep(CHECK_DELAY)
        document = opened.document
        problems = await load_in_thread(partial(_problems, document))
        if opened.document is document:
            opened.problems, opened.checked = problems, document
            if opened is self.opened:
                self.show_problems()

    def specs_changed(self, paths: Iterable[Path]) -> None:
        """Take over external changes to the open spec; a hidden view does so when it is shown again."""
        if self.display and self.opened and resolve_path(self.opened.path) in set(map(resolve_path, paths)):
            self.commit_draft()
            self._reload()
            self.changed()

    def _reload(self) -> None:
        if self.opened is None:
            return
        was_gone, was_unreadable = self.opened.gone, self.opened.unreadable
        found, name = self.opened.reload(), self.opened.path.name
        if found is OpenOutcome.CONFLICT:
            self.notify(
                f"{name}: changed externally where you changed it too.\nF2 asks which version to keep.",
                severity="warning",
            )
        elif found is OpenOutcome.GONE and not was_gone:
            self.notify(f"{name} is gone. Press F2 to save it again.", severity="warning")
        elif found is OpenOutcome.UNREADABLE and self.opened.unreadable != was_unreadable:
            self.notify(
                f"{self.opened.unreadable}\nThis is the last text that could be read. Remove what replaced the file.",
                title="The spec was replaced",
                severity="warning",
            )
        elif found is OpenOutcome.MERGED:
            self.notify(f"{name}: changed externally.\nYour unsaved changes are kept.")

    # What can be done

    def run_in_background(self, work: Callable[[], Coroutine[None, None, None]], group: str) -> Callable[[], None]:
        """Run `work`, in place of work of the same group that is still running; return a function that cancels it."""
        worker: Worker[None] = self.run_worker(work, group=group, exclusive=True)
        return worker.cancel

    def explain_disabled(self, action: str) -> str | None:
        """Return why an action on the document cannot be done now."""
        if action not in {"save", "undo", "redo"}:
            return super().explain_disabled(action)
        if self.opened is None:
            return "no spec is open"
        if self.opened.read_only:
            return self.opened.read_only
        if action == "save" and not self.opened.unsaved and not self.has_draft():
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

    async def _step(self, step: Callable[[OpenSpec], str], done: str) -> None:
        """Undo or redo, name the change and show it, also in another section or view."""
        if self.opened is None:
            return
        self.commit_draft()
        before = self.opened.document
        try:
            label = step(self.opened)
        except EditRejected as error:
            self.context.show_error("Not changed", error)
            return
        after = self.opened.document
        line, column = after.position(_first_difference(before.text, after.text))
        where = find_section_title(after, line)
        self.notify(label if where in label else f"{label} ({where})", title=done, timeout=3)
        await self.show_change(line, column)

    async def show_change(self, line: int, column: int) -> None:  # noqa: ARG002 (for subclasses)
        """Show the document, which an undo or redo has just changed at that place of the file (both from 1)."""
        self.changed()

    @work(group="save")
    async def action_save(self) -> None:
        """Save the spec; ask about external changes to the same lines."""
        await self.save()

    async def save(self) -> bool:
        """Save the spec, in a worker; return whether it is in its file now."""
        opened = self.opened
        if opened is None:
            return False
        self.commit_draft()
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
                self.context.show_error("Not saved", error)
                break
            else:
                more = "; external changes are merged" if merged else ""
                self.notify(f"{opened.path.name} is saved{more}.", timeout=2)
                saved = True
        self.changed()
        return saved

    async def _ask_for_sides(self, conflicts: Sequence[Conflict]) -> list[Side] | None:
        sides: list[Side] = []
        for number, conflict in enumerate(conflicts, 1):
            side = await self.app.push_screen_wait(MergeDialog(conflict, number, len(conflicts)))
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
