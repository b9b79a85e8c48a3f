"""Workspaces: finding specs, the state directory, and new specs."""

from __future__ import annotations

import os
from datetime import date
from pathlib import Path

import pytest

from speclab.core.errors import SpeclabError, UsageError
from speclab.spec.document import Document
from speclab.spec.guide import KEYS, OUTLINE, TEMPLATE, build_spec, create_spec
from speclab.spec.workspace import (
    SpecFile,
    directories_to_watch,
    find_spec,
    find_specs,
    runlog_path,
    state_directory,
    workspace_of,
)


def put(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text.encode("utf-8", "surrogateescape"))
    return path


@pytest.fixture
def workspace(tmp_path: Path) -> Path:
    put(tmp_path / "specs" / "b.md", "---\nspec_id: crm-to-erp\ntype: integration\nstatus: draft\n---\n\n# The CRM #\n")
    put(tmp_path / "specs" / "a.md", "\ufeff---\r\ntype: dev\r\n---\r\n## No title\r\n")
    put(tmp_path / "template.md", TEMPLATE)
    put(tmp_path / "broken.md", "---\nstatus: {\n---\n# Broken\n")
    put(tmp_path / "open.md", "---\nspec_id: open\ntype: integration\n\n# Never closed\n")
    put(tmp_path / "README.md", "# No spec\n")
    put(tmp_path / "post.md", "---\ntags: [a]\n---\n# No spec either\n")
    put(tmp_path / "spec.txt", TEMPLATE)
    put(tmp_path / ".hidden" / "c.md", TEMPLATE)
    put(tmp_path / ".hidden.md", TEMPLATE)
    put(tmp_path / "node_modules" / "d.md", TEMPLATE)
    put(tmp_path / ".speclab" / "recovery" / "e.md", TEMPLATE)
    return tmp_path


def test_specs_are_listed_with_their_front_matter(workspace: Path) -> None:
    assert find_specs(workspace) == [
        SpecFile(workspace / "broken.md", "broken", "", "", "Broken"),
        SpecFile(workspace / "open.md", "open", "", "", "Never closed"),
        SpecFile(workspace / "template.md", "template", "integration", "draft", "Spec: {Title}"),
        SpecFile(workspace / "specs" / "a.md", "a", "dev", "", ""),
        SpecFile(workspace / "specs" / "b.md", "crm-to-erp", "integration", "draft", "The CRM"),
    ]
    assert find_specs(workspace / "nowhere") == []


def test_directories_without_specs_are_watched_the_nearest_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("a/deep", "b", ".git/hooks", "node_modules/c"):
        (tmp_path / name).mkdir(parents=True)
    assert directories_to_watch(tmp_path, []) == {tmp_path, tmp_path / "a", tmp_path / "a" / "deep", tmp_path / "b"}
    put(tmp_path / "a" / "deep" / "crm.md", TEMPLATE)
    monkeypatch.setattr("speclab.spec.workspace.WATCHED", 2)
    assert directories_to_watch(tmp_path, find_specs(tmp_path)) == {tmp_path, tmp_path / "a", tmp_path / "a" / "deep"}


