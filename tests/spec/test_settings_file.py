"""File settings: contradicting settings are reported at the exact key."""

from __future__ import annotations

import pytest
from tests.spec.test_settings_models import FIRST, render, system

from speclab.connectors.file.settings import FileSystem

TABLE = "connector: file\nkey: id\npath: a.csv\n"


@pytest.mark.parametrize(
    ("yaml", "expected"),
    [
        (
            TABLE + "encoding: hex\n",
            "4:11 S203 `encoding`: expected the name of an encoding, such as cp1252, got 'hex'",
        ),
        (
            TABLE + "encoding: cp1225\n",
            "4:11 S203 `encoding`: expected the name of an encoding, such as cp1252, got 'cp1225'",
        ),
        (TABLE + "delimiter: ';;'\n", "4:12 S203 `delimiter`: expected one character, got ';;'"),
        (TABLE + "delimiter: ';'\nquote: ';'\n", "5:1 S205 `quote` and `delimiter` are the same character"),
        (TABLE + "columns: [id, id]\n", "4:1 S205 the column 'id' appears twice"),
        (
            TABLE + "mode: append\nencoding: utf-16\n",
            "4:1 S205 utf-16 starts with a byte order mark and cannot be appended to; use mode upsert or replace",
        ),
        (
            "connector: file\nkey: id\npath: a.jsonl.gz\nquote: ''\n",
            "4:1 S205 `quote` is for csv and tsv, not jsonl",
        ),
        (
            "connector: file\nkey: id\npath: a.json\nmode: append\n",
            "4:1 S205 a JSON list cannot be appended to; use jsonl, or mode upsert or replace",
        ),
        (
            "connector: file\nkey: id\npath: a.parquet\nmode: append\n",
            "4:1 S205 a Parquet file cannot be appended to; use mode upsert or replace",
        ),
        (
            "connector: file\nkey: id\npath: a.parquet\ntypes: {n: money}\n",
            "4:12 S203 `types.n`: expected text, integer, number, boolean, date, datetime, binary or decimal(12, 2)",
        ),
        (
            "connector: file\nkey: id\npath: a.parquet\ntypes: {n: 'decimal(40, 2)'}\n",
            "4:12 S203 `types.n`: expected at most 38 digits, and decimal places within them, got 'decimal(40, 2)'",
        ),
        (
            "connector: file\nkey: id\npath: s3://bucket/a.csv\nmode: append\n",
            "4:1 S205 a remote file cannot be appended to; use mode upsert or replace",
        ),
        (
            TABLE + "options: {key: x}\n",
            "4:1 S205 `options` are for the store of a URL such as s3://bucket/people.csv",
        ),
        (
            TABLE + "limits: {timeout: 5s}\n",
            "4:1 S205 `limits` are for the store of a URL such as s3://bucket/people.csv",
        ),
        (
            "connector: file\nkey: id\npath: s3://bucket/a.csv\nlimits: {rate: 10/s}\n",
            "4:10 S202 unknown setting 'rate' in `limits`; expected one of 'timeout'",
        ),
        (TABLE + "types: {n: integer}\n", "4:1 S205 `types` is for parquet, not csv"),
    ],
)
def test_contradicting_settings_are_reported_at_their_location(yaml: str, expected: str) -> None:
    line, rest = expected.split(":", 1)
    assert render(system(yaml)[1]) == [f"{int(line) + FIRST - 1}:{rest}"]


def test_csv_dialect_is_read() -> None:
    found, problems = system(TABLE + "delimiter: \"\\t\"\nquote: ''\nencoding: cp1252\ncolumns: [id, name]\n")
    assert problems == []
    assert isinstance(found, FileSystem)
    assert (found.delimiter, found.quote, found.encoding, found.columns) == ("\t", "", "cp1252", ("id", "name"))
