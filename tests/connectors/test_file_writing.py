from __future__ import annotations

import gzip
import json
import os
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.connectors.conftest import item

from speclab.connectors.api import FullReplace, MappedRecord, RuntimeContext, Writer, WriteResult
from speclab.connectors.file.settings import FileSystem
from speclab.connectors.registry import open_writer
from speclab.connectors.secrets.references import References
from speclab.core.errors import BadResponse, Unreachable
from speclab.core.outcome import Effect, ErrorClass
from speclab.spec.auth import NoAuth

Open = Callable[..., Writer]


@pytest.fixture
def target(references: References, context: RuntimeContext) -> Open:
    def opened(path: str, mode: str = "upsert") -> Writer:
        system = FileSystem.model_validate({"connector": "file", "path": path, "mode": mode, "key": "id"})
        return open_writer(system, NoAuth(), references, context)

    return opened


async def write(writer: Writer, *items: MappedRecord) -> list[WriteResult]:
    try:
        write_results = list(await writer.write(items))
        if isinstance(writer, FullReplace):
            await writer.finish()
        return write_results
    finally:
        await writer.close()


def effects(write_results: list[WriteResult]) -> list[Effect | None]:
    return [result.effect for result in write_results]


async def test_upsert_changes_its_rows_and_no_other_byte(tmp_path: Path, target: Open) -> None:
    path = tmp_path / "out.jsonl"
    path.write_text('{ "id": "z",  "odd":   1 }\n{"id":"a","n":1}\n\n{"id":"b","n":2}')
    writer = target("out.jsonl")
    assert (writer.idempotent, writer.deletes, writer.keyed) == (True, True, False)
    write_results = await write(writer, item("a", n=7), item("c", n=8), item("a", n=9), item("b", delete=True))
    assert effects(write_results) == [Effect.WRITTEN, Effect.WRITTEN, Effect.WRITTEN, Effect.DELETED]
    assert path.read_text() == '{ "id": "z",  "odd":   1 }\n{"id":"a","n":9}\n{"id":"c","n":8}\n'
    assert not (tmp_path / ".out.jsonl.speclab").exists()


async def test_result_has_a_target_id_where_it_differs_from_the_key(target: Open) -> None:
    records = [item("a"), MappedRecord("crm-1", {"id": 1}, {}, ""), MappedRecord("2", {"id": 2}, {}, "")]
    results = await write(target("out.jsonl"), *records)
    assert [(result.effect, result.target_id) for result in results] == [
        (Effect.WRITTEN, None),
        (Effect.WRITTEN, "1"),
        (Effect.WRITTEN, None),
    ]


async def test_table_gets_a_column_for_a_new_field(tmp_path: Path, target: Open) -> None:
    path = tmp_path / "out.csv"
    path.write_text('id,name\n1,"Ada"\n2,Bo\n')
    await write(target("out.csv"), item("2", name='Bob, "the" first'))
    assert path.read_text() == 'id,name\n1,"Ada"\n2,"Bob, ""the"" first"\n'
    await write(target("out.csv"), item("3", tags=["x"], ok=True, none=None))
    assert path.read_text() == ('id,name,tags,ok,none\n1,Ada,,,\n2,"Bob, ""the"" first",,,\n3,,"[""x""]",true,\n')


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("new/out.jsonl", b'{"id":"a","n":1}\n{"id":"b"}\n'),
        ("out.json", b'[\n{"id":"a","n":1},\n{"id":"b"}\n]\n'),
        ("out.csv", b"id,n\na,1\nb,\n"),
        ("out.tsv", b"id\tn\na\t1\nb\t\n"),
    ],
)
@pytest.mark.parametrize("mode", ["upsert", "replace"])
async def test_file_is_created_in_its_format(
    name: str, content: bytes, mode: str, tmp_path: Path, target: Open
) -> None:
    await write(target(name, mode), item("a", n=1), item("b"))
    assert (tmp_path / name).read_bytes() == content
    packed = f"{name}.gz"
    await write(target(packed, mode), item("a", n=1), item("b"))
    assert gzip.decompress((tmp_path / packed).read_bytes()) == content
    await write(target(packed, mode), item("a", n=1), item("b"))
    assert gzip.decompress((tmp_path / packed).read_bytes()) == content


