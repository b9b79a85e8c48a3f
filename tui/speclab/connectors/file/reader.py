"""The file source: pages with positions, schema discovery, and record lookup."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Sequence
from contextlib import aclosing
from dataclasses import replace
from itertools import accumulate, islice
from typing import TYPE_CHECKING, BinaryIO, Final

from speclab.connectors.api import (
    DiscoveredSchema,
    MappedRecord,
    Page,
    Reader,
    RecordLister,
    RuntimeContext,
    WriteError,
)
from speclab.connectors.check import describe_sample
from speclab.connectors.file.formats import FileFormat, FormatOptions, converting_read_errors, open_decoded
from speclab.connectors.file.locations import FileRow, RowPosition, SourceFile
from speclab.connectors.file.remote import get_source_location
from speclab.connectors.file.rows import format_cell, read_rows
from speclab.connectors.file.settings import FileSystem
from speclab.connectors.file.writer import FileTarget
from speclab.connectors.registry import sample
from speclab.connectors.secrets.references import References
from speclab.core.errors import SpeclabError
from speclab.core.json import Json, Record, is_same_json
from speclab.core.outcome import Level
from speclab.core.paths import FieldPath
from speclab.mapping.fields import build_field, collect_fields
from speclab.spec.auth import Auth
from speclab.spec.settings import RetrySettings

if TYPE_CHECKING:
    from speclab.connectors.file.settings import FileSystem
    from speclab.spec.auth import Auth
    from speclab.spec.integration import Role


async def discover(
    role: Role, system: FileSystem, auth: Auth, references: References, context: RuntimeContext, limit: int
) -> DiscoveredSchema:
    """Return the fields of the first `limit` records of the file.

    Raise the errors of a reader, and `SpeclabError` for a target that does not exist yet, or a file without records and
    header.
    """
    target = FileTarget(references.resolve_settings(system), references)
    if role == "target" and not await asyncio.to_thread(target.place.exists):
        raise SpeclabError(f"{target.name} is not there yet", hint="A run makes it, with the fields of the mapping.")
    records = await sample(system, auth, references, context, limit)
    if records:
        return DiscoveredSchema(collect_fields(records), f"{describe_sample(len(records))} of {target.name}")
    names = await asyncio.to_thread(target.columns)
    if not names:
        raise SpeclabError(f"{target.name} has no records, which could show what fields it has")
    return DiscoveredSchema(
        tuple(build_field(FieldPath((name,)), (), 0) for name in names), f"the header of {target.name}"
    )


_PAGE: Final = 1000
_BYTES: Final = 8_000_000
"""Limits of a page: records and bytes."""


class FileReader(Reader):
    """Reads a file, or all files that match a pattern, sorted by name."""

    def __init__(
        self, system: FileSystem, auth: Auth, references: References, context: RuntimeContext, retry: RetrySettings
    ) -> None:
        """Create a reader for settings as in the spec. Raise `SpecError` for settings that cannot work."""
        del auth, retry  # the file system knows the user, and a retry does not help
        system = references.resolve_settings(system)
        self._source = get_source_location(system, references)
        self._system = system
        self._report = context.report

    async def pages(self, cursor: Json, *, full: bool) -> AsyncIterator[Page]:
        """Yield pages after `cursor`; a run that does not continue an interrupted one reads everything."""
        del full
        files = await asyncio.to_thread(self._source.find)
        before = _fingerprints(files)
        first, spot, whole = self._begin(files, before, cursor)
        from_start = first == 0 and spot == RowPosition()
        for index, file in enumerate(files[first:], first):
            pages = self._pages_of(file, spot, before[index] if whole else None, last=index == len(files) - 1)
            async with aclosing(pages):
                async for page in pages:
                    yield replace(page, from_start=from_start, whole=whole)
            spot = RowPosition()

    async def close(self) -> None:
        """Do nothing: no file is open between pages of different files."""

    async def _pages_of(
        self, file: SourceFile, spot: RowPosition, before: str | None, *, last: bool
    ) -> AsyncGenerator[Page]:
        """Yield the pages of one file from `spot`; it is the `last` one, or others follow.

        `before` is the fingerprint of the files that were read before it, if none of them changed since.
        """
        layout = FormatOptions.of(file.name, self._system)
        weight = 0 if layout.is_by_line else file.size  # otherwise records have no bytes of their own
        ended = False
        with converting_read_errors(file.name), await asyncio.to_thread(self._opened, file, layout) as stream:
            found = read_rows(stream, file.name, layout, spot)
            while not ended:
                page, ended = await asyncio.to_thread(_take, found)
                spot = page[-1].end if page else spot
                yield Page(
                    records=[row.record for row in page],
                    cursor=None if ended and last else _cursor(file, spot, before),
                    bytes_in=sum(len(row.raw) for row in page) + weight,
                    request=f"read {file.name}",
                    complete=ended and last,
                )
                weight = 0

    def _opened(self, file: SourceFile, layout: FormatOptions) -> BinaryIO:
        return open_decoded(self._source.opened(file, seeking=layout.format is FileFormat.PARQUET), file.name, layout)

    def _begin(self, files: list[SourceFile], before: list[str], cursor: Json) -> tuple[int, RowPosition, bool]:
        """Return which of `files` to start with, the position in it, and whether the files before it are unchanged."""
        match cursor:
            case {"file": str(name), "offset": int(offset), "line": int(line), "size": size, "modified": at, **more}:
                for index, file in enumerate(files):
                    if file.name == name and (file.size, file.version) == (size, at):
                        return index, RowPosition(offset, line), more.get("before") == before[index]
                self._report(
                    Level.WARNING, f"{name} has changed since the last run stopped in it; reading from the start"
                )
        return 0, RowPosition(), True


def _take(found: Iterator[FileRow]) -> tuple[list[FileRow], bool]:
    """Return the rows of a page, and whether the file ends with them."""
    page: list[FileRow] = []
    size = 0
    for row in islice(found, _PAGE):
        page.append(row)
        size += len(row.raw)
        if size >= _BYTES:
            return page, False
    return page, len(page) < _PAGE


def _fingerprints(files: list[SourceFile]) -> list[str]:
    """Return, for each file, a fingerprint of all files before it."""

    def added(before: str, file: SourceFile) -> str:
        return hashlib.sha256(repr((before, file.name, file.size, file.version)).encode()).hexdigest()[:16]

    return list(accumulate(files, added, initial=""))


def _cursor(file: SourceFile, spot: RowPosition, before: str | None) -> Json:
    return {
        "file": file.name,
        "offset": spot.offset,
        "line": spot.line,
        "size": file.size,
        "modified": file.version,
        "before": before,
    }


class FileFinder:
    """Finds records by key; the file is read once."""

    per_record = False

    def __init__(self, target: FileTarget) -> None:
        self._target = target
        self._records: dict[str, Record] | None = None

    async def find(self, items: Sequence[MappedRecord]) -> Sequence[Record | WriteError | None]:
        """Return the record of each item, in order. Raise `BadResponse` for a file that cannot be read."""
        if self._records is None:
            self._records = await asyncio.to_thread(self._read)
        keys = [self._target.key_of(item.payload) for item in items]
        return [None if key is None else self._records.get(key) for key in keys]

    async def close(self) -> None:
        """Do nothing: no file is open."""

    def _read(self) -> dict[str, Record]:
        if not self._target.place.exists():
            return {}
        found = (row.record for row in self._target.read_rows())
        return {key: record for record in found if (key := self._target.key_of(record)) is not None}


def open_lookup(
    system: FileSystem, auth: Auth, references: References, context: RuntimeContext, retry: RetrySettings
) -> FileFinder | None:
    """Create a lookup for a file in mode upsert. Raise `SpecError` for settings that cannot work."""
    del auth, context, retry
    target = FileTarget(references.resolve_settings(system), references)
    return FileFinder(target) if system.mode == "upsert" else None


class FileLister(RecordLister):
    """Lists the records of a file."""

    def __init__(self, target: FileTarget) -> None:
        self._target = target

    async def pages(self, fields: Sequence[str]) -> AsyncIterator[Sequence[Record]]:
        """Yield all records; none if the file does not exist. Raise `BadResponse` for a file that cannot be read."""
        del fields  # the file is read whole
        if not await asyncio.to_thread(self._target.place.exists):
            return
        found = self._target.read_rows()
        while page := await asyncio.to_thread(lambda: list(islice(found, _PAGE))):
            yield [row.record for row in page]

    def is_same(self, field: str, stored: Json, mapped: Json) -> bool:
        """Compare as text in formats that store text or have columns with types."""
        del field
        layout = self._target.layout
        if layout.is_table or layout.format is FileFormat.PARQUET:
            return is_same_json(stored, mapped) or format_cell(stored) == format_cell(mapped)
        return is_same_json(stored, mapped)

    async def close(self) -> None:
        """Do nothing: the file is closed after its last record."""


def open_lister(
    system: FileSystem, auth: Auth, references: References, context: RuntimeContext, retry: RetrySettings
) -> FileLister:
    """Create a lister of a file. Raise `SpecError` for settings that cannot work."""
    del auth, context, retry
    return FileLister(FileTarget(references.resolve_settings(system), references))


async def check_target(
    system: FileSystem, auth: Auth, references: References, context: RuntimeContext, retry: RetrySettings
) -> str:
    """Return whether the file exists. Raise `Unauthorized`, `Unreachable` and `SpecError`."""
    del auth, context, retry  # the credentials of a store are in its options
    target = FileTarget(references.resolve_settings(system), references)
    there = await asyncio.to_thread(target.place.exists)
    return f"{target.name}: {'is there' if there else 'not there yet; a run makes it'}"
