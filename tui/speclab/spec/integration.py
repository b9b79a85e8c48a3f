"""An `Integration`: the machine-readable content of a spec, typed and frozen, with locations for failures."""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypeAlias

from speclab.core.outcome import ErrorClass

if TYPE_CHECKING:  # pydantic takes a quarter of a second to import, and a mapping row needs none of it
    from speclab.spec.auth import Auth
    from speclab.spec.settings import LoggingSettings, MappingSettings, RetrySettings, System, VolumeSettings


Role: TypeAlias = Literal["source", "target"]
"""The role of an endpoint in an integration."""


@dataclass(frozen=True, slots=True)
class Endpoint:
    """An endpoint of an integration: its system and authentication."""

    role: Role
    system: System
    auth: Auth

    @property
    def login(self) -> str:
        """The authentication method, with the flow of OAuth 2.0: `bearer`, `oauth2 device_code`."""
        return f"oauth2 {self.auth.flow}" if self.auth.type == "oauth2" else self.auth.type


@dataclass(frozen=True, slots=True)
class MappingRow:
    """One row of the Field Mapping table, as written; a row's identity is its target path.

    `sources` and `target` are without their system prefix (`source.`, `target.`) and otherwise as written;
    `sources` is empty if the row computes its value. `line` and the columns (of each cell's first
    character; one for each source field) count from 1.
    """

    sources: tuple[str, ...]
    target: str
    transformation: str
    notes: str
    line: int
    source_columns: tuple[int, ...]
    target_column: int
    transformation_column: int
    escapes: tuple[int, ...] = ()
    """Offsets in `transformation` of characters that the file escapes with a backslash (`\\|` in a table)."""

    def column(self, offset: int) -> int:
        """Return the column in the file of the character at `offset` in `transformation`."""
        return self.transformation_column + offset + bisect_left(self.escapes, offset)


class ErrorAction(StrEnum):
    """The action for a failed write."""

    RETRY = "retry"  # put it in the retry queue, with backoff
    WAIT = "wait"  # pause all requests for as long as the target says, then retry
    REFRESH = "refresh"  # refresh the credentials once, then stop
    SKIP = "skip"  # count it as filtered
    DEAD_LETTER = "dead_letter"
    STOP = "stop"  # end the run


@dataclass(frozen=True, slots=True)
class ErrorRule:
    """A row of the Error Types table: the first one that matches applies.

    It matches by HTTP status (from `low` to `high`, inclusive) or by class; the other is None.
    """

    low: int | None
    high: int | None
    error_class: ErrorClass | None
    action: ErrorAction
    line: int


@dataclass(frozen=True, slots=True)
class Alert:
    """A row of the Alerts table; `when` is a CEL expression over the run log."""

    name: str
    when: str
    hold: float  # seconds it must be true
    notify: str
    line: int


@dataclass(frozen=True, slots=True)
class Schedule:
    """The choice of the Frequency section: `text` as written, and its meaning."""

    kind: str  # hourly | daily | every | cron | real_time | on_demand
    text: str
    every: float | None = None  # seconds, for `every`
    at: str | None = None  # HH:MM, for `daily`
    zone: str | None = None  # IANA time zone, for `daily`
    cron: str | None = None


@dataclass(frozen=True, slots=True)
class Integration:
    """A complete spec, ready to run. `hash` is the SHA-256 of the file's bytes, in hex."""

    spec_id: str
    title: str
    path: Path
    hash: str
    status: str
    source: System
    target: System
    source_auth: Auth
    target_auth: Auth
    rows: tuple[MappingRow, ...]
    mapping: MappingSettings
    mapping_line: int  # of the Field Mapping heading
    retry: RetrySettings
    error_rules: tuple[ErrorRule, ...]
    schedule: Schedule
    alerts: tuple[Alert, ...]
    logging: LoggingSettings
    volume: VolumeSettings
    source_line: int  # of the Source System heading: where failures of reading point
    target_line: int  # of the Target System heading: where failures of writing point if no row is to blame

    @property
    def ends(self) -> tuple[Endpoint, Endpoint]:
        """The source and the target."""
        return Endpoint("source", self.source, self.source_auth), Endpoint("target", self.target, self.target_auth)
