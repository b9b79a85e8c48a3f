"""A plan says what a run then does; where that cannot be known, it says so. Real files and databases."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import AsyncIterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from random import Random

import pytest
from tests.cli.conftest import SPEC, Api, api

from speclab.connectors.api import Page, RuntimeContext
from speclab.connectors.file.reader import FileReader
from speclab.connectors.secrets.references import References
from speclab.core.clock import SystemClock
from speclab.core.errors import IncompleteRead, Unreachable
from speclab.core.json import Json
from speclab.core.outcome import ErrorClass, FailureState, Outcome, Stage
from speclab.runlog import NewFailure, PageResult, RunLog, RunRow, mark_in_flight
from speclab.sync.plan import (
    Difference,
    Plan,
    PlanExample,
    PlanFault,
    PlannedEffect,
    PlannedPace,
    PlanOptions,
    build_plan,
)
from speclab.sync.prepare import prepare
from speclab.sync.record_keys import Hasher
from speclab.sync.run import RunOptions, run

__all__ = ["api"]

FILE = "connector: file\npath: out.jsonl\nkey: id"
SQL = "connector: sql\nurl: sqlite:///crm.db\nkey: id\nwrite: {upsert: people, create_table: true}"


class Place:
    """A spec that copies people from in.jsonl, and the run log beside it."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.runlog = directory / ".speclab/runlog.db"
        self.spec = directory / "people.md"
        self.target(FILE)

    def target(self, settings: str) -> None:
        text = SPEC.format(source="connector: file\npath: in.jsonl\nkey: id", step="Required, Trim", auth="type: none")
        self.spec.write_text(text.replace(FILE, settings))

    def volume(self, settings: str) -> None:
        text = self.spec.read_text()
        self.spec.write_text(text.replace("Hourly\n", f"Hourly\n\n### Volume\n\n```yaml\n{settings}\n```\n"))

    def people(self, *rows: tuple[int, str | int | None]) -> None:
        lines = [json.dumps({"id": id_, "name": name}) + "\n" for id_, name in rows]
        (self.directory / "in.jsonl").write_text("".join(lines))

    async def plan(self, *, full: bool = False, limit: int | None = None, lookups: int = 500) -> Plan:
        options = PlanOptions(full=full, limit=limit, lookups=lookups)
        return await build_plan(
            prepare(self.spec), self.runlog, References({}, self.directory), self._context(), options
        )

    async def run(self) -> RunRow:
        with RunLog.open(self.runlog) as log:
            references = References({}, self.directory)
            return (await run(prepare(self.spec), log, references, self._context(), RunOptions(full=True))).row

    def _context(self) -> RuntimeContext:
        return RuntimeContext(SystemClock(), Random(0))

    def contents(self) -> dict[str, bytes]:
        """All files, but for what SQLite keeps beside a database while it is open."""
        files = (
            path for path in self.directory.rglob("*") if path.is_file() and path.suffix not in (".db-wal", ".db-shm")
        )
        return {str(path.relative_to(self.directory)): path.read_bytes() for path in files}

    def execute(self, *statements: str) -> None:
        with closing(sqlite3.connect(self.directory / "crm.db")) as db, db:
            for statement in statements:
                db.execute(statement)


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
    monkeypatch.chdir(tmp_path)
    return Place(tmp_path)


def would(found: Plan) -> dict[str, int]:
    """Return the planned counts that are not zero."""
    counts = {one.value: count for one, count in found.effects.items() if count}
    rest = {"unchanged": found.unchanged, "filtered": found.filtered, "fail": sum(one.count for one in found.faults)}
    return counts | {name: count for name, count in rest.items() if count}


@pytest.mark.parametrize("settings", [FILE, SQL])
async def test_a_plan_counts_what_a_run_then_does_and_writes_nothing(place: Place, settings: str) -> None:
    place.target(settings)
    place.people((1, "Ada "), (2, None), (3, "Grace"), (5, None))
    before = place.contents()
    first = await place.plan()
    assert would(first) == {"create": 2, "fail": 2}
    (line,) = [at for at, text in enumerate(place.spec.read_text().splitlines(), 1) if "Required, Trim" in text]
    assert first.faults == [PlanFault(2, f"people.md:{line}:33", "name: the value is null or missing")]
    assert place.contents() == before
    await place.run()

    place.people((1, "Ada"), (3, "Admiral Grace"), (4, "Alan"))
    before = place.contents()
    second = await place.plan(full=True)
    assert would(second) == {"unchanged": 1, "update": 1, "create": 1}
    assert second.examples == [
        PlanExample(PlannedEffect.UPDATE, "3", [Difference("name", '"Grace"', '"Admiral Grace"')]),
        PlanExample(PlannedEffect.CREATE, "4", [Difference("id", "", "4"), Difference("name", "", '"Alan"')]),
    ]
    assert place.contents() == before
    row = await place.run()
    assert (row.unchanged, row.written) == (1, 2)