async def test_replaced_file_contains_the_records_of_the_run_after_it_finished(tmp_path: Path, target: Open) -> None:
    path = tmp_path / "out.jsonl"
    path.write_text('{"id":"old"}\n')
    broken_off = target("out.jsonl", "replace")
    await broken_off.write([item("a"), item("b")])
    await broken_off.close()
    assert path.read_text() == '{"id":"old"}\n'
    await write(target("out.jsonl", "replace"), item("b", n=2), item("c"))  # continues from the checkpoint
    assert path.read_text() == '{"id":"a"}\n{"id":"b","n":2}\n{"id":"c"}\n'
    await write(target("out.jsonl", "replace"))
    assert path.read_text() == ""


async def test_replaced_file_has_no_records_of_an_interrupted_run_before_a_new_read(
    tmp_path: Path, target: Open
) -> None:
    broken_off = target("out.csv", "replace")
    await broken_off.write([item("a", n=1)])
    await broken_off.close()
    next_run = target("out.csv", "replace")
    assert isinstance(next_run, FullReplace)
    await next_run.begin()
    await write(next_run, item("b", m=2))
    assert (tmp_path / "out.csv").read_text() == "id,m\nb,2\n"


CRASH = """
import asyncio, os, sys
from pathlib import Path
from random import Random
from speclab.core.clock import SystemClock
from speclab.connectors.registry import open_writer
from speclab.connectors.secrets.references import References
from speclab.connectors.api import MappedRecord, RuntimeContext
from speclab.spec.auth import NoAuth
from speclab.connectors.file.settings import FileSystem

async def main():
    system = FileSystem(connector="file", path="out.jsonl", key="id")
    writer = open_writer(system, NoAuth(), References({}, Path(sys.argv[1])), RuntimeContext(SystemClock(), Random()))
    await writer.write([MappedRecord(key, {"id": key}, {}, "") for key in "ab"])
    os._exit(0)

asyncio.run(main())
"""


async def test_written_records_survive_a_crash(tmp_path: Path, target: Open) -> None:
    path = tmp_path / "out.jsonl"
    path.write_text('{"id":"z"}\n')
    subprocess.run([sys.executable, "-c", CRASH, str(tmp_path)], check=True)  # noqa: ASYNC221 - a crash, not a wait
    with (tmp_path / ".out.jsonl.speclab").open("ab") as journal:
        journal.write(b'["[\\"c\\"]",{"id":')  # power loss in the middle of the next batch
    assert path.read_text() == '{"id":"z"}\n'
    await write(target("out.jsonl"), item("d"))
    assert path.read_text() == '{"id":"z"}\n{"id":"a"}\n{"id":"b"}\n{"id":"d"}\n'


async def test_file_is_unchanged_if_nothing_is_written(tmp_path: Path, target: Open) -> None:
    path = tmp_path / "out.jsonl"
    path.write_text("this is not even JSON")
    await target("out.jsonl").close()
    assert path.read_text() == "this is not even JSON"


@pytest.mark.parametrize("name", ["out.csv", "out.csv.gz", "out.jsonl", "out.parquet"])
async def test_unmergeable_file_is_reported_and_unchanged(name: str, tmp_path: Path, target: Open) -> None:
    (tmp_path / name).mkdir()
    with pytest.raises(BadResponse, match=f"{name}: expected a regular file, found a pipe, a device or a directory"):
        await write(target(name), item("a"))
    assert (tmp_path / name).is_dir()


async def test_truncated_gzip_table_is_reported_and_unchanged(tmp_path: Path, target: Open) -> None:
    cut = gzip.compress(b"id\nz\n")[:-10]
    (tmp_path / "out.csv.gz").write_bytes(cut)
    with pytest.raises(BadResponse, match=r"out\.csv\.gz: cannot be read to its end: Compressed file ended before"):
        await write(target("out.csv.gz"), item("a"))
    assert (tmp_path / "out.csv.gz").read_bytes() == cut


async def test_file_that_cannot_be_merged_is_unchanged_and_no_record_lost(tmp_path: Path, target: Open) -> None:
    path = tmp_path / "out.jsonl"
    path.write_text('{"id":"z"}\n{broken\n')
    writer = target("out.jsonl")
    await writer.write([item("a")])
    with pytest.raises(BadResponse, match=r"out\.jsonl:2: no JSON"):
        await writer.close()
    assert path.read_text() == '{"id":"z"}\n{broken\n'
    path.write_text('{"id":"z"}\n')
    await write(target("out.jsonl"), item("b"))
    assert path.read_text() == '{"id":"z"}\n{"id":"a"}\n{"id":"b"}\n'


