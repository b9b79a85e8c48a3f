"""A plan of missing records: what a run would delete, and why that may be unknown. Real files and SQLite."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.sync.test_plan_runs import SQL, PlanWorkspace

from speclab.sync.plan import Plan, PlanExample, PlannedEffect

EVERYONE = [(number, f"Ada {number}") for number in range(10)]


@pytest.fixture
def workspace(tmp_path: Path) -> PlanWorkspace:
    workspace = PlanWorkspace(tmp_path)
    workspace.target(SQL)
    workspace.spec.write_text(workspace.spec.read_text().replace("path: in.jsonl", "path: in.jsonl\nmissing: delete"))
    workspace.people(*EVERYONE)
    return workspace


def deletes(plan: Plan) -> tuple[int, list[str]]:
    return plan.effects[PlannedEffect.DELETE], [
        example.key for example in plan.examples if example.effect is PlannedEffect.DELETE
    ]


async def test_plan_lists_the_missing_records_that_the_run_then_deletes(workspace: PlanWorkspace) -> None:
    await workspace.run()
    workspace.people(*EVERYONE[:8])
    before = workspace.contents()
    plan = await workspace.plan()
    assert (plan.read, plan.unchanged, *deletes(plan), plan.notes) == (8, 8, 2, ["8", "9"], [])
    assert PlanExample(PlannedEffect.DELETE, "8", ()) in plan.examples
    assert plan.target.calls == 1
    assert workspace.contents() == before
    row = await workspace.run()
    assert (row.deleted, row.read) == (2, 10)
    assert deletes(await workspace.plan()) == (0, [])


async def test_record_that_returns_under_a_new_key_is_not_deleted(workspace: PlanWorkspace) -> None:
    text = workspace.spec.read_text()
    workspace.spec.write_text(text.replace("| source.id    |", "| source.name  |"))
    await workspace.run()
    workspace.people(*EVERYONE[:8], (18, "Ada 8"))
    plan = await workspace.plan()
    assert deletes(plan) == (1, ["9"])
    row = await workspace.run()
    assert (row.deleted, row.written, row.read) == (1, 2, 10)
    assert deletes(await workspace.plan()) == (0, [])


async def test_plan_reports_when_the_guard_would_stop_the_run(workspace: PlanWorkspace) -> None:
    await workspace.run()
    workspace.people(*EVERYONE[:4])
    plan = await workspace.plan()
    assert deletes(plan)[0] == 6
    (alarm,) = plan.alarms
    assert plan.stops
    assert alarm.message.startswith("6 of 10 records at the target are missing from the source")
    assert (await workspace.run()).error == f"stopped by the guard: {alarm.message}"
    assert deletes(await workspace.plan())[0] == 6


async def test_missing_records_are_unknown_before_the_first_full_read(workspace: PlanWorkspace) -> None:
    plan = await workspace.plan()
    assert deletes(plan) == (0, [])
    assert plan.notes == ["missing records are known after the first full read with `missing: delete` set"]


async def test_missing_records_are_unknown_after_a_partial_read(workspace: PlanWorkspace) -> None:
    await workspace.run()
    plan = await workspace.plan(limit=3)
    assert deletes(plan) == (0, [])
    assert "an incomplete read does not show which records are missing from the source" in plan.notes
