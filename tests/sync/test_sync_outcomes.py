"""For any source and any target behaviour, every record has one outcome and none is lost."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.sync.conftest import MemoryTarget, World, error_result, expected_row, person

from speclab.connectors.api import MappedRecord, WriteResult
from speclab.core.json import Record
from speclab.core.outcome import ErrorClass, FailureState, Outcome, RunState
from speclab.runlog import RunRow

SKIPPED = error_result(status=418)  # the spec skips it
MOODS: Sequence[WriteResult | None] = [
    None,
    None,
    None,
    error_result(status=422),
    error_result(status=422, field="age"),
    SKIPPED,
    error_result(ErrorClass.CONFLICT, 409),
    error_result(ErrorClass.SERVER, 500),
    error_result(ErrorClass.SERVER, 503, retry_after=3),
    error_result(ErrorClass.SERVER, 503, retry_after=300),
    error_result(ErrorClass.SERVER, 504),
    error_result(ErrorClass.TIMEOUT),
    error_result(ErrorClass.NETWORK, sent=False),
    error_result(ErrorClass.BAD_ANSWER, 200),
    error_result(ErrorClass.RATE_LIMIT, 429, retry_after=1),
    error_result(ErrorClass.RATE_LIMIT, 429, retry_after=1000),
    error_result(ErrorClass.UNAUTHORIZED, 401),
    error_result(status=402),  # the spec stops for it
]

people = st.builds(
    person,
    st.sampled_from(["a", "b", "c", "d", "e", 6, None, ""]),
    st.sampled_from(["Ada", " Bea"]),
    st.sampled_from(["1", "2", "3", "-1", "old"]),
    test=st.sampled_from([False, False, False, True]),
)
sources = st.lists(st.lists(people, max_size=8), min_size=1, max_size=4)


@dataclass(frozen=True)
class Temper:
    """The behaviour of a target: its results by chance, and how it accepts batches."""

    seed: int
    moods: tuple[int, ...]
    batch: int
    whole: bool
    idempotent: bool

    def target(self) -> MemoryTarget:
        """Return a target in which the same attempt of the same record always has the same result."""

        def behaviour(item: MappedRecord, nth: int) -> WriteResult | None:
            chance = random.Random(f"{self.seed}/{item.key}/{item.payload['age']}/{nth}")
            return MOODS[chance.choice(self.moods)]

        return MemoryTarget(behaviour, batch=self.batch, whole=self.whole, idempotent=self.idempotent)


tempers = st.builds(
    Temper,
    st.integers(0, 1000),
    st.lists(st.sampled_from(range(len(MOODS))), min_size=1, max_size=6).map(lambda moods: (0, 0, *moods)),
    st.integers(1, 9),
    st.booleans(),
    st.booleans(),
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(sources, tempers)
def test_every_record_has_one_outcome_and_the_latest_version_of_each_key_is_kept(
    pages: list[list[Record]], temper: Temper
) -> None:
    with TemporaryDirectory() as directory, pytest.MonkeyPatch.context() as patch:
        world = World(Path(directory), patch)
        with world.log:
            asyncio.run(_runs(world, pages, temper))


async def _runs(world: World, pages: list[list[Record]], temper: Temper) -> None:
    world.target = temper.target()
    rows = [(await world.run(pages)).row]
    for behaviour in (world.target.behaviour, lambda *_: None):
        world.clock.passed += 1000
        rows.append((await world.run(None, behaviour)).row)
    for row in rows:
        assert_balanced(row)
    assert rows[-1].state in (RunState.SUCCEEDED, RunState.PARTIAL)
    assert rows[-1].waiting == 0
    assert world.log.get_cursor("people") == len(pages)

    with world.reader as reader:
        failures = {failure.key: failure for failure in reader.failures(full=True, limit=1000)}
    last = {str(record["id"]): record for page in pages for record in page if record["id"]}
    for key, record in last.items():
        arrives = record["test"] is False and str(record["age"]).isdigit()
        if key in failures:
            assert failures[key].source == record
            assert failures[key].state in (FailureState.DEAD, FailureState.UNKNOWN)
        elif arrives and not may_skip(temper):
            assert world.target.content[key] == expected_row(record)
    keyless = {str(sorted(record.items())) for page in pages for record in page if not record["id"]}
    assert sum(key.startswith("#") for key in failures) == len(keyless)


def assert_balanced(row: RunRow) -> None:
    assert row.read == sum(getattr(row, outcome) for outcome in Outcome)
    assert row.written == row.created + row.updated + row.deleted
    assert "balance" not in (row.error or "")


def may_skip(temper: Temper) -> bool:
    return any(MOODS[mood] is SKIPPED for mood in temper.moods)
