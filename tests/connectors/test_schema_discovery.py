"""Schema discovery: columns of tables, fields of files, and fields of records over HTTP."""

from __future__ import annotations

import gzip
import json
import sqlite3
from collections.abc import Awaitable, Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import pytest
from aiohttp import web
from tests.connectors.conftest import Serve
from tests.proof.conftest import Store, database

from speclab.connectors.api import DiscoveredSchema, RuntimeContext
from speclab.connectors.check import discover_schema
from speclab.connectors.file.settings import FileSystem
from speclab.connectors.http.settings import HttpSystem
from speclab.connectors.secrets.references import References
from speclab.connectors.sql.settings import SqlSystem
from speclab.core.errors import BadResponse, SpecError, SpeclabError, Unreachable
from speclab.core.json import Json
from speclab.mapping.types import ValueKind
from speclab.spec.auth import BearerAuth, NoAuth
from speclab.spec.integration import Endpoint, Role
from speclab.spec.settings import System

Fields = Callable[..., Awaitable[DiscoveredSchema]]

KINDS: dict[str, type[System]] = {"http": HttpSystem, "sql": SqlSystem, "file": FileSystem}


@pytest.fixture
def fields(references: References, context: RuntimeContext) -> Fields:
    """Return the fields of one endpoint: `await fields("source", connector="file", path="in.csv")`."""

    async def describe_fields(
        role: Role, limit: int = 500, auth: BearerAuth | None = None, **settings: Json
    ) -> DiscoveredSchema:
        system = KINDS[str(settings["connector"])].model_validate({"key": "id", **settings})
        return await discover_schema(Endpoint(role, system, auth or NoAuth()), references, context, limit)

    return describe_fields


def describe_fields(description: DiscoveredSchema) -> dict[str, tuple[str, bool, float | None, Json]]:
    """Return for each path of a field: declared type, whether required, share of records, and an example."""
    return {
        str(field.path): (field.declared, field.required, field.share, field.values[0] if field.values else None)
        for field in description.fields
    }


# SQL


@pytest.fixture
def crm(tmp_path: Path) -> Iterator[sqlite3.Connection]:
    with closing(sqlite3.connect(tmp_path / "crm.db", isolation_level=None)) as made:
        made.execute(
            "CREATE TABLE people (id INTEGER NOT NULL, name VARCHAR(40) NOT NULL DEFAULT '', balance NUMERIC(10, 2), x)"
        )
        made.executemany("INSERT INTO people VALUES (?, ?, ?, NULL)", [(1, "Ada", 2.5), (2, "Grace", None)])
        yield made


@pytest.mark.usefixtures("crm")
@pytest.mark.parametrize(
    ("role", "use"), [("source", {"read": {"table": "people"}}), ("target", {"write": {"upsert": "people"}})]
)
async def test_table_has_its_columns_and_types_as_source_and_target(
    role: Role, use: dict[str, Json], fields: Fields
) -> None:
    found = await fields(role, connector="sql", url="sqlite:///crm.db", **use)
    assert found.origin == "the columns of people"
    assert describe_fields(found) == {
        "id": ("INTEGER", True, 1.0, 1),
        "name": ("VARCHAR(40)", False, 1.0, "Ada"),
        "balance": ("NUMERIC(10, 2)", False, 0.5, 2.5),
        "x": ("", False, 0.0, None),
    }


@pytest.mark.usefixtures("crm")
async def test_sample_size_is_limited(fields: Fields) -> None:
    found = await fields("source", 1, connector="sql", url="sqlite:///crm.db", read={"table": "people"})
    assert describe_fields(found)["balance"] == ("NUMERIC(10, 2)", False, 1.0, 2.5)


async def test_empty_table_has_columns_with_types(crm: sqlite3.Connection, fields: Fields) -> None:
    crm.execute("DELETE FROM people")
    found = await fields("source", connector="sql", url="sqlite:///crm.db", read={"table": "people"})
    assert [(field.kind, field.share) for field in found.fields] == [
        (ValueKind.INTEGER, None),
        (ValueKind.TEXT, None),
        (ValueKind.TEXT, None),
        (ValueKind(0), None),
    ]


