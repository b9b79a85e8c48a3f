"""Files in a third-party S3 server (moto), read and written, and their errors."""

from __future__ import annotations

import gzip
import io
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from tests.connectors.conftest import Reports, item, records_of
from tests.connectors.files import CONTENTS, PEOPLE, Files, as_jsonl, file_system
from tests.s3 import SECRET, Bucket, new_bucket, s3_server

from speclab.connectors.api import FullReplace, RuntimeContext, UnreadableRecord
from speclab.connectors.file import remote
from speclab.connectors.file.reader import check_target
from speclab.connectors.registry import open_lookup, open_reader
from speclab.connectors.secrets.references import References
from speclab.core.errors import BadResponse, SpecError, Unauthorized, Unreachable
from speclab.core.json import Json
from speclab.core.outcome import Effect
from speclab.spec.auth import NoAuth
from speclab.spec.settings import RetrySettings

ONCE = RetrySettings(attempts=1)


@pytest.fixture(scope="module")
def s3_url() -> Iterator[str]:
    with s3_server() as url:
        yield url


@pytest.fixture
def s3(s3_url: str) -> Iterator[Bucket]:
    """An empty bucket."""
    with new_bucket(s3_url) as bucket:
        yield bucket


@pytest.fixture
def references(tmp_path: Path) -> References:
    return References({"SECRET": SECRET}, tmp_path)


@pytest.fixture
def files(references: References, context: RuntimeContext) -> Files:
    return Files(references, context)


@pytest.mark.parametrize("name", CONTENTS)
async def test_every_format_is_read_from_s3_and_resumes_after_a_page(name: str, s3: Bucket, files: Files) -> None:
    s3.put(f"in/{name}", CONTENTS[name])
    pages = await files.read(s3.at(f"in/{name}"), options=s3.options)
    assert records_of(pages) == PEOPLE
    assert pages[0].request == f"read {s3.at(f'in/{name}')}"
    assert [page.complete for page in pages] == [False, False, True]
    assert records_of(await files.read(s3.at(f"in/{name}"), pages[0].cursor, options=s3.options)) == PEOPLE[1000:]


async def test_pattern_reads_all_matching_objects_in_order_of_their_names(
    s3: Bucket, files: Files, reports: Reports
) -> None:
    for name, records in (("b.jsonl", PEOPLE[2:4]), ("a.jsonl", PEOPLE[:2]), ("c.txt", PEOPLE[5:])):
        s3.put(f"in/{name}", as_jsonl(records))
    pages = await files.read(s3.at("in/*.jsonl"), options=s3.options)
    assert records_of(pages) == PEOPLE[:4]
    assert records_of(await files.read(s3.at("in/*.jsonl"), pages[0].cursor, options=s3.options)) == PEOPLE[2:4]
    s3.put("in/a.jsonl", as_jsonl(PEOPLE[:3]))
    again = {**pages[0].cursor, "file": s3.at("in/a.jsonl")} if isinstance(pages[0].cursor, dict) else None
    assert len(records_of(await files.read(s3.at("in/*.jsonl"), again, options=s3.options))) == 5
    assert reports.lines == [
        f"warning: {s3.at('in/a.jsonl')} has changed since the last run stopped in it; reading from the start"
    ]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.jsonl", b'{"id":"1","n":1}\n{"id":"2"}\n'),
        ("a.csv", b"id,n\n1,1\n2,\n"),
        ("a.csv.gz", b"id,n\n1,1\n2,\n"),
        ("a.parquet", None),
    ],
)
@pytest.mark.parametrize("mode", ["upsert", "replace"])
async def test_object_is_created_and_replaced(
    name: str, content: bytes | None, mode: str, s3: Bucket, files: Files, tmp_path: Path
) -> None:
    key = f"out/{name}"
    for _ in range(2):
        results = await files.write(s3.at(key), item("1", n=1), item("2"), mode=mode, options=s3.options)
        assert [result.effect for result in results] == [Effect.WRITTEN, Effect.WRITTEN]
        assert s3.keys() == [key]
    if content is not None:
        assert (gzip.decompress(s3.get(key)) if name.endswith(".gz") else s3.get(key)) == content
    else:
        assert pq.read_table(io.BytesIO(s3.get(key))).to_pylist() == [{"id": "1", "n": 1}, {"id": "2", "n": None}]
    assert [record["id"] for record in records_of(await files.read(s3.at(key), options=s3.options))] == ["1", "2"]
    assert list((tmp_path / ".speclab" / "files").iterdir()) == []


