"""Reconciliation: the mapped source compared with real files, databases and HTTP servers, and the repair of both."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import closing
from pathlib import Path
from random import Random

import pytest
from aiohttp import web
from tests.bench.reconcile import KINDS, plant
from tests.cli.conftest import SPEC
from tests.proof.conftest import database

from speclab.connectors.api import RuntimeContext
from speclab.connectors.registry import open_lister
from speclab.connectors.secrets.references import References
from speclab.core.clock import SystemClock
from speclab.core.errors import SpecError
from speclab.core.json import Record
from speclab.core.outcome import RunState
from speclab.monitor.checks import Checks
from speclab.runlog import RunLog, RunLogReader
from speclab.spec.auth import NoAuth
from speclab.sync.prepare import prepare
from speclab.sync.reconcile import ReconcileOptions, Reconciliation, reconcile
from speclab.sync.reconcile_store import DifferenceKind, ReconcileStore
from speclab.sync.repair import Repair
from speclab.sync.run import RunOptions, RunResult, run

FILE = "connector: file\npath: out.jsonl\nkey: id"
CSV = "connector: file\npath: out.csv\nkey: id"
SQL = "connector: sql\nurl: sqlite:///crm.db\nkey: id\nwrite: {upsert: people, create_table: true}"
CONTEXT = RuntimeContext(SystemClock(), Random(0))
AGE = "| source.age | target.age | Direct | |\n"


class Place:
    """A spec that copies people from in.jsonl to a target, with its run log."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.runlog = directory / ".speclab/runlog.db"
        self.spec = directory / "people.md"
        self.secrets: dict[str, str] = {}
        self.reported: list[str] = []

    def write(self, target: str, *people: Record, step: str = "Trim", source: str = "") -> None:
        settings = f"connector: file\npath: in.jsonl\nkey: id{source}"
        text = SPEC.format(source=settings, step=step, auth="type: none").replace(FILE, target)
        self.spec.write_text(text.replace("\n\n## Authentication", f"\n{AGE}\n## Authentication"))
        self.put("in.jsonl", *people)

    def put(self, name: str, *records: Record) -> None:
        (self.directory / name).write_text("".join(json.dumps(record) + "\n" for record in records))

    def get(self, name: str) -> list[Record]:
        return [json.loads(line) for line in (self.directory / name).read_text().splitlines()]

    async def reconcile(
        self, sample: int | None = None, *, repair: bool = False, delete: bool = False
    ) -> tuple[Reconciliation, Repair, RunResult | None]:
        context = RuntimeContext(SystemClock(), Random(0), report=lambda _, message: self.reported.append(message))
        references, prepared = References(self.secrets, self.directory), prepare(self.spec)
        with ReconcileStore.open() as store:
            options = ReconcileOptions(sample, shown=1000)
            result = await reconcile(prepared, self.runlog, references, context, store, options)
            plan = Repair.plan(prepared, result, store, delete=delete)
            done = None
            if repair:
                with RunLog.open(self.runlog) as log:
                    done = await run(prepared, log, references, context, RunOptions(trigger="repair", repair=plan))
        return result, plan, done

    async def compare(self, sample: int | None = None) -> Reconciliation:
        result, _, _ = await self.reconcile(sample)
        return result

    async def run(self) -> RunResult:
        context = RuntimeContext(SystemClock(), Random(0))
        with RunLog.open(self.runlog) as log:
            return await run(prepare(self.spec), log, References(self.secrets, self.directory), context)


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
    monkeypatch.chdir(tmp_path)
    return Place(tmp_path)


def person(id_: int, name: str = "Ada", age: object = 36) -> Record:
    return {"id": id_, "name": name, "age": age}  # type: ignore[dict-item]


def found(result: Reconciliation) -> dict[str, dict[str, str]]:
    """The differences by kind and key, with their fields as one text."""
    kinds: dict[str, dict[str, str]] = {}
    for one in result.examples:
        changes = [f"{change.field}: {change.was} → {change.becomes}" for change in one.changes]
        kinds.setdefault(one.kind, {})[one.key] = ", ".join(changes) or one.detail
    return kinds


async def test_50_planted_differences_of_five_kinds_are_found_among_20_000_rows(place: Place) -> None:
    planted = plant(place.directory, 20_000)
    result = await place.compare()
    assert {kind: sorted(keys) for kind, keys in found(result).items()} == planted
    assert result.differences == dict.fromkeys(KINDS, 10)
    assert (result.source, result.target, result.same) == (20_000, 20_010, 20_000 - 40)
    assert found(result)["field"]["802"] == 'city: "Paris" → "London"'
    assert found(result)["type"]["1203"] == 'score: "203" → 203'
    assert found(result)["duplicate"]["1604"] == "2 records of the target"


