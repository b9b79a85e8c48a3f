"""Keys that the record and the table format differently, and keys that a database treats as equal."""

from __future__ import annotations

import pytest
from tests.connectors.databases import Database, deletion, outcomes, row

from speclab.connectors.api import MappedRecord
from speclab.core.errors import BadResponse
from speclab.core.json import Json

UUID = "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11"


async def test_number_is_only_the_key_with_the_same_text_in_a_text_column(db: Database) -> None:
    """To MySQL, 5 equals `05` and `5.0`; a delete of one would delete all."""
    table = db.table("id VARCHAR(9) PRIMARY KEY, v INT", "'5', 0", "'05', 0", "'5.0', 0", "'x', 0")
    assert [found and found["v"] for found in await db.find(row(5, v=1), row(6, v=1), upsert=table)] == [0, None]
    assert outcomes(await db.write(row(5, v=1), row(6, v=1), upsert=table)) == ["updated", "created"]
    assert sorted(db.sql(f"SELECT id, v FROM {table} WHERE v = 1")) == [("5", 1), ("6", 1)]
    assert outcomes(await db.write(deletion(5), row(7, v=1), deletion(7), upsert=table)) == [
        "deleted",
        "created",
        "deleted",
    ]
    assert sorted(db.sql(f"SELECT id FROM {table}")) == [("05",), ("5.0",), ("6",), ("x",)]


SPELLINGS = [
    ("DECIMAL(9, 2)", "5.00", 5),
    ("DATE", "2024-01-01", "2024-01-01T00:00:00"),
    ("BIGINT", "9007199254740993", "9007199254740993"),
    ("CHAR(9)", "ab", "ab"),
]


@pytest.mark.parametrize("more", ["", " UNIQUE"], ids=["one key", "two keys"])
@pytest.mark.parametrize(
    ("column", "there", "key"),
    [
        *SPELLINGS,
        ("DATETIME", "2024-01-01", "2024-01-01T00:00:00"),
        ("UUID", UUID, UUID.upper()),
        ("BINARY(2)", "ab", "ab"),
    ],
)
async def test_mariadb_updates_the_row_of_a_key_in_any_notation(
    column: str, there: str, key: Json, more: str, mariadb: Database
) -> None:
    table = mariadb.table(f"id {column} PRIMARY KEY, v VARCHAR(9){more}", f"'{there}', 'old'")
    (found,) = await mariadb.find(row(key, v="new"), upsert=table)
    assert found["v"] == "old"
    assert outcomes(await mariadb.write(row(key, v="new"), upsert=table)) == ["updated"]
    assert mariadb.sql(f"SELECT v FROM {table}") == [("new",)]


@pytest.mark.parametrize(
    ("column", "there", "key"),
    [
        *SPELLINGS,
        ("TIMESTAMPTZ", "2024-01-01T00:00:00Z", "2024-01-01T02:00:00+02:00"),
        ("UUID", UUID, UUID.upper()),
        ("BYTEA", "ab", "ab"),
    ],
)
async def test_postgresql_finds_the_row_of_a_key_in_any_notation(
    column: str, there: str, key: Json, postgresql: Database
) -> None:
    table = postgresql.table(f"id {column} PRIMARY KEY, v VARCHAR(9)", f"'{there}', 'old'")
    (found,) = await postgresql.find(row(key, v="new"), upsert=table)
    assert found["v"] == "old"
    assert outcomes(await postgresql.write(row(key, v="new"), upsert=table)) == ["updated"]


