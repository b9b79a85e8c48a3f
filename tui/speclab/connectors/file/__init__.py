"""Files of records, here or behind a URL: JSON Lines, JSON, CSV and TSV, plain or gzipped, and Parquet."""

from __future__ import annotations

from typing import Final

from speclab.connectors.base import Connector, Seams, Writer
from speclab.connectors.file.appending import AppendingWriter
from speclab.connectors.file.fields import file_fields
from speclab.connectors.file.finder import file_finder
from speclab.connectors.file.journaled import ReplacingWriter, UpsertingWriter
from speclab.connectors.file.probe import file_probe
from speclab.connectors.file.reader import FileReader
from speclab.connectors.file.target import Target
from speclab.connectors.references import References
from speclab.spec.auth import Auth
from speclab.spec.settings import RetrySettings
from speclab.spec.systems.file import FileSystem


def file_writer(system: FileSystem, auth: Auth, references: References, seams: Seams, retry: RetrySettings) -> Writer:
    """The writer for a file's `mode`. Raises `SpecError` for settings that cannot work."""
    del auth, retry  # the file system knows who we are
    target = Target(references.resolve_settings(system), references)
    match system.mode:
        case "append":
            return AppendingWriter(target)
        case "upsert":
            return UpsertingWriter(target, seams.clock, system.limits.timeout)
        case "replace":
            return ReplacingWriter(target, seams.clock, system.limits.timeout)


CONNECTOR: Final[Connector[FileSystem]] = Connector(
    FileReader, file_writer, probe=file_probe, finder=file_finder, fields=file_fields
)
