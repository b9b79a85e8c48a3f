"""Runs killed with `kill -9` at random moments while both systems misbehave; the long version is `make torture`."""

from __future__ import annotations

from pathlib import Path
from random import Random

import pytest
from tests.proof.torture import ROUTES, Route, torment


@pytest.mark.parametrize("route", ROUTES, ids=lambda route: route.name)
def test_a_run_killed_at_random_moments_loses_nothing_and_doubles_nothing(route: Route, tmp_path: Path) -> None:
    seed = Random().randrange(1_000_000)
    print(f"seed {seed}")  # noqa: T201 - shown where the test fails
    tally = torment(tmp_path, route, kills=2, seed=seed, people=200)
    assert tally.kills == 2
