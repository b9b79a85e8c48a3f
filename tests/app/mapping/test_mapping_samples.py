"""Sample records come from the live source or a file, and are saved."""

from __future__ import annotations

from pathlib import Path
from threading import current_thread, main_thread

import pytest
from tests.app.mapping.conftest import Running, See, Until, at_row, replace

from speclab.spec.document import Document
from speclab.workbench.mapping_sheet import MappingSheet
from speclab.workbench.samples import read_records, save_sample


async def test_view_without_a_sample_says_how_to_get_one_and_reads_the_source(
    spec: Path, running: Running, see: See
) -> None:
    (spec.parent / ".speclab" / "samples" / "crm.jsonl").unlink()
    async with running(spec.parent, view="mapping") as pilot:
        await see(pilot, "No sample records yet.", "l reads records from the source", "✔ id", "4 rows")
        await pilot.press("l")
        await see(pilot, "record 1 of 5", "live", "Ada Lovelace")
        await pilot.press("w")
        await see(pilot, "5 records in crm.jsonl")


async def test_unreadable_source_is_reported_with_a_hint(spec: Path, running: Running, see: See, until: Until) -> None:
    (spec.parent / "contacts.jsonl").unlink()
    async with running(spec.parent, view="mapping") as pilot:
        await at_row(pilot, until, 0)
        await pilot.press("l")
        await see(pilot, "No sample from the source", "contacts.jsonl", "record 1 of 4")


async def test_sample_is_read_from_a_file(spec: Path, running: Running, see: See, until: Until) -> None:
    async with running(spec.parent, view="mapping") as pilot:
        await at_row(pilot, until, 0)
        await pilot.press("o", "down", "enter")
        await see(pilot, "A JSON Lines file.")
        await replace(pilot, "contacts.jsonl")
        await pilot.press("enter")
        await see(pilot, "record 1 of 5", "contacts.jsonl")


def test_sample_is_saved_within_the_workspace_for_any_spec_name(spec: Path) -> None:
    beside = spec.parent / "customers.jsonl"
    beside.write_text("", "utf-8")
    kept = save_sample([{"id": 1}], spec, "../../customers")
    assert kept.parent == spec.parent / ".speclab" / "samples"
    assert read_records(kept).records == ({"id": 1},)
    assert beside.read_text("utf-8") == ""


def add_settings(spec: Path, count: int) -> None:
    keys = "".join(f"key{number}: {number}\n" for number in range(count))
    spec.write_text(spec.read_text("utf-8").replace("connector: file\n", f"connector: file\n{keys}", 1), "utf-8")


async def test_spec_with_very_many_settings_opens_in_a_thread(
    spec: Path, running: Running, see: See, until: Until, monkeypatch: pytest.MonkeyPatch
) -> None:
    threads: list[bool] = []
    build = MappingSheet.of

    def noted(document: Document, before: MappingSheet | None = None) -> MappingSheet:
        threads.append(current_thread() is main_thread())
        return build(document, before)

    monkeypatch.setattr(MappingSheet, "of", noted)
    add_settings(spec, 20_000)
    async with running(spec.parent, view="mapping") as pilot:
        await see(pilot, "4 rows")
        await at_row(pilot, until, 0)
    assert threads
    assert not any(threads)
