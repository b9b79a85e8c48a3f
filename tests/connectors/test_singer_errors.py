"""The log of a tap, and errors of taps that fail or violate the specification."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from tests.connectors.conftest import Reports, read_all, read_to_failure
from tests.connectors.taps import SECRET, Taps, cursor, ends, numbers, settings, starts, state_after

from speclab.connectors.check import check_connection
from speclab.core.errors import BadResponse, Unauthorized, Unreachable
from speclab.spec.auth import NoAuth
from speclab.spec.integration import Endpoint

pytestmark = pytest.mark.usefixtures("singer_files")


async def test_log_of_a_tap_is_reported_with_level_and_redacted(tap: Taps, reports: Reports) -> None:
    logged = [
        f"INFO starting with {SECRET}",
        "2026-11-24 07:55:10,123 | WARNING  | tap-x.people | slow \x1b[31mred\x1b[0m",
        f"a line that belongs to it: {json.dumps(SECRET)}",
        "DEBUG not told",
        "2026-11-24T07:55:10.123456Z [error    ] no such page",
        'INFO METRIC: {"type": "counter", "value": 3}',
        "the key is MIIEpAIBAAKCAQEA",
        "Traceback (most recent call last):",
        '  File "x.py", line 1',
        "",
    ]
    do: list[Any] = [{"log": line} for line in logged]
    await read_all(tap(do, config={"token": "${env:SECRET}", "key": "${env:KEY}"}))
    assert reports.lines == [
        "info: tap.py: starting with ***",
        "warning: tap.py: slow red",
        'warning: tap.py: a line that belongs to it: "***"',
        "error: tap.py: no such page",
        'info: tap.py: METRIC: {"type": "counter", "value": 3}',
        "info: tap.py: the key is ***",
        "error: tap.py: Traceback (most recent call last):",
        'error: tap.py:   File "x.py", line 1',
    ]


async def test_flood_of_log_lines_is_limited_and_so_is_a_line(tap: Taps, reports: Reports) -> None:
    await read_all(tap([{"log": "INFO " + "long " * 100_000}, *({"log": f"INFO {n}"} for n in range(600))]))
    assert len(reports.lines[0]) < 2100
    assert len(reports.lines) == 501
    assert reports.lines[-1].startswith("warning: ")


async def test_failing_tap_fails_the_read_after_its_records(tap: Taps) -> None:
    log = [f"INFO line {number}" for number in range(30)] + [
        f"CRITICAL gave up with {SECRET}",
        "Traceback (most recent call last):",
        "  File",
        "ValueError: no page 7",
    ]
    do: list[Any] = [{"count": [1, 15]}, *({"log": line} for line in log), {"raw": '{"type": "REC'}, {"exit": 3}]
    pages, error = await read_to_failure(tap(do, config={"token": "${env:SECRET}"}))
    assert numbers(pages) == list(range(1, 16))
    assert pages[-1].cursor == cursor(state_after(10), whole=True)
    assert not any(page.complete for page in pages)
    assert type(error) is BadResponse
    assert str(error).endswith("ended with exit code 3: ValueError: no page 7")
    assert len(error.response.splitlines()) == 20
    assert "gave up with ***" in error.response


async def test_killed_tap_fails_the_read_and_the_next_read_continues(tap: Taps) -> None:
    pages, error = await read_to_failure(tap([{"count": [1, 25]}, {"exit": -9}]))
    assert str(error) == "tap.py: ended by SIGKILL and said nothing"
    assert "memory" in error.hint
    rest = await read_all(tap([{"count": [1, 40]}]), pages[-1].cursor)
    assert set(numbers(pages)) | set(numbers(rest)) == set(range(1, 41))


@pytest.mark.parametrize(
    ("last", "kind"),
    [
        ("CRITICAL 401 Client Error: Unauthorized for url: https://crm.example.com", Unauthorized),
        ("requests.exceptions.ConnectionError: [Errno 111] Connection refused", Unreachable),
        ("ReadTimeout: Read timed out. (read timeout=30)", Unreachable),
        ("KeyError: 'id'", BadResponse),
    ],
)
async def test_last_log_line_of_a_tap_classifies_the_failure(last: str, kind: type, tap: Taps) -> None:
    _, error = await read_to_failure(tap([{"log": last}, {"exit": 1}]))
    assert type(error) is kind


async def test_invalid_line_is_reported_with_its_number(tap: Taps) -> None:
    do = [{"count": [1, 12]}, {"raw": f"Hello, {SECRET}!\n"}, {"count": [13, 20]}, "wait"]
    pages, error = await read_to_failure(tap(do, config={"token": "${env:SECRET}"}))
    assert numbers(pages) == list(range(1, 13))
    assert type(error) is BadResponse
    assert "line 14 of its output is not JSON" in str(error)
    assert error.response == "Hello, ***!"


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("[1]", "is not a message"),
        ('{"type": "RECORD", "stream": "people"}', "is a RECORD message without its `stream` and `record`"),
        ('{"type": "STATE"}', "is a STATE message without its `value`"),
        ('{"type": "BATCH", "stream": "people", "manifest": []}', "take `batch_config` out of `config`"),
    ],
)
async def test_invalid_message_is_rejected_with_a_reason(line: str, reason: str, tap: Taps) -> None:
    _, error = await read_to_failure(tap([{"raw": line + "\n"}]))
    assert reason in str(error)


async def test_line_above_the_limit_ends_the_read(tap: Taps) -> None:
    long: Any = {"say": {"type": "RECORD", "stream": "people", "record": {"id": 3, "name": "x" * 2_000_000}}}
    pages, error = await read_to_failure(tap([{"count": [1, 2]}, long, "wait"], limits={"response": "1MB"}))
    assert numbers(pages) == [1, 2]
    assert "of more than 1MB" in str(error)
    (page,) = await read_all(tap([long]))
    assert len(str(page.records[0]["name"])) == 2_000_000


async def test_check_of_a_tap_reads_its_first_page(tap: Taps, witness: Path) -> None:
    count: list[Any] = [{"count": [1, 10]}, "wait"]
    access = await check_connection(Endpoint("source", settings(count, witness), NoAuth()), tap.references, tap.context)
    assert (access.error, access.granted, access.request) == (None, True, "tap.py: people: 10 records")
    assert await ends(starts(witness)[0]["pid"])
    rejected: list[Any] = [{"log": "401 Client Error: Unauthorized"}, {"exit": 1}]
    access = await check_connection(Endpoint("source", settings(rejected), NoAuth()), tap.references, tap.context)
    assert type(access.error) is Unauthorized
