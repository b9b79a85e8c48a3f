"""Singer settings: invalid values, and changes of the destination."""

from __future__ import annotations

import pytest
from tests.spec.test_settings_models import render, system

from speclab.connectors.singer.settings import SingerSystem

TAP = "connector: singer\nstream: people\nkey: id\n"


@pytest.mark.parametrize(
    ("yaml", "expected"),
    [
        (
            TAP + "command: tap-x 'one\n",
            '6:10 S203 `command`: "tap-x \'one" cannot be split into arguments: No closing quotation',
        ),
        (
            TAP + "command: ' '\n",
            "6:10 S203 `command`: expected a program such as tap-rest-api-msdk, and its own arguments if it takes any",
        ),
        (
            TAP + "command: tap-x\nreplication: {method: incremental}\n",
            "7:15 S205 `key`, the replication key, is for the method incremental",
        ),
        (
            TAP + "command: tap-x\nreplication: {method: full_table, key: updated}\n",
            "7:15 S205 `key`, the replication key, is for the method incremental",
        ),
        (
            TAP + "command: tap-x\nlimits: {rate: 100/min}\n",
            "7:10 S202 unknown setting 'rate' in `limits`; expected one of 'timeout', 'response'",
        ),
    ],
)
def test_invalid_singer_settings_are_reported_at_their_location(yaml: str, expected: str) -> None:
    _, problems = system(yaml)
    assert render(problems) == [expected]


def location(**settings: object) -> str:
    given = {"connector": "singer", "command": "target-x", "stream": "people", "key": "id"}
    return SingerSystem.model_validate(given | settings).destination()


def test_changed_secret_keeps_the_destination() -> None:
    first = location(config={"host": "a", "password": "1", "api-key": "1"}, size=10)
    assert first == location(config={"host": "a", "password": "2", "api-key": "2"}, size=99)


def test_changed_config_stream_or_program_changes_the_destination() -> None:
    places = [
        location(config={"host": "a"}),
        location(config={"host": "b"}),
        location(config={"host": "a"}, stream="orders"),
        location(config={"host": "a"}, command="target-y"),
    ]
    assert len(set(places)) == len(places)
