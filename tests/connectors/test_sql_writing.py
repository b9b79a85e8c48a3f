from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from tests.connectors.conftest import Reports, item

from speclab.connectors.api import MappedRecord, RuntimeContext, SchemaAware, TransactionalDedup, Writer, WriteResult
from speclab.connectors.registry import open_writer
from speclab.connectors.secrets.references import References
from speclab.connectors.sql.settings import SqlSystem
from speclab.connectors.sql.writer import SqlWriter
from speclab.core.errors import BadResponse, SpecError, Unreachable
from speclab.core.json import Json
from speclab.core.outcome import Effect, ErrorClass
from speclab.core.paths import FieldPath
from speclab.mapping.fields import Field
from speclab.mapping.types import ValueKind
from speclab.spec.auth import NoAuth

Open = Callable[..., Writer]


@pytest.fixture
def target(references: References, context: RuntimeContext) -> Open:
    def opened(url: str = "sqlite:///out/people.db", key: Json = "id", timeout: str = "5s", **write: Json) -> Writer:
        system = SqlSystem.model_validate(
            {"connector": "sql", "url": url, "key": key, "limits": {"timeout": timeout}, "write": write}
        )
        return open_writer(system, NoAuth(), references, context)

    return opened


@pytest.fixture
def database(tmp_path: Path) -> Path:
    path = tmp_path / "out/people.db"
    path.parent.mkdir()
    return path


def execute(path: Path, *statements: str) -> list[tuple[object, ...]]:
    """Return the rows of the last statement."""
    with closing(sqlite3.connect(path)) as connection, connection:
        rows: list[tuple[object, ...]] = []
        for statement in statements:
            rows = connection.execute(statement).fetchall()
        return rows


async def write(writer: Writer, *items: MappedRecord) -> list[WriteResult]:
    try:
        return list(await writer.write(items))
    finally:
        await writer.close()


def statements_of(writer: Writer) -> list[str]:
    """Return the statements that the connected writer executes from now on."""
    assert isinstance(writer, SqlWriter)
    assert writer._database._connection is not None
    connection = writer._database._connection.connection.driver_connection
    assert isinstance(connection, sqlite3.Connection)
    statements: list[str] = []
    connection.set_trace_callback(statements.append)
    return statements


def effects(results: list[WriteResult]) -> list[Effect | None]:
    return [result.effect for result in results]


async def test_upsert_distinguishes_created_from_updated(database: Path, target: Open) -> None:
    execute(database, "CREATE TABLE people (id TEXT PRIMARY KEY, name TEXT, note TEXT)")
    execute(database, "INSERT INTO people VALUES ('a', 'Ada', 'kept')")
    writer = target(upsert="people", size=100)
    assert (writer.batch, writer.idempotent, writer.keyed, writer.deletes) == (100, True, False, True)
    results = await write(writer, item("a", name="Ada L"), item("b", name="Bo"), item("b", name="Bob"))
    assert effects(results) == [Effect.UPDATED, Effect.CREATED, Effect.UPDATED]
    assert execute(database, "SELECT * FROM people ORDER BY id") == [("a", "Ada L", "kept"), ("b", "Bob", None)]


async def test_lookup_is_skipped_after_an_all_new_batch_until_a_key_exists(database: Path, target: Open) -> None:
    execute(database, "CREATE TABLE people (id TEXT PRIMARY KEY, name TEXT, note TEXT DEFAULT 'kept')")
    writer = target(upsert="people")
    try:
        assert effects([*await writer.write([item("a"), item("b")])]) == [Effect.CREATED] * 2
        statements = statements_of(writer)
        assert effects([*await writer.write([item("c"), item("d")])]) == [Effect.CREATED] * 2
        assert [statement.split(" ")[0] for statement in statements] == ["BEGIN", "INSERT", "COMMIT"]
        execute(database, "INSERT INTO people VALUES ('e', 'Ed', 'mine')")
        results = await writer.write([item("f", name="Flo"), item("e", name="Eve"), item("f", name="Fred")])
        assert effects([*results]) == [Effect.CREATED, Effect.UPDATED, Effect.UPDATED]
    finally:
        await writer.close()
    rows = execute(database, "SELECT * FROM people WHERE id > 'd' ORDER BY id")
    assert rows == [("e", "Eve", "mine"), ("f", "Fred", "kept")]


