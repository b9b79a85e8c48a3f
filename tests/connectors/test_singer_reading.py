from __future__ import annotations

import asyncio
import json
import os
import shlex
import shutil
import signal
import sys
import tempfile
from collections.abc import Callable
from contextlib import aclosing
from pathlib import Path
from typing import Any

import pytest
from tests.connectors.conftest import Reports, read_all, read_to_failure, records_of

from speclab.connectors import References
from speclab.connectors.access import try_access
from speclab.connectors.base import Page, Seams
from speclab.connectors.singer.fields import fields
from speclab.connectors.singer.reader import SingerReader
from speclab.errors import BadAnswer, SpecError, Unauthorized, Unreachable
from speclab.jsonvalue import Json
from speclab.runlog.process import Process, alive
from speclab.spec.auth import NoAuth
from speclab.spec.integration import End
from speclab.spec.settings import RetrySettings
from speclab.spec.systems.singer import SingerSystem

pytestmark = pytest.mark.usefixtures("singer_files")

TAP = shlex.join([sys.executable, str(Path(__file__).parent / "singer_programs" / "tap.py")])
Open = Callable[..., SingerReader]
SECRET = 'p4ss "word"/æ'
KEY = "-----BEGIN KEY-----\nMIIEpAIBAAKCAQEA\nq83vEjRWeJq83vEj\n-----END KEY-----"


def settings(do: list[Any], witness: Path | None = None, config: dict[str, Json] | None = None, **more: Json) -> Any:
    told = {"witness": str(witness)} if witness else {}
    given = {"connector": "singer", "command": TAP, "stream": "people", "key": "id"}
    return SingerSystem.model_validate(given | {"config": {"do": do, **told, **(config or {})}} | more)


@pytest.fixture
def references(tmp_path: Path) -> References:
    return References({"SECRET": SECRET, "KEY": KEY}, tmp_path)


@pytest.fixture
def tap(references: References, seams: Seams) -> Open:
    def opened(do: list[Any], *args: Any, **more: Any) -> SingerReader:
        return SingerReader(settings(do, *args, **more), NoAuth(), references, seams, RetrySettings())

    return opened


@pytest.fixture
def witness(tmp_path: Path) -> Path:
    return tmp_path / "witness.jsonl"


def starts(witness: Path) -> list[Any]:
    return [json.loads(line) for line in witness.read_text().splitlines()]


def numbers(pages: list[Page]) -> list[Any]:
    return [record["id"] for record in records_of(pages)]


def at(number: int) -> Json:
    return {"bookmarks": {"people": {"id": number}}}


def cursor(state: Json, **more: Json) -> Json:
    """Where a read of people goes on."""
    return {"of": "tap.py: people", "state": state, **more}


async def begun(witness: Path) -> None:
    """Wait until a tap has started."""
    for _ in range(500):
        if witness.exists() and witness.read_text().endswith("\n"):  # noqa: ASYNC240
            return
        await asyncio.sleep(0.02)


async def gone(pid: int) -> bool:
    """Whether a process ends within seconds."""
    for _ in range(200):
        if not alive(Process.of(pid)):
            return True
        await asyncio.sleep(0.02)
    return False


async def test_the_records_of_a_stream_are_read_and_the_last_state_is_where_the_next_run_begins(
    tap: Open, witness: Path
) -> None:
    pages = await read_all(tap([{"count": [1, 2345]}], witness))
    assert numbers(pages) == list(range(1, 2346))
    assert [page.complete for page in pages] == [False] * (len(pages) - 1) + [True]
    assert {page.from_start for page in pages} == {True}
    assert max(len(page.records) for page in pages) <= 1000
    assert pages[-1].cursor == cursor(at(2340))
    assert sum(page.bytes_in for page in pages) > 2345 * 70
    assert starts(witness)[0]["state"] is None
    again = await read_all(tap([{"count": [1, 2350]}], witness), pages[-1].cursor)
    assert numbers(again) == list(range(2340, 2351))
    assert starts(witness)[1]["state"] == at(2340)
    assert not again[0].from_start
    assert not again[0].whole


