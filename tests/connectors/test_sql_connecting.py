"""Connections: the options of a database URL, and errors for unreachable databases."""

from __future__ import annotations

from dataclasses import replace

import pytest
from tests.clocks import HeldClock
from tests.connectors.conftest import Reports
from tests.connectors.databases import Database, Databases, outcomes, row

from speclab.connectors.api import RuntimeContext
from speclab.connectors.secrets.references import References
from speclab.connectors.sql.settings import SqlSystem
from speclab.core.errors import EndpointError, SpecError, Unauthorized, Unreachable
from speclab.core.json import Json

PASSWORD = "p@s:s/w%41#o?r&d ${env:X}"


async def test_password_with_any_characters_may_be_a_reference_in_the_url(mariadb: Database) -> None:
    user = f"{mariadb.store.engine.url.database}_user"
    table = mariadb.table("id INT PRIMARY KEY", "1")
    mariadb.sql(f"CREATE USER {user}", f"GRANT SELECT ON {table} TO {user}")
    try:
        with mariadb.store.engine.begin() as connection:
            connection.exec_driver_sql(f"SET PASSWORD FOR {user} = PASSWORD(%s)", (PASSWORD,))
        location = mariadb.store.url.partition("@")[2]
        environ = {"NAME": user, "PASSWORD": PASSWORD, "BOTH": f"{user}:plain", "PLACE": location}
        db = replace(mariadb, references=References(environ, mariadb.references.base))
        assert await db.read(table=table, url="mysql://${env:NAME}:${env:PASSWORD}@${env:PLACE}") == [{"id": 1}]
        mariadb.sql(f"SET PASSWORD FOR {user} = PASSWORD('plain')")
        assert await db.read(table=table, url="mysql://${env:BOTH}@${env:PLACE}") == [{"id": 1}]
        with pytest.raises(Unauthorized) as caught:
            await db.read(table=table, url="mysql://${env:NAME}:${env:PASSWORD}@${env:PLACE}")
        assert "w%41" not in str(caught.value)
    finally:
        mariadb.sql(f"DROP USER {user}")


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("postgresql://me:s3cret@w0rd/x@127.0.0.1/test", "url contains a second @"),
        ("mysql://me:s3cret@w0rd@127.0.0.1/test", "url contains a second @"),
        ("postgresql://me:s3cret@127.0.0.1:port/test", "expected (one|a database URL) such as"),
        ("mysql://root@127.0.0.1", "url names no database"),
        ("mysql://root@127.0.0.1/test?nonsense=1", "the option 'nonsense' is not allowed in a database URL"),
        ("mysql://root@127.0.0.1/test?local_infile=1", "the option 'local_infile' is not allowed"),
        ("mysql://root@127.0.0.1/test?read_default_file=/etc/my.cnf", "the option 'read_default_file' is not allowed"),
        ("mysql://root@127.0.0.1/test?init_command=DROP+TABLE+t", "the option 'init_command' is not allowed"),
        ("postgresql://root@127.0.0.1/test?service=x", "the option 'service' is not allowed"),
        ("postgresql://root@127.0.0.1/test?passfile=/etc/passwd", "the option 'passfile' is not allowed"),
        (
            "sqlite:///x.db?mode=memory",
            "the option 'mode' is not allowed in a database URL; a sqlite URL has no options",
        ),
    ],
)
async def test_invalid_url_is_an_error_of_the_spec(url: str, message: str, mariadb: Database) -> None:
    db = replace(mariadb, references=References({"URL": url}, mariadb.references.base))
    with pytest.raises(SpecError, match=message) as caught:
        await db.read(table="people", url="${env:URL}")
    assert "w0rd" not in f"{caught.value} {caught.value.hint}"


@pytest.mark.parametrize(
    ("kind", "login", "name", "failure", "message"),
    [
        ("postgresql", "postgres@127.0.0.1", "nowhere", Unreachable, 'database "nowhere" does not exist'),
        ("postgresql", "nobody@127.0.0.1", "test", Unauthorized, 'role "nobody" does not exist'),
        ("postgresql", "postgres@nowhere.invalid", "test", Unreachable, "nowhere.invalid"),
        ("mysql", "root@127.0.0.1", "nowhere", Unreachable, "Unknown database 'nowhere'"),
        ("mysql", "root:wrong@127.0.0.1", "test", Unauthorized, "Access denied for user 'root'"),
    ],
)
async def test_connection_errors_are_reported(
    kind: str,
    login: str,
    name: str,
    failure: type[Exception],
    message: str,
    databases: Databases,
    context: RuntimeContext,
) -> None:
    db = databases.open("mariadb" if kind == "mysql" else kind, context)
    with pytest.raises(failure, match=message):
        await db.read(table="people", url=f"{kind}://{login}/{name}", timeout="5s")


@pytest.mark.parametrize(
    ("url", "location"),
    [
        ("postgresql://me:s/cr#t?x@db.example/crm?sslmode=require", "postgresql://db.example/crm"),
        ("postgresql://me:other@db.example/crm", "postgresql://db.example/crm"),
        ("mysql://db.example/crm/", "mysql://db.example/crm"),
        ("sqlite:///out/a#1.db", "sqlite:///out/a#1.db"),
        ("sqlite:////out/a@b:c.db", "sqlite:////out/a@b:c.db"),
    ],
)
def test_destination_depends_on_database_not_on_password(url: str, location: str) -> None:
    system = SqlSystem.model_validate({"connector": "sql", "url": url, "key": "id", "write": {"upsert": "people"}})
    assert system.destination() == f"sql {location} people"