@pytest.mark.parametrize("choice", ["IGNORE", "REPLACE", "ROLLBACK", "FAIL"])
async def test_conflict_clauses_of_a_table_lose_no_row(choice: str, database: Path, target: Open) -> None:
    execute(database, f"CREATE TABLE people (id TEXT PRIMARY KEY ON CONFLICT {choice}, name TEXT, note TEXT)")
    writer = target(upsert="people")
    try:
        await writer.write([item("a", name="Ada")])
        execute(database, "INSERT INTO people VALUES ('b', 'Bo', 'mine')")
        results = await writer.write([item("c", name="Cy"), item("b", name="Bea")])
    finally:
        await writer.close()
    assert effects([*results]) == [Effect.CREATED, Effect.UPDATED]
    rows = execute(database, "SELECT * FROM people ORDER BY id")
    assert rows == [("a", "Ada", None), ("b", "Bea", "mine"), ("c", "Cy", None)]


async def test_bad_row_among_new_rows_gets_its_own_error(database: Path, target: Open) -> None:
    execute(database, "CREATE TABLE people (id TEXT PRIMARY KEY, name TEXT NOT NULL)")
    writer = target(upsert="people")
    try:
        await writer.write([item("a", name="Ada")])
        results = await writer.write([item("b", name="Bo"), item("c", name=None)])
    finally:
        await writer.close()
    assert {result.error and result.error.field for result in results} == {"name"}
    assert execute(database, "SELECT id FROM people") == [("a",)]


async def test_batch_needs_few_statements_for_any_number_of_rows(database: Path, target: Open) -> None:
    execute(database, "CREATE TABLE people (id TEXT PRIMARY KEY, name TEXT)")
    writer = target(upsert="people", size=1000)
    try:
        await writer.write([item("a", name="Ada")])
        statements = statements_of(writer)
        await writer.write([item(str(number), name="Bo") for number in range(1000)])
        several = (1000).bit_count()  # each with a power of two of rows
        assert len(statements) == several + 2  # and one transaction
        statements.clear()
        results = await writer.write([item(str(number), name="Bo") for number in range(500, 1500)])
    finally:
        await writer.close()
    assert effects([*results]) == [Effect.UPDATED] * 500 + [Effect.CREATED] * 500
    # A failed insert up to the first existing row, a lookup in two parts, and the upsert.
    assert [statement.split(" ")[0] for statement in statements] == (
        ["BEGIN", "INSERT", "ROLLBACK", "SELECT", "SELECT", "BEGIN", *["INSERT"] * several, "COMMIT"]
    )


async def test_file_and_its_directory_are_created_in_the_workspace(tmp_path: Path, target: Open) -> None:
    await write(target(upsert="people", create_table=True), item("a"))
    assert execute(tmp_path / "out/people.db", "SELECT * FROM people") == [("a",)]


async def test_table_is_created_from_record_values(tmp_path: Path, target: Open, reports: Reports) -> None:
    values: dict[str, Json] = {"n": 7, "x": 1.5, "yes": True, "tags": ["a", {"b": 1}], "none": None}
    await write(target(upsert="people", create_table=True), item("a", **values), item("b", n=1, x=2))  # type: ignore[arg-type]
    path = tmp_path / "out/people.db"
    columns = execute(path, "SELECT name, type, pk FROM pragma_table_info('people')")
    assert columns == [
        ("id", "TEXT", 1),
        ("n", "BIGINT", 0),
        ("x", "DOUBLE PRECISION", 0),
        ("yes", "BOOLEAN", 0),
        ("tags", "TEXT", 0),
        ("none", "TEXT", 0),
    ]
    assert execute(path, "SELECT tags, yes FROM people WHERE id = 'a'") == [('["a",{"b":1}]', 1)]
    assert reports.lines == ["info: made the table people with id, n, x, yes, tags, none"]


