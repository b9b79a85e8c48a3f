"""Systems that speak JSON over HTTP."""

from __future__ import annotations

from typing import Final

from speclab.connectors.base import Connector
from speclab.connectors.http.finder import http_finder
from speclab.connectors.http.probe import probe
from speclab.connectors.http.reader import HttpReader
from speclab.connectors.http.writer import HttpWriter
from speclab.spec.systems.http import HttpSystem

CONNECTOR: Final[Connector[HttpSystem]] = Connector(HttpReader, HttpWriter, probe, http_finder)
