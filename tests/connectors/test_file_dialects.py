"""CSV files as other programs write them: delimiters, quotes, encodings, line ends, and no header."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.connectors.conftest import item, records_of
from tests.connectors.files import Files

from speclab.connectors.api import MappedRecord, RuntimeContext
from speclab.connectors.secrets.references import References
from speclab.core.errors import BadResponse
from speclab.core.json import Json, Record
from speclab.core.outcome import ErrorClass

PEOPLE: list[Record] = [{"id": str(number), "name": f"Zoë {number}; €"} for number in range(1500)]


@pytest.fixture
def files(references: References, context: RuntimeContext) -> Files:
    return Files(references, context)


def lines(records: list[Record]) -> str:
    return "id,name\n" + "".join(f'{record["id"]},"{record["name"]}"\n' for record in records)


@pytest.mark.parametrize("encoding", ["cp1252", "utf-16", "utf-16-le", "utf-8-sig", "gb18030", "utf-32"])
@pytest.mark.parametrize("ending", ["", ".gz"])
async def test_table_is_read_in_its_encoding_and_resumes_after_a_page(
    encoding: str, ending: str, tmp_path: Path, files: Files
) -> None:
    content = lines(PEOPLE).encode(encoding)
    (tmp_path / f"a.csv{ending}").write_bytes(gzip.compress(content, mtime=0) if ending else content)
    pages = await files.read(f"a.csv{ending}", encoding=encoding)
    assert records_of(pages) == PEOPLE
    assert records_of(await files.read(f"a.csv{ending}", pages[0].cursor, encoding=encoding)) == PEOPLE[1000:]


@pytest.mark.parametrize(
    ("content", "encoding", "message"),
    [
        (b"id,name\n1,Ada\n2,\x81\n", "cp1252", r"a\.csv:3: the byte 0x81 at offset 16 is not cp1252"),
        (b"id,n\n" * 20000 + b"2,\x81\n", "cp1252", r"a\.csv:20001: the byte 0x81 at offset 100002 is not cp1252"),
        (
            "id\n1\n".encode("utf-16") + b"\x00\xdc\n\x00",
            "utf-16",
            r"a\.csv:3: the byte 0x00 at offset 12 is not utf-16",
        ),
        ("id\n1\n".encode("utf-16-le") + b"2", "utf-16-le", r"a\.csv:3: the byte 0x32 at offset 10 is not utf-16-le"),
        (b"id\n1\n\x82", "shift_jis", r"a\.csv:3: the byte 0x82 at offset 5 is not shift_jis"),
        (b"id\n1\n", "utf-16", r"a\.csv:1: is not utf-16: UTF-16 stream does not start with BOM"),
    ],
)
async def test_byte_that_does_not_decode_has_a_location(
    content: bytes, encoding: str, message: str, tmp_path: Path, files: Files
) -> None:
    (tmp_path / "a.csv").write_bytes(content)
    with pytest.raises(BadResponse, match=message):
        await files.read("a.csv", encoding=encoding)


@pytest.mark.parametrize("encoding", ["cp1252", "utf-16", "utf-8-sig"])
@pytest.mark.parametrize("mode", ["upsert", "replace"])
async def test_table_is_written_in_its_encoding(encoding: str, mode: str, tmp_path: Path, files: Files) -> None:
    await files.write("a.csv", item("1", name="Zoë"), item("2"), mode=mode, encoding=encoding)
    assert (tmp_path / "a.csv").read_bytes() == "id,name\n1,Zoë\n2,\n".encode(encoding)
    await files.write("a.csv", item("1", name="Zoé"), item("2"), mode=mode, encoding=encoding)
    assert (tmp_path / "a.csv").read_bytes() == "id,name\n1,Zoé\n2,\n".encode(encoding)


@pytest.mark.parametrize("encoding", ["cp1252", "utf-16-le"])
async def test_table_is_appended_to_in_its_encoding(encoding: str, tmp_path: Path, files: Files) -> None:
    (tmp_path / "a.csv").write_bytes("id,name\r\n1,Zoë".encode(encoding))
    await files.write("a.csv", item("2", name="Jürgen"), mode="append", encoding=encoding)
    assert (tmp_path / "a.csv").read_bytes().decode(encoding) == "id,name\r\n1,Zoë\r\n2,Jürgen\r\n"


@pytest.mark.parametrize("mode", ["upsert", "replace", "append"])
async def test_record_outside_the_encoding_fails_alone(mode: str, tmp_path: Path, files: Files) -> None:
    bad, good = await files.write("a.csv", item("1", name="Ł"), item("2", name="L"), mode=mode, encoding="cp1252")
    assert bad.error is not None
    assert (bad.error.error_class, bad.error.field, bad.error.sent) == (
        ErrorClass.REJECTED,
        "name",
        False,
    )
    assert bad.error.message == "a.csv: the character '\\u0141' in name is not in cp1252"
    assert good.effect is not None
    assert (tmp_path / "a.csv").read_text() == "id,name\n2,L\n"


async def test_delimiter_and_quote_follow_the_spec(tmp_path: Path, files: Files) -> None:
    path = tmp_path / "a.csv"
    path.write_text("id;name\n1;'Ada; \"L\"'\n2;Bo, Jr.\n")
    dialect: dict[str, Json] = {"delimiter": ";", "quote": "'"}
    assert records_of(await files.read("a.csv", **dialect)) == [
        {"id": "1", "name": 'Ada; "L"'},
        {"id": "2", "name": "Bo, Jr."},
    ]
    await files.write("a.csv", item("2", name="O'Bo;"), **dialect)
    assert path.read_text() == "id;name\n1;'Ada; \"L\"'\n2;'O''Bo;'\n"


async def test_delimiter_in_a_cell_fails_without_quotes(tmp_path: Path, files: Files) -> None:
    path = tmp_path / "a.csv"
    path.write_text('id|name\n1|"Ada" L\n')
    assert records_of(await files.read("a.csv", delimiter="|", quote="")) == [{"id": "1", "name": '"Ada" L'}]
    good, bad = await files.write("a.csv", item("2", name='12" disc'), item("3", name="a|b"), delimiter="|", quote="")
    assert good.effect is not None
    assert bad.error is not None
    assert bad.error.message == "a.csv: name contains a delimiter or line end, and `quote` is empty"
    assert path.read_text() == 'id|name\n1|"Ada" L\n2|12" disc\n'


async def test_empty_line_cannot_be_written_as_a_record(tmp_path: Path, files: Files) -> None:
    (tmp_path / "a.csv").write_text("id\n1\n")
    good, bad = await files.write("a.csv", item("2"), MappedRecord("3", {"id": ""}, {}, ""), mode="append", quote="")
    assert good.effect is not None
    assert bad.error is not None
    assert bad.error.message == "a.csv: id is empty, which cannot be written as a line without `quote`"
    assert (tmp_path / "a.csv").read_text() == "id\n1\n2\n"
    await files.write("a.csv", MappedRecord("3", {"id": ""}, {}, ""), mode="append")
    assert records_of(await files.read("a.csv")) == [{"id": "1"}, {"id": "2"}, {"id": ""}]


async def test_file_without_a_header_has_the_columns_of_the_spec(tmp_path: Path, files: Files) -> None:
    path = tmp_path / "a.csv"
    columns: Json = ["id", "name"]
    for mode in ("upsert", "append"):
        path.write_text("1,Ada\n2,Bo\n")
        assert records_of(await files.read("a.csv", columns=columns)) == [
            {"id": "1", "name": "Ada"},
            {"id": "2", "name": "Bo"},
        ]
        bad, good = await files.write("a.csv", item("3", nmae="Cy"), item("4"), mode=mode, columns=columns)
        assert bad.error is not None
        assert bad.error.message == "a.csv has no column 'nmae'. Did you mean 'name'?"
        assert good.effect is not None
        assert path.read_text() == "1,Ada\n2,Bo\n4,\n"
    await files.write("new.csv", item("1", name="Ada"), mode="replace", columns=columns)
    assert (tmp_path / "new.csv").read_text() == "1,Ada\n"
    path.write_text("1,Ada,x\n")
    with pytest.raises(BadResponse, match=r"a\.csv:1: expected 2 cells, as in `columns`, found 3"):
        await files.read("a.csv", columns=columns)


async def test_upsert_keeps_header_line_ends_and_byte_order_mark(tmp_path: Path, files: Files) -> None:
    path = tmp_path / "a.csv"
    path.write_bytes(b'\xef\xbb\xbf"id", "odd"\r\n1,x\r\n2,y')
    await files.write("a.csv", item("1"), item("3"))
    assert path.read_bytes() == b'\xef\xbb\xbf"id", "odd"\r\n1,\r\n2,y\r\n3,\r\n'
    path.write_bytes(b"id,name\r\n")
    await files.write("a.csv", item("1", name="Ada"), mode="append")
    assert path.read_bytes() == b"id,name\r\n1,Ada\r\n"


async def test_cell_of_a_megabyte_is_read_back(files: Files) -> None:
    await files.write("a.csv", item("1", text="x" * 1_000_000))
    assert records_of(await files.read("a.csv")) == [{"id": "1", "text": "x" * 1_000_000}]


@given(
    cells=st.lists(st.text(st.characters(codec="utf-8"), max_size=12), min_size=1, max_size=8),
    delimiter=st.sampled_from([",", ";", "\t", "|"]),
    quote=st.sampled_from(['"', "'"]),
    encoding=st.sampled_from(["utf-8", "utf-16", "utf-32-be"]),
)
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
async def test_written_records_are_read_back(
    cells: list[str], delimiter: str, quote: str, encoding: str, tmp_path: Path, files: Files
) -> None:
    dialect: dict[str, Json] = {"delimiter": delimiter, "quote": quote, "encoding": encoding}
    (tmp_path / "a.csv").unlink(missing_ok=True)
    items = [item(f"k{number}", text=text) for number, text in enumerate(cells)]
    results = await files.write("a.csv", *items, **dialect)
    assert all(result.effect for result in results)
    assert records_of(await files.read("a.csv", **dialect)) == [each.payload for each in items]