async def test_table_is_created_from_mapping_types_for_null_fields(tmp_path: Path, target: Open) -> None:
    kinds = {
        "n": ValueKind.INTEGER,
        "x": ValueKind.INTEGER | ValueKind.NUMBER,
        "yes": ValueKind.BOOLEAN,
        "late": ValueKind.NUMBER,
        "t": ValueKind.ANY,
    }
    writer = target(upsert="people", create_table=True)
    assert isinstance(writer, SchemaAware)
    writer.declare_fields([Field(FieldPath((name,)), kind) for name, kind in kinds.items()])
    await write(writer, item("a", n=None, x=1, yes=None, t=None), item("b", late=None))
    assert execute(tmp_path / "out/people.db", "SELECT name, type FROM pragma_table_info('people')") == [
        ("id", "TEXT"),
        ("n", "BIGINT"),
        ("x", "DOUBLE PRECISION"),
        ("yes", "BOOLEAN"),
        ("t", "TEXT"),
        ("late", "DOUBLE PRECISION"),
    ]


async def test_new_field_adds_a_column_only_where_the_spec_says_so(
    database: Path, target: Open, reports: Reports
) -> None:
    execute(database, "CREATE TABLE people (id TEXT PRIMARY KEY, full_name TEXT)")
    with pytest.raises(BadResponse, match=r"no column 'ful_name'\. Did you mean 'full_name'") as caught:
        await write(target(upsert="people"), item("a", ful_name="Ada"))
    assert "create_table" in caught.value.hint
    await write(target(upsert="people", create_table=True), item("a", age=36))
    assert execute(database, "SELECT id, age FROM people") == [("a", 36)]
    assert reports.lines == ["info: added to the table people: age"]


async def test_missing_table_gets_a_suggestion(database: Path, target: Open) -> None:
    execute(database, "CREATE TABLE customers (id TEXT PRIMARY KEY)")
    with pytest.raises(BadResponse, match=r"there is no table 'customer'\. Did you mean 'customers'"):
        await write(target(upsert="customer"), item("a"))


async def test_upsert_needs_a_unique_key_and_says_how_to_create_one(database: Path, target: Open) -> None:
    execute(database, "CREATE TABLE people (id TEXT, name TEXT)")
    with pytest.raises(BadResponse, match="needs a primary key or unique index on id") as caught:
        await write(target(upsert="people"), item("a"))
    execute(database, caught.value.hint)
    assert effects(await write(target(upsert="people"), item("a"))) == [Effect.CREATED]


async def test_key_of_several_columns_is_one_key(database: Path, target: Open) -> None:
    execute(database, 'CREATE TABLE people (region TEXT, id TEXT, "odd name" TEXT, UNIQUE (id, region))')
    writer = target(upsert="people", key=["region", "id"])
    rows = [MappedRecord(key, {"region": "eu", "id": key, "odd name": "x"}, {}, "") for key in "ab"]
    assert effects(list(await writer.write(rows))) == [Effect.CREATED, Effect.CREATED]
    again = MappedRecord("a", {"region": "eu", "id": "a", "odd name": "y"}, {}, "")
    other = MappedRecord("a", {"region": "us", "id": "a", "odd name": "z"}, {}, "")
    assert effects(await write(writer, again, other)) == [Effect.UPDATED, Effect.CREATED]
    assert execute(database, "SELECT * FROM people ORDER BY 1, 2") == [
        ("eu", "a", "y"),
        ("eu", "b", "x"),
        ("us", "a", "z"),
    ]


