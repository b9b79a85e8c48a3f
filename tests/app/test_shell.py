"""The app around its views: switching views, narrow and monochrome terminals, and a clean exit."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest

from speclab.app.application import SpeclabApp
from speclab.app.dialogs import ChoiceDialog, ConfirmDialog, PromptDialog
from speclab.app.formatting import THEMES
from speclab.app.widgets.grid import GridRow

OPEN = """
import sys
from pathlib import Path
from speclab.app import run_app
run_app(Path(sys.argv[1]), view="monitor", ascii="--ascii" in sys.argv)
"""

See = Callable[..., Any]


async def test_keys_and_tabs_switch_views_and_each_keeps_its_state(filled: Any, see: See, until: See) -> None:
    app = SpeclabApp(filled.directory, view="monitor", clock=filled.clock)
    async with app.run_test(size=(120, 40)) as pilot:
        await see(pilot, "integrations")
        monitor = app.view
        await pilot.press("1")
        await until(pilot, lambda: app.view is not None and app.view.NAME == "specs")
        await pilot.press("2")
        await until(pilot, lambda: app.view is not None and app.view.NAME == "mapping")
        await pilot.click("HeaderBar", offset=(33, 0))
        await until(pilot, lambda: app.view is monitor)


async def test_view_key_closes_the_open_page(filled: Any, see: See, until: See) -> None:
    app = SpeclabApp(filled.directory, view="monitor", clock=filled.clock)
    async with app.run_test(size=(120, 40)) as pilot:
        await see(pilot, "failures of people")
        await pilot.press("enter")
        await see(pilot, "runs of people")
        await pilot.press("3")
        await until(pilot, lambda: app.screen is app.main)


async def test_narrow_terminal_shows_one_pane_and_its_name(filled: Any, see: See) -> None:
    app = SpeclabApp(filled.directory, view="monitor", clock=filled.clock)
    async with app.run_test(size=(64, 20)) as pilot:
        await see(pilot, "3 Monitor ▸ integrations", "partial 6 min ago")
        assert len([panel for panel in app.main.query("Panel") if panel.region]) == 1
        await pilot.press("tab")
        await see(pilot, "3 Monitor ▸ failures of people", "no entry for")
        await pilot.press("tab")
        await see(pilot, "3 Monitor ▸ events", "succeeded")
        assert app.main.query_one("#events").region.size == (64, 18)
        await pilot.press("shift+tab")
        await see(pilot, "3 Monitor ▸ failures of people")
        await pilot.resize_terminal(120, 40)
        await see(pilot, "integrations", "failures of people", "events")


@pytest.mark.parametrize("theme", [theme.name for theme in THEMES])
async def test_every_theme_renders(filled: Any, see: See, theme: str) -> None:
    app = SpeclabApp(filled.directory, view="monitor", clock=filled.clock)
    async with app.run_test(size=(80, 24)) as pilot:
        app.theme = theme
        await see(pilot, "integrations")
        await pilot.press("ctrl+p")
        await see(pilot, "everything")


# Dialogs


async def test_question_is_answered_by_yes_no_enter_or_escape(workspace: Any) -> None:
    app = SpeclabApp(workspace.directory, clock=workspace.clock)
    async with app.run_test() as pilot:
        for key, answer in (("y", True), ("enter", True), ("n", False), ("escape", False)):
            results: list[bool | None] = []
            await app.push_screen(ConfirmDialog("leave", "Really?", yes="leave"), results.append)
            await pilot.press(key)
            await pilot.pause()
            assert results == [answer]


async def test_prompt_accepts_only_valid_input(workspace: Any, see: See) -> None:
    app = SpeclabApp(workspace.directory, clock=workspace.clock)
    async with app.run_test() as pilot:
        results: list[str | None] = []
        wrong = lambda text: None if text.isdigit() else "A number is needed."  # noqa: E731
        await app.push_screen(PromptDialog("size", "How many?", value="x", validate=wrong), results.append)
        await pilot.press("enter")
        await see(pilot, "A number is needed.")
        await pilot.press("backspace", "4", "2", "enter")
        await pilot.pause()
        assert results == ["42"]


async def test_choice_starts_at_the_current_value(workspace: Any) -> None:
    app = SpeclabApp(workspace.directory, clock=workspace.clock)
    async with app.run_test() as pilot:
        results: list[str | None] = []
        options = [
            GridRow("h", ("Hourly", "every hour")),
            GridRow("d", ("Daily", "once a day")),
            GridRow("o", ("On-demand", "")),
        ]
        await app.push_screen(ChoiceDialog("frequency", options, now="d"), results.append)
        await pilot.press("down", "enter")
        await pilot.pause()
        assert results == ["o"]


# Terminals


def test_no_color_sends_no_color_and_icons_carry_the_meaning(filled: Any, pty: Callable[..., Any]) -> None:
    terminal = pty(OPEN, str(filled.directory), NO_COLOR="1")
    terminal.until("✔ orders")
    terminal.settle()
    colours = re.findall(r"\x1b\[[0-9;]*m", terminal.sent)
    assert not [code for code in colours if re.search(r"[\[;](3[0-8]|4[0-8]|9[0-7]|10[0-7])[;m]", code)]


def test_terminal_of_sixteen_colors_gets_its_own_colors(filled: Any, pty: Callable[..., Any]) -> None:
    terminal = pty(OPEN, str(filled.directory), TERM="xterm", COLORTERM="")
    terminal.until("✔ orders")
    terminal.settle()
    assert re.search(r"\x1b\[[0-9;]*3[1-7]m", terminal.sent)
    assert not re.search(r"[\[;][34]8;[25];", terminal.sent)


def test_ascii_mode_draws_ascii_only(filled: Any, pty: Callable[..., Any]) -> None:
    terminal = pty(OPEN, str(filled.directory), "--ascii")
    terminal.until("+ orders")
    terminal.settle()
    assert terminal.sent.isascii()


@pytest.mark.parametrize("environ", [{"TERM": "dumb"}, {"TERM": ""}])
def test_terminal_that_cannot_position_text_gets_a_message(
    filled: Any, pty: Callable[..., Any], environ: dict[str, str]
) -> None:
    terminal = pty(OPEN, str(filled.directory), **environ)
    terminal.until("UsageError")
    assert "the app needs a terminal" in terminal.text
    assert "\x1b[?1049h" not in terminal.sent


def test_pipe_gets_a_message(filled: Any) -> None:
    done = subprocess.run(
        [sys.executable, "-c", OPEN, str(filled.directory)], capture_output=True, text=True, check=False
    )
    assert "the app needs a terminal" in done.stderr
    assert "\x1b" not in done.stdout + done.stderr


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_terminated_app_restores_the_terminal(filled: Any, pty: Callable[..., Any], number: signal.Signals) -> None:
    terminal = pty(OPEN, str(filled.directory))
    terminal.until("orders")
    os.kill(terminal.child.pid, number)
    terminal.settle(1.0)
    assert "\x1b[?1049l" in terminal.sent
    assert "\x1b[?25h" in terminal.sent
    terminal.child.wait()
    assert terminal.child.exitstatus == 0


def test_idle_app_sends_almost_nothing(filled: Any, pty: Callable[..., Any]) -> None:
    terminal = pty(OPEN, str(filled.directory), width=160, height=45)
    terminal.until("orders")
    terminal.settle()
    assert len(terminal.read(3).encode()) <= 3 * 100


def test_screen_is_redrawn_after_a_suspend(filled: Any, pty: Callable[..., Any]) -> None:
    terminal = pty(OPEN, str(filled.directory))
    terminal.until("orders")
    before = terminal.text
    terminal.screen.reset()
    terminal.press("\x0c")
    terminal.until("orders")
    assert terminal.text == before


def test_first_frame_is_painted_before_heavy_imports() -> None:
    heavy = ["pydantic", "httpx", "sqlalchemy", "cel", "watchfiles", "sqlite3", "markdown_it", "yaml", "jsonschema_rs"]
    program = f"import sys, speclab.app.application; print([name for name in {heavy} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


async def test_brackets_in_names_are_plain_text(filled: Any, see: See) -> None:
    app = SpeclabApp(filled.directory, view="monitor", clock=filled.clock)
    async with app.run_test(size=(120, 40), notifications=True) as pilot:
        await see(pilot, "integrations")
        app.notify("of [/crm] and [b]erp", title="what is [new]")
        app.push_screen(ConfirmDialog("retry 3 records of [/crm]", "of [/crm], again", yes="retry"))
        await see(pilot, "of [/crm] and [b]erp", "what is [new]", "retry 3 records of [/crm]", "of [/crm], again")
