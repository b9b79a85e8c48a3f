"""Runs killed with `kill -9` at random moments between faulty systems; `make torture` is the long version."""

from __future__ import annotations

from pathlib import Path
from random import Random

import pytest
from tests.proof.torture import ROUTES, Route, torture


@pytest.mark.parametrize("route", ROUTES, ids=lambda route: route.name)
def test_killed_runs_lose_and_duplicate_nothing(route: Route, tmp_path: Path) -> None:
    seed = Random().randrange(1_000_000)
    print(f"seed {seed}")  # noqa: T201 - shown if the test fails
    tally = torture(tmp_path, route, kills=2, seed=seed, people=200)
    assert tally.kills == 2
