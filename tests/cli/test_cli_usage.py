"""Help, version, completion and usage errors of the command line."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence

import click
import pytest
from tests.cli.conftest import Shell

from speclab import __version__
from speclab.cli.group import speclab

CONTEXT = click.Context(speclab)
NAMES = speclab.list_commands(CONTEXT)


def test_help_lists_every_command_with_a_whole_sentence(shell: Shell) -> None:
    text = shell("--help").stdout
    for name in NAMES:
        assert f"\n  {name} " in text
    assert "..." not in text.split("Commands:")[1]


@pytest.mark.parametrize("name", NAMES)
def test_every_command_and_option_has_help(name: str) -> None:
    command = speclab.get_command(CONTEXT, name)
    assert command is not None
    assert command.help
    for parameter in command.params:
        if isinstance(parameter, click.Option) and not parameter.hidden:
            assert parameter.help, f"{name} {parameter.opts}"


def test_version_is_printed(shell: Shell) -> None:
    assert shell("--version").stdout == f"speclab {__version__}\n"


def test_help_loads_none_of_the_heavy_libraries() -> None:
    code = (
        "import sys\nfrom speclab.cli import main\n"
        "try: main(['--help'])\nexcept SystemExit: pass\n"
        "heavy = {'textual', 'pydantic', 'httpx', 'aiohttp', 'sqlalchemy', 'sqlite_utils', 'yaml', 'markdown_it',"
        " 'cel', 'rapidfuzz', 'asyncio', 'orjson', 'sqlite3'}\nprint(sorted(heavy & set(sys.modules)), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr == "[]\n"


def test_unknown_command_suggests_the_nearest(shell: Shell) -> None:
    assert "Did you mean 'speclab lint'?" in shell("lnt", exit_code=2).stderr


def test_unknown_option_is_a_usage_error(shell: Shell) -> None:
    assert "No such option" in shell("lint", "--colour", exit_code=2).stderr


@pytest.mark.parametrize("args", [("--colour",), (".", "--colour")])
def test_unknown_option_of_the_app_refers_to_existing_help(shell: Shell, args: Sequence[str]) -> None:
    output = shell(*args, exit_code=2).stderr
    assert "Usage: speclab [OPTIONS] [DIRECTORY]" in output
    assert "Try 'speclab --help'" in output


def test_unknown_spec_suggests_the_nearest(people: Shell) -> None:
    assert "people" in people("run", "poeple", exit_code=2).stderr


def test_without_a_terminal_the_app_suggests_commands(shell: Shell) -> None:
    output = shell(exit_code=2).stderr
    assert "needs a terminal" in output
    assert "speclab status" in output


def test_closed_pipe_is_not_an_error(people: Shell) -> None:
    done = subprocess.run(
        f"{sys.executable} -P -m speclab show people | head -n 1",
        shell=True,
        cwd=people.directory,
        capture_output=True,
        text=True,
        check=True,
        env=os.environ,
    )
    assert done.stdout == "---\n"
    assert done.stderr == ""


def test_pipe_that_closes_at_once_does_not_change_the_exit_code(people: Shell) -> None:
    command = f"{sys.executable} -P -m speclab show people --json | true; exit ${{PIPESTATUS[0]}}"
    done = subprocess.run(
        ["bash", "-c", command], cwd=people.directory, capture_output=True, text=True, check=False, env=os.environ
    )
    assert (done.returncode, done.stderr) == (0, "")
    command = f"{sys.executable} -P -m speclab completion bash | true; exit ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=False, env=os.environ)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("name", ["bash", "zsh", "fish"])
def test_completion_prints_a_script_for_the_shell(shell: Shell, name: str) -> None:
    assert "_SPECLAB_COMPLETE" in shell("completion", name).stdout


def test_shell_completes_commands_and_specs(people: Shell) -> None:
    people.env.update(_SPECLAB_COMPLETE="bash_complete", COMP_WORDS="speclab run pe", COMP_CWORD="2")
    assert people().stdout == "plain,people\n"
    people.env.update(COMP_WORDS="speclab retry pe")
    assert people().stdout == "plain,people\n"
    people.env.update(COMP_WORDS="speclab fai", COMP_CWORD="1")
    assert people().stdout == "plain,failures\n"


@pytest.mark.parametrize("command", ["runs", "failures", "lint"])
def test_misspelled_spec_is_a_usage_error(people: Shell, command: str) -> None:
    result = people(command, "poeple", exit_code=2)
    assert result.stdout == ""
    assert "no spec 'poeple'" in result.stderr
    assert "did you mean 'people'?" in result.stderr


@pytest.mark.parametrize("args", [("runs", ""), ("failures", ""), ("show", "people", "")])
def test_empty_spec_name_is_a_usage_error(people: Shell, args: Sequence[str]) -> None:
    assert "no " in people(*args, exit_code=2).stderr


@pytest.mark.parametrize("command", ["runs", "failures"])
def test_very_large_limit_is_accepted(people: Shell, command: str) -> None:
    people(command, "--limit", "9" * 30)


def test_unknown_run_is_a_usage_error(people: Shell) -> None:
    assert "no run 'nosuch' in" in people("failures", "--run", "nosuch", exit_code=2).stderr


@pytest.mark.parametrize("command", [("status",), ("runs",), ("failures",), ("retry", "--all")])
def test_missing_run_log_is_a_usage_error(people: Shell, command: Sequence[str]) -> None:
    assert "there is no run log at other.db" in people(*command, "--runlog", "other.db", exit_code=2).stderr


@pytest.mark.parametrize("command", ["runs", "failures", "lint"])
def test_every_command_accepts_a_spec_id_or_a_path(people: Shell, command: str) -> None:
    (path,) = people.directory.rglob("people.md")
    assert people(command, "people").stderr == people(command, str(path)).stderr
