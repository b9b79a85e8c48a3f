"""Files as source and target, for the tests of every format."""

from __future__ import annotations

import gzip
import io
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.parquet as pq
from tests.connectors.conftest import read_all

from speclab.connectors.api import FullReplace, MappedRecord, Page, RuntimeContext, Writer, WriteResult
from speclab.connectors.file.settings import FileSystem, is_remote
from speclab.connectors.registry import open_reader, open_writer
from speclab.connectors.secrets.references import References
from speclab.core.json import Json, Record
from speclab.spec.auth import NoAuth

PEOPLE: list[Record] = [{"id": f"p{number}", "name": f"Zoë {number}"} for number in range(2500)]


def file_system(path: str, **more: Json) -> FileSystem:
    """Return the settings of a file whose key is `id`; remote stores have short timeouts."""
    limits: dict[str, Json] = {"limits": {"timeout": "5s"}} if is_remote(path) else {}
    return FileSystem.model_validate({"connector": "file", "path": path, "key": "id", **limits, **more})


@dataclass(frozen=True)
class Files:
    """Readers and writers of files in one workspace."""

    references: References
    context: RuntimeContext

    async def read(self, path: str, cursor: Json = None, **more: Json) -> list[Page]:
        """Return all pages after `cursor`."""
        return await read_all(open_reader(file_system(path, **more), NoAuth(), self.references, self.context), cursor)

    def opened(self, path: str, **more: Json) -> Writer:
        """Open a writer."""
        return open_writer(file_system(path, **more), NoAuth(), self.references, self.context)

    async def write(self, path: str, *items: MappedRecord, **more: Json) -> list[WriteResult]:
        """Write `items` as a complete run does, and return the results."""
        writer = self.opened(path, **more)
        try:
            results = list(await writer.write(items))
            if isinstance(writer, FullReplace):
                await writer.finish()
            return results
        finally:
            await writer.close()


def as_jsonl(records: list[Record]) -> bytes:
    """Return `records` as JSON Lines."""
    return "".join(f'{{"id":"{record["id"]}","name":"{record["name"]}"}}\n' for record in records).encode()


def as_csv(records: list[Record]) -> bytes:
    """Return `records` as CSV."""
    return ("id,name\n" + "".join(f"{record['id']},{record['name']}\n" for record in records)).encode()


def as_parquet(records: list[Record]) -> bytes:
    """Return `records` as Parquet in three row groups."""
    out = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(records), out, row_group_size=900)
    return out.getvalue()


CONTENTS = {
    "people.jsonl": as_jsonl(PEOPLE),
    "people.csv": as_csv(PEOPLE),
    "people.csv.gz": gzip.compress(as_csv(PEOPLE), mtime=0),
    "people.parquet": as_parquet(PEOPLE),
}
"""The people in every format, by a name that ends in it."""
