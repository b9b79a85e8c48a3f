from __future__ import annotations

import json
import shlex
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from tests.connectors.conftest import Reports, item

from speclab.connectors.api import RuntimeContext, WriteError, WriteResult
from speclab.connectors.secrets.references import References
from speclab.connectors.singer.settings import SingerSystem
from speclab.connectors.singer.writer import SingerWriter, check_target
from speclab.core.errors import BadResponse, EndpointError, SpecError, Unauthorized, Unreachable
from speclab.core.json import Json
from speclab.core.outcome import Effect, ErrorClass
from speclab.core.paths import FieldPath
from speclab.mapping.fields import Field
from speclab.mapping.types import ValueKind
from speclab.spec.auth import NoAuth
from speclab.spec.settings import RetrySettings
from speclab.sync.delivery import bisect
from speclab.sync.retry_policy import may_be_applied

pytestmark = pytest.mark.usefixtures("singer_files")

TARGET = shlex.join([sys.executable, str(Path(__file__).parent / "singer_programs" / "target.py")])
Open = Callable[..., SingerWriter]
SECRET = "p4ssword"


@pytest.fixture
def references(tmp_path: Path) -> References:
    return References({"SECRET": SECRET}, tmp_path)


@pytest.fixture
def settings(tmp_path: Path) -> Callable[..., SingerSystem]:
    def made(config: dict[str, Json] | None = None, **more: Json) -> SingerSystem:
        files: dict[str, Json] = {"out": str(tmp_path / "out"), "schemas": str(tmp_path / "schemas")}
        given: dict[str, Json] = {"connector": "singer", "command": TARGET, "stream": "people", "key": "id"}
        return SingerSystem.model_validate(
            given | {"config": {**files, "password": "${env:SECRET}", **(config or {})}} | more
        )

    return made


@pytest.fixture
def target(settings: Callable[..., SingerSystem], references: References, context: RuntimeContext) -> Open:
    def opened(config: dict[str, Json] | None = None, **more: Json) -> SingerWriter:
        return SingerWriter(settings(config, **more), NoAuth(), references, context, RetrySettings())

    return opened


def kept(tmp_path: Path) -> list[Any]:
    return [json.loads(line) for line in (tmp_path / "out").read_text().splitlines()]


def schemas(tmp_path: Path) -> list[Any]:
    return [json.loads(line)["schema"]["properties"] for line in (tmp_path / "schemas").read_text().splitlines()]


def shared_error(results: Sequence[WriteResult]) -> WriteError:
    """Return the one error that all results have."""
    assert len({id(result.error) for result in results}) == 1
    assert results[0].error is not None
    return results[0].error


async def test_batch_is_written_when_the_target_exits_successfully(
    target: Open, tmp_path: Path, reports: Reports
) -> None:
    writer = target()
    results = await writer.write([item("a", name="Ada"), item("b", name="Ben")])
    assert [result.effect for result in results] == [Effect.WRITTEN, Effect.WRITTEN]
    assert results[0].bytes_out > 50
    await writer.write([item("a", name="Ann")])
    await writer.close()
    assert kept(tmp_path) == [{"id": "a", "name": "Ann"}, {"id": "b", "name": "Ben"}]
    assert reports.lines == ["info: target.py: wrote with ***"] * 2


async def test_schema_comes_from_the_mapping_or_else_from_records(target: Open, tmp_path: Path) -> None:
    writer = target()
    kinds = {
        "id": ValueKind.TEXT,
        "age": ValueKind.INTEGER,
        "born": ValueKind.DATE,
        "seen": ValueKind.DATETIME,
        "price": ValueKind.DECIMAL,
    }
    kinds |= {"any": ValueKind.ANY, "home.city": ValueKind.ANY_TEXT, "lines[0].sku": ValueKind.TEXT}
    writer.declare_fields([Field(FieldPath.parse(path), kind) for path, kind in kinds.items()])
    await writer.write([item("a", name="Ada", any=3, none=None, home={"zip": "1"}, lines=[{"sku": "x"}], flag=True)])
    await writer.write([item("a", name="Ada", any=3.5, none=[1], note=None)])
    first, second = schemas(tmp_path)
    assert first == {
        "id": {"type": ["string"]},
        "name": {"type": ["string", "null"]},
        "any": {"type": ["integer", "null"]},
        "none": {"type": ["string", "null"]},
        "home": {
            "type": ["object", "null"],
            "properties": {"zip": {"type": ["string", "null"]}, "city": {"type": ["string", "null"]}},
        },
        "lines": {"type": ["array", "null"]},
        "flag": {"type": ["boolean", "null"]},
        "age": {"type": ["integer", "null"]},
        "born": {"type": ["string", "null"], "format": "date"},
        "seen": {"type": ["string", "null"], "format": "date-time"},
        "price": {"type": ["number", "null"]},
    }
    changed = {"any": {"type": ["number", "null"]}, "none": {"type": ["array", "null"]}}
    assert second == first | changed | {"note": {"type": ["string", "null"]}}


async def test_batch_with_a_bad_record_fails_as_a_whole_and_is_bisected(target: Open, tmp_path: Path) -> None:
    people = [item(str(number), name=f"n{number}", age=number) for number in range(16)]
    people[5] = item("5", name="n5", age="old")
    writer = target()
    write_error = shared_error(await writer.write(people))
    assert (write_error.error_class, write_error.field, write_error.status) == (ErrorClass.REJECTED, "age", None)
    assert write_error.message == (
        "target.py: ended with exit code 1: jsonschema.exceptions.ValidationError: 'old' is not of type 'integer'"
    )
    assert write_error.request == "target.py: 16 records of people"
    assert "On instance['age']:" in write_error.response
    results = await bisect(writer.write, people, lambda _: True)
    assert [result.effect is None for result in results] == [number == 5 for number in range(16)]
    assert len(kept(tmp_path)) == 15


