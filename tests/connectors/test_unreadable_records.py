"""Records that cannot be read without loss: each has its bytes and location, and others are not affected."""

from __future__ import annotations

import gzip
import json
import tracemalloc
from pathlib import Path

import pytest
from aiohttp import web
from hypothesis import given
from hypothesis import strategies as st
from tests.connectors.conftest import Serve, read_all, records_of
from tests.connectors.files import Files

from speclab.connectors.api import MAX_LINE, RuntimeContext, UnreadableRecord
from speclab.connectors.file.rows import MAX_LIST
from speclab.connectors.http.settings import HttpSystem
from speclab.connectors.registry import open_reader, sample
from speclab.connectors.secrets.references import References
from speclab.connectors.singer.catalog import RecordMessage, parse_message
from speclab.core.errors import BadResponse
from speclab.core.json import Json, Record, decode_leniently, describe_unfit
from speclab.spec.auth import NoAuth

BAD = [
    (rb'{"id": 2, "name": "\ud800"}', "the text at name has half a surrogate pair, U+D800, which is not a character"),
    (rb'{"id": 2, "\udfff": 1}', "the text of a key has half a surrogate pair, U+DFFF, which is not a character"),
    (b'{"id": 2, "name": ["\xff"]}', "the text at name[0] has the byte 0xff, which is not UTF-8"),
    (b'{"id": 2, "n": {"m": 1e400}}', "the number 1e400 at n.m cannot be read without loss"),
    (b'{"id": 2, "n": 0.12345678901234567890}', "the number 0.12345678901234567890 at n cannot be read without loss"),
    (b'{"id": 2, "n": 12345678901234567.89}', "the number 12345678901234567.89 at n cannot be read without loss"),
    (b'{"id": 2, "n": 12345678901234.567}', "the number 12345678901234.567 at n cannot be read without loss"),
    (b'{"id": 2, "n": ' + b"1" * 5_000 + b"}", "the number " + "1" * 60 + "… at n cannot be read without loss"),
]
GOOD: list[Record] = [{"id": 1, "name": "Zoë"}, {"id": 3, "name": "😀"}]


@pytest.fixture
def files(references: References, context: RuntimeContext) -> Files:
    return Files(references, context)


def split(records: list[Record]) -> tuple[list[Record], UnreadableRecord]:
    """Return the good records and the single unreadable one."""
    (bad,) = (record for record in records if isinstance(record, UnreadableRecord))
    return [record for record in records if record is not bad], bad


@pytest.mark.parametrize(("raw", "reason"), BAD)
async def test_bad_line_has_its_bytes_and_location(raw: bytes, reason: str, tmp_path: Path, files: Files) -> None:
    first, last = (json.dumps(record).encode() for record in GOOD)
    (tmp_path / "a.jsonl").write_bytes(b"\n".join((first, raw, last)))
    good, bad = split(records_of(await files.read("a.jsonl")))
    assert good == GOOD
    assert bad.reason.startswith(reason)
    assert bad.place == "a.jsonl:2"
    assert bad.raw == raw + b"\n"


@pytest.mark.parametrize(("raw", "reason"), BAD)
@pytest.mark.parametrize("blanks", [0, 5_000_000], ids=["small", "large"])
async def test_bad_entry_of_a_list_fails_alone(
    raw: bytes, reason: str, blanks: int, tmp_path: Path, files: Files
) -> None:
    first, last = (json.dumps(record).encode() for record in GOOD)
    (tmp_path / "a.json").write_bytes(b"[" + b" ,\n".join((first, b" " * blanks + raw, last)) + b"]\n")
    good, bad = split(records_of(await files.read("a.json")))
    assert good == GOOD
    assert bad.reason.startswith(reason)
    assert bad.place == "a.json: entry 1 of the list"


@pytest.mark.parametrize(("raw", "reason"), BAD)
async def test_bad_record_of_a_page_fails_alone(
    raw: bytes, reason: str, serve: Serve, references: References, context: RuntimeContext
) -> None:
    first, last = (json.dumps(record).encode() for record in GOOD)

    async def people(_request: web.Request) -> web.Response:
        return web.Response(body=b"[" + b",".join((first, raw, last)) + b"]", content_type="application/json")

    base_url = await serve(people)
    settings: dict[str, Json] = {
        "connector": "http",
        "base_url": base_url,
        "key": "id",
        "read": {"path": "/people", "pagination": {"by": "none"}},
    }
    system = HttpSystem.model_validate(settings)
    good, bad = split(records_of(await read_all(open_reader(system, NoAuth(), references, context))))
    assert good == GOOD
    assert bad.reason.startswith(reason)
    assert await sample(system, NoAuth(), references, context, 10) == GOOD


