"""What a source does wrong, one fault a test: what becomes of the run, its books, the target, and what is told.

A fault that passes is got over and nothing is missing or there twice. One that does not ends the run, never as a
success, with its place, and the next run goes on from the page before it.
"""

from __future__ import annotations

from typing import Any

import pytest
from tests.proof.conftest import BY_CURSOR, BY_PAGE, QUICK, TO_SQLITE, Job, Systems, crowd, rows_of, started, wanted

from speclab.core.errors import BadResponse, Unauthorized, Unreachable
from speclab.core.outcome import RunState, Stage
from speclab.sync.run import RunResult

PEOPLE = crowd(300)
PAGE = 100
DEAD = sum(one["age"] == "old" for one in PEOPLE if not one["test"])


def assert_whole(job: Job, result: RunResult, read: int = len(PEOPLE)) -> None:
    """All of the source is at the target, and the books say so; the run is partial for its few dead letters."""
    assert result.error is None, result.error
    assert (result.row.state, result.row.read, result.row.dead) == (RunState.PARTIAL, read, DEAD)
    assert rows_of(job.directory / "target.db") == wanted(PEOPLE)


async def assert_broken_off_and_mended(
    job: Job,
    kind: type[Exception],
    *says: str,
    pages: int = 1,
    read: int = len(PEOPLE),
    state: RunState = RunState.FAILED,
) -> None:
    """A run ends after `pages` with an error of that kind that has a place and `says` so; the next one ends it."""
    result = await job.run()
    place = f"people.md:{job.line_of('### Source System')}"
    assert type(result.error) is kind, result
    assert result.row.state is state
    assert result.row.error is not None
    assert result.row.error.startswith(place), result.row.error
    for words in says:
        assert words in result.row.error
    assert result.row.read == pages * PAGE
    assert rows_of(job.directory / "target.db") == wanted(PEOPLE[: pages * PAGE])
    second = await job.run()
    assert second.error is None
    assert result.row.read + second.row.read == read
    assert rows_of(job.directory / "target.db") == wanted(PEOPLE)


@pytest.mark.parametrize("fault", ["reset", "hang-up", "long", "503", "429", "429-silent"])
async def test_what_passes_is_asked_for_again_and_nothing_is_missing_or_doubled(
    job: Job, systems: Systems, fault: str
) -> None:
    systems(people=PEOPLE, size=PAGE, source=["", fault, fault, ""])
    result = await job.run()
    assert_whole(job, result)
    assert any("retrying in" in line for line in job.reported)
    assert len(systems.asked()) == 3 + 2


async def test_a_burst_of_503_longer_than_the_tries_ends_the_run_honestly(job: Job, systems: Systems) -> None:
    systems(people=PEOPLE, size=PAGE, source=["", *["503"] * 6])
    await assert_broken_off_and_mended(job, Unreachable, "503", "not now", "tried 6 times")


async def test_an_answer_in_drips_is_not_waited_for_beyond_the_timeout(job: Job, systems: Systems) -> None:
    job.write(BY_CURSOR, TO_SQLITE, retry="attempts: 2\nbase: 5ms\ncap: 50ms")
    systems(people=PEOPLE, size=PAGE, source=["", "drip", "drip"])
    await assert_broken_off_and_mended(job, Unreachable, "no response in time")


async def test_a_slow_answer_in_time_is_an_answer(job: Job, systems: Systems) -> None:
    job.write(BY_CURSOR.replace("500ms", "20s"), TO_SQLITE)
    systems(people=PEOPLE, size=PAGE, source=["slow", "slow"])
    assert_whole(job, await job.run())


async def test_a_wait_that_is_asked_for_is_kept_to(job: Job, systems: Systems) -> None:
    systems(people=PEOPLE, size=PAGE, source=["", "429"], retry_after="1")
    job.write(BY_CURSOR, TO_SQLITE, retry="attempts: 2\nbase: 5ms\ncap: 5s")
    assert_whole(job, await job.run())
    assert any("429" in line and "retrying in 1s" in line for line in job.reported)


