"""The settings of a Singer tap or target."""

from __future__ import annotations

import hashlib
import json
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, JsonValue, model_validator

from speclab.spec.reach import Reach, ReachKind, outside
from speclab.spec.secrets import names_secret
from speclab.spec.settings import Missing, Settings, System
from speclab.spec.settings_types import Size, Text, TextType, Timeout, misfit


def _command(text: str) -> str:
    try:
        parts = shlex.split(text)
    except ValueError as error:
        raise ValueError(f"{text!r} cannot be split into arguments: {error}") from None
    if not parts:
        raise ValueError("expected a program such as tap-rest-api-msdk, and its own arguments if it takes any")
    if "${" in text:
        raise ValueError(
            "a reference cannot stand in `command`, which every user of the machine can read; "
            "put it into `config` or `env`"
        )
    for part, following in zip(parts, [*parts[1:], ""], strict=True):
        name, is_given, _ = part.lstrip("-").partition("=")
        if part.startswith("-") and names_secret(name) and (is_given or (following and following[0] != "-")):
            raise ValueError(
                f"`{part.partition('=')[0]}` takes a secret, and every user of the machine can read `command`; "
                "put it into `config` or `env`"
            )
    return text


Command = Annotated[str, AfterValidator(_command), TextType("program and arguments")]
"""A program on the PATH, or its path from the workspace, and arguments; no shell sees it."""


class ProcessLimits(Settings):
    """What a tap or target may take."""

    timeout: Timeout = Field(default=600.0, description="how long it may neither speak nor listen")
    response: Size = Field(default=50_000_000, description="the longest line that is read")


class Replication(Settings):
    """How a tap that lets one choose reads a stream."""

    method: Literal["full_table", "incremental", "log_based"] = Field(description="the replication method")
    key: Text | None = Field(default=None, description="the field that incremental reading goes by")

    @model_validator(mode="after")
    def _by_a_field(self) -> Replication:
        if (self.method == "incremental") != (self.key is not None):
            raise misfit("`key`, the field to go by, goes with the method incremental", at="method")
        return self


class SingerSystem(System):
    """A Singer tap at the source, a Singer target at the target."""

    command: Command = Field(description="the tap or target: a program and its arguments")
    config: dict[str, JsonValue] = Field(
        default_factory=dict, description="its config; handed over in a file for this user alone, removed afterwards"
    )
    env: dict[str, str] = Field(
        default_factory=dict,
        description="environment variables it is given, besides those every program needs, such as PATH and HOME",
    )
    stream: Text = Field(description="the stream to read, or the name records are written under")
    catalog: Text | None = Field(
        default=None, description="a catalog file, or `none`; default: what the tap discovers, all fields selected"
    )
    replication: Replication | None = Field(default=None, description="how the tap reads, where it lets one choose")
    missing: Missing = "keep"
    mode: Literal["append", "upsert"] = Field(
        default="upsert", description="what the target does with a record whose key it has"
    )
    size: int = Field(default=1000, ge=1, description="records that one process of the target is given")
    limits: ProcessLimits = Field(default_factory=ProcessLimits, description="what it may take")

    def destination(self) -> str:
        """Where records go: another secret in the config makes no other place of it."""
        config = {name: value for name, value in self.config.items() if not names_secret(name)}
        text = json.dumps([self.command, config], sort_keys=True)
        return f"singer {self.stream} {hashlib.sha256(text.encode()).hexdigest()[:16]}"

    def origin(self) -> str:
        """The program and the stream; a cursor stays valid if other settings of the config change."""
        return f"singer {self.command} {self.stream}"

    def always_creates(self) -> bool:
        """Return whether the target appends."""
        return self.mode != "upsert"

    def reaches(self, role: str, workspace: Path) -> Iterator[Reach]:
        """The command, and a catalog outside of the workspace."""
        yield Reach(role, ReachKind.COMMAND, self.command)
        if self.catalog not in (None, "none"):
            for path in outside(str(self.catalog), workspace):
                yield Reach(role, ReachKind.PATH, path)

    def deletes_missing(self) -> bool:
        """As `missing` says."""
        return self.missing == "delete"

    def why_not_delete(self) -> str:
        """Singer has no word for it."""
        return "a Singer target cannot be told to delete a record"
