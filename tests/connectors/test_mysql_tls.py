"""Connections to MySQL: TLS for remote servers, and no cleartext password without it."""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from threading import Thread
from typing import Self

import pytest
from sqlalchemy.engine import make_url

from speclab.connectors.api import RuntimeContext
from speclab.connectors.registry import open_reader
from speclab.connectors.secrets.references import References
from speclab.connectors.sql.dialects import split_tls
from speclab.connectors.sql.settings import SqlSystem
from speclab.core.errors import EndpointError, SpecError
from speclab.spec.auth import NoAuth

PASSWORD = "t0p-s3cret"
OK = b"\0\0\0\2\0\0\0"


@dataclass
class Rogue:
    """A server without TLS that switches to `method`; after a login it returns `answer` for every query."""

    method: bytes
    answer: bytes = OK
    heard: bytes = b""
    port: int = 0
    _listener: socket.socket = field(default_factory=lambda: socket.create_server(("127.0.0.1", 0)))

    def serve(self) -> None:
        with suppress(OSError):
            while True:
                connection, _ = self._listener.accept()
                with connection, suppress(OSError, ConnectionError):
                    self._talk(connection)

    def _talk(self, connection: socket.socket) -> None:
        capabilities = 0xFFFFFFFF & ~0x800 & ~0x01000000  # all except SSL and DEPRECATE_EOF
        greeting = b"\x0a8.0.30\0" + struct.pack("<I", 1) + b"12345678\0" + struct.pack("<H", capabilities & 0xFFFF)
        greeting += b"\x2d\2\0" + struct.pack("<H", capabilities >> 16) + b"\x15" + bytes(10) + b"123456789012\0"
        self._send(connection, 0, greeting + b"mysql_native_password\0")
        number = self._receive(connection)
        if self.method:
            self._send(connection, number + 1, b"\xfe" + self.method + b"\0")
            number = self._receive(connection)
        self._send(connection, number + 1, OK)
        while True:
            self._send(connection, self._receive(connection) + 1, self.answer)

    def _send(self, connection: socket.socket, number: int, body: bytes) -> None:
        connection.sendall(struct.pack("<I", len(body))[:3] + bytes([number & 0xFF]) + body)

    def _receive(self, connection: socket.socket) -> int:
        head = self._exactly(connection, 4)
        self.heard += self._exactly(connection, int.from_bytes(head[:3], "little"))
        return head[3]

    def _exactly(self, connection: socket.socket, size: int) -> bytes:
        got = b""
        while len(got) < size:
            part = connection.recv(size - len(got))
            if not part:
                raise ConnectionError
            got += part
        return got

    def __enter__(self) -> Self:
        self.port = self._listener.getsockname()[1]
        self._thread = Thread(target=self.serve, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join(5)


@pytest.fixture(params=[b"mysql_clear_password", b"dialog", b"mysql_old_password"], ids=bytes.decode)
def greedy(request: pytest.FixtureRequest) -> Iterator[Rogue]:
    with Rogue(request.param) as rogue:
        yield rogue


async def read(url: str, base: Path, context: RuntimeContext) -> None:
    system = SqlSystem.model_validate({"connector": "sql", "url": url, "key": "id", "read": {"table": "people"}})
    reader = open_reader(system, NoAuth(), References({}, base), context)
    try:
        async for _ in reader.pages(None, full=True):
            pass
    finally:
        await reader.close()


@pytest.mark.parametrize("options", ["", "?ssl_disabled=true"])
async def test_no_cleartext_password_is_sent_without_tls(
    greedy: Rogue, options: str, tmp_path: Path, context: RuntimeContext
) -> None:
    with pytest.raises(EndpointError, match="wants the password in clear text"):
        await read(f"mysql://me:{PASSWORD}@127.0.0.1:{greedy.port}/crm{options}", tmp_path, context)
    assert greedy.heard
    assert PASSWORD.encode() not in greedy.heard


async def test_remote_server_without_tls_gets_no_login(tmp_path: Path, context: RuntimeContext) -> None:
    with Rogue(b"") as rogue:  # 0.0.0.0 leads to this machine but is not a loopback address
        with pytest.raises(EndpointError, match="SSL is required"):
            await read(f"mysql://me:{PASSWORD}@0.0.0.0:{rogue.port}/crm", tmp_path, context)
        assert rogue.heard == b""


async def test_no_server_gets_a_local_file(tmp_path: Path, context: RuntimeContext) -> None:
    (tmp_path / "private").write_text("the contents of a file")
    with Rogue(b"", b"\xfb" + str(tmp_path / "private").encode()) as rogue:
        with pytest.raises(EndpointError):
            await read(f"mysql://me@127.0.0.1:{rogue.port}/crm", tmp_path, context)
        assert b"contents" not in rogue.heard


@pytest.mark.parametrize(
    ("url", "tls"),
    [
        ("mysql://db.example.com/crm", "required"),
        ("mysql://192.0.2.1/crm", "required"),
        ("mysql://db.example.com/crm?ssl_disabled=false", "required"),
        ("mysql://db.example.com/crm?ssl_verify_identity=true", "verified"),
        ("mysql://127.0.0.1/crm?ssl_verify_cert=1", "verified"),
        ("mysql://db.example.com/crm?ssl_disabled=true", "off"),
        ("mysql://localhost/crm", "offered"),
        ("mysql://[::1]/crm", "offered"),
        ("mysql://127.0.0.2:3307/crm", "offered"),
        ("mysql:///crm?unix_socket=/run/mysqld.sock", "offered"),
    ],
)
def test_tls_is_required_for_remote_servers_unless_the_url_disables_it(url: str, tls: str) -> None:
    plain, options = split_tls(make_url(url))
    context = options.get("ssl")
    verified = "verified" if getattr(context, "verify_mode", 0) else "required"
    assert tls == ("off" if options.get("ssl_disabled") else verified if context else "offered")
    assert not any(name.startswith("ssl") for name in plain.query)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("ssl_disabled=perhaps", "ssl_disabled: expected true or false, got 'perhaps'"),
        ("ssl_disabled=true&ssl_ca=/ca.pem", "ssl_disabled and ssl_ca exclude each other"),
        ("ssl_ca=/nowhere/ca.pem", "its TLS options cannot be used: .*No such file"),
    ],
)
def test_contradictory_tls_options_are_errors_of_the_spec(options: str, message: str) -> None:
    with pytest.raises(SpecError, match=message):
        split_tls(make_url(f"mysql://db.example.com/crm?{options}"))
