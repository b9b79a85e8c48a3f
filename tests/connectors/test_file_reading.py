from __future__ import annotations

import gzip
import json
import os
from pathlib import Path

import pytest
from tests.connectors.conftest import Reports, records_of
from tests.connectors.files import Files

from speclab.connectors.api import RuntimeContext
from speclab.connectors.secrets.references import References
from speclab.core.errors import BadResponse, SpecError, Unreachable
from speclab.core.json import Record

PEOPLE: list[Record] = [{"id": f"p{number}", "name": f'Pérson "{number}"\nJr.'} for number in range(2500)]


@pytest.fixture
def files(references: References, context: RuntimeContext) -> Files:
    return Files(references, context)


def as_jsonl(records: list[Record]) -> str:
    return "".join(json.dumps(record) + "\n" for record in records)


def as_table(records: list[Record], delimiter: str) -> str:
    rows = [f"id{delimiter}name\r\n"]
    for record in records:
        name = str(record["name"]).replace('"', '""')
        rows.append(f'{record["id"]}{delimiter}"{name}"\r\n')
    return "".join(rows)


CONTENTS = {
    "people.jsonl": as_jsonl(PEOPLE),
    "people.ndjson": "\n" + as_jsonl(PEOPLE).removesuffix("\n"),
    "people.json": json.dumps(PEOPLE, indent=1),
    "people.csv": "\ufeff" + as_table(PEOPLE, ","),
    "people.tsv": as_table(PEOPLE, "\t").removesuffix("\r\n"),
}


@pytest.mark.parametrize("ending", ["", ".gz"])
@pytest.mark.parametrize("name", CONTENTS)
async def test_every_format_is_read_in_pages_and_resumes_after_any(
    name: str, ending: str, tmp_path: Path, files: Files
) -> None:
    content = CONTENTS[name].encode()
    name += ending
    (tmp_path / name).write_bytes(gzip.compress(content, mtime=0) if ending else content)
    pages = await files.read(name)
    assert records_of(pages) == PEOPLE
    assert [len(page.records) for page in pages] == [1000, 1000, 500]
    assert [page.complete for page in pages] == [False, False, True]
    assert pages[-1].cursor is None
    for index in (0, 1):
        assert records_of(await files.read(name, pages[index].cursor)) == PEOPLE[(index + 1) * 1000 :]


async def test_pattern_reads_all_matching_files_in_order_of_their_names(tmp_path: Path, files: Files) -> None:
    for name, records in (("b.jsonl", PEOPLE[2:4]), ("a.jsonl", PEOPLE[:2]), ("c.txt", PEOPLE[5:])):
        (tmp_path / name).write_text(as_jsonl(records))
    pages = await files.read("*.jsonl")
    assert records_of(pages) == PEOPLE[:4]
    assert [page.request for page in pages] == ["read a.jsonl", "read b.jsonl"]
    assert records_of(await files.read("*.jsonl", pages[0].cursor)) == PEOPLE[2:4]


async def test_changed_file_is_read_from_the_start(tmp_path: Path, files: Files, reports: Reports) -> None:
    path = tmp_path / "people.jsonl"
    path.write_text(as_jsonl(PEOPLE))
    first = (await files.read("people.jsonl"))[0]
    os.utime(path, ns=(0, 0))
    assert records_of(await files.read("people.jsonl", first.cursor)) == PEOPLE
    assert reports.lines == [
        "warning: people.jsonl has changed since the last run stopped in it; reading from the start"
    ]


