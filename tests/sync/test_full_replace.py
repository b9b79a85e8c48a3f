from __future__ import annotations

from dataclasses import dataclass

from tests.sync.conftest import MemorySource, MemoryTarget, World, counts, error_result, person

from speclab.core.errors import Unreachable
from speclab.core.json import Record
from speclab.core.outcome import ErrorClass, RunState
from speclab.sync.run import RunOptions


@dataclass
class Report(MemoryTarget):
    """A target that contains exactly the records of one run."""

    published: dict[str, Record] | None = None

    async def begin(self) -> None:
        self.content = {}

    async def finish(self) -> None:
        self.published, self.content = self.content, {}


async def test_full_replace_gets_unchanged_records_and_finishes_after_the_last_retry(world: World) -> None:
    report = world.target = Report(
        behaviour=lambda item, n: error_result(ErrorClass.SERVER, 503) if item.key == "b" and n == 1 else None
    )
    for _ in range(2):
        result = await world.run([[person("a"), person("b")], [person("c")]])
        assert (result.row.state, counts(result.row)) == (RunState.SUCCEEDED, {"written": 3})
        assert report.published is not None
        assert sorted(report.published) == ["a", "b", "c"]


async def test_run_that_does_not_read_all_of_its_source_does_not_finish_the_replacement(world: World) -> None:
    published = []
    report = world.target = Report()
    await world.run([[person("a")], [person("b")]], options=RunOptions(limit=1))
    published.append(report.published)
    world.source.fails_at, world.source.error = 1, Unreachable("gone")
    await world.run()
    published.append(report.published)
    world.source.fails_at = None
    await world.run()
    published.append(report.published)
    assert [sorted(found or {}) for found in published] == [[], [], ["a", "b"]]


async def test_restarted_read_discards_the_records_of_the_interrupted_one(world: World) -> None:
    report = world.target = Report()
    world.source = MemorySource([[person("a")], [person("b")]], fails_at=1, error=Unreachable("gone"))
    await world.run()
    assert sorted(report.content) == ["a"]
    await world.run([[person("b")], [person("c")]], options=RunOptions(full=True))
    assert sorted(report.published or {}) == ["b", "c"]
