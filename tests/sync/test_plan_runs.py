"""A plan equals the run that follows, and says what it cannot know. Real files and databases."""

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


class PlanWorkspace:
    """A spec that copies people from in.jsonl, and its run log."""

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
        """Return the content of all files except those of open SQLite databases."""
        files = (
            path for path in self.directory.rglob("*") if path.is_file() and path.suffix not in (".db-wal", ".db-shm")
        )
        return {str(path.relative_to(self.directory)): path.read_bytes() for path in files}

    def execute(self, *statements: str) -> None:
        with closing(sqlite3.connect(self.directory / "crm.db")) as db, db:
            for statement in statements:
                db.execute(statement)


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> PlanWorkspace:
    monkeypatch.chdir(tmp_path)
    return PlanWorkspace(tmp_path)


def nonzero_counts(found: Plan) -> dict[str, int]:
    """Return the planned counts that are not zero."""
    counts = {one.value: count for one, count in found.effects.items() if count}
    rest = {"unchanged": found.unchanged, "filtered": found.filtered, "fail": sum(one.count for one in found.faults)}
    return counts | {name: count for name, count in rest.items() if count}


@pytest.mark.parametrize("settings", [FILE, SQL])
async def test_plan_counts_what_the_run_then_does_and_writes_nothing(workspace: PlanWorkspace, settings: str) -> None:
    workspace.target(settings)
    workspace.people((1, "Ada "), (2, None), (3, "Grace"), (5, None))
    before = workspace.contents()
    first = await workspace.plan()
    assert nonzero_counts(first) == {"create": 2, "fail": 2}
    (line,) = [at for at, text in enumerate(workspace.spec.read_text().splitlines(), 1) if "Required, Trim" in text]
    assert first.faults == [PlanFault(2, f"people.md:{line}:33", "name: the value is null or missing")]
    assert workspace.contents() == before
    await workspace.run()

    workspace.people((1, "Ada"), (3, "Admiral Grace"), (4, "Alan"))
    before = workspace.contents()
    second = await workspace.plan(full=True)
    assert nonzero_counts(second) == {"unchanged": 1, "update": 1, "create": 1}
    assert second.examples == [
        PlanExample(PlannedEffect.UPDATE, "3", [Difference("name", '"Grace"', '"Admiral Grace"')]),
        PlanExample(PlannedEffect.CREATE, "4", [Difference("id", "", "4"), Difference("name", "", '"Alan"')]),
    ]
    assert workspace.contents() == before
    row = await workspace.run()
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
async def test_plan_reports_when_the_guard_would_stop_the_run(
    workspace: PlanWorkspace, settings: str, rows: int, says: str
) -> None:
    workspace.people(*((number, "Ada") for number in range(30)))
    await workspace.run()
    workspace.volume(settings)
    workspace.people(*((number, "Ada" if "name" not in says else 7) for number in range(rows)))
    found = await workspace.plan(full=True)
    assert found.stops
    assert [alarm.message.endswith(says) for alarm in found.alarms] == [True]
    assert (await workspace.run()).error == f"stopped by the guard: {found.alarms[0].message}"
    workspace.spec.write_text(workspace.spec.read_text().replace("action: stop", "action: warn"))
    reported = await workspace.plan(full=True)
    assert (reported.stops, len(reported.alarms)) == (False, 1)
    assert not (await workspace.plan(full=True, limit=1)).stops


async def test_plan_looks_at_the_target_where_the_run_log_has_no_record(workspace: PlanWorkspace) -> None:
    workspace.target(SQL)
    workspace.execute(
        "CREATE TABLE people (id INTEGER PRIMARY KEY, name TEXT, age INTEGER)",
        "INSERT INTO people VALUES (1, 'Ada', 36), (2, 'grace', NULL)",
    )
    workspace.people((1, "Ada"), (2, "Grace"), (3, "Alan"))
    found = await workspace.plan()
    assert nonzero_counts(found) == {"same": 1, "update": 1, "create": 1}
    assert found.examples[0].changes == [Difference("name", '"grace"', '"Grace"')]


async def test_missing_table_is_reported(workspace: PlanWorkspace) -> None:
    workspace.target(SQL.replace(", create_table: true", ""))
    workspace.execute("CREATE TABLE peoples (id INTEGER PRIMARY KEY, name TEXT)")
    workspace.people((1, "Ada"))
    found = await workspace.plan()
    assert nonzero_counts(found) == {"unknown": 1}
    assert "there is no table 'people'. Did you mean 'peoples'?" in found.notes[0]


async def test_effects_at_a_target_without_lookups_come_from_the_run_log_or_are_unknown(
    workspace: PlanWorkspace,
) -> None:
    workspace.target('connector: http\nbase_url: http://127.0.0.1:9\nkey: id\nwrite: {upsert: "PUT /people/{id}"}')
    workspace.people((1, "Ada"), (2, "Grace"))
    with RunLog.open(workspace.runlog) as log:
        run = log.start_run("people", "", "manual")
        log.commit_page(run, PageResult(1, {Outcome.WRITTEN: 1}, {}, 0, 0, None, states=[("1", b"0" * 16)]))
        log.finish_run(run)
    found = await workspace.plan()
    assert nonzero_counts(found) == {"update": 1, "unknown": 1}
    assert found.notes == ["the target cannot look up records, so only the run log shows which ones it has"]
    assert found.target == PlannedPace(2, None)


