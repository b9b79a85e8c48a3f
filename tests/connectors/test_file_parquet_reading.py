"""Parquet as a source: values as from a database, row groups larger than memory, and invalid files."""

from __future__ import annotations

import subprocess
import sys
from datetime import UTC, date, datetime, time
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from tests.connectors.conftest import item, records_of
from tests.connectors.files import Files, file_system

from speclab.connectors.api import RuntimeContext
from speclab.connectors.registry import open_reader
from speclab.connectors.secrets.references import References
from speclab.core.errors import BadResponse
from speclab.core.json import Record
from speclab.spec.auth import NoAuth

PEOPLE: list[Record] = [{"id": number, "name": f"Zoë {number}"} for number in range(2500)]


@pytest.fixture
def files(references: References, context: RuntimeContext) -> Files:
    return Files(references, context)


def save(path: Path, columns: dict[str, Any], **more: Any) -> pa.Table:
    table = pa.table(columns)
    pq.write_table(table, path, **more)
    return table


@pytest.mark.parametrize("rows_a_group", [100_000, 700, 1])
async def test_every_file_is_read_in_pages_and_resumes_after_any(
    rows_a_group: int, tmp_path: Path, files: Files
) -> None:
    people = PEOPLE if rows_a_group > 1 else PEOPLE[:1200]
    pq.write_table(pa.Table.from_pylist(people), tmp_path / "a.parquet", row_group_size=rows_a_group)
    pages = await files.read("a.parquet")
    assert records_of(pages) == people
    assert {len(page.records) for page in pages[:-1]} == {1000}
    assert pages[-1].complete
    assert sum(page.bytes_in for page in pages) == (tmp_path / "a.parquet").stat().st_size
    for index, page in enumerate(pages[:-1]):
        assert records_of(await files.read("a.parquet", page.cursor)) == people[(index + 1) * 1000 :]


async def test_pattern_reads_all_matching_files(tmp_path: Path, files: Files) -> None:
    for day in range(3):
        save(tmp_path / f"day-{day}.parquet", {"id": [day]})
    pages = await files.read("day-*.parquet")
    assert records_of(pages) == [{"id": 0}, {"id": 1}, {"id": 2}]
    assert records_of(await files.read("day-*.parquet", pages[0].cursor)) == [{"id": 1}, {"id": 2}]


async def test_values_are_read_as_from_a_database(tmp_path: Path, files: Files) -> None:
    moment = datetime(2026, 3, 29, 1, 59, 59, 123456, tzinfo=UTC)
    save(
        tmp_path / "a.parquet",
        {
            "born": [date(1815, 12, 10)],
            "at": pa.array([moment], pa.timestamp("us", "UTC")),
            "there": pa.array([moment], pa.timestamp("us", "Europe/Berlin")),
            "local": pa.array([datetime(2026, 3, 29, 3, 0)], pa.timestamp("ms")),  # noqa: DTZ001 - without a zone
            "price": pa.array([Decimal("1.50")], pa.decimal128(12, 2)),
            "photo": [b"\x00\xff"],
            "hour": [time(10, 11, 12)],
            "kind": pa.array(["x"]).dictionary_encode(),
            "tags": [["a", None]],
            "home": [{"city": "Rome", "since": date(2020, 1, 2)}],
            "props": pa.array([{"a": 1}], pa.map_(pa.string(), pa.int64())),
            "big": pa.array([2**64 - 1], pa.uint64()),
            "none": pa.nulls(1),
        },
    )
    assert records_of(await files.read("a.parquet")) == [
        {
            "born": "1815-12-10",
            "at": "2026-03-29 01:59:59.123456+00:00",
            "there": "2026-03-29 03:59:59.123456+02:00",
            "local": "2026-03-29 03:00:00",
            "price": "1.50",
            "photo": "AP8=",
            "hour": "10:11:12",
            "kind": "x",
            "tags": ["a", None],
            "home": {"city": "Rome", "since": "2020-01-02"},
            "props": {"a": 1},
            "big": 2**64 - 1,
            "none": None,
        }
    ]


