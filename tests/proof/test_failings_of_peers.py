"""What tools of this kind have been seen to do, one a test, and that speclab does not."""

from __future__ import annotations

import signal
import time
from random import Random
from typing import Any

import pytest
from tests.proof.conftest import BY_CURSOR, BY_PAGE, TO_HTTP, TO_SQLITE, Job, Systems, crowd, rows_of, wanted

from speclab.core.errors import BadResponse
from speclab.core.outcome import RunState
from speclab.runlog import RunLogReader

SINCE = BY_CURSOR.replace(
    "records: data,", "records: data, since: {param: since, field: updated, start: 2026-01-01T00:00:00Z},"
).replace(", total: total", "")
BY_ONE_PAGE = BY_CURSOR.replace("{by: cursor, next: next, param: cursor, total: total}", "{by: none}")


def out_of_order(count: int) -> list[dict[str, Any]]:
    """People in no order of their `updated`; the newest early on."""
    people = crowd(count)
    Random(4).shuffle(people)
    newest = max(people, key=lambda one: str(one["updated"]))
    people.remove(newest)
    return [newest, *people]


def wait_for_pages(job: Job, count: int) -> None:
    """Until so many pages are booked."""
    deadline = time.monotonic() + 60
    while not job.log.exists():
        time.sleep(0.01)
    with RunLogReader.open(job.log) as reader:
        while sum(event.kind == "page" for event in reader.events(limit=10_000)) < count:
            assert time.monotonic() < deadline, "the run does not get on"
            time.sleep(0.01)


@pytest.mark.parametrize("end", [signal.SIGTERM, signal.SIGKILL])
def test_rows_out_of_the_cursors_order_are_not_lost_to_a_run_that_is_ended(
    job: Job, systems: Systems, end: signal.Signals
) -> None:
    """The newest is on the first page: whoever keeps the largest value seen as the mark never reads the others."""
    people = out_of_order(600)
    job.write(SINCE)
    systems(people=people, size=20, pause=0.02)
    with job.start() as process:
        wait_for_pages(job, 4)
        process.send_signal(end)
        process.communicate()
    assert process.returncode == (130 if end is signal.SIGTERM else -signal.SIGKILL)
    assert 0 < len(rows_of(job.directory / "target.db")) < len(wanted(people))
    systems(people=people, size=20)
    with job.start() as process:
        _, talk = process.communicate()
        assert process.returncode == 1, talk  # for the dead letters
    assert rows_of(job.directory / "target.db") == wanted(people)
    first, second = job.runs()
    assert first.state is (RunState.CANCELLED if end is signal.SIGTERM else RunState.INTERRUPTED)
    assert second.state is RunState.PARTIAL
    assert first.read % 20 == 0  # whole pages only
    assert first.read + second.read <= len(people) + 20


async def test_records_that_share_the_time_of_the_last_one_read_are_not_missed(job: Job, systems: Systems) -> None:
    people = crowd(40)
    job.write(SINCE)
    systems(people=people[:30])
    await job.run()
    last = people[29]["updated"]
    ties = [one | {"updated": last} for one in people[30:]]
    systems(people=[*people[:30], *ties])
    second = await job.run()
    assert second.row.read - second.row.unchanged == len(ties)
    assert rows_of(job.directory / "target.db") == wanted([*people[:30], *ties])
    changed = people[29] | {"name": "Grace"}  # changed again within the same second
    systems(people=[*people[:29], changed, *ties])
    await job.run()
    assert rows_of(job.directory / "target.db") == wanted([*people[:29], changed, *ties])


@pytest.mark.parametrize(
    ("right", "wrong", "says"),
    [
        ("next: next", "next: nxt", "the response has no `nxt`, but it has `next`"),
        ("next: next", "next: meta.next", "the response has no `meta.next`, but it has `next`"),
        ("records: data", "records: dat", "without `dat`, expected a list at `dat`. Did you mean 'data'?"),
        ("records: data", "records: data.items", "found a list in `data` without `items`"),
        (
            ", records: data",
            "",
            "found an object with `data`, `next`, `total`, expected a list; set `records` to `data`",
        ),
        (", total: total", ", total: totl", "expected a number at `totl`"),
    ],
)
async def test_a_wrong_path_never_reads_a_part_and_calls_it_all(
    job: Job, systems: Systems, right: str, wrong: str, says: str
) -> None:
    source = BY_CURSOR.replace(", total: total", "") if "next" in right else BY_CURSOR
    job.write(source.replace(right, wrong))
    systems(people=crowd(250), size=50)
    result = await job.run()
    assert type(result.error) is BadResponse
    assert result.row.state is RunState.FAILED
    assert says in str(result.row.error)
    assert "people.md:" in str(result.row.error)


