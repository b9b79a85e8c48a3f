"""The guard: a run with far fewer or more records than expected, or many deletes, is reported or stopped."""

from __future__ import annotations

from tests.sync.conftest import World, counts, person

from speclab.core.json import Record
from speclab.core.outcome import RunState
from speclab.sync.run import RunOptions

FULL = RunOptions(full=True)


def volume(world: World, settings: str) -> None:
    world.edit("Hourly\n", f"Hourly\n\n### Volume\n\n```yaml\n{settings}\n```\n")


def people(count: int, *, gone: bool = False) -> list[list[Record]]:
    """Return pages of `count` people, two per page."""
    everyone = [person(f"p{number}", gone=gone) for number in range(count)]
    return [everyone[at : at + 2] for at in range(0, count, 2)]


async def test_empty_read_where_thousands_are_expected_is_an_error(world: World) -> None:
    volume(world, "records: 4000")
    result = await world.run([])
    assert result.row.state is RunState.SUCCEEDED
    assert world.events("guard") == ["the source returned no records; `records` under Volume expects 4,000"]
    assert "error: the source returned no records; `records` under Volume expects 4,000" in world.reported


async def test_empty_read_fails_the_run_where_the_spec_says_so(world: World) -> None:
    volume(world, "records: 4000\nguard: {action: stop}")
    row = (await world.run([])).row
    assert (row.state, row.read) == (RunState.FAILED, 0)
    assert row.error == "stopped by the guard: the source returned no records; `records` under Volume expects 4,000"


async def test_fewer_records_than_the_minimum_are_reported_after_the_read(world: World) -> None:
    volume(world, "records: 10\nguard: {least: 70%}")
    await world.run(people(6))
    assert world.events("guard") == ["the source returned 6 records; `records` under Volume expects 10"]
    assert "warning: the source returned 6 records; `records` under Volume expects 10" in world.reported
    await world.run(people(8), options=FULL)
    assert len(world.events("guard")) == 1


async def test_continued_read_may_be_empty(world: World) -> None:
    volume(world, "records: 4\nper_run: 4\nguard: {action: stop}")
    await world.run(people(4))
    assert (await world.run()).row.state is RunState.SUCCEEDED
    assert world.events("guard") == []


async def test_more_records_than_the_maximum_are_stopped_before_they_are_written(world: World) -> None:
    volume(world, "records: 2\nguard: {action: stop, most: 200%}")
    row = (await world.run(people(8))).row
    assert (row.state, counts(row)) == (RunState.FAILED, {"written": 4})
    assert row.error == "stopped by the guard: 6 records were read so far; `records` under Volume expects 2"
    assert sorted(world.target.content) == ["p0", "p1", "p2", "p3"]
    assert world.log.get_cursor("people") == 2


async def test_more_records_than_the_maximum_are_reported_once(world: World) -> None:
    volume(world, "records: 1\nguard: {most: 100%}")
    row = (await world.run(people(8))).row
    assert (row.state, row.written) == (RunState.SUCCEEDED, 8)
    assert world.events("guard") == ["2 records were read so far; `records` under Volume expects 1"]


async def test_continued_read_is_compared_with_the_usual_size_of_a_run(world: World) -> None:
    volume(world, "records: 100\nper_run: 1\nguard: {most: 300%, least: 0%}")
    await world.run(people(4))
    world.source.content += people(6)[:2]
    await world.run()
    assert world.events("guard") == ["4 records were read so far; `per_run` under Volume expects 1"]


async def test_mass_deletes_are_stopped_before_they_happen(world: World) -> None:
    volume(world, "records: 8\nguard: {action: stop, deletes: 25%}")
    await world.run(people(8))
    row = (await world.run(people(8, gone=True), options=FULL)).row
    assert (row.state, row.deleted) == (RunState.FAILED, 2)
    assert row.error == "stopped by the guard: the run would delete 4 of about 8 records"
    assert len(world.target.content) == 6
    again = (await world.run(people(8, gone=True), options=FULL)).row  # already deleted records are not deleted again
    assert (again.unchanged, again.deleted) == (2, 2)


async def test_without_a_volume_only_an_empty_source_is_reported(world: World) -> None:
    await world.run([])
    await world.run(people(2), options=FULL)
    await world.run(people(2, gone=True), options=FULL)
    assert world.events("guard") == ["the source returned no records"]


def without_names(count: int) -> list[list[Record]]:
    return [[{name: value for name, value in person(f"n{at}").items() if name != "name"} for at in range(count)]]


async def test_field_missing_from_the_source_is_reported_with_its_row(world: World) -> None:
    await world.run(people(20))
    row = (await world.run(without_names(20), options=FULL)).row
    assert (row.state, row.written) == (RunState.SUCCEEDED, 20)
    [reported] = world.events("guard")
    assert reported.startswith(
        "people.md:40: source.name, the source of target.name, is missing from the last 20 records"
    )
    await world.run(people(20), options=FULL)
    assert len(world.events("guard")) == 1


async def test_missing_field_ends_every_run_before_any_write_where_the_spec_says_so(world: World) -> None:
    volume(world, "guard: {action: stop}")
    await world.run(people(20))
    for _ in range(2):
        row = (await world.run(without_names(20), options=FULL)).row
        assert (row.state, row.read) == (RunState.FAILED, 0)
        assert row.error is not None
        assert row.error.startswith("stopped by the guard: people.md:46: source.name")
    world.edit("action: stop", "action: stop, drift: false")
    assert (await world.run(without_names(20), options=FULL)).row.state is RunState.SUCCEEDED


async def test_dry_run_reports_drift_and_learns_nothing(world: World) -> None:
    await world.run(people(20))
    for _ in range(2):
        await world.run(without_names(20), options=RunOptions(full=True, dry_run=True))
        assert any("source.name" in line for line in world.reported)
        world.reported.clear()
    assert world.events("guard") == []
