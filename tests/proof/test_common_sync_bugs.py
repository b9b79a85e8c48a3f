"""Bugs that are known from other sync tools, one per test, and that speclab does not have."""

from __future__ import annotations

import signal
import time
from random import Random
from typing import Any

import pytest
from tests.proof.conftest import (
    BY_CURSOR,
    BY_PAGE,
    TO_HTTP,
    TO_SQLITE,
    Job,
    Systems,
    expected_rows,
    make_people,
    rows_of,
)

from speclab.core.errors import BadResponse
from speclab.core.outcome import RunState
from speclab.runlog import RunLogReader

SINCE = BY_CURSOR.replace(
    "records: data,", "records: data, since: {param: since, field: updated, start: 2026-01-01T00:00:00Z},"
).replace(", total: total", "")
BY_ONE_PAGE = BY_CURSOR.replace("{by: cursor, next: next, param: cursor, total: total}", "{by: none}")


def out_of_order(count: int) -> list[dict[str, Any]]:
    """Return people not sorted by `updated`, the newest on the first page."""
    people = make_people(count)
    Random(4).shuffle(people)
    newest = max(people, key=lambda one: str(one["updated"]))
    people.remove(newest)
    return [newest, *people]


def wait_for_pages(job: Job, count: int) -> None:
    """Wait until `count` pages are committed."""
    deadline = time.monotonic() + 60
    while not job.log.exists():
        time.sleep(0.01)
    with RunLogReader.open(job.log) as reader:
        while sum(event.kind == "page" for event in reader.events(limit=10_000)) < count:
            assert time.monotonic() < deadline, "the run does not get on"
            time.sleep(0.01)


@pytest.mark.parametrize("end", [signal.SIGTERM, signal.SIGKILL])
def test_ended_run_loses_no_rows_of_an_unsorted_source(job: Job, systems: Systems, end: signal.Signals) -> None:
    """The newest row is on the first page: a bookmark with the largest value so far would skip all others."""
    people = out_of_order(600)
    job.write(SINCE)
    systems(people=people, size=20, pause=0.02)
    with job.start() as process:
        wait_for_pages(job, 4)
        process.send_signal(end)
        process.communicate()
    assert process.returncode == (130 if end is signal.SIGTERM else -signal.SIGKILL)
    assert 0 < len(rows_of(job.directory / "target.db")) < len(expected_rows(people))
    systems(people=people, size=20)
    with job.start() as process:
        _, output = process.communicate()
        assert process.returncode == 1, output  # because of the dead letters
    assert rows_of(job.directory / "target.db") == expected_rows(people)
    first, second = job.runs()
    assert first.state is (RunState.CANCELLED if end is signal.SIGTERM else RunState.INTERRUPTED)
    assert second.state is RunState.PARTIAL
    assert first.read % 20 == 0  # only whole pages
    assert first.read + second.read <= len(people) + 20


async def test_records_with_the_same_time_as_the_bookmark_are_read(job: Job, systems: Systems) -> None:
    people = make_people(40)
    job.write(SINCE)
    systems(people=people[:30])
    await job.run()
    last = people[29]["updated"]
    ties = [one | {"updated": last} for one in people[30:]]
    systems(people=[*people[:30], *ties])
    second = await job.run()
    assert second.row.read - second.row.unchanged == len(ties)
    assert rows_of(job.directory / "target.db") == expected_rows([*people[:30], *ties])
    changed = people[29] | {"name": "Grace"}  # changed again within the same second
    systems(people=[*people[:29], changed, *ties])
    await job.run()
    assert rows_of(job.directory / "target.db") == expected_rows([*people[:29], changed, *ties])


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
async def test_wrong_path_is_an_error_and_never_a_partial_success(
    job: Job, systems: Systems, right: str, wrong: str, says: str
) -> None:
    source = BY_CURSOR.replace(", total: total", "") if "next" in right else BY_CURSOR
    job.write(source.replace(right, wrong))
    systems(people=make_people(250), size=50)
    result = await job.run()
    assert type(result.error) is BadResponse
    assert result.row.state is RunState.FAILED
    assert says in str(result.row.error)
    assert "people.md:" in str(result.row.error)


