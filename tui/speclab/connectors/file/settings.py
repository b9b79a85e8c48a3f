"""Settings of files with records."""

from __future__ import annotations

import codecs
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Final, Literal
from urllib.parse import unquote, urlsplit

from pydantic import AfterValidator, Field, JsonValue, model_validator

from speclab.core.paths import FieldPath
from speclab.spec.reach import Reach, ReachKind, find_outside
from speclab.spec.settings import Missing, Settings, System, strip_login
from speclab.spec.settings_types import Text, TextType, Timeout, conflict

_MARKED: Final = ("utf-16", "utf-32", "utf-8-sig")
"""Encodings that start with a byte order mark, which is not allowed in the middle of a file."""
_URL: Final = re.compile(r"[a-z][a-z0-9+.-]*:(?::[a-z][a-z0-9+.-]*:)*//")
_STORE: Final = ("endpoint_url", "host", "port", "account_name", "project", "endpoint")
"""Options that identify the store of a URL."""
_FORMATS: Final = ("json", "jsonl", "csv", "tsv", "parquet")
_GOES_WITH: Final[Mapping[str, tuple[str, ...]]] = {
    **dict.fromkeys(("encoding", "delimiter", "quote", "columns"), ("csv", "tsv")),
    "types": ("parquet",),
}


def is_remote(path: str) -> bool:
    """Whether `path` is the URL of a remote file."""
    return _URL.match(path) is not None and not path.startswith("file://")


def strip_query(path: str) -> str:
    """Return `path` without query and fragment of a URL."""
    return path.partition("?")[0].partition("#")[0] if path.startswith(("http://", "https://")) else path


def detect_format(path: str) -> str:
    """Return the suffix of `path`, without .gz: the name of a format, if it is one."""
    ending = strip_query(path).removesuffix(".gz").rpartition(".")[2].lower()
    return "jsonl" if ending == "ndjson" else ending


def _check_encoding(name: str) -> str:
    try:
        "".encode(name)  # rejects codecs that are not for text, such as hex
    except (LookupError, UnicodeError):
        raise ValueError(f"expected the name of an encoding, such as cp1252, got {name!r}") from None
    return name


def _check_separator(text: str) -> str:
    if len(text) != 1 or text in "\r\n":
        raise ValueError(f"expected one character, got {text!r}")
    return text


def _check_quote(text: str) -> str:
    return text and _check_separator(text)


_COLUMN_TYPES: Final = ("text", "integer", "number", "boolean", "date", "datetime", "binary")
_DECIMAL: Final = re.compile(r"decimal\((?P<digits>\d{1,2}), *(?P<places>\d{1,2})\)")


def _check_column_type(text: str) -> str:
    if text in _COLUMN_TYPES:
        return text
    decimal = _DECIMAL.fullmatch(text)
    if decimal is None:
        raise ValueError(f"expected {', '.join(_COLUMN_TYPES)} or decimal(12, 2)")
    if not 1 <= int(decimal["digits"]) <= 38 or int(decimal["places"]) > int(decimal["digits"]):
        raise ValueError(f"expected at most 38 digits, and decimal places within them, got {text!r}")
    return text


Encoding = Annotated[str, AfterValidator(_check_encoding), TextType("encoding name")]
Delimiter = Annotated[str, AfterValidator(_check_separator), TextType("character")]
ColumnType = Annotated[str, AfterValidator(_check_column_type), TextType("column type")]
Quote = Annotated[str, AfterValidator(_check_quote), TextType('character, or "" for none')]


class StoreLimits(Settings):
    """Limits on the requests to a remote store."""

    timeout: Timeout = Field(
        default=30.0, description="Timeout without data from the store, for s3, http, ftp and sftp."
    )


