"""Runs to and from a third-party S3 server, killed at random moments between faulty systems."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Any

import pyarrow.parquet as pq
import pytest
from tests.proof.conftest import BY_CURSOR, TO_SQLITE, Job, expected_rows, make_people, rows_of
from tests.proof.torture import Route, fill_http, torture
from tests.s3 import SECRET, Bucket, new_bucket, s3_server

from speclab.core.outcome import RunState


@pytest.fixture(scope="module")
def s3_url() -> Iterator[str]:
    with s3_server() as url:
        yield url


@pytest.fixture
def s3(s3_url: str) -> Iterator[Bucket]:
    with new_bucket(s3_url) as bucket:
        yield bucket


def on_s3(bucket: Bucket, key: str, *more: str) -> str:
    """Return the settings of an object."""
    lines = ["connector: file", f"path: {bucket.at(key)}", "key: id", *more, f"options: {json.dumps(bucket.options)}"]
    return "\n".join(lines)


def by_id(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return sorted(rows, key=lambda row: str(row["id"]))


def test_parquet_object_equals_its_source_after_kills_at_any_moment(s3: Bucket, tmp_path: Path) -> None:
    def fill(job: Job, people: list[dict[str, Any]]) -> None:
        job.environ["SECRET"] = SECRET
        fill_http(job, people)

    def arrived(_: Job) -> list[dict[str, Any]]:
        return by_id(pq.read_table(io.BytesIO(s3.get("people.parquet"))).to_pylist())

    seed = Random().randrange(1_000_000)
    print(f"seed {seed}")  # noqa: T201 - shown if the test fails
    route = Route("http to s3", BY_CURSOR, on_s3(s3, "people.parquet"), fill, arrived, seconds=1.2)
    assert torture(tmp_path, route, kills=2, seed=seed, people=120).kills == 2
    assert s3.keys() == ["people.parquet"]


async def test_matching_objects_are_read_once_and_changed_ones_again(s3: Bucket, job: Job) -> None:
    people = make_people(250)
    for number in range(5):
        out = io.StringIO()
        table = csv.DictWriter(out, list(people[0]))
        table.writeheader()
        table.writerows(people[number * 50 : number * 50 + 50])
        s3.put(f"in/{number}.csv", out.getvalue().encode())
    job.environ["SECRET"] = SECRET
    job.write(
        on_s3(s3, "in/*.csv"), TO_SQLITE, edit=lambda text: text.replace("source.test != true", 'source.test != "True"')
    )
    first, second = await job.run(), await job.run()
    assert first.error is None
    assert (first.row.read, second.row.unchanged) == (250, first.row.written)
    assert rows_of(job.directory / "target.db") == expected_rows(people)


async def test_store_that_rejects_the_upload_fails_the_run_and_the_next_run_delivers_all(s3: Bucket, job: Job) -> None:
    """A mode that only writes cannot check this earlier; the records are in the journal and are not read again."""
    people = make_people(120)
    job.environ["SECRET"] = SECRET
    job.write(target=on_s3(s3, "people.csv", "mode: replace"))
    job.systems(people=people, size=50)
    s3.require_credentials(after=0)
    rejected = await job.run()
    assert rejected.row.state is RunState.FAILED
    assert "people.csv" in str(rejected.row.error)
    s3.require_credentials(after=10**9)
    assert s3.keys() == []
    again = await job.run()
    assert again.error is None
    rows = list(csv.DictReader(io.StringIO(s3.get("people.csv").decode())))
    assert by_id([row | {"age": int(row["age"])} for row in rows]) == expected_rows(people)
