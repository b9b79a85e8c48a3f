"""The doctor: each check finds a real problem, names what to do, and contacts only what the spec may use."""

from __future__ import annotations

import asyncio
import socket
import sqlite3
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from ipaddress import IPv4Address
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from tests.cli.conftest import FILE_SOURCE, SPEC

from speclab.connectors.trust import refuse
from speclab.core.processes import module_command
from speclab.runlog import RunLog
from speclab.service.heartbeat import Heartbeat, ServedSpec, write_heartbeat
from speclab.workbench import doctor
from speclab.workbench.doctor import CheckState, Finding

NOW = datetime.now(UTC)


def states(findings: list[Finding]) -> list[str]:
    return [finding.state.value for finding in findings]


@pytest.fixture
def workspace(tmp_path: Path) -> Path:
    (tmp_path / ".speclab").mkdir(mode=0o700)
    return tmp_path


def write_spec(workspace: Path, source: str = FILE_SOURCE, auth: str = "type: none") -> Path:
    path = workspace / "people.md"
    path.write_text(SPEC.format(source=source, step="Trim", auth=auth))
    return path


def test_the_versions_of_this_installation_fit() -> None:
    assert states(list(doctor.check_versions())) == ["ok", "ok", "ok"]


def test_a_missing_and_an_old_library_are_failing() -> None:
    requirements = ["nowhere-to-be-found>=1", "textual<99,>=98", 'of-an-extra>=1; extra == "x"']
    *_, found = doctor.check_versions(requirements)
    assert found.state is CheckState.FAILING
    assert found.what.startswith("nowhere-to-be-found is not installed; textual is ")
    assert found.what.endswith("expected 98 or later")


@pytest.mark.parametrize(
    ("environ", "encoding", "size", "state"),
    [
        ({"TERM": "xterm-256color"}, "utf-8", (120, 40), "ok"),
        ({"TERM": "xterm"}, "utf-8", (79, 24), "attention"),
        ({"TERM": "xterm"}, "ascii", (80, 24), "attention"),
        ({"TERM": "dumb"}, "utf-8", (80, 24), "attention"),
        ({}, "utf-8", None, "ok"),
    ],
)
def test_the_terminal_can_show_the_app(
    environ: dict[str, str], encoding: str, size: tuple[int, int] | None, state: str
) -> None:
    assert states(list(doctor.check_terminal(environ, encoding, size))) == [state]


def test_private_files_that_others_can_read_need_attention(workspace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(workspace / "state"))
    (workspace / ".env").write_text("TOKEN=x")
    (workspace / ".env").chmod(0o644)
    (workspace / "key").write_text("secret")
    (workspace / "key").chmod(0o640)
    spec = write_spec(workspace, auth="type: bearer\ntoken: ${file:key}")
    files = doctor.find_private_files(workspace, [spec])
    found = list(doctor.check_permissions(files))
    assert states(found) == ["attention", "attention"]
    assert {finding.todo for finding in found} == {f"chmod 600 {workspace / name}" for name in (".env", "key")}
    for finding in found:
        Path(finding.todo.split()[-1]).chmod(0o600)
    assert states(list(doctor.check_permissions(files))) == ["ok"]


def test_the_disk_of_a_directory_that_does_not_exist_yet_is_checked(workspace: Path) -> None:
    (found,) = doctor.check_disk(workspace / "a" / "b")
    assert f"GB free at {workspace}" in found.what


def test_a_run_log_is_checked_for_damage(workspace: Path) -> None:
    path = workspace / ".speclab" / "runlog.db"
    assert states(list(doctor.check_run_log(path))) == ["ok"]
    with RunLog.open(path) as log:
        for _ in range(300):
            log.finish_run(log.start_run("crm", "abc", "manual"))
    (found,) = doctor.check_run_log(path)
    assert found.state is CheckState.OK
    assert "300 runs, 600 events" in found.what
    with sqlite3.connect(path) as db:
        (root,) = db.execute("SELECT rootpage FROM sqlite_master WHERE name = 'log_event_by_spec'").fetchone()
    db.close()
    with path.open("r+b") as file:
        file.seek((root - 1) * 4096)
        file.write(b"\xff" * 4096)
    (found,) = doctor.check_run_log(path)
    assert found.state is CheckState.FAILING
    assert "damaged" in found.what
    assert ".recover" in found.todo


