"""Singer: any tap as a source and any target as a target, run as processes of their own."""

from __future__ import annotations

from typing import Final

from speclab.connectors.base import Connector
from speclab.connectors.singer.fields import fields
from speclab.connectors.singer.reader import SingerReader
from speclab.connectors.singer.writer import SingerWriter, probe
from speclab.spec.systems.singer import SingerSystem

CONNECTOR: Final[Connector[SingerSystem]] = Connector(SingerReader, SingerWriter, probe, fields=fields)