@pytest.mark.usefixtures("crm")
async def test_query_has_the_columns_of_its_result(fields: Fields) -> None:
    read = {"query": "SELECT id, upper(name) AS loud FROM people ORDER BY id DESC;"}
    found = await fields("source", connector="sql", url="sqlite:///crm.db", read=read)
    assert (found.origin, list(describe_fields(found))) == ("the columns of the query", ["id", "loud"])
    assert found.fields[1].values == ("GRACE", "ADA")


@pytest.mark.usefixtures("crm")
async def test_missing_table_is_reported_with_a_suggestion(fields: Fields) -> None:
    with pytest.raises(BadResponse, match=r"there is no table 'peple'\. Did you mean 'people'\?"):
        await fields("source", connector="sql", url="sqlite:///crm.db", read={"table": "peple"})
    with pytest.raises(BadResponse, match="no such column: nam"):
        await fields("source", connector="sql", url="sqlite:///crm.db", read={"query": "SELECT nam FROM people"})


async def test_table_that_a_run_creates_does_not_exist_yet(fields: Fields, tmp_path: Path) -> None:
    write = {"upsert": "people", "create_table": True}
    for _ in ("no file", "no table"):
        with pytest.raises(SpeclabError, match="there is no table 'people' yet"):
            await fields("target", connector="sql", url="sqlite:///new.db", write=write)
        assert not (tmp_path / "new.db").exists() or not (tmp_path / "new.db").stat().st_size
        sqlite3.connect(tmp_path / "new.db").close()


async def test_database_without_read_or_write_is_reported(fields: Fields) -> None:
    for role in ("source", "target"):
        with pytest.raises(SpecError, match=r"a sql (source needs `read`|target needs `write`)"):
            await fields(role, connector="sql", url="sqlite:///crm.db")