@pytest.mark.parametrize("target", [FILE, CSV, SQL])
async def test_a_target_that_was_just_written_is_equal(place: Place, target: str) -> None:
    people = [person(1, " Ada "), person(2, "Grace, Hopper", None), person(10, 'Al"an', 41.5)]
    place.write(target, *people)
    await place.run()
    result = await place.compare()
    assert (result.is_equal, result.source, result.target, result.same) == (True, 3, 3, 3)


async def test_a_file_shows_differences_of_value_and_type_missing_extra_and_duplicate_keys(place: Place) -> None:
    place.write(FILE, *map(person, range(1, 6)))
    place.put("out.jsonl", person(1), person(2, age="36"), person(3, "Adam"), person(7), person(4), person(4, "x"))
    assert found(await place.compare()) == {
        "missing": {"5": ""},
        "extra": {"7": ""},
        "field": {"3": 'name: "Adam" → "Ada"'},
        "type": {"2": 'age: "36" → 36'},
        "duplicate": {"4": "2 records of the target"},
    }


async def test_an_empty_field_that_the_target_leaves_out_is_equal(place: Place) -> None:
    place.write(FILE, person(1, age=None), person(2))
    place.put("out.jsonl", {"id": 1, "name": "Ada"}, {"id": 2, "name": "Ada"})
    assert found(await place.compare()) == {"field": {"2": "age:  → 36"}}


async def test_records_of_the_source_that_map_to_one_key_are_duplicates_unless_they_are_equal(place: Place) -> None:
    place.write(FILE, person(1), person(1), person(2), person(2, "Grace"))
    place.put("out.jsonl", person(1), person(2))
    assert found(await place.compare()) == {"duplicate": {"2": "2 records of the source"}}


async def test_filtered_deleted_and_unmappable_records_are_not_expected_at_the_target(place: Place) -> None:
    place.write(FILE, person(1), person(2), person(3, ""), person(4), step="Required")
    place.put("in.jsonl", person(1), person(2), {"id": 3, "name": None, "age": 1})
    text = place.spec.read_text()
    place.spec.write_text(text.replace(AGE, f"{AGE}\n```yaml\nfilter: source.id != 2\n```\n"))
    place.put("out.jsonl", person(1), person(2))
    result, plan, _ = await place.reconcile(delete=True)
    assert (result.read, result.filtered, result.failed, result.source) == (3, 1, 1, 1)
    assert found(result) == {"extra": {"2": ""}}
    assert (plan.writes, plan.deletes) == (0, 0)
    assert plan.notes == [
        "not repaired: 1 record that only the target has: source records that cannot be mapped may be among them"
    ]


async def test_secrets_in_differences_are_redacted(place: Place) -> None:
    place.write(FILE.replace("out.jsonl", "${env:NAME}.jsonl"), person(1, "hunter2-hunter2"))
    place.secrets = {"NAME": "hunter2-hunter2"}
    place.put("hunter2-hunter2.jsonl", person(1, "other"))
    (one,) = (await place.compare()).examples
    assert "hunter2" not in one.changes[0].becomes


async def test_values_are_masked_as_the_logging_section_says(place: Place) -> None:
    place.write(FILE, {**person(1), "card": "4111", "city": "Rome"})
    text = place.spec.read_text().replace(
        AGE, f"{AGE}| source.card | target.card | Direct | |\n| source.city | target.address.city | Direct | |\n"
    )
    logging = "## Monitoring & Alerting\n\n### Logging\n\n```yaml\nfields: {city: mask}\n```\n"
    place.spec.write_text(f"{text}\n{logging}")
    place.put("out.jsonl", {**person(1), "card": "4242", "address": {"city": "Oslo"}})
    hidden = '"***masked***" → "***masked***"'
    assert found(await place.compare()) == {"field": {"1": f"address.city: {hidden}, card: {hidden}"}}


async def test_the_result_is_kept_for_acceptance_criteria(place: Place) -> None:
    place.write(FILE, person(1), person(2))
    place.put("out.jsonl", person(1), person(2, "x"))

    def is_reconciled() -> bool | None:
        with RunLogReader.open(place.runlog) as reader:
            return Checks(reader, "people", SystemClock().now()).evaluate('reconciled("1h")').holds

    await place.compare()
    assert is_reconciled() is False
    with RunLogReader.open(place.runlog) as reader:
        row = reader.get_reconciliation("people")
        assert row is not None
        assert (row.differences, row.counts["field"], row.counts["source"]) == (1, 1, 2)
        assert reader.events()[-1].message == (
            "compared source and target: 1 difference: 1 field (2 records of the source, 2 of the target)"
        )
    place.put("out.jsonl", person(1), person(2))
    await place.compare()
    assert is_reconciled() is True


