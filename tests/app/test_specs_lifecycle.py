"""Tasks and status in the Specs view: a preview before a change, and what is missing for a status."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import cast

import pytest
from textual.pilot import Pilot

from speclab.app.views.specs.view import SpecsView
from speclab.runlog import RunLog
from speclab.spec.approval import is_changed, read_approval
from speclab.spec.guide import TEMPLATE
from speclab.spec.task_list import read_tasks
from speclab.workbench.open_specs import FRONT_MATTER

Running = Callable[..., AbstractAsyncContextManager[Pilot[None]]]
See = Callable[..., Awaitable[None]]
Until = Callable[..., Awaitable[None]]

SYSTEM = "```yaml\nconnector: file\npath: {0}.jsonl\nkey: id\n```"


@pytest.fixture
def spec(tmp_path: Path) -> Path:
    text = TEMPLATE.replace("{name}", "crm").replace("{Title}", "CRM").replace("{date}", "2026-01-02")
    for name, end in (("Source System", "in"), ("Target System", "out")):
        text = text.replace(f"### {name}\n", f"### {name}\n{SYSTEM.format(end)}\n", 1)
    path = tmp_path / "crm.md"
    path.write_text(text.replace("source.field1 | target.field1", "source.id | target.id"))
    return path


async def open_at(pilot: Pilot[None], until: Until, address: str) -> SpecsView:
    specs = cast("SpecsView", pilot.app.main.view)  # type: ignore[attr-defined]  # the app is ours
    await until(pilot, lambda: specs.opened is not None)
    specs.go_to(address)
    await pilot.pause()
    return specs


def status(specs: SpecsView) -> object:
    assert specs.opened is not None
    return specs.opened.document.front_matter.get("status")


async def test_tasks_are_shown_before_they_are_written_and_can_be_undone(
    spec: Path, running: Running, until: Until, see: See
) -> None:
    async with running(spec.parent, size=(140, 40)) as pilot:
        specs = await open_at(pilot, until, "Tasks Created")
        assert specs.opened is not None
        before = specs.opened.document.text
        await see(pilot, "d creates the tasks")
        await pilot.press("d")
        await see(pilot, "5 tasks: 5 added", "+ [ ] crm-001 Have the spec approved (S)")
        await pilot.press("escape")
        assert specs.opened.document.text == before
        await pilot.press("d")
        await see(pilot, "5 tasks: 5 added")
        await pilot.press("y")
        opened = specs.opened
        await until(pilot, lambda: len(read_tasks(opened.document)) == 5)
        await pilot.press("d")
        await see(pilot, "The tasks are up to date.")
        await pilot.press("u")
        await until(pilot, lambda: opened.document.text == before)


async def test_tasks_are_created_only_in_their_section(spec: Path, running: Running, until: Until, see: See) -> None:
    async with running(spec.parent) as pilot:
        specs = await open_at(pilot, until, "Field Mapping")
        await pilot.press("d")
        await see(pilot, "tasks are created in the section Tasks Created")
        assert specs.explain_disabled("decompose") is not None


async def choose_status(pilot: Pilot[None], specs: SpecsView, see: See, downs: int) -> None:
    specs.go_to(FRONT_MATTER)
    specs.sections.edit_key("status")
    await see(pilot, "agreed, not in use yet")
    await pilot.press(*["down"] * downs, "enter")


async def test_a_status_says_what_is_missing_and_can_be_forced(
    spec: Path, running: Running, until: Until, see: See
) -> None:
    async with running(spec.parent, size=(120, 40)) as pilot:
        specs = await open_at(pilot, until, FRONT_MATTER)
        await choose_status(pilot, specs, see, 2)
        await see(pilot, "What is missing before the spec is in-progress", "speclab run crm --dry-run")
        await pilot.press("n")
        assert status(specs) == "draft"
        await choose_status(pilot, specs, see, 2)
        await see(pilot, "set it anyway")
        await pilot.press("y")
        await until(pilot, lambda: status(specs) == "in-progress")


async def test_a_status_whose_conditions_hold_is_set_at_once(
    spec: Path, running: Running, until: Until, see: See
) -> None:
    with RunLog.open(spec.parent / ".speclab/runlog.db") as log, log.run("crm") as run:
        run.add(read=1, written=1)
    async with running(spec.parent, size=(120, 40)) as pilot:
        specs = await open_at(pilot, until, FRONT_MATTER)
        await choose_status(pilot, specs, see, 2)
        await until(pilot, lambda: status(specs) == "in-progress")


async def test_approved_records_who_approved_as_one_change(
    spec: Path, running: Running, until: Until, see: See
) -> None:
    async with running(spec.parent, size=(120, 40)) as pilot:
        specs = await open_at(pilot, until, FRONT_MATTER)
        assert specs.opened is not None
        before = specs.opened.document.text
        await choose_status(pilot, specs, see, 1)
        await until(pilot, lambda: status(specs) == "approved")
        approval = read_approval(specs.opened.document)
        assert approval is not None
        assert approval.by
        assert not is_changed(specs.opened.document)
        specs.opened.undo()
        assert specs.opened.document.text == before
