"""Runs from and to third-party systems: Kinto (a JSON store) and datasette (SQLite as an API)."""

from __future__ import annotations

import base64
import json
import socket
import sqlite3
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from tests.proof.conftest import TO_SQLITE, Job, expected_rows, make_people, rows_of

from speclab.core.errors import BadResponse
from speclab.core.outcome import ErrorClass, RunState
from speclab.sync.run import RunOptions

PEOPLE = make_people(250)

KINTO = """\
[app:main]
use = egg:kinto
kinto.storage_backend = kinto.core.storage.memory
kinto.cache_backend = kinto.core.cache.memory
kinto.permission_backend = kinto.core.permission.memory
kinto.userid_hmac_secret = proof
multiauth.policies = basicauth
kinto.bucket_create_principals = system.Authenticated
kinto.paginate_by = 40
kinto.includes = kinto.plugins.default_bucket
kinto.bucket_write_principals = system.Authenticated
[server:main]
use = egg:waitress#main
host = 127.0.0.1
port = {port}
threads = 4
[loggers]
keys = root
[handlers]
keys =
[formatters]
keys =
[logger_root]
level = ERROR
handlers =
"""
RECORDS = "/buckets/default/collections/people/records"
PASSWORD = "a-w0rd-of-ours"

OF_KINTO = "connector: http\nbase_url: ${env:KINTO}\nkey: id\n"
TO_KINTO = OF_KINTO + f'write: {{upsert: "PUT {RECORDS}/{{id}}", envelope: data, delete: "DELETE {RECORDS}/{{id}}"}}'
TO_KINTO_IN_BATCHES = (
    OF_KINTO
    + f"""write:
  batch: POST /batch
  size: 20
  envelope: requests
  item: {{method: PUT, path: "/v1{RECORDS}/{{id}}", body: {{data: $record}}}}
  results: responses
  ok: item.status < 300
  message: item.body.message"""
)
FROM_KINTO = (
    OF_KINTO
    + f"""read:
  path: {RECORDS}
  records: data
  params: {{_sort: last_modified}}
  pagination: {{by: next_url, header: Next-Page}}
  since: {{param: _since, field: last_modified}}
  deleted: has(source.deleted) && source.deleted == true"""
)
BASIC = "type: basic\nusername: tester\npassword: ${env:PASSWORD}"


@contextmanager
def run_server(command: Sequence[str], url: str) -> Iterator[None]:
    """Start a process that serves `url`."""
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as process:
        try:
            deadline = time.monotonic() + 60
            while True:
                try:
                    urllib.request.urlopen(url, timeout=5).close()
                    break
                except urllib.error.HTTPError as answered:
                    answered.close()
                    break
                except OSError:
                    assert process.poll() is None, process.stderr and process.stderr.read()
                    assert time.monotonic() < deadline, f"{command} does not answer"
                    time.sleep(0.05)
            yield
        finally:
            process.terminate()


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


@dataclass(frozen=True)
class Kinto:
    """A Kinto server, and a client that reads it without speclab."""

    url: str

    def request(self, method: str, path: str, data: Any = None) -> Any:
        token = base64.b64encode(f"tester:{PASSWORD}".encode()).decode()
        headers = {"Authorization": f"Basic {token}", "Content-Type": "application/json"}
        body = None if data is None else json.dumps({"data": data}).encode()
        request = urllib.request.Request(self.url + path, data=body, headers=headers, method=method)
        with urllib.request.urlopen(request, timeout=60) as answer:
            found = json.load(answer)["data"]
            following = answer.headers.get("Next-Page")
        return found + self.request("GET", following.removeprefix(self.url)) if following else found

    def people(self) -> list[dict[str, Any]]:
        """Return the records by id, without the fields that Kinto adds."""
        found = self.request("GET", f"{RECORDS}?_fields=id,name,age")
        kept = [{name: row[name] for name in ("id", "name", "age")} for row in found]
        return sorted(kept, key=lambda row: str(row["id"]))


