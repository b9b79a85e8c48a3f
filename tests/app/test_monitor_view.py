"""The Monitor: the state of each integration, and the way to the record behind a figure."""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, closing
from datetime import timedelta
from typing import Any

import pytest
from textual.pilot import Pilot

from speclab.app.application import SpeclabApp
from speclab.app.formatting import NOTHING
from speclab.app.widgets.grid import Grid
from speclab.app.widgets.log import EventLog
from speclab.core.clock import format_timestamp
from speclab.core.outcome import AlertState, Level
from speclab.runlog import AlertRow, RunLogReader, RunRow
from speclab.runlog.outbox import get_silences
from speclab.runlog.schema import VERSION

Open = Callable[..., Any]


@pytest.fixture
def opened(until: Open) -> Open:
    """Open the Monitor of a workspace: `async with opened(workspace, size=(120, 40)) as pilot`."""

    @asynccontextmanager
    async def start(workspace: Any, *, size: tuple[int, int] = (120, 40), **options: Any) -> AsyncIterator[Pilot[None]]:
        app = SpeclabApp(workspace.directory, view="monitor", clock=workspace.clock, **options)
        async with app.run_test(size=size, notifications=True) as pilot:
            await until(pilot, lambda: bool(app.query("#integrations Grid")) and app.overview is not None)
            await until(pilot, lambda: app.specs is not None)
            await pilot.pause()
            yield pilot
            await until(pilot, lambda: not any(worker.group == "runs" for worker in app.workers))

    return start


@pytest.fixture
def line(screen: Open) -> Callable[[Pilot[None], str], str]:
    """Return the first line that contains a text, with repeated blanks removed: `line(pilot, "orders")`."""

    def find(pilot: Pilot[None], containing: str) -> str:
        return next((" ".join(text.split()) for text in screen(pilot).splitlines() if containing in text), "")

    return find


def list_runs(workspace: Any) -> list[RunRow]:
    with RunLogReader.open(workspace.runlog) as reader:
        return reader.runs()


# What it shows


async def test_integration_has_icon_figures_last_run_and_open_failures(filled: Any, opened: Open, line: Open) -> None:
    async with opened(filled, size=(160, 40)) as pilot:
        assert line(pilot, "92.0").startswith("▲ people 92.0 %")
        assert line(pilot, "92.0").endswith(f"partial 6 min ago {NOTHING} Hourly 5.0 s 16 2 14")
        assert line(pilot, "✔ orders").endswith(f"26 min ago {NOTHING} Hourly 5.0 s 0 0 0")


async def test_integrations_that_need_attention_come_first(filled: Any, opened: Open) -> None:
    async with opened(filled) as pilot:
        rows = pilot.app.query_one("#integrations Grid", Grid).rows
        assert [row.key for row in rows] == ["people", "orders"]


async def test_totals_are_those_of_the_window(filled: Any, opened: Open, see: Open, line: Open) -> None:
    async with opened(filled) as pilot:
        await see(pilot, "success 95.78 %", "records 380", "errors 16", "last 24 h")
        assert line(pilot, "errors by class") == "errors by class mapping 14 server 2"
        filled.clock.time += timedelta(hours=2)
        await pilot.press("w", "w", "w")
        await see(pilot, "last hour", "No records in this window.")


async def test_header_counts_open_failures_and_runninglist_runs(filled: Any, opened: Open, line: Open) -> None:
    filled.start("orders", read=50, total=200)
    async with opened(filled) as pilot:
        assert line(pilot, "speclab").endswith("↻ 2 waiting ✖ 14 dead ● 1 running")


async def test_running_run_shows_its_progress(filled: Any, opened: Open, see: Open) -> None:
    filled.start("orders", read=50, total=200)
    async with opened(filled) as pilot:
        await see(pilot, "██░░░░░░░░  25 %")


async def test_spec_without_runs_is_listed(workspace: Any, opened: Open, see: Open) -> None:
    async with opened(workspace) as pilot:
        await see(pilot, "◌ orders", "never run")