async def test_a_wait_longer_than_the_cap_parks_the_run_and_is_not_shortened(job: Job, systems: Systems) -> None:
    systems(people=PEOPLE, size=PAGE, source=["", "429"], retry_after="3600")
    says = ("parked", "429", "asks to wait 1h")
    await assert_broken_off_and_mended(job, Unreachable, *says, state=RunState.PARTIAL)


async def test_half_a_json_text_is_never_half_a_page(job: Job, systems: Systems) -> None:
    systems(people=PEOPLE, size=PAGE, source=["", "truncated"])
    await assert_broken_off_and_mended(job, BadResponse, "a body that is not JSON")


async def test_a_content_length_too_small_is_half_a_page_too_and_the_rest_is_no_answer(
    job: Job, systems: Systems
) -> None:
    """Whether the rest is in the same packet decides what is seen first, half a text or an answer that is none."""
    systems(people=PEOPLE, size=PAGE, source=["", "short"])
    await assert_broken_off_and_mended(job, BadResponse)
    assert any(words in str(job.runs()[0].error) for words in ("a body that is not JSON", "the response is not HTTP"))
    assert "\n" not in str(job.runs()[0].error)


async def test_an_empty_body_is_not_an_empty_list(job: Job, systems: Systems) -> None:
    systems(people=PEOPLE, size=PAGE, source=["", "empty"])
    await assert_broken_off_and_mended(job, BadResponse, "an empty body, expected JSON")


async def test_a_record_with_bytes_that_are_not_utf8_is_a_dead_letter_and_no_other_is(
    job: Job, systems: Systems
) -> None:
    systems(people=PEOPLE, size=PAGE, source=["", "invalid-utf8"])
    result = await job.run()
    assert result.error is None
    assert (result.row.state, result.row.read, result.row.dead) == (RunState.PARTIAL, len(PEOPLE), DEAD + 1)
    (unreadable,) = (failure for failure in job.failures() if failure.stage is Stage.READ)
    assert "the byte 0xff, which is not UTF-8" in unreadable.message
    assert f"people.md:{job.line_of('### Source System')}" == f"{unreadable.file}:{unreadable.line}"
    assert len(rows_of(job.directory / "target.db")) == len(wanted(PEOPLE)) - 1


async def test_an_error_that_comes_as_200_is_an_error(job: Job, systems: Systems) -> None:
    systems(people=PEOPLE, size=PAGE, source=["", "error-200"])
    await assert_broken_off_and_mended(job, BadResponse, "without `data`", "`error`")


async def test_credentials_refused_in_mid_run_end_it(job: Job, systems: Systems) -> None:
    job.environ = {"TOKEN": "s3cr3t-token"}
    job.write(auth="type: bearer\ntoken: ${env:TOKEN}")
    systems(people=PEOPLE, size=PAGE, source=["", "401"], token="s3cr3t-token")
    await assert_broken_off_and_mended(job, Unauthorized, "401")
    assert b"s3cr3t-token" not in job.log.read_bytes()


async def test_the_same_page_twice_in_a_row_is_told_and_no_success(job: Job, systems: Systems) -> None:
    systems(people=PEOPLE, size=PAGE, source=["", "again"])
    await assert_broken_off_and_mended(job, BadResponse, "the same records as the page before")


async def test_a_page_that_comes_again_later_changes_nothing_and_the_one_it_stood_for_is_missed(
    job: Job, systems: Systems
) -> None:
    """The list [1, 2, 1] has as many records as it says, and one page of them is not there."""
    people = [*PEOPLE[:200], *PEOPLE[:100]]
    systems(people=people, size=PAGE)
    result = await job.run()
    assert (result.row.read, result.row.unchanged) == (300, len(wanted(PEOPLE[:100])))
    assert rows_of(job.directory / "target.db") == wanted(PEOPLE[:200])


async def test_pages_in_another_order_are_the_same_pages(job: Job, systems: Systems) -> None:
    systems(people=[*PEOPLE[200:], *PEOPLE[:100], *PEOPLE[100:200]], size=PAGE)
    assert_whole(job, await job.run())