def test_a_file_that_is_no_run_log_is_failing(workspace: Path) -> None:
    path = workspace / "notes.txt"
    path.write_text("no database" * 100)
    (found,) = doctor.check_run_log(path)
    assert found.state is CheckState.FAILING
    assert found.todo


async def test_the_scheduler_is_checked_by_its_heartbeat(workspace: Path) -> None:
    def check(in_progress: int = 1) -> list[Finding]:
        return list(doctor.check_service(workspace, in_progress, NOW))

    assert states(check(0)) == ["ok"]
    assert states(check()) == ["attention"]
    beat = Heartbeat.start(NOW)
    write_heartbeat(workspace, beat)
    assert states(check()) == ["ok"]
    write_heartbeat(workspace, replace(beat, specs={"crm": ServedSpec("", "", problem="no source")}))
    assert [finding.what for finding in check()][1:] == ["crm cannot run: no source"]
    write_heartbeat(workspace, Heartbeat.start(NOW - timedelta(minutes=2)))
    (found,) = check()
    assert (found.state, "has not reported for 120 s" in found.what) == (CheckState.FAILING, True)
    process = await asyncio.create_subprocess_exec(*module_command("this"), stdout=asyncio.subprocess.DEVNULL)
    await process.wait()
    write_heartbeat(workspace, replace(beat, pid=process.pid))
    (found,) = check()
    assert (found.state, "died without stopping" in found.what) == (CheckState.FAILING, True)


def test_a_spec_with_a_problem_is_failing_with_its_location(workspace: Path) -> None:
    spec = write_spec(workspace)
    assert states(list(doctor.check_spec(spec, "people"))) == ["ok"]
    spec = write_spec(workspace, "connector: fax\nkey: id")
    (found,) = doctor.check_spec(spec, "people")
    assert found.state is CheckState.FAILING
    assert "people.md:" in found.what


async def test_integration_that_another_tool_runs_is_not_contacted(workspace: Path) -> None:
    spec = write_spec(workspace, "connector: external\ntool: airflow")
    (found,) = doctor.check_spec(spec, "people")
    assert (found.state, found.what) == (CheckState.OK, "another tool runs it and reports its runs")
    assert await doctor.check_systems({"people": spec}, refuse) == []


async def test_database_without_a_driver_is_failing(workspace: Path) -> None:
    spec = write_spec(workspace, "connector: sql\nurl: oracle://x/y\nkey: id\nread: {table: t}")
    found = (await doctor.check_systems({"people": spec}, refuse))[0]
    assert (found.check, found.state) == ("people source", CheckState.FAILING)
    assert "oracle" in found.what


# --- systems ---------------------------------------------------------------------------------------------------------

Start = Callable[..., Awaitable[str]]


@pytest.fixture
async def start() -> AsyncIterator[Start]:
    """Start a server that answers every request with a status and headers; return its address."""
    servers = []

    async def open_server(status: str = "200 OK", headers: str = "", tls: ssl.SSLContext | None = None) -> str:
        async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            head = await reader.readuntil(b"\r\n\r\n")
            body = b"" if head.startswith(b"HEAD") else b"[]"
            writer.write(
                f"HTTP/1.1 {status}\r\n{headers}Content-Length: 2\r\nConnection: close\r\n\r\n".encode() + body
            )
            await writer.drain()
            writer.close()

        server = await asyncio.start_server(answer, "127.0.0.1", 0, ssl=tls)
        servers.append(server)
        scheme = "https" if tls else "http"
        return f"{scheme}://127.0.0.1:{server.sockets[0].getsockname()[1]}"

    yield open_server
    for server in servers:
        server.close()


@pytest.mark.parametrize(
    ("seconds", "state", "words"),
    [(0, "ok", "agree"), (120, "attention", "s behind"), (-3600, "failing", "s ahead of")],
)
async def test_the_clock_is_compared_with_that_of_the_system(
    start: Start, seconds: int, state: str, words: str
) -> None:
    date = format_datetime(datetime.now(UTC) + timedelta(seconds=seconds), usegmt=True)
    (found,) = await doctor.check_origin(await start("404 Not Found", f"Date: {date}\r\n"))
    assert found.state.value == state
    assert words in found.what
    assert not found.unreachable


