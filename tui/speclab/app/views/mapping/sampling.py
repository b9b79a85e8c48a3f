"""Sample records in the Mapping place: where they come from, which is in hand, and how all of them fare."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

from textual import work
from textual.worker import Worker

from speclab.app.dialogs import ChoiceDialog, ConfirmDialog, PromptDialog
from speclab.app.trust import may_use
from speclab.app.views.mapping.rows import TRANSFORMATION_AT, offers
from speclab.app.views.mapping.writing import RowWriting
from speclab.app.views.specs.lists import address_at
from speclab.app.widgets.grid import GridRow
from speclab.core.errors import SpecError, SpeclabError
from speclab.core.outcome import Level
from speclab.core.text import format_count
from speclab.spec.parser import read_endpoint
from speclab.spec.problems import Problem
from speclab.workbench.mapping_sheet import MappingSheet, SheetVerdict
from speclab.workbench.samples import (
    LIMIT,
    SampleRecords,
    fields_at_target,
    keep,
    kept_at,
    live,
    named,
    of_failures,
    read_records,
)

if TYPE_CHECKING:
    from speclab.app.actions import Action
    from speclab.app.context import AppContext
    from speclab.mapping.fields import Field
    from speclab.runlog import FailureRow
    from speclab.spec.document import Document

PAUSE: Final = 0.1
"""Seconds without a further change before all records are put through the mapping."""


class Sampling(RowWriting):
    """A place with sample records.

    `verdict` says how they fare, once all have been put through the mapping; `reading` is the work that reads from the
    source, while it does. `at_target` are the fields that the target has, where it told them.
    """

    def __init__(self, context: AppContext) -> None:
        super().__init__(context)
        self.verdict: SheetVerdict | None = None
        self._judged: MappingSheet | None = None  # the sheet that the verdict is of
        self.at_target: tuple[Field, ...] = ()
        self.reading: Worker[None] | None = None
        self._checked_source: tuple[Document, Problem | None] | None = (
            None  # what is wrong with the source of a document
        )

    @property
    def judged(self) -> SheetVerdict | None:
        """The verdict if it is of the mapping as it is now, and not of what it was a moment ago."""
        return self.verdict if self._judged is self.sheet else None

    def show_record(self) -> None:
        """Show the record in hand, and what becomes of it."""
        raise NotImplementedError

    @property
    def spec_id(self) -> str:
        """The spec's id; its file's stem where it has none."""
        if self.opened is None:
            return ""
        document = self.opened.document
        return document.front_matter.get_text("spec_id", document.text) or self.opened.path.stem

    @work(exclusive=True, group="judge")
    async def judge(self) -> None:
        """Put all records through the mapping as it is now."""
        sheet, records = self.sheet, self.records.records
        if sheet is None:
            return
        await asyncio.sleep(PAUSE)
        self.verdict = await asyncio.to_thread(sheet.judge, records)
        self._judged = sheet
        self.show_record()
        self.refresh_bindings()

    # Samples

    @work(exclusive=True, group="sample")
    async def find_sample(self) -> None:
        """Take the sample that is kept for the spec, if there is one."""
        if self.opened is None:
            return
        path = kept_at(self.opened.path, self.spec_id)
        if path.is_file():
            await self._read_file(path)

    async def _read_file(self, path: Path) -> None:
        try:
            records = await asyncio.to_thread(read_records, path)
            kept = path == kept_at(self.opened.path, self.spec_id) if self.opened is not None else False
            self.have(replace(records, origin="kept sample") if kept else records)
        except SpeclabError as error:
            self.context.tell("No sample", error)

    def have(self, records: SampleRecords, number: int = 0) -> None:
        """Have these as the sample from now on, and show what becomes of them."""
        self.take_records(records, number)
        self.verdict = None
        self.show_document()
        self.judge()
        self.refresh_bindings()

    def take_failure(self, failure: FailureRow) -> None:
        """Have the record of `failure` as the sample, and the row that is to blame under the cursor."""
        if failure.source is not None:
            self.have(of_failures([failure]))
        if self.sheet is not None and failure.row is not None:
            at = next((row.index for row in self.sheet.rows if row.target == failure.row), None)
            if at is not None:
                self.grid.move(at, TRANSFORMATION_AT)

    def action_live(self) -> None:
        """Read some records from the source, and learn which fields the target has."""
        self.reading = self._read_live()
        self.show_record()
        self.refresh_bindings()

    @work(exclusive=True, group="sample")
    async def _read_live(self) -> None:
        from speclab.spec.settings import RetrySettings

        if self.opened is None or self.sheet is None:
            return
        path, integration = self.opened.path, self.sheet.reading.integration
        try:
            end = read_endpoint(self.sheet.document, "source")
            if await may_use(self.context, path, integration.ends if integration is not None else [end]):
                self._ask_target()
                retry = integration.retry if integration is not None else RetrySettings.model_validate({})
                self.have(await live(end, retry, path))
        except SpeclabError as error:
            self.context.tell("No sample from the source", error)
        finally:
            self.reading = None
            self.show_record()
            self.refresh_bindings()

    @work(exclusive=True, group="target")
    async def _ask_target(self) -> None:
        integration = self.sheet.reading.integration if self.sheet is not None else None
        if self.opened is None or integration is None:
            return
        try:
            self.at_target = await fields_at_target(integration)
        except SpeclabError:
            self.at_target = ()  # they would be offered, no more; `speclab fields` says why they are not known
        self.offer_targets()
        self.show_document()

    def offer_targets(self) -> None:
        """Offer what the target wants and no row gives."""
        if self.sheet is not None:
            self.offered = {each.key: each for each in offers(self.sheet, self.fields, self.at_target, self.suggested)}

    def forget_target(self) -> None:
        """It is another spec now."""
        self.at_target = ()

    def action_stop(self) -> None:
        """Stop reading."""
        if self.reading is not None:
            self.reading.cancel()

    @work(group="ask")
    async def action_samples(self) -> None:
        """Take sample records from a file or from dead letters."""
        options = [
            GridRow("live", ("live", "read some from the source")),
            GridRow("file", ("file", "JSON lines, an object a line")),
            GridRow("dead", ("dead letters", "what earlier runs could not write")),
        ]
        chosen = await self.app.push_screen_wait(ChoiceDialog("sample records", options))
        if chosen == "live":
            await self.action_act("live")
        elif chosen == "dead":
            spec_id = self.spec_id
            found = await self.context.ask(lambda reader: reader.failures(spec_id, full=True, limit=LIMIT))
            records = of_failures(found or ())
            if records.records:
                self.have(records)
            else:
                self.notify("No run left any.", title="No dead letters")
        elif chosen == "file":
            path = await self.app.push_screen_wait(
                PromptDialog("sample file", "A file of JSON lines.", value=".speclab/")
            )
            if path and self.opened is not None:
                await self._read_file(named(path, self.opened.path))

    def action_keep(self) -> None:
        """Keep these records as the spec's sample."""
        if self.opened is None:
            return
        try:
            path = keep(self.records.records, self.opened.path, self.spec_id)
        except SpeclabError as error:
            self.context.tell("Not kept", error)
            return
        self.notify(
            f"{format_count(len(self.records.records), 'record')} in {path.name}, read when the spec is opened."
        )

    def action_next_record(self) -> None:
        """Show the next record."""
        self._go(1)

    def action_previous_record(self) -> None:
        """Show the record before."""
        self._go(-1)

    def _go(self, by: int) -> None:
        self.number = (self.number + by) % len(self.records.records)
        self.show_record()

    def action_next_failing(self) -> None:
        """Show the next record that fails, on this row if it fails on any."""
        verdict = self.verdict
        if verdict is None:
            return
        here = verdict.failing.get(self.row.target, ()) if self.row is not None else ()
        numbers = here or sorted({number for numbers in verdict.failing.values() for number in numbers})
        self.number = next((number for number in numbers if number > self.number), numbers[0])
        self.show_record()

    def _source_problem(self) -> Problem | None:
        """Return what has to be mended before the source can be read; None if nothing."""
        if self.sheet is None or self.sheet.reading.integration is not None:
            return None
        if self._checked_source is None or self._checked_source[0] is not self.sheet.document:
            found = None
            try:
                read_endpoint(self.sheet.document, "source")
            except SpecError as error:
                found = next((each for each in error.problems if each.level is Level.ERROR), None)
            self._checked_source = (self.sheet.document, found)
        return self._checked_source[1]

    def _section_title(self, problem: Problem) -> str:
        address = address_at(self.sheet.document, problem.line) if self.sheet is not None else ""
        return address.rpartition(" > ")[2] or "Spec"

    def refuse(self, action: Action, reason: str) -> None:
        """Tell why `action` was not done; where a section is in the way of a live sample, offer to go there."""
        problem = self._source_problem() if action.id == "live" else None
        if problem is None or self.sheet is None:
            super().refuse(action, reason)
        else:
            self._offer_section(reason, address_at(self.sheet.document, problem.line))

    @work(group="ask")
    async def _offer_section(self, reason: str, address: str) -> None:
        message = f"The source cannot be read yet.\n{reason}"
        if await self.app.push_screen_wait(
            ConfirmDialog("live sample", message, yes="go to the section", no="stay here")
        ):
            await self.context.show_section(address)

    def why_not(self, action: str) -> str | None:
        """Why there is no sample to be had, or to go on to."""
        if action in {"next-record", "previous-record", "keep", "explain"} and not self.records.records:
            return "there are no sample records: l reads some from the source"
        if action == "next-failing" and (self.verdict is None or not self.verdict.failed):
            return "no sample record fails"
        if action in {"live", "samples"} and self.opened is None:
            return "no spec is open"
        if action == "live" and (problem := self._source_problem()) is not None:
            return f"{self._section_title(problem)}: {problem.message}"
        if action == "live" and self.reading is not None:
            return "it is being read"
        return super().why_not(action)
