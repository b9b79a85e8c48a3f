"""The demo's workspace: a directory with the spec, what billing holds, and the run log."""

from __future__ import annotations

import tempfile
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from speclab.statefiles import make_private_directory, refuse_links

SPEC: Final = "crm-contacts-to-billing.md"


@dataclass(frozen=True, slots=True)
class Workspace:
    """Where the demo's files are."""

    directory: Path

    @property
    def spec(self) -> Path:
        """The integration's spec; a person may edit it, and it is never written over."""
        return self.directory / "specs" / SPEC

    @property
    def is_own(self) -> bool:
        """Whether the spec is the demo's own to the letter, and not one that somebody else has put there."""
        return self.spec.read_bytes() == Path(__file__).with_name(SPEC).read_bytes()

    @property
    def runlog(self) -> Path:
        """The run log."""
        return self.directory / ".speclab" / "runlog.db"

    @property
    def billing(self) -> Path:
        """The SQLite file billing keeps its customers in."""
        return self.directory / ".speclab" / "billing.db"


def lay_out(directory: Path | None) -> Workspace:
    """The workspace in `directory`, made where it is not there; None: a new temporary directory, which stays."""
    workspace = Workspace((directory or Path(tempfile.mkdtemp(prefix="speclab-demo-"))).resolve())
    workspace.spec.parent.mkdir(parents=True, exist_ok=True)
    make_private_directory(workspace.billing.parent)
    refuse_links(workspace.billing)
    with suppress(FileExistsError), workspace.spec.open("xb") as spec:
        spec.write(Path(__file__).with_name(SPEC).read_bytes())
    return workspace
