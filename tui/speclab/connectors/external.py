"""The external connector: an integration that another tool runs, and that reports its runs.

Its spec has a schedule, alerts and acceptance criteria like any other; speclab neither reads nor writes.
"""

from __future__ import annotations

from typing import ClassVar, Final, Literal

from pydantic import Field

from speclab.connectors.api import Connector, ConnectorParts
from speclab.spec.settings import System
from speclab.spec.settings_types import Key, Text


class ExternalSystem(System):
    """A system of an integration that another tool runs: it reports its runs, and speclab watches them."""

    runs_elsewhere: ClassVar[bool] = True

    connector: Literal["external"] = Field(default="external", description="Kind of system.")
    key: Key = Field(default="id", description="Path of the field that identifies a record; for people.")
    tool: Text | None = Field(default=None, description="Tool that runs the integration, such as airflow; for people.")


CONNECTOR: Final = Connector(ExternalSystem, ConnectorParts)
