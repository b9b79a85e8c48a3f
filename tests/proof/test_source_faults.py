"""Faults of a source, one per test: the outcome of the run, its counts, the target, and the messages.

A transient fault is retried; nothing is missing or duplicated. Any other fault ends the run with an error that has a
location, never as a success, and the next run continues after the last committed page.
"""

from __future__ import annotations

from typing import Any

import pytest
from tests.proof.conftest import (
    BY_CURSOR,
    BY_PAGE,
    QUICK,
    TO_SQLITE,
    Job,
    Systems,
    expected_rows,
    make_people,
    rows_of,
    run_systems,
)

from speclab.core.errors import BadResponse, Unauthorized, Unreachable
from speclab.core.outcome import RunState, Stage
from speclab.sync.run import RunResult

PEOPLE = make_people(300)
PAGE = 100
DEAD = sum(one["age"] == "old" for one in PEOPLE if not one["test"])


def assert_complete(job: Job, result: RunResult, read: int = len(PEOPLE)) -> None:
    """Assert that the target has the whole source and the counts match; a few dead letters make the run partial."""
    assert result.error is None, result.error
    assert (result.row.state, result.row.read, result.row.dead) == (RunState.PARTIAL, read, DEAD)
    assert rows_of(job.directory / "target.db") == expected_rows(PEOPLE)


async def assert_failed_and_completed_by_next_run(
    job: Job,
    kind: type[Exception],
    *says: str,
    pages: int = 1,
    read: int = len(PEOPLE),
    state: RunState = RunState.FAILED,
) -> None:
    """Assert that a run fails after `pages` with a located error that contains `says`, and the next completes."""
    result = await job.run()
    location = f"people.md:{job.line_of('### Source System')}"
    assert type(result.error) is kind, result
    assert result.row.state is state
    assert result.row.error is not None
    assert result.row.error.startswith(location), result.row.error
    for text in says:
        assert text in result.row.error
    assert result.row.read == pages * PAGE
    assert rows_of(job.directory / "target.db") == expected_rows(PEOPLE[: pages * PAGE])
    second = await job.run()
    assert second.error is None
    assert result.row.read + second.row.read == read
    assert rows_of(job.directory / "target.db") == expected_rows(PEOPLE)


@pytest.mark.parametrize("fault", ["reset", "hang-up", "long", "503", "429", "429-silent"])
async def test_transient_fault_is_retried_without_gaps_or_duplicates(job: Job, systems: Systems, fault: str) -> None:
    systems(people=PEOPLE, size=PAGE, source=["", fault, fault, ""])
    result = await job.run()
    assert_complete(job, result)
    assert any("retrying in" in line for line in job.reported)
    assert len(systems.take_requests()) == 3 + 2


async def test_burst_of_503_longer_than_the_attempts_fails_the_run(job: Job, systems: Systems) -> None:
    systems(people=PEOPLE, size=PAGE, source=["", *["503"] * 6])
    await assert_failed_and_completed_by_next_run(job, Unreachable, "503", "not now", "tried 6 times")


async def test_slow_drip_of_bytes_hits_the_timeout(job: Job, systems: Systems) -> None:
    job.write(BY_CURSOR, TO_SQLITE, retry="attempts: 2\nbase: 5ms\ncap: 50ms")
    systems(people=PEOPLE, size=PAGE, source=["", "drip", "drip"])
    await assert_failed_and_completed_by_next_run(job, Unreachable, "no response in time")


async def test_slow_response_within_the_timeout_is_read(job: Job, systems: Systems) -> None:
    job.write(BY_CURSOR.replace("500ms", "20s"), TO_SQLITE)
    systems(people=PEOPLE, size=PAGE, source=["slow", "slow"])
    assert_complete(job, await job.run())


async def test_requested_wait_is_respected(job: Job, systems: Systems) -> None:
    systems(people=PEOPLE, size=PAGE, source=["", "429"], retry_after="1")
    job.write(BY_CURSOR, TO_SQLITE, retry="attempts: 2\nbase: 5ms\ncap: 5s")
    assert_complete(job, await job.run())
    assert any("429" in line and "retrying in 1s" in line for line in job.reported)