async def test_upsert_changes_its_rows_and_no_other_byte(
    s3: Bucket, files: Files, references: References, context: RuntimeContext
) -> None:
    s3.put("a.jsonl", b'{ "id": "z",  "odd":   1 }\n{"id":"a","n":1}\n')
    await files.write(s3.at("a.jsonl"), item("a", n=7), item("c"), options=s3.options)
    assert s3.get("a.jsonl") == b'{ "id": "z",  "odd":   1 }\n{"id":"a","n":7}\n{"id":"c"}\n'
    finder = open_lookup(file_system(s3.at("a.jsonl"), options=s3.options), NoAuth(), references, context)
    assert finder is not None
    assert await finder.find([item("a"), item("x")]) == [{"id": "a", "n": 7}, None]
    await finder.close()


async def test_interrupted_run_continues_and_the_object_is_replaced_atomically(s3: Bucket, files: Files) -> None:
    s3.put("a.jsonl", b'{"id":"old"}\n')
    more: dict[str, Json] = {"mode": "replace", "options": s3.options}
    broken_off = files.opened(s3.at("a.jsonl"), **more)
    await broken_off.write([item("a"), item("b")])
    await broken_off.close()
    assert s3.get("a.jsonl") == b'{"id":"old"}\n'
    goes_on = files.opened(s3.at("a.jsonl"), **more)
    await goes_on.write([item("c")])
    assert isinstance(goes_on, FullReplace)
    await goes_on.finish()
    await goes_on.close()
    assert s3.get("a.jsonl") == b'{"id":"a"}\n{"id":"b"}\n{"id":"c"}\n'
    assert s3.keys() == ["a.jsonl"]


async def test_lost_store_keeps_written_records_for_the_next_run(s3: Bucket, files: Files) -> None:
    writer = files.opened(s3.at("a.jsonl"), mode="replace", options=s3.options)
    await writer.write([item("a")])
    s3.client.delete_bucket(Bucket=s3.name)
    assert isinstance(writer, FullReplace)
    with pytest.raises(Unreachable, match="The specified bucket does not exist") as caught:
        await writer.finish()
    await writer.close()
    assert "goes into the file with the next run" in caught.value.hint
    s3.client.create_bucket(Bucket=s3.name)
    await files.write(s3.at("a.jsonl"), item("b"), mode="replace", options=s3.options)
    assert s3.get("a.jsonl") == b'{"id":"a"}\n{"id":"b"}\n'


@pytest.mark.parametrize("way", ["read", "pattern", "upsert", "replace"])
async def test_missing_bucket_is_unreachable(way: str, s3: Bucket, files: Files) -> None:
    path = "s3://no-such-bucket/a.jsonl"
    if way in ("read", "pattern"):
        with pytest.raises(Unreachable, match=r"s3://no-such-bucket/.*\.jsonl: (there is no such|The specified)"):
            await files.read(path.replace("a.", "*." if way == "pattern" else "a."), options=s3.options)
        return
    writer = files.opened(path, mode=way, options=s3.options)
    with pytest.raises(Unreachable, match="The specified bucket does not exist"):
        await writer.write([item("a")])
    await writer.close()


@pytest.mark.parametrize("way", ["read", "pattern", "upsert", "probe"])
async def test_rejected_credentials_are_unauthorized_and_stay_secret(
    way: str, s3: Bucket, files: Files, references: References, context: RuntimeContext
) -> None:
    s3.put("a.jsonl", as_jsonl(PEOPLE[:1]))
    s3.require_credentials(after=0)
    target = file_system(s3.at("a.jsonl"), options=s3.options)
    tried: dict[str, Callable[[], Awaitable[object]]] = {
        "read": lambda: files.read(s3.at("a.jsonl"), options=s3.options),
        "pattern": lambda: files.read(s3.at("*.jsonl"), options=s3.options),
        "upsert": lambda: files.write(s3.at("a.jsonl"), item("a"), options=s3.options),
        "probe": lambda: check_target(target, NoAuth(), references, context, ONCE),
    }
    with pytest.raises(Unauthorized, match=s3.at("")) as caught:
        await tried[way]()
    assert "Check `options`" in caught.value.hint
    assert SECRET not in str(caught.value)


async def test_replace_needs_no_read_permission(s3: Bucket, files: Files) -> None:
    """The old object is not needed, so a missing read permission does not stop the run."""
    s3.require_credentials(after=0)
    writer = files.opened(s3.at("a.jsonl"), mode="replace", options=s3.options)
    results = await writer.write([item("a")])
    assert [result.effect for result in results] == [Effect.WRITTEN]
    s3.require_credentials(after=10**9)
    assert isinstance(writer, FullReplace)
    await writer.finish()
    await writer.close()
    assert s3.get("a.jsonl") == b'{"id":"a"}\n'


@pytest.mark.parametrize("way", ["read", "pattern", "upsert"])
async def test_dead_server_is_unreachable_after_a_short_time(way: str, files: Files) -> None:
    options: Json = {"key": "k", "secret": "s", "endpoint_url": "http://127.0.0.1:9"}
    tried: dict[str, Callable[[], Awaitable[object]]] = {
        "read": lambda: files.read("s3://bucket/a.jsonl", options=options),
        "pattern": lambda: files.read("s3://bucket/*.jsonl", options=options),
        "upsert": lambda: files.write("s3://bucket/a.jsonl", item("a"), options=options),
    }
    with pytest.raises(Unreachable, match=r"s3://bucket/.*Could not connect to the endpoint URL"):
        await tried[way]()