async def test_a_system_without_a_date_is_only_reached(start: Start) -> None:
    (found,) = await doctor.check_origin(await start())
    assert (found.state, "no date" in found.what) == (CheckState.OK, True)


async def test_a_name_that_cannot_be_resolved_and_a_closed_port_are_unreachable() -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    for origin, words in (("http://crm.invalid", "cannot be resolved"), (f"http://127.0.0.1:{port}", "cannot connect")):
        (found,) = await doctor.check_origin(origin)
        assert (found.state, found.unreachable) == (CheckState.FAILING, True)
        assert words in found.what
        assert found.todo


async def test_the_proxy_of_the_environment_is_used_and_named(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    proxy = await start()
    monkeypatch.setenv("HTTP_PROXY", proxy)
    (found,) = await doctor.check_origin("http://crm.invalid")
    assert f"through the proxy {proxy.removeprefix('http://')}" in found.what


def make_certificate(directory: Path, days: int) -> tuple[ssl.SSLContext, Path]:
    """Return a server context and the file of its certificate for 127.0.0.1, which is valid for `days`."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "test")])
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(NOW - timedelta(days=400))
        .not_valid_after(NOW + timedelta(days=days, hours=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(IPv4Address("127.0.0.1"))]), critical=False)
        .sign(key, hashes.SHA256())
    )
    file = directory / "certificate.pem"
    file.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    private = directory / "key.pem"
    form = serialization.PrivateFormat.PKCS8
    private.write_bytes(key.private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption()))
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(file, private)
    return context, file


@pytest.mark.parametrize(("days", "state"), [(90, "ok"), (10, "attention"), (-1, "failing")])
async def test_a_certificate_is_checked_for_its_end(
    start: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, days: int, state: str
) -> None:
    context, file = make_certificate(tmp_path, days)
    monkeypatch.setenv("SSL_CERT_FILE", str(file))
    found = (await doctor.check_origin(await start(tls=context)))[0]
    assert found.state.value == state
    assert ("has expired" if days < 0 else f"({days} days)") in found.what


async def test_a_certificate_of_an_unknown_authority_is_unreachable(start: Start, tmp_path: Path) -> None:
    context, _ = make_certificate(tmp_path, 90)
    (found,) = await doctor.check_origin(await start(tls=context))
    assert (found.state, found.unreachable) == (CheckState.FAILING, True)
    assert "certificate is not accepted" in found.what


async def test_credentials_are_tried_and_never_shown(
    start: Start, workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CRM_TOKEN", "t0p-s3cret")
    url = await start("401 Unauthorized")
    source = f"connector: http\nbase_url: {url}\nkey: id\nread: {{path: /people}}"
    spec = write_spec(workspace, source, "type: bearer\ntoken: ${env:CRM_TOKEN}")
    found = await doctor.check_systems({"people": spec}, refuse)
    by_check = {finding.check: finding for finding in found}
    assert by_check["people source"].unreachable
    assert by_check["people target"].state is CheckState.OK
    assert by_check[url.removeprefix("http://")].state is CheckState.OK
    assert "t0p-s3cret" not in repr(found)
    monkeypatch.delenv("CRM_TOKEN")
    found = await doctor.check_systems({"people": spec}, refuse)
    (finding,) = [finding for finding in found if finding.check == "people source"]
    assert (finding.state, finding.unreachable) == (CheckState.FAILING, False)
    assert "CRM_TOKEN" in finding.what


async def test_a_spec_that_is_not_trusted_is_not_contacted(workspace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SPECLAB_TRUST")
    monkeypatch.setenv("XDG_STATE_HOME", str(workspace / "state"))
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(0.1)
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        spec = write_spec(workspace, f"connector: http\nbase_url: {url}\nkey: id\nread: {{path: /people}}")
        found = await doctor.check_systems({"people": spec}, refuse)
        with pytest.raises(TimeoutError):
            listener.accept()
    assert states(found) == ["attention", "ok"]
    assert found[0].todo == "speclab trust people"
