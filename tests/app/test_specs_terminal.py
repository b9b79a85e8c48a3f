"""The Specs view in a real terminal: bytes per key, crashes, and an external editor."""

from __future__ import annotations

import os
import shutil
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from speclab.app.views.specs.editor import edit_externally
from speclab.core.errors import SpeclabError

Terminal = Callable[..., Any]

HEAD = """---
spec_id: crm
type: integration
status: draft
---

# Spec: CRM

## Problem Statement

"""
PROSE = "Sales keeps customers in the CRM, finance bills from the billing system, and somebody re-types them.\n" * 40
APP = "import sys; from pathlib import Path; from speclab.app import run_app; run_app(Path(sys.argv[1]))"


@pytest.fixture
def spec(tmp_path: Path) -> Path:
    path = tmp_path / "crm.md"
    path.write_text(f"{HEAD}{PROSE}\n## Out of Scope\n\nOrders.\n")
    return path


def open_section(pty: Terminal, spec: Path, **environ: str) -> Any:
    """Start the app with the section of 4 KB open."""
    terminal = pty(APP, str(spec.parent), width=120, height=40, **environ)
    terminal.until("✔ Problem Statement")
    terminal.settle()
    terminal.press("j")
    terminal.until("Sales keeps customers")
    return terminal


def test_key_in_a_section_of_four_kilobytes_sends_few_bytes_and_no_key_sends_nothing(pty: Terminal, spec: Path) -> None:
    terminal = open_section(pty, spec)
    terminal.press("\r")
    terminal.until("editing")
    terminal.settle()
    for letter in "hi":
        terminal.press(letter)
        sent = terminal.until(lambda text, letter=letter: f"{letter}Sales" in text)
        assert len(sent.encode()) < 6000
    terminal.settle(1.0)
    assert len(terminal.read(1.5).encode()) < 150


def test_screen_is_redrawn_after_a_suspend(pty: Terminal, spec: Path) -> None:
    terminal = open_section(pty, spec)
    before = terminal.text
    terminal.child.kill(signal.SIGTSTP)
    _, status = os.waitpid(terminal.child.pid, os.WUNTRACED)
    assert os.WIFSTOPPED(status)
    terminal.settle()
    terminal.screen.reset()  # the output of a shell
    terminal.child.kill(signal.SIGCONT)
    terminal.until(lambda text: text == before)


def test_typed_text_is_offered_after_the_app_was_killed(pty: Terminal, spec: Path) -> None:
    before = spec.read_text()
    recovery = spec.parent / ".speclab" / "recovery"
    terminal = open_section(pty, spec)
    terminal.press("\r")
    terminal.until("editing")
    terminal.press("Never lose this. ")
    terminal.until(lambda _: recovery.exists() and any("lose this" in file.read_text() for file in recovery.iterdir()))
    terminal.child.kill(signal.SIGKILL)
    terminal.child.wait()
    assert spec.read_text() == before

    again = pty(APP, str(spec.parent), width=120, height=40)
    again.until("restore")
    again.press("y")
    again.until("unsaved")
    again.press("\x1bOQ")  # F2
    again.until("crm.md is saved")
    assert spec.read_text() == before.replace("Sales keeps", "Never lose this. Sales keeps", 1)


def crashing(what: str) -> str:
    """Return a program that opens the app; its action redraw (ctrl+l) fails with `what`."""
    return f"""
import sys
from speclab.app.application import SpeclabApp
from speclab.cli import main
secret = "hunter2-of-a-local-variable"
async def fail(self):
    local = secret
    {what}
SpeclabApp.action_redraw = fail
main(sys.argv[1:])
"""


@pytest.mark.parametrize(
    "what",
    [
        "raise IndexError('list index out of range')",
        "self.run_worker(self.no_such_method_anywhere())",
        "self.call_later(lambda: 1 / 0)",
        "self.panic('the input thread failed')",
    ],
)
def test_crash_exits_with_1_and_names_the_file_with_the_recovered_text(pty: Terminal, spec: Path, what: str) -> None:
    terminal = pty(crashing(what), str(spec.parent), width=200, height=60)
    terminal.until("✔ Problem Statement")
    terminal.settle()
    terminal.press("j")
    terminal.until("Sales keeps customers")
    terminal.press("\r")
    terminal.until("editing")
    terminal.press("Never lose this. \x0c")
    terminal.until("the app crashed")
    terminal.child.wait()
    assert terminal.child.exitstatus == 1
    (recovery,) = (spec.parent / ".speclab" / "recovery").iterdir()
    assert "Never lose this. Sales keeps" in recovery.read_text()
    assert f"is in {recovery}" in terminal.text.replace("\n", "")
    assert "hunter2" not in terminal.sent
    assert r"\x1b" not in terminal.text  # the traceback is plain text


@pytest.mark.parametrize("data", [b"\xff", b"\xc3(", b"\xed\xa0\x80", b"\xf0\x9f\x98", b"\x1b[\xff", b"\x80" * 5000])
def test_invalid_utf8_is_shown_as_replacement_characters(pty: Terminal, spec: Path, data: bytes) -> None:
    terminal = open_section(pty, spec)
    terminal.press("\r")
    terminal.until("editing")
    os.write(terminal.child.child_fd, data)
    terminal.press(" before é after ")
    terminal.until("before é")  # the position of the line break depends on how much input the pty accepted
    terminal.settle()
    terminal.press("\x1bOQ")  # F2
    terminal.until("crm.md is saved")
    assert "before é after" in spec.read_text()