async def test_rejected_value_is_not_an_environment_failure(target: Open) -> None:
    write_error = shared_error(await target().write([item("a", name="Ada", age="timed out: [Errno 28]")]))
    assert (write_error.error_class, write_error.field) == (ErrorClass.REJECTED, "age")


async def test_failed_batch_of_an_appending_target_has_unknown_outcome(target: Open) -> None:
    people = [item("a", name="Ada"), item("b", name="Ben")]
    writer = target({"refuses": "Ben"}, mode="append")
    assert not writer.idempotent
    write_error = shared_error(await writer.write(people))
    assert may_be_applied(write_error)
    assert write_error.message == "target.py: ended with exit code 1 and said nothing"
    assert (await writer.write([item("c", name="Cy")]))[0].effect is Effect.WRITTEN
    upserting = target({"refuses": "Ben"})
    assert upserting.idempotent
    assert not may_be_applied(shared_error(await upserting.write(people)))


async def test_appending_target_that_cannot_start_leaves_no_unknown_outcome(target: Open) -> None:
    with pytest.raises(BadResponse, match="KeyError: 'host'"):
        await target({"how": "die", "dies": "KeyError: 'host'"}, mode="append").write([item("a", name="Ada")])


async def test_appending_target_with_environment_failure_gets_no_more_batches(target: Open) -> None:
    writer = target({"refuses": "Ada", "words": "OSError: [Errno 28] No space left on device"}, mode="append")
    assert may_be_applied(shared_error(await writer.write([item("a", name="Ada"), item("b", name="Ben")])))
    with pytest.raises(Unreachable, match="No space left"):
        await writer.write([item("c", name="Cy")])


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("KeyError: 'host'", BadResponse),
        ("PermissionError: [Errno 13] Permission denied: '/out'", Unreachable),
        ("could not extend file: No space left on device", Unreachable),
        ("403 Client Error: Forbidden for url", Unauthorized),
    ],
)
async def test_target_that_rejects_everything_ends_the_run(text: str, error: type, target: Open) -> None:
    with pytest.raises(error, match="ended with exit code 1: ") as raised:
        await target({"how": "die", "dies": text}).write([item("a", name="Ada")])
    assert isinstance(raised.value, EndpointError)
    assert raised.value.response == text


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("psycopg2.OperationalError: connection to server failed: Connection refused", ErrorClass.NETWORK),
        ("ReadTimeout: timed out", ErrorClass.TIMEOUT),
    ],
)
async def test_unreachable_target_is_reported(text: str, kind: ErrorClass, target: Open) -> None:
    results = await target({"how": "die", "dies": text}).write([item("a", name="Ada"), item("b", name="Ben")])
    assert shared_error(results).error_class is kind


async def test_target_that_ends_before_it_has_read_everything_has_not_written(target: Open) -> None:
    people = [item(str(number), name="x" * 1000) for number in range(1000)]
    write_error = shared_error(await target({"how": "deaf"}).write(people))
    assert write_error.error_class is ErrorClass.BAD_ANSWER
    assert may_be_applied(write_error)
    assert "before it had read all" in write_error.message


async def test_target_without_state_is_trusted_and_reported_once(target: Open, reports: Reports) -> None:
    writer = target({"how": "mute"})
    for _ in range(2):
        assert [result.effect for result in await writer.write([item("a", name="Ada")])] == [Effect.WRITTEN]
    assert sum("emits no STATE" in line for line in reports.lines) == 1


async def test_target_that_stops_emitting_state_is_not_trusted(target: Open) -> None:
    writer = target({"mutes": "Ben"})
    assert (await writer.write([item("a", name="Ada")]))[0].effect is Effect.WRITTEN
    write_error = shared_error(await writer.write([item("b", name="Ben"), item("c", name="Cy")]))
    assert may_be_applied(write_error)
    assert "did not give back the STATE" in write_error.message


async def test_hanging_target_is_killed_and_its_batch_has_unknown_outcome(target: Open) -> None:
    people = [item(str(number), name="x" * 1000) for number in range(1000)]
    write_error = shared_error(await target({"how": "hang"}, limits={"timeout": "300ms"}).write(people))
    assert write_error.error_class is ErrorClass.TIMEOUT
    assert may_be_applied(write_error)


async def test_record_without_a_key_fails_alone(target: Open, tmp_path: Path) -> None:
    first, second = await target(key=["id", "name"]).write([item("a", name=None), item("b", name="Ben")])
    assert first.error is not None
    assert (first.error.field, first.error.sent) == ("name", False)
    assert second.effect is Effect.WRITTEN
    assert kept(tmp_path) == [{"id": "b", "name": "Ben"}]


async def test_nested_key_is_not_supported_by_targets(target: Open) -> None:
    with pytest.raises(SpecError, match=r"person\.id is within one"):
        target(key="person.id")


async def test_check_of_a_target_writes_nothing(
    settings: Callable[..., SingerSystem], references: References, context: RuntimeContext, tmp_path: Path
) -> None:
    arguments = (NoAuth(), references, context, RetrySettings())
    assert "starts with this config" in await check_target(settings(), *arguments)
    assert not (tmp_path / "out").exists()
    with pytest.raises(Unauthorized):
        await check_target(settings({"how": "die", "dies": "401 Unauthorized"}), *arguments)
    with pytest.raises(BadResponse, match="KeyError"):
        await check_target(settings({"how": "die", "dies": "KeyError: 'host'"}), *arguments)