async def test_committed_changes_appear_automatically(filled: Any, opened: Open, see: Open) -> None:
    async with opened(filled) as pilot:
        filled.run("orders", read=77, failures=())
        await see(pilot, "records 457", "page 1, 77 read, 77 written")


async def test_added_and_removed_specs_are_listed_automatically(workspace: Any, opened: Open, see: Open) -> None:
    async with opened(workspace) as pilot:
        await see(pilot, "2 specs")
        text = (workspace.directory / "orders.md").read_text("utf-8")
        (workspace.directory / "deeper").mkdir()
        await pilot.pause(1.0)
        (workspace.directory / "deeper" / "tickets.md").write_text(text.replace("spec_id: orders", "spec_id: tickets"))
        await see(pilot, "◌ tickets", "3 specs")
        (workspace.directory / "deeper" / "tickets.md").unlink()
        await see(pilot, "2 specs")


async def test_failures_follow_the_selected_integration(filled: Any, opened: Open, see: Open) -> None:
    async with opened(filled) as pilot:
        await see(pilot, "failures of people", 'priority: no entry for "P0"')
        await pilot.press("down")
        await see(pilot, "failures of orders", "No failures.")


async def test_empty_workspace_says_what_to_do(workspace: Any, opened: Open, see: Open) -> None:
    for spec in workspace.directory.glob("*.md"):
        spec.unlink()
    async with opened(workspace) as pilot:
        await see(pilot, "No integrations here yet.", "No failures.", "No events yet.")


async def test_invalid_run_log_is_reported_once(workspace: Any, see: Open) -> None:
    workspace.runlog.write_bytes(b"not a database" * 100)
    app = SpeclabApp(workspace.directory, view="monitor")
    async with app.run_test(size=(120, 40), notifications=True) as pilot:
        await see(pilot, "The run log cannot be read", "runlog.db: ")
        await pilot.pause(0.6)
        assert len(app._notifications) == 1


@pytest.mark.parametrize("size", [(80, 24), (120, 40)])
async def test_long_names_are_shown_in_full_where_there_is_room_also_in_wide_letters(
    workspace: Any, opened: Open, see: Open, size: tuple[int, int]
) -> None:
    names = ["顧客-から-請求-へ"] if size[0] == 80 else ["crm-contacts-to-billing", "顧客-から-請求-へ"]
    with workspace.log() as log:
        for name in names:
            with log.run(name):
                pass
    async with opened(workspace, size=size) as pilot:
        await see(pilot, *(f"✔ {name} " for name in names))


@pytest.mark.parametrize("size", [(60, 20), (80, 24), (160, 45)])
async def test_unreadable_run_log_is_reported_in_full_with_a_hint(
    filled: Any, see: Open, screen: Open, size: tuple[int, int]
) -> None:
    with closing(sqlite3.connect(filled.runlog)) as db:
        db.execute("PRAGMA user_version = 99")
    app = SpeclabApp(filled.directory, view="monitor")
    async with app.run_test(size=size) as pilot:
        await see(pilot, "The run log cannot be read.", "Scheduler is not running.")
        shown = "".join(screen(pilot).split())
        for message in (f"{filled.runlog}: the run log was written by a newer speclab", "or name another run log with"):
            assert "".join(message.split()) in shown
        for untrue in ("No integrations here yet", "No failures", "No events yet", "nothing was read"):
            assert untrue not in screen(pilot)
        with closing(sqlite3.connect(filled.runlog)) as db:
            db.execute(f"PRAGMA user_version = {VERSION}")
        await see(pilot, "people", "failures of people" if size[0] > 60 else "integrations")
        assert "cannot be read" not in screen(pilot)


# Events


async def test_following_stops_when_the_user_scrolls_up(filled: Any, opened: Open, see: Open, until: Open) -> None:
    async with opened(filled) as pilot:
        log = pilot.app.query_one(EventLog)
        await until(pilot, lambda: len(log.rows) > 3)
        log.focus()
        await pilot.press("up")
        await see(pilot, "not following")
        filled.run("orders")
        await until(pilot, lambda: len(log.rows) > 8)
        assert log.cursor_row < len(log.rows) - 1
        await pilot.press("l")
        assert log.cursor_row == len(log.rows) - 1