@pytest.fixture(params=["postgresql", "mariadb"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    with database(str(request.param), tmp_path) as made:
        yield made


async def test_database_servers_report_types(store: Store, fields: Fields) -> None:
    store.do(
        "CREATE TABLE people (id INT PRIMARY KEY, name VARCHAR(40) NOT NULL, born DATE, extra JSON)",
        """INSERT INTO people VALUES (1, 'Ada', '1815-12-10', '{"plan": "gold"}')""",
    )
    found = await fields("source", connector="sql", url=store.url, read={"table": "people"})
    types = {path: (declared, required) for path, (declared, required, _, _) in describe_fields(found).items()}
    assert types["id"] == ({"postgresql": "INTEGER", "mariadb": "INTEGER(11)"}[store.kind], True)
    assert types["name"] == ("VARCHAR(40)", True)
    assert types["born"] == ("DATE", False)
    assert describe_fields(found)["born"][3] == "1815-12-10"

    found = await fields("source", connector="sql", url=store.url, read={"query": "SELECT id, born FROM people"})
    expected = {"postgresql": ["int4", "date"], "mariadb": ["", ""]}[store.kind]
    assert [field.declared for field in found.fields] == expected


# Files


@pytest.mark.parametrize("role", ["source", "target"])
async def test_file_has_the_fields_of_its_records_as_source_and_target(
    role: Role, fields: Fields, tmp_path: Path
) -> None:
    lines = [{"id": "c_1", "name": {"given": "Ada"}}, {"id": "c_2", "name": {"given": "Grace", "family": "Hopper"}}]
    with gzip.open(tmp_path / "people.jsonl.gz", "wt") as file:
        file.writelines(f"{json.dumps(line)}\n" for line in lines)
    found = await fields(role, connector="file", path="people.jsonl.gz")
    assert found.origin == "the first 2 records of people.jsonl.gz"
    assert describe_fields(found) == {
        "id": ("", False, 1.0, "c_1"),
        "name.given": ("", False, 1.0, "Ada"),
        "name.family": ("", False, 0.5, "Hopper"),
    }


async def test_table_without_rows_has_the_columns_of_its_header(fields: Fields, tmp_path: Path) -> None:
    (tmp_path / "people.csv").write_text("id,full name\n")
    found = await fields("source", connector="file", path="people.csv")
    assert found.origin == "the header of people.csv"
    assert list(describe_fields(found)) == ["id", '["full name"]']


async def test_empty_and_missing_files_are_reported(fields: Fields, tmp_path: Path) -> None:
    for name, empty in [("people.jsonl", ""), ("people.json", "[]"), ("people.csv", "")]:
        (tmp_path / name).write_text(empty)
        with pytest.raises(SpeclabError, match=f"{name} has no records"):
            await fields("source", connector="file", path=name)
    with pytest.raises(Unreachable, match=r"there is no file other\.jsonl"):
        await fields("source", connector="file", path="other.jsonl")
    with pytest.raises(SpeclabError, match=r"other\.jsonl is not there yet") as raised:
        await fields("target", connector="file", path="other.jsonl")
    assert raised.value.hint == "A run makes it, with the fields of the mapping."


# HTTP


@dataclass
class Lists:
    """The lists of the server, and the requests for them."""

    records: list[dict[str, Json]]
    requested: list[str]

    async def __call__(self, request: web.Request) -> web.StreamResponse:
        self.requested.append(f"{request.method} {request.path} {request.headers.get('Authorization', '')}")
        return web.json_response({"data": self.records})


@pytest.fixture
def lists() -> Lists:
    return Lists([{"id": 1, "name": {"given": "Ada"}}, {"id": "c_2", "name": None}], [])


READ: dict[str, Json] = {"path": "/people", "records": "data", "pagination": {"by": "none"}}


async def test_http_source_has_the_fields_of_its_listed_records(fields: Fields, serve: Serve, lists: Lists) -> None:
    found = await fields("source", connector="http", base_url=await serve(lists), read=READ)
    assert found.origin == "the first 2 records"
    assert describe_fields(found)["id"] == ("", False, 1.0, 1)
    assert found.fields[0].kind == ValueKind.INTEGER | ValueKind.TEXT
    assert describe_fields(found)["name.given"] == ("", False, 0.5, "Ada")


async def test_returned_secret_is_redacted(fields: Fields, serve: Serve, lists: Lists) -> None:
    lists.records = [{"id": 1, "headers": {"auth": "Bearer t0p-s3cret"}, "all": [{"x": {}}, "t0p-s3cret"]}]
    auth = BearerAuth(type="bearer", token="t0p-s3cret")
    found = await fields("source", auth=auth, connector="http", base_url=await serve(lists), read=READ)
    assert lists.requested == ["GET /people Bearer t0p-s3cret"]
    assert "t0p-s3cret" not in repr(found)
    assert describe_fields(found)["headers.auth"][3] == "Bearer ***"


async def test_http_target_fields_come_from_its_list(fields: Fields, serve: Serve, lists: Lists) -> None:
    write = {"upsert": "PUT /people/{id}"}
    url = await serve(lists)
    with pytest.raises(SpeclabError, match="the fields of the target are unknown") as rejected:
        await fields("target", connector="http", base_url=url, write=write)
    assert "Add a `read`" in rejected.value.hint
    assert lists.requested == []
    found = await fields("target", connector="http", base_url=url, write=write, read=READ)
    assert list(describe_fields(found)) == ["id", "name.given", "name"]
    assert lists.requested == ["GET /people "]


async def test_list_without_records_has_unknown_fields(fields: Fields, serve: Serve, lists: Lists) -> None:
    lists.records = []
    with pytest.raises(SpeclabError, match="it has no records"):
        await fields("source", connector="http", base_url=await serve(lists), read=READ)
