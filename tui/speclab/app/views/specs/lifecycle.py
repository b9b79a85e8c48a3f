"""Actions on the life of a spec: derive its tasks, and change its status."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, ClassVar, Final

from textual.binding import BindingType
from textual.widget import Widget
from textual.widgets import Static

from speclab.app.actions import Action, Controller, bindings
from speclab.app.dialogs import ConfirmDialog
from speclab.app.widgets.record import RecordView
from speclab.core.errors import EditRejected, SpeclabError
from speclab.core.plugins import load_in_thread
from speclab.spec.document import TASKS, Document
from speclab.spec.outline import comparable

if TYPE_CHECKING:
    from pathlib import Path

    from speclab.app.views.specs.lists import SpecsHost
    from speclab.spec.tasks import Decomposition, SpecProgress
    from speclab.workbench.open_specs import OpenSpec

DECOMPOSE: Final = Action(
    "decompose", "create tasks", "Derive the tasks of the spec, and tick the ones that are done.", ("d",), footer=False
)


class PreviewDialog(ConfirmDialog):
    """Show what a change would do, line by line, and ask whether to make it."""

    BINDINGS: ClassVar[list[BindingType]] = bindings(ConfirmDialog.ACTIONS)
    DEFAULT_CSS = """
    PreviewDialog RecordView { height: auto; max-height: 16; margin: 1 0 0 0; }
    """

    def __init__(self, title: str, message: str, lines: Sequence[str], *, yes: str, no: str = "cancel") -> None:
        super().__init__(title, message, yes=yes, no=no)
        self._first, self._lines = message, lines

    def inside(self) -> Sequence[Widget]:
        """Return the message and the lines."""
        view = RecordView()
        view.show_text("\n".join(self._lines))
        return (Static(self._first, markup=False), view)


class LifecycleActions(Controller):
    """Derives the tasks of the open spec, and checks a new status before it is set."""

    def __init__(self, host: SpecsHost) -> None:
        self._host = host

    @property
    def is_at_tasks(self) -> bool:
        """Whether the current section is Tasks Created, or a part of it."""
        section = self._host.section
        return section is not None and any(comparable(title) == comparable(TASKS) for title in section.path)

    def explain_disabled(self, action: str) -> str | None:
        """Return why the tasks cannot be derived."""
        if action != "decompose":
            return None
        opened = self._host.opened
        if opened is None:
            return "no spec is open"
        if opened.read_only:
            return opened.read_only
        return None if self.is_at_tasks else f"tasks are created in the section {TASKS}"

    def action_decompose(self) -> None:
        """Show the changes of the task list, and make them if the user agrees."""
        if (opened := self._host.opened) is not None:
            self._host.run_in_background(partial(self._decompose, opened), "ask")

    async def _decompose(self, opened: OpenSpec) -> None:
        from speclab.spec.tasks import decompose

        context, document = self._host.context, opened.document
        known = await self._read_progress(opened)
        if known is None:
            return
        progress = await load_in_thread(partial(_with_credentials, known, document, opened.path))
        try:
            result = decompose(opened.document, progress)
        except SpeclabError as error:
            context.show_error("No tasks created", error)
            return
        for note in result.notes:
            context.notify(note, title="Tasks", severity="warning")
        if result.document.text == opened.document.text:
            context.notify("The tasks are up to date.", timeout=3)
            return
        question = PreviewDialog("tasks", f"{result.summary}.", list(_describe(result)), yes="change the spec")
        if await context.push_screen_wait(question) and opened is self._host.opened:
            self._host.document.change("tasks", lambda document: _decompose_now(document, progress))

    async def set_status(self, opened: OpenSpec, status: str) -> None:
        """Set the status, after a question if conditions do not hold; with `approved`, record the user as approver."""
        from speclab.core.locks import get_user_name
        from speclab.workbench.lifecycle import find_missing, with_approval

        progress = await self._read_progress(opened)
        if progress is None:
            return
        missing = find_missing(opened.document, status, progress)
        if missing:
            question = PreviewDialog(
                f"{status}?", f"What is missing before the spec is {status}:", missing, yes="set it anyway"
            )
            if not await self._host.context.push_screen_wait(question):
                return
        if opened is not self._host.opened:
            return
        if status == "approved" and not missing:
            by, at = get_user_name(), self._host.context.now()
            self._host.document.change(
                "approval", lambda document: with_approval(document, by, at).with_front_matter("status", status)
            )
        else:
            self._host.document.change("status", lambda document: document.with_front_matter("status", status))

    async def _read_progress(self, opened: OpenSpec) -> SpecProgress | None:
        from speclab.workbench.lifecycle import read_progress

        document, path, now = opened.document, opened.path, self._host.context.now()
        return await self._host.context.ask(lambda reader: read_progress(document, path, reader, now))


def _with_credentials(progress: SpecProgress, document: Document, path: Path) -> SpecProgress:
    from speclab.workbench.lifecycle import with_credentials

    return with_credentials(progress, document, path)


def _decompose_now(document: Document, progress: SpecProgress) -> Document:
    """Return `document`, which may have changed since the preview, with its tasks."""
    from speclab.core.errors import UsageError
    from speclab.spec.tasks import decompose

    try:
        return decompose(document, progress).document
    except UsageError as error:  # the section was removed
        raise EditRejected(error.message, hint=error.hint) from error


def _describe(result: Decomposition) -> Sequence[str]:
    changes = (("+", result.added), ("done", result.ticked), ("obsolete", result.obsolete))
    return [
        f"{mark} {task.id or task.title} {task.title if task.id else ''}".rstrip() if mark != "+" else f"+ {task}"
        for mark, tasks in changes
        for task in tasks
    ]