@pytest.fixture(scope="module")
def kinto_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kinto]:
    port = free_port()
    ini = tmp_path_factory.mktemp("kinto") / "kinto.ini"
    ini.write_text(KINTO.format(port=port))
    url = f"http://127.0.0.1:{port}/v1"
    with run_server([str(Path(sys.executable).with_name("kinto")), "start", "--ini", str(ini)], f"{url}/"):
        yield Kinto(url)


@pytest.fixture
def kinto(kinto_server: Kinto, job: Job) -> Kinto:
    """An empty collection `people`."""
    job.environ = {"KINTO": kinto_server.url, "PASSWORD": PASSWORD}
    kinto_server.request("DELETE", "/buckets/default/collections?id=people")
    kinto_server.request("PUT", "/buckets/default/collections/people", {})
    return kinto_server


def write_with_login(text: str) -> str:
    """Write the spec with credentials for the target."""
    before = "### Target System Auth\n\n```yaml\n"
    return text.replace(f"{before}type: none", before + BASIC)


@pytest.mark.parametrize("target", [TO_KINTO, TO_KINTO_IN_BATCHES], ids=["one by one", "in batches"])
async def test_people_are_created_once_in_kinto_and_updated(job: Job, kinto: Kinto, target: str) -> None:
    job.write(target=target, edit=write_with_login)
    job.systems(people=PEOPLE, size=100)
    first, second = await job.run(), await job.run()
    assert first.error is None
    assert first.row.written == second.row.unchanged == len(expected_rows(PEOPLE))
    assert kinto.people() == expected_rows(PEOPLE)
    older = [one | {"age": "99"} for one in PEOPLE[:30]]
    job.systems(people=older)
    await job.run()
    assert kinto.people() == sorted(expected_rows(older) + expected_rows(PEOPLE[30:]), key=lambda row: str(row["id"]))


@pytest.mark.parametrize("way", ["upsert", "create and update"])
async def test_kinto_records_changed_by_another_client_are_not_overwritten(job: Job, kinto: Kinto, way: str) -> None:
    """Kinto checks If-Match against its own ETags and rejects a write for another version of the record."""
    looks = f'lookup: "GET {RECORDS}/{{id}}", found: data, envelope: data, headers: {{If-Match: "{{lookup.etag}}"}}'
    ways = {
        "upsert": f'upsert: "PUT {RECORDS}/{{id}}"',
        "create and update": f'create: "POST {RECORDS}", update: "PATCH {RECORDS}/{{found.id}}"',
    }
    people = PEOPLE[:60]
    job.write(target=f"{OF_KINTO}write: {{{ways[way]}, {looks}}}", edit=write_with_login)
    job.systems(people=people)
    first = await job.run()
    assert (first.error, first.row.written) == (None, len(expected_rows(people)))
    older = [one | {"age": "99"} for one in people]
    job.systems(people=older)
    second = await job.run()
    assert (second.error, second.row.written) == (None, len(expected_rows(older)))
    assert second.row.updated >= first.row.written
    assert kinto.people() == expected_rows(older)
    stale = f'write: {{upsert: "PUT {RECORDS}/{{id}}", envelope: data, headers: {{If-Match: \'"1"\'}}}}'
    job.write(target=OF_KINTO + stale, edit=write_with_login)
    job.systems(people=people)
    third = await job.run(RunOptions(full=True))
    assert third.row.dead >= len(expected_rows(people))
    conflicts = [failure for failure in job.failures() if failure.error_class is ErrorClass.CONFLICT]
    assert {failure.status for failure in conflicts} == {412}
    assert kinto.people() == expected_rows(older)


@pytest.mark.parametrize("target", [TO_KINTO, TO_KINTO_IN_BATCHES], ids=["one by one", "in batches"])
async def test_record_rejected_by_kinto_has_its_message_and_others_are_written(
    job: Job, kinto: Kinto, target: str
) -> None:
    """Kinto rejects ids with blanks; its response names the record in a batch, or is for the one request."""
    people = make_people(50)
    people[20]["id"] = "not an id"
    job.write(target=target, edit=write_with_login)
    job.systems(people=people)
    result = await job.run()
    assert result.row.written == len(expected_rows(people)) - 1
    failure = next(failure for failure in job.failures() if failure.key == "not an id")
    assert failure.error_class is ErrorClass.REJECTED
    assert failure.status in (None, 400)
    assert len(kinto.people()) == len(expected_rows(people)) - 1


