"""Pages by key: each row once, and an error where rows cannot be ordered."""

from __future__ import annotations

import pytest
from tests.connectors.databases import Database, Databases

from speclab.connectors.api import RuntimeContext
from speclab.connectors.sql.statements import build_page_query
from speclab.core.errors import BadResponse, Unreachable
from speclab.core.json import Json

HEX = [f"{(number * 37) % 256:02x}{255 - number:02x}ff" for number in range(9)]


def quoted(kind: str, text: str) -> str:
    return rf"'\x{text}'" if kind == "postgresql" else f"x'{text}'"


async def test_rows_with_binary_keys_are_read_once_and_continued(db: Database) -> None:
    column = {"postgresql": "BYTEA", "mariadb": "BINARY(3)", "sqlite": "BLOB"}[db.kind]
    table = db.table(f"id {column} PRIMARY KEY, v INT", *(f"{quoted(db.kind, key)}, 0" for key in HEX))
    pages = await db.pages(table=table, size=4)
    rest = await db.pages(pages[0].cursor, table=table, size=4)
    keys = [record["id"] for page in pages for record in page.records]
    assert len(keys) == len(set(map(str, keys))) == 9
    assert [record["id"] for page in rest for record in page.records] == keys[4:]


KEYS = [
    ("NUMERIC(20, 0)", [str(12345678901234567890 + number) for number in range(9)]),
    ("TIMESTAMP", [f"'2024-01-01 10:00:0{number}'" for number in range(9)]),
    ("DATE", [f"'2024-01-0{number + 1}'" for number in range(9)]),
    ("DOUBLE PRECISION", [f"{number / 10}" for number in range(9)]),
]
OF_POSTGRESQL = [
    ("REAL", [f"{number / 10}" for number in range(9)]),
    ("TIMESTAMPTZ", ["'-infinity'", *(f"'2024-01-01 10:00:00.00000{number}+02'" for number in range(7)), "'infinity'"]),
    ("INTERVAL", [f"'{number} months'" for number in range(9)]),
    ("TIME", [f"'{number + 16}:00'" for number in range(9)]),
    ("FLOAT8", ["'-Infinity'", *map(str, range(6)), "'Infinity'", "'NaN'"]),
    ("UUID", [f"'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a1{number}'" for number in range(9)]),
]
OF_MARIADB = [
    ("TIME", [f"'{hour}:59:59'" for hour in ("-100", "-10", "-1", "0", "1", "9", "10", "11", "100")]),
    ("DATETIME(6)", [f"'2024-01-01 10:00:00.00000{number}'" for number in range(9)]),
    ("BIT(64)", [str(2**63 + number) for number in range(9)]),
    ("BIGINT UNSIGNED", [str(2**63 + number) for number in range(9)]),
]


@pytest.mark.parametrize(
    ("kind", "column", "values"),
    [
        *(("postgresql", *each) for each in (*KEYS, *OF_POSTGRESQL)),
        *(("mariadb", *each) for each in (*KEYS, *OF_MARIADB)),
        *(("sqlite", *each) for each in KEYS[1:]),
    ],
)
async def test_rows_are_sorted_by_a_key_of_any_type(
    kind: str, column: str, values: list[str], databases: Databases, context: RuntimeContext
) -> None:
    db = databases.open(kind, context)
    table = db.table(f"id {column} PRIMARY KEY, v INT", *(f"{value}, {at}" for at, value in enumerate(values)))
    pages = await db.pages(table=table, size=2)
    assert [record["v"] for page in pages for record in page.records] == [*range(9)]
    rest = await db.pages(pages[1].cursor, table=table, size=2)
    assert [record["v"] for page in rest for record in page.records] == [*range(4, 9)]


async def test_rows_without_a_key_come_first_and_block_nothing(db: Database) -> None:
    rows = ["'eu', 1", "'eu', 2", "'eu', NULL", "'us', 1", "'us', 2", "NULL, 1"]
    table = db.table("region VARCHAR(9), id INT, UNIQUE (region, id)", *rows)
    records = await db.read(table=table, key=["region", "id"], size=2)
    assert sorted(map(str, records[:2])) == ["{'region': 'eu', 'id': None}", "{'region': None, 'id': 1}"]
    assert [(one["region"], one["id"]) for one in records[2:]] == [("eu", 1), ("eu", 2), ("us", 1), ("us", 2)]


async def test_rows_without_a_key_that_did_not_change_are_not_read_again(db: Database) -> None:
    table = db.table("id INT, at DATE", "NULL, '2024-01-01'", "NULL, '2024-02-01'", "1, '2024-01-01'")
    query = f"SELECT * FROM {table}"
    records = await db.read(query=query, size=2, since={"field": "at", "start": "2024-02-01"})
    assert records == [{"id": None, "at": "2024-02-01"}]


async def test_keys_that_the_database_treats_as_equal_are_detected(mariadb: Database) -> None:
    table = mariadb.table("id VARCHAR(9), v INT", *(f"'{key}', 0" for key in ["a", "b", "B", "c"]))
    with pytest.raises(BadResponse, match=r"follows \['[bB]'\] and the database treats them as equal as its key id"):
        await mariadb.read(table=table, size=2)
    assert len(await mariadb.read(query=f"SELECT CAST(id AS BINARY) AS id FROM {table}", size=2)) == 4


