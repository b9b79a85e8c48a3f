"""From a dead letter to its row, a preview that passes, and a replay of all similar records."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any, cast

import pytest
from tests.app.mapping.conftest import CONTACTS, TEXT, Running, See, Until, content, put, replace, result, view
from textual.pilot import Pilot

from speclab.app.view import AppContext
from speclab.app.views.mapping.view import MappingView
from speclab.app.views.monitor.failures import FailuresPage
from speclab.app.widgets.cells import GridCell
from speclab.core.json import Record
from speclab.core.outcome import ErrorClass, FailureState
from speclab.runlog import RunLogReader
from speclab.spec.workspace import runlog_path
from speclab.workbench.mapping_state import SimilarFailures

Fixed = Callable[[str, str], AbstractAsyncContextManager[Pilot[None]]]

DATES = 'Date("%d/%m/%Y")'


@pytest.fixture
def spec(spec: Path) -> Path:
    """The spec after a run: three contacts written, three with an invalid date, one with an invalid email address."""
    more: list[Record] = [
        {**CONTACTS[0], "id": key, "born": born} for key, born in [("c_5", "1815-12-10"), ("c_6", "soon")]
    ]
    lines = [json.dumps(contact) + "\n" for contact in [*CONTACTS, *more]]
    (spec.parent / "contacts.jsonl").write_text("".join(lines))
    command = [sys.executable, "-P", "-m", "speclab", "run", "crm"]
    done = subprocess.run(command, cwd=spec.parent, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 1, done.stdout + done.stderr
    assert sorted(customers(spec)) == ["c_1", "c_2"]
    return spec


def customers(spec: Path) -> dict[str, Any]:
    """Return the birth dates at the target, by id."""
    lines = (spec.parent / "customers.jsonl").read_text("utf-8").splitlines()
    return {row["external_id"]: row.get("birth_date") for row in map(json.loads, lines)}


def failures(spec: Path) -> dict[str, FailureState]:
    """Return the states of all failures, open or closed, by key; open ones come last."""
    with RunLogReader.open(runlog_path(spec.parent)) as reader:
        found = [*reader.failures("crm", closed=True), *reader.failures("crm")]
    return {json.loads(failure.key) if failure.key.startswith('"') else failure.key: failure.state for failure in found}


async def open_dead_letter(pilot: Pilot[None], until: Until, see: See, key: str) -> MappingView:
    """Go from the record `key` in the Monitor to its mapping row."""
    context = cast("AppContext", pilot.app)
    await pilot.app.push_screen(
        FailuresPage(context, ("crm",), lambda reader: reader.failures("crm", row="birth_date"))
    )
    await see(pilot, key, "mapping row")
    page = pilot.app.screen
    grid = page.query_one("#keys")
    at = next(number for number, row in enumerate(grid.rows) if key in row.cells)  # type: ignore[attr-defined]
    grid.move(at)  # type: ignore[attr-defined]
    await until(pilot, lambda: page._shown is not None and key in page._shown.key)  # type: ignore[attr-defined]
    await pilot.press("e")
    await until(pilot, lambda: isinstance(view(pilot), MappingView))
    await see(pilot, "record 1 of 3", f"id: {key}", "dead letters")
    return view(pilot)


async def fix(pilot: Pilot[None], until: Until, text: str) -> None:
    """Write `text` as the transformation of the row, and wait until all records are evaluated."""
    await pilot.press("enter")
    await replace(pilot, text)
    await pilot.press("enter")
    await until(pilot, lambda: view(pilot).state.current_check is not None and not view(pilot).cells.line.editing)


@pytest.fixture
def fixed(spec: Path, running: Running, see: See, until: Until) -> Fixed:
    """Go from a record in the Monitor to its row and fix it: `async with fixed("c_5", "Trim") as pilot`."""

    @asynccontextmanager
    async def start(key: str, text: str) -> AsyncIterator[Pilot[None]]:
        async with running(spec.parent, view="monitor", size=(160, 45)) as pilot:
            await open_dead_letter(pilot, until, see, key)
            await fix(pilot, until, text)
            yield pilot

    return start


async def test_fixed_row_is_saved_and_its_records_are_replayed_and_reported(
    spec: Path, running: Running, see: See, until: Until
) -> None:
    async with running(spec.parent, view="monitor", size=(160, 45)) as pilot:
        mapping = await open_dead_letter(pilot, until, see, "c_5")
        assert mapping.row is not None
        assert mapping.row.target == "birth_date"
        await until(pilot, lambda: mapping.state.current_check is not None)
        await pilot.press("R")
        await see(pilot, "no record passes yet")

        await fix(pilot, until, "Trim")
        await until(pilot, lambda: result(pilot, 3) == "1815-12-10")
        await see(pilot, "R replay", "3 pass")
        await pilot.press("R")
        await see(pilot, "3 records failed on birth_date. 3 of them pass the mapping now", "saved first")
        await see(pilot, "replay all 3", "o only this one")
        await pilot.press("enter")
        await see(pilot, "Replayed", "3 written", "replayed: written")
        assert content(spec) == TEXT.replace(DATES, "Trim")
        assert customers(spec) == {
            "c_1": "1815-12-10",
            "c_2": "1906-12-09",
            "c_3": "1912-06-23",
            "c_5": "1815-12-10",
            "c_6": "soon",
        }
        await until(pilot, lambda: mapping.grid.rows[3].cells[9] != GridCell("3", "failed"))
        await pilot.press("R")
        await see(pilot, "it was replayed, and is written")


async def test_one_record_is_replayed_alone(spec: Path, fixed: Fixed, see: See) -> None:
    async with fixed("c_3", "Trim") as pilot:
        await pilot.press("R")
        await see(pilot, "only this one")
        await pilot.press("o")
        await see(pilot, "Replayed", "1 written")
        assert sorted(customers(spec)) == ["c_1", "c_2", "c_3"]
        await pilot.press("n")
        await see(pilot, "record 2 of 3", "3 pass, dead letters")
        await pilot.press("R")
        await see(pilot, "2 records failed on birth_date")


def test_replay_covers_all_failures_of_a_row_or_else_all_with_the_same_message(spec: Path) -> None:
    with RunLogReader.open(runlog_path(spec.parent)) as reader:
        on_the_date, on_the_email = (reader.failures("crm", row=row)[0] for row in ("birth_date", "email"))
        also = dataclasses.replace(on_the_date, error_class=ErrorClass.REJECTED)
        assert SimilarFailures.of(on_the_date) == SimilarFailures.of(also) != SimilarFailures.of(on_the_email)
        assert SimilarFailures.of(also).options == ("--row", "birth_date")
        assert len(SimilarFailures.of(also).read(reader, 10, full=False)) == 3

        nowhere = dataclasses.replace(also, row=None)
        assert SimilarFailures.of(nowhere) != SimilarFailures.of(
            dataclasses.replace(nowhere, error_class=ErrorClass.CONFLICT)
        )
        assert (SimilarFailures.of(nowhere).options, str(SimilarFailures.of(nowhere))) == (
            ("--class", "rejected"),
            "as rejected",
        )


async def test_record_that_still_fails_stays_a_dead_letter_with_its_reason(
    spec: Path, fixed: Fixed, see: See, until: Until
) -> None:
    async with fixed("c_5", "Date") as pilot:
        await see(pilot, "2 pass, 1 fail on birth_date")
        await pilot.press("R")
        await see(pilot, "2 of them pass the mapping now")
        await pilot.press("enter")
        await see(pilot, "2 written, 1 dead. Of those: birth_date: ", 'got "soon"')
        assert sorted(customers(spec)) == ["c_1", "c_2", "c_3", "c_5"]
        assert failures(spec)["c_6"] is FailureState.DEAD

        await pilot.press("F")  # is fixed and replayed again
        await see(pilot, "id: c_6", "replayed: dead")
        await fix(pilot, until, "Trim")
        await pilot.press("R")
        await see(pilot, "1 record failed on birth_date", "enter replay it")
        await pilot.press("enter")
        await see(pilot, "replayed: written")
        assert customers(spec)["c_6"] == "soon"


async def test_nothing_is_saved_or_sent_after_a_cancel(spec: Path, fixed: Fixed, see: See) -> None:
    async with fixed("c_5", "Trim") as pilot:
        await pilot.press("R")
        await see(pilot, "replay all 3")
        await pilot.press("escape")
        await pilot.pause()
        assert content(spec) == TEXT
        assert sorted(customers(spec)) == ["c_1", "c_2"]


async def test_spec_that_cannot_run_is_reported_and_replays_nothing(spec: Path, fixed: Fixed, see: See) -> None:
    put(spec, TEXT.replace("connector: file\npath: customers.jsonl", "connector: fil\npath: customers.jsonl"))
    async with fixed("c_5", "Trim") as pilot:
        await pilot.press("R")
        await see(pilot, "replay all 3")
        await pilot.press("enter")
        await see(pilot, "not all were replayed", "that prevent a run")
        assert failures(spec)["c_5"] is FailureState.DEAD


async def test_other_samples_are_not_dead_letters(
    spec: Path, running: Running, see: See, screen: Callable[[Pilot[None]], str]
) -> None:
    async with running(spec.parent, view="mapping", size=(160, 45)) as pilot:
        await see(pilot, "record 1 of 4", "kept sample")
        assert "R replay" not in screen(pilot)
        await pilot.press("R")
        await see(pilot, "the sample is not from dead letters")
        await pilot.press("o", "down", "down", "enter")
        await see(pilot, "record 1 of 4", "dead letters", "R replay")
