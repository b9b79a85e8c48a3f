"""Nested lists: one list per parent record, its requests, its records, and its cursor."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncGenerator, Callable
from email.utils import format_datetime
from typing import Any

import pytest
from aiohttp import web
from tests.clocks import HeldClock
from tests.connectors.conftest import Reports, Serve, read_all, read_to_failure, records_of

from speclab.connectors.api import Page, Reader, RuntimeContext
from speclab.connectors.http.settings import HttpSystem
from speclab.connectors.registry import open_reader
from speclab.connectors.secrets.references import References
from speclab.core.errors import BadResponse, Unauthorized, Unreachable
from speclab.core.json import Json
from speclab.spec.auth import NoAuth
from speclab.spec.settings import RetrySettings

FOR_EACH: dict[str, Json] = {
    "path": "/accounts",
    "records": "data",
    "as": "account",
    "pagination": {"by": "cursor", "next": "next", "param": "cursor"},
}


class Crm:
    """Accounts, two per page, and for each its contacts changed at or after `since`, two per page."""

    def __init__(self, clock: HeldClock, **contacts: list[tuple[str, str]]) -> None:
        self.accounts = contacts
        self.unlisted: set[str] = set()
        self.rejected: dict[str, int] = {}
        self.requested: list[str] = []
        self.at_once = self.most_at_once = 0
        self.before: Callable[[str], None] = lambda _: None
        self._clock = clock

    async def __call__(self, request: web.Request) -> web.Response:
        self.before(request.path_qs)
        self.requested.append(request.path_qs)
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        await asyncio.sleep(0.002)
        self.at_once -= 1
        headers = {"Date": format_datetime(self._clock.now(), usegmt=True)}
        if request.path == "/accounts":
            listed = [key for key in self.accounts if key not in self.unlisted]
            found: list[Any] = [{"id": key, "name": key.upper()} for key in listed]
        else:
            account = request.path.split("/")[2]
            if account not in self.accounts or account in self.rejected:
                return web.json_response({"error": "no"}, status=self.rejected.get(account, 404))
            since = request.query.get("since", "")
            found = [{"id": key, "at": at} for key, at in self.accounts[account] if at >= since]
        at = int(request.query.get("cursor", "0"))
        body = {"data": found[at : at + 2], "next": str(at + 2) if at + 2 < len(found) else None}
        return web.json_response(body, headers=headers)


@pytest.fixture
def reader(references: References, context: RuntimeContext) -> Callable[..., Reader]:
    def opened(url: str, *, concurrency: int = 4, attempts: int = 1, **read: Json) -> Reader:
        settings = {
            "connector": "http",
            "base_url": url,
            "key": ["account.id", "id"],
            "limits": {"concurrency": concurrency},
            "read": {
                "path": "/accounts/{account.id}/contacts",
                "records": "data",
                "pagination": {"by": "cursor", "next": "next", "param": "cursor"},
                "for_each": FOR_EACH,
                **read,
            },
        }
        system = HttpSystem.model_validate(settings)
        return open_reader(system, NoAuth(), references, context, RetrySettings(attempts=attempts))

    return opened


Open = Callable[..., Reader]
SINCE: Json = {"param": "since", "field": "at"}


def keys(pages: list[Page]) -> list[str]:
    return [f"{record['account']['id']}{record['id']}" for record in map(loose, records_of(pages))]


def loose(record: Any) -> Any:
    return record


def crm(clock: HeldClock) -> Crm:
    """Five accounts with three, none, one, two and five contacts."""
    sizes = {"a": 3, "b": 0, "c": 1, "d": 2, "e": 5}
    return Crm(
        clock, **{key: [(str(one), f"2024-01-0{one + 1}") for one in range(size)] for key, size in sizes.items()}
    )


ALL = ["a0", "a1", "a2", "c0", "d0", "d1", "e0", "e1", "e2", "e3", "e4"]


async def read_pages(reader: Reader, cursor: Json, records: int) -> tuple[list[Page], Json]:
    """Return pages until that many records were read, and the last cursor, as the run log stores it."""
    given: list[Page] = []
    pages = reader.pages(cursor, full=False)
    assert isinstance(pages, AsyncGenerator)
    async for page in pages:
        given.append(page)
        if len(records_of(given)) >= records:
            break
    await pages.aclose()
    await reader.close()
    return given, json.loads(json.dumps(given[-1].cursor))


@pytest.fixture
def small_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make each response a page, so that there are cursors everywhere."""
    monkeypatch.setattr("speclab.connectors.http.read_state._REQUESTS", 1)