async def test_object_changed_during_a_merge_is_not_overwritten(
    s3: Bucket, files: Files, monkeypatch: pytest.MonkeyPatch
) -> None:
    s3.put("a.jsonl", b'{"id":"z"}\n')
    writer = files.opened(s3.at("a.jsonl"), options=s3.options)
    await writer.write([item("a")])
    merge = type(writer)._merge  # type: ignore[attr-defined]  # the one moment at which it can be changed

    def changed(*given: object) -> None:
        merge(*given)
        s3.put("a.jsonl", b'{"id":"theirs"}\n')

    monkeypatch.setattr(type(writer), "_merge", changed)
    with pytest.raises(Unreachable, match="it has been changed by another while it was merged"):
        await writer.close()
    assert s3.get("a.jsonl") == b'{"id":"theirs"}\n'
    monkeypatch.undo()
    await files.opened(s3.at("a.jsonl"), options=s3.options).close()
    assert s3.get("a.jsonl") == b'{"id":"theirs"}\n{"id":"a"}\n'


async def test_object_changed_during_a_read_is_not_mixed(
    s3: Bucket, files: Files, references: References, context: RuntimeContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(remote._OPENED, remote.StoreAccess.FORWARD, {"block_size": 10_000})
    monkeypatch.setattr(remote, "_BUFFER", 10_000)
    s3.put("a.jsonl", as_jsonl(PEOPLE))
    reader = open_reader(file_system(s3.at("a.jsonl"), options=s3.options), NoAuth(), references, context)
    pages = reader.pages(None, full=False)
    first = await anext(aiter(pages))
    s3.put("a.jsonl", as_jsonl(PEOPLE[::-1]))
    with pytest.raises(Unreachable, match=f"{s3.at('a.jsonl')}: .* no longer exists"):
        await anext(aiter(pages))
    await reader.close()
    assert records_of(await files.read(s3.at("a.jsonl"), first.cursor, options=s3.options)) == PEOPLE[::-1]


async def test_probe_changes_nothing(s3: Bucket, references: References, context: RuntimeContext) -> None:
    target = file_system(s3.at("a.jsonl"), options=s3.options)
    assert (
        await check_target(target, NoAuth(), references, context, ONCE)
        == f"{s3.at('a.jsonl')}: not there yet; a run makes it"
    )
    s3.put("a.jsonl", b"")
    assert await check_target(target, NoAuth(), references, context, ONCE) == f"{s3.at('a.jsonl')}: is there"


async def test_unknown_driver_option_is_reported(s3: Bucket, files: Files) -> None:
    with pytest.raises(SpecError, match="unexpected keyword argument 'endpint_url'") as caught:
        await files.read(s3.at("a.jsonl"), options={"endpint_url": s3.url, "key": "k", "secret": "s"})
    assert "Check `options`" in caught.value.hint


async def test_wildcards_are_not_part_of_a_login(s3: Bucket, files: Files, references: References) -> None:
    s3.put("in/a.jsonl", as_jsonl(PEOPLE[:2]))
    assert records_of(await files.read(s3.at("in/?.jsonl"), options=s3.options)) == PEOPLE[:2]
    assert records_of(await files.read(s3.at("in/[ab].jsonl"), options=s3.options)) == PEOPLE[:2]
    assert references.redactor.redact(".jsonl") == ".jsonl"


async def test_journal_of_one_store_is_not_used_for_another(s3: Bucket, files: Files) -> None:
    elsewhere = {**s3.options, "endpoint_url": s3.url.replace("127.0.0.1", "localhost")}
    broken_off = files.opened(s3.at("a.jsonl"), mode="replace", options=elsewhere)
    await broken_off.write([item("of the other")])
    await broken_off.close()
    await files.write(s3.at("a.jsonl"), item("a"), mode="replace", options=s3.options)
    assert s3.get("a.jsonl") == b'{"id":"a"}\n'


async def test_unreadable_remote_content_names_file_and_line(s3: Bucket, files: Files) -> None:
    s3.put("a.csv", b"id,name\n1,Ada\n2,\xff\n")
    good, bad = records_of(await files.read(s3.at("a.csv"), options=s3.options))
    assert good == {"id": "1", "name": "Ada"}
    assert isinstance(bad, UnreadableRecord)
    assert (bad.place, bad.raw) == (f"{s3.at('a.csv')}:3", b"2,\xff\n")
    s3.put("a.parquet", b"no parquet at all")
    with pytest.raises(BadResponse, match=f"{s3.at('a.parquet')}: cannot be read as Parquet"):
        await files.read(s3.at("a.parquet"), options=s3.options)
