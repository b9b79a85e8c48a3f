"""The HTTP connector: systems that speak JSON over HTTP."""

from __future__ import annotations

from typing import Final

from speclab.connectors.api import Connector, ConnectorParts
from speclab.connectors.http.settings import HttpSystem


def _load() -> ConnectorParts[HttpSystem]:
    from speclab.connectors.http.reader import HttpReader, check_target, open_lister
    from speclab.connectors.http.writer import HttpWriter, open_lookup

    return ConnectorParts(HttpReader, HttpWriter, check_target, open_lookup, lister=open_lister)


CONNECTOR: Final = Connector(HttpSystem, _load)
