"""Files behind URLs: web servers with and without ranges, an FTP server, logins, and read-only schemes."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
from aiohttp import web
from tests.connectors.conftest import Serve, item, records_of
from tests.connectors.files import CONTENTS, PEOPLE, Files, file_system
from tests.s3 import SECRET

from speclab.connectors.api import RuntimeContext
from speclab.connectors.registry import open_writer
from speclab.connectors.secrets.references import References
from speclab.core.errors import SpecError, SpeclabError, Unauthorized, Unreachable
from speclab.core.json import Json
from speclab.spec.auth import NoAuth


@pytest.fixture
def references(tmp_path: Path) -> References:
    return References({"SECRET": SECRET}, tmp_path)


@pytest.fixture
def files(references: References, context: RuntimeContext) -> Files:
    return Files(references, context)


def served(content: bytes) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
    """A server that ignores range requests."""

    async def answer(request: web.Request) -> web.StreamResponse:
        if request.query.get("token") != SECRET:
            return web.Response(status=401)
        if request.path != "/in/people":
            return web.Response(status=404 if request.path != "/broken" else 500)
        return web.Response(body=content, headers={"Accept-Ranges": "none"})

    return answer


@pytest.mark.parametrize("name", [name for name in CONTENTS if not name.endswith(".gz")])
async def test_web_server_without_range_requests_is_read_sequentially(name: str, serve: Serve, files: Files) -> None:
    url = await serve(served(CONTENTS[name]))
    form = name.partition(".")[2]
    pages = await files.read(f"{url}/in/people?token=${{env:SECRET}}", format=form)
    assert records_of(pages) == PEOPLE
    assert pages[0].request == f"read {url}/in/people"
    resumed = await files.read(f"{url}/in/people?token=${{env:SECRET}}", pages[0].cursor, format=form)
    assert records_of(resumed) == PEOPLE[1000:]


@pytest.mark.parametrize("name", CONTENTS)
async def test_web_server_with_range_requests_is_read_in_parts(
    name: str, serve: Serve, files: Files, tmp_path: Path
) -> None:
    (tmp_path / name).write_bytes(CONTENTS[name])

    async def answer(request: web.Request) -> web.StreamResponse:
        del request
        return web.FileResponse(tmp_path / name, headers={"Content-Type": "application/octet-stream"})

    url = await serve(answer)
    pages = await files.read(f"{url}/{name}")
    assert records_of(pages) == PEOPLE
    assert records_of(await files.read(f"{url}/{name}", pages[0].cursor)) == PEOPLE[1000:]


async def test_gzipped_file_is_decompressed_once_regardless_of_headers(serve: Serve, files: Files) -> None:
    async def answer(request: web.Request) -> web.StreamResponse:
        assert request.headers["Authorization"] == f"Bearer {SECRET}"
        return web.Response(body=CONTENTS["people.csv.gz"], headers={"Content-Encoding": "gzip"})

    url = await serve(answer)
    options: Json = {"headers": {"Authorization": "Bearer ${env:SECRET}"}}
    assert records_of(await files.read(f"{url}/people.csv.gz", options=options)) == PEOPLE


@pytest.mark.parametrize(
    ("path", "error", "message"),
    [
        ("/in/people", Unauthorized, "401"),
        ("/nowhere?token=${env:SECRET}", Unreachable, "there is no such file"),
        ("/broken?token=${env:SECRET}", Unreachable, "500"),
    ],
)
async def test_web_server_errors_are_classified(
    path: str, error: type[SpeclabError], message: str, serve: Serve, files: Files
) -> None:
    url = await serve(served(b""))
    with pytest.raises(error, match=message) as caught:
        await files.read(url + path, format="csv")
    assert str(caught.value).startswith(url)
    assert SECRET not in str(caught.value)


async def test_dropped_connection_is_not_the_end_of_the_file(serve: Serve, files: Files) -> None:
    async def answer(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Length": str(len(CONTENTS["people.csv"]))})
        await response.prepare(request)
        if request.method == "GET":
            await response.write(CONTENTS["people.csv"][:30_000])
            assert request.transport is not None
            request.transport.close()
        return response

    url = await serve(answer)
    with pytest.raises(Unreachable, match=f"{url}/people.csv: "):
        await files.read(f"{url}/people.csv")


async def test_dead_or_silent_web_server_is_unreachable(serve: Serve, files: Files) -> None:
    with pytest.raises(Unreachable, match=r"http://127\.0\.0\.1:9/a\.csv: Cannot connect"):
        await files.read("http://127.0.0.1:9/a.csv")
    never = asyncio.Event()

    async def answer(request: web.Request) -> web.StreamResponse:
        del request
        await never.wait()
        return web.Response()

    url = await serve(answer)
    with pytest.raises(Unreachable, match=f"{url}/a.csv: "):
        await files.read(f"{url}/a.csv", limits={"timeout": "200ms"})
    never.set()


@pytest.mark.parametrize(
    ("path", "options", "message"),
    [
        ("https://host/out.jsonl", {}, "https:// cannot be written: readers would see incomplete files"),
        ("zip://out.jsonl::s3://bucket/a.zip", {}, "zip:// cannot be written"),
        ("foo://bucket/out.jsonl", {}, "Protocol not known: foo"),
        ("gs://bucket/out.jsonl", {}, "the driver is not installed: Please install gcsfs"),
    ],
)
def test_unsupported_target_url_is_reported_at_once(path: str, options: Json, message: str, files: Files) -> None:
    with pytest.raises(SpecError, match=message):
        files.opened(path, options=options)


async def test_appending_to_a_url_from_a_reference_is_rejected(references: References, context: RuntimeContext) -> None:
    target = file_system("${env:SECRET}", mode="append", format="csv")
    elsewhere = References({"SECRET": "s3://bucket/a.csv"}, references.base)
    with pytest.raises(SpecError, match="a remote file cannot be appended to"):
        open_writer(target, NoAuth(), elsewhere, context)


async def test_rename_replaces_the_old_file(tmp_path: Path, files: Files) -> None:
    """As for sftp://; here with the driver that does the same on this machine."""
    (tmp_path / "out").mkdir()
    path = f"local://{tmp_path}/out/deep/a.csv"
    for name in ("Ada", "Bo"):
        await files.write(path, item("1", name=name), mode="replace")
        assert [file.name for file in (tmp_path / "out" / "deep").iterdir()] == ["a.csv"]
        assert records_of(await files.read(path)) == [{"id": "1", "name": name}]


