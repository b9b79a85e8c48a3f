"""The settings of files of records."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from speclab.spec.system import System


class FileSystem(System):
    """Files of records."""

    path: str = Field(description="the file; a glob when reading")
    format: Literal["json", "jsonl", "csv", "tsv"] | None = Field(default=None, description="default: by the ending")
    mode: Literal["replace", "append", "upsert"] = Field(default="upsert", description="what a run does to the file")
