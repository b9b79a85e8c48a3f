"""What the settings of every system have, whichever connector reads and writes it."""

from __future__ import annotations

from typing import Final

from pydantic import Field, StrictBool

from speclab.spec.kinds import Duration, Key, RateLimit, Size
from speclab.spec.settings import Settings


class Limits(Settings):
    """What a system may be asked for."""

    rate: RateLimit | None = Field(default=None, description="requests a window, such as 100/min")
    concurrency: int = Field(default=4, ge=1, le=1000, description="requests at once")
    timeout: Duration = Field(default=30.0, description="how long one request may take")
    response: Size = Field(default=50_000_000, description="the largest answer that is read")


class Since(Settings):
    """How only what changed is asked for."""

    param: str | None = Field(default=None, description="parameter that carries the time or number to read from")
    field: str = Field(description="path of the time or number in a record")
    start: str | None = Field(default=None, description="where the very first run begins")
    lookback: Duration = Field(default=0.0, description="how far before the last one seen to ask again")
    sorted: StrictBool = Field(default=False, description="true if the source gives records in the order of `field`")


class System(Settings):
    """The settings of a Source System or a Target System section: what those of every kind of system have."""

    connector: str = Field(description="what kind of system it is")
    key: Key = Field(description="path of a record's identity, or several")
    limits: Limits = Field(default_factory=Limits, description="what it may be asked for")


NOT_RUN_YET: Final = frozenset({"singer", "webhook"})
"""Connectors that the format knows and this version cannot do."""
