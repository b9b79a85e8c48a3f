"""What may replace a spec file: a pipe, a file of 24 MB, a link to itself. Reading it always ends."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from speclab.cli import main
from speclab.core.errors import EditRejected, SpeclabError, TooLarge, UsageError
from speclab.core.files import MAX_SPEC_SIZE
from speclab.spec.document import Document
from speclab.spec.store import find_recovery, recovery_path, save, write_recovery
from speclab.spec.workspace import find_specs, read_spec_file, workspace_of
from speclab.workbench.open_specs import OpenOutcome, OpenSpec, Session

TEXT = "---\nspec_id: a\ntype: integration\nstatus: in-progress\n---\n\n# A\n\n## Problem Statement\n\nText.\n"


def pipe(path: Path) -> None:
    os.mkfifo(path)


def directory(path: Path) -> None:
    path.mkdir()


def link_to_itself(path: Path) -> None:
    path.symlink_to(path)


def device(path: Path) -> None:
    path.symlink_to("/dev/zero")


def grown(path: Path) -> None:
    with path.open("wb") as file:
        file.write(TEXT.encode())
        file.truncate(24_000_000)


PUT = [pipe, directory, link_to_itself, device, grown]


@pytest.fixture
def spec(tmp_path: Path) -> Path:
    path = tmp_path / "a.md"
    path.write_text(TEXT)
    return path


@pytest.mark.parametrize("put", PUT)
def test_file_that_is_not_a_spec_is_an_error_that_names_it(tmp_path: Path, put: Callable[[Path], None]) -> None:
    path = tmp_path / "a.md"
    put(path)
    with pytest.raises(UsageError, match=r"a\.md: "):
        Document.load(path)


@pytest.mark.parametrize("put", PUT)
def test_open_spec_keeps_its_text_when_its_file_is_replaced(spec: Path, put: Callable[[Path], None]) -> None:
    opened = Session().open(spec)
    spec.unlink()
    put(spec)
    assert opened.reload() is OpenOutcome.UNREADABLE
    assert opened.document.text == TEXT
    assert opened.unsaved
    with pytest.raises(SpeclabError, match=r"a\.md: "):
        save(opened.document.with_front_matter("status", "draft"), opened.document)
    opened.update_recovery()
    recovery = find_recovery(spec)
    assert recovery is not None
    assert recovery.text == TEXT
    spec.rmdir() if put is directory else spec.unlink()
    spec.write_text(TEXT)
    assert opened.reload() is OpenOutcome.SAME
    assert not opened.unsaved


def test_spec_that_is_too_large_is_listed_as_such(tmp_path: Path) -> None:
    grown(tmp_path / "a.md")
    (found,) = find_specs(tmp_path)
    assert found.too_large
    assert found.spec_id == "a"


@pytest.mark.parametrize("put", [pipe, directory, link_to_itself, device])
def test_path_that_is_not_a_file_is_not_listed(tmp_path: Path, put: Callable[[Path], None]) -> None:
    put(tmp_path / "a.md")
    assert find_specs(tmp_path) == []
    assert read_spec_file(tmp_path / "a.md") is None


def test_spec_of_the_largest_size_is_read_and_one_byte_more_is_not(spec: Path) -> None:
    spec.write_text(TEXT + "x" * (MAX_SPEC_SIZE - len(TEXT)))
    assert len(Document.load(spec).text) == MAX_SPEC_SIZE
    with spec.open("a") as file:
        file.write("x")
    with pytest.raises(TooLarge, match=r"too large: 1\.0 MB, and a spec has at most 1 MB"):
        Document.load(spec)


def test_lint_names_a_spec_that_is_too_large_and_continues(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    grown(tmp_path / "a.md")
    (tmp_path / "b.md").write_text(TEXT.replace("spec_id: a", "spec_id: b"))
    with pytest.raises(SystemExit) as ended:
        main(["lint", str(tmp_path)])
    assert ended.value.code == 1
    out = capfd.readouterr().out
    assert f"{tmp_path / 'a.md'}:1:1: D105 " in out
    assert f"{tmp_path / 'b.md'}:" in out


def test_edit_that_makes_a_spec_too_large_is_rejected_and_its_text_kept(spec: Path) -> None:
    opened = OpenSpec(spec)
    section = opened.document.section("Problem Statement")
    with pytest.raises(EditRejected, match="too large"):
        opened.edit(opened.document.with_body(section, "x" * MAX_SPEC_SIZE), "edit")
    opened.write_section(section, "x" * MAX_SPEC_SIZE, "stay")
    assert opened.rejected is not None
    opened.update_recovery()
    assert len(recovery_path(spec).read_text()) > MAX_SPEC_SIZE


def test_recovery_file_that_is_a_pipe_does_not_block(spec: Path) -> None:
    write_recovery(spec, "text")
    recovery_path(spec).unlink()
    os.mkfifo(recovery_path(spec))
    assert find_recovery(spec) is None


def test_workspace_of_a_link_to_itself_is_its_directory(tmp_path: Path) -> None:
    (tmp_path / ".speclab").mkdir()
    link_to_itself(tmp_path / "a.md")
    assert workspace_of(tmp_path / "a.md") == tmp_path


@pytest.mark.parametrize("command", [["lint"], ["status"], ["show", "a"], ["map", "a"], ["new", "b"]])
def test_command_in_a_removed_directory_reports_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], command: list[str]
) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    with pytest.raises(SystemExit) as ended:
        main(command)
    monkeypatch.chdir(tmp_path)
    assert ended.value.code in {0, 1, 2}
    assert "Traceback" not in capfd.readouterr().err