async def test_key_that_differs_only_in_case_overwrites_no_row(db: Database) -> None:
    if db.kind == "postgresql":
        db.sql("CREATE EXTENSION IF NOT EXISTS citext")
    column = {"postgresql": "CITEXT", "mariadb": "VARCHAR(9)", "sqlite": "TEXT COLLATE NOCASE"}[db.kind]
    table = db.table(f"id {column} PRIMARY KEY, v INT", "'abc', 1")
    if db.kind == "sqlite":
        table = table.upper()  # which is the same table there
    for items in ([row("ABC", v=2)], [row("abc", v=1), row("ABC", v=2)], [row("d", v=1), row("D", v=2)]):
        write_results = outcomes(await db.write(*items, upsert=table))
        assert all("as equal to another existing key" in result for result in write_results), write_results
    assert db.sql(f"SELECT id, v FROM {table}") == [("abc", 1)]
    assert outcomes(await db.write(row("abc", v=3), upsert=table)) == ["updated"]


@pytest.mark.parametrize("more", ["", " UNIQUE"], ids=["one key", "two keys"])
async def test_delete_then_write_in_one_batch_keeps_the_row(more: str, db: Database) -> None:
    table = db.table(f"id VARCHAR(9) PRIMARY KEY, v INT{more}", "'a', 1")
    assert outcomes(await db.write(deletion("a"), row("a", v=2), upsert=table)) == ["deleted", "created"]
    assert db.sql(f"SELECT v FROM {table}") == [(2,)]


async def test_rounded_keys_stay_distinct_in_mariadb(mariadb: Database) -> None:
    table = mariadb.table("id DATETIME PRIMARY KEY, v INT", "'2024-01-01 10:00:00', 0")
    write_results = await mariadb.write(row("2024-01-01 10:00:00.2", v=1), upsert=table)
    assert "as equal to another existing key" in outcomes(write_results)[0]
    assert mariadb.sql(f"SELECT v FROM {table}") == [(0,)]


async def test_unique_index_on_an_expression_is_not_a_key(postgresql: Database) -> None:
    table = postgresql.table("tenant TEXT, id TEXT")
    postgresql.sql(f"CREATE UNIQUE INDEX ON {table} (lower(tenant), id)")
    with pytest.raises(BadResponse, match="needs a primary key or unique index on id"):
        await postgresql.write(row(), upsert=table)


@pytest.mark.parametrize("value", [10.5, "10.5", "9007199254740993.5"])
async def test_fraction_is_not_silently_rounded_to_an_integer(value: Json, db: Database) -> None:
    table = f"whole_{type(value).__name__}_{len(str(value))}"
    assert outcomes(await db.write(row("a", n=10, x=1), upsert=table, create_table=True)) == ["created"]
    (answer,) = await db.write(row("b", n=value, x=2.0), upsert=table)
    if db.kind == "sqlite":  # which keeps it as it is
        assert db.sql(f"SELECT n FROM {table} ORDER BY id") == [(10,), (float(str(value)),)]
        return
    assert answer.error is not None
    assert (answer.error.field, answer.error.sent) == ("n", False)
    assert answer.error.message == f"{value} would be rounded, for the column 'n' holds whole numbers only"


async def test_added_integer_column_rejects_fractions(postgresql: Database) -> None:
    writer = postgresql.writer(upsert="widened", create_table=True)
    try:
        await writer.write([row("a")])
        await writer.write([row("b", n=1)])
        (answer,) = await writer.write([row("c", n=1.5)])
    finally:
        await writer.close()
    assert answer.error is not None
    assert answer.error.field == "n"


async def test_missing_index_is_reported_with_its_create_statement(postgresql: Database) -> None:
    postgresql.sql("CREATE SCHEMA odd", 'CREATE TABLE odd."order" (id TEXT, "a key" TEXT)')
    with pytest.raises(BadResponse, match="needs a primary key or unique index on id, a key") as caught:
        await postgresql.write(row(**{"a key": "x"}), upsert="odd.order", key=["id", "a key"])
    postgresql.sql(caught.value.hint)
    assert outcomes(await postgresql.write(row(**{"a key": "x"}), upsert="odd.order", key=["id", "a key"])) == [
        "created"
    ]