async def test_record_without_a_key_fails_alone(database: Path, target: Open) -> None:
    execute(database, "CREATE TABLE people (id TEXT PRIMARY KEY, name TEXT)")
    keyless = [MappedRecord("?", {"id": value, "name": "x"}, {}, "") for value in (None, "")]
    results = await write(target(upsert="people"), *keyless, MappedRecord("?", {"name": "x"}, {}, ""), item("a"))
    assert effects(results) == [None, None, None, Effect.CREATED]
    refusals = [result.error for result in results[:3] if result.error]
    assert [(write_error.message, write_error.field, write_error.sent) for write_error in refusals] == [
        ("the key `id` is empty", "id", False),
        ("the key `id` is empty", "id", False),
        ("the key `id` is not mapped", "id", False),
    ]
    assert execute(database, "SELECT count(*) FROM people") == [(1,)]


async def test_batch_with_a_bad_row_is_rolled_back(database: Path, target: Open) -> None:
    execute(database, "CREATE TABLE people (id TEXT PRIMARY KEY, email TEXT NOT NULL)")
    writer = target(upsert="people")
    results = list(await writer.write([item("a", email="a@x"), item("b", email=None)]))
    assert len({id(result.error) for result in results}) == 1
    write_error = results[0].error
    assert write_error is not None
    assert (write_error.error_class, write_error.sent, write_error.field) == (ErrorClass.REJECTED, False, "email")
    assert write_error.message == "NOT NULL constraint failed: people.email"
    assert write_error.request == "UPSERT people at sqlite:///out/people.db (2 rows)"
    assert execute(database, "SELECT count(*) FROM people") == [(0,)]
    assert effects(await write(writer, item("a", email="a@x"))) == [Effect.CREATED]


async def test_table_created_in_a_failed_batch_is_created_again(tmp_path: Path, target: Open) -> None:
    writer = target(upsert="people", create_table=True)
    for value, message in ((2**70, "too large"), ("\ud800", "surrogates not allowed")):
        (bad,) = await writer.write([item("a", n=value)])
        assert bad.error is not None
        assert message in bad.error.message
    assert effects(await write(writer, item("a", n=1))) == [Effect.CREATED]
    assert execute(tmp_path / "out/people.db", "SELECT * FROM people") == [("a", 1)]


async def test_locked_database_is_retryable(database: Path, target: Open) -> None:
    execute(database, "CREATE TABLE people (id TEXT PRIMARY KEY)")
    with closing(sqlite3.connect(database)) as other:
        other.execute("BEGIN IMMEDIATE")
        (answer,) = await write(target(upsert="people", timeout="10ms"), item("a"))
    assert answer.error is not None
    assert (answer.error.error_class, answer.error.sent) == (ErrorClass.SERVER, False)
    assert answer.error.message == "database is locked"


async def test_deletes_go_with_writes_in_order(database: Path, target: Open) -> None:
    execute(database, "CREATE TABLE people (id TEXT PRIMARY KEY, name TEXT)", "INSERT INTO people VALUES ('a', 'x')")
    results = await write(
        target(upsert="people"),
        item("a", delete=True),
        item("b", name="y"),
        item("b", delete=True),
        item("c", name="z"),
    )
    assert effects(results) == [Effect.DELETED, Effect.CREATED, Effect.DELETED, Effect.CREATED]
    assert execute(database, "SELECT * FROM people") == [("c", "z")]


async def test_append_inserts_equal_rows(database: Path, target: Open) -> None:
    execute(database, "CREATE TABLE log (id TEXT, n INTEGER)")
    writer = target(insert="log")
    assert (writer.idempotent, writer.keyed, writer.deletes) == (True, True, False)
    for _ in range(2):
        assert effects(list(await writer.write([item("a", n=1)]))) == [Effect.CREATED]
        assert isinstance(writer, TransactionalDedup)
        writer.acknowledge()
    await writer.close()
    assert execute(database, "SELECT * FROM log") == [("a", 1), ("a", 1)]


