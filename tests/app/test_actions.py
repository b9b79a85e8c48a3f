"""The registry of actions, and everything that is generated from it."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from itertools import chain
from typing import Any, ClassVar

import pytest
from textual.app import App, ComposeResult
from textual.binding import BindingType
from textual.containers import Container
from textual.screen import ModalScreen
from textual.widgets import Button

from speclab.app import application, dialogs, view
from speclab.app import help as app_help
from speclab.app.actions import Action, Actor, bindings, key_name, offers
from speclab.app.application import SpeclabApp
from speclab.app.views.mapping import view as mapping
from speclab.app.views.monitor import failures, runs
from speclab.app.views.monitor import view as monitor
from speclab.app.views.specs import view as specs

MODULES = (application, view, specs, mapping, monitor, failures, runs, dialogs, app_help)
SWALLOWED = {"ctrl+b", "ctrl+j", "ctrl+q", "ctrl+s", "ctrl+enter", "alt+enter"}
"""Keys that a terminal, tmux or screen keeps for itself."""


def action_classes() -> Iterator[type[Actor]]:
    """Return all classes with actions."""
    waiting = list(Actor.__subclasses__())
    while waiting:
        actor = waiting.pop()
        waiting.extend(actor.__subclasses__())
        if actor.__module__.startswith("speclab") and actor.ACTIONS:
            yield actor


ACTORS = sorted(set(action_classes()), key=lambda actor: actor.__name__)


def test_views_and_the_app_have_actions() -> None:
    assert {"SpeclabApp", "MainScreen", "MonitorView", "SpecsView", "Grid", "FailuresPage"} <= {
        a.__name__ for a in ACTORS
    }


@pytest.mark.parametrize("actor", ACTORS, ids=lambda actor: actor.__name__)
def test_every_action_has_a_method_and_a_unique_key(actor: type[Actor]) -> None:
    for action in actor.ACTIONS:
        owners = (actor, *actor.CONTROLLERS)
        found = [owner for owner in owners if inspect.isfunction(getattr(owner, action.method, None))]
        assert len(found) == 1, f"{actor.__name__} has {len(found)} of {action.method}"
    keys = list(chain.from_iterable(action.keys for action in actor.ACTIONS))
    assert len(keys) == len(set(keys)), f"{actor.__name__} has a key twice: {sorted(keys)}"


@pytest.mark.parametrize("actor", ACTORS, ids=lambda actor: actor.__name__)
def test_every_action_has_a_key_that_terminals_send(actor: type[Actor]) -> None:
    for action in actor.ACTIONS:
        assert not action.keys or set(action.keys) - SWALLOWED, f"{action.id} is only on {action.keys}"


@pytest.mark.parametrize("actor", ACTORS, ids=lambda actor: actor.__name__)
def test_every_action_has_a_short_label_and_a_sentence(actor: type[Actor]) -> None:
    for action in actor.ACTIONS:
        assert 0 < len(action.title) <= (16 if action.footer else 24)
        assert action.description[0].isupper()
        assert action.description.endswith(".")


@pytest.mark.parametrize(
    ("key", "name"), [("question_mark", "?"), ("f12", "F12"), ("escape", "esc"), ("ctrl+p", "ctrl+p"), ("R", "R")]
)
def test_keys_are_shown_in_readable_form(key: str, name: str) -> None:
    assert key_name(key) == name


# Which widget handles an action, and why one is unavailable

INNER = (Action("save", "save", "Save.", ("s",)), Action("plain", "plain", "Move.", ("x",), palette=False))
OUTER = (Action("send", "send", "Send.", ("s",)), Action("other", "other", "Other.", ("x",)))


class Inner(Container, Actor):
    ACTIONS = INNER
    BINDINGS: ClassVar[list[BindingType]] = bindings(INNER)
    reason: str | None = None
    done = 0

    def compose(self) -> ComposeResult:
        yield Button("here")

    def explain_disabled(self, action: str) -> str | None:
        return self.reason if action == "save" else None

    async def action_save(self) -> None:
        self.done += 1

    def action_plain(self) -> None:
        self.done += 100


class Box(ModalScreen[None], Actor):
    ACTIONS = INNER

    def compose(self) -> ComposeResult:
        yield Button("there")


class Small(App[None], Actor):
    ACTIONS = OUTER
    BINDINGS: ClassVar[list[BindingType]] = bindings(OUTER)

    def compose(self) -> ComposeResult:
        yield Inner()


async def test_nearest_widget_handles_the_key_except_for_cursor_keys() -> None:
    async with Small().run_test() as pilot:
        found = [offer.action.id for offer in offers(pilot.app.query_one(Button))]
        assert found == ["save", "plain", "other"]


async def test_no_action_behind_a_dialog_is_offered() -> None:
    async with Small().run_test() as pilot:
        await pilot.app.push_screen(Box())
        assert [offer.action.id for offer in offers(pilot.app.screen.query_one(Button))] == ["save", "plain"]


async def test_unavailable_action_shows_its_reason_and_is_not_run() -> None:
    async with Small().run_test(notifications=True) as pilot:
        inner = pilot.app.query_one(Inner)
        await pilot.press("s")
        assert inner.done == 1
        inner.reason = "nothing has changed"
        await pilot.press("s")
        assert inner.done == 1
        toast = next(iter(pilot.app._notifications))
        assert (toast.title, toast.message) == ("Not now: save", "nothing has changed")


async def test_repeated_unavailable_keys_show_one_toast(filled: Any, see: Any, screen: Any) -> None:
    app = SpeclabApp(filled.directory, view="monitor", clock=filled.clock, read_only=True)
    async with app.run_test(size=(120, 40), notifications=True) as pilot:
        await see(pilot, "failures of people")
        app.notify("something else", timeout=60)
        await pilot.press("r", "D", "r", "R", "space")
        await see(pilot, "something else", "Not now: pause")
        assert screen(pilot).count("Not now") == 1


# Where actions are listed


async def test_help_lists_actions_and_why_some_are_unavailable(filled: Any, see: Any) -> None:
    app = SpeclabApp(filled.directory, view="monitor", clock=filled.clock, read_only=True)
    async with app.run_test(size=(120, 40)) as pilot:
        await see(pilot, "failures of people")
        for key in ("question_mark", "f1"):
            await pilot.press(key)
            await see(pilot, "in monitor", "run now", "Not now: the app was started with --read-only")
            await pilot.press("escape")


async def test_help_wraps_sentences_in_a_narrow_terminal(filled: Any, see: Any, screen: Any) -> None:
    app = SpeclabApp(filled.directory, view="monitor", clock=filled.clock)
    async with app.run_test(size=(60, 20)) as pilot:
        await see(pilot, "▲ people")
        await pilot.press("question_mark")
        await see(pilot, "in monitor", "Open the runs of", "event.")
        box = [line[2:-2] for line in screen(pilot).splitlines() if line[2:3] in {"│", "╭"}]
        assert len(box) > 10
        assert not any("…" in line for line in box)


async def test_palette_finds_by_a_few_letters_and_runs_the_chosen_action(filled: Any, see: Any) -> None:
    app = SpeclabApp(filled.directory, view="monitor", clock=filled.clock)
    async with app.run_test(size=(120, 40)) as pilot:
        await see(pilot, "failures of people")
        await pilot.press("ctrl+p")
        await see(pilot, "everything", "light or dark", "Redraw the screen.")
        await pilot.press(*"lod", "enter")
        await pilot.pause()
        assert app.theme == "speclab-light"


async def test_palette_shows_why_an_action_is_unavailable(filled: Any, see: Any) -> None:
    app = SpeclabApp(filled.directory, view="monitor", clock=filled.clock, read_only=True)
    async with app.run_test(size=(120, 40), notifications=True) as pilot:
        await see(pilot, "failures of people")
        await pilot.press("ctrl+p", *"run n")
        await see(pilot, "run now", "the app was started with --read-only")
        await pilot.press("enter")
        await see(pilot, "Not now: run")


async def test_footer_shows_as_many_keys_as_fit_and_runs_them_on_a_click(filled: Any, see: Any) -> None:
    app = SpeclabApp(filled.directory, view="monitor", clock=filled.clock)
    async with app.run_test(size=(80, 24)) as pilot:
        await see(pilot, "tab pane   enter open   r run now", "? help   ctrl+p everything")
        await pilot.click("KeyBar", offset=(58, 0))
        await see(pilot, "in monitor")
