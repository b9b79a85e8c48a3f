"""A workspace: finding specs, checking their front matter, and watching for changes."""

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
from speclab.core.files import MAX_SPEC_SIZE, STATE_DIRECTORY, make_private_directory, read_head, resolve_path
from speclab.core.text import describe_choices, find_likely_name
from speclab.spec.approval import check_approval
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
    """Whether the front matter, if any, is valid."""
    return not any(problem.code == "F101" for problem in document.front_matter.problems)


def has_other_type(document: Document) -> bool:
    """Whether the file has another type than `integration`, and is not run."""
    return document.front_matter.get("type", INTEGRATION) != INTEGRATION


def read_header(document: Document, findings: ProblemCollector) -> tuple[str, str]:
    """Return the spec_id and the status, empty if missing; problems go to `findings`."""
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
    check_approval(document, findings)
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
"""Maximum number of watched directories without specs."""
_HEAD: Final = 32_768  # bytes; a front matter and a title fit
_TITLE: Final = re.compile(r" {0,3}#[ \t]+(.*?)(?:[ \t]+#*)?[ \t]*")


@dataclass(frozen=True, slots=True)
class SpecFile:
    """A spec in a list. `spec_id` is the file's stem if the front matter has none.

    A spec that is `too_large` is listed, but not parsed or run; see `speclab.core.files.LARGEST`.
    """

    path: Path
    spec_id: str
    type: str
    status: str
    title: str
    too_large: bool = False


def find_specs(directory: Path) -> list[SpecFile]:
    """Return the specs in and below `directory`, by path: Markdown files with a `type` or `spec_id` in front matter.

    Specs with invalid front matter are included, so that they can be fixed. Hidden directories are skipped.
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
    """Read the start of the file at `path`; None if it is not a spec, or cannot be read."""
    try:
        head, size = read_head(path, _HEAD)
    except (OSError, UsageError):  # deleted, not readable, or a pipe: only files that can be opened are listed
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
    """Return the spec called `name`: a path, relative to here or `directory`, or a spec_id or file stem below that.

    Raises `UsageError` if there is none, or more than one.
    """
    for path in (Path(name), directory / name):
        if path.is_file():
            return path
    specs = find_specs(directory)
    found = [spec.path for spec in specs if spec.spec_id == name] or [
        spec.path for spec in specs if name in (spec.path.stem, spec.path.name)
    ]
    if found and all(path.samefile(found[0]) for path in found):  # a link may name it twice
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
    """Return the other `specs` with the spec_id of the integration at `path`."""
    spec = read_spec_file(path)
    if spec is None or spec.type != "integration":
        return []
    same = [one.path for one in specs if one.spec_id == spec.spec_id and one.type == spec.type]
    return [other for other in same if not other.samefile(path)]


def workspace_of(path: Path) -> Path:
    """Return the workspace of the file or directory `path`.

    That is the nearest enclosing directory with a `.speclab`; without one, the current directory if `path` is in it,
    otherwise the directory of `path`.
    """
    directory = resolve_path(path)
    return workspace_around(directory if directory.is_dir() else directory.parent)


def workspace_around(directory: Path) -> Path:
    """Return the workspace of files in `directory`, as `workspace_of` does; the directory may not exist any more."""
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
    """Return the path of a workspace's run log."""
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


_STEP: Final = 200
"""Milliseconds between reads of the kernel's events; each wakes the processor."""
_DEBOUNCE: Final = 400
"""Milliseconds within which changes are reported together."""
_POLL: Final = 1_000
"""Milliseconds between polls, if the kernel's limit of watches for this user is reached."""

State = tuple[int, int, int]
"""A file's modification time in nanoseconds, its size and its inode."""


def file_state(path: Path) -> State | None:
    """Return the state of the file at `path`; None if it cannot be read."""
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_mtime_ns, status.st_size, status.st_ino


async def file_changes(
    directories: Iterable[Path], matters: Callable[[Change, str], bool], stop: asyncio.Event | None = None
) -> AsyncGenerator[set[Path], None]:
    """Yield the files in `directories` that are changed, added or deleted, until `stop`.

    The first set is empty, once watching has started: earlier changes are not reported, so the caller should scan the
    directories then. Subdirectories are not watched: a workspace may be in the middle of a large tree. Raises `OSError`
    if the directories cannot be watched.
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
            debounce=_DEBOUNCE,
            step=_STEP,
            force_polling=polling,
            poll_delay_ms=_POLL,
        )
        try:
            async with aclosing(stream):
                first = asyncio.ensure_future(anext(stream, None))
                try:
                    await asyncio.sleep(0)  # start the stream: the kernel watches before its first wait
                    if first.done() and not polling and isinstance(first.exception(), RuntimeError):
                        polling = True  # "Too many open files"
                        continue
                    if not first.done():
                        yield set()
                    changes = await first
                except BaseException:  # left early: a stream cannot be closed during `anext`
                    end.set()
                    await asyncio.wait([first])
                    raise
                while changes is not None:
                    yield {Path(path) for _change, path in changes}
                    changes = await anext(stream, None)
        except ExceptionGroup as errors:
            if errors.subgroup(RuntimeError) is None:
                raise
            await asyncio.sleep(
                _STEP / 1000
            )  # the name of a changed file is not UTF-8: watch again, and let the caller scan
            continue
        return


def is_spec(change: Change, path: str) -> bool:
    """Whether a changed file may be a spec."""
    del change
    return path.endswith(".md")


def is_spec_or_directory(change: Change, path: str) -> bool:
    """Whether a changed file may be a spec, or is a directory that was added or deleted."""
    if change.name == "deleted":
        return is_spec(change, path) or not Path(path).suffix
    return is_spec(change, path) or (change.name == "added" and Path(path).is_dir())


class _End(asyncio.Event):
    """An event that is set when it, or the caller's event, is set."""

    def __init__(self, asked: asyncio.Event) -> None:
        super().__init__()
        self._asked = asked

    def is_set(self) -> bool:
        return super().is_set() or self._asked.is_set()
