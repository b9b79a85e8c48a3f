"""What a spec makes speclab use outside of its workspace: hosts, databases, commands, references and paths.

It is read off the settings alone: nothing is connected, started or resolved. `speclab.connectors.trust` asks a person
about it before the first explicit action, such as a run.
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
"""Files of a pattern that are looked at."""


class ReachKind(StrEnum):
    """What is used."""

    HOST = "host"
    DATABASE = "database"
    COMMAND = "command"
    REFERENCE = "reference"
    PATH = "path"


@dataclass(frozen=True, slots=True, order=True)
class Reach:
    """One thing that one endpoint of a spec uses outside of the workspace; it never holds a login."""

    role: str
    kind: ReachKind
    what: str

    def __str__(self) -> str:
        """`target host: https://api.example.com`; equal texts are the same thing."""
        return f"{self.role} {self.kind}: {self.what}"


def find_hosts(text: str) -> Iterator[str]:
    """The hosts of all URLs in `text`, with scheme and port, without logins."""
    for match in _URL.finditer(text):
        yield f"{match['scheme'].lower()}://{match['authority'].rpartition('@')[2]}"


def find_outside(path: str, workspace: Path) -> Iterator[str]:
    """`path` if it leads out of `workspace` or to a hidden file in it, with the place that it leads to.

    A path with a reference in it may lead anywhere. Of a pattern, every file that it matches counts.
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
    """Where `path` leads, unless that is a file of the workspace that is not hidden."""
    place = Path(os.path.realpath(workspace / path))
    inside = place.is_relative_to(root)
    return None if inside and not any(part.startswith(".") for part in place.relative_to(root).parts) else place
