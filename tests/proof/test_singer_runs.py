"""Whole runs from a tap and to a target in separate processes that are stopped and killed."""

from __future__ import annotations

import json
import shlex
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.proof.conftest import PLAIN, TO_SQLITE, Job, rows_of

from speclab.core.errors import RunLogError, Unreachable
from speclab.core.locks import ProcessIdentity, is_alive
from speclab.runlog import RunRow
from speclab.sync.run import RunOptions

PROGRAMS = Path(__file__).parents[1] / "connectors" / "singer_programs"


def from_tap(do: list[Any], directory: Path) -> str:
    """A source that executes `do` and logs every start in a file."""
    command = shlex.join([sys.executable, str(PROGRAMS / "tap.py")])
    config = {"do": do, "token": "${env:TOKEN}", "witness": str(directory / "witness")}
    system = {"connector": "singer", "command": command, "stream": "people", "key": "id", "config": config}
    return json.dumps(system, indent=1)


def starts(job: Job) -> list[Any]:
    return [json.loads(line) for line in (job.directory / "witness").read_text().splitlines()]


def wait_until(happens: Callable[[], object]) -> None:
    """Wait until a condition is true, for at most a minute."""
    deadline = time.monotonic() + 60
    while not happens():
        assert time.monotonic() < deadline, "it never happened"
        time.sleep(0.02)


def count_written(job: Job) -> int:
    return len(rows_of(job.directory / "target.db"))


def has_checkpoint(job: Job) -> bool:
    """Return whether the first run has stored a cursor."""
    try:
        return any(run.cursor is not None for run in job.runs())
    except RunLogError:  # it does not exist yet
        return False


@pytest.fixture
def singer(job: Job) -> Job:
    job.environ = {"TOKEN": "t0ken-of-ours"}
    return job


CURSOR: dict[str, Any] = {"of": "tap.py: people", "state": {"bookmarks": {"people": {"id": 30}}}}
PERSON: dict[str, Any] = {"type": "RECORD", "stream": "people"}


def people(first: int, last: int) -> list[Any]:
    records = [{"id": str(n), "name": f" n{n}", "age": "7", "test": False} for n in range(first, last + 1)]
    return [{"say": PERSON | {"record": record}} for record in records]


def state(number: int) -> Any:
    return {"say": {"type": "STATE", "value": {"bookmarks": {"people": {"id": number}}}}}


async def test_records_of_a_tap_are_written_and_next_run_continues_from_its_state(singer: Job) -> None:
    log = {"log": "WARNING the token is t0ken-of-ours"}
    singer.write(from_tap([*people(1, 30), log, state(30)], singer.directory), TO_SQLITE)
    process = singer.start()
    out, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    assert json.loads(out)["read"] == 30
    await singer.run()
    assert [row["name"] for row in rows_of(singer.directory / "target.db")][:2] == ["N1", "N10"]
    first, second = singer.runs()
    assert (first.written, second.unchanged) == (30, 30)
    assert second.cursor == CURSOR
    assert [start["state"] for start in starts(singer)] == [None, {"bookmarks": {"people": {"id": 30}}}]
    assert "tap.py: the token is ***" in singer.events("log")
    assert b"t0ken-of-ours" not in singer.log.read_bytes()


async def test_records_missing_from_a_full_read_of_a_tap_are_deleted(singer: Job) -> None:
    async def run(do: list[Any], options: RunOptions = PLAIN) -> RunRow:
        source = json.loads(from_tap(do, singer.directory)) | {"missing": "delete"}
        singer.write(json.dumps(source, indent=1), TO_SQLITE)
        return (await singer.run(options)).row

    assert (await run([*people(1, 30), state(30)])).written == 30
    assert (
        await run([*people(29, 30), state(30)])
    ).deleted == 0  # continued from a STATE: missing records are not known
    assert (await run([*people(3, 30), state(30)], RunOptions(full=True))).deleted == 2
    assert {row["id"] for row in rows_of(singer.directory / "target.db")} == {str(number) for number in range(3, 31)}


