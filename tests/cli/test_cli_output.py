"""Commands whose output cannot be written: a closed pipe, a full disk, streams that are closed."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
from tests.cli.conftest import Shell

from speclab.runlog import RunLogReader

SPECLAB = f"{sys.executable} -P -m speclab"


def bash(shell: Shell, script: str) -> subprocess.CompletedProcess[str]:
    """Run `script`, in which `speclab` is ours, in the shell's directory."""
    done = subprocess.run(
        ["bash", "-c", f'speclab() {{ {SPECLAB} "$@"; }}\n{script}'],
        cwd=shell.directory,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert "Traceback" not in done.stderr, done.stderr
    return done


def states(shell: Shell) -> list[str]:
    with RunLogReader.open(shell.directory / ".speclab/runlog.db") as log:
        return [run.state for run in log.runs()]


@pytest.fixture
def pages(shell: Shell) -> Shell:
    """A workspace whose spec copies three thousand people, which is three pages."""
    shell.spec()
    shell.write("in.jsonl", "".join(json.dumps({"id": id_, "name": "Ada"}) + "\n" for id_ in range(3_000)))
    return shell


@pytest.mark.parametrize("output", ["2>&1 | true", "2>/dev/full"])
def test_run_completes_when_its_output_is_closed(pages: Shell, output: str) -> None:
    bash(pages, f"speclab run people {output}")
    assert states(pages) == ["succeeded"]


def test_run_keeps_its_exit_code_when_its_output_is_closed(people: Shell) -> None:
    other = (people.directory / "specs/people.md").read_text().replace("spec_id: people", "spec_id: others")
    people.write("specs/others.md", other.replace("out.jsonl", "others.jsonl"))
    done = bash(people, "speclab run people others 2>/dev/null | true; exit ${PIPESTATUS[0]}")
    assert done.returncode == 1
    assert states(people) == ["partial", "partial"]


@pytest.mark.parametrize("command", ["--help", "show people", "show people --json"])
@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_full_disk_is_reported_and_fails_the_command(people: Shell, command: str, unbuffered: str) -> None:
    done = bash(people, f"PYTHONUNBUFFERED={unbuffered} speclab {command} >/dev/full")
    assert done.returncode == 1
    assert done.stderr.count("speclab: standard output: No space left on device\n") == 1


@pytest.mark.parametrize("command", ["--help", "show people"])
def test_output_to_closed_streams_is_discarded(people: Shell, command: str) -> None:
    done = bash(people, f"speclab {command} >&- <&-")
    assert done.returncode == 0, done.stderr


def test_help_to_a_closed_pipe_is_not_an_error(shell: Shell) -> None:
    assert bash(shell, "speclab --help | true; exit ${PIPESTATUS[0]}").returncode == 0


def test_directory_that_cannot_be_created_is_reported(shell: Shell) -> None:
    shell.write("taken", "")
    done = shell("demo", "taken/here", exit_code=1)
    assert done.stdout == ""
    assert done.stderr == f"speclab: {shell.directory}/taken/here/specs: Not a directory\n"


def test_characters_that_cannot_be_encoded_are_escaped(shell: Shell) -> None:
    shell.spec(step='Lookup("a \N{RIGHTWARDS ARROW} b")')
    shell.env["PYTHONIOENCODING"] = "latin-1"
    assert "a \\u2192 b" in shell("lint", exit_code=1).stdout
