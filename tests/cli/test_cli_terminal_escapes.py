"""Control characters from specs, records, servers and file names are shown on the terminal, never obeyed by it."""

from __future__ import annotations

import json
import os
import re
import sys
from pathlib import Path

import pexpect
import pytest
from tests.cli.conftest import Api, Shell

HOSTILE = "\x1b]52;c;cm0gLXJm\x07\x1b]8;;file:///etc/passwd\x07\x1b]0;title\x07\x1b[2J\x9b31m\x9d0;t\x9c\u202egnp\u2066"
RAW = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]|\r(?!\n)")


@pytest.fixture
def hostile(shell: Shell, api: Api) -> Shell:
    """A workspace with hostile text in the spec and in the keys and values of its records."""
    path = shell.spec(api.source(), step="Required, Date")
    path.write_text(path.read_text().replace("|       |\n\n", f"| {HOSTILE} |\n\n", 1))
    api.body = json.dumps({"data": [{"id": HOSTILE, "name": HOSTILE}, {"id": 2, "name": None, HOSTILE: 1}]})
    return shell


def on_a_terminal(shell: Shell, *args: str) -> str:
    """Return what `speclab` sends to a terminal."""
    child = pexpect.spawn(
        sys.executable,
        ["-P", "-m", "speclab", *args],
        cwd=str(shell.directory),
        env=os.environ | shell.env | {"TERM": "xterm"},
        encoding="utf-8",
        timeout=60,
    )
    child.expect(pexpect.EOF)
    child.close()
    return str(child.before)


COMMANDS = (
    "run people",
    "failures people --full",
    "runs",
    "status",
    "show people",
    "lint",
    "lint --format github",
    "plan people",
    "fields people source",
    "auth people",
    "map people --sample sample.jsonl",
)


def test_no_command_sends_control_characters_to_the_terminal(hostile: Shell) -> None:
    hostile.write("sample.jsonl", json.dumps({"id": HOSTILE, "name": "2026-01-01", HOSTILE: 2}) + "\n" + HOSTILE)
    for command in COMMANDS:
        text = on_a_terminal(hostile, *command.split())
        assert text.strip(), command
        assert RAW.findall(text) == [], command


def test_response_is_shown_with_visible_control_characters(shell: Shell, api: Api) -> None:
    shell.spec(api.source())
    api.status, api.body = 403, HOSTILE
    text = on_a_terminal(shell, "auth", "people")
    assert RAW.findall(text) == []
    assert r"\x1b]52;c;cm0gLXJm\x07" in text
    assert r"\x9b31m" in text
    assert r"\u202egnp\u2066" in text


def test_output_to_a_pipe_shows_escape_sequences(hostile: Shell) -> None:
    hostile("run", "people", exit_code=None)
    text = hostile("failures", "people", "--full").stdout
    assert RAW.findall(text) == []
    assert r"\x1b[2J" in text.replace(r"\u001b", r"\x1b")


def test_json_keeps_every_character_without_control_characters(hostile: Shell) -> None:
    hostile("run", "people", exit_code=None)
    for command in (["failures", "people", "--full"], ["fields", "people", "source"], ["show", "people"]):
        done = hostile(*command, "--json")
        assert RAW.findall(done.stdout) == []
        values = [json.loads(line) for line in done.stdout.splitlines()]
        assert json.dumps(HOSTILE)[1:-1] in json.dumps(values), command


def test_show_writes_every_byte_of_the_spec_to_a_pipe(hostile: Shell) -> None:
    assert HOSTILE in hostile("show", "people").stdout


def test_file_names_and_arguments_are_shown_with_visible_control_characters(shell: Shell) -> None:
    name = "a\x1b[31m\u202e.md"
    Path(shell.directory, name).write_text("---\ntype: integration\n---\n# A\n")
    for args in (["lint"], ["lint", f"no{name}"], ["show", name, "odd"], [f"no{name}"]):
        text = on_a_terminal(shell, *args)
        assert RAW.findall(text) == [], args
    assert r"\x1b[31m\u202e" in shell("lint", exit_code=None).stdout


@pytest.mark.parametrize("encoding", ["ascii", "latin-1"])
def test_no_output_encoding_bypasses_the_filter(hostile: Shell, encoding: str) -> None:
    hostile.env["PYTHONIOENCODING"] = encoding
    hostile("run", "people", exit_code=None)
    done = hostile("failures", "people", "--full")
    assert RAW.findall(done.stdout + done.stderr) == []
