"""File formats, and the dialect of tables."""

from __future__ import annotations

import codecs
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from speclab.connectors.file.parquet import check_installed
from speclab.connectors.file.settings import FileSystem, detect_format, strip_query
from speclab.core.errors import SpecError


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
