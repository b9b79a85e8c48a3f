"""Derived deletes: records missing from a full read are deleted at the target and counted like any record."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.sync.conftest import Behaviour, MemorySource, World, counts, error_result, person

from speclab.connectors.api import MappedRecord, WriteResult
from speclab.core.errors import SpecError, Unreachable
from speclab.core.json import Record
from speclab.core.outcome import ErrorClass, RunState
from speclab.sync.prepare import prepare
from speclab.sync.run import RunOptions

FULL = RunOptions(full=True)
IMPATIENT = RunOptions(full=True, wait_budget=0)
RETRIES = RunOptions(retries=True)


def enable_deletes(world: World) -> World:
    """Set up `world` so that its target deletes all records missing from the source."""
    world.edit("deleted: source.gone == true}", "deleted: source.gone == true, missing: delete}")
    world.edit('{upsert: "PUT /people/{id}"}', '{upsert: "PUT /people/{id}", delete: "DELETE /people/{id}"}')
    world.edit("Hourly\n", "Hourly\n\n### Volume\n\n```yaml\nguard: {deletes: 100%}\n```\n")
    return world


@pytest.fixture
def deleting(world: World) -> World:
    return enable_deletes(world)


def people(keys: str, size: int = 2) -> list[list[Record]]:
    """Return pages of one person per letter, `size` per page."""
    everyone = [person(key) for key in keys]
    return [everyone[at : at + size] for at in range(0, len(everyone), size)] or [[]]


def rejecting_deletes(*keys: str, answer: WriteResult | None = None) -> Behaviour:
    """Return the behaviour of a target that rejects the delete of `keys`."""
    rejected = answer or error_result(status=422)

    def behaviour(item: MappedRecord, _: int) -> WriteResult | None:
        return rejected if item.delete and item.key in keys else None

    return behaviour


def recording_deletes(deletes: list[str]) -> Behaviour:
    """Return the behaviour of a target that accepts everything; `deletes` receives the keys that it deletes."""

    def behaviour(item: MappedRecord, _: int) -> None:
        if item.delete:
            deletes.append(item.key)

    return behaviour


async def test_record_missing_from_a_full_read_is_deleted_and_counted_as_read_and_written(deleting: World) -> None:
    await deleting.run(people("abcde"))
    row = (await deleting.run(people("ace"), options=FULL)).row
    assert sorted(deleting.target.content) == ["a", "c", "e"]
    assert (row.state, row.read, counts(row), row.deleted) == (
        RunState.SUCCEEDED,
        5,
        {"written": 2, "unchanged": 3},
        2,
    )
    assert "info: 2 missing from the source: 2 written" in deleting.reported
    assert deleting.events("page")[-1] == "2 missing from the source: 2 written"
    assert deleting.log.get_cursor("people") == 2


async def test_missing_record_is_deleted_once_and_written_again_when_it_returns(deleting: World) -> None:
    await deleting.run(people("abc"))
    await deleting.run(people("ab"), options=FULL)
    row = (await deleting.run(people("ab"), options=FULL)).row
    assert counts(row) == {"unchanged": 2}
    row = (await deleting.run(people("abc"), options=FULL)).row
    assert (counts(row), sorted(deleting.target.content)) == ({"written": 1, "unchanged": 2}, ["a", "b", "c"])
    await deleting.run(people("ab"), options=FULL)
    assert sorted(deleting.target.content) == ["a", "b"]


async def test_nothing_is_deleted_without_the_setting(world: World) -> None:
    await world.run(people("abc"))
    await world.run(people("a"), options=FULL)
    assert sorted(world.target.content) == ["a", "b", "c"]


async def test_read_of_changes_deletes_nothing(deleting: World) -> None:
    await deleting.run(people("abc"))
    deleting.source = MemorySource(people("ad"), whole=False)
    await deleting.run(options=FULL)
    assert sorted(deleting.target.content) == ["a", "b", "c", "d"]
    await deleting.run(people("bd"), options=FULL)
    assert sorted(deleting.target.content) == ["b", "d"]


async def test_limited_read_deletes_nothing(deleting: World) -> None:
    await deleting.run(people("abcd"))
    await deleting.run(people("abd"), options=RunOptions(full=True, limit=3))
    assert sorted(deleting.target.content) == ["a", "b", "d"]  # the limit left nothing out
    await deleting.run(people("dba", size=3), options=RunOptions(full=True, limit=2))
    await deleting.run(people("dba"), options=RunOptions(full=True, limit=2))
    deleting.source = MemorySource(people("bd"), fails_at=1, error=Unreachable("no route"))
    deleting.source.content = people("b") + people("d")
    result = await deleting.run(options=FULL)
    assert result.row.state is RunState.FAILED
    assert sorted(deleting.target.content) == ["a", "b", "d"]


async def test_interrupted_read_deletes_after_it_was_continued_to_its_end(deleting: World) -> None:
    await deleting.run(people("abcdef"))
    deleting.source = MemorySource(people("acef"), fails_at=1, error=Unreachable("no route"))
    await deleting.run(options=FULL)
    row = (await deleting.run(people("acef"))).row
    assert deleting.source.requests == [1]
    assert sorted(deleting.target.content) == ["a", "c", "e", "f"]
    assert (row.read, row.deleted) == (4, 2)


async def test_read_that_continues_from_the_cursor_of_another_deletes_nothing(deleting: World) -> None:
    await deleting.run(people("abcdef"))
    deleting.source = MemorySource(people("abcdef"), fails_at=1, error=Unreachable("no route"))
    await deleting.run(options=FULL)
    stopping = error_result(status=402)
    deleting.target.behaviour = lambda _item, _try: stopping
    changed = [[person("a", "Eve"), person("b")], *people("cdef")]
    assert (await deleting.run(changed, options=FULL)).row.state is RunState.FAILED  # its page did not move the cursor
    deleting.target.behaviour = lambda _item, _try: None
    await deleting.run(people("xxcd"))
    assert sorted(deleting.target.content) == ["a", "b", "c", "d", "e", "f"]


async def test_read_continued_by_a_run_that_recorded_no_keys_deletes_nothing(deleting: World) -> None:
    """In between, a run without the setting moved the checkpoint over pages whose keys were not recorded."""

    def interrupt(page: int) -> None:
        deleting.source = MemorySource(people("abcdefgh"), fails_at=page, error=Unreachable("no route"))

    await deleting.run(people("abcdefgh"))
    interrupt(1)
    await deleting.run(options=FULL)
    deleting.edit(", missing: delete", "")
    interrupt(3)
    await deleting.run()
    deleting.edit("deleted: source.gone == true}", "deleted: source.gone == true, missing: delete}")
    await deleting.run(people("abcdefgh"))
    assert sorted(deleting.target.content) == list("abcdefgh")


async def test_filtered_dead_and_unmapped_records_are_not_missing(deleting: World) -> None:
    await deleting.run(people("abcd"))
    there = [person("a", test=True), person("b", age="old"), person("c", age="-1"), person("d")]
    row = (await deleting.run([there], options=FULL)).row
    assert counts(row) == {"unchanged": 1, "filtered": 1, "dead": 2}
    assert sorted(deleting.target.content) == ["a", "b", "c", "d"]
    await deleting.run(people("d"), options=FULL)
    assert sorted(deleting.target.content) == ["d"]
    assert deleting.failures() == {"b": "superseded", "c": "superseded"}


async def test_record_without_a_key_prevents_all_deletes(deleting: World) -> None:
    await deleting.run(people("abc"))
    row = (await deleting.run([[person("a"), person(None)]], options=FULL)).row
    assert counts(row) == {"unchanged": 1, "dead": 1}
    assert sorted(deleting.target.content) == ["a", "b", "c"]


async def test_rejected_delete_is_a_dead_letter_with_all_details(deleting: World) -> None:
    await deleting.run(people("abc"))
    row = (await deleting.run(people("a"), rejecting_deletes("b"), FULL)).row
    assert (row.state, row.read, counts(row)) == (RunState.PARTIAL, 3, {"written": 1, "unchanged": 1, "dead": 1})
    with deleting.reader as reader:
        (failure,) = reader.failures(full=True)
    assert (failure.key, failure.source, failure.payload) == ("b", {"id": "b"}, {"id": "b"})
    row = (await deleting.run(people("a"), options=FULL)).row
    assert counts(row) == {"unchanged": 1}  # it was decided, and stays for a person
    deleting.log.requeue([failure.id])
    await deleting.run(behaviour=rejecting_deletes(), options=RETRIES)
    assert (sorted(deleting.target.content), deleting.failures()) == (["a"], {"b": "resolved"})


async def test_waiting_delete_is_retried_as_a_delete(deleting: World) -> None:
    await deleting.run(people("ab"))
    busy = rejecting_deletes("b", answer=error_result(ErrorClass.SERVER, 503))
    row = (await deleting.run(people("a"), busy, IMPATIENT)).row
    assert counts(row) == {"unchanged": 1, "waiting": 1}
    deleting.clock.passed += 60
    row = (await deleting.run(people("a"), rejecting_deletes(), FULL)).row
    assert (row.read, counts(row), row.deleted) == (2, {"written": 1, "unchanged": 1}, 1)
    assert sorted(deleting.target.content) == ["a"]
    assert len(set(deleting.target.keys["b"])) == 2  # of the write, and of the delete, the same for each attempt


async def test_waiting_delete_is_dropped_when_the_record_returns(deleting: World) -> None:
    await deleting.run(people("ab"))
    busy = rejecting_deletes("b", answer=error_result(ErrorClass.SERVER, 503))
    await deleting.run(people("a"), busy, IMPATIENT)
    down = error_result(ErrorClass.SERVER, 503)
    again = [[person("a"), person("b", "Bea")]]
    await deleting.run(again, lambda item, _: down if item.key == "b" else None, IMPATIENT)
    deleting.clock.passed += 60
    await deleting.run(behaviour=lambda _item, _try: None, options=RETRIES)
    assert deleting.target.content["b"]["name"] == "Bea"
    assert deleting.failures() == {"b": "resolved"}


async def test_waiting_write_of_a_missing_record_is_superseded_by_its_delete(deleting: World) -> None:
    down = error_result(ErrorClass.SERVER, 503)
    await deleting.run(people("ab"), lambda item, _: down if item.key == "b" else None, IMPATIENT)
    assert deleting.failures() == {"b": "waiting"}
    await deleting.run(people("a"), lambda _item, _try: None, IMPATIENT)
    assert (deleting.failures(), sorted(deleting.target.content)) == ({"b": "superseded"}, ["a"])
    assert deleting.target.tries["b"] == 2  # the outcome of the write is unknown


async def test_dead_letter_that_was_never_sent_is_closed_without_a_request(deleting: World) -> None:
    await deleting.run([[person("a"), person("b", age="old")]])
    row = (await deleting.run(people("a"), options=FULL)).row
    assert (row.read, deleting.failures()) == (1, {"b": "superseded"})
    assert "b" not in deleting.target.tries


@pytest.mark.parametrize(("left", "share"), [("", "99%"), ("a", "20%"), ("abcd", "20%")])
async def test_guard_stops_deletes_when_the_source_lost_most_records(deleting: World, left: str, share: str) -> None:
    deleting.edit("100%", share)
    await deleting.run(people("abcdefgh"))
    row = (await deleting.run(people(left), options=FULL)).row
    assert row.state is RunState.FAILED
    assert sorted(deleting.target.content) == list("abcdefgh")
    gone = 8 - len(left)
    assert row.error == (
        f"stopped by the guard: {gone} of 8 records at the target are missing from the source; `guard.deletes` under "
        f"Volume lets a run delete {share}, so none was deleted; increase it if they should be deleted"
    )
    row = (await deleting.run(people("abcdefgh"), options=FULL)).row
    assert (row.state, counts(row)) == (RunState.SUCCEEDED, {"unchanged": 8})


async def test_guard_allows_one_delete_of_few_records_but_not_the_last(deleting: World) -> None:
    deleting.edit("100%", "20%")
    await deleting.run(people("ab"))
    await deleting.run(people("a"), options=FULL)
    assert sorted(deleting.target.content) == ["a"]
    assert (await deleting.run(people(""), options=FULL)).row.state is RunState.FAILED
    assert sorted(deleting.target.content) == ["a"]


async def test_interrupted_deletes_continue_after_the_next_read(
    deleting: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("speclab.sync.deletes._BATCH", 2)
    await deleting.run(people("abcdef"))
    stop = error_result(status=402)
    row = (await deleting.run(people("a"), rejecting_deletes("e", answer=stop), FULL)).row
    assert row.state is RunState.FAILED
    assert sorted(deleting.target.content) == ["a", "e", "f"]
    deleting.source = MemorySource(people("af", size=1), whole=False)
    row = (await deleting.run(behaviour=rejecting_deletes())).row
    assert sorted(deleting.target.content) == ["a", "f"]  # f was seen again
    assert row.state is RunState.SUCCEEDED


async def test_cancelled_run_stops_between_deletes(deleting: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("speclab.sync.deletes._BATCH", 2)
    await deleting.run(people("abcdef"))

    def cancelling(item: MappedRecord, _: int) -> None:
        if item.delete:
            deleting.cancelled.set()

    row = (await deleting.run(people("a"), cancelling, FULL)).row
    assert (row.state, sorted(deleting.target.content)) == (RunState.CANCELLED, ["a", "d", "e", "f"])
    deleting.cancelled.clear()
    await deleting.run(people("a"), rejecting_deletes(), FULL)
    assert sorted(deleting.target.content) == ["a"]


async def test_delete_without_a_response_is_not_sent_twice(deleting: World) -> None:
    deleting.target.idempotent = False
    await deleting.run(people("ab"))
    lost = error_result(ErrorClass.TIMEOUT)
    row = (await deleting.run(people("a"), rejecting_deletes("b", answer=lost), IMPATIENT)).row
    assert counts(row) == {"unchanged": 1, "unknown": 1}
    await deleting.run(people("a"), rejecting_deletes("b", answer=lost), IMPATIENT)
    assert deleting.target.tries["b"] == 2
    assert deleting.failures() == {"b": "unknown"}


async def test_records_written_before_the_setting_and_not_read_since_are_reported_once(world: World) -> None:
    await world.run(people("abcd"))
    enable_deletes(world)
    await world.run([[person("a"), person("b", test=True), person("c")]], options=FULL)
    await world.run(people("ac"), options=FULL)
    await world.run(people("ac"), options=FULL)
    assert [message.partition(" records")[0] for message in world.events("missing")] == ["1", "2"]
    assert "were written before `missing: delete` was set" in world.events("missing")[0]
    assert sorted(world.target.content) == ["a", "b", "c", "d"]
    assert world.log.count_scan(world.log.start_run("people", "", "manual"), b"").missing == 0


async def test_record_that_returns_under_a_new_key_keeps_its_target_record(deleting: World) -> None:
    deleting.edit("| source.id | target.id | Direct | |", "| source.login | target.id | Direct | |")
    ada, bea, again = person("a", login="ada"), person("b", "Bea", login="bea"), person("c", "Bea", login="bea")
    await deleting.run([[ada, bea]])
    deletes: list[str] = []
    row = (await deleting.run([[ada, again]], recording_deletes(deletes), FULL)).row
    assert (deletes, row.read, counts(row)) == ([], 2, {"written": 1, "unchanged": 1})
    reported = "1 missing from the source, but another record has their place at the target: kept"
    assert deleting.events("page")[-1] == reported
    row = (await deleting.run([[ada, bea]], options=FULL)).row
    assert (deletes, row.read, counts(row)) == ([], 2, {"written": 1, "unchanged": 1})


async def test_record_whose_new_key_is_not_its_target_identity_keeps_its_target_record(deleting: World) -> None:
    deleting.edit(
        '"PUT /people/{id}", delete: "DELETE /people/{id}"', '"PUT /people/{n}", delete: "DELETE /people/{n}"'
    )
    deleting.edit("| source.name | target.name |", "| source.name | target.n |")
    await deleting.run([[person("a", "Ada"), person("b", "Bea")]])
    deletes: list[str] = []
    row = (await deleting.run([[person("a", "Ada"), person("c", "Bea")]], recording_deletes(deletes), FULL)).row
    assert (deletes, counts(row)) == ([], {"written": 1, "unchanged": 1})


async def test_changed_key_in_the_spec_deletes_nothing(deleting: World) -> None:
    everyone = [person(key, uuid=f"u{key}") for key in "abc"]
    await deleting.run([everyone])
    deleting.edit("key: id\nread:", "key: uuid\nread:")
    deletes: list[str] = []
    row = (await deleting.run([everyone], recording_deletes(deletes), FULL)).row
    assert (deletes, row.state, counts(row)) == ([], RunState.SUCCEEDED, {"written": 3})
    await deleting.run([everyone[:2]], options=FULL)
    assert deletes == ["uc"]


async def test_waiting_write_is_not_sent_if_another_record_has_its_target_identity(deleting: World) -> None:
    deleting.edit("| source.id | target.id | Direct | |", "| source.login | target.id | Direct | |")
    down = error_result(ErrorClass.SERVER, 503)
    ada, again = person("a", login="ada"), person("b", "Eve", login="ada")
    await deleting.run([[ada]], lambda item, _: down if item.key == "a" else None, IMPATIENT)
    await deleting.run([[again]], options=IMPATIENT)
    assert deleting.failures() == {"a": "superseded"}
    deleting.clock.passed += 60
    row = (await deleting.run(behaviour=recording_deletes([]), options=RETRIES)).row
    assert row.read == 0


async def test_waiting_delete_is_not_sent_if_another_record_has_its_target_identity(deleting: World) -> None:
    deleting.edit("| source.id | target.id | Direct | |", "| source.login | target.id | Direct | |")
    await deleting.run([[person("a", login="ada"), person("z", login="zoe")]])
    busy = rejecting_deletes("a", answer=error_result(ErrorClass.SERVER, 503))
    await deleting.run([[person("z", login="zoe")]], busy, IMPATIENT)
    assert deleting.failures() == {"a": "waiting"}
    deletes: list[str] = []
    await deleting.run([[person("b", login="ada"), person("z", login="zoe")]], recording_deletes(deletes), IMPATIENT)
    deleting.clock.passed += 60
    await deleting.run(options=RETRIES)
    assert (deletes, deleting.failures()) == ([], {"a": "superseded"})


async def test_dry_run_reports_that_it_does_not_search_for_missing_records(deleting: World) -> None:
    await deleting.run(people("abc"))
    await deleting.run(people("a"), options=RunOptions(full=True, dry_run=True))
    assert "info: a dry run does not look for missing records; `speclab plan` does" in deleting.reported
    assert sorted(deleting.target.content) == ["a", "b", "c"]


async def test_target_that_turns_out_to_lack_deletes_ends_the_run_before_the_read(deleting: World) -> None:
    deleting.target.deletes = False
    result = await deleting.run(people("ab"))
    assert isinstance(result.error, SpecError)
    assert deleting.target.calls == []


def test_target_without_deletes_is_an_error_of_the_spec(world: World) -> None:
    world.edit("deleted: source.gone == true}", "deleted: source.gone == true, missing: delete}")
    with pytest.raises(SpecError) as caught:
        prepare(world.spec)
    (problem,) = caught.value.problems
    line = world.spec.read_text().splitlines()[problem.line - 1]
    assert (problem.code, line[problem.column - 1 :]) == ("S210", "missing: delete}")
    assert problem.message == "`missing: delete`: the target has no `write.delete`"


SWEEPS = st.lists(st.tuples(st.sets(st.sampled_from("abcdefgh")), st.booleans()), min_size=2, max_size=6)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(SWEEPS)
async def test_target_equals_the_source_after_every_full_read(
    tmp_path_factory: pytest.TempPathFactory, sweeps: list[tuple[set[str], bool]]
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        world = enable_deletes(World(tmp_path_factory.mktemp("world"), patch))
        with world.log:
            for keys, broken in sweeps:
                pages = people("".join(sorted(keys)))
                if broken and len(pages) > 1:
                    world.source = MemorySource(pages, fails_at=1, error=Unreachable("no route"))
                    assert (await world.run(options=FULL)).row.state is RunState.FAILED
                    row = (await world.run(pages)).row
                else:
                    row = (await world.run(pages, options=FULL)).row
                assert row.state is RunState.SUCCEEDED
                assert set(world.target.content) == keys