async def test_keys_with_misleading_text_are_detected(mariadb: Database) -> None:
    table = mariadb.table("id FLOAT PRIMARY KEY", *map(str, [0.1, 0.2, 0.3]))
    with pytest.raises(BadResponse, match=r"a row after \[0\.1\] that shows the same"):
        await mariadb.read(table=table, size=1)


@pytest.mark.parametrize("column", ["ENUM('b', 'a')", "SET('b', 'a')"])
async def test_enum_keys_are_read_completely(column: str, mariadb: Database) -> None:
    rows = [f"'{each}', {number}" for each in "ba" for number in range(5)]
    table = mariadb.table(f"kind {column}, id INT, PRIMARY KEY (kind, id)", *rows)
    records = await mariadb.read(table=table, key=["kind", "id"], size=3)
    assert [(one["kind"], one["id"]) for one in records] == [(each, n) for each in "ab" for n in range(5)]


async def test_expected_next_row_may_be_deleted_or_preceded(db: Database) -> None:
    table = db.table("id INT PRIMARY KEY", *map(str, (1, 3, 5, 7)))
    (first, *_) = await db.pages(table=table, size=1)
    db.sql(f"INSERT INTO {table} VALUES (2)")
    (second, *_) = await db.pages(first.cursor, table=table, size=1)
    db.sql(f"DELETE FROM {table} WHERE id = 3")
    rest = await db.pages(second.cursor, table=table, size=1)
    assert [*second.records, *(record for page in rest for record in page.records)] == [{"id": 2}, {"id": 5}, {"id": 7}]


def test_key_of_several_columns_uses_its_index(mariadb: Database) -> None:
    """For `(a, b) > (5, 7)` MariaDB scans the whole index."""
    table = mariadb.table("a INT, b INT, c INT, PRIMARY KEY (a, b, c)")
    mariadb.sql(f"INSERT INTO {table} SELECT seq DIV 900, seq DIV 30 MOD 30, seq MOD 30 FROM seq_0_to_8999")
    dialect = mariadb.store.engine.dialect
    statement, values = build_page_query(dialect, table, "abc", loose=(), since=None, after=(9, 29, 9), limit=10)
    with mariadb.store.engine.begin() as connection:
        (plan,) = connection.exec_driver_sql(f"EXPLAIN {statement}", tuple(values)).mappings()
    assert plan["type"] == "range"
    assert int(plan["rows"]) < 50


async def test_incremental_read_compares_decimals(db: Database) -> None:
    table = db.table("id INT PRIMARY KEY, at NUMERIC(20, 0)", "1, 999999999", "2, 10000101112", "3, 1710101012000")
    since = {"field": "at"}
    first = await db.pages(table=table, since=since, size=2)
    assert sum(len(page.records) for page in first) == 3
    db.sql(f"INSERT INTO {table} VALUES (4, 1710101012001), (5, 5)")
    (page,) = await db.pages(first[-1].cursor, table=table, since=since)
    assert [record["id"] for record in page.records] == [4]


async def test_query_may_end_in_a_comment(db: Database) -> None:
    assert await db.read(query="SELECT 1 AS id -- the only one") == [{"id": 1}]


async def test_bytes_are_rejected_as_the_since_field(mariadb: Database) -> None:
    table = mariadb.table("id INT PRIMARY KEY, at BINARY(2)", "1, x'00ff'")
    with pytest.raises(BadResponse, match="`at` holds bytes"):
        await mariadb.read(table=table, since={"field": "at"})


@pytest.mark.parametrize(
    ("column", "value", "shown"),
    [
        ("DATE", "'infinity'", "infinity"),
        ("DATE", "'0044-03-15 BC'", "0044-03-15 BC"),
        ("TIMESTAMPTZ", "'2024-01-01 10:00:00.5+02'", "2024-01-01 08:00:00.500000+00:00"),
        ("TIMESTAMP[]", "ARRAY['-infinity'::timestamp]", ["-infinity"]),
        ("TIME", "'24:00'", "24:00:00"),
        ("INTERVAL", "'1 month 2 days'", "1 mon 2 days"),
        ("TSRANGE", "'[2024-01-01,)'", '["2024-01-01 00:00:00",)'),
        ("INT4MULTIRANGE", "'{[1,3)}'", "{[1,3)}"),
        ("FLOAT8", "'NaN'", "NaN"),
        ("REAL", "'-Infinity'", "-Infinity"),
        ("NUMERIC", "'NaN'", "NaN"),
        ("POINT", "'(1,2)'", "(1,2)"),
    ],
)
async def test_postgresql_values_without_python_type_round_trip_as_text(
    column: str, value: str, shown: Json, postgresql: Database
) -> None:
    table = postgresql.table(f"id INT PRIMARY KEY, v {column}", f"1, {value}")
    assert await postgresql.read(table=table) == [{"id": 1, "v": shown}]
    if isinstance(shown, str):
        postgresql.sql(f"UPDATE {table} SET v = '{shown}'")
        assert await postgresql.read(table=table) == [{"id": 1, "v": shown}]


async def test_locked_table_is_not_a_settings_error(postgresql: Database) -> None:
    table = postgresql.table("id INT PRIMARY KEY")
    with postgresql.store.engine.begin() as other:
        other.exec_driver_sql(f"LOCK TABLE {table}")
        with pytest.raises(Unreachable, match="statement timeout"):
            await postgresql.read(query=f"SELECT id FROM {table}", timeout="1s")
