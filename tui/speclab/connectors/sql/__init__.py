"""The SQL connector: databases, through SQLAlchemy Core."""

from __future__ import annotations

from typing import Final

from speclab.connectors.api import Connector, ConnectorParts
from speclab.connectors.sql.settings import SqlSystem


def _load() -> ConnectorParts[SqlSystem]:
    from speclab.connectors.sql.discovery import check_target, discover, open_lister, open_lookup
    from speclab.connectors.sql.reader import SqlReader
    from speclab.connectors.sql.writer import SqlWriter

    return ConnectorParts(SqlReader, SqlWriter, check_target, open_lookup, discover, open_lister)


CONNECTOR: Final = Connector(SqlSystem, _load)
