"""The settings of files of records."""

from __future__ import annotations

import codecs
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Final, Literal
from urllib.parse import unquote, urlsplit

from pydantic import AfterValidator, Field, JsonValue, model_validator

from speclab.core.paths import FieldPath
from speclab.spec.reach import Reach, ReachKind, outside
from speclab.spec.settings import Missing, Settings, System, without_login
from speclab.spec.settings_types import Text, TextType, Timeout, misfit

_MARKED: Final = ("utf-16", "utf-32", "utf-8-sig")
"""Encodings that begin a text with a byte order mark, which cannot stand in the middle of a file."""
_URL: Final = re.compile(r"[a-z][a-z0-9+.-]*:(?::[a-z][a-z0-9+.-]*:)*//")
_STORE: Final = ("endpoint_url", "host", "port", "account_name", "project", "endpoint")
"""Options that say which store it is that a URL is about."""
_FORMATS: Final = ("json", "jsonl", "csv", "tsv", "parquet")
_GOES_WITH: Final[Mapping[str, tuple[str, ...]]] = {
    **dict.fromkeys(("encoding", "delimiter", "quote", "columns"), ("csv", "tsv")),
    "types": ("parquet",),
}


def is_elsewhere(path: str) -> bool:
    """Whether `path` is the URL of a file that is not on this machine."""
    return _URL.match(path) is not None and not path.startswith("file://")


def bare(path: str) -> str:
    """`path` without what may stand after the path of a URL."""
    return path.partition("?")[0].partition("#")[0] if path.startswith(("http://", "https://")) else path


def format_of(path: str) -> str:
    """What `path` ends in, before .gz: the name of a format, if it is one."""
    ending = bare(path).removesuffix(".gz").rpartition(".")[2].lower()
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


_COLUMN_TYPES: Final = ("text", "integer", "number", "boolean", "date", "datetime", "binary")
_DECIMAL: Final = re.compile(r"decimal\((?P<digits>\d{1,2}), *(?P<places>\d{1,2})\)")


def _column_type(text: str) -> str:
    if text in _COLUMN_TYPES:
        return text
    decimal = _DECIMAL.fullmatch(text)
    if decimal is None:
        raise ValueError(f"expected {', '.join(_COLUMN_TYPES)} or decimal(12, 2)")
    if not 1 <= int(decimal["digits"]) <= 38 or int(decimal["places"]) > int(decimal["digits"]):
        raise ValueError(f"expected up to 38 digits, of which some are decimal places, not {text!r}")
    return text


Encoding = Annotated[str, AfterValidator(_encoding), TextType("name of an encoding")]
Delimiter = Annotated[str, AfterValidator(_separator), TextType("character")]
ColumnType = Annotated[str, AfterValidator(_column_type), TextType("type of a column")]
Quote = Annotated[str, AfterValidator(_quote), TextType('character, or "" for none')]


class StoreLimits(Settings):
    """What a store elsewhere may take."""

    timeout: Timeout = Field(default=30.0, description="how long the store may be silent; of s3, http, ftp and sftp")