async def test_nanoseconds_are_kept(tmp_path: Path, files: Files) -> None:
    values = [-1, 0, 1_000, 1_700_000_000_123_456_789, None]
    save(
        tmp_path / "a.parquet",
        {"t": pa.array(values, pa.timestamp("ns")), "z": pa.array(values, pa.timestamp("ns", "+01:00"))},
    )
    assert records_of(await files.read("a.parquet")) == [
        {"t": "1969-12-31 23:59:59.999999999", "z": "1970-01-01 00:59:59.999999999+01:00"},
        {"t": "1970-01-01 00:00:00", "z": "1970-01-01 01:00:00+01:00"},
        {"t": "1970-01-01 00:00:00.000001", "z": "1970-01-01 01:00:00.000001+01:00"},
        {"t": "2023-11-14 22:13:20.123456789", "z": "2023-11-14 23:13:20.123456789+01:00"},
        {"t": None, "z": None},
    ]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"id,name\n1,Ada\n", r"a\.parquet: cannot be read as Parquet: Parquet magic bytes not found"),
        (b"", r"a\.parquet: cannot be read as Parquet: Parquet file size is 0 bytes"),
    ],
)
async def test_invalid_parquet_is_reported(content: bytes, message: str, tmp_path: Path, files: Files) -> None:
    (tmp_path / "a.parquet").write_bytes(content)
    with pytest.raises(BadResponse, match=message):
        await files.read("a.parquet")


async def test_invalid_date_names_its_column(tmp_path: Path, files: Files) -> None:
    save(tmp_path / "a.parquet", {"id": [1], "at": pa.array([5 * 10**18], pa.timestamp("us"))})
    with pytest.raises(BadResponse, match=r"a\.parquet: the column 'at' \(timestamp\[us\]\) cannot be read"):
        await files.read("a.parquet")


async def test_duplicate_column_is_reported_for_source_and_target(tmp_path: Path, files: Files) -> None:
    pq.write_table(pa.Table.from_arrays([pa.array([1]), pa.array([2])], ["id", "id"]), tmp_path / "a.parquet")
    for tried in (files.read("a.parquet"), files.write("a.parquet", item("1"))):
        with pytest.raises(BadResponse, match=r"a\.parquet: the column 'id' exists twice"):
            await tried


async def test_page_in_the_middle_of_a_damaged_file_is_an_error_with_its_name(tmp_path: Path, files: Files) -> None:
    pq.write_table(pa.Table.from_pylist(PEOPLE), tmp_path / "a.parquet", compression="none", use_dictionary=False)
    content = bytearray((tmp_path / "a.parquet").read_bytes())
    content[40:4000] = b"\xff" * 3960
    (tmp_path / "a.parquet").write_bytes(content)
    with pytest.raises(BadResponse, match=r"a\.parquet: cannot be read as Parquet"):
        await files.read("a.parquet")


async def test_row_group_is_read_without_loading_it_into_memory(
    tmp_path: Path, references: References, context: RuntimeContext
) -> None:
    """50 MB of text in one row group, read 1,000 rows at a time."""
    table = pa.table({"id": range(50_000), "text": [f"{n:0>1000}" for n in range(50_000)]})
    pq.write_table(table, tmp_path / "a.parquet", row_group_size=50_000, use_dictionary=False)
    del table
    before = pa.total_allocated_bytes()
    count = peak = 0
    reader = open_reader(file_system("a.parquet"), NoAuth(), references, context)
    async for page in reader.pages(None, full=True):
        count += len(page.records)
        peak = max(peak, pa.total_allocated_bytes() - before)
    assert count == 50_000
    assert peak < 15_000_000


WITHOUT = """
import asyncio, sys
sys.modules["pyarrow"] = None
from pathlib import Path
from random import Random
from speclab.core.clock import SystemClock
from speclab.connectors.registry import open_reader, open_writer
from speclab.connectors.secrets.references import References
from speclab.connectors.api import RuntimeContext
from speclab.core.errors import SpecError
from speclab.spec.auth import NoAuth
from speclab.connectors.file.settings import FileSystem

system = FileSystem(connector="file", path="a.parquet", key="id")
references, context = References({}, Path(sys.argv[1])), RuntimeContext(SystemClock(), Random())

async def read():
    async for page in open_reader(system, NoAuth(), references, context).pages(None, full=True):
        pass

async def write():
    open_writer(system, NoAuth(), references, context)

for way in (read, write):
    try:
        asyncio.run(way())
    except SpecError as error:
        print(error.message, "|", error.hint)
"""


def test_missing_extra_names_the_package_to_install(tmp_path: Path) -> None:
    (tmp_path / "a.parquet").touch()
    done = subprocess.run([sys.executable, "-c", WITHOUT, tmp_path], capture_output=True, text=True, check=True)
    output = (
        "Parquet is read and written by pyarrow, which is not installed | pip install 'speclab-tui[parquet]' brings it."
    )
    assert done.stdout.splitlines() == [output, output]


def test_help_and_the_package_load_neither_pyarrow_nor_fsspec() -> None:
    script = (
        "import sys, contextlib\n"
        "import speclab, speclab.connectors.file\n"
        "from speclab.cli import main\n"
        "with contextlib.suppress(SystemExit):\n"
        "    main(['--help'])\n"
        "print([name for name in ('pyarrow', 'fsspec', 's3fs') if name in sys.modules], file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stderr == "[]\n"