async def test_mode_and_symlink_of_the_file_are_kept(tmp_path: Path, target: Open) -> None:
    real = tmp_path / "real.jsonl"
    real.write_text('{"id":"z"}\n')
    real.chmod(0o640)
    (tmp_path / "out.jsonl").symlink_to("real.jsonl")
    await write(target("out.jsonl"), item("a"))
    assert (tmp_path / "out.jsonl").is_symlink()
    assert real.read_text() == '{"id":"z"}\n{"id":"a"}\n'
    assert stat.S_IMODE(real.stat().st_mode) == 0o640


async def test_second_row_of_a_written_key_is_removed(tmp_path: Path, target: Open) -> None:
    path = tmp_path / "out.csv"
    path.write_text("id,n\n1,a\n2,b\n1,c\n2,d\n")
    await write(target("out.csv"), item("1", n="x"))
    assert path.read_text() == "id,n\n1,x\n2,b\n2,d\n"


@pytest.mark.parametrize("mode", ["upsert", "replace"])
@pytest.mark.parametrize("name", ["a.jsonl", "a.json"])
async def test_half_a_surrogate_pair_fails_alone_with_its_field(
    name: str, mode: str, tmp_path: Path, target: Open
) -> None:
    rejected, written = await write(target(name, mode), item("a", note="\ud800"), item("b", n=2**70))
    assert rejected.error is not None
    assert (rejected.error.field, rejected.error.sent) == ("note", False)
    assert rejected.error.message == f"{name}: note contains half a surrogate pair, which is not valid text"
    assert written.effect is Effect.WRITTEN
    assert json.loads((tmp_path / name).read_bytes().strip(b"[]\n")) == {"id": "b", "n": 2**70}


@pytest.mark.parametrize("mode", ["upsert", "replace"])
async def test_record_without_a_key_fails_alone(mode: str, tmp_path: Path, target: Open) -> None:
    bad, good = await write(target("out.jsonl", mode), MappedRecord("?", {"name": "x"}, {}, ""), item("a"))
    assert bad.error is not None
    assert (bad.error.error_class, bad.error.sent, bad.error.field) == (
        ErrorClass.REJECTED,
        False,
        "id",
    )
    assert good.effect is Effect.WRITTEN
    assert (tmp_path / "out.jsonl").read_text() == '{"id":"a"}\n'


@pytest.mark.parametrize("mode", ["upsert", "replace", "append"])
async def test_unwritable_location_is_unreachable(mode: str, tmp_path: Path, target: Open) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(Unreachable, match=r"file/out\.jsonl: (File exists|Not a directory)"):
        await write(target("file/out.jsonl", mode), item("a"))


@pytest.mark.parametrize("mode", ["upsert", "append"])
async def test_full_disk_fails_no_record_and_leaves_no_partial_line(mode: str, target: Open, tmp_path: Path) -> None:
    resource = pytest.importorskip("resource")
    import signal

    path = tmp_path / "out.jsonl"
    path.write_text('{"id":"z"}\n')
    writer = target("out.jsonl", mode)
    await writer.write([item("a")])
    before = path.read_text()
    old = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2000, limits[1]))
    try:
        with pytest.raises(Unreachable, match=r"out\.jsonl: File too large"):
            await writer.write([item("b", note="x" * 5000)])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, old)
    assert path.read_text() == before
    assert effects(await write(writer, item("c"))) == [Effect.CREATED if mode == "append" else Effect.WRITTEN]
    assert path.read_text() == '{"id":"z"}\n{"id":"a"}\n{"id":"c"}\n'


async def test_two_runs_that_upsert_into_one_file_take_turns(tmp_path: Path, target: Open) -> None:
    first, second, idle = target("out.jsonl"), target("out.jsonl"), target("out.jsonl")
    await first.write([item("a")])
    with pytest.raises(Unreachable, match=r"out\.jsonl: another run is writing to this file"):
        await second.write([item("b")])
    await second.close()
    await idle.close()  # a run without records to write does not touch the other's journal
    await first.write([item("c")])
    await first.close()
    third = target("out.jsonl")
    await write(third, item("b"))
    assert [json.loads(line)["id"] for line in (tmp_path / "out.jsonl").read_text().splitlines()] == ["a", "c", "b"]
    assert not (tmp_path / ".out.jsonl.speclab").exists()


@pytest.mark.parametrize("mode", ["upsert", "replace", "append"])
async def test_pipe_as_target_file_is_rejected_at_once(tmp_path: Path, target: Open, mode: str) -> None:
    os.mkfifo(tmp_path / "out.jsonl")
    with pytest.raises(BadResponse, match=r"out\.jsonl: expected a regular file, found a pipe"):
        await write(target("out.jsonl", mode), item("a"))
