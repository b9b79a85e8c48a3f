"""Decodes the Content-Encoding of a response (RFC 9110 section 8.4): gzip, deflate, br and zstd, also nested.

The decoders of httpx decompress a whole chunk at once, so that a megabyte of a compression bomb takes gigabytes of
memory, and accept a truncated gzip body as complete.
"""

from __future__ import annotations

import sys
import zlib
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Final, Protocol

from speclab.core.outcome import ErrorClass

_PIECE: Final = 256 * 1024
"""Bytes decompressed at once."""
_LAYERS: Final = 4
"""Largest number of nested encodings."""
_ZSTD_WINDOW: Final = 23
"""Binary logarithm of the largest zstd window: 8 MB (RFC 9659)."""


class Unreadable(Exception):
    """A body that cannot be decoded, or exceeds the size limit."""

    def __init__(self, error_class: ErrorClass, message: str) -> None:
        super().__init__(message)
        self.error_class = error_class
        self.message = message


class Decoder:
    """Decodes one body of at most `most` bytes, encoded or decoded; `limit` names the setting in messages."""

    def __init__(self, encodings: str, most: int, limit: str = "`limits.response`") -> None:
        """Create a decoder for a Content-Encoding header. Raises `Unreadable` for an unknown encoding."""
        names = [name.strip().lower() for name in encodings.split(",")] if encodings else []
        names = [name for name in names if name not in ("", "identity")]
        if len(names) > _LAYERS:
            raise Unreadable(
                ErrorClass.BAD_ANSWER, f"the response has {len(names)} nested encodings, expected at most {_LAYERS}"
            )
        self._layers = [_DecodingLayer(name) for name in reversed(names)]
        self._most = f"the {most:,} bytes of {limit}"
        self._left = [most] * (len(names) + 1)

    def feed(self, data: bytes) -> Iterator[bytes]:
        """Yield the decoded pieces of `data`, the next part of the body. Raises `Unreadable`."""
        return self._decode(0, data)

    def finish(self) -> None:
        """Check that the body is complete. Raises `Unreadable` if it is truncated."""
        for layer in self._layers:
            layer.finish()

    def _decode(self, depth: int, data: bytes) -> Iterator[bytes]:
        """Yield `data` decoded by all layers from `depth` on."""
        self._left[depth] -= len(data)
        if self._left[depth] < 0:
            raise Unreadable(ErrorClass.BAD_ANSWER, f"the response is larger than {self._most}")
        if depth == len(self._layers):
            yield data
            return
        for piece in self._layers[depth].unpack(data):
            yield from self._decode(depth + 1, piece)


class _DecodingLayer:
    """One encoding of a body."""

    def __init__(self, name: str) -> None:
        opened = _KNOWN.get(name.removeprefix("x-"))  # x-gzip is gzip, RFC 9110 section 8.4.1.3
        if opened is None:
            message = f"the response is encoded as {name!r}, expected one of {ACCEPTED}, or none"
            raise Unreadable(ErrorClass.BAD_ANSWER, message)
        self._name = name
        self._stream = opened()
        self._started = False

    def unpack(self, data: bytes) -> Iterator[bytes]:
        self._started = self._started or bool(data)
        try:
            yield from self._stream.unpack(data)
        except self._stream.error as error:
            message = f"the response is not valid {self._name}: {error}"
            raise Unreadable(ErrorClass.BAD_ANSWER, message) from None

    def finish(self) -> None:
        if self._started and not self._stream.over:
            raise Unreadable(ErrorClass.NETWORK, f"the response is truncated: its {self._name} data is incomplete")


class _Stream(Protocol):
    error: type[Exception]
    """The error that `unpack` raises for invalid data."""

    @property
    def over(self) -> bool:
        """Whether the data may end here."""

    def unpack(self, data: bytes) -> Iterator[bytes]:
        """Yield the decoded `data` in pieces of about `_PIECE` bytes."""


class _Gzip:
    """RFC 1952: one or more members."""

    error: type[Exception] = zlib.error

    def __init__(self) -> None:
        self._member = zlib.decompressobj(zlib.MAX_WBITS | 16)

    @property
    def over(self) -> bool:
        return self._member.eof

    def unpack(self, data: bytes) -> Iterator[bytes]:
        while data:
            if self._member.eof:
                data = data.lstrip(b"\0")  # padding after a member
                if data:
                    self._member = zlib.decompressobj(zlib.MAX_WBITS | 16)
            yield from _inflate(self._member, data)
            data = self._member.unused_data


class _Deflate:
    """The zlib format (RFC 1950), or the raw format (RFC 1951) that some servers send under that name."""

    error: type[Exception] = zlib.error

    def __init__(self) -> None:
        self._head = b""
        self._inner: zlib._Decompress | None = None

    @property
    def over(self) -> bool:
        return self._inner is not None and self._inner.eof

    def unpack(self, data: bytes) -> Iterator[bytes]:
        if self._inner is None:
            data = self._head = self._head + data
            if len(data) < 2:
                return
            headed = data[0] & 0x0F == zlib.DEFLATED and int.from_bytes(data[:2]) % 31 == 0
            self._inner = zlib.decompressobj(zlib.MAX_WBITS if headed else -zlib.MAX_WBITS)
        yield from _inflate(self._inner, data)
        if self._inner.unused_data:
            raise zlib.error("there is data after its end")


class _Brotli:
    """RFC 7932."""

    def __init__(self) -> None:
        import brotli  # takes 5 MB, mostly a dictionary

        self.error: type[Exception] = brotli.error
        self._inner = brotli.Decompressor()

    @property
    def over(self) -> bool:
        return bool(self._inner.is_finished())

    def unpack(self, data: bytes) -> Iterator[bytes]:
        more = bool(data)
        while more:
            piece = self._inner.process(data, output_buffer_limit=_PIECE)
            yield piece
            data = b""
            more = len(piece) >= _PIECE or not self._inner.can_accept_more_data()
            more = more and not self._inner.is_finished()


class _Zstd:
    """RFC 8878: one or more frames."""

    def __init__(self) -> None:
        if sys.version_info >= (3, 14):
            from compression import zstd
        else:
            from backports import zstd

        self.error: type[Exception] = zstd.ZstdError
        options: dict[int, int] = {zstd.DecompressionParameter.window_log_max: _ZSTD_WINDOW}
        self._open = partial(zstd.ZstdDecompressor, options=options)
        self._frame = self._open()

    @property
    def over(self) -> bool:
        return self._frame.eof

    def unpack(self, data: bytes) -> Iterator[bytes]:
        while data or not (self._frame.eof or self._frame.needs_input):
            if self._frame.eof:
                self._frame = self._open()
            yield self._frame.decompress(data, _PIECE)
            data = self._frame.unused_data if self._frame.eof else b""


def _inflate(stream: zlib._Decompress, data: bytes) -> Iterator[bytes]:
    """Yield the inflated `data`, up to the end of `stream`."""
    full = False
    while (data or full) and not stream.eof:
        piece = stream.decompress(data, _PIECE)
        data = stream.unconsumed_tail
        full = len(piece) == _PIECE  # there may be more output without more input
        yield piece


_KNOWN: Final[Mapping[str, Callable[[], _Stream]]] = {
    "gzip": _Gzip,
    "deflate": _Deflate,
    "br": _Brotli,
    "zstd": _Zstd,
}
ACCEPTED: Final = ", ".join(_KNOWN)
"""The value of the Accept-Encoding header."""
