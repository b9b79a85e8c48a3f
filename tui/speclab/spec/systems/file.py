"""The settings of files of records."""

from __future__ import annotations

import codecs
from typing import Annotated, Final, Literal

from pydantic import AfterValidator, Field, model_validator

from speclab.spec.kinds import Kind, misfit
from speclab.spec.system import Limited

_MARKED: Final = ("utf-16", "utf-32", "utf-8-sig")
"""Encodings that begin a text with a byte order mark, which cannot stand in the middle of a file."""


def format_of(path: str) -> str:
    """What `path` ends in, before .gz: the name of a format, if it is one."""
    ending = path.removesuffix(".gz").rpartition(".")[2].lower()
    return "jsonl" if ending == "ndjson" else ending


def _encoding(name: str) -> str:
    try:
        "".encode(name)  # a codec of no text, such as hex, is looked up all the same
    except (LookupError, UnicodeError):
        raise ValueError(f"expected the name of an encoding, such as cp1252, not {name!r}") from None
    return name


def _separator(text: str) -> str:
    if len(text) != 1 or text in "\r\n":
        raise ValueError(f"expected one character, not {text!r}")
    return text


def _quote(text: str) -> str:
    return text and _separator(text)


Encoding = Annotated[str, AfterValidator(_encoding), Kind("name of an encoding")]
Delimiter = Annotated[str, AfterValidator(_separator), Kind("character")]
Quote = Annotated[str, AfterValidator(_quote), Kind('character, or "" for none')]


class FileSystem(Limited):
    """Files of records."""

    path: str = Field(description="the file; a glob when reading")
    format: Literal["json", "jsonl", "csv", "tsv"] | None = Field(default=None, description="default: by the ending")
    mode: Literal["replace", "append", "upsert"] = Field(default="upsert", description="what a run does to the file")
    encoding: Encoding = Field(default="utf-8", description="how the text of a table is encoded")
    delimiter: Delimiter | None = Field(
        default=None, description="what is between the cells of a table; default: a comma, in tsv a tab"
    )
    quote: Quote = Field(default='"', description="what is around a cell with delimiters or line ends in it")
    columns: tuple[str, ...] = Field(default=(), description="the columns of a table, where its file has no header")

    @model_validator(mode="after")
    def _goes_with_the_format(self) -> FileSystem:
        kind = self.format or format_of(self.path)
        if kind in ("json", "jsonl"):
            for name in ("encoding", "delimiter", "quote", "columns"):
                if name in self.model_fields_set:
                    raise misfit(f"`{name}` goes with csv and tsv, not with {kind}", at=name)
        twice = [name for at, name in enumerate(self.columns) if name in self.columns[:at]]
        if twice:
            raise misfit(f"the column {twice[0]!r} is there twice", at="columns")
        if self.quote and self.quote == self.delimiter:
            raise misfit("`quote` and `delimiter` are the same character", at="quote")
        if self.mode == "append" and (reason := why_not_append(kind, self.encoding)):
            raise misfit(reason, at="mode")
        return self


def why_not_append(kind: str, encoding: str) -> str:
    """Why a file of this format and encoding cannot be appended to; nothing if it can."""
    if kind == "json":
        return "a JSON list cannot be appended to; use jsonl, or mode upsert or replace"
    if codecs.lookup(encoding).name in _MARKED:
        return f"{encoding} has a mark at its start, so a file cannot be appended to; use mode upsert or replace"
    return ""
