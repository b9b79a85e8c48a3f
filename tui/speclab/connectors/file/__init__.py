"""Files of records, here or behind a URL: JSON Lines, JSON, CSV and TSV, plain or gzipped, and Parquet."""

from __future__ import annotations

from typing import Final

from speclab.connectors.api import Connector, RuntimeContext, Writer
from speclab.connectors.file.journal import ReplacingWriter, UpsertingWriter
from speclab.connectors.file.reader import FileReader, file_fields, file_finder, file_probe
from speclab.connectors.file.writer import AppendingWriter, FileTarget
from speclab.connectors.secrets.references import References
from speclab.spec.auth import Auth
from speclab.spec.settings import RetrySettings
from speclab.spec.systems.file import FileSystem


def file_writer(
    system: FileSystem, auth: Auth, references: References, context: RuntimeContext, retry: RetrySettings
) -> Writer:
    """The writer for a file's `mode`. Raises `SpecError` for settings that cannot work."""
    del auth, retry  # the file system knows who we are
    target = FileTarget(references.resolve_settings(system), references)
    match system.mode:
        case "append":
            return AppendingWriter(target)
        case "upsert":
            return UpsertingWriter(target, context.clock, system.limits.timeout)
        case "replace":
            return ReplacingWriter(target, context.clock, system.limits.timeout)


CONNECTOR: Final[Connector[FileSystem]] = Connector(
    FileReader, file_writer, probe=file_probe, finder=file_finder, fields=file_fields
)
