"""A workspace: finding specs, new specs from the template, and watching for changes."""

from __future__ import annotations

import asyncio
import os
import re
from collections.abc import AsyncGenerator, Callable, Iterable, Iterator
from contextlib import aclosing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from speclab.core.errors import SpeclabError, UsageError
from speclab.core.files import MAX_SPEC_SIZE, read_head, resolve_path
from speclab.core.state_files import STATE_DIRECTORY, make_private_directory
from speclab.core.text import describe_choices, find_likely_name
from speclab.spec.document import Document
from speclab.spec.front_matter import FrontMatterEntry, read_front_matter
from speclab.spec.outline import TextLines
from speclab.spec.problems import ProblemCollector

if TYPE_CHECKING:
    from watchfiles import Change


INTEGRATION: Final = "integration"
STATUSES: Final = ("draft", "approved", "in-progress", "completed")

_SPEC_ID: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_MAX_SPEC_ID: Final = 100  # the id names files: locks, samples, logs
_NO_SLUG: Final = re.compile(r"[^A-Za-z0-9._]+")


def is_readable(document: Document) -> bool:
    """Whether the front matter, if there is any, can be read."""
    return not any(problem.code == "F101" for problem in document.front_matter.problems)


def has_other_type(document: Document) -> bool:
    """Whether the file says it is of another type than `integration`; such a file is left alone."""
    return document.front_matter.get("type", INTEGRATION) != INTEGRATION


def read_header(document: Document, findings: ProblemCollector) -> tuple[str, str]:
    """The spec's id and status, empty where they are not said; what is wrong goes to `findings`."""
    front_matter = document.front_matter
    findings.extend(front_matter.problems)
    if has_other_type(document):
        kind = front_matter.get_text("type", document.text)
        findings.error(
            "F106",
            front_matter.get_span("type") or front_matter.span,
            f"a spec of type {kind!r} does not run; only `type: integration` does",
        )
    if not is_readable(document):
        return "", ""
    for name in ("spec_id", "type", "status"):
        if front_matter.entry(name) is None:
            findings.need("F102", front_matter.span, f"`{name}` is missing from the front matter")
    return (
        _spec_id(document, front_matter.entry("spec_id"), findings),
        _status(document, front_matter.entry("status"), findings),
    )


def _spec_id(document: Document, entry: FrontMatterEntry | None, findings: ProblemCollector) -> str:
    if entry is None:
        return ""
    written = entry.value.of(document.text)
    if not written or written.startswith("{"):
        findings.need("F102", entry.value, "`spec_id` is empty; expected a name such as crm-to-billing")
        return ""
    spec_id = document.front_matter.get_text("spec_id", document.text) or written
    if not _SPEC_ID.fullmatch(spec_id):
        slug = _NO_SLUG.sub("-", spec_id).strip("-._").lower()
        message = f"{spec_id!r} is not a valid spec_id: expected letters, digits, '-', '_' and '.'"
        findings.error("F103", entry.value, message, slug[:_MAX_SPEC_ID] or None)
    elif len(spec_id) > _MAX_SPEC_ID:
        message = f"the spec_id has {len(spec_id)} characters: expected at most {_MAX_SPEC_ID}"
        findings.error("F103", entry.value, message)
    return spec_id


def _status(document: Document, entry: FrontMatterEntry | None, findings: ProblemCollector) -> str:
    if entry is None:
        return ""
    status = document.front_matter.get_text("status", document.text)
    if status not in STATUSES:
        hint = describe_choices(status, STATUSES, "expected one of")
        findings.error("F104", entry.value, f"unknown status {status!r}; {hint}", find_likely_name(status, STATUSES))
    return status


_SKIPPED: Final = frozenset({"node_modules", "__pycache__"})
WATCHED: Final = 500
"""Directories without specs that are watched at most."""
_HEAD: Final = 32_768  # bytes; a front matter and a title fit
_TITLE: Final = re.compile(r" {0,3}#[ \t]+(.*?)(?:[ \t]+#*)?[ \t]*")


