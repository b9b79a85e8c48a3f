"""The file connector: JSON Lines, JSON, CSV and TSV, plain or gzipped, and Parquet, local or behind a URL."""

from __future__ import annotations

from typing import Final

from speclab.connectors.api import Connector, ConnectorParts
from speclab.connectors.file.settings import FileSystem


def _load() -> ConnectorParts[FileSystem]:
    from speclab.connectors.file.journal import open_file_writer
    from speclab.connectors.file.reader import FileReader, check_target, discover, open_lister, open_lookup

    return ConnectorParts(FileReader, open_file_writer, check_target, open_lookup, discover, open_lister)


CONNECTOR: Final = Connector(FileSystem, _load)
