"""The Mapping place: cells are written in place, and what they make of real records is seen before they are."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import cast

import pytest
from textual.events import Paste
from textual.pilot import Pilot

from speclab.app.mapping.place import MappingPlace
from speclab.app.widgets.cells import Cell
from speclab.jsonvalue import Record
from speclab.outcome import ErrorClass, FailureState, Outcome, Stage
from speclab.runlog import NewFailure, PageBooks, RunLog, RunLogReader
from speclab.spec.workspace import runlog_path

Running = Callable[..., AbstractAsyncContextManager[Pilot[None]]]
See = Callable[..., Awaitable[None]]
Until = Callable[..., Awaitable[None]]

HEAD = """---
spec_id: crm
type: integration
status: draft
---

# Spec: CRM

## Integration Overview

### Source System

```yaml
connector: file
path: contacts.jsonl
key: id
```

### Target System

```yaml
connector: file
path: customers.jsonl
key: external_id
```

## Data Flow

### Frequency

Hourly

## Authentication

### Source System Auth

```yaml
type: none
```

### Target System Auth

```yaml
type: none
```

"""
ROWS = """| id | external_id | Direct | |
| name.given, name.family | full_name | Trim, Concat(" ") | |
| email | email | Trim | invoices go here |
| born | birth_date | Date("%d/%m/%Y") | |
"""
TEXT = f"""{HEAD}## Field Mapping