async def test_a_total_that_grows_while_it_is_read_is_no_success_as_long_as_records_are_missing(
    job: Job, systems: Systems
) -> None:
    systems(people=PEOPLE, size=PAGE, total_moves=10)
    result = await job.run()
    assert type(result.error) is BadResponse
    assert result.row.state is RunState.FAILED
    assert "the total at `total` is 330, but 300 records were read" in str(result.row.error)


async def test_a_total_that_shrinks_while_it_is_read_is_told(job: Job, systems: Systems) -> None:
    systems(people=PEOPLE, size=PAGE, total_moves=-10)
    assert_whole(job, await job.run())
    assert any("30 more than the total" in line for line in job.reported)


async def test_numbered_pages_go_on_beyond_a_total_that_is_too_small(job: Job, systems: Systems) -> None:
    """A total must not end a read with records left: what it hides nobody would ever see."""
    job.write(BY_PAGE)
    systems(people=PEOPLE, size=PAGE, total=180)
    assert_whole(job, await job.run())
    assert any("120 more than the total" in line for line in job.reported)


async def test_numbered_pages_of_a_source_that_shrinks_are_no_success_and_read_again(
    job: Job, systems: Systems
) -> None:
    """With records deleted before a page, later ones have moved up, onto pages that were read."""
    job.write(BY_PAGE)
    systems(people=PEOPLE, size=PAGE, total=400, total_moves=-50)
    result = await job.run()
    assert isinstance(result.error, BadResponse)
    assert result.row.state is RunState.PARTIAL
    assert "the total decreased during the read" in str(result.row.error)
    assert rows_of(job.directory / "target.db") == wanted(PEOPLE)
    systems(people=PEOPLE, size=PAGE)
    second = await job.run()
    assert second.error is None
    assert (second.row.read, second.row.unchanged) == (len(PEOPLE), len(wanted(PEOPLE)))


async def test_a_cursor_that_leads_back_ends_the_run(job: Job, systems: Systems) -> None:
    systems(people=PEOPLE, size=PAGE, loop=True)
    result = await job.run()
    assert type(result.error) is BadResponse
    assert result.row.state is RunState.FAILED
    assert "the next page has been read already" in str(result.row.error)
    assert len(systems.asked()) <= 4


async def test_a_redirect_elsewhere_is_not_followed_and_no_credential_goes_there(job: Job, systems: Systems) -> None:
    (job.directory / "elsewhere").mkdir()
    with started(job.directory / "elsewhere", seed=1) as elsewhere:
        job.environ = {"TOKEN": "s3cr3t-token"}
        job.write(auth="type: bearer\ntoken: ${env:TOKEN}")
        systems(people=PEOPLE, size=PAGE, source=["", "redirect"], elsewhere=f"{elsewhere.url}/people")
        await assert_broken_off_and_mended(job, BadResponse, "302", f"redirects are not followed (to {elsewhere.url}")
        assert elsewhere.asked() == []


async def test_a_next_url_elsewhere_is_not_followed_and_no_credential_goes_there(job: Job, systems: Systems) -> None:
    (job.directory / "elsewhere").mkdir()
    with started(job.directory / "elsewhere", seed=1) as elsewhere:
        job.environ = {"TOKEN": "s3cr3t-token"}
        source = BY_CURSOR.replace("by: cursor, next: next, param: cursor", "by: next_url, next: url")
        job.write(source, auth="type: bearer\ntoken: ${env:TOKEN}")
        systems(people=PEOPLE, size=PAGE, elsewhere=f"{elsewhere.url}/people?cursor=100")
        result = await job.run()
        assert type(result.error) is BadResponse
        assert "another origin; credentials are not sent there" in str(result.row.error)
        assert elsewhere.asked() == []


async def test_all_that_passes_at_once_and_by_chance_is_got_over(job: Job, systems: Systems) -> None:
    people: list[dict[str, Any]] = crowd(1000)
    job.write(BY_CURSOR, TO_SQLITE, retry=QUICK.replace("6", "20"))
    systems(people=people, size=20, source_chance=0.4)
    result = await job.run()
    assert result.error is None
    assert result.row.read == 1000
    assert rows_of(job.directory / "target.db") == wanted(people)
