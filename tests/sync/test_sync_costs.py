"""Costs of a page in statements, transactions and calls: independent of the number of records."""

from __future__ import annotations

from collections import Counter

import pytest
from tests.sync.conftest import MemoryTarget, World, error_result, person

MERGING = "INSERT INTO record_state (flow_id,"
"""Twenty states each, at the end of a run and whenever many have gathered."""


@pytest.fixture
async def world(world: World) -> World:
    """A world after its first run, with a target that accepts a page at once."""
    world.target = MemoryTarget(batch=1000)
    await world.run([[person("first")]])
    world.target.calls.clear()
    return world


async def count_statements(world: World, pages: int, size: int) -> Counter[str]:
    """Count the SQL statements, without values, of a run over `pages` pages of new records."""
    statements: list[str] = []
    world.log.clear_checkpoint("people")
    world.log._db.set_trace_callback(statements.append)
    result = await world.run([[person(f"{pages}-{size}-{page}-{n}") for n in range(size)] for page in range(pages)])
    world.log._db.set_trace_callback(None)
    assert result.row.read == size * pages
    return Counter(start for text in statements if (start := " ".join(text.split()[:4])) != MERGING)


async def test_page_of_a_thousand_records_needs_as_many_statements_as_one_of_ten(world: World) -> None:
    assert await count_statements(world, 5, 10) == await count_statements(world, 5, 1000)


async def test_additional_page_is_one_transaction_and_one_call(world: World) -> None:
    five = await count_statements(world, 5, 10)
    assert len(world.target.calls) == 5
    ten = await count_statements(world, 10, 10)
    assert len(world.target.calls) == 5 + 10
    assert ten["COMMIT"] - five["COMMIT"] == 5


async def test_failed_records_are_committed_in_the_transaction_of_their_page(world: World) -> None:
    well = await count_statements(world, 5, 10)
    world.target.behaviour = lambda *_: error_result(status=422)
    failing = await count_statements(world, 5, 20)
    assert failing["COMMIT"] == well["COMMIT"]
    assert failing["INSERT INTO failure (id,"] == 5 * 20
