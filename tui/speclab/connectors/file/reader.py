"""Reading files of records, a thousand a page; the cursor is a place in a file, good for as long as it is that file."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from contextlib import aclosing
from dataclasses import replace
from itertools import islice
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
        begun = len(files)
        files, spot = self._begin(files, cursor)
        from_start = len(files) == begun and spot == Spot()
        for index, file in enumerate(files):
            pages = self._pages_of(file, spot, last=index == len(files) - 1)
            async with aclosing(pages):
                async for page in pages:
                    yield replace(page, from_start=from_start, whole=True)
            spot = Spot()

    async def close(self) -> None:
        """Nothing is held open between pages of different files."""

    async def _pages_of(self, file: Found, spot: Spot, *, last: bool) -> AsyncGenerator[Page]:
        """The pages of one file from `spot` on; it is the `last` one, or others follow."""
        layout = Layout.of(file.name, self._system)
        weight = 0 if layout.is_by_line else file.size  # else no record has bytes of its own
        ended = False
        with read_to_its_end(file.name), await asyncio.to_thread(self._opened, file, layout) as stream:
            found = rows(stream, file.name, layout, spot)
            while not ended:
                page = await asyncio.to_thread(_take, found)
                ended = len(page) < _PAGE
                spot = page[-1].end if page else spot
                yield Page(
                    records=[row.record for row in page],
                    cursor=None if ended and last else _cursor(file, spot),
                    bytes_in=sum(len(row.raw) for row in page) + weight,
                    request=f"read {file.name}",
                    complete=ended and last,
                )
                weight = 0

    def _opened(self, file: Found, layout: Layout) -> BinaryIO:
        return unpacked(self._source.opened(file, seeking=layout.format is Format.PARQUET), file.name, layout)

    def _begin(self, files: list[Found], cursor: Json) -> tuple[list[Found], Spot]:
        """The files still to read, and the spot in the first of them."""
        match cursor:
            case {"file": str(name), "offset": int(offset), "line": int(line), "size": size, "modified": modified}:
                for index, file in enumerate(files):
                    if file.name == name and (file.size, file.version) == (size, modified):
                        return files[index:], Spot(offset, line)
                self._report(Level.WARNING, f"{name} has changed since the last run stopped in it; reading anew")
        return files, Spot()


def _take(found: Iterator[Row]) -> list[Row]:
    return list(islice(found, _PAGE))


def _cursor(file: Found, spot: Spot) -> Json:
    return {
        "file": file.name,
        "offset": spot.offset,
        "line": spot.line,
        "size": file.size,
        "modified": file.version,
    }