async def test_a_sample_compares_some_records_and_no_extra_ones(place: Place) -> None:
    place.write(SQL, *(person(id_, f"p{id_}") for id_ in range(200)))
    await place.run()
    with closing(sqlite3.connect("crm.db")) as db, db:
        db.execute("UPDATE people SET name = 'x'")
        db.execute("INSERT INTO people VALUES (999, 'y', 1)")
    result = await place.compare(sample=20)
    assert (result.read, result.source, result.target, result.total) == (200, 20, 20, 20)
    assert set(found(result)) == {"field"}
    assert "only the target has" in result.notes[0]


# --- repair


@pytest.mark.parametrize("target", [FILE, SQL])
async def test_a_repair_writes_what_is_missing_or_different_as_a_run_of_its_own_kind(place: Place, target: str) -> None:
    place.write(target, *map(person, range(1, 5)))
    await place.run()
    if target == FILE:
        place.put("out.jsonl", person(1), person(2, "x"), person(3, age="36"), person(9))
    else:
        with closing(sqlite3.connect("crm.db")) as db, db:
            db.executescript(
                "DELETE FROM people WHERE id = 4; UPDATE people SET name = 'x' WHERE id = 2;"
                "UPDATE people SET age = 37 WHERE id = 3; INSERT INTO people VALUES (9, 'Ada', 36)"
            )
    with RunLogReader.open(place.runlog) as reader:
        before = reader.query("SELECT cursor FROM checkpoint")
        _, plan, done = await place.reconcile(repair=True)
        assert (plan.writes, plan.deletes) == (3, 0)
        assert plan.notes == ["not repaired: 1 record that only the target has; --delete deletes them"]
        assert done is not None
        assert (done.row.trigger, done.row.state, done.row.read, done.row.written) == ("repair", "succeeded", 3, 3)
        assert reader.query("SELECT cursor FROM checkpoint") == before
    result, _, done = await place.reconcile(repair=True, delete=True)
    assert found(result) == {"extra": {"9": ""}}
    assert done is not None
    assert (done.row.state, done.row.deleted) == ("succeeded", 1)
    assert (await place.compare()).is_equal
    assert (await place.run()).row.unchanged == 4


async def test_a_record_that_the_source_marks_as_deleted_is_deleted_by_a_repair_with_delete(
    place: Place, api: Api
) -> None:
    place.write(FILE, person(1))
    text = place.spec.read_text()
    api.people = [{**person(1), "gone": False}, {**person(2), "gone": True}]
    read = "read: {path: /people, pagination: {by: none}, deleted: source.gone == true}"
    source = f"connector: http\nbase_url: {api.url}\nkey: id\n{read}"
    place.spec.write_text(text.replace("connector: file\npath: in.jsonl\nkey: id\n", f"{source}\n"))
    place.put("out.jsonl", person(1), person(2))
    result, plan, done = await place.reconcile(repair=True, delete=True)
    assert found(result) == {"extra": {"2": ""}}
    assert plan.deletes == 1
    assert done is not None
    assert (done.row.read, done.row.deleted) == (1, 1)
    assert place.get("out.jsonl") == [person(1)]


async def test_a_target_that_only_takes_new_records_is_repaired_as_far_as_possible(place: Place) -> None:
    place.write(f"{FILE}\nmode: append", person(1), person(2), person(3))
    place.put("out.jsonl", person(1, "x"), person(2))
    _, plan, done = await place.reconcile(repair=True)
    assert plan.notes == ["not repaired: 1 record with other values, as the target only takes new records"]
    assert done is not None
    assert done.row.written == 1
    assert place.get("out.jsonl") == [person(1, "x"), person(2), person(3)]


# --- over HTTP


class Api:
    """A customer API with a list and a lookup by id."""

    def __init__(self) -> None:
        self.url = ""
        self.people: list[Record] = []
        self.refused: set[int] = set()
        self.looked_up: list[str] = []

    def target(self, *settings: str) -> str:
        requests = '{upsert: "PUT /people/{id}", delete: "DELETE /people/{id}"'
        lookup = ', lookup: "GET /people/{id}"}' if "lookup" in settings else "}"
        read = "\nread: {path: /people, pagination: {by: none}}" if "read" in settings else ""
        return f"connector: http\nbase_url: {self.url}\nkey: id\nwrite: {requests}{lookup}{read}"

    async def list(self, _: web.Request) -> web.Response:
        return web.json_response(self.people)

    async def get(self, request: web.Request) -> web.Response:
        self.looked_up.append(request.match_info["id"])
        one = [person for person in self.people if str(person["id"]) == request.match_info["id"]]
        return web.json_response(one[0]) if one else web.Response(status=404)

    async def put(self, request: web.Request) -> web.Response:
        record = await request.json()
        if record["id"] in self.refused:
            return web.json_response({"error": "not today"}, status=422)
        self.people = [person for person in self.people if person["id"] != record["id"]] + [record]
        return web.json_response(record)