async def test_a_read_that_goes_on_from_any_page_skips_nothing(tap: Open) -> None:
    all_numbers = list(range(1, 3001))
    pages = await read_all(tap([{"count": [1, 3000]}]))
    for end in (1, len(pages) // 2, len(pages) - 1):
        had, page = numbers(pages[:end]), pages[end - 1]
        rest = numbers(await read_all(tap([{"count": [1, 3000]}]), page.cursor))
        assert set(had) | set(rest) == set(all_numbers)
        assert len(rest) <= len(all_numbers) - len(had) + 11  # what comes after a STATE is read again, no more


async def test_without_a_state_the_next_run_reads_all(tap: Open) -> None:
    records = [{"say": {"type": "RECORD", "stream": "people", "record": {"id": number}}} for number in range(3)]
    pages = await read_all(tap(records))
    assert numbers(pages) == [0, 1, 2]
    assert pages[-1].cursor is None


async def test_a_state_that_is_not_renewed_stays(tap: Open) -> None:
    pages = await read_all(tap([]), cursor(at(7)))
    assert [(page.records, page.cursor, page.complete) for page in pages] == [([], cursor(at(7)), True)]


async def test_a_full_read_is_given_no_state_unless_another_was_broken_off(tap: Open, witness: Path) -> None:
    do = [{"count": [1, 25]}]
    pages = await read_all(tap(do, witness), cursor(at(20)), full=True)
    assert numbers(pages) == list(range(1, 26))
    assert pages[0].from_start
    broken, _ = await read_to_failure(tap([*do, {"exit": 1}]))
    assert broken[-1].cursor == cursor(at(20), whole=True)
    rest = await read_all(tap(do, witness), broken[-1].cursor, full=True)
    assert numbers(rest) == [20, 21, 22, 23, 24, 25]
    assert (rest[0].from_start, rest[0].whole) == (False, True)
    assert [start["state"] for start in starts(witness)] == [None, at(20)]


@pytest.mark.parametrize(
    ("state", "from_start"),
    [
        ({}, True),
        ({"bookmarks": {}}, True),
        ({"bookmarks": {"people": {}, "orders": {"id": 3}}}, False),
        ({"bookmarks": {"people": {"version": None}}}, True),
        ({"bookmarks": {"people": {"id": 3}}}, False),
        ({"people": "2026-01-01"}, False),
    ],
)
async def test_a_state_without_a_bookmark_is_the_start(state: Json, from_start: object, tap: Open) -> None:
    (page,) = await read_all(tap([]), cursor(state))
    assert page.from_start is page.whole is from_start


async def test_the_stream_is_selected_with_all_its_fields_and_no_other(tap: Open, witness: Path) -> None:
    await read_all(tap([], witness, replication={"method": "incremental", "key": "id"}))
    people, orders = starts(witness)[0]["catalog"]["streams"]
    told = {tuple(one["breadcrumb"]): one["metadata"] for one in people["metadata"]}
    assert told == {
        (): {
            "inclusion": "available",
            "selected": True,
            "replication-method": "INCREMENTAL",
            "replication-key": "id",
        },
        ("properties", "id"): {"inclusion": "automatic", "selected": True},
        ("properties", "name"): {"selected": True},
        ("properties", "born"): {"selected": True},
        ("properties", "odd"): {"inclusion": "unsupported", "selected": False},
    }
    assert people["schema"]["selected"] is True
    assert (people["replication_method"], people["replication_key"]) == ("INCREMENTAL", "id")
    assert orders["schema"]["selected"] is False
    assert orders["metadata"] == [{"breadcrumb": [], "metadata": {"selected": False}}]


async def test_a_tap_of_the_old_kind_finds_its_selection_in_the_schema(tap: Open, witness: Path) -> None:
    old: Json = {"streams": [{"stream": "people", "schema": {"type": "object", "properties": {"id": {}}}}]}
    await read_all(tap([], witness, {"catalog": old}))
    (people,) = starts(witness)[0]["catalog"]["streams"]
    assert people["schema"] == {"type": "object", "properties": {"id": {"selected": True}}, "selected": True}


async def test_a_catalog_of_ones_own_keeps_its_selection_of_fields(tap: Open, witness: Path, tmp_path: Path) -> None:
    field = {"breadcrumb": ["properties", "name"], "metadata": {"selected": False}}
    parents = {"stream": "orders", "schema": {}, "metadata": [{"breadcrumb": [], "metadata": {"selected": True}}]}
    people = {"tap_stream_id": "people", "schema": {"properties": {"name": {}}}, "metadata": [field]}
    own = {"streams": [people, parents]}
    (tmp_path / "catalog.json").write_text(json.dumps(own))
    await read_all(tap([], witness, {"discovering": [{"exit": 1}]}, catalog="catalog.json"))
    people, others = starts(witness)[0]["catalog"]["streams"]
    assert others == parents
    assert people["metadata"] == [field, {"breadcrumb": [], "metadata": {"selected": True}}]
    with pytest.raises(SpecError, match=r"nowhere\.json: No such file"):
        await read_all(tap([], catalog="nowhere.json"))


async def test_a_tap_that_cannot_discover_is_read_without_a_catalog(tap: Open, witness: Path) -> None:
    _, error = await read_to_failure(tap([], config={"discovering": [{"exit": 2}]}))
    assert "catalog: none" in error.hint
    await read_all(tap([], witness, {"discovering": [{"exit": 2}]}, catalog="none"))
    assert starts(witness)[0]["catalog"] is None


async def test_a_stream_that_is_not_there_is_told_with_those_that_are(tap: Open) -> None:
    _, error = await read_to_failure(tap([], stream="peopel"))
    assert str(error).endswith("has no stream 'peopel', but people, orders. Did you mean 'people'?")


async def test_config_is_for_this_user_alone_and_holds_the_secrets(tap: Open, witness: Path, tmp_path: Path) -> None:
    await read_all(tap([], witness, {"token": "${env:SECRET}", "nested": {"list": ["${env:SECRET}", 3]}}))
    (start,) = starts(witness)
    assert (start["mode"], start["directory"], start["cwd"]) == ("-rw-------", "drwx------", str(tmp_path))


async def test_a_tap_that_changes_its_config_is_told(tap: Open, reports: Reports) -> None:
    await read_all(tap([{"rewrite": {"refresh_token": "another"}}]))
    (line,) = reports.lines
    assert line.startswith("warning: tap.py: changed its config, which is lost")


async def test_what_a_tap_logs_is_told_with_its_level_and_without_secrets(tap: Open, reports: Reports) -> None:
    logged = [
        f"INFO starting with {SECRET}",
        "2026-11-24 07:55:10,123 | WARNING  | tap-x.people | slow \x1b[31mred\x1b[0m",
        f"a line that belongs to it: {json.dumps(SECRET)}",
        "DEBUG not told",
        "2026-11-24T07:55:10.123456Z [error    ] no such page",
        'INFO METRIC: {"type": "counter", "value": 3}',
        "the key is MIIEpAIBAAKCAQEA",
        "Traceback (most recent call last):",
        '  File "x.py", line 1',
        "",
    ]
    do: list[Any] = [{"log": line} for line in logged]
    await read_all(tap(do, config={"token": "${env:SECRET}", "key": "${env:KEY}"}))
    assert reports.lines == [
        "info: tap.py: starting with ***",
        "warning: tap.py: slow red",
        'warning: tap.py: a line that belongs to it: "***"',
        "error: tap.py: no such page",
        'info: tap.py: METRIC: {"type": "counter", "value": 3}',
        "info: tap.py: the key is ***",
        "error: tap.py: Traceback (most recent call last):",
        'error: tap.py:   File "x.py", line 1',
    ]


async def test_a_flood_of_log_lines_has_an_end_and_so_has_a_line(tap: Open, reports: Reports) -> None:
    await read_all(tap([{"log": "INFO " + "long " * 100_000}, *({"log": f"INFO {n}"} for n in range(600))]))
    assert len(reports.lines[0]) < 2100
    assert len(reports.lines) == 501
    assert reports.lines[-1].startswith("warning: ")


async def test_a_tap_that_fails_fails_the_read_after_what_it_gave(tap: Open) -> None:
    log = [f"INFO line {number}" for number in range(30)] + [
        f"CRITICAL gave up with {SECRET}",
        "Traceback (most recent call last):",
        "  File",
        "ValueError: no page 7",
    ]
    do: list[Any] = [{"count": [1, 15]}, *({"log": line} for line in log), {"raw": '{"type": "REC'}, {"exit": 3}]
    pages, error = await read_to_failure(tap(do, config={"token": "${env:SECRET}"}))
    assert numbers(pages) == list(range(1, 16))
    assert pages[-1].cursor == cursor(at(10), whole=True)
    assert not any(page.complete for page in pages)
    assert type(error) is BadAnswer
    assert str(error).endswith("ended with exit code 3: ValueError: no page 7")
    assert len(error.response.splitlines()) == 20
    assert "gave up with ***" in error.response


async def test_a_tap_that_is_killed_fails_the_read_and_the_next_goes_on(tap: Open) -> None:
    pages, error = await read_to_failure(tap([{"count": [1, 25]}, {"exit": -9}]))
    assert str(error) == "tap.py: ended by SIGKILL and said nothing"
    assert "memory" in error.hint
    rest = await read_all(tap([{"count": [1, 40]}]), pages[-1].cursor)
    assert set(numbers(pages)) | set(numbers(rest)) == set(range(1, 41))


@pytest.mark.parametrize(
    ("last", "kind"),
    [
        ("CRITICAL 401 Client Error: Unauthorized for url: https://crm.example.com", Unauthorized),
        ("requests.exceptions.ConnectionError: [Errno 111] Connection refused", Unreachable),
        ("ReadTimeout: Read timed out. (read timeout=30)", Unreachable),
        ("KeyError: 'id'", BadAnswer),
    ],
)
async def test_what_a_tap_says_last_tells_what_kind_of_failure_it_is(last: str, kind: type, tap: Open) -> None:
    _, error = await read_to_failure(tap([{"log": last}, {"exit": 1}]))
    assert type(error) is kind


async def test_a_line_that_is_no_message_is_told_with_its_number(tap: Open) -> None:
    do = [{"count": [1, 12]}, {"raw": f"Hello, {SECRET}!\n"}, {"count": [13, 20]}, "wait"]
    pages, error = await read_to_failure(tap(do, config={"token": "${env:SECRET}"}))
    assert numbers(pages) == list(range(1, 13))
    assert type(error) is BadAnswer
    assert "line 14 of its output is not JSON" in str(error)
    assert error.response == "Hello, ***!"


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("[1]", "is no message"),
        ('{"type": "RECORD", "stream": "people"}', "is a RECORD message without its `stream` and `record`"),
        ('{"type": "STATE"}', "is a STATE message without its `value`"),
        ('{"type": "BATCH", "stream": "people", "manifest": []}', "take `batch_config` out of `config`"),
    ],
)
async def test_what_cannot_be_understood_is_refused_with_words(line: str, reason: str, tap: Open) -> None:
    _, error = await read_to_failure(tap([{"raw": line + "\n"}]))
    assert reason in str(error)


