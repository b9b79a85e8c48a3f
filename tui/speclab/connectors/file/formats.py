"""File formats and compression: their options, and how they are chosen by name."""

from __future__ import annotations

import codecs
import gzip
import io
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, BinaryIO, Final, cast

from speclab.connectors.file.parquet import check_installed
from speclab.connectors.file.settings import FileSystem, detect_format, strip_query
from speclab.core.errors import BadResponse, SpecError

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer


class FileFormat(StrEnum):
    """The format of the records in a file."""

    JSONL = "jsonl"
    JSON = "json"
    CSV = "csv"
    TSV = "tsv"
    PARQUET = "parquet"

    @classmethod
    def of(cls, path: str, named: str | None) -> FileFormat:
        """Return the format `named`, or the one of the file extension. Raise `SpecError`."""
        try:
            return cls(named or detect_format(path))
        except ValueError:
            endings = ", ".join(f".{each}" for each in cls)
            raise SpecError(f"path: {path!r} does not end in one of {endings}; set `format`") from None


@dataclass(frozen=True, slots=True)
class FormatOptions:
    """A format and its options.

    `columns` are set for a table without a header, `quote` may be empty, and `types` are for Parquet.
    """

    format: FileFormat
    delimiter: str = ","
    quote: str = '"'
    encoding: str = "utf-8"
    columns: tuple[str, ...] = ()
    types: Mapping[str, str] = field(default_factory=dict)
    gzipped: bool = False

    @classmethod
    def of(cls, path: str, system: FileSystem) -> FormatOptions:
        """Return the options for the file at `path` in the settings of `system`. Raise `SpecError`."""
        kind = FileFormat.of(path, system.format)
        if kind is FileFormat.PARQUET:
            check_installed()
            if strip_query(path).endswith(".gz"):
                raise SpecError(f"path: {path!r}: Parquet is compressed internally; remove .gz")
        gzipped = strip_query(path).endswith(".gz")
        delimiter = system.delimiter or ("\t" if kind is FileFormat.TSV else ",")
        return cls(kind, delimiter, system.quote, system.encoding, system.columns, system.types, gzipped)

    @property
    def is_table(self) -> bool:
        """Whether records are rows of cells."""
        return self.format in (FileFormat.CSV, FileFormat.TSV)

    @property
    def is_by_line(self) -> bool:
        """Whether each record has its own bytes."""
        return self.is_table or self.format is FileFormat.JSONL

    @property
    def is_utf8(self) -> bool:
        """Whether the encoding is UTF-8."""
        return codecs.lookup(self.encoding).name == "utf-8"


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