async def test_file_url_is_a_local_file(tmp_path: Path, files: Files) -> None:
    await files.write(f"file://{tmp_path}/a%20b.csv", item("1", name="Ada"), mode="append")
    assert (tmp_path / "a b.csv").read_text() == "id,name\n1,Ada\n"
    assert records_of(await files.read(f"file://{tmp_path}/a%20b.csv")) == [{"id": "1", "name": "Ada"}]


def test_login_in_a_url_is_not_shown(files: Files, references: References) -> None:
    path = f"ftp://ada:{SECRET}@files.example.com/a.csv"
    writer = files.opened(path, mode="replace")
    assert writer._target.name == "ftp://files.example.com/a.csv"  # type: ignore[attr-defined]
    assert references.redactor.redact(SECRET) == "***"
    assert file_system(path).destination() == "file ftp://files.example.com/a.csv"


async def test_ftp_server_that_rejects_the_login_is_unauthorized(files: Files) -> None:
    async def reject(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for answer in (b"220 ready\r\n", b"331 and the password?\r\n"):
            writer.write(answer)
            await reader.readline()
        writer.write(b"530 Login incorrect.\r\n")
        await writer.drain()
        writer.close()
        await writer.wait_closed()

    async with await asyncio.start_server(reject, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        with pytest.raises(Unauthorized, match="530 Login incorrect") as caught:
            await files.read(f"ftp://ada:${{env:SECRET}}@127.0.0.1:{port}/a.csv")
    assert str(caught.value).startswith(f"ftp://127.0.0.1:{port}/a.csv: ")


async def test_silent_ftp_server_is_unreachable(files: Files) -> None:
    over, closed = asyncio.Event(), asyncio.Event()

    async def wait(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        del reader
        await over.wait()
        writer.close()
        await writer.wait_closed()
        closed.set()

    async with await asyncio.start_server(wait, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        with pytest.raises(Unreachable, match=f"ftp://127.0.0.1:{port}/a.csv: timed out"):
            await files.read(f"ftp://127.0.0.1:{port}/a.csv", limits={"timeout": "100ms"})
        over.set()
        await closed.wait()


def test_same_key_in_another_store_is_another_destination() -> None:
    here, there = (
        file_system("s3://b/a.csv", options={"endpoint_url": url, "secret": url}) for url in ("http://a", "http://b")
    )
    assert here.destination() == "file s3://b/a.csv endpoint_url=http://a"
    assert there.destination() != here.destination()
