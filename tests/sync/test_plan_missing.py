"""A plan of missing records: what a run would delete, and why that may be unknown. Real files, SQLite."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.sync.test_plan_runs import SQL, Place

from speclab.sync.plan import Plan, PlanExample, PlannedEffect

EVERYONE = [(number, f"Ada {number}") for number in range(10)]


@pytest.fixture
def place(tmp_path: Path) -> Place:
    place = Place(tmp_path)
    place.target(SQL)
    place.spec.write_text(place.spec.read_text().replace("path: in.jsonl", "path: in.jsonl\nmissing: delete"))
    place.people(*EVERYONE)
    return place


def deletes(plan: Plan) -> tuple[int, list[str]]:
    return plan.effects[PlannedEffect.DELETE], [
        example.key for example in plan.examples if example.effect is PlannedEffect.DELETE
    ]


async def test_what_is_missing_would_be_deleted_and_then_is(place: Place) -> None:
    await place.run()
    place.people(*EVERYONE[:8])
    before = place.contents()
    plan = await place.plan()
    assert (plan.read, plan.unchanged, *deletes(plan), plan.notes) == (8, 8, 2, ["8", "9"], [])
    assert PlanExample(PlannedEffect.DELETE, "8", ()) in plan.examples
    assert plan.target.calls == 1
    assert place.contents() == before
    row = await place.run()
    assert (row.deleted, row.read) == (2, 10)
    assert deletes(await place.plan()) == (0, [])


async def test_what_comes_again_under_a_new_key_is_not_deleted(place: Place) -> None:
    text = place.spec.read_text()
    place.spec.write_text(text.replace("| source.id    |", "| source.name  |"))
    await place.run()
    place.people(*EVERYONE[:8], (18, "Ada 8"))
    plan = await place.plan()
    assert deletes(plan) == (1, ["9"])
    row = await place.run()
    assert (row.deleted, row.written, row.read) == (1, 2, 10)
    assert deletes(await place.plan()) == (0, [])


async def test_the_guard_would_stop_what_it_will_stop(place: Place) -> None:
    await place.run()
    place.people(*EVERYONE[:4])
    plan = await place.plan()
    assert deletes(plan)[0] == 6
    (alarm,) = plan.alarms
    assert plan.stops
    assert alarm.message.startswith("6 of 10 records at the target are missing from the source")
    assert (await place.run()).error == f"stopped by the guard: {alarm.message}"
    assert deletes(await place.plan())[0] == 6


async def test_before_the_first_whole_read_nothing_can_be_told(place: Place) -> None:
    plan = await place.plan()
    assert deletes(plan) == (0, [])
    assert plan.notes == ["missing records are known after the first full read with `missing: delete` set"]


async def test_a_part_of_the_source_does_not_tell_what_is_missing(place: Place) -> None:
    await place.run()
    plan = await place.plan(limit=3)
    assert deletes(plan) == (0, [])
    assert "an incomplete read does not show which records are missing from the source" in plan.notes
