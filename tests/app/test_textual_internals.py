"""The private parts of Textual that `speclab.app.terminal` uses: each exists and behaves as the code there expects.

If one of these tests fails after an update of Textual, adapt the class that it names.
"""

from __future__ import annotations

import ast
import inspect
import re
from collections.abc import Iterator
from functools import cache
from importlib import import_module
from io import TextIOWrapper
from pathlib import Path

import pytest
from rich.console import RenderableType
from rich.segment import Segment
from textual._compositor import ChopsUpdate, Compositor, CompositorUpdate, LayoutUpdate, ReflowResult
from textual._parser import ParseError
from textual._xterm_parser import XTermParser
from textual.app import App, ComposeResult
from textual.binding import Binding
from textual.drivers.linux_driver import LinuxDriver
from textual.events import Key
from textual.notifications import Notification
from textual.screen import Screen
from textual.strip import Strip
from textual.widgets import Label

import speclab.app
from speclab.app.terminal import CrashSafeApp, DiffingApp, InputDriver, ResizeFixScreen, get_bound_keys

SOURCE = Path(speclab.app.__file__).parent


@cache
def attributes_by_class(module: str) -> dict[str, set[str]]:
    """Return the private attributes and methods of each class in a module of Textual."""
    tree = ast.parse(Path(inspect.getfile(import_module(module))).read_text("utf-8"))
    found = {}
    for node in tree.body:
        if isinstance(node, ast.ClassDef):
            names = {getattr(each, "attr", getattr(each, "name", "")) for each in ast.walk(node)}
            found[node.name] = {name for name in names if isinstance(name, str) and re.match("_[a-z]", name)}
    return found


def private_names(cls: type) -> set[str]:
    """Return the private names of the classes of Textual that `cls` derives from."""
    bases = [base for base in cls.__mro__ if base.__module__.startswith("textual")]
    return {name for base in bases for name in attributes_by_class(base.__module__).get(base.__name__, ())}


def private_uses(path: Path) -> Iterator[str]:
    """Yield the private parts of Textual that the module at `path` imports, overrides or uses through `self`."""
    name = ".".join(("speclab.app", *path.relative_to(SOURCE).with_suffix("").parts)).removesuffix(".__init__")
    module, tree = import_module(name), ast.parse(path.read_text("utf-8"))
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and re.match(r"textual(\.\w+)*\._", node.module or ""):
            yield f"{path.name}:{node.lineno} {node.module}"
        if isinstance(node, ast.ClassDef) and (names := private_names(getattr(module, node.name, object))):
            for inner in ast.walk(node):
                used = inner.attr if isinstance(inner, ast.Attribute) else getattr(inner, "name", "")
                if used in names:
                    yield f"{path.name}:{inner.lineno} {node.name}.{used}"  # type: ignore[attr-defined]
        if isinstance(node, ast.Attribute) and node.attr in {"_bindings", "_compositor", "_nodes", "_workers"}:
            yield f"{path.name}:{node.lineno} {node.attr}"


def test_private_parts_of_textual_are_used_only_in_the_terminal_module() -> None:
    paths = [path for path in SOURCE.rglob("*.py") if path.name != "terminal.py"]
    assert [use for path in paths for use in private_uses(path)] == []
    assert any(private_uses(SOURCE / "terminal.py"))  # the search finds some


# InputDriver and LastingDriver


def test_the_parser_turns_text_into_key_events_and_rejects_text_after_its_end() -> None:
    parser = XTermParser(debug=False)
    (key,) = parser.feed("a")
    assert isinstance(key, Key)
    assert key.character == "a"
    assert list(parser.tick()) == []
    assert issubclass(ParseError, Exception)