async def test_each_list_is_read_once_for_each_parent_and_in_the_parents_order(
    serve: Serve, reader: Open, clock: HeldClock
) -> None:
    source = crm(clock)
    pages = await read_all(reader(await serve(source)))
    assert keys(pages) == ALL
    assert loose(records_of(pages)[0]) == {"id": "0", "at": "2024-01-01", "account": {"id": "a", "name": "A"}}
    requested = [line for line in source.requested if line.startswith("/accounts/")]
    assert sorted(requested) == sorted(set(requested))
    assert [(page.complete, page.from_start) for page in pages] == [(True, True)]
    assert 2 <= source.most_at_once <= 4


async def test_short_lists_share_a_page_and_long_ones_fill_it(serve: Serve, reader: Open, clock: HeldClock) -> None:
    source = Crm(clock, **{f"k{number}": [("0", "2024")] for number in range(60)})
    pages = await read_all(reader(await serve(source)))
    assert [len(page.records) for page in pages] == [25, 25, 10]
    assert pages[0].request.endswith("/accounts/k0/contacts and 24 more")
    assert sum(page.bytes_in for page in pages) > 60 * 20


async def test_parent_values_are_used_in_path_params_and_body(serve: Serve, reader: Open) -> None:
    requested: list[Json] = []

    async def source(request: web.Request) -> web.Response:
        if request.method == "GET":
            return web.json_response({"data": [{"id": 7, "region": "a/b ü"}, {"id": 8, "region": "?"}], "next": None})
        requested.append([request.raw_path, await request.json()])
        return web.json_response({"data": [], "next": None})

    await read_all(
        reader(
            await serve(source),
            concurrency=1,
            path=None,
            request="POST /regions/{account.region}/search",
            params={"of": "{account.id}", "as": "{own}"},
            body={"account": "{account.id}", "query": ["id={account.id}", "{braces}"]},
        )
    )
    assert requested == [
        ["/regions/a%2Fb%20%C3%BC/search?of=7&as=%7Bown%7D", {"account": 7, "query": ["id=7", "{braces}"]}],
        ["/regions/%3F/search?of=8&as=%7Bown%7D", {"account": 8, "query": ["id=8", "{braces}"]}],
    ]


@pytest.mark.usefixtures("small_pages")
@pytest.mark.parametrize("records", range(1, 11))
async def test_interrupted_read_resumes_within_a_list(
    serve: Serve, reader: Open, clock: HeldClock, records: int
) -> None:
    source = crm(clock)
    url = await serve(source)
    first, cursor = await read_pages(reader(url), None, records)
    source.requested.clear()
    rest = await read_all(reader(url), cursor)
    assert keys(first) + keys(rest) == ALL
    assert (first[0].from_start, rest[0].from_start) == (True, False)
    done = {key[0] for key in keys(first)} - {key[0] for key in keys(rest)}
    assert not [line for line in source.requested if line.split("/")[2:3] and line.split("/")[2] in done]


@pytest.mark.usefixtures("small_pages")
@pytest.mark.parametrize("records", range(1, 11))
async def test_changing_parents_lose_no_records(serve: Serve, reader: Open, clock: HeldClock, records: int) -> None:
    source = crm(clock)
    url = await serve(source)
    first, cursor = await read_pages(reader(url), None, records)
    listed = dict(reversed(source.accounts.items()))
    source.accounts = {"x": [("0", "2024-01-01")], **listed, "y": [("0", "2024-01-01")]}
    del source.accounts["c"]
    rest = await read_all(reader(url), cursor)
    read = keys(first) + keys(rest)
    assert sorted(read) == sorted(set(read))
    assert {*ALL, "x0", "y0"} - set(read) <= {"c0"}
    assert rest[-1].complete


async def test_each_parent_has_its_bookmark(serve: Serve, reader: Open, clock: HeldClock) -> None:
    source = crm(clock)
    url = await serve(source)
    first = await read_all(reader(url, since=SINCE))
    source.accounts["c"].append(("new", "2024-01-02"))  # later than all of c, earlier than those of the others
    source.accounts["b"].append(("late", "2020-01-01"))  # the first in b
    source.accounts["f"] = [("old", "2019-01-01")]
    source.requested.clear()
    second = await read_all(reader(url, since=SINCE), first[-1].cursor)
    assert keys(second) == ["blate", "cnew", "fold"]
    assert "/accounts/a/contacts?since=2024-01-03" in source.requested
    assert "/accounts/c/contacts?since=2024-01-01" in source.requested
    assert "/accounts/b/contacts" in source.requested
    third = await read_all(reader(url, since=SINCE), second[-1].cursor)
    assert keys(third) == []
    assert third[-1].cursor == second[-1].cursor