async def test_record_with_unknown_outcome_is_not_planned_to_be_sent_if_a_second_send_does_harm(
    workspace: PlanWorkspace,
) -> None:
    workspace.target("connector: http\nbase_url: http://127.0.0.1:9\nkey: id\nwrite: {create: POST /people}")
    workspace.people((1, "Ada"), (2, "Grace"), (3, "Alan"))
    on_its_way = mark_in_flight(
        Hasher(prepare(workspace.spec).integration.target.destination()).hash({"id": 1, "name": "Ada"})
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
    with RunLog.open(workspace.runlog) as log:
        run = log.start_run("people", "", "manual")
        log.commit_page(run, PageResult(1, {Outcome.UNKNOWN: 1}, {}, 0, 0, None, failures=[failure]))
        log.set_hashes("people", {"1": on_its_way})
        log.finish_run(run)
    found = await workspace.plan()
    assert nonzero_counts(found) == {"create": 1, "fail": 2}
    assert "sent by a run that was killed" in found.faults[0].message


async def test_lookups_stay_within_their_limit_and_calls_are_counted_under_the_rate_limits(
    workspace: PlanWorkspace, api: Api
) -> None:
    workspace.target(
        f"connector: http\nbase_url: {api.url}\nkey: id\nlimits: {{rate: 2/min}}\n"
        'write: {create: POST /people, update: "PATCH /people/{found.id}", lookup: "GET /people?id={id}", '
        'found: "data[0]"}',
    )
    workspace.people((1, "Ada"), (2, "Grace"), (3, "Alan"))
    found = await workspace.plan(lookups=1)
    assert nonzero_counts(found) == {"same": 1, "unknown": 2}
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
async def test_upsert_looks_up_first_only_if_its_headers_need_it(
    workspace: PlanWorkspace, api: Api, limits: str, headers: str, pace: PlannedPace
) -> None:
    workspace.target(
        f"connector: http\nbase_url: {api.url}\nkey: id\nlimits: {limits}\n"
        f'write: {{upsert: "PUT /people/{{id}}", lookup: "GET /people?id={{id}}", headers: {headers}}}',
    )
    workspace.people((1, "Ada"), (2, "Grace"), (3, "Alan"))
    assert (await workspace.plan(lookups=0)).target == pace


async def test_invalid_lookup_response_is_reported(workspace: PlanWorkspace, api: Api) -> None:
    api.status = 500
    workspace.target(
        f"connector: http\nbase_url: {api.url}\nkey: id\n"
        'write: {create: POST /people, lookup: "GET /people?id={id}"}',
    )
    workspace.people((1, "Ada"))
    found = await workspace.plan()
    assert nonzero_counts(found) == {"unknown": 1}
    assert found.notes == ["a record could not be looked up: not sent: 500 Internal Server Error"]


async def test_effects_decided_by_the_settings_need_no_lookup(workspace: PlanWorkspace) -> None:
    workspace.target("connector: file\npath: out.jsonl\nkey: id\nmode: append")
    workspace.people((1, "Ada"), (1, "Ada Lovelace"))
    assert nonzero_counts(await workspace.plan()) == {"create": 2}


async def test_repeated_record_is_unchanged(workspace: PlanWorkspace) -> None:
    workspace.people((1, "Ada"), (2, "Grace"), (1, "Ada"), (2, "Hopper"))
    assert nonzero_counts(await workspace.plan()) == {"create": 3, "unchanged": 1}


async def test_limited_plan_says_that_it_is_limited(workspace: PlanWorkspace) -> None:
    workspace.people((1, "Ada"), (2, "Grace"), (3, "Alan"))
    found = await workspace.plan(limit=2)
    assert (found.read, found.cut) == (2, True)
    assert not (await workspace.plan(limit=3)).cut


async def test_plan_of_an_incomplete_read_covers_the_records_read(
    workspace: PlanWorkspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = FileReader.pages

    async def incomplete(reader: FileReader, cursor: Json, *, full: bool) -> AsyncIterator[Page]:
        async for page in read(reader, cursor, full=full):
            yield replace(page, complete=False)
        raise IncompleteRead("records may be missing")

    monkeypatch.setattr(FileReader, "pages", incomplete)
    workspace.people((1, "Ada"), (2, "Bo"))
    found = await workspace.plan()
    assert (found.read, found.cut) == (2, True)


async def test_unreadable_source_raises(workspace: PlanWorkspace) -> None:
    with pytest.raises(Unreachable, match=r"there is no file in\.jsonl"):
        await workspace.plan()
    assert not (workspace.directory / ".speclab").exists()
