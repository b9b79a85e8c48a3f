"""A run: the outcome of each record, the cursor, and what is reported."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator

import pytest
from tests.sync.conftest import MemorySource, World, counts, mapped, no, person

from speclab.connectors.api import MappedRecord, UnreadableRecord, WriteResult
from speclab.core.errors import IncompleteRead, SpecError, SpecLocked, Unreachable
from speclab.core.locks import hold_spec
from speclab.core.outcome import Effect, ErrorClass, FailureState, RunState, Stage
from speclab.runlog import TargetState
from speclab.sync.prepare import prepare
from speclab.sync.run import RunOptions


async def test_a_run_takes_all_pages_to_the_target_and_books_them(world: World) -> None:
    pages = [[person(f"p{page}{n}") for n in range(4)] for page in range(3)]
    result = await world.run(pages)
    row = result.row
    assert result.error is None
    assert row.state is RunState.SUCCEEDED
    assert counts(row) == {"written": 12}
    assert (row.read, row.created, row.bytes_in, row.bytes_out, row.cursor) == (12, 12, 1200, 120, 3)
    assert world.target.content == {str(p["id"]): mapped(p) for page in pages for p in page}
    assert world.events("page") == [f"page {n} of ~3, 4 read, 4 written" for n in (1, 2, 3)]
    assert world.source.closed
    assert world.target.closed


async def test_what_is_unchanged_is_not_sent_again(world: World) -> None:
    await world.run([[person("a"), person("b")]])
    world.log.clear_checkpoint("people")
    result = await world.run([[person("a"), person("b", name="Bea")]])
    assert counts(result.row) == {"written": 1, "unchanged": 1}
    assert result.row.updated == 1
    assert world.target.tries == {"a": 1, "b": 2}


async def test_a_run_keeps_the_text_of_the_spec_that_it_ran(world: World) -> None:
    row = (await world.run([[person("a")]])).row
    assert world.log.get_spec_version(row.spec_hash) == world.spec.read_text("utf-8")


async def test_ids_and_versions_that_the_target_returns_are_kept(world: World) -> None:
    def behave(record: MappedRecord, attempt: int) -> WriteResult | None:
        if record.key == "refused" or (record.key == "late" and attempt == 1):
            return no(ErrorClass.SERVER if record.key == "late" else ErrorClass.REJECTED, 503)
        identified = WriteResult(Effect.CREATED, target_id=f"t-{record.key}", version=f"v{attempt}")
        return identified if record.key != "plain" else None

    result = await world.run([[person(key) for key in ("a", "late", "plain", "refused")]], behave)
    assert counts(result.row) == {"written": 3, "dead": 1}
    with world.reader as reader:
        found = {key: reader.get_target("people", key) for key in ("a", "late", "plain", "refused")}
    assert found == {
        "a": TargetState("t-a", "v1"),
        "late": TargetState("t-late", "v2"),
        "plain": TargetState(),
        "refused": TargetState(),
    }


async def test_another_target_has_nothing_unchanged(world: World) -> None:
    await world.run([[person("a")]])
    world.log.clear_checkpoint("people")
    world.edit("https://target.example", "https://other.example")
    assert counts((await world.run([[person("a")]])).row) == {"written": 1}


async def test_each_record_has_the_outcome_it_deserves(world: World) -> None:
    page = [
        person("good"),
        person("filtered", test=True),
        person("bad", age="old"),
        person("young", age="-1"),
        person(None),
        person("refused"),
        person("teapot"),
    ]
    answers = {"refused": no(status=422, message="422: age is too low", field="age"), "teapot": no(status=418)}
    result = await world.run([page], lambda item, _: answers.get(item.key))
    assert counts(result.row) == {"written": 1, "filtered": 2, "dead": 4}
    assert result.row.state is RunState.PARTIAL
    with world.reader as reader:
        failures = {failure.key: failure for failure in reader.failures(full=True)}
    spec = world.spec.read_text().splitlines()
    bad, young, refused = failures["bad"], failures["young"], failures["refused"]
    assert (bad.stage, bad.error_class, bad.row) == (Stage.MAP, ErrorClass.MAPPING, "age")
    assert spec[bad.line - 1][(bad.column or 0) - 1 :].startswith("Integer")
    assert bad.source == page[2]
    assert bad.file == world.spec.name
    assert (young.stage, young.error_class, young.row) == (Stage.CHECK, ErrorClass.CONTRACT, "age")
    assert young.payload == {"id": "young", "name": "Ada", "age": -1}
    assert (refused.stage, refused.error_class, refused.status) == (Stage.WRITE, ErrorClass.REJECTED, 422)
    assert (refused.row, refused.line, refused.message) == ("age", bad.line, "422: age is too low")
    assert (refused.request, refused.response, refused.payload) == ("PUT /x", "so", mapped(page[5]))
    assert refused.idempotency_key == world.target.keys["refused"][0]
    (keyless,) = (failure for failure in failures.values() if failure.stage is Stage.READ)
    assert keyless.message == "the record has no key: expected text or a number at id"
    assert spec[keyless.line - 1] == "### Source System"
    assert keyless.source == page[4]


async def test_a_record_without_a_key_is_one_dead_letter_however_often_it_is_read(world: World) -> None:
    for _ in range(3):
        await world.run([[person(None), person(None, name="Bea")]], options=RunOptions(full=True))
    assert sorted(world.failures().values()) == ["dead", "dead"]


@pytest.mark.parametrize(
    "field", ["age", "Age", "AGE", "data.attributes.age", "[0].properties.age", "input.age", "age[0]", "age.unit"]
)
async def test_a_refused_field_leads_to_its_mapping_row_whatever_wraps_or_spells_it(world: World, field: str) -> None:
    await world.run([[person("p1")]], lambda *_: no(status=422, field=field))
    with world.reader as reader:
        (failure,) = reader.failures()
    assert failure.row == "age"


@pytest.mark.parametrize("field", ["billing.age", "a b.c", "..", "[0]", "data"])
async def test_a_field_of_another_object_leads_to_no_row(world: World, field: str) -> None:
    await world.run([[person("p1")]], lambda *_: no(status=422, field=field))
    with world.reader as reader:
        (failure,) = reader.failures()
    assert failure.row is None


async def test_a_failure_of_a_field_nobody_maps_points_at_the_target(world: World) -> None:
    await world.run([[person("a")]], lambda *_: no(status=422, field="vat"))
    with world.reader as reader:
        (failure,) = reader.failures()
    assert failure.row is None
    assert world.spec.read_text().splitlines()[failure.line - 1] == "### Target System"


async def test_the_next_run_goes_on_where_the_last_one_ended(world: World) -> None:
    await world.run([[person("a")], [person("b")]])
    world.source.content.append([person("c")])
    result = await world.run()
    assert world.source.asked == [0, 1, 2]
    assert counts(result.row) == {"written": 1}


async def test_a_full_run_reads_from_the_start(world: World) -> None:
    await world.run([[person("a")], [person("b")]])
    result = await world.run(options=RunOptions(full=True))
    assert counts(result.row) == {"unchanged": 2}


async def test_a_limit_ends_the_run_after_so_many_records_and_loses_none(world: World) -> None:
    pages = [[person("a"), person("b")], [person("c"), person("d")]]
    result = await world.run(pages, options=RunOptions(limit=3))
    assert (result.row.state, result.row.read, result.row.cursor) == (RunState.SUCCEEDED, 3, 1)
    result = await world.run()
    assert counts(result.row) == {"written": 1, "unchanged": 1}
    assert sorted(world.target.content) == ["a", "b", "c", "d"]


async def test_a_limit_at_the_end_of_a_page_keeps_that_page(world: World) -> None:
    pages = [[person("a"), person("b")], [person("c"), person("d")]]
    result = await world.run(pages, options=RunOptions(limit=2))
    assert (result.row.read, result.row.cursor) == (2, 1)


async def test_a_dry_run_writes_nothing_anywhere(world: World) -> None:
    await world.run([[person("a")]])
    pages = [[person("a")], [person("b"), person("c", age="old"), person("d", test=True)]]
    result = await world.run(pages, options=RunOptions(dry_run=True, full=True))
    assert counts(result.row) == {"written": 1, "unchanged": 1, "filtered": 1, "dead": 1}
    assert list(world.target.content) == ["a"]
    assert world.log.get_cursor("people") == 1
    assert world.log.get_hashes("people", ["b"]) == {}
    with world.reader as reader:
        assert len(reader.runs()) == 1
        assert reader.failures() == []
    line = world.spec.read_text().splitlines().index("| source.age | target.age | Integer | |") + 1
    (reported,) = (text for text in world.reported if text.startswith("error: "))
    assert reported.startswith(f"error: {world.spec.name}:{line}:29: c: age: ")


async def test_a_source_out_of_reach_ends_the_run_with_what_was_done(world: World) -> None:
    world.source = MemorySource([[person("a")], [person("b")]], fails_at=1, error=Unreachable("no route"))
    result = await world.run()
    assert isinstance(result.error, Unreachable)
    assert (result.row.state, result.row.written, result.row.cursor) == (RunState.FAILED, 1, 1)
    assert result.row.error == f"{world.spec.name}:11: no route"
    world.source.fails_at = None
    assert counts((await world.run()).row) == {"written": 1}


async def test_a_read_that_may_have_missed_records_is_a_partial_run_and_exits_1(world: World) -> None:
    world.source = MemorySource([[person("p1")], [person("p2")]], fails_at=1, error=IncompleteRead("records missing"))
    result = await world.run()
    assert (result.row.state, result.row.written) == (RunState.PARTIAL, 1)
    assert result.row.error is not None
    assert "records missing" in result.row.error
    assert result.error is not None
    assert result.error.exit_code == 1


async def test_a_secret_that_is_not_there_is_a_failed_run(world: World) -> None:
    world.edit("https://target.example", "${env:NOWHERE}")
    result = await world.run([[person("a")]])
    assert isinstance(result.error, SpecError)
    assert result.row.state is RunState.FAILED
    assert "NOWHERE" in str(result.row.error)


async def test_a_bug_is_not_taken_for_a_success(world: World) -> None:
    def wrong(*_: object) -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await world.run([[person("a")]], wrong)
    with world.reader as reader:
        (row,) = reader.runs()
    assert row.state is RunState.FAILED
    assert "ZeroDivisionError" in str(row.error)


async def test_being_asked_to_stop_finishes_the_page_in_hand(world: World) -> None:
    def stopping(*_: object) -> None:
        world.cancelled.set()

    result = await world.run([[person("a"), person("b")], [person("c")]], stopping)
    assert (result.row.state, result.row.written, result.row.cursor) == (RunState.CANCELLED, 2, 1)
    world.cancelled.clear()
    result = await world.run()
    assert (result.row.state, result.row.written) == (RunState.SUCCEEDED, 1)


async def test_refused_credentials_end_the_run_and_lose_nothing(world: World) -> None:
    world.target.batch = 2
    pages = [[person(key) for key in "abcdef"]]
    result = await world.run(pages, lambda item, _: no(ErrorClass.UNAUTHORIZED, 401) if item.key == "d" else None)
    assert (result.row.state, result.row.read, result.row.written) == (RunState.FAILED, 3, 3)
    assert result.error is not None
    assert result.error.exit_code == 4
    assert world.log.get_cursor("people") is None
    world.source.asked.clear()
    result = await world.run(None, lambda *_: None)
    assert counts(result.row) == {"written": 3, "unchanged": 3}


async def test_records_of_one_key_reach_the_target_one_after_the_other(world: World) -> None:
    page = [person("a", age="1"), person("b"), person("a", age="2"), person("a", age="3")]
    result = await world.run([page])
    assert counts(result.row) == {"written": 4}
    assert world.target.calls == [["a", "b"], ["a"], ["a"]]
    assert world.target.content["a"]["age"] == 3
    assert world.events("page") == ["page 1 of ~1, 4 read, 4 written"]


async def test_what_is_deleted_at_the_source_is_deleted_at_the_target(world: World) -> None:
    await world.run([[person("a"), person("b")]])
    result = await world.run([[person("a", gone=True), person("b")]], options=RunOptions(full=True))
    assert counts(result.row) == {"written": 1, "unchanged": 1}
    assert result.row.deleted == 1
    assert list(world.target.content) == ["b"]
    result = await world.run(options=RunOptions(full=True))
    assert counts(result.row) == {"unchanged": 2}
    await world.run([[person("a")]], options=RunOptions(full=True))
    assert sorted(world.target.content) == ["a", "b"]


async def test_a_target_without_deletes_lets_deleted_records_be(world: World) -> None:
    world.target.deletes = False
    result = await world.run([[person("a", gone=True), person("b")]])
    assert counts(result.row) == {"written": 1, "filtered": 1}


async def test_a_source_without_records_is_told(world: World) -> None:
    result = await world.run([[]])
    assert (result.row.state, result.row.read) == (RunState.SUCCEEDED, 0)
    assert world.events("guard") == ["the source returned no records"]
    assert "warning: the source returned no records" in world.reported
    await world.run()
    assert len(world.events("guard")) == 1


async def test_the_second_of_two_runs_is_refused(world: World) -> None:
    with hold_spec(world.directory, "people"), pytest.raises(SpecLocked, match="people is being run by process"):
        await world.run([[person("a")]])
    with world.reader as reader:
        assert reader.runs() == []


async def test_a_run_that_was_killed_is_marked_and_gone_on_from(world: World) -> None:
    pages = [[person("a")], [person("b")]]
    await world.run(pages, options=RunOptions(limit=1))
    world.log.start_run("people", "hash", "schedule", pid=2**22 - 1)
    result = await world.run()
    assert counts(result.row) == {"written": 1}
    assert "warning: the previous run was interrupted; this run continues from its checkpoint" in world.reported
    with world.reader as reader:
        assert [row.state for row in reader.runs()] == ["succeeded", "interrupted", "succeeded"]


def test_a_spec_with_problems_is_refused_with_all_of_them(world: World) -> None:
    world.edit("target.age | Integer", "target.age | Integr")
    world.edit("base_url: https://source.example", "base_ulr: https://source.example")
    with pytest.raises(SpecError) as caught:
        prepare(world.spec)
    assert {problem.line for problem in caught.value.problems} >= {14, 41}
    assert len(set(map(str, caught.value.problems))) == len(caught.value.problems)


def test_a_draft_cannot_leave_for_later_what_a_run_needs(world: World) -> None:
    world.edit("status: in-progress", "status: draft")
    world.edit("### Target System\n\n```yaml", "### Target System\n\n```text")
    with pytest.raises(SpecError) as caught:
        prepare(world.spec)
    keys = [(problem.line, problem.column, problem.code) for problem in caught.value.problems]
    assert len(set(keys)) == len(keys)


async def test_an_unreadable_record_is_a_dead_letter_with_its_bytes_and_no_retry_changes_it(world: World) -> None:
    bad = UnreadableRecord({"id": "b", "name": "\udcff"}, b'{"id": "b", "name": "\xff"}\n', "not UTF-8", "a.jsonl:2")
    result = await world.run([[person("a"), bad, person("c")]])
    assert result.row.state is RunState.PARTIAL
    assert counts(result.row) == {"written": 2, "dead": 1}
    with world.reader as reader:
        (failure,) = reader.failures(full=True)
    assert (failure.state, failure.stage, failure.error_class) == (
        FailureState.DEAD,
        Stage.READ,
        ErrorClass.BAD_ANSWER,
    )
    assert failure.message == "a.jsonl:2: not UTF-8"
    assert failure.response == '{"id": "b", "name": "\\xff"}\n'
    assert world.spec.read_text().splitlines()[failure.line - 1] == "### Source System"
    assert world.log.requeue([failure.id]) == 1
    again = await world.run(options=RunOptions(retries=True))
    assert counts(again.row) == {"dead": 1}
    with world.reader as reader:
        (after,) = reader.failures(full=True)
    assert (after.state, after.message, after.response) == (FailureState.DEAD, failure.message, failure.response)
    assert list(world.target.content) == ["a", "c"]


async def test_a_text_key_does_not_overwrite_the_record_of_the_number_that_reads_alike(world: World) -> None:
    result = await world.run([[person(1)], [person("1", name="Bo")]])
    assert counts(result.row) == {"written": 1, "dead": 1}
    assert world.target.content == {"1": mapped(person(1))}
    with world.reader as reader:
        (failure,) = reader.failures(full=True)
    assert failure.stage is Stage.READ
    assert failure.message.startswith("the key 1 at id is text where other keys are numbers")
    assert failure.source == person("1", name="Bo")


@pytest.fixture
def sleeper() -> Iterator[int]:
    """The PID of a process that runs until the test ends it."""
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        yield process.pid
        process.kill()


async def test_a_second_run_is_refused_though_the_lock_file_was_deleted(world: World, sleeper: int) -> None:
    """The run log knows the process of the first run, which holds a lock that nobody else can see any more."""
    first = world.log.start_run("people", "", "schedule", pid=sleeper)
    with pytest.raises(SpecLocked, match=rf"by process {sleeper} on .*, whose lock file was deleted"):
        await world.run([[person("a")]])
    os.kill(sleeper, signal.SIGKILL)
    await world.run([[person("a")]])
    with world.reader as reader:
        row = reader.run(first)
    assert row is not None
    assert row.state is RunState.INTERRUPTED
    assert world.target.content.keys() == {"a"}