class FileSystem(System):
    """Files of records."""

    path: Text = Field(
        description="the file, or a URL such as s3://bucket/people.csv; a glob when reading",
        json_schema_extra={"login": True},
    )
    format: Literal["json", "jsonl", "csv", "tsv", "parquet"] | None = Field(
        default=None, description="default: by the ending"
    )
    mode: Literal["replace", "append", "upsert"] = Field(default="upsert", description="what a run does to the file")
    encoding: Encoding = Field(default="utf-8", description="how the text of a table is encoded")
    delimiter: Delimiter | None = Field(
        default=None, description="what is between the cells of a table; default: a comma, in tsv a tab"
    )
    quote: Quote = Field(default='"', description="what is around a cell with delimiters or line ends in it")
    missing: Missing = "keep"
    columns: tuple[Text, ...] = Field(default=(), description="the columns of a table, where its file has no header")
    types: dict[str, ColumnType] = Field(
        default_factory=dict,
        description="types of columns of Parquet, such as decimal(12, 2); default: by the first value",
    )
    options: dict[str, JsonValue] = Field(
        default_factory=dict, description="what the driver of a URL takes, such as key, secret and endpoint_url of s3"
    )
    limits: StoreLimits = Field(default_factory=StoreLimits, description="what the store of a URL may take")

    def reaches(self, role: str, workspace: Path) -> Iterator[Reach]:
        """Files outside of the workspace, hidden ones, ones with no ending of a data format, and stores elsewhere."""
        if is_elsewhere(self.path):
            place = "::".join(without_login(part) if "://" in part else part for part in self.path.split("::"))
            yield Reach(role, ReachKind.HOST, place)
            for name, value in _named(self.options, _STORE):
                yield Reach(role, ReachKind.HOST, f"{name}={value}")
            return
        path = unquote(urlsplit(self.path).path) if self.path.startswith("file://") else self.path
        exposed = list(outside(path, workspace))
        if not exposed and role == "target" and format_of(path) not in _FORMATS:
            exposed = [path]  # such as a Makefile
        for one in exposed:
            yield Reach(role, ReachKind.PATH, one)

    def always_creates(self) -> bool:
        """Return whether records are appended, or replace the whole file."""
        return self.mode != "upsert"

    def count_calls(self, writes: int, deletes: int, batch: int) -> int:  # noqa: ARG002
        """Return the number of files written."""
        return min(writes + deletes, 1)

    def deletes_missing(self) -> bool:
        """As `missing` says."""
        return self.missing == "delete"

    def why_not_delete(self) -> str:
        """Only a file that is kept by key is deleted from."""
        if self.mode == "append":
            return "a file that is appended to keeps all records; use mode upsert"
        if self.mode == "replace":
            return "a file that is replaced holds what the source has, and nothing is left to delete"
        return ""

    def needs(self) -> Mapping[tuple[str, ...], Sequence[FieldPath]]:
        """The key, to upsert by."""
        return {("key",): self.known_by()} if self.mode == "upsert" else {}

    @model_validator(mode="after")
    def _goes_with_the_format(self) -> FileSystem:
        kind = self.format or format_of(self.path)
        for name in self.model_fields_set & _GOES_WITH.keys():
            if kind in _FORMATS and kind not in _GOES_WITH[name]:
                raise misfit(f"`{name}` goes with {' and '.join(_GOES_WITH[name])}, not with {kind}", at=name)
        twice = [name for at, name in enumerate(self.columns) if name in self.columns[:at]]
        if twice:
            raise misfit(f"the column {twice[0]!r} is there twice", at="columns")
        if self.quote and self.quote == self.delimiter:
            raise misfit("`quote` and `delimiter` are the same character", at="quote")
        for name in () if is_elsewhere(self.path) or "${" in self.path else ("options", "limits"):
            if name in self.model_fields_set:
                raise misfit(f"`{name}` are for the store of a URL such as s3://bucket/people.csv", at=name)
        if kind == "parquet" and bare(self.path).endswith(".gz"):
            raise misfit("Parquet is packed within, and not gzipped on top", at="path")
        if self.mode == "append" and (reason := why_not_append(self.path, kind, self.encoding)):
            raise misfit(reason, at="mode")
        return self

    def destination(self) -> str:
        """The file, and the store it is in."""
        if not is_elsewhere(self.path):
            return f"file {self.path}"
        inner = self.options.get("client_kwargs")
        options = {**(inner if isinstance(inner, dict) else {}), **self.options}
        store = "".join(f" {name}={options[name]}" for name in _STORE if name in options)
        return f"file {without_login(self.path)}{store}"


def _named(value: JsonValue, names: Sequence[str]) -> Iterator[tuple[str, JsonValue]]:
    """The options called one of `names`, however deep."""
    if isinstance(value, dict):
        for name, inner in value.items():
            if name in names and not isinstance(inner, dict | list):
                yield name, inner
            yield from _named(inner, names)


def why_not_append(path: str, kind: str, encoding: str) -> str:
    """Why a file of this format and encoding cannot be appended to; nothing if it can."""
    if is_elsewhere(path):
        return "a file elsewhere is only put there whole, never appended to; use mode upsert or replace"
    if kind == "json":
        return "a JSON list cannot be appended to; use jsonl, or mode upsert or replace"
    if kind == "parquet":
        return "a Parquet file cannot be appended to; use mode upsert or replace"
    if codecs.lookup(encoding).name in _MARKED:
        return f"{encoding} has a mark at its start, so a file cannot be appended to; use mode upsert or replace"
    return ""
