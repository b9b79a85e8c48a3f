"""Saving: atomic, keeps the file's mode, owner and link, and never overwrites external changes."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from speclab.core.errors import SpeclabError, UsageError
from speclab.spec.document import Document
from speclab.spec.guide import TEMPLATE
from speclab.spec.store import SaveConflict, Side, create, drop_recovery, find_recovery, save, write_recovery


@pytest.fixture
def spec(tmp_path: Path) -> Path:
    path = tmp_path / "spec.md"
    path.write_bytes(TEMPLATE.encode())
    return path


def python(code: str, *arguments: object) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-c", code, *map(str, arguments)])


@contextmanager
def unprivileged(*groups: int) -> Iterator[None]:
    """Act as a user who is not root and is in these groups, if the tests run as root."""
    user, group, others = os.geteuid(), os.getegid(), os.getgroups()
    if user == 0:
        os.setgroups(groups)
        os.setegid(65534)
        os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(user)
        if user == 0:
            os.setegid(group)
            os.setgroups(others)


def test_save_writes_the_document_and_nothing_else(spec: Path) -> None:
    base = Document.load(spec)
    document = base.with_front_matter("status", "approved")
    saved = save(document, base)
    assert saved.document == document
    assert not saved.merged
    assert spec.read_bytes() == TEMPLATE.replace("draft", "approved").encode()
    assert os.listdir(spec.parent) == ["spec.md"]  # noqa: PTH208 - hidden files too


def test_save_without_a_change_does_not_touch_the_file(spec: Path) -> None:
    document = Document.load(spec)
    before = spec.stat()
    assert save(document, document).document == document
    assert spec.stat() == before


@pytest.mark.parametrize("mode", [0o600, 0o644, 0o664, 0o755])
def test_save_keeps_the_files_mode(spec: Path, mode: int) -> None:
    spec.chmod(mode)
    base = Document.load(spec)
    save(base.with_front_matter("status", "approved"), base)
    assert stat.S_IMODE(spec.stat().st_mode) == mode


def test_save_keeps_the_files_owner(spec: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root can give a file to another user")
    os.chown(spec, 65534, 65534)
    base = Document.load(spec)
    save(base.with_front_matter("status", "approved"), base)
    assert (spec.stat().st_uid, spec.stat().st_gid) == (65534, 65534)


def test_save_by_another_of_the_files_group_keeps_the_group() -> None:
    if os.geteuid() != 0:
        pytest.skip("only root can be another user")
    with tempfile.TemporaryDirectory() as name:
        spec = Path(name) / "spec.md"
        spec.write_bytes(TEMPLATE.encode())
        os.chown(spec, 4241, 4242)
        spec.chmod(0o664)
        Path(name).chmod(0o777)
        with unprivileged(4242):
            base = Document.load(spec)
            save(base.with_front_matter("status", "approved"), base)
        assert (spec.stat().st_gid, stat.S_IMODE(spec.stat().st_mode)) == (4242, 0o664)


ACCESS_OF_4243 = bytes.fromhex(
    "0200000001000600ffffffff020006009310000004000400ffffffff10000600ffffffff20000400ffffffff"
)
"""An access control list as Linux keeps it: the user 4243 may write, too."""


@pytest.mark.parametrize(
    ("attribute", "value"), [("user.note", b"of the finance team"), ("system.posix_acl_access", ACCESS_OF_4243)]
)
def test_save_keeps_the_files_access_control_list_and_its_other_attributes(
    spec: Path, attribute: str, value: bytes
) -> None:
    try:
        os.setxattr(spec, attribute, value)
    except OSError as error:
        pytest.skip(f"not on this file system: {error}")
    base = Document.load(spec)
    mode = spec.stat().st_mode
    save(base.with_front_matter("status", "approved"), base)
    assert os.getxattr(spec, attribute) == value
    assert spec.stat().st_mode == mode


def test_save_writes_the_target_of_a_symbolic_link(spec: Path, tmp_path: Path) -> None:
    (tmp_path / "links").mkdir()
    link = tmp_path / "links" / "link.md"
    link.symlink_to(spec)
    base = Document.load(link)
    save(base.with_front_matter("status", "approved"), base)
    assert link.is_symlink()
    assert b"status: approved" in spec.read_bytes()


def test_read_only_file_is_not_changed(spec: Path) -> None:
    spec.chmod(0o444)
    base = Document.load(spec)
    with pytest.raises(SpeclabError, match=r"spec\.md: cannot be saved: the file is read-only"):
        save(base.with_front_matter("status", "approved"), base)
    assert spec.read_bytes() == TEMPLATE.encode()


def test_unwritable_directory_is_not_changed() -> None:
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        spec = directory / "spec.md"
        spec.write_bytes(TEMPLATE.encode())
        spec.chmod(0o666)
        directory.chmod(0o555)
        with unprivileged():
            base = Document.load(spec)
            with pytest.raises(SpeclabError, match="no permission to write in its directory"):
                save(base.with_front_matter("status", "approved"), base)
        assert os.listdir(directory) == ["spec.md"]  # noqa: PTH208 - hidden files too
        assert spec.read_bytes() == TEMPLATE.encode()
        directory.chmod(0o755)


def test_file_that_is_no_longer_readable_is_not_changed() -> None:
    if os.geteuid() != 0:
        pytest.skip("only root can be another user")
    with tempfile.TemporaryDirectory() as name:
        spec = Path(name) / "spec.md"
        spec.write_bytes(TEMPLATE.encode())
        base = Document.load(spec)
        spec.chmod(0o600)
        Path(name).chmod(0o777)
        with unprivileged(), pytest.raises(SpeclabError, match="no permission to read the current file"):
            save(base.with_front_matter("status", "approved"), base)
        assert spec.read_bytes() == TEMPLATE.encode()


def test_file_of_another_user_in_a_sticky_directory_is_not_changed() -> None:
    if os.geteuid() != 0:
        pytest.skip("only root can be another user")
    with tempfile.TemporaryDirectory() as name:
        spec = Path(name) / "spec.md"
        spec.write_bytes(TEMPLATE.encode())
        spec.chmod(0o666)
        Path(name).chmod(0o1777)
        with unprivileged():
            base = Document.load(spec)
            with pytest.raises(SpeclabError, match="it belongs to another user in a directory such as /tmp"):
                save(base.with_front_matter("status", "approved"), base)
        assert os.listdir(name) == ["spec.md"]  # noqa: PTH208 - hidden files too


def test_file_that_cannot_grow_is_unchanged(spec: Path) -> None:
    code = """