async def test_target_gets_the_field_types_of_the_mapping(singer: Job) -> None:
    source = from_tap([*people(1, 2), *people(1, 2)[:1], state(2)], singer.directory)
    singer.write(source, to_target(singer.directory, {}))
    assert (await singer.run()).error is None
    (schema,) = [json.loads(line) for line in (singer.directory / "schemas").read_text().splitlines()]
    assert schema["key_properties"] == ["id"]
    assert schema["schema"]["properties"]["age"] == {"type": ["integer", "null"]}
    assert (singer.directory / "out").read_text().splitlines()[0] == '{"id": "1", "name": "N1", "age": 7}'


def to_target(directory: Path, config: dict[str, Any], **more: Any) -> str:
    command = shlex.join([sys.executable, str(PROGRAMS / "target.py")])
    files = {name: str(directory / name) for name in ("out", "schemas")}
    target = {"connector": "singer", "command": command, "stream": "people", "key": "id", "config": files | config}
    return json.dumps(target | more, indent=1)


async def test_in_flight_records_of_an_appending_target_are_not_sent_again(singer: Job) -> None:
    source = from_tap([*people(1, 5), state(5)], singer.directory)
    full = singer.directory / "full"
    full.touch()
    config = {"refuses": "N4", "while": str(full), "words": "OSError: [Errno 28] No space left on device"}
    singer.write(source, to_target(singer.directory, config, mode="append", size=2))
    first = await singer.run()
    assert type(first.error) is Unreachable
    assert (first.row.written, first.row.unknown, first.row.read) == (2, 2, 4)  # the fifth was not sent
    full.unlink()
    second = await singer.run()
    assert (second.row.unchanged, second.row.unknown, second.row.written) == (2, 2, 1)
    kept = [json.loads(line)["id"] for line in (singer.directory / "out").read_text().splitlines()]
    assert kept == ["1", "2", "3", "5"]  # the third was written before the target failed, and is there once
    assert {failure.key for failure in singer.failures()} == {"3", "4"}


async def test_record_rejected_by_a_target_is_located_and_others_are_written(singer: Job) -> None:
    ages = {str(number): number for number in range(1, 10)} | {"5": "old"}
    records = [{"id": key, "name": "Ada", "age": age, "test": False} for key, age in ages.items()]
    do = [{"say": PERSON | {"record": record}} for record in records]
    direct = "| source.age | target.age | Direct | |"
    singer.write(
        from_tap(do, singer.directory),
        to_target(singer.directory, {}),
        edit=lambda text: text.replace("| source.age | target.age | Integer | |", direct),
    )
    result = await singer.run()
    assert (result.error, result.row.written, result.row.dead) == (None, 8, 1)
    (failure,) = singer.failures()
    assert (failure.key, failure.row, failure.line) == ("5", "age", singer.line_of(direct))
    assert "'old' is not of type 'integer'" in str(failure.message)


def test_stopped_run_leaves_no_tap_process(singer: Job) -> None:
    singer.write(from_tap([*people(1, 30), state(30), *people(31, 35), "wait"], singer.directory), TO_SQLITE)
    process = singer.start()
    wait_until(lambda: has_checkpoint(singer))
    tap = ProcessIdentity.of(starts(singer)[0]["pid"])
    assert is_alive(tap)
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=60)
    wait_until(lambda: not is_alive(tap))
    assert not Path(starts(singer)[0]["config"]).parent.exists()
    (run,) = singer.runs()
    assert run.state == "cancelled"
    assert run.cursor == CURSOR | {"whole": True}


def test_killed_run_continues_from_the_last_state_and_leaves_no_process(singer: Job) -> None:
    singer.write(from_tap([*people(1, 30), state(30), *people(31, 35), "wait"], singer.directory), TO_SQLITE)
    process = singer.start()
    wait_until(lambda: has_checkpoint(singer))
    process.kill()
    process.communicate(timeout=60)
    left = starts(singer)[0]
    assert Path(left["config"]).exists()
    singer.write(from_tap([*people(30, 40), state(40)], singer.directory), TO_SQLITE)
    process = singer.start()
    _, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    assert starts(singer)[1]["state"] == {"bookmarks": {"people": {"id": 30}}}
    assert count_written(singer) == 40
    wait_until(lambda: not is_alive(ProcessIdentity.of(left["pid"])))  # it would have waited forever
    assert not Path(left["config"]).exists()
