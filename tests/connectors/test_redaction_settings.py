"""References are masked in every setting, and addresses stay readable."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from tests.connectors.conftest import read_all

from speclab.connectors.api import RuntimeContext
from speclab.connectors.file.settings import FileSystem
from speclab.connectors.http.settings import HttpSystem
from speclab.connectors.registry import open_reader
from speclab.connectors.secrets.references import References
from speclab.connectors.sql.settings import SqlSystem
from speclab.core.errors import SpeclabError
from speclab.core.json import Json
from speclab.spec.auth import NoAuth

ENVIRONMENT = {
    "TOKEN": "xoxb-4a7f0c9e",
    "HOOK": "https://hooks.example.com/services/T0001/B7c1d9e4f2a8b6",
    "URL": "http://crm.example.com:8080/api/v3",
    "HOST": "crm-eu.example.com",
    "DSN": "postgresql://app@db.example.com/sales?password=hunter2-hunter2&application_name=speclab",
    "DSN_WITH_LOGIN": "postgresql://app:s3cr3t%2Fword@db.example.com/sales",
    "DIRECTORY": "/srv/exports",
    "PASSWORD": "p@ss/w0rd:1",
    "TABLE": "people",
}


@pytest.fixture
def references(tmp_path: Path) -> References:
    return References(ENVIRONMENT, tmp_path)


def http(base_url: str, path: str = "/people") -> HttpSystem:
    settings: dict[str, Json] = {"connector": "http", "base_url": base_url, "key": "id", "read": {"path": path}}
    return HttpSystem.model_validate(settings)


def sql(url: str, table: str = "people") -> SqlSystem:
    return SqlSystem.model_validate({"connector": "sql", "url": url, "key": "id", "read": {"table": table}})


async def read(system: SqlSystem | FileSystem, references: References, context: RuntimeContext) -> None:
    await read_all(open_reader(system, NoAuth(), references, context))


@pytest.mark.parametrize(
    ("system", "shown"),
    [
        (http("https://x.example.com/${env:TOKEN}/v1"), "https://x.example.com/***/v1"),
        (http("https://x.example.com", "/bot${env:TOKEN}/send"), "https://x.example.com/bot***/send"),
        (http("${env:HOOK}"), "https://hooks.example.com/services/T0001/***"),
        (http("${env:URL}"), "http://crm.example.com:8080/api/v3"),
        (http("https://${env:HOST}/v1"), "https://crm-eu.example.com/v1"),
        (http("https://me:${env:PASSWORD}@${env:HOST}"), "https://me:***@crm-eu.example.com"),
        (sql("${env:DSN}"), "postgresql://app@db.example.com/sales?password=***&application_name=speclab"),
        (sql("${env:DSN_WITH_LOGIN}"), "postgresql://app:***@db.example.com/sales"),
        (sql("sqlite:///out.db", "${env:TABLE}"), "sqlite:///out.db"),
        (FileSystem(connector="file", path="${env:DIRECTORY}/a.csv", key="id"), "/srv/exports/a.csv"),
        (FileSystem(connector="file", path="ftp://me:${env:PASSWORD}@h/a.csv", key="id"), "ftp://me:***@h/a.csv"),
    ],
)
def test_secrets_of_a_resolved_address_are_masked_and_the_rest_is_shown(
    system: HttpSystem | SqlSystem | FileSystem, shown: str, references: References
) -> None:
    resolved = references.resolve_settings(system)
    match resolved:
        case HttpSystem():
            path = resolved.read.path if resolved.read is not None and "bot" in str(resolved.read.path) else ""
            text = f"{resolved.base_url}{path}"
        case SqlSystem():
            text = resolved.url
        case _:
            text = resolved.path
    assert references.redactor.redact(text) == shown


async def test_password_in_the_query_of_a_database_url_is_not_shown(
    references: References, context: RuntimeContext
) -> None:
    with pytest.raises(SpeclabError) as caught:
        await read(sql("${env:DSN}"), references, context)
    assert "hunter2" not in f"{caught.value.message} {vars(caught.value)}"


@pytest.mark.parametrize("path", ["ftp://me:${env:PASSWORD}@127.0.0.1:{port}/a.csv", "${env:FTP}"])
async def test_password_with_url_characters_reaches_an_ftp_server_and_is_not_shown(
    path: str, tmp_path: Path, context: RuntimeContext
) -> None:
    heard: list[bytes] = []

    async def reject(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for answer in (b"220 ready\r\n", b"331 and the password?\r\n"):
            writer.write(answer)
            heard.append(await reader.readline())
        writer.write(b"530 not with " + heard[-1].rstrip() + b"\r\n")
        await writer.drain()
        writer.close()
        await writer.wait_closed()

    async with await asyncio.start_server(reject, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        encoded = f"ftp://me:p%40ss%2Fw0rd%3A1@127.0.0.1:{port}/a.csv"
        references = References({**ENVIRONMENT, "FTP": encoded}, tmp_path)
        system = FileSystem(connector="file", path=path.replace("{port}", str(port)), key="id")
        with pytest.raises(SpeclabError) as caught:
            await read(system, references, context)
    assert heard == [b"USER me\r\n", b"PASS p@ss/w0rd:1\r\n"]
    assert caught.value.message == f"ftp://127.0.0.1:{port}/a.csv: 530 not with PASS ***"
