"""Reading files of records, a thousand a page; the cursor is a place in a file, good for as long as it is that file."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from contextlib import aclosing
from dataclasses import replace
from itertools import accumulate, islice
from typing import BinaryIO, Final

from speclab.connectors.base import Page, Seams
from speclab.connectors.file.formats import rows
from speclab.connectors.file.layout import Format, Layout
from speclab.connectors.file.packing import read_to_its_end, unpacked
from speclab.connectors.file.place import Found
from speclab.connectors.file.row import Row, Spot
from speclab.connectors.file.whereabouts import source_of
from speclab.connectors.references import References
from speclab.jsonvalue import Json
from speclab.outcome import Level
from speclab.spec.auth import Auth
from speclab.spec.settings import RetrySettings
from speclab.spec.systems.file import FileSystem

_PAGE: Final = 1000
_BYTES: Final = 8_000_000
"""A page ends with either."""


class FileReader:
    """Reads a file, or all that a pattern matches, in the order of their names."""

    def __init__(
        self, system: FileSystem, auth: Auth, references: References, seams: Seams, retry: RetrySettings
    ) -> None:
        """A reader for settings as the spec has them. Raises `SpecError` for those that cannot work."""
        del auth, retry  # the file system knows who we are, and does not heal by waiting
        system = references.resolve_settings(system)
        self._source = source_of(system, references)
        self._system = system
        self._report = seams.report

    async def pages(self, cursor: Json, *, full: bool) -> AsyncIterator[Page]:
        """Pages from after `cursor` to the end; every run that is not the continuation of another reads all."""
        del full
        files = await asyncio.to_thread(self._source.find)
        before = _fingerprints(files)
        first, spot, whole = self._begin(files, before, cursor)
        from_start = first == 0 and spot == Spot()
        for index, file in enumerate(files[first:], first):
            pages = self._pages_of(file, spot, before[index] if whole else None, last=index == len(files) - 1)
            async with aclosing(pages):
                async for page in pages:
                    yield replace(page, from_start=from_start, whole=whole)
            spot = Spot()

    async def close(self) -> None:
        """Nothing is held open between pages of different files."""

    async def _pages_of(self, file: Found, spot: Spot, before: str | None, *, last: bool) -> AsyncGenerator[Page]:
        """The pages of one file from `spot` on; it is the `last` one, or others follow.

        `before` is the fingerprint of those that were read before it, if none of them changed since.
        """
        layout = Layout.of(file.name, self._system)
        weight = 0 if layout.is_by_line else file.size  # else no record has bytes of its own
        ended = False
        with read_to_its_end(file.name), await asyncio.to_thread(self._opened, file, layout) as stream:
            found = rows(stream, file.name, layout, spot)
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

    def _opened(self, file: Found, layout: Layout) -> BinaryIO:
        return unpacked(self._source.opened(file, seeking=layout.format is Format.PARQUET), file.name, layout)

    def _begin(self, files: list[Found], before: list[str], cursor: Json) -> tuple[int, Spot, bool]:
        """Which of `files` to begin with, where in it, and whether those before it are as they were when read."""
        match cursor:
            case {"file": str(name), "offset": int(offset), "line": int(line), "size": size, "modified": at, **more}:
                for index, file in enumerate(files):
                    if file.name == name and (file.size, file.version) == (size, at):
                        return index, Spot(offset, line), more.get("before") == before[index]
                self._report(Level.WARNING, f"{name} has changed since the last run stopped in it; reading anew")
        return 0, Spot(), True


def _take(found: Iterator[Row]) -> tuple[list[Row], bool]:
    """Return the rows of a page, and whether the file ends with them."""
    page: list[Row] = []
    size = 0
    for row in islice(found, _PAGE):
        page.append(row)
        size += len(row.raw)
        if size >= _BYTES:
            return page, False
    return page, len(page) < _PAGE


def _fingerprints(files: list[Found]) -> list[str]:
    """For each file, one of all that come before it, which is another if any of them is."""

    def added(before: str, file: Found) -> str:
        return hashlib.sha256(repr((before, file.name, file.size, file.version)).encode()).hexdigest()[:16]

    return list(accumulate(files, added, initial=""))


def _cursor(file: Found, spot: Spot, before: str | None) -> Json:
    return {
        "file": file.name,
        "offset": spot.offset,
        "line": spot.line,
        "size": file.size,
        "modified": file.version,
        "before": before,
    }
