"""Appending to a file: whole batches at its end, also after a process was killed in the middle of one."""

from __future__ import annotations

import gzip
import subprocess
import sys
from pathlib import Path

import pytest
from tests.connectors.conftest import item, records_of
from tests.connectors.files import Files

from speclab.connectors.api import RuntimeContext
from speclab.connectors.file.settings import FileSystem
from speclab.connectors.registry import open_writer
from speclab.connectors.secrets.references import References
from speclab.core.errors import SpecError, Unreachable
from speclab.core.outcome import Effect
from speclab.spec.auth import NoAuth


@pytest.fixture
def files(references: References, context: RuntimeContext) -> Files:
    return Files(references, context)


async def test_appending_adds_whole_lines_to_the_end(tmp_path: Path, files: Files) -> None:
    path = tmp_path / "log.jsonl"
    path.write_text('{"id":"z"}')
    writer = files.opened("log.jsonl", mode="append")
    assert (writer.idempotent, writer.deletes) == (False, False)
    results = await files.write("log.jsonl", item("a"), item("a"), mode="append")
    assert [result.effect for result in results] == [Effect.CREATED, Effect.CREATED]
    assert path.read_text() == '{"id":"z"}\n{"id":"a"}\n{"id":"a"}\n'


async def test_appending_to_a_gzipped_file_adds_a_member(tmp_path: Path, files: Files) -> None:
    for key in "ab":
        await files.write("log.jsonl.gz", item(key), mode="append")
    assert gzip.decompress((tmp_path / "log.jsonl.gz").read_bytes()) == b'{"id":"a"}\n{"id":"b"}\n'


async def test_appending_to_a_table_keeps_to_its_columns(tmp_path: Path, files: Files) -> None:
    path = tmp_path / "log.csv"
    await files.write("log.csv", item("a", name="Ada"), mode="append")
    fine, foreign, short = await files.write(
        "log.csv", item("b", name="Bo"), item("c", nmae="Cy"), item("d"), mode="append"
    )
    assert (fine.effect, short.effect) == (Effect.CREATED, Effect.CREATED)
    assert foreign.error is not None
    assert foreign.error.message == "log.csv has no column 'nmae'. Did you mean 'name'?"
    assert foreign.error.field == "nmae"
    assert path.read_text() == "id,name\na,Ada\nb,Bo\nd,\n"


async def test_list_cannot_be_appended_to(context: RuntimeContext, tmp_path: Path) -> None:
    system = FileSystem(connector="file", path="${env:OUT}", mode="append", key="id")
    with pytest.raises(SpecError, match="a JSON list cannot be appended to"):
        open_writer(system, NoAuth(), References({"OUT": "out.json"}, tmp_path), context)


KILLED = """
import asyncio, resource, signal, sys
from pathlib import Path
from random import Random
from speclab.core.clock import SystemClock
from speclab.connectors.registry import open_writer
from speclab.connectors.secrets.references import References
from speclab.connectors.api import MappedRecord, RuntimeContext
from speclab.spec.auth import NoAuth
from speclab.connectors.file.settings import FileSystem

async def main():
    system = FileSystem(connector="file", path=sys.argv[2], key="id", mode="append")
    writer = open_writer(system, NoAuth(), References({}, Path(sys.argv[1])), RuntimeContext(SystemClock(), Random()))
    signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
    resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[3]), resource.RLIM_INFINITY))
    await writer.write([MappedRecord("new", {"id": f"new {number}"}, {}, "") for number in range(40)])

asyncio.run(main())
"""
"""A process that a signal ends as soon as the file has a certain size, which is in the middle of a batch."""


@pytest.mark.parametrize("name", ["log.jsonl", "log.csv", "log.jsonl.gz"])
async def test_partial_append_of_killed_process_is_removed(name: str, tmp_path: Path, files: Files) -> None:
    path = tmp_path / name
    await files.write(name, *(item(f"{number * 7919 % 10007}") for number in range(1000)), mode="append")
    before = path.read_bytes()
    ended = subprocess.run([sys.executable, "-c", KILLED, str(tmp_path), name, str(len(before) + 50)], check=False)  # noqa: ASYNC221 - a crash, not a wait
    assert ended.returncode < 0
    assert len(path.read_bytes()) == len(before) + 50
    await files.write(name, item("next"), mode="append")
    assert path.read_bytes().startswith(before)
    assert [record["id"] for record in records_of(await files.read(name))[1000:]] == ["next"]
    assert [file.name for file in tmp_path.iterdir()] == [name]  # noqa: ASYNC240


async def test_data_appended_by_others_after_a_kill_stays(tmp_path: Path, files: Files) -> None:
    path = tmp_path / "log.jsonl"
    path.write_text(f'{{"id":"{"z" * 990}"}}\n')
    subprocess.run([sys.executable, "-c", KILLED, str(tmp_path), "log.jsonl", "1100"], check=False)  # noqa: ASYNC221 - a crash, not a wait
    torn = path.read_text()
    assert not torn.endswith("\n")
    path.write_text(torn + ' by hand"}\n')
    await files.write("log.jsonl", item("next"), mode="append")
    assert path.read_text() == torn + ' by hand"}\n{"id":"next"}\n'


async def test_table_that_could_not_be_started_gets_its_header_later(tmp_path: Path, files: Files) -> None:
    (tmp_path / ".log.csv.adding").mkdir()  # blocks the file that is written before a batch
    writer = files.opened("log.csv", mode="append")
    with pytest.raises(Unreachable, match=r"log\.csv: Is a directory"):
        await writer.write([item("a")])
    (tmp_path / ".log.csv.adding").rmdir()
    await writer.write([item("b")])
    assert (tmp_path / "log.csv").read_text() == "id\nb\n"
