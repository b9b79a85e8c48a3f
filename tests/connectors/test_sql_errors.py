"""Rows rejected by a database: whether the row, the table, or the moment is the cause."""

from __future__ import annotations

import asyncio
import time
from decimal import Decimal

import pytest
from tests.connectors.databases import Database, Databases, outcomes, row

from speclab.connectors.api import MappedRecord, RuntimeContext
from speclab.core.errors import BadResponse
from speclab.core.json import Json
from speclab.core.outcome import ErrorClass

TRIGGER = """\
CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS
$$ BEGIN IF NEW.v = 'bad' THEN RAISE EXCEPTION 'no way' USING ERRCODE = 'AB001'; END IF; RETURN NEW; END $$"""


async def rejected(db: Database, table: str, **fields: Json) -> ErrorClass:
    """Return the error class of a rejected row."""
    (answer,) = await db.write(row(**fields), upsert=table)
    assert answer.error is not None
    return answer.error.error_class


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("VARCHAR(2)", "long"),
        ("INT NOT NULL", None),
        ("DATETIME", "no time"),
        ("DATETIME", "2024-01-01T10:00:00Z"),
        ("INT", "no number"),
        ("INT CHECK (v < 5)", 5),
        ("JSON", "no json"),
        ("ENUM('a')", "b"),
        ("GEOMETRY", "no place"),
    ],
)
async def test_mariadb_rejects_a_row_for_its_value(column: str, value: Json, mariadb: Database) -> None:
    table = mariadb.table(f"id VARCHAR(9) PRIMARY KEY, v {column}")
    (answer,) = await mariadb.write(row(v=value), upsert=table)
    assert answer.error is not None
    assert answer.error.error_class is ErrorClass.REJECTED
    assert answer.error.field == (None if column == "GEOMETRY" else "v")


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("INT NOT NULL", None),
        ("INT", "no number"),
        ("TIMESTAMPTZ", "no time"),
        ("INT CHECK (v < 5)", 5),
        ("JSONB", "no json"),
        ("TEXT[]", ["a"]),
        ("INT UNIQUE", 1),
        ("INT GENERATED ALWAYS AS IDENTITY", 1),
    ],
)
async def test_postgresql_names_the_column_of_the_rejected_value(
    column: str, value: Json, postgresql: Database
) -> None:
    table = postgresql.table(f"id VARCHAR(9) PRIMARY KEY, w INT, v {column}")
    if column.endswith("UNIQUE"):
        postgresql.sql(f"INSERT INTO {table} VALUES ('other', 1, 1)")
    (answer,) = await postgresql.write(row(w=1, v=value), upsert=table)
    assert answer.error is not None
    assert (answer.error.error_class, answer.error.field) == (ErrorClass.REJECTED, "v"), answer.error.message


async def test_mariadb_rejects_a_row_whose_characters_its_key_cannot_store(mariadb: Database) -> None:
    table = mariadb.table("id VARCHAR(9) CHARACTER SET latin1 PRIMARY KEY")
    (answer,) = await mariadb.write(row("日"), upsert=table)
    assert answer.error is not None
    assert answer.error.error_class is ErrorClass.REJECTED


async def test_mariadb_rejects_a_row_by_a_trigger_or_a_missing_partition(mariadb: Database) -> None:
    table = mariadb.table("id VARCHAR(9) PRIMARY KEY, v VARCHAR(9)")
    mariadb.sql(
        f"CREATE TRIGGER refuse_{table} BEFORE INSERT ON {table} FOR EACH ROW "
        "IF NEW.v = 'bad' THEN SIGNAL SQLSTATE '45000' SET MESSAGE_TEXT = 'no way'; END IF"
    )
    assert await rejected(mariadb, table, v="bad") is ErrorClass.REJECTED
    table = mariadb.table("id INT PRIMARY KEY")
    mariadb.sql(f"ALTER TABLE {table} PARTITION BY RANGE (id) (PARTITION one VALUES LESS THAN (9))")
    (answer,) = await mariadb.write(row(10), upsert=table)
    assert answer.error is not None


