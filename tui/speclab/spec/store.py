"""Loading and saving specs: a save merges what changed on disk in the meantime, or reports the conflict."""

from __future__ import annotations

import errno
import hashlib
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from itertools import pairwise
from pathlib import Path
from typing import Final, TypeAlias

from merge3 import Merge3

from speclab.core.errors import SpeclabError, UsageError
from speclab.core.files import (
    MAX_SPEC_SIZE,
    STATE_DIRECTORY,
    find_symlink,
    make_private_directory,
    read_regular_file,
    refuse_symlinks,
    replace_file,
    resolve_path,
    too_large,
)
from speclab.core.locks import locked_directory
from speclab.core.text import format_count
from speclab.spec import table
from speclab.spec.document import Document
from speclab.spec.outline import LineSpan, split_line_ends
from speclab.spec.table import TableRow
from speclab.spec.workspace import workspace_around


class Side(StrEnum):
    """The version that resolves a conflict; `BOTH` is mine, followed by theirs."""

    MINE = "mine"
    THEIRS = "theirs"
    BOTH = "both"


@dataclass(frozen=True, slots=True)
class Conflict:
    """Whole lines that both versions changed, with their common base."""

    mine: str
    theirs: str
    base: str

    def resolved(self, side: Side) -> str:
        """Return the lines of that side."""
        if side is Side.BOTH:
            return self.mine + self.theirs
        return self.mine if side is Side.MINE else self.theirs


@dataclass(frozen=True, slots=True)
class Merge:
    """The merged text in pieces, in order: merged text and conflicts."""

    pieces: tuple[str | Conflict, ...]

    @property
    def conflicts(self) -> tuple[Conflict, ...]:
        """The conflicts, in order."""
        return tuple(piece for piece in self.pieces if isinstance(piece, Conflict))

    def resolved(self, sides: Sequence[Side] = ()) -> str:
        """Return the text, with the conflicts resolved by `sides`, in order. Raises `ValueError` for a wrong number."""
        if len(sides) != len(self.conflicts):
            raise ValueError(f"expected {len(self.conflicts)} sides, got {len(sides)}")
        sides_left = iter(sides)
        return "".join(piece if isinstance(piece, str) else piece.resolved(next(sides_left)) for piece in self.pieces)