async def test_changes_in_kinto_are_read_and_deleted_records_removed(job: Job, kinto: Kinto) -> None:
    keep = [one for one in PEOPLE if not one["test"] and one["age"] != "old"][:100]
    for one in keep:
        kinto.request("PUT", f"{RECORDS}/{one['id']}", {name: one[name] for name in ("name", "age", "test")})
    job.write(FROM_KINTO, TO_SQLITE, auth=BASIC)
    first = await job.run()
    assert (first.row.state, first.row.read) == (RunState.SUCCEEDED, 100), first
    assert rows_of(job.directory / "target.db") == expected_rows(keep)
    kinto.request("DELETE", f"{RECORDS}/{keep[3]['id']}")
    kinto.request("PUT", f"{RECORDS}/{keep[4]['id']}", {"name": "Grace", "age": "40", "test": False})
    kinto.request("PUT", f"{RECORDS}/new", {"name": "New", "age": "1", "test": False})
    second = await job.run()
    # Records as recent as Kinto's clock are read once more and found unchanged.
    assert (second.row.read - second.row.unchanged, second.row.deleted, second.row.dead) == (3, 1, 0), second.row
    changed = [
        *keep[:3],
        keep[4] | {"name": "Grace", "age": "40"},
        *keep[5:],
        keep[0] | {"id": "new", "name": "New", "age": "1"},
    ]
    assert rows_of(job.directory / "target.db") == expected_rows(changed)
    third = await job.run()
    assert third.row.read == third.row.unchanged <= 3


@pytest.fixture
def datasette(job: Job) -> Iterator[str]:
    """A datasette server with 250 people, 40 per page."""
    path = job.directory / "crm.db"
    with closing(sqlite3.connect(path)) as db, db:
        db.execute("CREATE TABLE people (id TEXT PRIMARY KEY, name TEXT, age TEXT, test INTEGER, updated TEXT)")
        db.executemany("INSERT INTO people VALUES (:id, :name, :age, :test, :updated)", PEOPLE)
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    command = [sys.executable, "-W", "ignore", "-m", "datasette", "serve", str(path), "-p", str(port)]
    with run_server(command, f"{url}/-/versions.json"):
        job.environ = {"DATASETTE": url}
        yield url


BY_NEXT_URL = "{by: next_url, next: next_url, total: filtered_table_rows_count}"
FROM_DATASETTE = f"""\
connector: http
base_url: ${{env:DATASETTE}}
key: id
read:
  path: /crm/people.json
  records: rows
  params: {{_shape: objects, _size: 40}}
  pagination: {BY_NEXT_URL}"""


@pytest.mark.usefixtures("datasette")
@pytest.mark.parametrize(
    "pagination",
    [
        "{by: next_url, next: next_url, total: filtered_table_rows_count}",
        "{by: cursor, next: next, param: _next}",
        "{by: auto}",
    ],
)
async def test_all_pages_of_datasette_are_read(job: Job, pagination: str) -> None:
    source = FROM_DATASETTE.replace(BY_NEXT_URL, pagination)
    job.write(source, TO_SQLITE, edit=lambda text: text.replace("source.test != true", "source.test != 1"))
    result = await job.run()
    assert result.error is None
    assert result.row.read == len(PEOPLE)
    assert rows_of(job.directory / "target.db") == expected_rows(PEOPLE)


@pytest.mark.usefixtures("datasette")
async def test_mistyped_table_is_reported_with_the_message_of_datasette(job: Job) -> None:
    job.write(FROM_DATASETTE.replace("people.json", "peopel.json"), TO_SQLITE)
    result = await job.run()
    assert type(result.error) is BadResponse
    assert "404" in str(result.row.error)
    assert "peopel" in str(result.row.error)
