"""Whatever a source holds and however a target behaves, every record is accounted for, and none is lost."""

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
from tests.sync.conftest import MemoryTarget, World, mapped, no, person

from speclab.connectors.api import MappedRecord, WriteResult
from speclab.core.json import Record
from speclab.core.outcome import ErrorClass, FailureState, Outcome, RunState
from speclab.runlog import RunRow

SKIPPED = no(status=418)  # so says the spec
MOODS: Sequence[WriteResult | None] = [
    None,
    None,
    None,
    no(status=422),
    no(status=422, field="age"),
    SKIPPED,
    no(ErrorClass.CONFLICT, 409),
    no(ErrorClass.SERVER, 500),
    no(ErrorClass.SERVER, 503, retry_after=3),
    no(ErrorClass.SERVER, 503, retry_after=300),
    no(ErrorClass.SERVER, 504),
    no(ErrorClass.TIMEOUT),
    no(ErrorClass.NETWORK, sent=False),
    no(ErrorClass.BAD_ANSWER, 200),
    no(ErrorClass.RATE_LIMIT, 429, retry_after=1),
    no(ErrorClass.RATE_LIMIT, 429, retry_after=1000),
    no(ErrorClass.UNAUTHORIZED, 401),
    no(status=402),  # the spec says stop
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
    """A target's behaviour: how often it is in no mood, which moods it has, and how it takes batches."""

    seed: int
    moods: tuple[int, ...]
    batch: int
    whole: bool
    idempotent: bool

    def target(self) -> MemoryTarget:
        """A target of this temper, in which the same item at the same try is answered alike."""

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
def test_every_record_has_one_outcome_and_the_last_word_on_each_key_is_kept(
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
            assert world.target.content[key] == mapped(record)
    keyless = {str(sorted(record.items())) for page in pages for record in page if not record["id"]}
    assert sum(key.startswith("#") for key in failures) == len(keyless)


def assert_balanced(row: RunRow) -> None:
    assert row.read == sum(getattr(row, outcome) for outcome in Outcome)
    assert row.written == row.created + row.updated + row.deleted
    assert "balance" not in (row.error or "")


def may_skip(temper: Temper) -> bool:
    return any(MOODS[mood] is SKIPPED for mood in temper.moods)