@dataclass(frozen=True, slots=True)
class SpecFile:
    """A spec as the list shows it. `spec_id` is the file's stem where the front matter has none.

    One that is `too_large` is listed, and neither parsed nor run; see `speclab.core.files.LARGEST`.
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
    lines = TextLines.of_file(text)
    front_matter = read_front_matter(lines, str(path))
    if not front_matter.problems and not {"type", "spec_id"} & front_matter.values.keys():
        return None
    titles = (_TITLE.fullmatch(lines.content(at)) for at in range(front_matter.end, len(lines)))
    return SpecFile(
        path=path,
        spec_id=front_matter.get_text("spec_id", text) or path.stem,
        type=front_matter.get_text("type", text),
        status=front_matter.get_text("status", text),
        title=next((title[1] for title in titles if title), ""),
        too_large=size > MAX_SPEC_SIZE,
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
        raise UsageError(f"{len(found)} specs are called {name!r}: {paths}", hint="use its path")
    where = "here" if directory == Path() else f"in {directory}"
    hint = (
        describe_choices(name, [spec.spec_id for spec in specs], "the specs there are:")
        or "create one with speclab new"
    )
    raise UsageError(f"no spec {name!r} {where}", hint=hint)


def find_duplicate_ids(path: Path, specs: Iterable[SpecFile]) -> list[Path]:
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
    directory = resolve_path(path)
    if not directory.is_dir():
        directory = directory.parent
    around = (directory, *directory.parents)
    with_state = next((one for one in around if (one / STATE_DIRECTORY).is_dir()), None)
    if with_state is not None:
        return with_state
    try:
        here = Path.cwd()
    except FileNotFoundError:  # it was removed
        return directory
    return here if here in around else directory


def runlog_path(workspace: Path) -> Path:
    """Where the run log of a workspace is."""
    return workspace / STATE_DIRECTORY / "runlog.db"


def state_directory(workspace: Path) -> Path:
    """Return the workspace's `.speclab`, created for this user alone if it is missing, and kept out of git.

    Raises `SpeclabError` where it cannot be created, or is a symbolic link.
    """
    state = workspace / STATE_DIRECTORY
    try:
        make_private_directory(state)
    except OSError as error:
        raise SpeclabError(f"{state}: cannot be created: {error.strerror or error}") from error
    return state


_LOOK: Final = 200
"""Milliseconds between two looks at what the kernel says about files; each wakes the processor."""
_TOGETHER: Final = 400
"""Milliseconds within which changes are told as one."""
_POLL: Final = 1_000
"""Milliseconds between two looks at the files themselves, where the kernel watches no more for this user."""

State = tuple[int, int, int]
"""What differs between two states of a file: when it was written, in nanoseconds, its bytes and its inode."""


def file_state(path: Path) -> State | None:
    """The state of the file at `path`; None where there is none, or it is out of reach."""
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_mtime_ns, status.st_size, status.st_ino


async def file_changes(
    directories: Iterable[Path], matters: Callable[[Change, str], bool], stop: asyncio.Event | None = None
) -> AsyncGenerator[set[Path], None]:
    """The files in `directories` that were changed, added or deleted, as it happens, until `stop`.

    An empty set comes first, once they are watched: nobody tells what changed before that, so it is for the caller to
    look now. Not told is what happens further below: a workspace may lie in the middle of a large tree. Raises
    `OSError` if they cannot be watched.
    """
    from watchfiles import awatch

    asked, polling = stop or asyncio.Event(), None
    while True:
        end = _End(asked)
        stream = awatch(
            *directories,
            watch_filter=matters,
            stop_event=end,
            recursive=False,
            debounce=_TOGETHER,
            step=_LOOK,
            force_polling=polling,
            poll_delay_ms=_POLL,
        )
        try:
            async with aclosing(stream):
                first = asyncio.ensure_future(anext(stream, None))
                try:
                    await asyncio.sleep(0)  # the stream begins: before it first waits, the kernel knows what to watch
                    if first.done() and not polling and isinstance(first.exception(), RuntimeError):
                        polling = True  # "Too many open files"
                        continue
                    if not first.done():
                        yield set()
                    changes = await first
                except BaseException:  # it was left: a stream cannot be closed while it is waited for
                    end.set()
                    await asyncio.wait([first])
                    raise
                while changes is not None:
                    yield {Path(path) for _change, path in changes}
                    changes = await anext(stream, None)
        except ExceptionGroup as errors:
            if errors.subgroup(RuntimeError) is None:
                raise
            await asyncio.sleep(_LOOK / 1000)  # a changed file's name is no UTF-8: it is for the caller to look anew
            continue
        return


def is_spec(change: Change, path: str) -> bool:
    """Whether a change is one of a file that may be a spec."""
    del change
    return path.endswith(".md")


def is_spec_or_directory(change: Change, path: str) -> bool:
    """Return whether a file that may be a spec changed, or a directory that may hold some came or went."""
    if change.name == "deleted":
        return is_spec(change, path) or not Path(path).suffix
    return is_spec(change, path) or (change.name == "added" and Path(path).is_dir())


class _End(asyncio.Event):
    """The end of watching: one that was asked for, or one of this stream alone."""

    def __init__(self, asked: asyncio.Event) -> None:
        super().__init__()
        self._asked = asked

    def is_set(self) -> bool:
        return super().is_set() or self._asked.is_set()