async def test_what_is_left_out_is_told_once(tap: Open, reports: Reports) -> None:
    order: Any = {"say": {"type": "RECORD", "stream": "orders", "record": {}}}
    version: Any = {"say": {"type": "ACTIVATE_VERSION", "stream": "people", "version": 1}}
    other: Any = {"say": {"type": "PING"}}
    pages = await read_all(tap([order, order, version, version, other, {"raw": "\n \n"}, {"count": [1, 3]}]))
    assert numbers(pages) == [1, 2, 3]
    foreign, gone, ping = reports.lines
    assert foreign == "warning: the tap gives records of the stream orders, too; they are left out"
    assert gone.startswith("info: the tap says that what it gave before and does not now is gone; `missing: delete`")
    assert ping == "warning: the tap gives messages of the type PING; they are left out"


async def test_a_stream_has_the_name_that_its_records_have_or_its_id(tap: Open) -> None:
    """Taps of databases name a stream `db-people` in the catalog, and `people` in its messages."""
    catalog: Json = {"streams": [{"tap_stream_id": "db-people", "stream": "people", "schema": {}}]}
    for name in ("db-people", "people"):
        pages = await read_all(tap([{"count": [1, 3]}], config={"catalog": catalog}, stream=name))
        assert numbers(pages) == [1, 2, 3]