@pytest.mark.usefixtures("small_pages")
async def test_change_at_a_finished_parent_is_read_by_the_next_run(
    serve: Serve, reader: Open, clock: HeldClock
) -> None:
    source = crm(clock)
    url = await serve(source)

    def change(requested: str) -> None:
        if requested.startswith("/accounts/e/"):
            source.accounts["a"].append(("meanwhile", "2024-01-04"))
            source.before = lambda _: None

    source.before = change
    first = await read_all(reader(url, since=SINCE, concurrency=1))
    assert "ameanwhile" not in keys(first)
    assert keys(first) == ALL
    assert keys(await read_all(reader(url, since=SINCE), first[-1].cursor)) == ["ameanwhile"]


@pytest.mark.usefixtures("small_pages")
async def test_interrupted_round_keeps_bookmarks_of_remaining_parents(
    serve: Serve, reader: Open, clock: HeldClock
) -> None:
    source = crm(clock)
    url = await serve(source)
    whole = await read_all(reader(url, since=SINCE))
    for contacts in source.accounts.values():
        contacts.append(("new", "2024-02-01"))
    given, cursor = await read_pages(reader(url, since=SINCE), whole[-1].cursor, 2)
    assert keys(given) == ["anew", "bnew"]
    source.accounts["a"].append(("newer", "2024-03-01"))
    rest = await read_all(reader(url, since=SINCE), cursor)
    assert keys(rest) == ["cnew", "dnew", "enew"]
    after = await read_all(reader(url, since=SINCE), rest[-1].cursor)
    assert keys(after) == ["anewer"]


async def test_full_read_reads_every_parent_and_sets_bookmarks(serve: Serve, reader: Open, clock: HeldClock) -> None:
    source = crm(clock)
    url = await serve(source)
    first = await read_all(reader(url, since=SINCE))
    full = await read_all(reader(url, since=SINCE), first[-1].cursor, full=True)
    assert keys(full) == ALL
    assert not [line for line in source.requested if "since=" in line]
    assert keys(await read_all(reader(url, since=SINCE), full[-1].cursor)) == []


async def test_changed_settings_restart_the_read(
    serve: Serve, reader: Open, clock: HeldClock, reports: Reports
) -> None:
    source = crm(clock)
    url = await serve(source)
    first = await read_all(reader(url, since=SINCE))
    other = reader(url, since=SINCE, params={"all": "yes"})
    assert keys(await read_all(other, first[-1].cursor)) == ALL
    assert reports.lines == ["warning: the `read` settings have changed since the last run; reading from the start"]


async def test_deleted_parent_is_not_a_failure(serve: Serve, reader: Open, clock: HeldClock, reports: Reports) -> None:
    source = crm(clock)

    def delete(requested: str) -> None:
        if requested.startswith("/accounts/a/"):
            source.accounts.pop("d", None)

    source.before = delete
    pages = await read_all(reader(await serve(source), concurrency=1))
    assert keys(pages) == [key for key in ALL if key[0] != "d"]
    assert pages[-1].complete
    assert reports.lines == ["info: 1 of `account` were deleted during the read"]


@pytest.mark.parametrize("status", [403, 404, 422])
async def test_failed_parent_makes_the_read_incomplete_and_others_are_read(
    serve: Serve, reader: Open, clock: HeldClock, status: int
) -> None:
    source = crm(clock)
    url = await serve(source)
    whole = await read_all(reader(url, since=SINCE))
    source.rejected = {"a": status, "c": status}
    for contacts in source.accounts.values():
        contacts.append(("new", "2024-02-01"))
    given, failure = await read_to_failure(reader(url, since=SINCE), whole[-1].cursor)
    assert isinstance(failure, Unauthorized if status == 403 else BadResponse)
    assert re.search(rf"accounts/a/contacts\S*: {status} .* \(and 1 more like it\)", failure.message)
    assert keys(given) == ["bnew", "dnew", "enew"]
    assert not given[-1].complete
    source.rejected = {}
    for contacts in source.accounts.values():
        contacts.append(("newer", "2024-03-01"))
    after = await read_all(reader(url, since=SINCE), given[-1].cursor)
    assert keys(after) == ["anew", "anewer", "bnewer", "cnew", "cnewer", "dnewer", "enewer"]


async def test_rejected_credentials_end_the_read_of_parents(serve: Serve, reader: Open, clock: HeldClock) -> None:
    source = crm(clock)
    source.rejected = {"b": 401}
    given, failure = await read_to_failure(reader(await serve(source), concurrency=1))
    assert isinstance(failure, Unauthorized)
    assert keys(given) == ["a0", "a1", "a2"]
    assert not any("accounts/c" in requested for requested in source.requested)