async def test_event_that_arrives_twice_is_shown_once(filled: Any, opened: Open, until: Open) -> None:
    async with opened(filled) as pilot:
        log = pilot.app.query_one(EventLog)
        await until(pilot, lambda: len(log.rows) == 6)
        with RunLogReader.open(filled.runlog) as reader:
            log.append(reader.latest_events(3))
        assert len(log.rows) == 6


async def test_following_continues_when_old_events_are_dropped(filled: Any, opened: Open, until: Open) -> None:
    async with opened(filled) as pilot:
        log = pilot.app.query_one(EventLog)
        await until(pilot, lambda: len(log.rows) == 6)
        with RunLogReader.open(filled.runlog) as reader:
            events = reader.latest_events(6)
        log.replace(events[:4])
        log.replace(events[2:])
        assert (log.cursor_row, log.following) == (3, True)


async def test_events_can_be_filtered_by_integration(filled: Any, opened: Open, see: Open, until: Open) -> None:
    async with opened(filled) as pilot:
        log = pilot.app.query_one(EventLog)
        await until(pilot, lambda: len(log.rows) == 6)
        await pilot.press("f")
        await until(pilot, lambda: len(log.rows) == 3)
        await see(pilot, "events of people")
        filled.run("orders")
        filled.run("people")
        await until(pilot, lambda: len(log.rows) == 6)
        await pilot.press("f")
        await until(pilot, lambda: len(log.rows) == 12)


# Drill-down


async def test_enter_goes_from_an_integration_to_its_runs_and_failures(filled: Any, opened: Open, see: Open) -> None:
    async with opened(filled, size=(160, 40)) as pilot:
        await pilot.press("enter")
        await see(pilot, "runs of people", "▲ partial", "events of the run 6 min ago")
        await pilot.press("enter")
        await see(pilot, "16 records", "the run 6 min ago")
        await pilot.press("escape", "escape")
        assert pilot.app.screen is pilot.app.screen_stack[0]


async def test_palette_goes_to_the_runs_of_any_integration(filled: Any, opened: Open, see: Open) -> None:
    async with opened(filled) as pilot:
        await pilot.press("ctrl+p", *"runs of o", "enter")
        await see(pilot, "runs of orders", "✔ succeeded")


async def test_run_without_failures_says_why_nothing_opens(filled: Any, opened: Open, see: Open) -> None:
    async with opened(filled) as pilot:
        await pilot.press("down", "enter")
        await see(pilot, "runs of orders", "events of the run")
        await pilot.press("enter")
        await see(pilot, "Not now: failures", "nothing failed in this run")


async def test_failed_record_is_shown_with_its_location_and_request(
    filled: Any, opened: Open, see: Open, screen: Open
) -> None:
    async with opened(filled, size=(160, 40)) as pilot:
        await see(pilot, "failures of people ── 16 records, grouped")
        await pilot.press("tab", "end", "enter")
        await see(
            pilot, "1 of 2", "people.md:20", "waiting at write, server 503", "next in 3 min", "PUT /customers/w_2"
        )
        assert "the ledger is closed" in screen(pilot)
        await pilot.press("n")
        await see(pilot, "2 of 2", "PUT /customers/w_1")
        await pilot.press("n")
        await see(pilot, "this is the last record")


async def test_names_of_a_failure_and_its_run_are_readable_on_a_small_screen(
    filled: Any, opened: Open, see: Open
) -> None:
    run = list_runs(filled)[0].run
    async with opened(filled, size=(80, 24)) as pilot:
        await see(pilot, "failures of people ── 16 records, grouped")
        await pilot.press("tab", "home", "enter")
        await see(pilot, "people.md:40:17, row priority", run)