async def test_a_tap_that_does_not_know_the_stream_has_not_been_read(tap: Open) -> None:
    _, error = await read_to_failure(tap([{"count": [1, 3]}], stream="peple", catalog="none"))
    assert str(error) == "tap.py: peple: the tap does not know it; its records are of people"
    schema: Any = {"say": {"type": "SCHEMA", "stream": "peple", "schema": {}}}
    (page,) = await read_all(tap([schema, {"count": [1, 3]}], stream="peple", catalog="none"))
    assert page.complete  # there is such a stream, and nothing in it


async def test_a_schema_that_changes_and_a_key_that_is_another_are_told(tap: Open, reports: Reports) -> None:
    def schema(*keys: str, **properties: Json) -> Any:
        described = {"type": "object", "properties": properties}
        return {"say": {"type": "SCHEMA", "stream": "people", "schema": described, "key_properties": [*keys]}}

    before, after = schema("id", id={"type": "integer"}), schema("uid", id={"type": "string"}, name={"type": "string"})
    await read_all(tap([before, before, after]))
    assert reports.lines == [
        "warning: the tap describes people anew: id, name",
        "warning: the tap says that the key of people is uid; the spec says id",
    ]


async def test_a_line_that_is_longer_than_may_be_ends_the_read(tap: Open) -> None:
    long: Any = {"say": {"type": "RECORD", "stream": "people", "record": {"id": 3, "name": "x" * 2_000_000}}}
    pages, error = await read_to_failure(tap([{"count": [1, 2]}, long, "wait"], limits={"response": "1MB"}))
    assert numbers(pages) == [1, 2]
    assert "of more than 1MB" in str(error)
    (page,) = await read_all(tap([long]))
    assert len(str(page.records[0]["name"])) == 2_000_000