async def test_the_driver_reads_in_a_method_and_writes_to_its_file() -> None:
    assert list(inspect.signature(LinuxDriver.run_input_thread).parameters) == ["self"]
    driver = InputDriver(App[None](), debug=True)
    assert driver._debug is True
    assert isinstance(driver._file, TextIOWrapper)
    assert "WriterThread(self._file)" in inspect.getsource(LinuxDriver.start_application_mode)
    assert all(hasattr(driver, name) for name in ("fileno", "exit_event", "process_message"))


# CrashSafeApp


class Crashing(CrashSafeApp[None]):
    saved = 0

    def save_before_crash(self) -> None:
        self.saved += 1

    def on_key(self) -> None:
        raise ValueError("out of tune")


async def test_an_exception_ends_the_app_through_fatal_error_after_saving() -> None:
    app = Crashing()
    with pytest.raises(ValueError, match="out of tune"):
        async with app.run_test() as pilot:
            await pilot.press("x")
    assert app.saved == 1
    assert app.return_code == 1


async def test_a_panic_sets_the_exit_code() -> None:
    app = Crashing()
    async with app.run_test():
        app.panic("the terminal is gone")
    assert (app.saved, app.return_code) == (1, 1)


class Toast(Notification):
    """Another kind of toast."""


async def test_toasts_of_one_kind_are_removed_from_the_notifications() -> None:
    app = Crashing()
    async with app.run_test() as pilot:
        app.notify("stays")
        app._notifications.add(Toast("goes"))
        await pilot.pause()
        app.remove_toasts(Toast)
        assert [shown.message for shown in app._notifications] == ["stays"]


# get_bound_keys


class Bound(Label):
    BINDINGS = [Binding("f7,f9", "nothing", "nothing")]  # noqa: RUF012 (no ClassVar in Textual)


def test_a_node_has_its_bindings_by_key() -> None:
    assert {"f7", "f9"} <= get_bound_keys(Bound("text"))
    assert "f8" not in get_bound_keys(Bound("text"))


# ResizeFixCompositor and ResizeFixScreen


async def test_the_screen_uses_the_compositor_of_its_attribute_whose_map_is_kept() -> None:
    class Small(App[None]):
        def get_default_screen(self) -> Screen[None]:
            return ResizeFixScreen()

        def compose(self) -> ComposeResult:
            yield Label("text")

    assert isinstance(vars(Screen[None]())["_compositor"], Compositor)
    assert ReflowResult._fields == ("hidden", "shown", "resized")
    app = Small()
    async with app.run_test() as pilot:
        await pilot.pause()
        label, compositor = app.query_one(Label), app.screen._compositor
        assert compositor is vars(app.screen)["_compositor"]
        assert compositor.full_map is compositor._full_map
        assert label in compositor.full_map
        assert label in compositor.widgets


# DiffingApp


async def test_everything_drawn_passes_through_display_as_updates_with_strips() -> None:
    class Recording(DiffingApp[None]):
        def compose(self) -> ComposeResult:
            yield Label("text")

        def _display(self, screen: Screen[object], renderable: RenderableType | CompositorUpdate | None) -> None:
            drawn.append(renderable)
            super()._display(screen, renderable)

    drawn: list[object] = []
    app = Recording()
    async with app.run_test() as pilot:
        await pilot.pause()
        app.query_one(Label).update("more")
        await pilot.pause()
    layouts = [update for update in drawn if isinstance(update, LayoutUpdate)]
    parts = [update for update in drawn if isinstance(update, ChopsUpdate)]
    assert layouts
    assert parts
    assert all(isinstance(strip, Strip) for line in layouts[0].strips for strip in line)
    assert layouts[0].region.width == app.size.width
    assert len(parts[0].chops) == len(parts[0].chop_ends) == app.size.height
    assert all(len(span) == 3 for span in parts[0].spans)


def test_an_update_is_rendered_by_its_method_and_a_style_as_sgr_codes() -> None:
    assert "console" in inspect.signature(CompositorUpdate.render_segments).parameters
    assert Strip([Segment("text")]).cell_length == 4
