"""Settings of a Singer tap or target."""

from __future__ import annotations

import hashlib
import json
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, JsonValue, model_validator

from speclab.spec.auth import names_secret
from speclab.spec.reach import Reach, ReachKind, find_outside
from speclab.spec.settings import Missing, Settings, System
from speclab.spec.settings_types import Size, Text, TextType, Timeout, conflict


def _check_command(text: str) -> str:
    try:
        parts = shlex.split(text)
    except ValueError as error:
        raise ValueError(f"{text!r} cannot be split into arguments: {error}") from None
    if not parts:
        raise ValueError("expected a program such as tap-rest-api-msdk, and its own arguments if it takes any")
    if "${" in text:
        raise ValueError(
            "references are not allowed in `command`, which every user of the machine can read; use `config` or `env`"
        )
    for part, following in zip(parts, [*parts[1:], ""], strict=True):
        name, is_given, _ = part.lstrip("-").partition("=")
        if part.startswith("-") and names_secret(name) and (is_given or (following and following[0] != "-")):
            raise ValueError(
                f"`{part.partition('=')[0]}` takes a secret, and every user of the machine can read `command`; "
                "use `config` or `env`"
            )
    return text


Command = Annotated[str, AfterValidator(_check_command), TextType("program and arguments")]
"""A program on the PATH or its path from the workspace, and its arguments; run without a shell."""


class ProcessLimits(Settings):
    """Limits on the process of a tap or target."""

    timeout: Timeout = Field(default=600.0, description="Timeout without reading or writing by the process.")
    response: Size = Field(default=50_000_000, description="Maximum size of a line.")


class Replication(Settings):
    """Replication of a stream, for taps that support several methods."""

    method: Literal["full_table", "incremental", "log_based"] = Field(description="Replication method.")
    key: Text | None = Field(
        default=None, description="Replication key, the field that incremental replication compares."
    )

    @model_validator(mode="after")
    def _check_key(self) -> Replication:
        if (self.method == "incremental") != (self.key is not None):
            raise conflict("`key`, the replication key, is for the method incremental", at="method")
        return self


class SingerSystem(System):
    """A Singer tap at the source, a Singer target at the target."""

    command: Command = Field(description="Program of the tap or target, with its arguments.")
    config: dict[str, JsonValue] = Field(
        default_factory=dict,
        description="Config of the program, passed in a temporary file that only this user can read.",
    )
    env: dict[str, str] = Field(
        default_factory=dict,
        description="Environment variables of the program, in addition to PATH, HOME and the like.",
    )
    stream: Text = Field(description="Stream to read, or to write as.")
    catalog: Text | None = Field(
        default=None, description="Catalog file, or `none`; default: the discovered catalog with all fields selected."
    )
    replication: Replication | None = Field(default=None, description="Replication of the stream.")
    missing: Missing = "keep"
    mode: Literal["append", "upsert"] = Field(
        default="upsert", description="Whether the target appends a record whose key exists, or updates it."
    )
    size: int = Field(default=1000, ge=1, description="Number of records per process of the target.")
    limits: ProcessLimits = Field(default_factory=ProcessLimits, description="Limits on the process.")

    def destination(self) -> str:
        """Return the stream and a hash of command and config, without the secrets in the config."""
        config = {name: value for name, value in self.config.items() if not names_secret(name)}
        text = json.dumps([self.command, config], sort_keys=True)
        return f"singer {self.stream} {hashlib.sha256(text.encode()).hexdigest()[:16]}"

    def origin(self) -> str:
        """Return the program and the stream; a cursor stays valid if other settings of the config change."""
        return f"singer {self.command} {self.stream}"

    def always_creates(self) -> bool:
        """Return whether the target appends."""
        return self.mode != "upsert"

    def find_reaches(self, role: str, workspace: Path) -> Iterator[Reach]:
        """Yield the command, and a catalog outside of the workspace."""
        yield Reach(role, ReachKind.COMMAND, self.command)
        if self.catalog not in (None, "none"):
            for path in find_outside(str(self.catalog), workspace):
                yield Reach(role, ReachKind.PATH, path)

    def deletes_missing(self) -> bool:
        """Return whether `missing` is `delete`."""
        return self.missing == "delete"

    def explain_no_delete(self) -> str:
        """Return that Singer has no deletes."""
        return "the Singer specification has no deletes; a Singer target cannot delete records"
