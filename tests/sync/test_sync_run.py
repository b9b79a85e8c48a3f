"""A run: the outcome of each record, the cursor, and the messages."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator

import pytest
from tests.sync.conftest import MemorySource, World, counts, error_result, expected_row, person

from speclab.connectors.api import MappedRecord, UnreadableRecord, WriteResult
from speclab.core.errors import IncompleteRead, SpecError, SpecLocked, Unreachable
from speclab.core.locks import hold_spec
from speclab.core.outcome import Effect, ErrorClass, FailureState, RunState, Stage
from speclab.runlog import TargetState
from speclab.sync.prepare import prepare
from speclab.sync.run import RunOptions


async def test_run_writes_all_pages_and_commits_them(world: World) -> None:
    pages = [[person(f"p{page}{n}") for n in range(4)] for page in range(3)]
    result = await world.run(pages)
    row = result.row
    assert result.error is None
    assert row.state is RunState.SUCCEEDED
    assert counts(row) == {"written": 12}
    assert (row.read, row.created, row.bytes_in, row.bytes_out, row.cursor) == (12, 12, 1200, 120, 3)
    assert world.target.content == {str(p["id"]): expected_row(p) for page in pages for p in page}
    assert world.events("page") == [f"page {n} of ~3, 4 read, 4 written" for n in (1, 2, 3)]
    assert world.source.closed
    assert world.target.closed


async def test_unchanged_records_are_not_sent_again(world: World) -> None:
    await world.run([[person("a"), person("b")]])
    world.log.clear_checkpoint("people")
    result = await world.run([[person("a"), person("b", name="Bea")]])
    assert counts(result.row) == {"written": 1, "unchanged": 1}
    assert result.row.updated == 1
    assert world.target.tries == {"a": 1, "b": 2}


async def test_run_keeps_the_text_of_its_spec(world: World) -> None:
    row = (await world.run([[person("a")]])).row
    assert world.log.get_spec_version(row.spec_hash) == world.spec.read_text("utf-8")


async def test_ids_and_versions_that_the_target_returns_are_kept(world: World) -> None:
    def behave(record: MappedRecord, attempt: int) -> WriteResult | None:
        if record.key == "refused" or (record.key == "late" and attempt == 1):
            return error_result(ErrorClass.SERVER if record.key == "late" else ErrorClass.REJECTED, 503)
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


async def test_nothing_is_unchanged_at_another_target(world: World) -> None:
    await world.run([[person("a")]])
    world.log.clear_checkpoint("people")
    world.edit("https://target.example", "https://other.example")
    assert counts((await world.run([[person("a")]])).row) == {"written": 1}


async def test_each_record_has_its_outcome(world: World) -> None:
    page = [
        person("good"),
        person("filtered", test=True),
        person("bad", age="old"),
        person("young", age="-1"),
        person(None),
        person("refused"),
        person("teapot"),
    ]
    results = {
        "refused": error_result(status=422, message="422: age is too low", field="age"),
        "teapot": error_result(status=418),
    }
    result = await world.run([page], lambda item, _: results.get(item.key))
    assert counts(result.row) == {"written": 1, "filtered": 2, "dead": 4}
    assert result.row.state is RunState.PARTIAL
    with world.reader as reader:
        failures = {failure.key: failure for failure in reader.failures(full=True)}
    spec = world.spec.read_text().splitlines()
    bad, young, rejected = failures["bad"], failures["young"], failures["refused"]
    assert (bad.stage, bad.error_class, bad.row) == (Stage.MAP, ErrorClass.MAPPING, "age")
    assert spec[bad.line - 1][(bad.column or 0) - 1 :].startswith("Integer")
    assert bad.source == page[2]
    assert bad.file == world.spec.name
    assert (young.stage, young.error_class, young.row) == (Stage.CHECK, ErrorClass.CONTRACT, "age")
    assert young.payload == {"id": "young", "name": "Ada", "age": -1}
    assert (rejected.stage, rejected.error_class, rejected.status) == (Stage.WRITE, ErrorClass.REJECTED, 422)
    assert (rejected.row, rejected.line, rejected.message) == ("age", bad.line, "422: age is too low")
    assert (rejected.request, rejected.response, rejected.payload) == ("PUT /x", "so", expected_row(page[5]))
    assert rejected.idempotency_key == world.target.keys["refused"][0]
    (keyless,) = (failure for failure in failures.values() if failure.stage is Stage.READ)
    assert keyless.message == "the record has no key: expected text or a number at id"
    assert spec[keyless.line - 1] == "### Source System"
    assert keyless.source == page[4]


async def test_record_without_a_key_is_one_dead_letter_however_often_it_is_read(world: World) -> None:
    for _ in range(3):
        await world.run([[person(None), person(None, name="Bea")]], options=RunOptions(full=True))
    assert sorted(world.failures().values()) == ["dead", "dead"]


@pytest.mark.parametrize(
    "field", ["age", "Age", "AGE", "data.attributes.age", "[0].properties.age", "input.age", "age[0]", "age.unit"]
)
async def test_rejected_field_is_located_at_its_mapping_row_in_any_notation(world: World, field: str) -> None:
    await world.run([[person("p1")]], lambda *_: error_result(status=422, field=field))
    with world.reader as reader:
        (failure,) = reader.failures()
    assert failure.row == "age"


@pytest.mark.parametrize("field", ["billing.age", "a b.c", "..", "[0]", "data"])
async def test_field_of_another_object_has_no_row(world: World, field: str) -> None:
    await world.run([[person("p1")]], lambda *_: error_result(status=422, field=field))
    with world.reader as reader:
        (failure,) = reader.failures()
    assert failure.row is None


async def test_failure_of_an_unmapped_field_is_located_at_the_target(world: World) -> None:
    await world.run([[person("a")]], lambda *_: error_result(status=422, field="vat"))
    with world.reader as reader:
        (failure,) = reader.failures()
    assert failure.row is None
    assert world.spec.read_text().splitlines()[failure.line - 1] == "### Target System"


async def test_next_run_continues_from_the_last_checkpoint(world: World) -> None:
    await world.run([[person("a")], [person("b")]])
    world.source.content.append([person("c")])
    result = await world.run()
    assert world.source.requests == [0, 1, 2]
    assert counts(result.row) == {"written": 1}


async def test_full_run_reads_from_the_start(world: World) -> None:
    await world.run([[person("a")], [person("b")]])
    result = await world.run(options=RunOptions(full=True))
    assert counts(result.row) == {"unchanged": 2}


async def test_limit_ends_the_run_after_that_many_records_and_loses_none(world: World) -> None:
    pages = [[person("a"), person("b")], [person("c"), person("d")]]
    result = await world.run(pages, options=RunOptions(limit=3))
    assert (result.row.state, result.row.read, result.row.cursor) == (RunState.SUCCEEDED, 3, 1)
    result = await world.run()
    assert counts(result.row) == {"written": 1, "unchanged": 1}
    assert sorted(world.target.content) == ["a", "b", "c", "d"]


async def test_limit_at_the_end_of_a_page_keeps_that_page(world: World) -> None:
    pages = [[person("a"), person("b")], [person("c"), person("d")]]
    result = await world.run(pages, options=RunOptions(limit=2))
    assert (result.row.read, result.row.cursor) == (2, 1)


async def test_dry_run_writes_nothing_anywhere(world: World) -> None:
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


async def test_unreachable_source_ends_the_run_and_keeps_its_progress(world: World) -> None:
    world.source = MemorySource([[person("a")], [person("b")]], fails_at=1, error=Unreachable("no route"))
    result = await world.run()
    assert isinstance(result.error, Unreachable)
    assert (result.row.state, result.row.written, result.row.cursor) == (RunState.FAILED, 1, 1)
    assert result.row.error == f"{world.spec.name}:11: no route"
    world.source.fails_at = None
    assert counts((await world.run()).row) == {"written": 1}


async def test_read_that_may_have_missed_records_is_a_partial_run_with_exit_code_1(world: World) -> None:
    world.source = MemorySource([[person("p1")], [person("p2")]], fails_at=1, error=IncompleteRead("records missing"))
    result = await world.run()
    assert (result.row.state, result.row.written) == (RunState.PARTIAL, 1)
    assert result.row.error is not None
    assert "records missing" in result.row.error
    assert result.error is not None
    assert result.error.exit_code == 1


async def test_missing_secret_is_a_failed_run(world: World) -> None:
    world.edit("https://target.example", "${env:NOWHERE}")
    result = await world.run([[person("a")]])
    assert isinstance(result.error, SpecError)
    assert result.row.state is RunState.FAILED
    assert "NOWHERE" in str(result.row.error)


async def test_bug_is_not_a_success(world: World) -> None:
    def wrong(*_: object) -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await world.run([[person("a")]], wrong)
    with world.reader as reader:
        (row,) = reader.runs()
    assert row.state is RunState.FAILED
    assert "ZeroDivisionError" in str(row.error)


async def test_stop_request_finishes_the_current_page(world: World) -> None:
    def stopping(*_: object) -> None:
        world.cancelled.set()

    result = await world.run([[person("a"), person("b")], [person("c")]], stopping)
    assert (result.row.state, result.row.written, result.row.cursor) == (RunState.CANCELLED, 2, 1)
    world.cancelled.clear()
    result = await world.run()
    assert (result.row.state, result.row.written) == (RunState.SUCCEEDED, 1)


async def test_rejected_credentials_end_the_run_and_lose_nothing(world: World) -> None:
    world.target.batch = 2
    pages = [[person(key) for key in "abcdef"]]
    result = await world.run(
        pages, lambda item, _: error_result(ErrorClass.UNAUTHORIZED, 401) if item.key == "d" else None
    )
    assert (result.row.state, result.row.read, result.row.written) == (RunState.FAILED, 3, 3)
    assert result.error is not None
    assert result.error.exit_code == 4
    assert world.log.get_cursor("people") is None
    world.source.requests.clear()
    result = await world.run(None, lambda *_: None)
    assert counts(result.row) == {"written": 3, "unchanged": 3}


async def test_records_with_one_key_are_written_one_after_the_other(world: World) -> None:
    page = [person("a", age="1"), person("b"), person("a", age="2"), person("a", age="3")]
    result = await world.run([page])
    assert counts(result.row) == {"written": 4}
    assert world.target.calls == [["a", "b"], ["a"], ["a"]]
    assert world.target.content["a"]["age"] == 3
    assert world.events("page") == ["page 1 of ~1, 4 read, 4 written"]


async def test_records_deleted_at_the_source_are_deleted_at_the_target(world: World) -> None:
    await world.run([[person("a"), person("b")]])
    result = await world.run([[person("a", gone=True), person("b")]], options=RunOptions(full=True))
    assert counts(result.row) == {"written": 1, "unchanged": 1}
    assert result.row.deleted == 1
    assert list(world.target.content) == ["b"]
    result = await world.run(options=RunOptions(full=True))
    assert counts(result.row) == {"unchanged": 2}
    await world.run([[person("a")]], options=RunOptions(full=True))
    assert sorted(world.target.content) == ["a", "b"]


async def test_target_without_deletes_keeps_deleted_records(world: World) -> None:
    world.target.deletes = False
    result = await world.run([[person("a", gone=True), person("b")]])
    assert counts(result.row) == {"written": 1, "filtered": 1}


async def test_source_without_records_is_reported(world: World) -> None:
    result = await world.run([[]])
    assert (result.row.state, result.row.read) == (RunState.SUCCEEDED, 0)
    assert world.events("guard") == ["the source returned no records"]
    assert "warning: the source returned no records" in world.reported
    await world.run()
    assert len(world.events("guard")) == 1


async def test_second_run_is_rejected(world: World) -> None:
    with hold_spec(world.directory, "people"), pytest.raises(SpecLocked, match="people is being run by process"):
        await world.run([[person("a")]])
    with world.reader as reader:
        assert reader.runs() == []


async def test_killed_run_is_marked_and_the_next_run_resumes(world: World) -> None:
    pages = [[person("a")], [person("b")]]
    await world.run(pages, options=RunOptions(limit=1))
    world.log.start_run("people", "hash", "schedule", pid=2**22 - 1)
    result = await world.run()
    assert counts(result.row) == {"written": 1}
    assert "warning: the previous run was interrupted; this run continues from its checkpoint" in world.reported
    with world.reader as reader:
        assert [row.state for row in reader.runs()] == ["succeeded", "interrupted", "succeeded"]


def test_invalid_spec_is_rejected_with_all_its_problems(world: World) -> None:
    world.edit("target.age | Integer", "target.age | Integr")
    world.edit("base_url: https://source.example", "base_ulr: https://source.example")
    with pytest.raises(SpecError) as caught:
        prepare(world.spec)
    assert {problem.line for problem in caught.value.problems} >= {14, 41}
    assert len(set(map(str, caught.value.problems))) == len(caught.value.problems)


def test_draft_without_the_parts_that_a_run_needs_is_rejected(world: World) -> None:
    world.edit("status: in-progress", "status: draft")
    world.edit("### Target System\n\n```yaml", "### Target System\n\n```text")
    with pytest.raises(SpecError) as caught:
        prepare(world.spec)
    keys = [(problem.line, problem.column, problem.code) for problem in caught.value.problems]
    assert len(set(keys)) == len(keys)


async def test_unreadable_record_is_a_dead_letter_with_its_bytes_that_no_retry_changes(world: World) -> None:
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


async def test_text_key_does_not_overwrite_the_record_of_an_equal_number(world: World) -> None:
    result = await world.run([[person(1)], [person("1", name="Bo")]])
    assert counts(result.row) == {"written": 1, "dead": 1}
    assert world.target.content == {"1": expected_row(person(1))}
    with world.reader as reader:
        (failure,) = reader.failures(full=True)
    assert failure.stage is Stage.READ
    assert failure.message.startswith("the key 1 at id is text where other keys are numbers")
    assert failure.source == person("1", name="Bo")


@pytest.fixture
def sleeper() -> Iterator[int]:
    """Start a process that runs until the test ends; yield its pid."""
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        yield process.pid
        process.kill()


async def test_second_run_is_rejected_although_the_lock_file_was_deleted(world: World, sleeper: int) -> None:
    """The run log knows the process of the first run, which holds a lock that is no longer visible."""
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
