"""Looking records up in the file a run merges its own into."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from speclab.connectors.base import Item, Refusal, Seams
from speclab.connectors.file.target import Target
from speclab.connectors.references import References
from speclab.jsonvalue import Record
from speclab.spec.auth import Auth
from speclab.spec.settings import RetrySettings
from speclab.spec.systems.file import FileSystem


class FileFinder:
    """Finds records by key; the file is read once, whole."""

    dear = False

    def __init__(self, target: Target) -> None:
        self._target = target
        self._records: dict[str, Record] | None = None

    async def find(self, items: Sequence[Item]) -> Sequence[Record | Refusal | None]:
        """The record of each item, in order. Raises `BadAnswer` for a file that cannot be read."""
        if self._records is None:
            self._records = await asyncio.to_thread(self._read)
        keys = [self._target.key_of(item.payload) for item in items]
        return [None if key is None else self._records.get(key) for key in keys]

    async def close(self) -> None:
        """Nothing is held open."""

    def _read(self) -> dict[str, Record]:
        if not self._target.place.exists():
            return {}
        found = (row.record for row in self._target.rows())
        return {key: record for record in found if (key := self._target.key_of(record)) is not None}


def file_finder(
    system: FileSystem, auth: Auth, references: References, seams: Seams, retry: RetrySettings
) -> FileFinder | None:
    """The finder of a file in mode upsert. Raises `SpecError` for settings that cannot work."""
    del auth, seams, retry
    target = Target(references.resolve_settings(system), references)
    return FileFinder(target) if system.mode == "upsert" else None
