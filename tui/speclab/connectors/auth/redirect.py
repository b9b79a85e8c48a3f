"""Where a browser comes back to after a login: a listener on loopback, open while the login lasts (RFC 8252)."""

from __future__ import annotations

import asyncio
import hmac
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Final
from urllib.parse import parse_qs

from speclab.errors import SpecError, Unauthorized

_HOST: Final = "127.0.0.1"
_PATH: Final = "/callback"
_IN_TIME: Final = 10.0
"""Seconds a browser may take to say what it wants."""


@dataclass(frozen=True, slots=True)
class Redirect:
    """The redirection that is waited for: its address, and the code that it will bring."""

    uri: str
    code: asyncio.Future[str]


@asynccontextmanager
async def listening(port: int, state: str) -> AsyncIterator[Redirect]:
    """Listen on `port` (0: any that is free) until the block ends; only a redirection with this `state` counts.

    The code's future raises `Unauthorized` where the person declines. Raises `SpecError` where the port is taken.
    """
    code: asyncio.Future[str] = asyncio.get_running_loop().create_future()

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            async with asyncio.timeout(_IN_TIME):
                head = await reader.readuntil(b"\r\n\r\n")
                status, text = _answer(head.partition(b"\r\n")[0].decode("latin-1"), state, code)
                writer.write(_page(status, text))
                await writer.drain()
        except (OSError, TimeoutError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            pass  # a browser that opens connections ahead, or something else that looks for open ports
        finally:
            writer.close()

    try:
        server = await asyncio.start_server(connected, _HOST, port)
    except OSError as error:
        raise SpecError(f"cannot listen on {_HOST}:{port} for the login: {error.strerror or error}") from None
    try:
        yield Redirect(f"http://{_HOST}:{server.sockets[0].getsockname()[1]}{_PATH}", code)
    finally:
        server.close()
        code.cancel()


def _answer(line: str, state: str, code: asyncio.Future[str]) -> tuple[str, str]:
    """What a request with this first line is answered; `code` is decided by the first that counts."""
    method, _, rest = line.partition(" ")
    path, _, query = rest.partition(" ")[0].partition("?")
    if method != "GET" or path != _PATH:
        return "404 Not Found", "There is nothing here."
    told = {name: values[0] for name, values in parse_qs(query).items()}
    if not hmac.compare_digest(told.get("state", "").encode(), state.encode()):
        return "400 Bad Request", "This is not the login that is waited for."
    if code.done():
        return "200 OK", "This login is over. You can close this page."
    if "code" in told:
        code.set_result(told["code"])
        return "200 OK", "You are logged in. You can close this page and go back to the terminal."
    why = ": ".join(told[name] for name in ("error", "error_description") if name in told) or "it did not say why"
    code.set_exception(Unauthorized(f"the authorization server did not let us in: {why}"))
    return "200 OK", "You are not logged in. You can close this page and go back to the terminal."


def _page(status: str, text: str) -> bytes:
    body = f"<!doctype html><meta charset=utf-8><title>speclab</title><p>{text}</p>\n"
    head = [
        f"HTTP/1.1 {status}",
        "Content-Type: text/html; charset=utf-8",
        f"Content-Length: {len(body)}",
        "Cache-Control: no-store",
        "Referrer-Policy: no-referrer",
        "Connection: close",
    ]
    return ("\r\n".join(head) + "\r\n\r\n" + body).encode("ascii")