def test_crash_without_unsaved_text_says_so(pty: Terminal, spec: Path) -> None:
    terminal = pty(crashing("raise IndexError"), str(spec.parent), width=120, height=40)
    terminal.until("✔ Problem Statement")
    terminal.press("\x0c")
    terminal.until("No text was unsaved.")
    terminal.child.wait()
    assert terminal.child.exitstatus == 1


def test_section_is_edited_in_an_external_editor(pty: Terminal, spec: Path, tmp_path: Path) -> None:
    before = spec.read_text()
    editor = tmp_path / "editor.py"
    editor.write_text(
        "import sys, pathlib\n"
        "path = pathlib.Path(sys.argv[1])\n"
        "path.write_bytes(path.read_bytes().replace(b'Orders.', b'Orders,\\ninvoices.'))\n"
    )
    terminal = open_section(pty, spec, EDITOR=f"{sys.executable} {editor}")
    terminal.press("j")
    terminal.until("Orders.")
    terminal.press("\x1bOS")  # F4
    terminal.until("invoices.")
    terminal.press("\x1bOQ")
    terminal.until("crm.md is saved")
    assert spec.read_text() == before.replace("Orders.", "Orders,\ninvoices.")


@pytest.mark.parametrize(
    ("editor", "reason"), [("no-such-editor", "cannot be started"), (f"{sys.executable} -c exit(3)", "exit code 3")]
)
def test_failing_editor_is_reported(monkeypatch: pytest.MonkeyPatch, editor: str, reason: str) -> None:
    monkeypatch.delenv("VISUAL", raising=False)
    monkeypatch.setenv("EDITOR", editor)
    with pytest.raises(SpeclabError, match=reason):
        edit_externally("Orders.", "Out of Scope")


def test_control_characters_of_a_spec_are_shown_and_never_sent(pty: Terminal, tmp_path: Path) -> None:
    hostile = "\x1b]52;c;cm0=\x07\x1b]0;title\x07\x9b31m\x9d0;t\x9c\u202egnp\u2066end"
    (tmp_path / "crm.md").write_text(f"{HEAD}{hostile}\n\n## Out of Scope\n\nOrders.\n")
    terminal = pty(APP, str(tmp_path), width=80, height=24)
    terminal.until("✔ Problem Statement")
    terminal.settle()
    terminal.press("j")
    terminal.until("gnp")
    terminal.press("\r")
    terminal.until("editing")
    terminal.press("\x1b[200~pasted \x9b\u202e\x1b[201~")
    terminal.until("pasted")
    obeyed = ("\x1b]52", "\x1b]0", "\x9b", "\x9d", "\x9c", "\u202e", "\u2066")
    assert [one for one in obeyed if one in terminal.sent] == []


def to_pipe(spec: Path) -> None:
    spec.unlink()
    os.mkfifo(spec)


def to_link_to_itself(spec: Path) -> None:
    spec.unlink()
    spec.symlink_to(spec)


def to_24_megabytes(spec: Path) -> None:
    with spec.open("a") as file:
        file.write("Sales keeps customers in the CRM.\n" * 700_000)


@pytest.mark.parametrize("replace", [to_pipe, to_link_to_itself, to_24_megabytes])
def test_app_responds_after_the_open_spec_was_replaced(
    pty: Terminal, spec: Path, replace: Callable[[Path], None]
) -> None:
    terminal = open_section(pty, spec)
    replace(spec)
    terminal.until("The spec was replaced")
    terminal.press("j")
    terminal.until("Orders.")
    terminal.press("\r")
    terminal.until("editing")
    terminal.press("Kept. ")
    terminal.until("Kept. Orders.")
    terminal.press("\x1bOQ")  # F2
    terminal.until("Not saved")
    terminal.child.kill(signal.SIGTERM)
    terminal.read(5)
    terminal.child.wait()
    (recovery,) = (spec.parent / ".speclab" / "recovery").iterdir()
    assert "Kept. Orders." in recovery.read_text()


def test_app_responds_after_its_workspace_and_current_directory_were_removed(pty: Terminal, spec: Path) -> None:
    terminal = pty(f"import os; os.chdir({str(spec.parent)!r}); {APP}", ".", width=120, height=40)
    terminal.until("✔ Problem Statement")
    terminal.settle()
    shutil.rmtree(spec.parent)
    terminal.until("crm.md is gone")
    terminal.press("3")
    terminal.until("No integrations here yet.")
    terminal.press("2")
    terminal.settle()
    terminal.press("1")
    terminal.until("✔ Problem Statement")
    terminal.press("q")
    terminal.until("the file is gone")
    terminal.press("y")
    terminal.read(5)
    terminal.child.wait()
    assert terminal.child.exitstatus == 0
    assert not (spec.parent.parent / ".speclab").exists()  # nothing is written outside the workspace
