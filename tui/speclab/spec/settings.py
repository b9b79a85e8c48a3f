"""The settings blocks of a spec as typed models: one word for one idea, the same on both ends.

Descriptions are the one source of what the guide, completion and the reference say of a setting. A string may hold
`${kind:name}` references; they are resolved when a run starts, never here. The systems and the ways to log in are
modules of their own.
"""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, JsonValue, StrictBool, model_validator

from speclab.spec.kinds import Cel, Duration, Share, misfit


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
