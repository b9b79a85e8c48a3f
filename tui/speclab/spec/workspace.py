"""A workspace: a directory of specs, found by reading their heads only, and its `.speclab` directory."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from speclab.errors import SpeclabError, UsageError
from speclab.spec.files import LARGEST, read_head, real_path
from speclab.spec.front_matter import read_front_matter
from speclab.spec.lines import Lines
from speclab.spec.names import nearest
from speclab.statefiles import STATE, make_private_directory

_SKIPPED: Final = frozenset({"node_modules", "__pycache__"})
WATCHED: Final = 500
"""Directories without specs that are watched at most."""
_HEAD: Final = 32_768  # bytes; a front matter and a title fit
_TITLE: Final = re.compile(r" {0,3}#[ \t]+(.*?)(?:[ \t]+#*)?[ \t]*")


@dataclass(frozen=True, slots=True)
class SpecFile:
    """A spec as the list shows it. `spec_id` is the file's stem where the front matter has none.

    One that is `too_large` is listed, and neither parsed nor run; see `speclab.spec.files.LARGEST`.
    """

    path: Path
    spec_id: str
    type: str
    status: str
    title: str
    too_large: bool = False


def find_specs(directory: Path) -> list[SpecFile]:
    """All specs at and below `directory`, by path: Markdown files whose front matter has a `type` or `spec_id`.

    One whose front matter is broken is among them, so that it can be mended. Hidden directories are left out.
    """
    found: list[SpecFile] = []
    for root, names in _walk(directory):
        files = [root / name for name in sorted(names) if name.endswith(".md") and not name.startswith(".")]
        found.extend(spec for file in files if (spec := read_spec_file(file)))
    return found


def directories_to_watch(directory: Path, specs: Iterable[SpecFile]) -> set[Path]:
    """Return the directories in which a spec can change or appear: those of `specs`, and those below `directory`.

    Of the latter at most `WATCHED`, those nearest to `directory` first: a workspace may be in the middle of a large
    tree, and the kernel limits how many directories a user can watch.
    """
    below = sorted((root for root, _ in _walk(directory)), key=lambda root: len(root.parts))
    return {directory, *below[:WATCHED], *(spec.path.parent for spec in specs)}


def _walk(directory: Path) -> Iterator[tuple[Path, list[str]]]:
    """Yield every directory at and below `directory` that can hold specs, with the names of its files."""
    for root, directories, names in os.walk(directory):
        directories[:] = sorted(name for name in directories if not name.startswith(".") and name not in _SKIPPED)
        yield Path(root), names


def read_spec_file(path: Path) -> SpecFile | None:
    """The head of the file at `path`; None if it is no spec, or cannot be read now."""
    try:
        head, size = read_head(path, _HEAD)
    except (OSError, UsageError):  # gone, not ours, or a pipe: the list has what can be opened
        return None
    text = head.decode("utf-8", "surrogateescape")
    lines = Lines.of_file(text)
    front_matter = read_front_matter(lines, str(path))
    if not front_matter.problems and not {"type", "spec_id"} & front_matter.values.keys():
        return None
    titles = (_TITLE.fullmatch(lines.content(at)) for at in range(front_matter.end, len(lines)))
    return SpecFile(
        path=path,
        spec_id=front_matter.said("spec_id", text) or path.stem,
        type=front_matter.said("type", text),
        status=front_matter.said("status", text),
        title=next((title[1] for title in titles if title), ""),
        too_large=size > LARGEST,
    )


def find_spec(directory: Path, name: str) -> Path:
    """The spec called `name`: a path, seen from here or from `directory`, or a spec_id or file stem below that.

    Raises `UsageError` if there is none, or more than one.
    """
    for path in (Path(name), directory / name):
        if path.is_file():
            return path
    specs = find_specs(directory)
    found = [spec.path for spec in specs if spec.spec_id == name] or [
        spec.path for spec in specs if name in (spec.path.stem, spec.path.name)
    ]
    if found and all(path.samefile(found[0]) for path in found):  # by a link it may be there twice
        return found[0]
    if found:
        paths = " and ".join(str(path) for path in found)
        raise UsageError(f"{len(found)} specs are called {name!r}: {paths}", hint="name one by its path")
    where = "here" if directory == Path() else f"in {directory}"
    hint = nearest(name, [spec.spec_id for spec in specs], "the specs there are:") or "speclab new makes one"
    raise UsageError(f"no spec {name!r} {where}", hint=hint)


def doubles(path: Path, specs: Iterable[SpecFile]) -> list[Path]:
    """Those of `specs` beside the integration at `path` that have its spec_id, so that the run log cannot tell them."""
    spec = read_spec_file(path)
    if spec is None or spec.type != "integration":
        return []
    same = [one.path for one in specs if one.spec_id == spec.spec_id and one.type == spec.type]
    return [other for other in same if not other.samefile(path)]


def workspace_of(path: Path) -> Path:
    """The workspace that the file or directory `path` belongs to.

    That is the nearest directory around it that has a `.speclab`; where none has, the current directory if `path` is in
    it, else the directory of `path`.
    """
    directory = real_path(path)
    if not directory.is_dir():
        directory = directory.parent
    around = (directory, *directory.parents)
    with_state = next((one for one in around if (one / STATE).is_dir()), None)
    if with_state is not None:
        return with_state
    try:
        here = Path.cwd()
    except FileNotFoundError:  # it was removed
        return directory
    return here if here in around else directory


def runlog_path(workspace: Path) -> Path:
    """Where the run log of a workspace is."""
    return workspace / STATE / "runlog.db"


def state_directory(workspace: Path) -> Path:
    """Return the workspace's `.speclab`, created for this user alone if it is missing, and kept out of git.

    Raises `SpeclabError` where it cannot be created, or is a symbolic link.
    """
    state = workspace / STATE
    try:
        make_private_directory(state)
    except OSError as error:
        raise SpeclabError(f"{state}: cannot be made: {error.strerror or error}") from error
    return state