async def test_names_of_any_characters_are_written_and_read(db: Database) -> None:
    quote = db.store.engine.dialect.identifier_preparer.quote
    names = ["a (b) values (y)", 'quo"te', "Ünï", "select", "colon:x"]
    if db.kind != "mariadb":  # the error says that `100%%` does not exist
        names.append("100%")
    table = f"any %s table {db.kind}"
    columns = ", ".join(f"{quote(name)} INT" for name in names)
    db.sql(f"CREATE TABLE {quote(table)} (id INT PRIMARY KEY, {columns})")
    for number in range(2):
        items = [row(each, **dict.fromkeys(names, number)) for each in range(3)]
        assert outcomes(await db.write(*items, upsert=table)) == ["updated" if number else "created"] * 3
    records = await db.read(table=table, size=2, since={"field": "select"})
    assert records == [{"id": each, **dict.fromkeys(names, 1)} for each in range(3)]


async def test_time_offset_is_not_silently_dropped(postgresql: Database) -> None:
    table = postgresql.table("id TEXT PRIMARY KEY, at TIMESTAMP")
    for fine in ("2024-01-01", "2024-01-01T10:00:00Z", "2024-01-01 10:00:00.5+00:00"):
        assert outcomes(await postgresql.write(row(fine, at=fine), upsert=table)) == ["created"]
    for lost in ("2024-01-01T10:00:00+02:00", "2024-01-01 10:00:00.5-0130", "2024-01-01 10:00:00+02"):
        (answer,) = await postgresql.write(row(lost, at=lost), upsert=table)
        assert answer.error is not None
        assert answer.error.field == "at"
        assert "would lose its offset" in answer.error.message


async def test_misspelt_schema_or_table_gets_a_suggestion(postgresql: Database) -> None:
    postgresql.sql("CREATE SCHEMA sales", "CREATE TABLE sales.contacts (id TEXT PRIMARY KEY)")
    with pytest.raises(BadResponse, match=r"no table 'sales.contcts'\. Did you mean 'sales.contacts'"):
        await postgresql.write(row(), upsert="sales.contcts")
    with pytest.raises(
        BadResponse, match=r"no table 'sale.contacts': there is no schema 'sale'\. Did you mean 'sales'"
    ):
        await postgresql.read(table="sale.contacts")


async def test_written_row_has_its_version_and_an_id_that_differs_from_the_key(db: Database) -> None:
    if db.kind == "postgresql":
        table, column = db.table("id TEXT PRIMARY KEY, name TEXT", "'a', 'Ada'"), "xmin"
    else:
        columns = "id VARCHAR(50) PRIMARY KEY, name VARCHAR(50), revision INTEGER NOT NULL DEFAULT 7"
        table, column = db.table(columns, "'a', 'Ada', 3"), "revision"
    settings = {"upsert": table, "row_version": column}
    other = MappedRecord("crm-9", {"id": "c", "name": "Cy"}, {}, "")
    results = await db.write(row("a", name="Al"), row("b", name="Bo"), other, deletion("a"), **settings)
    assert [result.target_id for result in results] == [None, None, "c", None]
    versions = dict(db.sql(f"SELECT id, {column} FROM {table}"))
    assert [result.version for result in results] == [None, str(versions["b"]), str(versions["c"]), None]
    (again,) = await db.write(row("b", name="Bob"), **settings)
    if db.kind == "postgresql":
        assert again.version not in {None, str(versions["b"])}


async def test_missing_row_version_column_is_reported(db: Database) -> None:
    table = db.table("id VARCHAR(50) PRIMARY KEY, name VARCHAR(50)")
    with pytest.raises(BadResponse, match="revison"):
        await db.write(row("a"), upsert=table, row_version="revison")


async def test_key_of_several_columns_is_the_target_id(db: Database) -> None:
    table = db.table("a VARCHAR(50), b INTEGER, PRIMARY KEY (a, b)")
    records = [MappedRecord("x", {"a": "k", "b": 1}, {}, ""), MappedRecord('["k",2]', {"a": "k", "b": 2}, {}, "")]
    results = await db.write(*records, key=["a", "b"], upsert=table)
    assert [result.target_id for result in results] == ['["k",1]', None]