async def test_tab_shows_all_details_of_a_record_on_a_narrow_screen(filled: Any, opened: Open, see: Open) -> None:
    async with opened(filled, size=(60, 16)) as pilot:
        await pilot.press("tab")
        await see(pilot, "failures of people")
        await pilot.press("end", "enter")
        await see(pilot, "waiting at write, server 503")
        for tile, line in (
            ("source record", "id: w_2"),
            ("target record", "external_id: w_2"),
            ("request", "PUT"),
            ("response", "503"),
        ):
            await pilot.press("tab")
            await see(pilot, f"─ {tile} ──", line)
        await see(pilot, "the ledger is closed")


async def test_firing_alert_is_shown_with_the_failures(filled: Any, opened: Open, see: Open) -> None:
    since = format_timestamp(filled.clock.now() - timedelta(minutes=5))
    with filled.log() as log:
        alerts = [("too many dead", AlertState.FIRING, "dead_letters() is 14"), ("slow", AlertState.OK, "is unknown")]
        log.save_alerts("people", [AlertRow("people", name, state, since, shown) for name, state, shown in alerts])
    async with opened(filled, size=(160, 45)) as pilot:
        await see(pilot, "▲ 1 alert", "▲ firing    alert  too many dead: dead_letters() is 14", "5 min ago")
        await pilot.press("tab", "home", "D")
        await see(pilot, "─ newest of these ─", "this row is an alert, not a failed record")
        await pilot.press("enter")
        await see(pilot, "runs of people")


async def test_firing_alert_is_silenced_with_a_reason_and_released(filled: Any, opened: Open, see: Open) -> None:
    since = format_timestamp(filled.clock.now())
    with filled.log() as log:
        log.save_alerts("people", [AlertRow("people", "late", AlertState.FIRING, since, "lag() is 90 s")])
    async with opened(filled, size=(160, 45)) as pilot:
        await see(pilot, "▲ firing    alert  late: lag() is 90 s")
        await pilot.press("tab", "home", "m")
        await see(pilot, "silence late of people")
        await pilot.press(*"soon", "enter")
        await see(pilot, "expected a duration such as 30s, 5m or 24h, got 'soon'")
        await pilot.press(*["backspace"] * 4, *"2h upgrade", "enter")
        await see(pilot, "lag() is 90 s (silenced until ")
        with RunLogReader.open(filled.runlog) as reader:
            (silence,) = get_silences(reader, filled.clock.now())
        assert (silence.spec_id, silence.alert, silence.reason) == ("people", "late", "upgrade")
        await pilot.press("m")
        await see(pilot, "late is no longer silenced")


async def test_record_that_was_not_mapped_says_so(filled: Any, opened: Open, see: Open) -> None:
    async with opened(filled, size=(160, 40)) as pilot:
        await see(pilot, "failures of people ── 16 records, grouped")
        await pilot.press("tab", "home", "enter")
        await see(pilot, "people.md:40:17, row priority", 'given: "Ada "', "Not mapped.", "Nothing was sent.")


async def test_failed_record_leads_to_its_mapping_row(filled: Any, opened: Open, see: Open) -> None:
    async with opened(filled) as pilot:
        await see(pilot, "failures of people ── 16 records, grouped")
        await pilot.press("tab", "home", "enter")
        await see(pilot, "people.md:40:17, row priority")
        await pilot.press("e")
        await see(pilot, "people ▸ Field Mapping", "id: c_13")


async def test_reason_of_the_last_failed_run_is_above_its_failures(filled: Any, opened: Open, see: Open) -> None:
    filled.run("orders", error="stopped: 20 writes in a row failed with 503 Service Unavailable")
    async with opened(filled) as pilot:
        await see(pilot, "failures of orders", "✖ failed    run    stopped: 20 writes in a row")
        await pilot.press("tab", "enter")
        await see(pilot, "runs of orders")


async def test_event_is_shown_in_full(filled: Any, opened: Open, see: Open) -> None:
    with filled.log() as log:
        log.log_event("people", None, Level.WARNING, "log", "a long story, " * 20 + "and its end")
    async with opened(filled, size=(80, 24)) as pilot:
        await see(pilot, "a long story")
        pilot.app.query_one(EventLog).focus()
        await pilot.press("enter")
        await see(pilot, "people, 2026-11-24 09:41:10 UTC", "and its end")