import resource, sys
from pathlib import Path
from speclab.core.errors import SpeclabError
from speclab.spec.document import Document
from speclab.spec.store import save

base = Document.load(Path(sys.argv[1]))
document = base.with_body(base.section("Data Flow"), "x" * 10_000)
resource.setrlimit(resource.RLIMIT_FSIZE, (5_000, 5_000))
try:
    save(document, base)
except SpeclabError as error:
    sys.exit(0 if "would be larger than this system allows" in error.message else 1)
sys.exit(2)
"""
    assert python(code, spec).wait() == 0
    assert spec.read_bytes() == TEMPLATE.encode()
    assert os.listdir(spec.parent) == ["spec.md"]  # noqa: PTH208 - hidden files too


def test_killed_save_leaves_the_old_file_or_the_new_one(spec: Path) -> None:
    code = """
import sys
from pathlib import Path
from speclab.spec.document import Document
from speclab.spec.store import save

base = Document.load(Path(sys.argv[1]))
both = [base.with_body(base.section("Data Flow"), letter * 500_000) for letter in "ab"]
print(flush=True)
while True:
    base = save(both[0], base).document
    both.reverse()
"""
    base = Document.load(spec)
    whole = {TEMPLATE, *(base.with_body(base.section("Data Flow"), letter * 500_000).text for letter in "ab")}
    for wait in (0.02, 0.05):
        process = subprocess.Popen([sys.executable, "-c", code, str(spec)], stdout=subprocess.PIPE)
        assert process.stdout is not None
        with process, process.stdout as ready:
            ready.readline()
            time.sleep(wait)
            process.kill()
        assert Document.load(spec).text in whole


def test_deleted_file_is_created_again(spec: Path) -> None:
    base = Document.load(spec)
    document = base.with_front_matter("status", "approved")
    spec.unlink()
    assert not save(document, base).merged
    assert spec.read_bytes() == document.to_bytes()


def test_changes_by_another_writer_are_kept(spec: Path) -> None:
    base = Document.load(spec)
    theirs = base.with_body(base.section("Volume"), "500 a day")
    save(theirs, base)
    saved = save(base.with_front_matter("status", "approved"), base)
    assert saved.merged
    assert saved.document.text == theirs.text.replace("status: draft", "status: approved")
    assert spec.read_bytes() == saved.document.to_bytes()


def test_save_without_own_changes_returns_the_other_version(spec: Path) -> None:
    base = Document.load(spec)
    theirs = base.with_front_matter("status", "approved")
    save(theirs, base)
    saved = save(base, base)
    assert (saved.document, saved.merged) == (theirs, True)


def test_same_change_twice_is_not_a_conflict(spec: Path) -> None:
    base = Document.load(spec)
    document = base.with_front_matter("status", "approved")
    save(document, base)
    assert save(document, base).document == document


def test_conflict_writes_nothing_and_shows_both_versions(spec: Path) -> None:
    base = Document.load(spec)
    theirs = base.with_body(base.section("Volume"), "theirs")
    save(theirs, base)
    mine = base.with_body(base.section("Volume"), "mine").with_front_matter("status", "approved")
    with pytest.raises(SaveConflict, match="someone else changed the same lines") as error:
        save(mine, base)
    assert spec.read_bytes() == theirs.to_bytes()
    (conflict,) = error.value.conflicts
    assert (conflict.mine, conflict.theirs) == ("mine\n", "theirs\n")
    assert conflict.base == base.body(base.section("Volume")) + "\n"
    decided = Document.parse(error.value.merge.resolved([Side.BOTH]), spec)
    saved = save(decided, error.value.theirs)
    assert saved.document.body(saved.document.section("Volume")) == "mine\ntheirs"
    assert saved.document.front_matter.get("status") == "approved"


def test_concurrent_writers_lose_nothing(spec: Path) -> None:
    code = """
