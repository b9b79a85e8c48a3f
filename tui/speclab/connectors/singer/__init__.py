"""Singer: any tap as a source and any target as a target, run as processes of their own."""

from __future__ import annotations

from typing import Final

from speclab.connectors.api import Connector
from speclab.connectors.singer.reader import SingerReader, fields
from speclab.connectors.singer.writer import SingerWriter, probe
from speclab.spec.systems.singer import SingerSystem

CONNECTOR: Final[Connector[SingerSystem]] = Connector(SingerReader, SingerWriter, probe, fields=fields)
