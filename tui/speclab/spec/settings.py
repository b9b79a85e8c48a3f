"""Settings models: the base class, the settings of both systems, and those of the other sections."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from math import ceil
from pathlib import Path
from typing import Annotated, ClassVar, Final, Literal
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, JsonValue, StrictBool, model_validator

from speclab.core.paths import FieldPath
from speclab.spec.reach import Reach
from speclab.spec.settings_types import (
    Cel,
    Duration,
    Key,
    Rates,
    Share,
    Size,
    Text,
    Timeout,
    conflict,
    is_secret,
)


class Settings(BaseModel):
    """A settings block: frozen, and an unknown key is an error."""

    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        arbitrary_types_allowed=True,
        defer_build=True,  # a spec uses a third of these models, and building one costs milliseconds
    )


class MappingSettings(Settings):
    """Settings of the Field Mapping section: what does not fit in its table."""

    filter: Cel | None = Field(
        default=None,
        description="CEL expression over the source record. Records for which it is false are counted as filtered.",
    )
    lookups: dict[str, dict[str, JsonValue]] = Field(
        default_factory=dict, description="Tables for the step `Lookup(name)`, by name."
    )
    check: dict[str, dict[str, JsonValue]] = Field(
        default_factory=dict, description="JSON Schema for target fields, by target path."
    )


class RetrySettings(Settings):
    """Retries of failed writes: exponential backoff with full jitter, up to `base * 2^n` and at most `cap`."""

    attempts: int = Field(default=5, ge=1, description="Maximum attempts, including the first.")
    backoff: Literal["exponential"] = Field(
        default="exponential", description="Growth of the wait between attempts, with full jitter."
    )
    base: Duration = Field(default=2.0, description="Upper bound of the first wait.")
    cap: Duration = Field(default=300.0, description="Upper bound of every wait.")
    give_up_after: Duration = Field(default=86400.0, description="Age at which a waiting record becomes a dead letter.")

    @model_validator(mode="after")
    def _growing(self) -> RetrySettings:
        if self.cap < self.base:
            raise conflict("`cap`, the longest wait, is shorter than `base`, the first", at="cap")
        return self


class Rotation(Settings):
    """Rotation of the log file."""

    size: Size = Field(default=10_000_000, ge=1000, description="Size at which a new file is started.")
    keep: int = Field(default=5, ge=1, le=1000, description="Number of older files that are kept.")


class LoggingSettings(Settings):
    """Events outside the run log, retention, and the fields of failed records that are stored."""

    destination: Literal["none", "file", "stderr", "journald"] = Field(
        default="none",
        description="Where events are sent in addition to the run log; `file` is `.speclab/logs/SPEC_ID.log`.",
    )
    level: Literal["info", "warning", "error"] = Field(
        default="info", description="Lowest level of the events that are sent there."
    )
    format: Literal["text", "json"] = Field(
        default="text", description="Format of a line: text, or a JSON object as in `speclab logs --json`."
    )
    rotation: Rotation = Field(default_factory=Rotation, description="Rotation of the log file.")
    retention: Duration = Field(default=30 * 86400.0, description="Time for which events are kept in the run log.")
    runs: Duration | None = Field(
        default=None, description="Time for which finished runs are kept; default: the same as `retention`."
    )
    failures: Duration = Field(
        default=90 * 86400.0,
        description="Time for which failures are kept once they are resolved, superseded or discarded.",
    )
    payloads: Duration | None = Field(
        default=None,
        description="Time for which such failures keep their records, requests and responses; default: the same as "
        "`failures`.",
    )
    fields: dict[str, Literal["store", "mask", "hash"]] = Field(
        default_factory=dict,
        description="How a field of a failed record is stored, by its path or name: `store`, `mask` or `hash`. "
        "Default: `mask` for names with password, token, secret, ssn, iban or card, `store` for others.",
    )


class GuardSettings(Settings):
    """Guard: thresholds for an unusual run, as shares of the expected volume, and what to do about one."""

    action: Literal["warn", "stop"] = Field(
        default="warn",
        description="Whether an unusual run only causes a warning, or fails before it writes or deletes more.",
    )
    least: Share = Field(default=0.5, description="Minimum share of `records` that a full read returns.")
    most: Share = Field(
        default=10.0,
        description="Maximum share of `records` that a full read returns, or of `per_run` for an incremental run.",
    )
    deletes: Share = Field(default=0.2, description="Maximum share of the records that one run deletes.")
    drift: StrictBool = Field(
        default=True, description="Whether source fields that disappear or change their type count as unusual."
    )

    @model_validator(mode="after")
    def _satisfiable(self) -> GuardSettings:
        if self.least > self.most:
            raise conflict("expected `least` to be at most `most`; otherwise no run is normal", at="least")
        return self


class VolumeSettings(Settings):
    """Expected volume, used by the guard and by `speclab plan`."""

    records: int | None = Field(default=None, ge=0, description="Number of records in a full read.")
    per_run: int | None = Field(
        default=None, ge=0, description="Number of records that a typical incremental run reads."
    )
    guard: GuardSettings = Field(default_factory=GuardSettings, description="Thresholds for an unusual run.")


class Limits(Settings):
    """Limits on the requests to a system."""

    rate: Rates = Field(
        default=(),
        description="Maximum requests per time window, such as 100/min; a list for several windows: [10/s, 1000/h].",
    )
    concurrency: int = Field(default=4, ge=1, le=1000, description="Maximum requests in flight.")
    timeout: Timeout = Field(default=30.0, description="Timeout of one request.")
    response: Size = Field(default=50_000_000, description="Maximum size of a response, after decompression.")


class Since(Settings):
    """Incremental read: only records that changed since the last run."""

    param: Text | None = Field(
        default=None, description="Query parameter that carries the time or number to read from."
    )
    field: Text = Field(description="Path of the time or number in a record.")
    start: Text | None = Field(default=None, description="Value to start from in the first run.")
    lookback: Duration = Field(
        default=0.0, description="Overlap with the previous read, subtracted from the last value seen."
    )
    sorted: StrictBool = Field(default=False, description="Whether the source returns records in the order of `field`.")


Missing = Annotated[
    Literal["keep", "delete"],
    Field(description="Whether target records are deleted when a full read no longer finds them."),
]
"""What happens to target records that the source no longer has."""


class System(Settings):
    """The settings of a Source System or a Target System section.

    A subclass with a field `read` requires it at the source, one with a field `write` at the target. The guide and
    the reference show its docstring and the descriptions of its fields.
    """

    requires_auth: ClassVar[bool] = False
    """Whether a spec must have an Auth section for this system; otherwise the section is optional."""
    runs_elsewhere: ClassVar[bool] = False
    """Whether another tool runs the integration, and speclab neither reads nor writes this system."""
    reads_target_fields: ClassVar[bool] = False
    """Whether `read` of a Target System says where `speclab fields` finds the fields of the target."""
    expressions: ClassVar[Mapping[tuple[str, str], str]] = {}
    """The CEL expressions in these settings: by the path of the setting, the name of the variable that they see."""

    connector: str = Field(description="Kind of system.")
    key: Key = Field(description="Path of the field that identifies a record, or a list of paths.")

    def destination(self) -> str:
        """Return the identity of the place that records are written to, without credentials.

        Record state is kept per destination. By default it is a hash of all settings except limits and secrets.
        References are resolved before the call.
        """
        secrets = {name for name, info in type(self).model_fields.items() if is_secret(info)}
        settings = self.model_dump_json(exclude={"limits", *secrets})
        return f"{self.connector} {hashlib.sha256(settings.encode()).hexdigest()[:16]}"

    def origin(self) -> str:
        """Return the place that this source is read from, without credentials: a cursor is valid for one place only.

        By default, it is the same as the destination. References are resolved when this is called.
        """
        return self.destination()

    def tombstone(self) -> str | None:
        """Return the CEL expression over `source` that is true of a deleted record, or None if there is none."""
        return None

    def always_creates(self) -> bool:
        """Return whether every write to this target creates a record, also if the key exists already."""
        return False

    def count_calls(self, writes: int, deletes: int, batch: int) -> int:
        """Return how many calls a run makes to write and delete so many records; `batch` is that of the writer."""
        return ceil((writes + deletes) / batch)

    def find_reaches(self, role: str, workspace: Path) -> Iterator[Reach]:  # noqa: ARG002 - for subclasses
        """Yield what this system uses outside of `workspace`, except references and hosts of URLs in its settings.

        References are not resolved yet. A connector that starts programs or opens files overrides this.
        """
        yield from ()

    def deletes_missing(self) -> bool:
        """Whether target records are deleted when a full read of this source no longer finds them.

        The reader of such a connector marks with `whole` the pages of a full read.
        """
        return False

    def explain_no_delete(self) -> str:
        """Return why this target cannot delete records and what to do about it; empty if it can."""
        return ""

    def get_key_paths(self) -> Sequence[FieldPath]:
        """Return the paths to the values that identify a record."""
        return [FieldPath.parse(path) for path in ([self.key] if isinstance(self.key, str) else self.key)]

    def get_delete_paths(self) -> Sequence[FieldPath]:
        """Return the paths that a delete needs: in the mapped record, or after `source` in the source record."""
        return self.get_key_paths()

    def explain_unclear_success(self) -> tuple[tuple[str, ...], str] | None:
        """Return the path of a setting whose responses do not define success, and what to add; None if all do."""
        return None

    def get_required_paths(self) -> Mapping[tuple[str, ...], Sequence[FieldPath]]:
        """Return the paths that a mapped record must have to be written, by the path of the setting that needs them.

        Empty by default.
        """
        return {}


class Limited(System):
    """A system with limits on its requests."""

    limits: Limits = Field(default_factory=Limits, description="Limits on the requests.")


def strip_login(url: str) -> str:
    """Return `url` without credentials, query and fragment."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path.rstrip('/')}"


NOT_RUN_YET: Final = frozenset({"webhook"})
"""Connectors that the spec format defines and this version does not support."""
