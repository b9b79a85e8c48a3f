"""Comparing rows: an equal value is unchanged, in any format that the column returns."""

from __future__ import annotations

from tests.connectors.databases import Database, outcomes, row

from speclab.core.json import Json
from speclab.sync.plan import find_differences

TIME = "2024-01-01T10:00:00Z"
UUID = "A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11"
ALL: list[tuple[str, list[Json]]] = [
    ("NUMERIC(10, 2)", ["36.5", "36.50", 36.5, 5, "5", "1e2", 0.1]),
    ("BIGINT", [5, "5", "05", "9007199254740993", 9007199254740993]),
    ("DOUBLE PRECISION", [0.1, "0.1", 5, "5.0", 1e300]),
    ("VARCHAR(40)", ["x", 5, 5.5, "", None, {"a": 1}, TIME, UUID]),
    ("DATE", ["2024-01-01"]),
    ("CHAR(5)", ["ab"]),
]
SERVERS: list[tuple[str, list[Json]]] = [
    ("TIMESTAMP", ["2024-01-01 10:00:00", "2024-01-01T10:00:00", "2024-01-01"]),
    ("DATE", ["2024-01-01T00:00:00"]),
    ("TIME", ["10:00", "10:00:00"]),
    ("UUID", [UUID]),
    ("JSON", [{"b": 1, "a": [1.5]}, '{"b": 1}']),
    ("BOOLEAN", [True, False]),
]
POSTGRESQL: list[tuple[str, list[Json]]] = [
    ("TIMESTAMP", [TIME, "2024-01-01T10:00:00.123456"]),
    ("TIMESTAMPTZ", [TIME, "2024-01-01T12:00:00+02:00"]),
    ("TIMETZ", ["10:00:00.5+02:00"]),
    ("JSONB", [{"b": 1, "a": {"y": 1, "x": 2}}, [{"b": 1}]]),
    ("BOOLEAN", ["true", "false"]),
    ("BYTEA", ["abc"]),
    ("FLOAT8", ["NaN", "Infinity"]),
    ("DATE", ["infinity"]),
]
MARIADB: list[tuple[str, list[Json]]] = [("BIT(4)", [5, True]), ("BLOB", ["abc"]), ("YEAR", [2024])]
CASES = [
    (kind, column, value)
    for kind, more in (("sqlite", []), ("postgresql", [*SERVERS, *POSTGRESQL]), ("mariadb", [*SERVERS, *MARIADB]))
    for column, values in [*ALL, *more]
    for value in values
]


async def test_written_row_is_unchanged(db: Database) -> None:
    cases = [(column, value) for kind, column, value in CASES if kind == db.kind]
    columns = ", ".join(f"c{number} {column}" for number, (column, _) in enumerate(cases))
    table = db.table(f"id INT PRIMARY KEY, {columns}")
    record = row(1, **{f"c{number}": value for number, (_, value) in enumerate(cases)})
    assert outcomes(await db.write(record, upsert=table)) == ["created"]
    (found,) = await db.find(record, upsert=table)
    changed = {one.field: (one.was, one.becomes) for one in find_differences(found, record.payload)}
    assert {name: (cases[int(name[1:])], change) for name, change in changed.items()} == {}


async def test_different_value_is_a_change_shown_as_stored(postgresql: Database) -> None:
    table = postgresql.table("id INT PRIMARY KEY, n NUMERIC(20, 2), at TIMESTAMPTZ", f"1, 9007199254740993, '{TIME}'")
    record = row(1, n=9007199254740992, at="2024-01-01T10:00:00+01:00")
    (found,) = await postgresql.find(record, upsert=table)
    assert [(one.field, one.was) for one in find_differences(found, record.payload)] == [
        ("n", '"9007199254740993.00"'),
        ("at", '"2024-01-01 10:00:00+00:00"'),
    ]
