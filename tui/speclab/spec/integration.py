"""An Integration: what a spec says to the machine, typed and frozen, with the place of everything that can fail."""

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
"""Which end of an integration."""


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One end of an integration, as far as it is about reaching it."""

    role: Role
    system: System
    auth: Auth

    @property
    def login(self) -> str:
        """How it is logged in at, in a word or two: `bearer`, `oauth2 device_code`."""
        return f"oauth2 {self.auth.flow}" if self.auth.type == "oauth2" else self.auth.type


@dataclass(frozen=True, slots=True)
class MappingRow:
    """One row of the Field Mapping table, as written; a row's identity is its target path.

    `sources` and `target` have lost their system prefix (`source.`, `target.`) and are otherwise as written;
    `sources` is empty where the row makes its value itself. `line` and the columns (of each cell's first
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
    """Offsets in `transformation` of characters before which the file has a backslash (`\\|` in a table)."""

    def column(self, offset: int) -> int:
        """Column in the file of the character at `offset` in `transformation`."""
        return self.transformation_column + offset + bisect_left(self.escapes, offset)


class ErrorAction(StrEnum):
    """What to do with a failed write."""

    RETRY = "retry"  # put it in the retry queue, with backoff
    WAIT = "wait"  # hold all requests for as long as the target says, then again
    REFRESH = "refresh"  # new credentials once, then stop
    SKIP = "skip"  # count it as filtered
    DEAD_LETTER = "dead_letter"
    STOP = "stop"  # end the run


@dataclass(frozen=True, slots=True)
class ErrorRule:
    """One row of the Error Types table: the first that matches decides.

    It matches by HTTP status (from `low` to `high`, inclusive) or by class; the other is None.
    """

    low: int | None
    high: int | None
    error_class: ErrorClass | None
    action: ErrorAction
    line: int


@dataclass(frozen=True, slots=True)
class Alert:
    """One row of the Alerts table; `when` is CEL over the run log."""

    name: str
    when: str
    hold: float  # seconds it must be true
    notify: str
    line: int


@dataclass(frozen=True, slots=True)
class Schedule:
    """The Frequency section's choice; `text` as written, `kind` what it means."""

    kind: str  # hourly | daily | every | cron | real_time | on_demand
    text: str
    every: float | None = None  # seconds, for `every`
    at: str | None = None  # HH:MM, for `daily`
    zone: str | None = None  # IANA time zone, for `daily`
    cron: str | None = None


@dataclass(frozen=True, slots=True)
class Integration:
    """A whole spec as the engine sees it. `hash` is the SHA-256 of the file's bytes, in hex."""

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
