"""The external resources that a spec uses: hosts, databases, commands, references and paths outside the workspace.

They are found in the settings, without connecting, starting or resolving anything. `speclab.connectors.trust` asks the
user to confirm them before the first explicit action, such as a run.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from glob import has_magic, iglob
from itertools import islice
from pathlib import Path
from typing import Final

_URL: Final = re.compile(r"(?P<scheme>[A-Za-z][A-Za-z0-9+.-]*)://(?P<authority>[^\s/?#\"'<>|]+)")
_MATCHES: Final = 10_000
"""Maximum number of files of a pattern that are checked."""


class ReachKind(StrEnum):
    """The kind of a resource."""

    HOST = "host"
    DATABASE = "database"
    COMMAND = "command"
    REFERENCE = "reference"
    PATH = "path"


@dataclass(frozen=True, slots=True, order=True)
class Reach:
    """A resource outside the workspace that an endpoint uses; it never contains credentials."""

    role: str
    kind: ReachKind
    what: str

    def __str__(self) -> str:
        """Return `target host: https://api.example.com`; equal texts mean the same resource."""
        return f"{self.role} {self.kind}: {self.what}"


def find_hosts(text: str) -> Iterator[str]:
    """Yield the hosts of all URLs in `text`, with scheme and port, without credentials."""
    for match in _URL.finditer(text):
        yield f"{match['scheme'].lower()}://{match['authority'].rpartition('@')[2]}"


def find_outside(path: str, workspace: Path) -> Iterator[str]:
    """Yield `path` if it is outside `workspace` or hidden in it, with the file it resolves to.

    A path with a reference may be anywhere. For a pattern, every file that it matches is checked.
    """
    if "${" in path or "\0" in path:
        yield path
        return
    root = Path(os.path.realpath(workspace))
    if (place := _exposed(path, workspace, root)) is not None:
        yield path if Path(path) == place else f"{path} -> {place}"
    elif has_magic(path):
        for one in islice(iglob(path, root_dir=workspace, recursive=True), _MATCHES):  # noqa: PTH207 - with root_dir
            if (place := _exposed(one, workspace, root)) is not None:
                yield f"{one} -> {place}"


def _exposed(path: str, workspace: Path, root: Path) -> Path | None:
    """Return the resolved `path`, unless it is a file of the workspace that is not hidden."""
    place = Path(os.path.realpath(workspace / path))
    inside = place.is_relative_to(root)
    return None if inside and not any(part.startswith(".") for part in place.relative_to(root).parts) else place
