"""Systems that speak JSON over HTTP."""

from __future__ import annotations

from typing import Final

from speclab.connectors.api import Connector
from speclab.connectors.http.reader import HttpReader, probe
from speclab.connectors.http.writer import HttpWriter, http_finder
from speclab.spec.systems.http import HttpSystem

CONNECTOR: Final[Connector[HttpSystem]] = Connector(HttpReader, HttpWriter, probe, http_finder)