import sys
from pathlib import Path
from speclab.spec.address import write
from speclab.spec.document import Document
from speclab.spec.store import save

path, where = Path(sys.argv[1]), sys.argv[2]
for count in range(10):
    base = Document.load(path)
    save(write(base, where, f"{where} {count}"), base)
"""
    places = ["updated", "ctm_task", "Data Flow > Volume", "Field Mapping[field1].Notes", "Field Mapping[field2].Notes"]
    writers = [python(code, spec, location) for location in places]
    assert [writer.wait() for writer in writers] == [0] * len(writers)
    document = Document.load(spec)
    assert document.mapping is not None
    assert document.front_matter.get("updated") == "updated 9"
    assert document.front_matter.get("ctm_task") == "ctm_task 9"
    assert document.body(document.section("Volume")) == "Data Flow > Volume 9"
    notes = [row.cells[3].text for row in document.mapping.rows]
    assert notes == ["Field Mapping[field1].Notes 9", "Field Mapping[field2].Notes 9"]


def test_document_without_a_path_cannot_be_saved() -> None:
    document = Document.parse("")
    with pytest.raises(UsageError, match="no path"):
        save(document, document)


def test_new_file_never_replaces_another(tmp_path: Path) -> None:
    path = tmp_path / "new" / "spec.md"
    create(path, "one")
    assert path.read_bytes() == b"one"
    umask = os.umask(0)
    os.umask(umask)
    assert stat.S_IMODE(path.stat().st_mode) == 0o666 & ~umask
    with pytest.raises(UsageError, match=r"spec\.md is already there"):
        create(path, "two")
    assert path.read_bytes() == b"one"
    with pytest.raises(SpeclabError, match="cannot be created"):
        create(path / "below" / "a.md", "x")


def test_unsaved_text_is_stored_and_found_again(spec: Path) -> None:
    assert find_recovery(spec) is None
    write_recovery(spec, TEMPLATE + "\udcff unsaved\r\n")
    write_recovery(spec, TEMPLATE + "\udcff unsaved too\r\n")
    found = find_recovery(spec)
    assert found is not None
    assert found.text == TEMPLATE + "\udcff unsaved too\r\n"
    assert abs(found.at.timestamp() - time.time()) < 60
    assert spec.read_bytes() == TEMPLATE.encode()
    assert (spec.parent / ".speclab" / ".gitignore").read_text() == "*\n"
    drop_recovery(spec)
    drop_recovery(spec)
    assert find_recovery(spec) is None


def test_text_that_was_saved_needs_no_recovery(spec: Path) -> None:
    write_recovery(spec, "text")
    spec.write_text("text")
    assert find_recovery(spec) is None


def test_recovery_of_another_user_is_not_offered() -> None:
    if os.geteuid() != 0:
        pytest.skip("only root can be another user")
    with tempfile.TemporaryDirectory() as name:
        spec = Path(name) / "spec.md"
        spec.write_text("saved")
        Path(name).chmod(0o755)
        write_recovery(spec, "unsaved")
        with unprivileged():
            assert find_recovery(spec) is None


def test_recovery_files_of_specs_with_the_same_name_are_separate(tmp_path: Path) -> None:
    (tmp_path / ".speclab").mkdir()
    paths = [tmp_path / name / "spec.md" for name in "ab"]
    for path in paths:
        path.parent.mkdir()
        path.write_text("saved")
        write_recovery(path, f"unsaved {path.parent.name}")
    assert [recovery.text for path in paths if (recovery := find_recovery(path))] == ["unsaved a", "unsaved b"]
    assert len(list((tmp_path / ".speclab" / "recovery").iterdir())) == 2