async def test_pagination_that_ends_early_is_not_a_success(job: Job, systems: Systems) -> None:
    """The pages of the source end before its total, for every pagination style."""
    for source in (BY_CURSOR, BY_PAGE):
        job.write(source)
        systems(people=make_people(250), size=50, total=400)
        result = await job.run()
        assert type(result.error) is BadResponse
        assert "the total at `total` is 400, but 250 records were read" in str(result.row.error)
        assert result.row.state is RunState.FAILED


async def test_wrong_cursor_parameter_is_detected(job: Job, systems: Systems) -> None:
    """The server ignores it and returns the first page again and again."""
    job.write(BY_CURSOR.replace("param: cursor", "param: cursr"))
    systems(people=make_people(250), size=50)
    result = await job.run()
    assert type(result.error) is BadResponse
    assert "the same records as the page before" in str(result.row.error)
    assert len(systems.take_requests()) <= 4


async def test_template_without_its_value_is_never_sent(job: Job, systems: Systems) -> None:
    job.write(
        BY_CURSOR,
        TO_HTTP.replace("/people/{id}", "/people/{id}/of/{source.team}"),
    )
    people = [one | {"team": "a b/c"} for one in make_people(20)]
    people[3].pop("team")
    people[4]["team"] = None
    people[6]["team"] = ""
    systems(people=people)
    result = await job.run()
    requested = [line for line in systems.take_requests() if line.startswith("PUT")]
    assert not any("{" in line or "%7B" in line or "None" in line or "null" in line for line in requested)
    assert all("/of/a%20b%2Fc" in line for line in requested)
    assert result.row.written == len(requested) == len(expected_rows(people)) - 3
    reasons = {failure.key: failure.message for failure in job.failures()}
    assert "{source.team} is not in the source record" in reasons["p3"]
    assert "{source.team} is null" in reasons["p4"]
    assert "{source.team} is empty" in reasons["p6"]


async def test_unresolved_reference_ends_the_run_before_any_request(job: Job, systems: Systems) -> None:
    job.write(BY_CURSOR.replace("${env:SYSTEMS}", "${env:SYSTEMS}/${env:NOT_SET}"))
    systems(people=make_people(20))
    result = await job.run()
    assert result.row.state is RunState.FAILED
    assert "NOT_SET" in str(result.row.error)
    assert systems.take_requests() == []


async def test_empty_read_where_thousands_are_expected_is_reported(job: Job, systems: Systems) -> None:
    job.write(volume="```yaml\nrecords: 5000\n```")
    systems(people=[])
    await job.run()
    assert any("no records" in line for line in job.reported), job.reported
    assert any("no records" in line for line in job.events("guard"))


async def test_empty_page_in_the_middle_does_not_end_the_list(job: Job, systems: Systems) -> None:
    """A filter at the source may empty a page in the middle."""
    systems(people=make_people(250), size=50, empty_pages=[1, 2])
    job.write(BY_CURSOR.replace(", total: total", ""))
    result = await job.run()
    assert result.row.read == 150
    assert rows_of(job.directory / "target.db") == expected_rows([*make_people(50), *make_people(250)[150:]])


async def test_single_page_of_a_longer_list_is_not_a_success_unless_the_spec_says_so(
    job: Job, systems: Systems
) -> None:
    """`auto` that recognizes no pagination must not accept the first page as the whole list."""
    job.write(BY_CURSOR.replace("{by: cursor, next: next, param: cursor, total: total}", "{by: auto}"), TO_SQLITE)
    systems(people=make_people(250), size=50, total=250, omit_next=True)
    result = await job.run()
    assert type(result.error) is BadResponse
    assert "nothing in the response says how to request the next page" in str(result.row.error)
    job.write(BY_ONE_PAGE)
    assert (await job.run()).row.read == 50
