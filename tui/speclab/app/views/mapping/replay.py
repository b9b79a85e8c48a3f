"""Replaying dead letters from the mapping that was just mended: the spec is saved, `speclab retry` sends them again."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar, Final, Literal

from textual import work
from textual.binding import BindingType
from textual.widget import Widget
from textual.widgets import Static

from speclab.app.actions import Action, bindings
from speclab.app.dialogs import CANCEL, Dialog
from speclab.app.trust import may_use
from speclab.app.views.mapping.sampling import Sampling
from speclab.core.errors import SpeclabError
from speclab.core.json import Record
from speclab.core.outcome import ErrorClass, FailureState
from speclab.core.text import format_count
from speclab.workbench.launcher import launch_retry
from speclab.workbench.samples import LIMIT, of_failures

if TYPE_CHECKING:
    from speclab.app.context import AppContext
    from speclab.runlog import FailureRow, RunLogReader

REPLAY: Final = Action("replay", "replay", "Save the spec, and try this dead letter and all like it again.", ("R",))


@dataclass(frozen=True, slots=True)
class Alike:
    """Failures that one change may mend: those of a mapping row or, where none is to blame, of a class of errors."""

    spec_id: str
    row: str | None
    error_class: ErrorClass | None
    """None where they are those of a row, whatever went wrong there."""

    @classmethod
    def of(cls, failure: FailureRow) -> Alike:
        """All that failed as `failure` did."""
        return cls(failure.spec_id, failure.row, failure.error_class if failure.row is None else None)

    def ask(self, reader: RunLogReader, limit: int | None, *, full: bool) -> list[FailureRow]:
        """Those that are open, the newest first."""
        return reader.failures(self.spec_id, row=self.row, error_class=self.error_class, limit=limit, full=full)

    @property
    def options(self) -> tuple[str, ...]:
        """How `speclab retry` is told of them."""
        return ("--class", self.error_class.value) if self.error_class is not None else ("--row", self.row or "")

    def __str__(self) -> str:
        return f"as {self.error_class.replace('_', ' ')}" if self.error_class is not None else f"on {self.row}"


Which = Literal["all", "one"]


class ReplayQuestion(Dialog[Which | None]):
    """Asks which records to replay: all that failed alike, or the one in hand."""

    ALL = Action("all", "all", "Replay all that failed alike.", ("enter", "y"))
    ONE = Action("one", "only this one", "Replay the record in hand.", ("o",))
    ACTIONS: ClassVar[Sequence[Action]] = (ALL, ONE, CANCEL)
    BINDINGS: ClassVar[list[BindingType]] = bindings(ACTIONS)

    def __init__(self, title: str, message: str, total: int) -> None:
        super().__init__(title)
        self._message = message
        self._total = total

    def actions(self) -> Sequence[Action]:
        """The answers in the words of the question."""
        if self._total == 1:
            return (replace(self.ALL, title="replay it"), CANCEL)
        return (replace(self.ALL, title=f"replay all {self._total:,}"), self.ONE, CANCEL)

    def inside(self) -> Sequence[Widget]:
        """The question."""
        return (Static(self._message, markup=False),)

    def action_all(self) -> None:
        """All of them."""
        self.dismiss("all")

    def action_one(self) -> None:
        """This one."""
        self.dismiss("one")

    def action_cancel(self) -> None:
        """None."""
        self.dismiss(None)


class Replaying(Sampling):
    """A place whose sample may be dead letters, which are replayed once they pass.

    `came_to` is what those that were replayed came to, by id; `replaying` says what is being replayed, if anything is.
    """

    def __init__(self, context: AppContext) -> None:
        super().__init__(context)
        self.came_to: dict[str, str] = {}
        self._settled: set[str] = set()  # the ids of those that need nobody any more
        self.replaying = ""

    @property
    def failure(self) -> FailureRow | None:
        """The failure of the record in hand, if it is a dead letter."""
        return self.records.failures[self.number] if self.number < len(self.records.failures) else None

    def take_failure(self, failure: FailureRow) -> None:
        """Have the record of `failure` as the sample, with those that failed alike behind it, and its row in hand."""
        super().take_failure(failure)
        if failure.source is not None:
            self._find_alike(failure)

    @work(exclusive=True, group="sample")
    async def _find_alike(self, failure: FailureRow) -> None:
        found = await self.context.ask(lambda reader: Alike.of(failure).ask(reader, LIMIT, full=True))
        self.have(of_failures([failure, *(other for other in found or () if other.id != failure.id)]))

    def passing(self) -> list[int]:
        """The numbers of the sample records that failed as the one in hand did and pass the mapping as it is now."""
        if self.failure is None or self.judged is None:
            return []
        alike = Alike.of(self.failure)
        failing = {number for numbers in self.judged.failing.values() for number in numbers}
        return [
            number
            for number, other in enumerate(self.records.failures)
            if number not in failing and Alike.of(other) == alike
        ]

    def why_not(self, action: str) -> str | None:
        """Why nothing can be replayed."""
        if action != "replay":
            return super().why_not(action)
        failure = self.failure
        if failure is None:
            return "these are no dead letters: o takes them as the sample, e in the Monitor leads here from one"
        if self.opened is not None and self.opened.read_only:
            return self.opened.read_only
        if self.replaying:
            return f"{self.replaying} are being replayed"
        if failure.id in self._settled:
            return f"it was replayed, and is {self.came_to[failure.id]}"
        if self.judged is None:
            return "the records are being put through the mapping"
        return None if self.passing() else "none of the records passes yet"

    @work(group="replay")
    async def action_replay(self) -> None:
        """Save the spec and replay the record in hand, and all like it if that is wanted."""
        failure = self.failure
        if failure is None or (self.line.editing and not self.write_cell(self.line.value)):
            return
        alike = Alike.of(failure)
        found = await self.context.ask(lambda reader: alike.ask(reader, None, full=False)) or []
        # those in doubt are sent again only where they are named
        total = len({other.id for other in found if other.state is not FailureState.UNKNOWN} | {failure.id})
        question = ReplayQuestion(f"replay dead letters of {alike.spec_id}", self._words(alike, total), total)
        which = await self.app.push_screen_wait(question)
        if which is None or (self.opened is not None and self.opened.unsaved and not await self.save()):
            return
        if self.opened is not None and not await may_use(self.context, self.opened.path):
            return
        alone = which == "one" or total == 1
        chosen, count = ([failure.id], 1) if alone else (alike.options, total)
        await self._replay(alike.spec_id, chosen, format_count(count, "record"))

    def _words(self, alike: Alike, total: int) -> str:
        passing = self.passing()
        looked_at = sum(Alike.of(other) == alike for other in self.records.failures)
        those = "them" if looked_at >= total else f"the newest {looked_at:,}"
        here = "this one too" if self.number in passing else "this one does not"
        saved = "The spec is saved first. " if self.opened is not None and self.opened.unsaved else ""
        return (
            f"{format_count(total, 'record')} failed {alike}. "
            f"{len(passing):,} of {those} pass the mapping now, {here}.\n\n"
            f"{saved}They are sent again; where a newer record was written, nothing is."
        )

    async def _replay(self, spec_id: str, which: Sequence[str], records: str) -> None:
        context = self.context
        self.replaying = records
        self.show_record()
        self.refresh_bindings()
        try:
            launched = launch_retry(spec_id, which, context.run_log.workspace, context.run_log.path)
            trouble = await launched.end()
            said, rows = launched.said(), launched.rows()
        except SpeclabError as error:
            trouble, said, rows = error, [], []
        finally:
            self.replaying = ""
        self.came_to |= {str(row["id"]): str(row["became"]) for row in rows}
        self._settled |= {str(row["id"]) for row in rows if not _is_open(row)}
        if trouble is not None:
            context.tell(f"{records} of {spec_id}: not all were replayed", trouble)
        if rows:
            self._tell_outcome(rows)
        elif trouble is None:
            self.notify(said[-1] if said else "There was nothing to replay.", title=spec_id)
        self.show_record()
        self.refresh_bindings()

    def _tell_outcome(self, rows: Sequence[Record]) -> None:
        counts = Counter(str(row["became"]) for row in rows)
        told = ", ".join(f"{count:,} {became}" for became, count in counts.most_common())
        still = next(filter(_is_open, rows), None)
        if still is not None:
            location = f"{still['row']}: " if still["row"] else ""
            told = f"{told}. Of those: {location}{still['message']}"
        self.notify(told, title="Replayed", severity="information" if still is None else "warning", timeout=8)


def _is_open(row: Record) -> bool:
    """Whether the failure in a row of `speclab retry --json` is one still."""
    return FailureState(str(row["state"])).is_open
