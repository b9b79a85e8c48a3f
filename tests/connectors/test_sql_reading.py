from __future__ import annotations

import sqlite3
from collections.abc import Awaitable, Callable
from contextlib import closing
from pathlib import Path

import pytest
from tests.connectors.conftest import Reports, read_all, records_of

from speclab.connectors.api import Page, RuntimeContext
from speclab.connectors.registry import open_reader
from speclab.connectors.secrets.references import References
from speclab.connectors.sql.settings import SqlSystem
from speclab.core.errors import BadResponse, Unreachable
from speclab.core.json import Json
from speclab.spec.auth import NoAuth

Read = Callable[..., Awaitable[list[Page]]]


@pytest.fixture
def database(tmp_path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(tmp_path / "crm.db", isolation_level=None)
    connection.execute("CREATE TABLE people (id TEXT PRIMARY KEY, name TEXT, at TEXT, photo BLOB)")
    return connection


@pytest.fixture
def people(database: sqlite3.Connection) -> sqlite3.Connection:
    rows = [(f"p{number}", f"Person {number}", f"2024-01-0{number + 1}") for number in range(7)]
    database.executemany("INSERT INTO people (id, name, at) VALUES (?, ?, ?)", rows)
    return database


@pytest.fixture
def read(references: References, context: RuntimeContext) -> Read:
    async def pages(
        cursor: Json = None, *, full: bool = False, key: Json = "id", url: str = "sqlite:///crm.db", **settings: Json
    ) -> list[Page]:
        if "query" not in settings:
            settings = {"table": "people", **settings}
        system = SqlSystem.model_validate({"connector": "sql", "url": url, "key": key, "read": {"size": 3, **settings}})
        return await read_all(open_reader(system, NoAuth(), references, context), cursor, full=full)

    return pages


def keys(pages: list[Page]) -> list[Json]:
    return [record["id"] for record in records_of(pages)]


async def test_rows_are_read_in_pages_sorted_by_the_key(people: sqlite3.Connection, read: Read) -> None:
    with closing(people):
        pages = await read()
    assert [len(page.records) for page in pages] == [3, 3, 1]
    assert keys(pages) == [f"p{number}" for number in range(7)]
    assert pages[0].records[0] == {"id": "p0", "name": "Person 0", "at": "2024-01-01", "photo": None}
    assert [page.complete for page in pages] == [False, False, True]
    assert pages[0].request == "SELECT people at sqlite:///crm.db"


async def test_read_resumes_after_any_page_while_rows_are_added_and_removed(
    people: sqlite3.Connection, read: Read
) -> None:
    first = (await read())[0]
    with closing(people):
        people.execute("DELETE FROM people WHERE id IN ('p0', 'p1', 'p4')")
        people.execute("INSERT INTO people (id) VALUES ('p1b')")
    assert keys(await read(first.cursor)) == ["p3", "p5", "p6"]


@pytest.mark.parametrize(
    ("since", "first"),
    [
        ({"field": "at", "start": "2024-01-01"}, 0),
        ({"field": "at", "start": "2024-01-05", "lookback": "5d"}, 4),
        ({"field": "name"}, 0),
        (None, 0),
    ],
)
async def test_changed_since_start_restarts_the_read(
    people: sqlite3.Connection, read: Read, since: Json, first: int
) -> None:
    people.close()
    (page, *_) = await read(since={"field": "at", "start": "2024-01-05"}, size=1)
    assert keys([page]) == ["p4"]
    assert keys(await read(page.cursor, since=since)) == [f"p{number}" for number in range(first, 7)]


async def test_query_is_read_like_a_table(people: sqlite3.Connection, read: Read) -> None:
    with closing(people):
        query = "SELECT region, id, upper(name) AS name FROM (SELECT 'eu' AS region, * FROM people) WHERE id > 'p2';"
        pages = await read(query=query, key=["region", "id"])
    assert keys(pages) == ["p3", "p4", "p5", "p6"]
    assert pages[0].records[0] == {"region": "eu", "id": "p3", "name": "PERSON 3"}


async def test_incremental_read_returns_changes_and_ties_once(people: sqlite3.Connection, read: Read) -> None:
    since: Json = {"field": "at"}
    with closing(people):
        first = await read(since=since)
        people.execute("INSERT INTO people (id, at) VALUES ('p00', '2024-01-07')")
        people.execute("UPDATE people SET at = '2024-02-01' WHERE id = 'p2'")
        second = await read(first[-1].cursor, since=since)
        assert keys(second) == ["p00", "p2"]
        assert keys(await read(second[-1].cursor, since=since)) == []
        assert keys(await read(second[-1].cursor, since=since, full=True)) == [
            "p0",
            "p00",
            "p1",
            "p2",
            "p3",
            "p4",
            "p5",
            "p6",
        ]


async def test_changes_during_a_read_are_read_next_time(people: sqlite3.Connection, read: Read) -> None:
    since: Json = {"field": "at"}
    with closing(people):
        first = (await read(since=since))[0]
        people.execute("UPDATE people SET at = '2024-03-01' WHERE id = 'p0'")  # already passed
        people.execute("UPDATE people SET at = '2024-03-02' WHERE id = 'p6'")  # not read yet
        rest = await read(first.cursor, since=since)
        assert keys(rest) == ["p3", "p4", "p5", "p6"]
        assert keys(await read(rest[-1].cursor, since=since)) == [
            "p0"
        ]  # and p6, seen before, is recognized by its digest


async def test_lookback_and_start_are_respected(people: sqlite3.Connection, read: Read) -> None:
    with closing(people):
        first = await read(since={"field": "at", "start": "2024-01-05"})
        assert keys(first) == ["p4", "p5", "p6"]
        assert keys(await read(first[-1].cursor, since={"field": "at", "lookback": "24h"})) == ["p5"]


async def test_rows_without_the_field_are_read_and_reported(
    people: sqlite3.Connection, read: Read, reports: Reports
) -> None:
    with closing(people):
        people.execute("UPDATE people SET at = NULL WHERE id = 'p3'")
        assert len(keys(await read(since={"field": "at"}))) == 7
    assert reports.lines == ["warning: 1 rows have no `at`; only a full read finds those"]


async def test_bytes_are_base64(database: sqlite3.Connection, read: Read) -> None:
    with closing(database):
        database.execute("INSERT INTO people (id, photo) VALUES ('p0', x'00ff')")
    assert records_of(await read())[0]["photo"] == "AP8="


async def test_invalid_key_is_detected(people: sqlite3.Connection, read: Read) -> None:
    with closing(people):
        people.execute("UPDATE people SET name = 'same'")
        with pytest.raises(BadResponse, match=r"more than one row has \['same'\] as its key name"):
            await read(key="name")
        people.execute("UPDATE people SET name = NULL")
        with pytest.raises(BadResponse, match="more than one row has NULL as its key name"):
            await read(key="name")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"table": "peple"}, "there is no table 'peple'. Did you mean 'people'"),
        ({"key": "idd"}, "there is no column 'idd'. Did you mean 'id'"),
        ({"since": {"field": "att"}}, "there is no column 'att'. Did you mean 'at'"),
        ({"query": "SELECT nme FROM people"}, "no such column: nme"),
        ({"query": "DELETE FROM people"}, "syntax error"),
    ],
)
async def test_missing_table_or_column_is_named(
    settings: dict[str, Json], message: str, people: sqlite3.Connection, read: Read
) -> None:
    with closing(people), pytest.raises(BadResponse, match=message):
        await read(**settings)


async def test_missing_source_database_is_not_created(tmp_path: Path, read: Read) -> None:
    with pytest.raises(Unreachable, match="there is no file"):
        await read(url="sqlite:///nowhere.db")
    assert not (tmp_path / "nowhere.db").exists()


async def test_empty_table_is_a_complete_read(database: sqlite3.Connection, read: Read) -> None:
    with closing(database):
        (page,) = await read(since={"field": "at"})
    assert (page.records, page.complete) == ([], True)