async def test_row_over_max_allowed_packet_fails_without_losing_the_connection(mariadb: Database) -> None:
    table = mariadb.table("id INT PRIMARY KEY, v LONGTEXT")
    ((most,),) = mariadb.sql("SELECT @@max_allowed_packet")
    (answer,) = await mariadb.write(row(1, v="x" * most), upsert=table)
    assert answer.error is not None
    assert answer.error.field == "v"
    assert "max_allowed_packet" in answer.error.message


async def test_postgresql_rejects_rows_by_trigger_policy_or_index(postgresql: Database) -> None:
    table = postgresql.table("id TEXT PRIMARY KEY, v TEXT")
    postgresql.sql(TRIGGER, f"CREATE TRIGGER one BEFORE INSERT ON {table} FOR EACH ROW EXECUTE FUNCTION refuse()")
    assert await rejected(postgresql, table, v="bad") is ErrorClass.REJECTED
    (answer,) = await postgresql.write(row("".join(map(chr, range(33, 9000)))), upsert=table)
    assert answer.error is not None
    assert "index row" in answer.error.message


@pytest.mark.parametrize("kind", ["postgresql", "sqlite"])
async def test_row_skipped_by_a_trigger_is_not_written(
    kind: str, databases: Databases, context: RuntimeContext
) -> None:
    db = databases.open(kind, context)
    table = db.table("id INT PRIMARY KEY, v INT")
    if kind == "sqlite":
        db.sql(f"CREATE TRIGGER skip BEFORE INSERT ON {table} WHEN NEW.v = 5 BEGIN SELECT RAISE(IGNORE); END")
    else:
        db.sql(
            "CREATE FUNCTION skip() RETURNS trigger LANGUAGE plpgsql AS "
            "$$ BEGIN IF NEW.v = 5 THEN RETURN NULL; END IF; RETURN NEW; END $$",
            f"CREATE TRIGGER one BEFORE INSERT ON {table} FOR EACH ROW EXECUTE FUNCTION skip()",
        )
    writer = db.writer(upsert=table)
    try:
        for first in (0, 10):  # the second time, rows are assumed to be new
            assert outcomes(await writer.write([row(first, v=1)])) == ["created"]
            left_out = "the database left out 1 of 2 rows and gave no reason; a trigger may skip rows"
            assert outcomes(await writer.write([row(first + 1, v=1), row(first + 2, v=5)])) == [left_out] * 2
    finally:
        await writer.close()
    assert sorted(db.sql(f"SELECT id FROM {table}")) == [(0,), (10,)]
    only_keys = [MappedRecord("0", {"id": 0}, {}, "")]
    assert outcomes(await db.write(*only_keys, upsert=table)) == ["updated"]


async def test_missing_privilege_fails_the_batch_and_a_policy_fails_the_row(postgresql: Database) -> None:
    role = f"{postgresql.store.engine.url.database}_reader"
    table = postgresql.table("id TEXT PRIMARY KEY, v TEXT")
    other = postgresql.store.url.replace("postgres@", f"{role}@")
    postgresql.sql(f"CREATE ROLE {role} LOGIN", f"GRANT SELECT ON {table} TO {role}")
    try:
        with pytest.raises(BadResponse, match="permission denied"):
            await postgresql.write(row(), row("b"), upsert=table, url=other)
        postgresql.sql(f"GRANT ALL ON {table} TO {role}", f"ALTER TABLE {table} ENABLE ROW LEVEL SECURITY")
        (answer,) = await postgresql.write(row(), upsert=table, url=other)
        assert answer.error is not None
        assert "row-level security policy" in answer.error.message
    finally:
        postgresql.sql(f"DROP TABLE {table}", f"DROP ROLE {role}")


def wait_until_it_waits(db: Database, table: str) -> None:
    """Wait until a statement about `table` waits for a lock. MariaDB refreshes the view after 0.1 s."""
    waiting = (
        f"SELECT 1 FROM information_schema.innodb_trx WHERE trx_state = 'LOCK WAIT' AND trx_query LIKE '%%{table}%%'"
    )
    for _ in range(100):
        if db.sql(waiting):
            return
        time.sleep(0.11)
    raise AssertionError(table)


@pytest.mark.parametrize("kind", ["postgresql", "mariadb"])
async def test_lock_timeout_is_retried(kind: str, databases: Databases, context: RuntimeContext) -> None:
    db = databases.open(kind, context)
    table = db.table("id VARCHAR(9) PRIMARY KEY, v INT", "'a', 1")
    with db.store.engine.begin() as other:
        other.exec_driver_sql(f"UPDATE {table} SET v = 2")
        (answer,) = await db.write(row("a", v=3), upsert=table, timeout="1s")
    assert answer.error is not None
    assert (answer.error.error_class, answer.error.sent) == (ErrorClass.SERVER, False)