async def test_continued_read_is_whole_only_if_earlier_files_are_unchanged(tmp_path: Path, files: Files) -> None:
    """Deletes are derived from a whole read; a read that skips a new file is not whole."""
    for name in "bcd":
        (tmp_path / f"{name}.jsonl").write_text(as_jsonl(PEOPLE[:2]))
    _, stopped, _ = await files.read("*.jsonl")
    assert [page.whole for page in await files.read("*.jsonl", stopped.cursor)] == [True, True]
    (tmp_path / "a.jsonl").write_text(as_jsonl(PEOPLE[2:3]))
    passed_over = await files.read("*.jsonl", stopped.cursor)
    assert [page.request for page in passed_over] == ["read c.jsonl", "read d.jsonl"]
    assert [page.whole for page in passed_over] == [False, False]
    assert [page.whole for page in await files.read("*.jsonl", passed_over[0].cursor)] == [False, False]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.jsonl", '{"id": 1}\n\n{"id": \n', r"a\.jsonl:3: no JSON"),
        ("a.jsonl", '{"id": 1}\n[1]\n', r"a\.jsonl:2: expected a JSON object, found '\[1\]"),
        ("a.json", '[\n{"id": 1},\n{"id" 2}\n]', r"a\.json:3: no JSON"),
        ("a.json", '{"data": []}', r"a\.json:1: expected a list of objects, found an object"),
        ("a.json", '[{"id": 1}, 2]', r"a\.json: entry 1 of the list is not an object"),
        ("a.csv", 'id,name\n1,"Ada\nLovelace"\n2,Bo,x\n', r"a\.csv:4: expected 2 cells, as in the header, found 3"),
        ("a.csv", "id,name\n1\n", r"a\.csv:2: expected 2 cells, as in the header, found 1"),
        ("a.csv", "id,id\n1,2\n", r"a\.csv:1: the column 'id' exists twice"),
        ("a.csv", 'id,name\n1,"Ada\n', r"a\.csv:2: unexpected end of data"),
        ("a.csv", "id,name\n1,Ada\n\n\n2\n", r"a\.csv:5: expected 2 cells, as in the header, found 1"),
        ("a.csv", "\n\nid,,\n1,2,3\n", r"a\.csv:3: the column '' exists twice"),
        ("a.csv", b"id,n\xffme\n1,Ada\n", r"a\.csv:1: the byte 0xff at offset 4 is not UTF-8"),
        ("a.jsonl", b'{"id": 1}\n{"id": 2, "na', r"a\.jsonl:2: no JSON: unexpected end of data"),
        ("a.jsonl.gz", b"no gzip at all", r"a\.jsonl\.gz: cannot be read to its end: Not a gzipped file"),
        ("a.jsonl.gz", gzip.compress(b'{"id": 1}\n' * 50, mtime=0)[:-12], r"a\.jsonl\.gz: cannot be read to its end"),
    ],
)
async def test_unreadable_content_names_file_and_line(
    name: str, content: str | bytes, message: str, tmp_path: Path, files: Files
) -> None:
    (tmp_path / name).write_bytes(content.encode() if isinstance(content, str) else content)
    with pytest.raises(BadResponse, match=message):
        await files.read(name)


async def test_cell_is_text_and_no_type_is_guessed(tmp_path: Path, files: Files) -> None:
    (tmp_path / "a.csv").write_text("id,n,empty\n007,1.50,\n")
    assert records_of(await files.read("a.csv")) == [{"id": "007", "n": "1.50", "empty": ""}]


async def test_identifier_of_twenty_digits_keeps_all_digits(tmp_path: Path, files: Files) -> None:
    (tmp_path / "a.jsonl").write_text('{"id": 12345678901234567890123}\n')
    assert records_of(await files.read("a.jsonl")) == [{"id": 12345678901234567890123}]


async def test_empty_file_is_a_complete_read(tmp_path: Path, files: Files) -> None:
    for name in ("a.csv", "a.jsonl"):
        (tmp_path / name).touch()
        (page,) = await files.read(name)
        assert (page.records, page.complete) == ([], True)


async def test_missing_file_is_unreachable(files: Files) -> None:
    with pytest.raises(Unreachable, match=r"there is no file in/\*\.csv"):
        await files.read("in/*.csv")


async def test_unknown_file_extension_needs_a_format(tmp_path: Path, files: Files) -> None:
    (tmp_path / "people.txt").write_text(as_jsonl(PEOPLE[:1]))
    with pytest.raises(SpecError, match="set `format`"):
        await files.read("people.txt")
    assert records_of(await files.read("people.txt", format="jsonl")) == PEOPLE[:1]