async def test_paging_that_stops_early_is_no_success(job: Job, systems: Systems) -> None:
    """A source whose pages end before its total does, whatever the style of paging."""
    for source in (BY_CURSOR, BY_PAGE):
        job.write(source)
        systems(people=crowd(250), size=50, total=400)
        result = await job.run()
        assert type(result.error) is BadResponse
        assert "the total at `total` is 400, but 250 records were read" in str(result.row.error)
        assert result.row.state is RunState.FAILED


async def test_a_wrong_parameter_of_the_cursor_is_found_out(job: Job, systems: Systems) -> None:
    """The server does not know it and gives the first page again, and again."""
    job.write(BY_CURSOR.replace("param: cursor", "param: cursr"))
    systems(people=crowd(250), size=50)
    result = await job.run()
    assert type(result.error) is BadResponse
    assert "the same records as the page before" in str(result.row.error)
    assert len(systems.asked()) <= 4


async def test_a_template_without_its_value_is_never_sent(job: Job, systems: Systems) -> None:
    job.write(
        BY_CURSOR,
        TO_HTTP.replace("/people/{id}", "/people/{id}/of/{source.team}"),
    )
    people = [one | {"team": "a b/c"} for one in crowd(20)]
    people[3].pop("team")
    people[4]["team"] = None
    people[6]["team"] = ""
    systems(people=people)
    result = await job.run()
    asked = [line for line in systems.asked() if line.startswith("PUT")]
    assert not any("{" in line or "%7B" in line or "None" in line or "null" in line for line in asked)
    assert all("/of/a%20b%2Fc" in line for line in asked)
    assert result.row.written == len(asked) == len(wanted(people)) - 3
    reasons = {failure.key: failure.message for failure in job.failures()}
    assert "{source.team} is not in the source record" in reasons["p3"]
    assert "{source.team} is null" in reasons["p4"]
    assert "{source.team} is empty" in reasons["p6"]


async def test_an_unresolved_reference_ends_the_run_before_anything_is_sent(job: Job, systems: Systems) -> None:
    job.write(BY_CURSOR.replace("${env:SYSTEMS}", "${env:SYSTEMS}/${env:NOT_SET}"))
    systems(people=crowd(20))
    result = await job.run()
    assert result.row.state is RunState.FAILED
    assert "NOT_SET" in str(result.row.error)
    assert systems.asked() == []


async def test_no_records_where_thousands_are_expected_is_told(job: Job, systems: Systems) -> None:
    job.write(volume="```yaml\nrecords: 5000\n```")
    systems(people=[])
    await job.run()
    assert any("no records" in line for line in job.reported), job.reported
    assert any("no records" in line for line in job.events("guard"))


async def test_a_page_without_records_is_not_the_end_of_a_list_that_goes_on(job: Job, systems: Systems) -> None:
    """A filter at the source may empty a page in the middle."""
    systems(people=crowd(250), size=50, holes=[1, 2])
    job.write(BY_CURSOR.replace(", total: total", ""))
    result = await job.run()
    assert result.row.read == 150
    assert rows_of(job.directory / "target.db") == wanted([*crowd(50), *crowd(250)[150:]])


async def test_one_page_of_more_is_no_success_unless_the_spec_wants_one(job: Job, systems: Systems) -> None:
    """`auto` that recognises nothing must not take the first page for all there is."""
    job.write(BY_CURSOR.replace("{by: cursor, next: next, param: cursor, total: total}", "{by: auto}"), TO_SQLITE)
    systems(people=crowd(250), size=50, total=250, hides_next=True)
    result = await job.run()
    assert type(result.error) is BadResponse
    assert "nothing in the response says how to request the next page" in str(result.row.error)
    job.write(BY_ONE_PAGE)
    assert (await job.run()).row.read == 50