@pytest.mark.parametrize(("raw", "reason"), BAD)
def test_bad_record_of_a_tap_has_its_line(raw: bytes, reason: str) -> None:
    line = b'{"type": "RECORD", "stream": "people", "record": ' + raw + b"}\n"
    message = parse_message(line)
    assert isinstance(message, RecordMessage)
    assert isinstance(message.record, UnreadableRecord)
    assert message.record.reason.startswith(reason)
    assert message.record.raw == line


async def test_row_with_invalid_utf8_fails_alone(tmp_path: Path, files: Files) -> None:
    (tmp_path / "a.csv").write_bytes(b'id,name\n1,Ada\n2,"B\nj\xf6rn"\n3,Zo\xc3\xab\n')
    good, bad = split(records_of(await files.read("a.csv")))
    assert good == [{"id": "1", "name": "Ada"}, {"id": "3", "name": "Zoë"}]
    assert (bad.place, bad.text) == ("a.csv:3", '2,"B\nj\\xf6rn"\n')
    assert bad.reason == (
        "the text at name has the byte 0xf6, which is not UTF-8; `encoding` says how a table is encoded, such as cp1252"
    )


@given(st.floats(allow_nan=False, allow_infinity=False), st.integers(1, 40))
def test_any_notation_of_a_double_is_read_without_loss(number: float, digits: int) -> None:
    for text in (repr(number), f"{number:.{max(digits, 17) - 1}e}"):
        found = decode_leniently(f"[{text}]".encode())
        assert found.value == [number]
        assert describe_unfit(found.value) is None


def test_long_number_within_a_text_is_text() -> None:
    found = decode_leniently(b'["12345678901234567.89", "1.2.3.4.5.6.7.8.9.10.11.12", 18446744073709551616]')
    assert found.value == ["12345678901234567.89", "1.2.3.4.5.6.7.8.9.10.11.12", 2**64]
    assert describe_unfit(found.value) is None


async def test_line_that_decompresses_to_gigabytes_is_one_unreadable_record(tmp_path: Path, files: Files) -> None:
    size = 20 * MAX_LINE
    with gzip.open(tmp_path / "a.jsonl.gz", "wb", compresslevel=1) as file:
        file.write(b'{"id": 1}\n{"id": 2, "a": "')
        for _ in range(size // 1_000_000):
            file.write(b"a" * 1_000_000)
        file.write(b'"}\n{"id": 3}\n')
    tracemalloc.start()
    good, bad = split(records_of(await files.read("a.jsonl.gz")))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert good == [{"id": 1}, {"id": 3}]
    assert bad.reason == f"the line has {size + 19:,} bytes; at most 10,000,000 are read"
    assert bad.text.endswith(f"… ({size + 19:,} bytes)")
    assert peak < 60_000_000


async def test_list_that_decompresses_to_gigabytes_is_rejected(tmp_path: Path, files: Files) -> None:
    with gzip.open(tmp_path / "a.json.gz", "wb", compresslevel=1) as file:
        file.write(b"[{}" + b",{}" * (MAX_LIST // 3))
        file.write(b"]")
    with pytest.raises(BadResponse, match=r"a\.json\.gz: a list of more than 50,000,000 bytes"):
        await files.read("a.json.gz")


async def test_pages_of_long_lines_have_few_records(tmp_path: Path, files: Files) -> None:
    line = json.dumps({"id": "1", "a": "a" * 3_000_000})
    (tmp_path / "a.jsonl").write_text(f"{line}\n" * 7)
    pages = await files.read("a.jsonl")
    assert [len(page.records) for page in pages] == [3, 3, 1]
    assert [page.complete for page in pages] == [False, False, True]
    assert sum(len(page.records) for page in await files.read("a.jsonl", pages[0].cursor)) == 4