async def test_session_options_of_the_url_apply(postgresql: Database) -> None:
    postgresql.sql("CREATE SCHEMA hidden", "CREATE TABLE hidden.here (id INT PRIMARY KEY)")
    url = f"{postgresql.store.url}?options=-csearch_path%3Dhidden"
    assert outcomes(await postgresql.write(row(1), upsert="here", url=url)) == ["created"]
    assert await postgresql.read(table="here", url=url) == [{"id": 1}]


def cut_off(db: Database) -> None:
    """Close every connection to the database except this one."""
    if db.kind == "postgresql":
        db.sql(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() "
            "AND pid <> pg_backend_pid()"
        )
        return
    others = "FROM information_schema.processlist WHERE db = database() AND id <> connection_id()"
    for (number,) in db.sql(f"SELECT id {others}"):
        db.sql(f"KILL {number}")


@pytest.mark.parametrize("kind", ["postgresql", "mariadb"])
async def test_read_continues_in_a_new_connection(
    kind: str, databases: Databases, context: RuntimeContext, reports: Reports
) -> None:
    db = databases.open(kind, context)
    table = db.table("id INT PRIMARY KEY", *map(str, range(7)))
    keys: list[Json] = []
    async for page in (reader := db.reader(table=table, size=3)).pages(None, full=False):
        keys += [record["id"] for record in page.records]
        cut_off(db)
    await reader.close()
    assert keys == [*range(7)]
    assert len(reports.lines) == 2
    assert "the connection was lost" in reports.lines[0]
    assert "retrying in" in reports.lines[0]


@pytest.mark.parametrize("kind", ["postgresql", "mariadb"])
async def test_batch_repeated_in_a_new_connection_is_written_once(
    kind: str, databases: Databases, context: RuntimeContext
) -> None:
    db = databases.open(kind, context)
    table = db.table("id INT, v INT")
    writer = db.writer(insert=table)
    for number in range(3):
        items = [row(number, v=0)._replace(idempotency_key=f"key {number}")]
        assert outcomes(await writer.write(items)) == ["created"]
        cut_off(db)
        assert outcomes(await writer.write(items)) == ["created"]  # the outcome was unknown, so it is sent again
    await writer.close()
    assert sorted(db.sql(f"SELECT id FROM {table}")) == [(0,), (1,), (2,)]


async def test_database_that_stays_unavailable_ends_a_run(postgresql: Database, clock: HeldClock) -> None:
    role = f"{postgresql.store.engine.url.database}_leaving"
    table = postgresql.table("id INT PRIMARY KEY")
    postgresql.sql(f"CREATE ROLE {role} LOGIN", f"GRANT ALL ON {table} TO {role}")
    writer = postgresql.writer(upsert=table, url=postgresql.store.url.replace("postgres@", f"{role}@"))
    try:
        await writer.write([row(1)])
        postgresql.sql(f"ALTER ROLE {role} CONNECTION LIMIT 0")
        cut_off(postgresql)
        with pytest.raises(Unreachable, match="too many connections for role"):
            await writer.write([row(2)])
        assert len(clock.naps) == 4
    finally:
        await writer.close()
        postgresql.sql(f"DROP TABLE {table}", f"DROP ROLE {role}")


async def test_function_in_a_query_changes_nothing_on_postgresql(postgresql: Database) -> None:
    table = postgresql.table("id INT PRIMARY KEY", "1")
    postgresql.sql(
        f"CREATE FUNCTION sneak_{table}() RETURNS INT LANGUAGE plpgsql AS "
        f"$$ BEGIN INSERT INTO {table} VALUES (99); RETURN 1; END $$"
    )
    with pytest.raises(EndpointError, match="read-only transaction"):
        await postgresql.read(query=f"SELECT id, sneak_{table}() AS n FROM {table}")
    await postgresql.read(query=f"SELECT id, set_config('default_transaction_read_only', 'off', false) FROM {table}")
    assert postgresql.sql(f"SELECT id FROM {table}") == [(1,)]


async def test_session_changes_of_a_query_end_with_its_page(postgresql: Database) -> None:
    table = postgresql.table("id INT PRIMARY KEY", "1", "2", "3")
    setting = "set_config('default_transaction_read_only', 'off', false)"
    query = f"SELECT id, {setting} AS had, current_setting('transaction_read_only') AS read_only FROM {table}"
    assert {record["read_only"] for record in await postgresql.read(query=query, size=1)} == {"on"}


async def test_function_in_a_query_changes_nothing_on_mysql(mariadb: Database) -> None:
    table = mariadb.table("id INT PRIMARY KEY", "1")
    mariadb.sql(
        f"CREATE FUNCTION sneak_{table}() RETURNS INT BEGIN INSERT INTO {table}_log VALUES (99); RETURN 1; END",
        f"CREATE TABLE {table}_log (id INT) ENGINE=MyISAM",  # which no transaction rolls back
    )
    with pytest.raises(EndpointError, match="READ ONLY transaction"):
        await mariadb.read(query=f"SELECT id, sneak_{table}() AS n FROM {table}")
    assert mariadb.sql(f"SELECT id FROM {table}_log") == []