| Source Field | Target Field | Transformation | Notes |
|---|---|---|---|
{ROWS}
```yaml
check:
  email: {{format: email}}
```
"""

CONTACTS: list[Record] = [
    {"id": "c_1", "name": {"given": "Ada ", "family": "Lovelace"}, "email": "Ada@Example.org", "born": "10/12/1815"},
    {"id": "c_2", "name": {"given": "Grace", "family": "Hopper"}, "email": "Grace@Example.org", "born": "09/12/1906"},
    {"id": "c_3", "name": {"given": "Alan", "family": "Turing"}, "email": "Alan@Example.org", "born": "1912-06-23"},
    {"id": "c_4", "name": {"given": "Edsger", "family": "Dijkstra"}, "email": "nobody", "born": "11/05/1930"},
]


@pytest.fixture
def spec(tmp_path: Path) -> Path:
    """A spec with a sample that is kept; contacts.jsonl has one contact more."""
    path = tmp_path / "crm.md"
    path.write_bytes(TEXT.encode())
    samples = tmp_path / ".speclab" / "samples"
    samples.mkdir(parents=True)
    lines = [json.dumps(contact) + "\n" for contact in CONTACTS]
    (samples / "crm.jsonl").write_text("".join(lines))
    (tmp_path / "contacts.jsonl").write_text("".join([*lines, lines[0].replace("c_1", "c_5")]))
    return path


def content(spec: Path) -> str:
    return spec.read_bytes().decode()


def put(spec: Path, text: str) -> None:
    spec.write_bytes(text.encode())


def place(pilot: Pilot[None]) -> MappingPlace:
    return cast("MappingPlace", pilot.app.main.place)  # type: ignore[attr-defined]  # the app is ours


def result(pilot: Pilot[None], row: int) -> str:
    """What the grid says becomes of the sample in that row."""
    cell = place(pilot).grid.rows[row].cells[6]
    return cell.text if isinstance(cell, Cell) else cell


async def write(pilot: Pilot[None], text: str) -> None:
    """Paste `text` where the cursor is, as a terminal does."""
    pilot.app.post_message(Paste(text))
    await pilot.pause()


async def replace(pilot: Pilot[None], text: str) -> None:
    """Write `text` in place of what the cell that is edited says."""
    await pilot.press("home", "ctrl+k")
    await write(pilot, text)


async def at_row(pilot: Pilot[None], until: Until, row: int, column: int = 3) -> MappingPlace:
    await until(pilot, lambda: place(pilot).record is not None)
    place(pilot).grid.move(row, column)
    await pilot.pause()
    return place(pilot)


# Looking


async def test_every_row_shows_the_sample_and_what_becomes_of_it(spec: Path, running: Running, see: See) -> None:
    async with running(spec.parent, place="mapping") as pilot:
        await see(pilot, "crm ▸ Field Mapping", "4 rows", "record 1 of 4", "2 pass, 2 fail, kept sample")
        await see(pilot, "Ada , Lovelace ", "→ Ada Lovelace", "10/12/1815", "1815-12-10", "full_name: Ada Lovelace")


async def test_the_next_failing_record_shows_where_it_fails(
    spec: Path, running: Running, see: See, until: Until
) -> None:
    async with running(spec.parent, place="mapping") as pilot:
        await at_row(pilot, until, 3)
        await see(pilot, "1 fail on birth_date")
        await pilot.press("F")
        await see(pilot, "record 3 of 4", "◀ row birth_date", "birth_date: ✖", '"1912-06-23" is no date')
        await pilot.press("n")
        await see(pilot, "record 4 of 4", "◀ row email")
        await pilot.press("n", "n", "p")
        await see(pilot, "record 1 of 4")


async def test_the_steps_of_a_row_are_explained(spec: Path, running: Running, see: See, until: Until) -> None:
    async with running(spec.parent, place="mapping") as pilot:
        await at_row(pilot, until, 1)
        await pilot.press("x")
        await see(pilot, "steps of full_name", "Trim         Ada, Lovelace", 'Concat(" ")  Ada Lovelace')
        await pilot.press("x")
        await see(pilot, "becomes")


async def test_the_columns_that_matter_most_stay_where_there_is_little_room(
    spec: Path, running: Running, until: Until
) -> None:
    least = ["Source Field", "Target Field", "Transformation", "Result"]
    async with running(spec.parent, place="mapping") as pilot:
        grid = (await at_row(pilot, until, 0)).grid
        for width, more in [(160, ["Sample", "Type", "Fails", "Notes"]), (80, ["Fails"]), (60, [])]:
            await pilot.resize_terminal(width, 24)
            named = [at for at, column in enumerate(grid.columns) if len(column.title) > 1]
            await until(
                pilot,
                lambda named=named, more=more: (
                    sorted([*least, *more]) == sorted(grid.columns[at].title for at in named if grid.region_of(0, at))
                ),
            )


# Cells


async def test_a_cell_is_written_in_place_and_is_one_changed_line(
    spec: Path, running: Running, see: See, until: Until
) -> None:
    async with running(spec.parent, place="mapping") as pilot:
        mapping = await at_row(pilot, until, 2)
        await pilot.press("enter")
        await write(pilot, ", Lowercase")
        await see(pilot, "→ ada@example.org")
        assert mapping.opened is not None
        assert not mapping.opened.unsaved
        await pilot.press("enter")
        await until(pilot, lambda: result(pilot, 2) == "ada@example.org")
        await pilot.press("f2")
        await see(pilot, "crm.md is saved")
        assert content(spec) == TEXT.replace("| email | Trim |", "| email | Trim, Lowercase |")

        await pilot.press("u")
        await until(pilot, lambda: result(pilot, 2) == "Ada@Example.org")
        await pilot.press("f2")
        await until(pilot, lambda: content(spec) == TEXT)


async def test_saving_writes_the_cell_that_is_edited_too(spec: Path, running: Running, see: See, until: Until) -> None:
    async with running(spec.parent, place="mapping") as pilot:
        await at_row(pilot, until, 2)
        await pilot.press("enter")
        await write(pilot, ", Lowercase")
        await pilot.press("f2")
        await see(pilot, "crm.md is saved", "→ ada@example.org")
        assert content(spec) == TEXT.replace("| email | Trim |", "| email | Trim, Lowercase |")


async def test_a_step_that_is_none_is_told_at_its_column_before_it_is_written(
    spec: Path, running: Running, see: See, until: Until
) -> None:
    async with running(spec.parent, place="mapping") as pilot:
        await at_row(pilot, until, 2)
        await pilot.press("enter")
        await write(pilot, ", Lowercas")
        await see(pilot, "unknown step 'Lowercas'. Did you mean 'Lowercase'?")
        strips = [strip.text for strip in pilot.app.screen._compositor.render_strips()]
        line = next(at for at, text in enumerate(strips) if "Trim, Lowercas" in text)
        assert strips[line + 1].index("~~~~~~~~") == strips[line].index("Lowercas")
        await pilot.press("escape")
        await until(pilot, lambda: result(pilot, 2) == "Ada@Example.org")
        assert place(pilot).opened is not None
        assert content(spec) == TEXT
        assert not place(pilot).opened.unsaved  # type: ignore[union-attr]


async def test_a_step_that_is_none_is_marked_in_the_row_once_it_is_written(
    spec: Path, running: Running, see: See, until: Until
) -> None:
    async with running(spec.parent, place="mapping") as pilot:
        await at_row(pilot, until, 2)
        await pilot.press("enter")
        await write(pilot, ", Lowercas")
        await pilot.press("enter")
        await see(pilot, "✖ email", "M101", "1 problem")
        await pilot.press("u")
        await see(pilot, "✔ email")


async def test_steps_and_fields_are_completed(spec: Path, running: Running, see: See, until: Until) -> None:
    async with running(spec.parent, place="mapping") as pilot:
        mapping = await at_row(pilot, until, 2)
        await pilot.press("enter")
        await write(pilot, ", low")
        await see(pilot, "Lowercase  ")
        await pilot.press("tab", "enter")
        await until(pilot, lambda: mapping.sheet and mapping.sheet.rows[2].texts["Transformation"] == "Trim, Lowercase")

        mapping.grid.move(2, 1)
        await pilot.press("enter")
        await replace(pilot, "giv")
        await see(pilot, "source.name.given")
        await pilot.press("tab", "enter")
        await until(pilot, lambda: mapping.sheet and mapping.sheet.rows[2].texts["Source Field"] == "source.name.given")


async def test_tab_goes_on_to_the_next_cell_and_all_is_one_step_to_undo(
    spec: Path, running: Running, until: Until
) -> None:
    async with running(spec.parent, place="mapping") as pilot:
        mapping = await at_row(pilot, until, 3)
        await pilot.press("a")
        await write(pilot, "source.name.given")
        await pilot.press("tab")
        await until(pilot, lambda: mapping.grid.cursor_column == 2)
        await write(pilot, "target.given")
        await pilot.press("tab")
        await until(pilot, lambda: mapping.grid.cursor_column == 3)
        await write(pilot, "Trim")
        await pilot.press("enter")
        await until(pilot, lambda: len(mapping.grid.rows) == 5 and result(pilot, 4) == "Ada")
        await pilot.press("f2")
        await until(
            pilot, lambda: content(spec) == TEXT.replace(ROWS, f"{ROWS}| source.name.given | target.given | Trim | |\n")
        )
        await pilot.press("u")
        assert mapping.opened is not None
        assert mapping.opened.document.text == TEXT


async def test_what_is_being_written_in_a_cell_is_put_aside_for_a_crash(
    spec: Path, running: Running, until: Until
) -> None:
    async with running(spec.parent, place="mapping") as pilot:
        await at_row(pilot, until, 2)
        await pilot.press("enter")
        await write(pilot, ", Lowerc")
        recovery = spec.parent / ".speclab" / "recovery"
        await until(
            pilot, lambda: recovery.exists() and any("Trim, Lowerc" in content(at) for at in recovery.iterdir())
        )
        await pilot.press("escape")
        await until(pilot, lambda: not list(recovery.iterdir()))
        assert place(pilot).opened is not None
        assert place(pilot).opened.document.text == TEXT  # type: ignore[union-attr]


async def test_another_cell_of_the_row_may_be_changed_by_others_meanwhile(
    spec: Path, running: Running, see: See, until: Until
) -> None:
    async with running(spec.parent, place="mapping") as pilot:
        mapping = await at_row(pilot, until, 2)
        await pilot.press("enter")
        await write(pilot, ", Lower")
        put(spec, TEXT.replace("| email | email | Trim |", "| born | mail | Direct | |\n| mail | email | Trim |"))
        await until(pilot, lambda: mapping.opened and "| mail | email |" in mapping.opened.document.text)
        await write(pilot, "case")
        await pilot.press("enter", "f2")
        await see(pilot, "crm.md is saved")
        both = "| born | mail | Direct | |\n| mail | email | Trim, Lowercase |"
        assert content(spec) == TEXT.replace("| email | email | Trim |", both)


async def test_a_cell_that_others_changed_meanwhile_is_not_overwritten(
    spec: Path, running: Running, see: See, until: Until
) -> None:
    async with running(spec.parent, place="mapping") as pilot:
        mapping = await at_row(pilot, until, 2)
        await pilot.press("enter")
        others = TEXT.replace("| email | email | Trim |", "| email | email | Uppercase |")
        put(spec, others)
        await until(pilot, lambda: mapping.opened and mapping.opened.document.text == others)
        await write(pilot, ", Lowercase")
        await pilot.press("enter")
        await see(pilot, "changed by others")
        await pilot.press("escape")
        await until(pilot, lambda: not mapping.line.editing)
        await see(pilot, "ADA@EXAMPLE.ORG")
        assert content(spec) == others


async def test_a_cell_is_edited_and_completed_by_the_mouse_too(
    spec: Path, running: Running, see: See, until: Until
) -> None:
    async with running(spec.parent, place="mapping") as pilot:
        mapping = await at_row(pilot, until, 0)
        region = mapping.grid.region_of(2, 3)
        await pilot.click(mapping.grid, offset=region.offset, times=2)
        await until(pilot, lambda: mapping.line.editing)
        await write(pilot, ", upp")
        await see(pilot, "Uppercase  ")
        await pilot.click("Below Grid", offset=(2, 0), times=2)
        await until(pilot, lambda: mapping.line.value == "Trim, Uppercase")
        await pilot.press("enter")
        await until(pilot, lambda: result(pilot, 2) == "ADA@EXAMPLE.ORG")


async def test_a_cell_that_is_edited_stays_under_the_line_when_the_terminal_changes(
    spec: Path, running: Running, until: Until
) -> None:
    async with running(spec.parent, place="mapping") as pilot:
        mapping = await at_row(pilot, until, 1)
        await pilot.press("enter")
        await pilot.resize_terminal(90, 24)
        await until(pilot, lambda: mapping.grid.size.width == 90)
        await until(
            pilot,
            lambda: (
                mapping.line.region.offset == mapping.grid.region_of(1, 3).offset + mapping.grid.content_region.offset
            ),
        )


# Rows


async def test_rows_are_deleted_and_moved_and_come_back(spec: Path, running: Running, until: Until) -> None:
    lines = ROWS.splitlines(keepends=True)
    async with running(spec.parent, place="mapping") as pilot:
        mapping = await at_row(pilot, until, 1)
        for keys, rows in [
            (["d"], [0, 2, 3]),
            (["J"], [0, 2, 1, 3]),
            (["K"], [1, 0, 2, 3]),
            (["ctrl+down", "ctrl+down"], [0, 2, 3, 1]),
        ]:
            mapping.grid.move(1)
            await pilot.press(*keys, "f2")
            moved = TEXT.replace(ROWS, "".join(lines[at] for at in rows))
            await until(pilot, lambda moved=moved: content(spec) == moved)
            await pilot.press("u")
            assert mapping.opened is not None
            assert mapping.opened.document.text == TEXT


async def test_a_row_is_doubled_and_its_target_written_anew(spec: Path, running: Running, until: Until) -> None:
    async with running(spec.parent, place="mapping") as pilot:
        mapping = await at_row(pilot, until, 2)
        await pilot.press("m")
        await until(pilot, lambda: mapping.line.editing)
        await replace(pilot, "mail")
        await pilot.press("enter", "f2")
        twice = TEXT.replace("invoices go here |\n", "invoices go here |\n| email | mail | Trim | invoices go here |\n")
        await until(pilot, lambda: content(spec) == twice)


async def test_targets_that_no_row_writes_are_suggested_and_taken(
    spec: Path, running: Running, see: See, until: Until
) -> None:
    put(spec, TEXT.replace("| id | external_id | Direct | |\n", ""))
    async with running(spec.parent, place="mapping") as pilot:
        await until(pilot, lambda: place(pilot).record is not None)
        await see(pilot, "1 target unmapped", "◌", "external_id", "required", "suggest: source.id")
        await pilot.press("s")
        await see(pilot, "4 rows, unsaved", "external_id: c_1")
        await pilot.press("f2")
        await until(
            pilot,
            lambda: (
                '| born | birth_date | Date("%d/%m/%Y") | |\n| source.id | target.external_id | Direct | |\n'
                in content(spec)
            ),
        )


async def test_nothing_is_written_when_the_app_only_reads(spec: Path, running: Running, see: See, until: Until) -> None:
    async with running(spec.parent, place="mapping", read_only=True) as pilot:
        mapping = await at_row(pilot, until, 2)
        await pilot.press("d")
        await see(pilot, "Cannot delete now", "--read-only")
        await pilot.press("enter")
        assert not mapping.line.editing
        assert content(spec) == TEXT


# Samples


async def test_without_a_sample_it_says_how_to_get_one_and_reads_the_source(
    spec: Path, running: Running, see: See
) -> None:
    (spec.parent / ".speclab" / "samples" / "crm.jsonl").unlink()
    async with running(spec.parent, place="mapping") as pilot:
        await see(pilot, "No sample records yet.", "l reads some from the source", "✔ id", "4 rows")
        await pilot.press("l")
        await see(pilot, "record 1 of 5", "live", "Ada Lovelace")
        await pilot.press("w")
        await see(pilot, "5 records in crm.jsonl")


async def test_a_source_that_cannot_be_read_is_told_with_what_to_do(
    spec: Path, running: Running, see: See, until: Until
) -> None:
    (spec.parent / "contacts.jsonl").unlink()
    async with running(spec.parent, place="mapping") as pilot:
        await at_row(pilot, until, 0)
        await pilot.press("l")
        await see(pilot, "No sample from the source", "contacts.jsonl", "record 1 of 4")


async def test_a_sample_is_taken_from_a_file(spec: Path, running: Running, see: See, until: Until) -> None:
    async with running(spec.parent, place="mapping") as pilot:
        await at_row(pilot, until, 0)
        await pilot.press("o", "down", "enter")
        await see(pilot, "A file of JSON lines.")
        await replace(pilot, "contacts.jsonl")
        await pilot.press("enter")
        await see(pilot, "record 1 of 5", "contacts.jsonl")


def dead_letter(key: str) -> NewFailure:
    return NewFailure(
        key=key,
        state=FailureState.DEAD,
        stage=Stage.MAP,
        error_class=ErrorClass.MAPPING,
        message="no date",
        file="crm.md",
        line=57,
        row="birth_date",
        source={**CONTACTS[0], "id": key, "born": "soon"},
    )


def run_with(spec: Path, failures: list[NewFailure]) -> None:
    with RunLog.open(runlog_path(spec.parent)) as log:
        log.register("crm", title="CRM", path="crm.md", status="draft", schedule="Hourly")
        run = log.start_run("crm", "hash", "manual")
        books = PageBooks(len(failures), {Outcome.DEAD: len(failures)}, {}, 0, 0, None, failures)
        log.commit_page(run, books)
        log.finish_run(run)


async def test_a_dead_letter_is_opened_as_the_sample_of_the_row_it_failed_on(
    spec: Path, running: Running, see: See, until: Until
) -> None:
    run_with(spec, [dead_letter("c_8"), dead_letter("c_9")])
    async with running(spec.parent, place="mapping") as pilot:
        mapping = await at_row(pilot, until, 0)
        with RunLogReader.open(runlog_path(spec.parent)) as reader:
            failure = reader.failures("crm", full=True)[1]
        mapping.open(spec, failure=failure)
        await see(pilot, "record 1 of 2", f"id: {failure.key}", "born: soon   ◀ row birth_date", "dead letters")
        assert mapping.row is not None
        assert mapping.row.target == "birth_date"
        await until(pilot, lambda: mapping.grid.rows[3].cells[8] == Cell("2", "failed"))

        await pilot.press("enter")
        await replace(pilot, "Trim")
        await pilot.press("enter")
        await until(pilot, lambda: result(pilot, 3) == "soon")
        await see(pilot, "✔ born", "2 pass")
