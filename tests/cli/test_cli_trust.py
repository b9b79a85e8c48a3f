"""Trust: nothing outside the workspace is used before the user has accepted it."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import pexpect
import pytest
from tests.cli.conftest import Api, Shell

API = "connector: http\nbase_url: {url}\nkey: id\nread: {{path: /people, records: data, pagination: {{by: none}}}}"


@pytest.fixture
def strict(tmp_path: Path, api: Api) -> Shell:
    """A workspace whose spec reads people over HTTP, for a user without trusted specs."""
    shell = Shell(tmp_path / "work", {"SPECLAB_TRUST": "", "XDG_STATE_HOME": str(tmp_path / "state")})
    shell.directory.mkdir()
    shell.spec(API.format(url=api.url), auth="type: bearer\ntoken: ${env:CRM_TOKEN}")
    shell.env["CRM_TOKEN"] = "s3cret"
    return shell


@pytest.fixture
def requested_paths(api: Api) -> list[str]:
    """Return the paths requested from the API."""
    return api.requested


def often(shell: Shell) -> None:
    """Make the service run the spec every two seconds."""
    path = shell.directory / "specs/people.md"
    path.write_text(path.read_text().replace("Hourly", "Every 2 seconds"))


@pytest.mark.parametrize(
    "command",
    [
        ("run", "people"),
        ("plan", "people"),
        ("fields", "people", "source"),
        ("auth", "people"),
        ("auth", "people", "source"),
    ],
    ids=" ".join,
)
def test_untrusted_spec_connects_to_nothing(
    strict: Shell, requested_paths: list[str], command: tuple[str, ...]
) -> None:
    rejected = strict(*command, exit_code=3)
    assert "specs/people.md is not trusted" in rejected.stderr
    assert "source host: http://127.0.0.1:" in rejected.stderr
    assert "source reference: env:CRM_TOKEN" in rejected.stderr
    assert "`speclab trust specs/people.md`" in rejected.stderr
    assert "`--trust`" in rejected.stderr
    assert "s3cret" not in rejected.stderr
    assert requested_paths == []


def test_trust_option_trusts_for_one_command(strict: Shell) -> None:
    strict("run", "people", "--trust")
    strict("run", "people", exit_code=3)


def test_trust_holds_until_the_spec_uses_more(strict: Shell, api: Api) -> None:
    assert "is not trusted" in strict("trust", "people", exit_code=1).stderr
    assert "is now trusted" in strict("trust", "people", "--yes").stderr
    strict("run", "people")
    strict("set", "people", "Field Mapping[target.name].Transformation", "Trim, Uppercase")
    strict("run", "people")
    strict.spec(API.format(url=api.url), auth="type: bearer\ntoken: ${env:OTHER}")
    rejected = strict("run", "people", exit_code=3)
    assert "it uses more than you agreed to" in rejected.stderr
    assert "source reference: env:OTHER" in rejected.stderr
    assert "source host" not in rejected.stderr


def test_reference_that_moves_to_the_other_endpoint_needs_trust_again(strict: Shell) -> None:
    strict("trust", "people", "--yes")
    text = (strict.directory / "specs/people.md").read_text()
    strict.write("specs/people.md", text.replace("path: out.jsonl", "path: out-${env:CRM_TOKEN}.jsonl"))
    assert "target reference: env:CRM_TOKEN" in strict("run", "people", exit_code=3).stderr


def test_trust_can_be_revoked(strict: Shell) -> None:
    strict("trust", "people", "--yes")
    assert "is no longer trusted" in strict("trust", "people", "--revoke").stderr
    strict("run", "people", exit_code=3)


def test_list_shows_the_trust_of_every_spec(strict: Shell, api: Api) -> None:
    text = strict.spec().read_text()  # from a file to a file
    strict.write("specs/local.md", text.replace("spec_id: people", "spec_id: local"))
    strict.spec(API.format(url=api.url), auth="type: bearer\ntoken: ${env:CRM_TOKEN}")
    rows = {row["spec"]: row["trust"] for row in strict.rows("trust")}
    assert rows == {"specs/local.md": "not needed", "specs/people.md": "none"}
    strict("trust", "people", "--yes")
    assert {row["trust"] for row in strict.rows("trust")} == {"not needed", "trusted"}


def test_trust_is_stored_outside_the_workspace_for_this_user_only(strict: Shell, tmp_path: Path) -> None:
    strict("trust", "people", "--yes")
    [kept] = (tmp_path / "state" / "speclab" / "trust").iterdir()
    assert kept.stat().st_mode & 0o777 == 0o600
    assert kept.parent.stat().st_mode & 0o777 == 0o700
    decision = json.loads(kept.read_text())
    assert decision["spec"] == str(strict.directory / "specs/people.md")
    assert "source reference: env:CRM_TOKEN" in decision["granted"]
    kept.write_text(json.dumps({**decision, "granted": ["source command: evil"]}))
    strict("run", "people", exit_code=3)  # its digest covers other values


def test_copy_of_a_trusted_spec_is_not_trusted(strict: Shell) -> None:
    strict("trust", "people", "--yes")
    strict.write("specs/copy.md", (strict.directory / "specs/people.md").read_text())
    strict("run", "specs/copy.md", exit_code=3)


def test_spec_that_uses_only_its_workspace_needs_no_trust(people: Shell, tmp_path: Path) -> None:
    people.env.update(SPECLAB_TRUST="", XDG_STATE_HOME=str(tmp_path / "state"))
    people("run", "people", exit_code=1)  # one of the people has no name
    assert not (tmp_path / "state").exists()


def test_demo_is_trusted(tmp_path: Path) -> None:
    shell = Shell(tmp_path, {"SPECLAB_TRUST": "", "XDG_STATE_HOME": str(tmp_path / "state")})
    shell("demo", "demo")


def test_trust_is_asked_once_at_a_terminal(strict: Shell, requested_paths: list[str]) -> None:
    def run() -> pexpect.spawn[str]:
        return pexpect.spawn(
            sys.executable,
            ["-P", "-m", "speclab", "run", "people"],
            cwd=strict.directory,
            env=os.environ | strict.env,
            encoding="utf-8",
        )

    first = run()
    first.expect("source host: http://127.0.0.1")
    first.expect("Do you trust specs/people.md to use this")
    assert requested_paths == []
    first.sendline("y")
    first.expect(pexpect.EOF)
    assert requested_paths == ["/people"]
    again = run()
    again.expect(pexpect.EOF)
    assert "Do you trust" not in (again.before or "")
    assert requested_paths == ["/people", "/people"]


def test_service_does_not_run_untrusted_specs(strict: Shell, requested_paths: list[str]) -> None:
    often(strict)
    service = pexpect.spawn(
        "sh",
        ["-c", f"{sys.executable} -P -m speclab up </dev/null 2>&1"],
        cwd=strict.directory,
        env=os.environ | strict.env,
        encoding="utf-8",
    )
    service.expect("specs/people.md is not trusted")
    service.expect("could not run: specs/people.md is not trusted")
    assert requested_paths == []
    service.sendintr()
    service.expect(pexpect.EOF)


def test_service_runs_all_specs_with_trust(strict: Shell, requested_paths: list[str]) -> None:
    often(strict)
    service = pexpect.spawn(
        "sh",
        ["-c", f"{sys.executable} -P -m speclab up --trust </dev/null 2>&1"],
        cwd=strict.directory,
        env=os.environ | strict.env,
        encoding="utf-8",
    )
    service.expect("people: succeeded")
    assert requested_paths
    service.sendintr()
    service.expect(pexpect.EOF)