async def test_a_tap_that_hangs_is_ended(tap: Open, witness: Path) -> None:
    do: list[Any] = ["deaf", {"count": [1, 3]}, {"log": "INFO still there"}, "wait"]
    pages, error = await read_to_failure(tap(do, witness, limits={"timeout": "300ms"}))
    assert numbers(pages) == [1, 2, 3]
    assert type(error).__mro__[1] is Unreachable
    assert "neither spoke nor listened for 300ms" in str(error)
    assert await gone(starts(witness)[0]["pid"])


async def test_a_read_that_is_not_wanted_any_more_leaves_no_process(tap: Open, witness: Path, tmp_path: Path) -> None:
    child = tmp_path / "child"
    reader = tap([{"spawn": str(child)}, {"count": [1, 1_000_000]}], witness)
    async with aclosing(reader.pages(None, full=False)) as pages:  # type: ignore[type-var]  # an async generator
        page = await anext(pages)
    assert page.records
    assert await gone(starts(witness)[0]["pid"])
    assert await gone(int(child.read_text()))
    await reader.close()


async def test_a_read_that_is_cancelled_leaves_no_process(tap: Open, witness: Path) -> None:
    reading = asyncio.create_task(read_all(tap([{"count": [1, 5]}, "wait"], witness)))
    await begun(witness)
    reading.cancel()
    with pytest.raises(asyncio.CancelledError):
        await reading
    with pytest.raises(ProcessLookupError):  # nor a zombie
        os.kill(starts(witness)[0]["pid"], 0)


async def test_a_tap_that_leaves_a_child_behind_ends_with_it(tap: Open, tmp_path: Path) -> None:
    child = tmp_path / "child"
    do: list[Any] = [{"spawn": str(child)}, {"count": [1, 5]}, {"exit": 0}]
    pages, error = await read_to_failure(tap(do, limits={"timeout": "500ms"}))
    assert numbers(pages) == [1, 2, 3, 4, 5]
    assert "neither spoke" in str(error)  # whoever holds the pipe may still write to it
    assert await gone(int(child.read_text()))


async def test_a_tap_waits_for_whoever_takes_its_pages(tap: Open, witness: Path, tmp_path: Path) -> None:
    done = tmp_path / "done"
    reader = tap([{"count": [1, 100_000]}, {"spawn": str(done)}, {"exit": 1}], witness)
    async with aclosing(reader.pages(None, full=False)) as pages:  # type: ignore[type-var]  # an async generator
        await anext(pages)
        await asyncio.sleep(0.5)  # as long as it would take to give them all
        assert not done.exists()
    await reader.close()


