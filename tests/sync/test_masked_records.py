"""Masked records: a retry sends the real values, and a record whose values are gone stays a dead letter."""

from __future__ import annotations

import pytest
from tests.sync.conftest import World, counts, error_result, person

from speclab.connectors.api import MappedRecord, WriteResult
from speclab.core.masking import MASKED
from speclab.core.outcome import ErrorClass, RunState
from speclab.runlog.private import private_path
from speclab.sync.prepare import prepare, send_events
from speclab.sync.run import RunOptions

LOGGING = "\n## Monitoring & Alerting\n\n### Logging\n\n```yaml\n{}\n```\n"
IMPATIENT = RunOptions(wait_budget=0)


@pytest.fixture
def world(world: World) -> World:
    row = "| source.name | target.name | Trim | |\n"
    world.edit(row, f"{row}| source.token | target.token | Direct | |\n")
    return world


def down(_record: MappedRecord, _attempt: int) -> WriteResult | None:
    return error_result(ErrorClass.SERVER, 503)


def up(_record: MappedRecord, _attempt: int) -> WriteResult | None:
    return None


async def test_retry_in_a_later_run_sends_the_masked_values(world: World) -> None:
    await world.run([[person("a", token="t-secret")]], down, IMPATIENT)
    with world.reader as reader:
        (failure,) = reader.failures(full=True)
    assert failure.source is not None
    assert failure.payload is not None
    assert (failure.source["token"], failure.payload["token"]) == (MASKED, MASKED)
    world.clock.turn(60)
    result = await world.run(behaviour=up, options=RunOptions(retries=True))
    assert (result.row.state, world.target.content["a"]["token"]) == (RunState.SUCCEEDED, "t-secret")
    assert b"t-secret" not in private_path(world.log.path).read_bytes()


async def test_record_without_its_masked_values_is_a_dead_letter_until_it_is_read_again(world: World) -> None:
    await world.run([[person("a", token="t-secret")]], down, IMPATIENT)
    private_path(world.log.path).unlink()
    world.clock.turn(60)
    for _ in range(2):
        result = await world.run(behaviour=up, options=RunOptions(retries=True))
        with world.reader as reader:
            (failure,) = reader.failures()
        world.log.requeue([failure.id])
    assert counts(result.row) == {"dead": 1}
    assert failure.message == (
        "503 server (not sent: values of the record are masked in the run log and not kept elsewhere; "
        "`speclab run --full` reads it)"
    )
    assert world.target.content == {}
    result = await world.run(options=RunOptions(full=True))
    assert world.target.content["a"]["token"] == "t-secret"
    assert set(world.failures().values()) <= {"resolved", "superseded"}


async def test_spec_selects_the_stored_fields(world: World) -> None:
    world.spec.write_text(world.spec.read_text() + LOGGING.format("fields: {token: store, name: hash}"))
    await world.run([[person("a", token="t-secret")]], down, IMPATIENT)
    with world.reader as reader:
        (failure,) = reader.failures(full=True)
    assert failure.source is not None
    assert failure.source["token"] == "t-secret"
    assert str(failure.source["name"]).startswith("***hashed:")


async def test_events_of_a_run_go_to_the_destination_of_the_spec(world: World) -> None:
    world.spec.write_text(world.spec.read_text() + LOGGING.format("destination: file\nlevel: warning"))
    send_events(world.log, prepare(world.spec))
    await world.run([[person("a", age="x")]])
    lines = (world.directory / ".speclab" / "logs" / "people.log").read_text().splitlines()
    assert lines
    assert all(" warning people: " in line for line in lines)