def test_pipe_is_not_a_spec_and_does_not_block(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.md")
    assert find_specs(tmp_path) == []


def test_deleted_file_is_not_a_spec(workspace: Path) -> None:
    (workspace / "dangling.md").symlink_to(workspace / "nowhere.md")
    assert len(find_specs(workspace)) == 5


@pytest.mark.parametrize("name", ["crm-to-erp", "b", "b.md", "specs/b.md"])
def test_spec_is_found_by_id_name_or_path(workspace: Path, name: str) -> None:
    assert find_spec(workspace, name) == workspace / "specs" / "b.md"
    assert find_spec(Path("/"), str(workspace / "specs" / "b.md")) == workspace / "specs" / "b.md"


def test_missing_or_ambiguous_spec_is_reported(workspace: Path) -> None:
    with pytest.raises(UsageError, match="no spec 'crm-to-epr' in ") as error:
        find_spec(workspace, "crm-to-epr")
    assert error.value.hint == "did you mean 'crm-to-erp'?"
    put(workspace / "again.md", "---\nspec_id: crm-to-erp\n---\n")
    with pytest.raises(UsageError, match="2 specs are called 'crm-to-erp'"):
        find_spec(workspace, "crm-to-erp")


@pytest.mark.parametrize(
    ("written", "spec_id"), [("2024", "2024"), ("'2024'", "2024"), ("007", "007"), ("{name}", "a"), ("", "a")]
)
def test_spec_is_listed_by_the_id_it_runs_under(tmp_path: Path, written: str, spec_id: str) -> None:
    put(tmp_path / "a.md", f"---\nspec_id: {written}\ntype: integration\n---\n")
    assert [spec.spec_id for spec in find_specs(tmp_path)] == [spec_id]


def test_workspace_is_the_nearest_directory_that_has_state(workspace: Path) -> None:
    spec = workspace / "specs" / "b.md"
    assert workspace_of(spec) == workspace
    assert workspace_of(workspace) == workspace
    assert runlog_path(workspace_of(spec)) == workspace / ".speclab" / "runlog.db"
    state_directory(workspace / "specs")
    assert workspace_of(spec) == workspace / "specs"


def test_without_state_a_workspace_is_the_directory_itself(tmp_path: Path) -> None:
    spec = put(tmp_path / "specs" / "a.md", TEMPLATE)
    assert workspace_of(spec) == tmp_path / "specs"
    assert workspace_of(tmp_path) == tmp_path


def test_state_of_a_workspace_is_kept_out_of_version_control(tmp_path: Path) -> None:
    assert state_directory(tmp_path) == tmp_path / ".speclab"
    assert (tmp_path / ".speclab" / ".gitignore").read_text() == "*\n"
    (tmp_path / ".speclab" / ".gitignore").write_text("mine\n")
    state_directory(tmp_path)
    assert (tmp_path / ".speclab" / ".gitignore").read_text() == "mine\n"
    put(tmp_path / "file", "")
    with pytest.raises(SpeclabError, match="cannot be created"):
        state_directory(tmp_path / "file")


def test_new_spec_is_the_template_with_name_title_and_dates() -> None:
    text = build_spec("orders-to-erp", date(2026, 11, 24))
    expected = TEMPLATE.replace("{name}", "orders-to-erp").replace("{date}", "2026-11-24")
    assert text == expected.replace("{Title}", "Orders to erp")


@pytest.mark.parametrize("name", ["yes", "2024", "1.0"])
def test_name_that_yaml_reads_as_something_else_is_quoted(name: str) -> None:
    assert Document.parse(build_spec(name, date(2026, 11, 24))).front_matter.get("spec_id") == name


def test_new_spec_never_overwrites_a_file(tmp_path: Path) -> None:
    path = create_spec(tmp_path / "specs", "orders.md", date(2026, 11, 24))
    assert path == tmp_path / "specs" / "orders.md"
    assert path.read_bytes().decode() == build_spec("orders", date(2026, 11, 24))
    with pytest.raises(UsageError, match="is already there"):
        create_spec(tmp_path / "specs", "orders", date(2026, 11, 24))


@pytest.mark.parametrize(
    ("name", "hint"),
    [("My Spec", "such as my-spec"), ("../x", "such as x"), ("a/b", "such as a-b"), ("", ""), (".", "")],
)
def test_invalid_spec_name_is_reported(tmp_path: Path, name: str, hint: str) -> None:
    with pytest.raises(UsageError, match="is not a valid spec name") as error:
        create_spec(tmp_path, name, date(2026, 11, 24))
    assert error.value.hint == hint
    assert list(tmp_path.iterdir()) == []


def test_template_says_what_belongs_in_each_section() -> None:
    assert KEYS == ("spec_id", "type", "status", "created", "updated", "ctm_task")
    assert OUTLINE["Data Flow > Frequency"] == "Real-time, hourly, daily, on-demand"
    assert OUTLINE["Data Flow"] == ""
    assert next(iter(OUTLINE)) == "Problem Statement"