async def test_wait_longer_than_the_cap_parks_the_run_and_is_not_shortened(job: Job, systems: Systems) -> None:
    systems(people=PEOPLE, size=PAGE, source=["", "429"], retry_after="3600")
    says = ("parked", "429", "asks to wait 1h")
    await assert_failed_and_completed_by_next_run(job, Unreachable, *says, state=RunState.PARTIAL)


async def test_truncated_json_is_never_a_partial_page(job: Job, systems: Systems) -> None:
    systems(people=PEOPLE, size=PAGE, source=["", "truncated"])
    await assert_failed_and_completed_by_next_run(job, BadResponse, "a body that is not JSON")


async def test_content_length_too_small_is_never_a_partial_page(job: Job, systems: Systems) -> None:
    """If the rest is in the same packet, truncated JSON is seen first, otherwise an invalid response."""
    systems(people=PEOPLE, size=PAGE, source=["", "short"])
    await assert_failed_and_completed_by_next_run(job, BadResponse)
    assert any(text in str(job.runs()[0].error) for text in ("a body that is not JSON", "the response is not HTTP"))
    assert "\n" not in str(job.runs()[0].error)


async def test_empty_body_is_not_an_empty_list(job: Job, systems: Systems) -> None:
    systems(people=PEOPLE, size=PAGE, source=["", "empty"])
    await assert_failed_and_completed_by_next_run(job, BadResponse, "an empty body, expected JSON")


async def test_record_with_invalid_utf8_is_the_only_dead_letter(job: Job, systems: Systems) -> None:
    systems(people=PEOPLE, size=PAGE, source=["", "invalid-utf8"])
    result = await job.run()
    assert result.error is None
    assert (result.row.state, result.row.read, result.row.dead) == (RunState.PARTIAL, len(PEOPLE), DEAD + 1)
    (unreadable,) = (failure for failure in job.failures() if failure.stage is Stage.READ)
    assert "the byte 0xff, which is not UTF-8" in unreadable.message
    assert f"people.md:{job.line_of('### Source System')}" == f"{unreadable.file}:{unreadable.line}"
    assert len(rows_of(job.directory / "target.db")) == len(expected_rows(PEOPLE)) - 1


async def test_error_with_status_200_is_an_error(job: Job, systems: Systems) -> None:
    systems(people=PEOPLE, size=PAGE, source=["", "error-200"])
    await assert_failed_and_completed_by_next_run(job, BadResponse, "without `data`", "`error`")


async def test_credentials_rejected_during_a_run_end_it(job: Job, systems: Systems) -> None:
    job.environ = {"TOKEN": "s3cr3t-token"}
    job.write(auth="type: bearer\ntoken: ${env:TOKEN}")
    systems(people=PEOPLE, size=PAGE, source=["", "401"], token="s3cr3t-token")
    await assert_failed_and_completed_by_next_run(job, Unauthorized, "401")
    assert b"s3cr3t-token" not in job.log.read_bytes()


async def test_repeated_page_is_an_error(job: Job, systems: Systems) -> None:
    systems(people=PEOPLE, size=PAGE, source=["", "again"])
    await assert_failed_and_completed_by_next_run(job, BadResponse, "the same records as the page before")


async def test_page_repeated_later_changes_nothing_and_the_page_it_replaced_is_reported_missing(
    job: Job, systems: Systems
) -> None:
    """The list [1, 2, 1] has as many records as its total, but one of its pages is missing."""
    people = [*PEOPLE[:200], *PEOPLE[:100]]
    systems(people=people, size=PAGE)
    result = await job.run()
    assert (result.row.read, result.row.unchanged) == (300, len(expected_rows(PEOPLE[:100])))
    assert rows_of(job.directory / "target.db") == expected_rows(PEOPLE[:200])


async def test_pages_in_another_order_are_read_completely(job: Job, systems: Systems) -> None:
    systems(people=[*PEOPLE[200:], *PEOPLE[:100], *PEOPLE[100:200]], size=PAGE)
    assert_complete(job, await job.run())