async def test_a_program_that_is_not_there_is_told(tap: Open) -> None:
    _, error = await read_to_failure(tap([], command="tap-of-nobody"))
    assert str(error) == "tap-of-nobody: there is no such program"
    assert "pipx" in error.hint


async def test_a_command_is_no_shell_and_its_path_is_from_the_workspace(tap: Open, tmp_path: Path) -> None:
    program = tmp_path / "bin" / "my tap"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nprintf "%s\\n" "$1" "$2" > "{tmp_path}/args"\nshift 2\nexec {TAP} "$@"\n')
    program.chmod(0o700)
    pages = await read_all(tap([{"count": [1, 2]}], command="'bin/my tap' '$HOME; ls' ${env:SECRET}"))
    assert numbers(pages) == [1, 2]
    assert (tmp_path / "args").read_text() == f"$HOME; ls\n{SECRET}\n"


async def test_the_fields_of_a_stream_are_what_the_catalog_says(references: References, seams: Seams) -> None:
    found = await fields("source", settings([]), NoAuth(), references, seams, 500)
    assert found is not None
    assert [(str(field.path), field.declared, field.required) for field in found.fields] == [
        ("id", "integer", True),
        ("name", "string", False),
        ("born", "string (date)", False),
        ("odd", "string", False),
    ]
    assert await fields("source", settings([], catalog="none"), NoAuth(), references, seams, 500) is None


async def test_a_tap_is_tried_by_its_first_page(references: References, seams: Seams, witness: Path) -> None:
    count: list[Any] = [{"count": [1, 10]}, "wait"]
    access = await try_access(End("source", settings(count, witness), NoAuth()), references, seams)
    assert (access.error, access.granted, access.request) == (None, True, "tap.py: people: 10 records")
    assert await gone(starts(witness)[0]["pid"])
    refused: list[Any] = [{"log": "401 Client Error: Unauthorized"}, {"exit": 1}]
    access = await try_access(End("source", settings(refused), NoAuth()), references, seams)
    assert type(access.error) is Unauthorized


async def test_the_state_of_another_tap_or_stream_is_not_gone_on_from(
    tap: Open, witness: Path, reports: Reports
) -> None:
    pages = await read_all(tap([{"count": [1, 20]}], witness), {"of": "tap.py: orders", "state": at(10)})
    assert numbers(pages) == list(range(1, 21))
    assert pages[0].from_start
    assert starts(witness)[0]["state"] is None
    assert reports.lines == ["warning: the last run stopped in tap.py: orders; this is tap.py: people, read anew"]


async def test_what_a_killed_run_left_is_removed_and_ended_by_the_next(tap: Open) -> None:
    """The tap of a run that is killed has nobody to tell it; that of one that is alive is left alone."""
    sleeper = [sys.executable, "-c", "import signal; signal.pause()"]
    owner = await asyncio.create_subprocess_exec(*sleeper)
    orphan = await asyncio.create_subprocess_exec(*sleeper, start_new_session=True)
    other = await asyncio.create_subprocess_exec(*sleeper, start_new_session=True)
    left = _files_of(Process.of(owner.pid), Process.of(orphan.pid))
    mine = _files_of(Process.of(os.getpid()), Process.of(other.pid))
    elsewhere = _files_of(Process(owner.pid, "another.example", "then"), Process.of(other.pid))
    owner.kill()
    await owner.wait()
    await read_all(tap([]))
    assert (left.exists(), mine.exists(), elsewhere.exists()) == (False, True, True)
    assert await orphan.wait() == -signal.SIGKILL
    assert other.returncode is None
    other.kill()
    await other.wait()
    shutil.rmtree(mine)
    shutil.rmtree(elsewhere)


def _files_of(owner: Process, leader: Process) -> Path:
    directory = Path(tempfile.mkdtemp(prefix="speclab-singer-"))
    (directory / "owner.json").write_text(json.dumps([owner.pid, owner.host, owner.started]))
    (directory / "leader.json").write_text(json.dumps([leader.pid, leader.host, leader.started]))
    return directory