@pytest.fixture
async def api() -> AsyncIterator[Api]:
    api = Api()
    app = web.Application()
    app.add_routes([web.get("/people", api.list), web.get("/people/{id}", api.get), web.put("/people/{id}", api.put)])
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    sockets: Sequence[tuple[str, int]] = runner.addresses
    api.url = f"http://127.0.0.1:{sockets[0][1]}"
    yield api
    await runner.cleanup()


async def test_a_target_with_a_list_is_compared_as_a_whole(place: Place, api: Api) -> None:
    place.write(api.target("read"), person(1), person(2), person(3))
    api.people = [{**person(1), "created": "2026"}, person(3, "x"), person(9)]
    result = await place.compare()
    assert result.is_list
    assert found(result) == {"missing": {"2": ""}, "field": {"3": 'name: "x" → "Ada"'}, "extra": {"9": ""}}


async def test_a_target_without_a_list_is_asked_for_each_record(place: Place, api: Api) -> None:
    place.write(api.target("lookup"), person(1), person(2), person(3))
    api.people = [person(1), person(3, age="36"), person(9)]
    result = await place.compare()
    assert sorted(api.looked_up) == ["1", "2", "3"]
    assert not result.is_list
    assert found(result) == {"missing": {"2": ""}, "type": {"3": 'age: "36" → 36'}}
    assert result.notes == ["records that only the target has are not found by looking up those of the source"]


async def test_a_target_that_allows_no_list_and_no_lookup_is_refused(place: Place, api: Api) -> None:
    place.write(api.target(), person(1))
    with pytest.raises(SpecError, match="cannot be listed or looked up"):
        await place.compare()


async def test_a_record_that_a_repair_cannot_write_is_a_dead_letter(place: Place, api: Api) -> None:
    place.write(api.target("read"), person(1), person(2))
    api.refused = {2}
    _, _, done = await place.reconcile(repair=True)
    assert done is not None
    assert (done.row.state, done.row.written, done.row.dead) == (RunState.PARTIAL, 1, 1)
    with RunLogReader.open(place.runlog) as reader:
        (failure,) = reader.failures("people")
        assert (failure.key, failure.status) == ("2", 422)
    assert (await place.compare()).differences[DifferenceKind.MISSING] == 1


# --- databases


@pytest.mark.parametrize("kind", ["postgresql", "mariadb"])
async def test_values_as_a_server_stores_them_are_equal(place: Place, kind: str) -> None:
    with database(kind, place.directory) as store:
        columns = "id VARCHAR(20) PRIMARY KEY, name VARCHAR(40), age NUMERIC(10, 2)"
        store.do(f"CREATE TABLE people ({columns})")
        target = f"connector: sql\nurl: {store.url}\nkey: id\nwrite: {{upsert: people}}"
        place.write(target, *(person(id_, f"p{id_}", age=id_ / 4) for id_ in range(2500)))
        done = await place.run()
        assert (done.row.state, done.row.written) == ("succeeded", 2500)
        store.do("DELETE FROM people WHERE id = '7'", "UPDATE people SET age = 7.25 WHERE id = '2000'")
        result, _, done_repair = await place.reconcile(repair=True)
        assert found(result) == {"missing": {"7": ""}, "field": {"2000": 'age: "7.25" → 500.0'}}
        assert result.same == 2498
        assert done_repair is not None
        assert done_repair.row.written == 2
        assert (await place.compare()).is_equal


async def test_a_list_of_a_table_ends_when_nobody_reads_on(place: Place) -> None:
    with closing(sqlite3.connect("crm.db")) as db, db:
        db.execute("CREATE TABLE people (id INTEGER PRIMARY KEY, name TEXT)")
        db.executemany("INSERT INTO people VALUES (?, 'Ada')", [(id_,) for id_ in range(5000)])
    place.write(SQL)
    lister = open_lister(prepare(place.spec).integration.target, NoAuth(), References({}, place.directory), CONTEXT)
    assert lister is not None
    pages = lister.pages(["name"])
    first = await anext(aiter(pages))
    assert first[0] == {"id": 0, "name": "Ada"}
    assert isinstance(pages, AsyncGenerator)
    await pages.aclose()
    await lister.close()
