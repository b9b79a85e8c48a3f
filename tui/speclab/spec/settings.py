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
from speclab.spec.settings_types import Cel, Duration, Key, Rates, Share, Size, Text, Timeout, is_secret, misfit


class Settings(BaseModel):
    """A settings block: frozen, and an unknown key is an error."""

    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        arbitrary_types_allowed=True,
        defer_build=True,  # a spec uses a third of these models, and building one costs milliseconds
    )


class MappingSettings(Settings):
    """What the Field Mapping section says beside its table."""

    filter: Cel | None = Field(default=None, description="CEL; records it refuses are counted as filtered")
    lookups: dict[str, dict[str, JsonValue]] = Field(default_factory=dict, description="tables for Lookup(name)")
    check: dict[str, dict[str, JsonValue]] = Field(default_factory=dict, description="JSON Schema for target fields")


class RetrySettings(Settings):
    """How a write that may heal is tried again; full jitter under `base * 2^n`, at most `cap`."""

    attempts: int = Field(default=5, ge=1, description="tries in all, the first included")
    backoff: Literal["exponential"] = Field(default="exponential", description="how waits grow, with full jitter")
    base: Duration = Field(default=2.0, description="the first wait's upper bound")
    cap: Duration = Field(default=300.0, description="the longest wait")
    give_up_after: Duration = Field(default=86400.0, description="age at which a waiting record becomes a dead letter")

    @model_validator(mode="after")
    def _growing(self) -> RetrySettings:
        if self.cap < self.base:
            raise misfit("`cap`, the longest wait, is shorter than `base`, the first", at="cap")
        return self


class LoggingSettings(Settings):
    """How long the run log keeps what."""

    retention: Duration = Field(default=30 * 86400.0, description="events and finished runs")
    failures: Duration = Field(default=90 * 86400.0, description="failures that are resolved, superseded or discarded")


class GuardSettings(Settings):
    """What is suspicious about a run, as a share of the volume, and what is done about it."""

    action: Literal["warn", "stop"] = Field(
        default="warn", description="tell it only, or fail the run before it writes or deletes more"
    )
    least: Share = Field(default=0.5, description="share of `records` that a read of the whole source gives at least")
    most: Share = Field(default=10.0, description="share of `records` it gives at most, or of `per_run` if it goes on")
    deletes: Share = Field(default=0.2, description="share of the records that one run deletes at most")
    drift: StrictBool = Field(
        default=True, description="whether it minds fields of the source that are gone or change their kind"
    )

    @model_validator(mode="after")
    def _satisfiable(self) -> GuardSettings:
        if self.least > self.most:
            raise misfit("`least` is more than `most`: every run would be suspicious", at="least")
        return self


class VolumeSettings(Settings):
    """How much is expected; the guards and the plan go by it."""

    records: int | None = Field(default=None, ge=0, description="records a full read holds")
    per_run: int | None = Field(default=None, ge=0, description="records a usual run reads")
    guard: GuardSettings = Field(default_factory=GuardSettings, description="when a run is suspicious")


class Limits(Settings):
    """What a system may be asked for."""

    rate: Rates = Field(
        default=(), description="requests a window, such as 100/min, or of several windows: [10/s, 1000/h]"
    )
    concurrency: int = Field(default=4, ge=1, le=1000, description="requests at once")
    timeout: Timeout = Field(default=30.0, description="how long one request may take")
    response: Size = Field(default=50_000_000, description="the largest answer that is read, unpacked")


class Since(Settings):
    """How only what changed is asked for."""

    param: Text | None = Field(default=None, description="parameter that carries the time or number to read from")
    field: Text = Field(description="path of the time or number in a record")
    start: Text | None = Field(default=None, description="where the very first run begins")
    lookback: Duration = Field(default=0.0, description="how far before the last one seen to ask again")
    sorted: StrictBool = Field(default=False, description="true if the source gives records in the order of `field`")


Missing = Annotated[
    Literal["keep", "delete"],
    Field(description="what becomes at the target of records that the source has no more, once all of it was read"),
]
"""What is done about records that are gone at the source."""


class System(Settings):
    """The settings of a Source System or a Target System section.

    A subclass that has a field `read` must be given it at the source, and one that has `write` at the target; its
    docstring and the descriptions of its fields are what the guide and the reference say.
    """

    logs_in: ClassVar[bool] = False
    """Whether a spec must say how to log in; otherwise it may."""
    reads_target_fields: ClassVar[bool] = False
    """Whether `read` of a Target System says where `speclab fields` finds the fields of the target."""
    expressions: ClassVar[Mapping[tuple[str, str], str]] = {}
    """The CEL expressions in these settings: by the path of the setting, the name of the variable that they see."""

    connector: str = Field(description="what kind of system it is")
    key: Key = Field(description="path of a record's identity, or several")

    def destination(self) -> str:
        """Where records go, without credentials: what was written is remembered of that place and of no other.

        By default it is told by all settings, except limits and secrets. References are resolved when this is asked.
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

    def reaches(self, role: str, workspace: Path) -> Iterator[Reach]:  # noqa: ARG002 - for subclasses
        """What this system uses outside of `workspace` beside its references and the hosts of URLs in its settings.

        References still stand in the settings. A connector that starts programs or opens files overrides this.
        """
        yield from ()

    def deletes_missing(self) -> bool:
        """Whether what this source has no more is to be deleted at the target, once all of the source was read.

        A connector whose settings can say so gives pages that tell whether the read is of the `whole` source.
        """
        return False

    def why_not_delete(self) -> str:
        """Why no record can be deleted at this target, and what to do; nothing if one can."""
        return ""

    def known_by(self) -> Sequence[FieldPath]:
        """What a delete at this target takes of a mapped record, or after `source` of the record before mapping."""
        return [FieldPath.parse(path) for path in ([self.key] if isinstance(self.key, str) else self.key)]

    def unclear_success(self) -> tuple[tuple[str, ...], str] | None:
        """The setting whose responses may not say what they did, and what is missing; None where all is clear."""
        return None

    def needs(self) -> Mapping[tuple[str, ...], Sequence[FieldPath]]:
        """What a mapped record must hold to be written at this target, by the setting that says so.

        By default nothing is known of that.
        """
        return {}


class Limited(System):
    """A system that must not be asked for more than its limits."""

    limits: Limits = Field(default_factory=Limits, description="what it may be asked for")


def without_login(url: str) -> str:
    """`url` without who logs in, and without what goes with the database or the request but is not the place."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path.rstrip('/')}"


NOT_RUN_YET: Final = frozenset({"webhook"})
"""Connectors that the format knows and this version cannot do."""
