"""A third-party tap and target from PyPI: tap-rest-api-msdk (built with Meltano's SDK) and target-jsonl.

Each has a separate environment, created by `make setup`, because its dependencies conflict with speclab's.
"""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path
from random import Random
from typing import Any

import pytest
from tests.proof.conftest import BY_CURSOR, TO_SQLITE, Job, expected_rows, make_people, rows_of

from speclab.connectors.api import RuntimeContext
from speclab.connectors.check import discover_schema
from speclab.connectors.secrets.references import References
from speclab.core.clock import SystemClock
from speclab.core.errors import BadResponse, Unauthorized, Unreachable
from speclab.core.outcome import RunState
from speclab.spec.document import Document
from speclab.spec.parser import read_endpoint

PEOPLE = make_people(250)
TYPES = {name: {"type": "string"} for name in ("id", "name", "age", "updated")} | {"test": {"type": "boolean"}}
TOKEN = "a-t0ken-of-ours"


def program(name: str) -> str:
    """Return the path of a Singer program; without it, skip the test, or fail it where services are required."""
    path = Path(sys.prefix) / "singer" / name / "bin" / name
    if not path.exists():
        reason = f"{path} is not there; `make setup` installs it"
        if os.environ.get("SPECLAB_REQUIRE_SERVICES"):
            pytest.fail(reason)
        pytest.skip(reason)
    return str(path)


def from_tap(catalog: str | None = None, **stream: Any) -> str:
    """The people of the source, read by the tap: cursor pages, and only changes after the first run."""
    people = {
        "name": "people",
        "path": "/people",
        "records_path": "$.data[*]",
        "primary_keys": ["id"],
        "replication_key": "updated",
        "source_search_field": "since",
        "source_search_query": "$last_run_date",
        "schema": {"properties": TYPES},
    }
    config = {
        "api_url": "${env:SYSTEMS}",
        "headers": {"Authorization": "Bearer ${env:TOKEN}"},
        "next_page_token_path": "$.next",
        "pagination_next_page_param": "cursor",
        "start_date": "2026-01-01T00:00:00Z",
        "streams": [people | stream],
    }
    system = {"connector": "singer", "command": program("tap-rest-api-msdk"), "stream": "people", "key": "id"}
    return json.dumps(system | {"config": config, "catalog": catalog}, indent=1)


def to_target(directory: Path, **more: Any) -> str:
    """A target that appends to `people.jsonl`."""
    config = {"destination_path": str(directory), "do_timestamp_file": False}
    system = {"connector": "singer", "command": program("target-jsonl"), "stream": "people", "key": "id"}
    return json.dumps(system | {"config": config} | more, indent=1)


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()]


@pytest.fixture
def tapped(job: Job) -> Job:
    job.environ = {"TOKEN": TOKEN}
    job.write(from_tap(), TO_SQLITE)
    job.systems(people=PEOPLE, size=60, token=TOKEN)
    return job


async def test_tap_delivers_all_records_and_then_changes(tapped: Job) -> None:
    first = await tapped.run()
    assert (first.error, first.row.read) == (None, len(PEOPLE))
    assert rows_of(tapped.directory / "target.db") == expected_rows(PEOPLE)
    mark = PEOPLE[-1]["updated"]
    bookmark = {"replication_key": "updated", "replication_key_value": mark}
    assert first.row.cursor == {"of": "tap-rest-api-msdk: people", "state": {"bookmarks": {"people": bookmark}}}
    tapped.systems.take_requests()
    changed = [*PEOPLE[:-2], PEOPLE[-2] | {"name": "Grace", "updated": "2026-03-02T00:00:00Z"}, PEOPLE[-1]]
    tapped.systems(people=changed, size=60, token=TOKEN)
    second = await tapped.run()
    assert (second.row.read, second.row.written, second.row.unchanged) == (2, 1, 1)
    assert rows_of(tapped.directory / "target.db") == expected_rows(changed)
    assert any(f"since={mark.replace(':', '%3A')}" in requested for requested in tapped.systems.take_requests())


async def test_rejected_login_of_a_tap_is_reported_without_the_secret(tapped: Job) -> None:
    tapped.write(from_tap(catalog="none"), TO_SQLITE)
    tapped.systems(people=PEOPLE, token="another")
    result = await tapped.run()
    assert type(result.error) is Unauthorized
    assert "401" in str(result.row.error)
    assert result.row.state is RunState.FAILED
    assert TOKEN.encode() not in tapped.log.read_bytes()
    assert TOKEN not in "".join(tapped.reported)


async def test_invalid_tap_config_is_reported_in_the_words_of_the_tap(tapped: Job) -> None:
    tapped.write(from_tap(records_path=7), TO_SQLITE)
    result = await tapped.run()
    assert type(result.error) is BadResponse
    assert str(result.row.error).endswith(
        "ended with exit code 1: Config validation error: 7 is not of type 'string', 'null'"
    )


async def test_fields_of_a_tap_stream_come_from_its_discovery(tapped: Job) -> None:
    context = RuntimeContext(SystemClock(), Random(0))
    properties = {"id": {"type": "string"}, "age": {"type": ["integer", "null"]}}
    tapped.write(from_tap(schema={"properties": properties}), TO_SQLITE)
    end = read_endpoint(Document.load(tapped.spec), "source")
    references = References({"SYSTEMS": tapped.systems.url, "TOKEN": TOKEN}, tapped.directory)
    found = await discover_schema(end, references, context)
    assert [(str(field.path), field.declared) for field in found.fields] == [("id", "string"), ("age", "integer")]


async def test_run_killed_while_a_tap_reads_loses_nothing(tapped: Job) -> None:
    tapped.write(from_tap(catalog="none"), TO_SQLITE)
    tapped.systems(people=PEOPLE, size=20, pause=0.1, token=TOKEN)
    with tapped.start() as process:
        _wait_for_requests(tapped, 4)
        process.kill()
    tapped.systems(people=PEOPLE, size=60, token=TOKEN)
    result = await tapped.run()
    assert result.error is None
    assert rows_of(tapped.directory / "target.db") == expected_rows(PEOPLE)


def _wait_for_requests(job: Job, count: int) -> None:
    seen, deadline = 0, time.monotonic() + 60
    while seen < count:
        seen += len(job.systems.take_requests())
        assert time.monotonic() < deadline


async def test_target_receives_and_keeps_all_records(job: Job) -> None:
    job.write(BY_CURSOR, to_target(job.directory, size=100))
    job.systems(people=PEOPLE, size=90)
    first, second = await job.run(), await job.run()
    assert first.error is None
    assert first.row.written == second.row.unchanged == len(expected_rows(PEOPLE))
    kept = lines(job.directory / "people.jsonl")
    assert sorted(kept, key=lambda row: str(row["id"])) == expected_rows(PEOPLE)


async def test_target_that_cannot_write_ends_the_run_without_dead_letters(job: Job) -> None:
    (job.directory / "file").write_text("")
    job.write(BY_CURSOR, to_target(job.directory / "file"))
    job.systems(people=PEOPLE)
    result = await job.run()
    assert type(result.error) is Unreachable
    assert "FileExistsError: [Errno 17]" in str(result.row.error)
    assert result.row.written == 0
    (job.directory / "file").unlink()
    assert (await job.run()).row.written == len(expected_rows(PEOPLE))


async def test_tap_and_target_work_together(tapped: Job) -> None:
    tapped.write(from_tap(catalog="none"), to_target(tapped.directory))
    assert (await tapped.run()).row.written == len(expected_rows(PEOPLE))
    assert len(lines(tapped.directory / "people.jsonl")) == len(expected_rows(PEOPLE))