async def test_records_without_fields_are_rows(database: Path, target: Open) -> None:
    execute(database, "CREATE TABLE people (name TEXT DEFAULT 'nobody')")
    results = await write(target(insert="people"), MappedRecord("a", {}, {}, "1"), MappedRecord("b", {}, {}, "2"))
    assert effects(results) == [Effect.CREATED] * 2
    assert execute(database, "SELECT * FROM people") == [("nobody",)] * 2


async def test_insert_that_was_not_committed_to_the_run_log_is_not_repeated(database: Path, target: Open) -> None:
    execute(database, "CREATE TABLE log (id TEXT, n INTEGER)")
    for _ in range(2):  # the second is another process, after the first was killed
        writer = target(insert="log")
        assert isinstance(writer, TransactionalDedup)
        writer.set_spec_id("people")
        assert effects(await write(writer, item("a", n=1), item("b", n=2))) == [Effect.CREATED, Effect.CREATED]
    assert execute(database, "SELECT * FROM log") == [("a", 1), ("b", 2)]
    other = target(insert="log")
    assert isinstance(other, TransactionalDedup)
    other.set_spec_id("staff")
    await write(other, item("a", n=1))
    assert len(execute(database, "SELECT * FROM log")) == 3


async def test_acknowledged_deliveries_are_deleted_with_the_next_batch(database: Path, target: Open) -> None:
    execute(database, "CREATE TABLE log (id TEXT, n INTEGER)")
    writer = target(insert="log")
    assert isinstance(writer, TransactionalDedup)
    for number in range(5):
        await writer.write([item(f"k{number}", n=number)])
        writer.acknowledge()
    assert len(execute(database, "SELECT * FROM speclab_delivered")) == 1
    await writer.close()
    assert execute(database, "SELECT * FROM speclab_delivered") == []


async def test_rolled_back_batch_is_not_in_the_ledger(database: Path, target: Open) -> None:
    execute(database, "CREATE TABLE log (id TEXT, n INTEGER CHECK (n < 5))")
    writer = target(insert="log")
    rejected = await writer.write([item("a", n=1), item("b", n=9)])
    assert [result.error is not None for result in rejected] == [True, True]
    assert effects(await write(writer, item("a", n=1))) == [Effect.CREATED]
    assert execute(database, "SELECT * FROM log") == [("a", 1)]


async def test_omitted_field_does_not_change_its_column(database: Path, target: Open) -> None:
    execute(database, "CREATE TABLE people (id TEXT PRIMARY KEY, name TEXT, tel TEXT)")
    writer = target(upsert="people")
    await writer.write([item("a", name="Ada", tel="1"), item("b", name="Bo", tel="2")])
    await write(writer, item("a", name="Ada L"), item("b", tel=None), item("a", tel="3"))
    assert execute(database, "SELECT * FROM people ORDER BY id") == [("a", "Ada L", "3"), ("b", "Bo", None)]


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("postgresql://host:port/db", "url is not a database URL"),
        ("oracle://user:secret@host/db", "oracle is not supported; expected sqlite, postgresql, mysql"),
    ],
)
async def test_unsupported_url_is_a_spec_error(url: str, message: str, target: Open) -> None:
    with pytest.raises(SpecError, match=message) as caught:
        target(url, upsert="people")
    assert "secret" not in str(caught.value)


async def test_invalid_database_file_is_bad_and_missing_directory_unreachable(tmp_path: Path, target: Open) -> None:
    (tmp_path / "notes.txt").write_text("no database, and long enough to be looked at" * 50)
    with pytest.raises(BadResponse, match="file is not a database"):
        await write(target("sqlite:///notes.txt", upsert="people"), item("a"))
    with pytest.raises(Unreachable, match="cannot open it"):
        await write(target("sqlite:///notes.txt/people.db", upsert="people"), item("a"))
