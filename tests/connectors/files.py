"""Files at either end, as tests of every format read and write them."""

from __future__ import annotations

from dataclasses import dataclass

from tests.connectors.conftest import read_all

from speclab.connectors import References, open_reader, open_writer
from speclab.connectors.base import Answer, Item, Page, Seams, Snapshot, Writer
from speclab.jsonvalue import Json
from speclab.spec.auth import NoAuth
from speclab.spec.systems.file import FileSystem


def file_at(path: str, **more: Json) -> FileSystem:
    """The settings of a file whose key is `id`."""
    limits: Json = {"timeout": "5s"}
    return FileSystem.model_validate({"connector": "file", "path": path, "key": "id", "limits": limits, **more})


@dataclass(frozen=True)
class Files:
    """Readers and writers of files in one workspace."""

    references: References
    seams: Seams

    async def read(self, path: str, cursor: Json = None, **more: Json) -> list[Page]:
        """All pages after `cursor`."""
        return await read_all(open_reader(file_at(path, **more), NoAuth(), self.references, self.seams), cursor)

    def opened(self, path: str, **more: Json) -> Writer:
        """A writer."""
        return open_writer(file_at(path, **more), NoAuth(), self.references, self.seams)

    async def write(self, path: str, *items: Item, **more: Json) -> list[Answer]:
        """A whole run's writing; gives the answers."""
        writer = self.opened(path, **more)
        try:
            answers = list(await writer.write(items))
            if isinstance(writer, Snapshot):
                await writer.finish()
            return answers
        finally:
            await writer.close()