@pytest.mark.parametrize(
    ("settings", "rows", "says"),
    [
        (
            "records: 900\nguard: {action: stop}",
            0,
            "the source returned no records; `records` under Volume expects 900",
        ),
        ("records: 2\nguard: {action: stop}", 30, "30 records were read so far; `records` under Volume expects 2"),
        (
            "records: 900\nguard: {action: stop}",
            30,
            "the source returned 30 records; `records` under Volume expects 900",
        ),
        ("guard: {action: stop}", 30, "source.name, the source of target.name, is now a number; it was text before"),
    ],
)
async def test_what_the_guard_would_stop_is_said(place: Place, settings: str, rows: int, says: str) -> None:
    place.people(*((number, "Ada") for number in range(30)))
    await place.run()
    place.volume(settings)
    place.people(*((number, "Ada" if "name" not in says else 7) for number in range(rows)))
    found = await place.plan(full=True)
    assert found.stops
    assert [alarm.message.endswith(says) for alarm in found.alarms] == [True]
    assert (await place.run()).error == f"stopped by the guard: {found.alarms[0].message}"
    place.spec.write_text(place.spec.read_text().replace("action: stop", "action: warn"))
    reported = await place.plan(full=True)
    assert (reported.stops, len(reported.alarms)) == (False, 1)
    assert not (await place.plan(full=True, limit=1)).stops


async def test_it_looks_at_the_target_where_the_run_log_knows_nothing(place: Place) -> None:
    place.target(SQL)
    place.execute(
        "CREATE TABLE people (id INTEGER PRIMARY KEY, name TEXT, age INTEGER)",
        "INSERT INTO people VALUES (1, 'Ada', 36), (2, 'grace', NULL)",
    )
    place.people((1, "Ada"), (2, "Grace"), (3, "Alan"))
    found = await place.plan()
    assert would(found) == {"same": 1, "update": 1, "create": 1}
    assert found.examples[0].changes == [Difference("name", '"grace"', '"Grace"')]


async def test_a_table_that_a_run_would_miss_is_said(place: Place) -> None:
    place.target(SQL.replace(", create_table: true", ""))
    place.execute("CREATE TABLE peoples (id INTEGER PRIMARY KEY, name TEXT)")
    place.people((1, "Ada"))
    found = await place.plan()
    assert would(found) == {"unknown": 1}
    assert "there is no table 'people'. Did you mean 'peoples'?" in found.notes[0]


async def test_what_cannot_be_asked_is_known_from_the_run_log_or_not_at_all(place: Place) -> None:
    place.target('connector: http\nbase_url: http://127.0.0.1:9\nkey: id\nwrite: {upsert: "PUT /people/{id}"}')
    place.people((1, "Ada"), (2, "Grace"))
    with RunLog.open(place.runlog) as log:
        run = log.start_run("people", "", "manual")
        log.commit_page(run, PageResult(1, {Outcome.WRITTEN: 1}, {}, 0, 0, None, states=[("1", b"0" * 16)]))
        log.finish_run(run)
    found = await place.plan()
    assert would(found) == {"update": 1, "unknown": 1}
    assert found.notes == ["the target cannot look up records, so only the run log shows which ones it has"]
    assert found.target == PlannedPace(2, None)


async def test_what_is_in_doubt_where_sending_twice_does_harm_is_not_said_to_be_sent(place: Place) -> None:
    place.target("connector: http\nbase_url: http://127.0.0.1:9\nkey: id\nwrite: {create: POST /people}")
    place.people((1, "Ada"), (2, "Grace"), (3, "Alan"))
    on_its_way = mark_in_flight(
        Hasher(prepare(place.spec).integration.target.destination()).hash({"id": 1, "name": "Ada"})
    )
    failure = NewFailure(
        key="2",
        state=FailureState.UNKNOWN,
        stage=Stage.WRITE,
        error_class=ErrorClass.NETWORK,
        message="no answer",
        file="people.md",
        line=1,
        source={"id": 2, "name": "Grace"},
        payload={"id": 2, "name": "Grace"},
    )
    with RunLog.open(place.runlog) as log:
        run = log.start_run("people", "", "manual")
        log.commit_page(run, PageResult(1, {Outcome.UNKNOWN: 1}, {}, 0, 0, None, failures=[failure]))
        log.set_hashes("people", {"1": on_its_way})
        log.finish_run(run)
    found = await place.plan()
    assert would(found) == {"create": 1, "fail": 2}
    assert "sent by a run that was killed" in found.faults[0].message


