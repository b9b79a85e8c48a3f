"""SQL databases, through SQLAlchemy Core."""

from __future__ import annotations

from typing import Final

from speclab.connectors.api import Connector
from speclab.connectors.sql.discovery import probe, sql_fields, sql_finder
from speclab.connectors.sql.reader import SqlReader
from speclab.connectors.sql.writer import SqlWriter
from speclab.spec.systems.sql import SqlSystem

CONNECTOR: Final[Connector[SqlSystem]] = Connector(SqlReader, SqlWriter, probe, sql_finder, sql_fields)