class FileSystem(System):
    """Files with records."""

    path: Text = Field(
        description="Path or URL of the file, such as s3://bucket/people.csv; a glob pattern at a source.",
        json_schema_extra={"login": True},
    )
    format: Literal["json", "jsonl", "csv", "tsv", "parquet"] | None = Field(
        default=None, description="File format; default: by the suffix of the path."
    )
    mode: Literal["replace", "append", "upsert"] = Field(
        default="upsert", description="Whether a run replaces the file, appends to it, or updates it by key."
    )
    encoding: Encoding = Field(default="utf-8", description="Text encoding of a csv or tsv file.")
    delimiter: Delimiter | None = Field(
        default=None, description="Character between cells; default: a comma in csv, a tab in tsv."
    )
    quote: Quote = Field(default='"', description="Character around cells that contain delimiters or line ends.")
    missing: Missing = "keep"
    columns: tuple[Text, ...] = Field(default=(), description="Column names of a csv or tsv file without a header.")
    types: dict[str, ColumnType] = Field(
        default_factory=dict,
        description="Column types of a Parquet file, such as decimal(12, 2); default: by the first value.",
    )
    options: dict[str, JsonValue] = Field(
        default_factory=dict,
        description="Options of the URL's driver, such as `key`, `secret` and `endpoint_url` for s3.",
    )
    limits: StoreLimits = Field(
        default_factory=StoreLimits, description="Limits on the requests to the store of a URL."
    )

    def find_reaches(self, role: str, workspace: Path) -> Iterator[Reach]:
        """Yield remote stores, and files outside of the workspace, hidden, or without a data format's suffix."""
        if is_remote(self.path):
            place = "::".join(strip_login(part) if "://" in part else part for part in self.path.split("::"))
            yield Reach(role, ReachKind.HOST, place)
            for name, value in _named(self.options, _STORE):
                yield Reach(role, ReachKind.HOST, f"{name}={value}")
            return
        path = unquote(urlsplit(self.path).path) if self.path.startswith("file://") else self.path
        exposed = list(find_outside(path, workspace))
        if not exposed and role == "target" and detect_format(path) not in _FORMATS:
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
        """Return whether `missing` is `delete`."""
        return self.missing == "delete"

    def explain_no_delete(self) -> str:
        """Return a reason unless the file is updated by key."""
        if self.mode == "append":
            return "records of a file in mode append cannot be deleted; use mode upsert"
        if self.mode == "replace":
            return "a file in mode replace only has the records of the run, so there are none to delete"
        return ""

    def get_required_paths(self) -> Mapping[tuple[str, ...], Sequence[FieldPath]]:
        """Return the key, in mode upsert."""
        return {("key",): self.get_delete_paths()} if self.mode == "upsert" else {}

    @model_validator(mode="after")
    def _check_format(self) -> FileSystem:
        kind = self.format or detect_format(self.path)
        for name in self.model_fields_set & _GOES_WITH.keys():
            if kind in _FORMATS and kind not in _GOES_WITH[name]:
                raise conflict(f"`{name}` is for {' and '.join(_GOES_WITH[name])}, not {kind}", at=name)
        twice = [name for at, name in enumerate(self.columns) if name in self.columns[:at]]
        if twice:
            raise conflict(f"the column {twice[0]!r} appears twice", at="columns")
        if self.quote and self.quote == self.delimiter:
            raise conflict("`quote` and `delimiter` are the same character", at="quote")
        for name in () if is_remote(self.path) or "${" in self.path else ("options", "limits"):
            if name in self.model_fields_set:
                raise conflict(f"`{name}` are for the store of a URL such as s3://bucket/people.csv", at=name)
        if kind == "parquet" and strip_query(self.path).endswith(".gz"):
            raise conflict("Parquet is compressed internally; remove .gz", at="path")
        if self.mode == "append" and (reason := explain_no_append(self.path, kind, self.encoding)):
            raise conflict(reason, at="mode")
        return self

    def destination(self) -> str:
        """Return the file and its store."""
        if not is_remote(self.path):
            return f"file {self.path}"
        inner = self.options.get("client_kwargs")
        options = {**(inner if isinstance(inner, dict) else {}), **self.options}
        store = "".join(f" {name}={options[name]}" for name in _STORE if name in options)
        return f"file {strip_login(self.path)}{store}"


def _named(value: JsonValue, names: Sequence[str]) -> Iterator[tuple[str, JsonValue]]:
    """Yield the options named in `names`, at any depth."""
    if isinstance(value, dict):
        for name, inner in value.items():
            if name in names and not isinstance(inner, dict | list):
                yield name, inner
            yield from _named(inner, names)


def explain_no_append(path: str, kind: str, encoding: str) -> str:
    """Return why a file of this format and encoding cannot be appended to; empty if it can."""
    if is_remote(path):
        return "a remote file cannot be appended to; use mode upsert or replace"
    if kind == "json":
        return "a JSON list cannot be appended to; use jsonl, or mode upsert or replace"
    if kind == "parquet":
        return "a Parquet file cannot be appended to; use mode upsert or replace"
    if codecs.lookup(encoding).name in _MARKED:
        return f"{encoding} starts with a byte order mark and cannot be appended to; use mode upsert or replace"
    return ""
