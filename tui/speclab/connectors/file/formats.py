"""How records stand in a file: the format, and of a table also its dialect."""

from __future__ import annotations

import codecs
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from speclab.connectors.file.parquet import check_installed
from speclab.connectors.file.settings import FileSystem, detect_format, strip_query
from speclab.core.errors import SpecError


class FileFormat(StrEnum):
    """How records stand in a file."""

    JSONL = "jsonl"
    JSON = "json"
    CSV = "csv"
    TSV = "tsv"
    PARQUET = "parquet"

    @classmethod
    def of(cls, path: str, named: str | None) -> FileFormat:
        """The format `named`, or the one `path` ends in. Raises `SpecError`."""
        try:
            return cls(named or detect_format(path))
        except ValueError:
            endings = ", ".join(f".{each}" for each in cls)
            raise SpecError(f"path: {path!r} does not end in one of {endings}; set `format`") from None


@dataclass(frozen=True, slots=True)
class FormatOptions:
    """A format, and what else is to be known of it.

    `columns` are named for a table without a header, `quote` may be empty; `types` are of Parquet.
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
        """How the file at `path` is to be read or written as `system` says. Raises `SpecError`."""
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
        """Whether records stand in lines of cells."""
        return self.format in (FileFormat.CSV, FileFormat.TSV)

    @property
    def is_by_line(self) -> bool:
        """Whether a record and its bytes stand by themselves."""
        return self.is_table or self.format is FileFormat.JSONL

    @property
    def is_utf8(self) -> bool:
        """Whether the text is UTF-8 already."""
        return codecs.lookup(self.encoding).name == "utf-8"