async def test_a_lookup_is_used_as_far_as_it_may_and_calls_are_counted_under_the_limits(place: Place, api: Api) -> None:
    place.target(
        f"connector: http\nbase_url: {api.url}\nkey: id\nlimits: {{rate: 2/min}}\n"
        'write: {create: POST /people, update: "PATCH /people/{found.id}", lookup: "GET /people?id={id}", '
        'found: "data[0]"}',
    )
    place.people((1, "Ada"), (2, "Grace"), (3, "Alan"))
    found = await place.plan(lookups=1)
    assert would(found) == {"same": 1, "unknown": 2}
    assert found.target == PlannedPace(6, 120.0)
    assert found.notes == ["some records were not looked up, because each takes a request; see --lookups"]


@pytest.mark.parametrize(
    ("limits", "headers", "pace"),
    [
        ("{rate: [9/s, 2/min]}", "{}", PlannedPace(3, 60.0)),
        ("{rate: 2/min}", '{If-Match: "{lookup.etag}"}', PlannedPace(6, 120.0)),
        ("{}", '{If-Match: "{lookup.etag}"}', PlannedPace(6, None)),
    ],
)
async def test_an_upsert_looks_first_only_if_its_headers_want_it(
    place: Place, api: Api, limits: str, headers: str, pace: PlannedPace
) -> None:
    place.target(
        f"connector: http\nbase_url: {api.url}\nkey: id\nlimits: {limits}\n"
        f'write: {{upsert: "PUT /people/{{id}}", lookup: "GET /people?id={{id}}", headers: {headers}}}',
    )
    place.people((1, "Ada"), (2, "Grace"), (3, "Alan"))
    assert (await place.plan(lookups=0)).target == pace


async def test_an_answer_that_is_none_is_said(place: Place, api: Api) -> None:
    api.status = 500
    place.target(
        f"connector: http\nbase_url: {api.url}\nkey: id\n"
        'write: {create: POST /people, lookup: "GET /people?id={id}"}',
    )
    place.people((1, "Ada"))
    found = await place.plan()
    assert would(found) == {"unknown": 1}
    assert found.notes == ["a record could not be looked up: not sent: 500 Internal Server Error"]


async def test_what_the_settings_alone_decide_needs_no_look(place: Place) -> None:
    place.target("connector: file\npath: out.jsonl\nkey: id\nmode: append")
    place.people((1, "Ada"), (1, "Ada Lovelace"))
    assert would(await place.plan()) == {"create": 2}


async def test_a_record_that_comes_again_as_it_was_is_unchanged(place: Place) -> None:
    place.people((1, "Ada"), (2, "Grace"), (1, "Ada"), (2, "Hopper"))
    assert would(await place.plan()) == {"create": 3, "unchanged": 1}


async def test_a_limit_cuts_it_and_says_so(place: Place) -> None:
    place.people((1, "Ada"), (2, "Grace"), (3, "Alan"))
    found = await place.plan(limit=2)
    assert (found.read, found.cut) == (2, True)
    assert not (await place.plan(limit=3)).cut


async def test_a_plan_of_an_incomplete_read_is_of_what_was_read(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    read = FileReader.pages

    async def incomplete(reader: FileReader, cursor: Json, *, full: bool) -> AsyncIterator[Page]:
        async for page in read(reader, cursor, full=full):
            yield replace(page, complete=False)
        raise IncompleteRead("records may be missing")

    monkeypatch.setattr(FileReader, "pages", incomplete)
    place.people((1, "Ada"), (2, "Bo"))
    found = await place.plan()
    assert (found.read, found.cut) == (2, True)


async def test_a_source_that_cannot_be_read_is_raised(place: Place) -> None:
    with pytest.raises(Unreachable, match=r"there is no file in\.jsonl"):
        await place.plan()
    assert not (place.directory / ".speclab").exists()
