"""Compression and encoding of a file: gzip by its name, and an encoding other than UTF-8.

Inside speclab all text is UTF-8. Positions of decoding errors are byte offsets in the file, after decompression.
"""

from __future__ import annotations

import codecs
import gzip
import io
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, BinaryIO, Final, cast

from speclab.connectors.file.formats import FormatOptions
from speclab.core.errors import BadResponse

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer


_CHUNK: Final = 1 << 16


def open_decoded(stream: BinaryIO, name: str, layout: FormatOptions) -> BinaryIO:
    """Return the text of the file `name` in UTF-8, seekable backwards; the result owns `stream`."""
    if layout.gzipped:
        stream = cast("BinaryIO", _Gunzipped(stream))
    if layout.is_utf8:
        return stream
    return io.BufferedReader(_Decoded(stream, name, layout.encoding), _CHUNK)


@contextmanager
def open_encoded(stream: BinaryIO, layout: FormatOptions) -> Iterator[BinaryIO]:
    """Yield a stream for text in UTF-8 that encodes and compresses it into `stream`."""
    if not layout.gzipped:
        yield _encoded(stream, layout)
        return
    with gzip.GzipFile(filename="", mode="wb", fileobj=stream, mtime=0) as smaller:
        yield _encoded(cast("BinaryIO", smaller), layout)


@contextmanager
def converting_read_errors(name: str) -> Iterator[None]:
    """Raise `BadResponse` for a file that cannot be opened, read or decompressed."""
    try:
        yield
    except (OSError, EOFError, zlib.error) as error:
        reason = (error.strerror if isinstance(error, OSError) else None) or error
        raise BadResponse(f"{name}: cannot be read to its end: {reason}") from None


def build_decode_error(name: str, line: int, offset: int, byte: int, encoding: str) -> BadResponse:
    """Return the error for a byte that cannot be decoded; `offset` counts from the start of the file."""
    return BadResponse(
        f"{name}:{line}: the byte 0x{byte:02x} at offset {offset} is not {encoding}",
        hint="`encoding` says how a table is encoded, such as cp1252; JSON is UTF-8." if encoding == "UTF-8" else "",
    )


class _Gunzipped(gzip.GzipFile):
    """A decompressed stream that also closes the underlying stream."""

    def __init__(self, stream: BinaryIO) -> None:
        super().__init__(fileobj=stream, mode="rb")
        self._below = stream

    def close(self) -> None:
        super().close()
        self._below.close()


class _Decoded(io.RawIOBase):
    """A stream in another encoding, as UTF-8. Text before an invalid byte is returned first."""

    def __init__(self, stream: BinaryIO, name: str, encoding: str) -> None:
        self._stream = stream
        self._name = name
        self._encoding = encoding
        self._begin()

    def _begin(self) -> None:
        self._stream.seek(0)
        self._decoder = codecs.getincrementaldecoder(self._encoding)()
        self._text = b""
        self._given = 0
        self._taken = 0
        self._line = 1
        self._ended = False
        self._failure: BadResponse | None = None

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._given

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Seek to `offset` in the UTF-8 text by reading up to it: the position in the file is not known otherwise."""
        if whence != io.SEEK_SET:
            raise io.UnsupportedOperation("only from the start")
        if offset < self._given:
            self._begin()
        while self._given < offset and (passed := self.read(min(_CHUNK, offset - self._given))):
            del passed
        return self._given

    def readinto(self, buffer: WriteableBuffer, /) -> int:
        view = memoryview(buffer).cast("B")
        while not self._text and not self._ended:
            self._fill()
        size = min(len(view), len(self._text))
        view[:size], self._text = self._text[:size], self._text[size:]
        self._given += size
        return size

    def close(self) -> None:
        if not self.closed:
            self._stream.close()
        super().close()

    def _fill(self) -> None:
        if self._failure is not None:
            raise self._failure
        chunk = self._stream.read(_CHUNK)
        self._taken += len(chunk)
        self._ended = not chunk
        before = self._decoder.getstate()
        try:
            text = self._decoder.decode(chunk, final=self._ended)
        except UnicodeDecodeError as error:
            well = max(0, error.start - (len(error.object) - len(chunk)))
            self._decoder.setstate(before)
            text = self._decoder.decode(chunk[:well])
            offset = self._taken - len(error.object) + error.start
            line = self._line + text.count("\n")
            byte = error.object[error.start]
            self._failure = build_decode_error(self._name, line, offset, byte, self._encoding)
            self._ended = False
        except UnicodeError as error:  # such as UTF-16 without a byte order mark
            raise BadResponse(f"{self._name}:{self._line}: is not {self._encoding}: {error}") from None
        self._line += text.count("\n")
        self._text = text.encode("utf-8", "surrogatepass")


class _Encoded:
    """A stream that accepts UTF-8 and writes another encoding."""

    def __init__(self, stream: BinaryIO, encoding: str) -> None:
        self._stream = stream
        self._encoder = codecs.getincrementalencoder(encoding)()

    def write(self, text: bytes) -> int:
        self._stream.write(self._encoder.encode(text.decode()))
        return len(text)


def _encoded(stream: BinaryIO, layout: FormatOptions) -> BinaryIO:
    return stream if layout.is_utf8 else cast("BinaryIO", _Encoded(stream, layout.encoding))
