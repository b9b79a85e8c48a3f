"""Acceptance criteria in the Specs view: results in the guide, ticks after a preview, and suggestions on request."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path

import pytest
from tests.app.test_specs_lifecycle import open_at, spec
from textual.pilot import Pilot

from speclab.runlog import RunLog

__all__ = ["spec"]

Running = Callable[..., AbstractAsyncContextManager[Pilot[None]]]
See = Callable[..., Awaitable[None]]
Until = Callable[..., Awaitable[None]]

CRITERIA = """
- [ ] Some records arrive `records("24h") >= 2`
- [x] No dead letter `dead_letters() == 0`
- [ ] At least 99 % of records within 24 h
"""


@pytest.fixture
def verified(spec: Path) -> Path:
    before, heading, after = spec.read_text().partition("## Acceptance Criteria\n")
    rest = after[after.index("\n## ") :]
    spec.write_text(f"{before}{heading}{CRITERIA}{rest}")
    with RunLog.open(spec.parent / ".speclab/runlog.db") as log, log.run("crm") as run:
        run.add(read=3, written=2)
        run.fail("3", "no")
    return spec


async def test_criteria_are_evaluated_in_the_guide_and_ticked_after_a_preview(
    verified: Path, running: Running, until: Until, see: See
) -> None:
    async with running(verified.parent, size=(140, 40)) as pilot:
        specs = await open_at(pilot, until, "Acceptance Criteria")
        opened = specs.opened
        assert opened is not None
        before = opened.document.text
        await see(pilot, "v verifies the criteria")
        await pilot.press("v")
        await see(pilot, 'records("24h") is 3,', "dead_letters() is 1", "w ticks what passes")
        await pilot.press("w")
        await see(pilot, "[x] Some records arrive", "[ ] No dead letter")
        assert opened.document.text == before
        await pilot.press("y")
        await until(pilot, lambda: opened.document.text != before)
        text = opened.document.text
        assert '- [x] Some records arrive `records("24h") >= 2` (run ' in text
        assert "- [ ] No dead letter `dead_letters() == 0`\n" in text
        await pilot.press("w")
        await see(pilot, "No box has to change.")
        await pilot.press("u")
        await until(pilot, lambda: opened.document.text == before)


async def test_a_suggestion_is_added_to_the_criterion_that_is_chosen(
    verified: Path, running: Running, until: Until, see: See
) -> None:
    async with running(verified.parent, size=(140, 40)) as pilot:
        specs = await open_at(pilot, until, "Acceptance Criteria")
        await pilot.press("a")
        await see(pilot, 'success_rate("24h") >= 0.99')
        await pilot.press("enter")
        line = '- [ ] At least 99 % of records within 24 h `success_rate("24h") >= 0.99`\n'
        await until(pilot, lambda: specs.opened is not None and line in specs.opened.document.text)


async def test_criteria_are_verified_only_in_their_section(
    verified: Path, running: Running, until: Until, see: See
) -> None:
    async with running(verified.parent) as pilot:
        specs = await open_at(pilot, until, "Field Mapping")
        await pilot.press("v")
        await see(pilot, "criteria are verified in the section Acceptance Criteria")
        assert specs.explain_disabled("tick") is not None