async def test_total_that_grows_during_a_read_is_not_a_success_while_records_are_missing(
    job: Job, systems: Systems
) -> None:
    systems(people=PEOPLE, size=PAGE, total_moves=10)
    result = await job.run()
    assert type(result.error) is BadResponse
    assert result.row.state is RunState.FAILED
    assert "the total at `total` is 330, but 300 records were read" in str(result.row.error)


async def test_total_that_shrinks_during_a_read_is_reported(job: Job, systems: Systems) -> None:
    systems(people=PEOPLE, size=PAGE, total_moves=-10)
    assert_complete(job, await job.run())
    assert any("30 more than the total" in line for line in job.reported)


async def test_numbered_pages_continue_beyond_a_total_that_is_too_small(job: Job, systems: Systems) -> None:
    """A total must not end a read while records are left: they would never be read."""
    job.write(BY_PAGE)
    systems(people=PEOPLE, size=PAGE, total=180)
    assert_complete(job, await job.run())
    assert any("120 more than the total" in line for line in job.reported)


async def test_numbered_pages_of_a_shrinking_source_are_not_a_success_and_are_read_again(
    job: Job, systems: Systems
) -> None:
    """When records before a page are deleted, later ones move up to pages that were already read."""
    job.write(BY_PAGE)
    systems(people=PEOPLE, size=PAGE, total=400, total_moves=-50)
    result = await job.run()
    assert isinstance(result.error, BadResponse)
    assert result.row.state is RunState.PARTIAL
    assert "the total decreased during the read" in str(result.row.error)
    assert rows_of(job.directory / "target.db") == expected_rows(PEOPLE)
    systems(people=PEOPLE, size=PAGE)
    second = await job.run()
    assert second.error is None
    assert (second.row.read, second.row.unchanged) == (len(PEOPLE), len(expected_rows(PEOPLE)))


async def test_cursor_that_leads_back_ends_the_run(job: Job, systems: Systems) -> None:
    systems(people=PEOPLE, size=PAGE, loop=True)
    result = await job.run()
    assert type(result.error) is BadResponse
    assert result.row.state is RunState.FAILED
    assert "the next page has been read already" in str(result.row.error)
    assert len(systems.take_requests()) <= 4


async def test_redirect_to_another_origin_is_not_followed_and_gets_no_credentials(job: Job, systems: Systems) -> None:
    (job.directory / "elsewhere").mkdir()
    with run_systems(job.directory / "elsewhere", seed=1) as elsewhere:
        job.environ = {"TOKEN": "s3cr3t-token"}
        job.write(auth="type: bearer\ntoken: ${env:TOKEN}")
        systems(people=PEOPLE, size=PAGE, source=["", "redirect"], redirect_to=f"{elsewhere.url}/people")
        await assert_failed_and_completed_by_next_run(
            job, BadResponse, "302", f"redirects are not followed (to {elsewhere.url}"
        )
        assert elsewhere.take_requests() == []


async def test_next_url_at_another_origin_is_not_followed_and_gets_no_credentials(job: Job, systems: Systems) -> None:
    (job.directory / "elsewhere").mkdir()
    with run_systems(job.directory / "elsewhere", seed=1) as elsewhere:
        job.environ = {"TOKEN": "s3cr3t-token"}
        source = BY_CURSOR.replace("by: cursor, next: next, param: cursor", "by: next_url, next: url")
        job.write(source, auth="type: bearer\ntoken: ${env:TOKEN}")
        systems(people=PEOPLE, size=PAGE, redirect_to=f"{elsewhere.url}/people?cursor=100")
        result = await job.run()
        assert type(result.error) is BadResponse
        assert "another origin; credentials are not sent there" in str(result.row.error)
        assert elsewhere.take_requests() == []


async def test_all_transient_faults_at_random_are_survived(job: Job, systems: Systems) -> None:
    people: list[dict[str, Any]] = make_people(1000)
    job.write(BY_CURSOR, TO_SQLITE, retry=QUICK.replace("6", "20"))
    systems(people=people, size=20, source_chance=0.4)
    result = await job.run()
    assert result.error is None
    assert result.row.read == 1000
    assert rows_of(job.directory / "target.db") == expected_rows(people)
