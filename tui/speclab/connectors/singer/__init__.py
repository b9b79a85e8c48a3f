"""The Singer connector: any tap as a source and any target as a target, each run as a separate process."""

from __future__ import annotations

from typing import Final

from speclab.connectors.api import Connector, ConnectorParts
from speclab.connectors.singer.settings import SingerSystem


def _load() -> ConnectorParts[SingerSystem]:
    from speclab.connectors.singer.reader import SingerReader, discover
    from speclab.connectors.singer.writer import SingerWriter, check_target

    return ConnectorParts(SingerReader, SingerWriter, check_target, discover=discover)


CONNECTOR: Final = Connector(SingerSystem, _load)