async def test_statement_timeout_is_retried(mariadb: Database) -> None:
    table = mariadb.table("id VARCHAR(9) PRIMARY KEY")
    mariadb.sql(f"CREATE TRIGGER slow_{table} BEFORE INSERT ON {table} FOR EACH ROW DO SLEEP(5)")
    name = f"hasty_{table}"
    mariadb.sql(f"CREATE USER {name}@'%%' WITH MAX_STATEMENT_TIME 0.1", f"GRANT ALL ON *.* TO {name}@'%%'")
    try:
        url = mariadb.store.url.replace("//root@", f"//{name}@")
        (answer,) = await mariadb.write(row("a"), upsert=table, url=url)
    finally:
        mariadb.sql(f"DROP USER {name}@'%%'")
    assert answer.error is not None
    assert answer.error.error_class is ErrorClass.SERVER, answer.error.message


async def test_deadlock_is_retried(mariadb: Database) -> None:
    table = mariadb.table("id VARCHAR(9) PRIMARY KEY, v INT", "'a', 1", "'b', 1")
    with mariadb.store.engine.connect() as other:
        weight = f"INSERT INTO {table} SELECT seq, 0 FROM seq_1_to_500"  # so that it is not the victim
        for statement in (weight, f"UPDATE {table} SET v = 2 WHERE id = 'b'"):
            other.exec_driver_sql(statement)
        writing = asyncio.create_task(mariadb.write(row("a", v=3), row("b", v=3), upsert=table))
        await asyncio.to_thread(wait_until_it_waits, mariadb, table)
        await asyncio.to_thread(other.exec_driver_sql, f"UPDATE {table} SET v = 2 WHERE id = 'a'")
        results = await writing
    assert [result.error and result.error.error_class for result in results] == [ErrorClass.SERVER] * 2


@pytest.mark.parametrize("kind", ["postgresql", "mariadb", "sqlite"])
@pytest.mark.parametrize("value", [1.005, "1.005", "-0.001", -0.001, 1e-7])
async def test_decimal_places_beyond_the_column_are_not_rounded_silently(
    kind: str, value: Json, databases: Databases, context: RuntimeContext
) -> None:
    db = databases.open(kind, context)
    table = db.table("id VARCHAR(9) PRIMARY KEY, v NUMERIC(5,2)")
    (answer,) = await db.write(row(v=value), upsert=table)
    if kind == "sqlite":  # which keeps it as it is
        assert db.sql(f"SELECT v FROM {table}") == [(float(str(value)),)]
        return
    assert answer.error is not None
    assert (answer.error.error_class, answer.error.field) == (ErrorClass.REJECTED, "v")
    assert answer.error.message == (
        f"{value} would be rounded, for the column 'v' keeps 2 decimal places; Round(2) in its mapping row rounds it"
    )
    assert db.sql(f"SELECT v FROM {table}") == []


@pytest.mark.parametrize("kind", ["postgresql", "mariadb"])
@pytest.mark.parametrize("value", [1.01, "1.010000", 7, "7", 0.1, "1e2", "-0.00", None])
async def test_number_that_fits_its_column_is_written(
    kind: str, value: Json, databases: Databases, context: RuntimeContext
) -> None:
    db = databases.open(kind, context)
    table = db.table("id VARCHAR(9) PRIMARY KEY, v NUMERIC(5,2)")
    assert outcomes(await db.write(row(v=value), upsert=table)) == ["created"]
    expected = None if value is None else Decimal(str(value))
    assert db.sql(f"SELECT v FROM {table}") == [(expected,)]


@pytest.mark.parametrize(("column", "value"), [("MONEY", "1.005"), ("NUMERIC(5,-2)", 150)])
async def test_postgresql_rounds_no_number_silently(column: str, value: Json, postgresql: Database) -> None:
    table = postgresql.table(f"id VARCHAR(9) PRIMARY KEY, v {column}")
    assert await rejected(postgresql, table, v=value) is ErrorClass.REJECTED
