"""A hostile workspace is opened, listed, linted, mapped and watched without effect.

No connection, no process, no file outside, no escape on the terminal, no secret, under 300 MB, in a few seconds.
"""

from __future__ import annotations

import os
import re
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pexpect
import pytest
from tests.app.conftest import Pty
from tests.security.hostile import OUTSIDE, SECRET, Hostile

AUDITED = Path(__file__).with_name("audited.py")
MEGABYTES = 300
SECONDS = 20
"""Five on a machine with nothing else to do; these share theirs."""
OWNED = re.compile(r"\x1b\]|\x1b\[6n|\x1b\[31mowned|[\x80-\x9f\u202a-\u202e\u2066-\u2069]")
OF_THE_APP = re.compile(
    r"\x1b\]52;c;b3duZWQ|\x1b\][08];[^\x07]*owned|\x1b\[31mowned|[\x80-\x9f\u202a-\u202e\u2066-\u2069]"
)


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hostile]:
    made = Hostile(tmp_path_factory.mktemp("hostile"))
    made.build()
    yield made
    made.listener.close()


@pytest.fixture
def environ(hostile: Hostile) -> dict[str, str]:
    """Return the environment of a user with a secret and without trusted specs."""
    return {
        **os.environ,
        "SPECLAB_TRUST": "",
        "SECRET": SECRET,
        "VAULT_TOKEN": SECRET,
        "XDG_STATE_HOME": str(hostile.root / "state"),
        "TERM": "xterm-256color",
    }


def judge(hostile: Hostile) -> None:
    """Raise if an attack succeeded."""
    events = (hostile.root / "audit").read_text().splitlines()
    (hostile.root / "audit").unlink()
    peaks = [int(event.split()[1]) for event in events if event.startswith("peak ")]
    assert [event for event in events if not event.startswith("peak ")] == []
    assert hostile.loot() == []
    assert peaks
    assert max(peaks) < MEGABYTES * 1000


COMMANDS = [
    ["lint"],
    ["lint", "--json"],
    *(
        [command, spec]
        for command in ("lint", "show")
        for spec in ("escapes", "specs/names.md", "anchors", "growth", "cel")
    ),
    *(["lint", f"specs/{name}.md"] for name in ("settings", "checks", "rows", "huge", "pipe", "loop", "endless")),
    *(["map", name, "--sample", f".speclab/samples/{name}.jsonl"] for name in ("growth", "regex", "escapes")),
    ["status"],
    ["runs"],
    ["failures"],
    ["trust"],
    *(["trust", name] for name in ("mysql", "http", "vault", "tap", "above", "linked", "escapes")),
    *(["run", name] for name in ("mysql", "http", "vault", "tap", "above", "linked", "absolute", "sqlite", "file")),
    *(["plan", name] for name in ("postgresql", "target")),
    *(["auth", name] for name in ("login", "http")),
    *(["fields", name, "source"] for name in ("tap", "postgresql")),
    ["pause", "escapes"],
]


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_commands_resist_a_hostile_workspace(hostile: Hostile, environ: dict[str, str], command: list[str]) -> None:
    start = time.monotonic()
    child = pexpect.spawn(
        sys.executable,
        ["-P", str(AUDITED), str(hostile.root / "audit"), str(hostile.outside), *command],
        cwd=hostile.workspace,
        env=environ,
        encoding="utf-8",
        timeout=SECONDS,
        dimensions=(24, 80),
    )
    output = ""
    while (found := child.expect([r"\[y/N\]", pexpect.EOF])) == 0:
        output += child.before or ""
        child.sendline("n")
    assert found == 1
    output += child.before or ""
    child.close()
    assert time.monotonic() - start < SECONDS
    assert child.signalstatus is None
    assert "Traceback" not in output
    assert SECRET not in output
    assert OUTSIDE not in output
    assert OWNED.search(output) is None
    judge(hostile)


def test_watch_resists_a_hostile_workspace(hostile: Hostile, environ: dict[str, str]) -> None:
    child = pexpect.spawn(
        sys.executable,
        ["-P", str(AUDITED), str(hostile.root / "audit"), str(hostile.outside), "watch"],
        cwd=hostile.workspace,
        env=environ,
        encoding="utf-8",
        timeout=SECONDS * 3,
        dimensions=(24, 80),
    )
    child.expect("values.md")
    output = child.before or ""
    child.sendintr()
    child.expect(pexpect.EOF)
    output += child.before or ""
    child.close()
    assert "Traceback" not in output
    assert OUTSIDE not in output
    assert OWNED.search(output) is None
    judge(hostile)


def test_app_resists_a_hostile_workspace(
    hostile: Hostile, environ: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(hostile.workspace)
    arguments = [str(hostile.root / "audit"), str(hostile.outside), str(hostile.workspace)]
    app = Pty([sys.executable, "-P", str(AUDITED), *arguments], width=80, height=24, **environ)
    app.until("Specs")
    for keys in ["\x1b[B"] * 30 + ["2", "\r", "\x1b", "3"]:  # each spec in turn, a mapping, a cell, the Monitor
        app.press(keys)
        app.settle(0.2)
    app.press("q")
    app.child.expect(pexpect.EOF)
    app.close()
    assert "Traceback" not in app.sent
    assert SECRET not in app.sent
    assert OUTSIDE not in app.sent
    assert OF_THE_APP.search(app.sent) is None
    judge(hostile)
