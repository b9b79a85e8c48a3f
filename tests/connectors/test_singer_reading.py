"""Reads of a tap: its records in pages, and its STATE as the cursor of the next read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from tests.connectors.conftest import Reports, read_all, read_to_failure
from tests.connectors.taps import Taps, cursor, numbers, starts, state_after

from speclab.core.json import Json

pytestmark = pytest.mark.usefixtures("singer_files")


async def test_records_of_a_stream_are_read_and_the_last_state_is_the_next_cursor(tap: Taps, witness: Path) -> None:
    pages = await read_all(tap([{"count": [1, 2345]}], witness))
    assert numbers(pages) == list(range(1, 2346))
    assert [page.complete for page in pages] == [False] * (len(pages) - 1) + [True]
    assert {page.from_start for page in pages} == {True}
    assert max(len(page.records) for page in pages) <= 1000
    assert pages[-1].cursor == cursor(state_after(2340))
    assert sum(page.bytes_in for page in pages) > 2345 * 70
    assert starts(witness)[0]["state"] is None
    again = await read_all(tap([{"count": [1, 2350]}], witness), pages[-1].cursor)
    assert numbers(again) == list(range(2340, 2351))
    assert starts(witness)[1]["state"] == state_after(2340)
    assert not again[0].from_start
    assert not again[0].whole


async def test_read_continued_from_any_page_skips_nothing(tap: Taps) -> None:
    all_numbers = list(range(1, 3001))
    pages = await read_all(tap([{"count": [1, 3000]}]))
    for end in (1, len(pages) // 2, len(pages) - 1):
        had, page = numbers(pages[:end]), pages[end - 1]
        rest = numbers(await read_all(tap([{"count": [1, 3000]}]), page.cursor))
        assert set(had) | set(rest) == set(all_numbers)
        assert len(rest) <= len(all_numbers) - len(had) + 11  # only records after the last STATE are read again


async def test_next_run_reads_everything_without_a_state(tap: Taps) -> None:
    records = [{"say": {"type": "RECORD", "stream": "people", "record": {"id": number}}} for number in range(3)]
    pages = await read_all(tap(records))
    assert numbers(pages) == [0, 1, 2]
    assert pages[-1].cursor is None


async def test_last_state_stays_without_a_new_one(tap: Taps) -> None:
    pages = await read_all(tap([]), cursor(state_after(7)))
    assert [(page.records, page.cursor, page.complete) for page in pages] == [([], cursor(state_after(7)), True)]


async def test_full_read_gets_no_state_unless_it_continues(tap: Taps, witness: Path) -> None:
    do = [{"count": [1, 25]}]
    pages = await read_all(tap(do, witness), cursor(state_after(20)), full=True)
    assert numbers(pages) == list(range(1, 26))
    assert pages[0].from_start
    broken, _ = await read_to_failure(tap([*do, {"exit": 1}]))
    assert broken[-1].cursor == cursor(state_after(20), whole=True)
    rest = await read_all(tap(do, witness), broken[-1].cursor, full=True)
    assert numbers(rest) == [20, 21, 22, 23, 24, 25]
    assert (rest[0].from_start, rest[0].whole) == (False, True)
    assert [start["state"] for start in starts(witness)] == [None, state_after(20)]


@pytest.mark.parametrize(
    ("state", "from_start"),
    [
        ({}, True),
        ({"bookmarks": {}}, True),
        ({"bookmarks": {"people": {}, "orders": {"id": 3}}}, False),
        ({"bookmarks": {"people": {"version": None}}}, True),
        ({"bookmarks": {"people": {"id": 3}}}, False),
        ({"people": "2026-01-01"}, False),
    ],
)
async def test_state_without_a_bookmark_is_the_start(state: Json, from_start: object, tap: Taps) -> None:
    (page,) = await read_all(tap([]), cursor(state))
    assert page.from_start is page.whole is from_start


async def test_skipped_messages_are_reported_once(tap: Taps, reports: Reports) -> None:
    order: Any = {"say": {"type": "RECORD", "stream": "orders", "record": {}}}
    version: Any = {"say": {"type": "ACTIVATE_VERSION", "stream": "people", "version": 1}}
    other: Any = {"say": {"type": "PING"}}
    pages = await read_all(tap([order, order, version, version, other, {"raw": "\n \n"}, {"count": [1, 3]}]))
    assert numbers(pages) == [1, 2, 3]
    foreign, ends, ping = reports.lines
    assert foreign == "warning: the tap also sends records of the stream orders; they are skipped"
    assert ends.startswith("info: the tap says that what it gave before and does not now is gone; `missing: delete`")
    assert ping == "warning: the tap sends messages of the type PING; they are skipped"


async def test_changed_schema_and_different_key_are_reported(tap: Taps, reports: Reports) -> None:
    def schema(*keys: str, **properties: Json) -> Any:
        described = {"type": "object", "properties": properties}
        return {"say": {"type": "SCHEMA", "stream": "people", "schema": described, "key_properties": [*keys]}}

    before, after = schema("id", id={"type": "integer"}), schema("uid", id={"type": "string"}, name={"type": "string"})
    await read_all(tap([before, before, after]))
    assert reports.lines == [
        "warning: the tap changes the schema of people: id, name",
        "warning: the tap says that the key of people is uid; the spec says id",
    ]


async def test_state_of_another_tap_or_stream_is_ignored(tap: Taps, witness: Path, reports: Reports) -> None:
    pages = await read_all(tap([{"count": [1, 20]}], witness), {"of": "tap.py: orders", "state": state_after(10)})
    assert numbers(pages) == list(range(1, 21))
    assert pages[0].from_start
    assert starts(witness)[0]["state"] is None
    assert reports.lines == [
        "warning: the last run stopped in tap.py: orders; this is tap.py: people, read from the start"
    ]