class SaveConflict(SpeclabError):
    """The file and the edit changed the same lines; nothing was written.

    `merge` contains the merged text and the conflicts; `theirs` is the file as it is now, the base of the next save.
    """

    def __init__(self, message: str, *, merge: Merge, theirs: Document, hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.merge = merge
        self.theirs = theirs

    @property
    def conflicts(self) -> tuple[Conflict, ...]:
        """The conflicting changes, in order."""
        return self.merge.conflicts


def merge(base: Document, mine: Document, theirs: Document) -> Merge:
    """Merge the changes from `base` to `mine` and to `theirs`."""
    versions = (base, mine, theirs)
    texts = [version.text for version in versions]
    for part in (_rows(*versions), _front_matter(*versions)):  # from the end, so that the other spans stay valid
        if part is not None:
            texts = [
                text[: span.start] + new + text[span.end :]
                for text, span, new in zip(texts, part.spans, part.texts, strict=True)
            ]
    return Merge(tuple(_pieces(*texts)))


def _pieces(base: str, mine: str, theirs: str) -> Iterator[str | Conflict]:
    for group in Merge3(split_line_ends(base), split_line_ends(mine), split_line_ends(theirs)).merge_groups():
        if group[0] == "conflict":
            was, a, b = ("".join(lines) for lines in group[1:])
            yield Conflict(mine=a, theirs=b, base=was)
        else:
            yield "".join(group[1])


_Three: TypeAlias = tuple[str, str, str]  # base, mine, theirs


@dataclass(frozen=True, slots=True)
class _Part:
    """A span of each version, and the texts to compare instead: three equal ones where it could be merged."""

    spans: tuple[LineSpan, LineSpan, LineSpan]
    texts: _Three


def _part(spans: Sequence[LineSpan], merged: Sequence[_Three]) -> _Part:
    base, mine, theirs = spans
    return _Part(
        (base, mine, theirs),
        ("".join(t[0] for t in merged), "".join(t[1] for t in merged), "".join(t[2] for t in merged)),
    )


def _front_matter(base: Document, mine: Document, theirs: Document) -> _Part | None:
    """Merge the front matter line by line, if its keys are the same: neighbouring lines are independent."""
    versions = (base, mine, theirs)
    keys = {tuple(entry.key for entry in version.front_matter.entries) for version in versions}
    spans = [version.front_matter.inner for version in versions]
    lines = [split_line_ends(span.of(version.text)) for span, version in zip(spans, versions, strict=True)]
    if len(keys) != 1 or len({len(version) for version in lines}) != 1:
        return None
    return _part(spans, [_choose_text(*three) for three in zip(*lines, strict=True)])


def _choose_text(base: str, mine: str, theirs: str) -> _Three:
    if mine in (base, theirs):
        return theirs, theirs, theirs
    if theirs == base:
        return mine, mine, mine
    return base, mine, theirs


# --- the mapping's rows


@dataclass(frozen=True, slots=True)
class _MergeRow:
    line: str
    end: str  # its line end
    texts: tuple[str, ...]

    def __str__(self) -> str:
        return self.line + self.end


def _rows(base: Document, mine: Document, theirs: Document) -> _Part | None:
    """Merge the mapping rows by target path; None if the tables cannot be compared that way."""
    versions = (base, mine, theirs)
    tables = [table for version in versions if (table := version.mapping)]
    if len(tables) < len(versions) or len({table.header.texts for table in tables}) != 1:
        return None
    spans, keyed = [], []
    for version, table in zip(versions, tables, strict=True):
        first, end = table.first + 2, table.first + 2 + len(table.rows)
        if end >= len(version.lines):  # the last row has no line end
            return None
        spans.append(LineSpan(version.lines.starts[first], version.lines.starts[end]))
        keyed.append({table.key(at): _row(version, row) for at, row in enumerate(table.rows)})
        if len(keyed[-1]) < len(table.rows):  # a target path appears twice
            return None
    was, ours, others = keyed
    header = theirs.lines.content(tables[2].first)
    order = _order(list(was), list(ours), list(others))
    return _part(spans, [_merged_row(was.get(key), ours.get(key), others.get(key), header) for key in order])


def _row(version: Document, row: TableRow) -> _MergeRow:
    end = version.text[row.span.end : version.lines.starts[row.line]]
    return _MergeRow(row.span.of(version.text), end, row.texts)


def _order(base: Sequence[str], mine: Sequence[str], theirs: Sequence[str]) -> list[str]:
    """Return the keys of both versions, each after its predecessor; rows that `mine` moved stay moved."""
    common = set(base) & set(mine) & set(theirs)
    moved = [key for key in mine if key in common] != [key for key in base if key in common]
    first, second = (mine, theirs) if moved else (theirs, mine)
    order = list(first)
    for before, key in pairwise([None, *second]):
        if key is not None and key not in first:
            order.insert(0 if before is None else order.index(before) + 1, key)
    return order


def _merged_row(base: _MergeRow | None, mine: _MergeRow | None, theirs: _MergeRow | None, header: str) -> _Three:
    if mine is None or theirs is None:
        left = mine or theirs
        if base is None:
            return (str(left),) * 3
        if left is None or left.texts == base.texts:
            return "", "", ""
        return str(base), str(mine or ""), str(theirs or "")
    if base is not None and str(base) in (str(mine), str(theirs)):
        return _choose_text(str(base), str(mine), str(theirs))
    was = base.texts if base else ("",) * len(mine.texts)
    both = theirs.line
    clashes = {}
    for at, (old, ours, other) in enumerate(zip(was, mine.texts, theirs.texts, strict=True)):
        if ours not in (old, other):
            if other == old:
                both = _with_cell(both, at, ours, header)
            else:
                clashes[at] = ours
    clashing = both
    for at, ours in clashes.items():
        clashing = _with_cell(clashing, at, ours, header)
    return str(base or "") if clashes else both + theirs.end, clashing + theirs.end, both + theirs.end


def _with_cell(line: str, at: int, text: str, header: str) -> str:
    # Between outer pipes, any text is read as a cell.
    piped = line if line.lstrip().startswith("|") else table.with_outer_pipes(line)
    return table.row_with_cell(piped, at, text, header)


_REASONS: Final = {
    errno.ENOSPC: "the disk is full",
    errno.EDQUOT: "the disk quota is used up",
    errno.EFBIG: "the file would be larger than this system allows",
    errno.EROFS: "the file system is read-only",
    errno.EACCES: "no permission to write in its directory",
    errno.EPERM: "it belongs to another user in a directory such as /tmp, or is immutable",
}


_LARGEST_RECOVERY: Final = 16 * MAX_SPEC_SIZE
"""Maximum bytes of unsaved text; more than a spec may have, because a large paste is kept too."""


@dataclass(frozen=True, slots=True)
class Saved:
    """The document on disk after a save; `merged` if it includes external changes."""

    document: Document
    merged: bool


def save(document: Document, base: Document) -> Saved:
    """Write `document`, which was edited from `base`, to its path, merged with external changes to the file.

    A deleted file is created again. Raises `SaveConflict` if both changed the same lines, and `SpeclabError` if the
    file cannot be written; then nothing was written.
    """
    if document.path is None:
        raise UsageError("the document has no path")
    path = document.path
    _refuse_too_large(document)
    with _writing(path):
        try:
            theirs = Document.parse(read_regular_file(path).decode("utf-8", "surrogateescape"), path)
        except FileNotFoundError:
            theirs = None
        except PermissionError as error:
            reason = "no permission to read the current file"
            raise SpeclabError(f"{path}: cannot be saved: {reason}", hint="nothing was written") from error
        if theirs is None or theirs.hash == base.hash:
            if theirs is None or document.hash != base.hash:
                _replace(path, document.to_bytes())
            return Saved(document, merged=False)
        if document.hash in (base.hash, theirs.hash):
            return Saved(theirs, merged=document.hash == base.hash)
        merged = merge(base, document, theirs)
        if merged.conflicts:
            raise SaveConflict(
                f"{path}: someone else changed the same lines, in {format_count(len(merged.conflicts), 'place')}",
                merge=merged,
                theirs=theirs,
                hint="nothing was written; reload the file and repeat the change",
            )
        result = Document.parse(merged.resolved(), path)
        _refuse_too_large(result)
        _replace(path, result.to_bytes())
        return Saved(result, merged=True)


def _refuse_too_large(document: Document) -> None:
    size = len(document.to_bytes())
    if size > MAX_SPEC_SIZE:
        raise too_large(document.path, size)


def create(path: Path, text: str) -> None:
    """Write a new file, and create its directory if necessary. Raises `UsageError` if the file exists."""
    _make(path.parent)
    with _writing(path):
        if os.path.lexists(path):
            raise UsageError(f"{path} is already there", hint="choose another name")
        _replace(path, text.encode("utf-8", "surrogateescape"))


@dataclass(frozen=True, slots=True)
class Recovery:
    """Unsaved text, and the time when it was stored."""

    text: str
    at: datetime


def write_recovery(path: Path, text: str, *, durable: bool = True) -> None:
    """Store the unsaved `text` of the spec at `path` in its workspace's `.speclab/recovery`.

    Unless `durable`, the text survives the end of the process but not a power failure: waiting for the disk at every
    key would make typing slow.
    """
    aside, data = recovery_path(path), text.encode("utf-8", "surrogateescape")
    if len(data) > _LARGEST_RECOVERY:
        raise too_large(path, len(data), _LARGEST_RECOVERY)
    _make(aside.parent)
    refuse_symlinks(aside)
    with _writing(aside):
        _replace(aside, data, durable=durable)


def find_recovery(path: Path) -> Recovery | None:
    """Return the unsaved text of the spec at `path`; None if there is none of this user, or it equals the file."""
    aside = recovery_path(path)
    if find_symlink(aside) is not None:
        return None  # no recovery file is written through a link
    try:
        data, at = read_regular_file(aside, _LARGEST_RECOVERY), aside.stat().st_mtime
    except (OSError, UsageError):  # a pipe, or anything else that `write_recovery` did not write
        return None
    try:
        if read_regular_file(path) == data:
            return None
    except (OSError, UsageError):
        pass  # the file is deleted or unreadable: the recovery text is the only copy
    return Recovery(data.decode("utf-8", "surrogateescape"), datetime.fromtimestamp(at, UTC))


def drop_recovery(path: Path) -> None:
    """Delete the unsaved text of the spec at `path`."""
    recovery_path(path).unlink(missing_ok=True)


def recovery_path(path: Path) -> Path:
    """Return the path of the recovery file of the spec at `path`, which may not exist."""
    whole = resolve_path(path)
    name = f"{whole.stem}-{hashlib.sha256(os.fsencode(whole)).hexdigest()[:12]}{whole.suffix}"
    return workspace_around(whole.parent) / ".speclab" / "recovery" / name


def _make(directory: Path) -> None:
    try:
        make_private_directory(directory)
    except OSError as error:
        raise SpeclabError(f"{directory}: cannot be created: {error.strerror or error}") from error


@contextmanager
def _writing(path: Path) -> Iterator[None]:
    """Hold the directory of `path` for the block, among speclab's writers. Raise `SpeclabError` for an `OSError`."""
    try:
        # Some network file systems have no locks. The file on the disk is compared with the base in any case.
        with locked_directory(resolve_path(path).parent, required=False):
            yield
    except OSError as error:
        reason = _REASONS.get(error.errno or 0, error.strerror or str(error))
        raise SpeclabError(f"{path}: cannot be saved: {reason}", hint="nothing was written") from error


def _replace(path: Path, data: bytes, *, durable: bool = True) -> None:
    """Replace the file atomically, unless it is read-only. With `durable`, wait until it is on the disk."""
    target = resolve_path(path)
    if target.exists() and not (target.stat().st_mode & 0o222 and os.access(target, os.W_OK)):
        raise SpeclabError(f"{path}: cannot be saved: the file is read-only", hint="nothing was written")
    replace_file(target, data, mode=0o600 if STATE_DIRECTORY in path.parts else 0o666, durable=durable)