async def test_read_fails_if_every_parent_fails(serve: Serve, reader: Open, clock: HeldClock) -> None:
    source = crm(clock)
    source.rejected = dict.fromkeys(source.accounts, 403)
    given, failure = await read_to_failure(reader(await serve(source)))
    assert (given, type(failure).__base__) == ([], Unauthorized)
    assert failure.message.endswith("(and 4 more like it)")


async def test_partial_parent_list_deletes_nothing(serve: Serve, reader: Open) -> None:
    async def source(request: web.Request) -> web.Response:
        error = {"error": "shard 3 is down"} if request.path == "/accounts" else {}
        return web.json_response({"data": [{"id": 1}], **error})

    url = await serve(source)
    pages, failure = await read_to_failure(reader(url))
    assert keys(pages) == ["11"]
    assert not pages[-1].complete
    assert failure.message.endswith("records, and an error: shard 3 is down; records may be missing")
    _, failure = await read_to_failure(reader(url, missing="delete"))
    assert failure.message.endswith("records, and an error: shard 3 is down")


async def test_wrong_settings_are_not_tried_for_every_parent(serve: Serve, reader: Open, clock: HeldClock) -> None:
    source = Crm(clock, **{f"k{number}": [] for number in range(500)})
    url = await serve(source)
    wrong = reader(url, path="/accouts/{account.id}/contacts", records="items")
    with pytest.raises(BadResponse, match="and 9 more like it"):
        await read_all(wrong)
    assert len([line for line in source.requested if "accouts" in line]) < 20


async def test_parent_without_a_needed_value_is_reported(serve: Serve, reader: Open) -> None:
    requested: list[str] = []

    async def source(request: web.Request) -> web.Response:
        requested.append(request.path)
        accounts = [{"id": None}, {"id": "b"}]
        return web.json_response({"data": accounts if request.path == "/accounts" else [{"id": 1}], "next": None})

    given, failure = await read_to_failure(reader(await serve(source)))
    assert isinstance(failure, BadResponse)
    assert failure.message == "read.for_each: {account.id} is null, which a URL cannot contain"
    assert keys(given) == ["b1"]
    assert requested == ["/accounts", "/accounts/b/contacts", "/accounts"]


async def test_parent_with_an_unsafe_id_does_not_stop_the_others(serve: Serve, reader: Open, clock: HeldClock) -> None:
    source = Crm(clock, **{"..": [("0", "2024-01-01")], "b": [("0", "2024-01-01")]})
    given, failure = await read_to_failure(reader(await serve(source)))
    assert failure.message == "read.for_each: {account.id} is '..', which would change the path"
    assert keys(given) == ["b0"]


async def test_failing_source_ends_the_read_after_delivered_pages(serve: Serve, reader: Open, clock: HeldClock) -> None:
    source = crm(clock)
    source.rejected = {"d": 503}
    url = await serve(source)
    given, failure = await read_to_failure(reader(url))
    assert isinstance(failure, Unreachable)
    assert keys(given) == ["a0", "a1", "a2", "c0"]
    source.rejected = {}
    assert keys(given) + keys(await read_all(reader(url), given[-1].cursor)) == ALL


async def test_field_with_the_name_of_the_parent_is_not_overwritten(serve: Serve, reader: Open) -> None:
    async def source(request: web.Request) -> web.Response:
        data = [{"id": "a"}] if request.path == "/accounts" else [{"id": 1, "account": "Savings"}]
        return web.json_response({"data": data, "next": None})

    with pytest.raises(BadResponse, match="the records already have a field `account`") as raised:
        await read_all(reader(await serve(source)))
    assert "`read.for_each.as`" in raised.value.hint


async def test_parent_listed_twice_is_read_once(serve: Serve, reader: Open, clock: HeldClock) -> None:
    crowd = crm(clock)

    async def source(request: web.Request) -> web.Response:
        if request.path != "/accounts":
            return await crowd(request)
        return web.json_response({"data": [{"id": "c"}, {"id": "d"}, {"id": "c"}], "next": None})

    assert keys(await read_all(reader(await serve(source)))) == ["c0", "d0", "d1"]


async def test_no_parents_is_a_complete_read(serve: Serve, reader: Open, clock: HeldClock) -> None:
    pages = await read_all(reader(await serve(Crm(clock))))
    assert [(list(page.records), page.complete) for page in pages] == [([], True)]
