"""`new`, `show` and `set` create, read and edit specs, and change only the bytes of the edit."""

from __future__ import annotations

import re
import subprocess

from tests.cli.conftest import Shell

from speclab.spec.guide import TEMPLATE


def changed_lines(before: bytes, after: bytes) -> list[tuple[bytes, bytes]]:
    pairs = zip(before.split(b"\n"), after.split(b"\n"), strict=True)
    return [(old, new) for old, new in pairs if old != new]


def test_new_spec_has_no_lint_errors(shell: Shell) -> None:
    assert shell("new", "orders").stdout == "specs/orders.md\n"
    assert "spec_id: orders\n" in (shell.directory / "specs" / "orders.md").read_text()
    assert re.fullmatch(r"1 spec, 0 errors, 0 warnings, \d+ still open\n", shell("lint").stderr)


def test_lint_and_run_report_a_duplicate_spec_id(people: Shell) -> None:
    people.write("specs/copy.md", (people.directory / "specs/people.md").read_text())
    linted = people("lint", "specs/copy.md", exit_code=1).stdout
    assert linted == "specs/copy.md:2:10: F107 specs/people.md has the same spec_id; give the copy its own\n"
    output = people("run", "specs/copy.md", "--dry-run", exit_code=1).stderr
    assert "warning: specs/people.md has the same spec_id, 'people'" in output


def test_link_to_a_spec_is_not_a_duplicate(people: Shell) -> None:
    (people.directory / "linked.md").symlink_to("specs/people.md")
    people("run", "people", "--dry-run", exit_code=1)
    assert "F107" not in people("lint").stdout


def test_lint_rejects_a_file_that_is_not_a_spec(shell: Shell) -> None:
    shell.write("README.md", "# Read me\n")
    assert "not a spec: README.md" in shell("lint", "README.md", exit_code=2).stderr


def test_new_never_overwrites_a_spec(shell: Shell) -> None:
    shell("new", "orders")
    before = (shell.directory / "specs" / "orders.md").read_bytes()
    assert "orders.md" in shell("new", "orders", exit_code=2).stderr
    assert (shell.directory / "specs" / "orders.md").read_bytes() == before


def test_set_on_the_untouched_template_changes_one_line_in_git_diff(shell: Shell) -> None:
    path = shell.write("template.md", TEMPLATE)
    subprocess.run(["git", "init", "-q", "."], cwd=shell.directory, check=True)
    subprocess.run(["git", "add", "."], cwd=shell.directory, check=True)
    shell("set", "--force", "template.md", "status", "approved")
    diff = subprocess.run(["git", "diff", "--numstat"], cwd=shell.directory, capture_output=True, text=True, check=True)
    assert diff.stdout == "1\t1\ttemplate.md\n"
    assert changed_lines(TEMPLATE.encode(), path.read_bytes()) == [(b"status: draft", b"status: approved")]


def test_set_writes_a_section_from_standard_input(shell: Shell) -> None:
    path = shell.write("t.md", TEMPLATE)
    shell("set", "t.md", "Data Flow > Frequency", "-", stdin="Hourly\n")
    assert changed_lines(TEMPLATE.encode(), path.read_bytes()) == [
        (b"<!-- Real-time, hourly, daily, on-demand -->", b"Hourly")
    ]
    assert shell("show", "t.md", "Data Flow > Frequency").stdout == "Hourly\n"


def test_show_escapes_bytes_that_are_not_utf_8_in_json(shell: Shell) -> None:
    path = shell.write("specs/odd.md", TEMPLATE)
    path.write_bytes(path.read_bytes().replace(b"status: draft", b"status: draft\ncity: K\xf6ln"))
    assert shell.rows("show", "specs/odd.md", "city") == ["K\udcf6ln"]


def test_set_writes_a_cell_by_its_target_path(people: Shell) -> None:
    path = people.directory / "specs" / "people.md"
    before = path.read_bytes()
    people("set", "people", "Field Mapping[target.name].Transformation", "Uppercase")
    ((old, new),) = changed_lines(before, path.read_bytes())
    assert b"Required, Trim" in old
    assert b"Uppercase" in new
    assert people("show", "people", "Field Mapping[target.name].Transformation").stdout == "Uppercase\n"


def test_edit_that_would_swallow_the_next_section_is_rejected(people: Shell) -> None:
    path = people.directory / "specs" / "people.md"
    before = path.read_bytes()
    output = people("set", "people", "Data Flow > Frequency", "```", exit_code=1).stderr
    assert "would swallow" in output
    assert path.read_bytes() == before


def test_show_prints_the_version_of_a_spec_that_a_run_used(people: Shell) -> None:
    path = people.directory / "specs" / "people.md"
    before = path.read_text()
    (run,) = people.rows("run", "people", exit_code=1)
    people("set", "people", "Field Mapping[target.name].Transformation", "Uppercase")
    cell = "Field Mapping[target.name].Transformation"
    path.unlink()  # the run log still has the integration
    assert people("show", "people", "--run", run["run"]).stdout == before
    assert people.rows("show", "people", cell, "--run", run["run"]) == ["Required, Trim"]
    assert "no run 'abc' of people" in people("show", "people", "--run", "abc", exit_code=2).stderr


def test_show_masks_the_secrets_of_the_version_that_a_run_used(people: Shell) -> None:
    people.env["SECRET_NAME"] = "Grace-the-secret"
    spec = people.directory / "specs" / "people.md"
    text = spec.read_text().replace("path: out.jsonl", "path: out-${env:SECRET_NAME}.jsonl")
    spec.write_text(text + "\nA note with Grace-the-secret in it.\n")
    (run,) = people.rows("run", "people", "--trust", exit_code=1)
    shown = people("show", "people", "--run", run["run"]).stdout
    assert "Grace-the-secret" not in shown
    assert "A note with" in shown


def test_unknown_address_suggests_the_nearest(people: Shell) -> None:
    assert "Data Flow > Frequency" in people("show", "people", "Data Flow > Frequncy", exit_code=2).stderr
    assert "name" in people("show", "people", "Field Mapping[target.nam].Notes", exit_code=2).stderr


def test_set_removes_the_last_line_ending_of_standard_input(shell: Shell) -> None:
    path = shell.write("t.md", TEMPLATE)
    shell("set", "--force", "t.md", "status", "-", stdin="approved\n")
    shell("set", "t.md", "Field Mapping[field1].Notes", "-", stdin="the key\r\n")
    assert [new for _, new in changed_lines(TEMPLATE.encode(), path.read_bytes())] == [
        b"status: approved",
        b"| source.field1 | target.field1 | Direct | the key |",
    ]


def test_problem_is_printed_on_one_line(shell: Shell) -> None:
    front_matter = 'spec_id: a\ntype: integration\n"\\e[2J\\n%": 1\n"\\e[2J\\n%": 2\n'
    shell.write("a,b/c:d.md", f"---\n{front_matter}---\n")
    (line,) = [one for one in shell("lint", "a,b", exit_code=1).stdout.splitlines() if "F105" in one]
    assert line == r"a,b/c:d.md:5:1: F105 `\x1b[2J\n%` appears twice; the last one is used"
    found = shell("lint", "--format", "github", "a,b", exit_code=1).stdout
    assert "::error file=a%2Cb/c%3Ad.md,line=5,col=1,title=F105::`\\x1b[2J%0A%25` appears twice; the last" in found
