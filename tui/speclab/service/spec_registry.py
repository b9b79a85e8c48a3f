"""The roster: the specs of a workspace that are to be run, read anew when their files change."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from speclab.core.errors import SpecError, SpeclabError, UsageError
from speclab.core.files import read_head
from speclab.core.outcome import Level
from speclab.core.state_files import STATE_DIRECTORY
from speclab.core.text import describe_choices
from speclab.runlog.connection import text
from speclab.spec.integration import Integration
from speclab.spec.workspace import STATUSES, SpecFile, State, file_state, find_specs, read_spec_file, workspace_of
from speclab.sync.prepare import prepare

IN_PROGRESS: Final = "in-progress"
"""The `status` of a spec that is to be run."""


@dataclass(frozen=True, slots=True)
class RegisteredSpec:
    """A spec that is to be run: its path, and what it says, or what stands in the way of running it.

    `file` is the path as the run log names it.
    """

    spec_id: str
    path: Path
    file: str
    integration: Integration | None
    problem: str = ""


@dataclass(frozen=True, slots=True)
class RegistrySnapshot:
    """The roster at one time.

    `idle` are specs that are not to be run, those among them that are not there any more; `passed_over` files
    that are perhaps meant to be run, with the reason why they are not, and `directories` where any of them are.
    """

    registered: dict[str, RegisteredSpec]
    idle: frozenset[str]
    passed_over: dict[Path, str]
    directories: frozenset[Path]


class SpecRegistry:
    """Finds the specs in `directory` that belong to `workspace` and have the status in-progress."""

    def __init__(self, directory: Path, workspace: Path) -> None:
        self._directory = directory
        self._workspace = workspace
        self._known: set[str] = set()
        self._read: dict[Path, tuple[State | None, RegisteredSpec]] = {}
        self._roll: RegistrySnapshot | None = None

    def call(self) -> RegistrySnapshot:
        """Who is on it now. A file that has not changed since is not read again, and gives the very same object.

        While the workspace is away, as a disk may be, it is who was on it before.
        """
        if self._roll is not None and file_state(self._workspace / STATE_DIRECTORY) is None:
            return self._roll
        registered: dict[str, RegisteredSpec] = {}
        passed_over: dict[Path, str] = {}
        directories = {self._directory}
        read = {}
        found = [self._as_known(spec) for spec in find_specs(self._directory)]
        for spec in found:
            if spec.type != "integration" or workspace_of(spec.path) != self._workspace:
                continue
            directories.add(spec.path.parent)
            self._known.add(spec.spec_id)
            if spec.status not in ("", *STATUSES):
                hint = describe_choices(spec.status, STATUSES, "expected one of")
                passed_over[spec.path] = f"its status is {text(spec.status)!r}; {hint}"
            if spec.status != IN_PROGRESS:
                continue
            if spec.spec_id in registered:
                passed_over[spec.path] = f"it has the spec_id of {registered[spec.spec_id].path}"
            elif said := self._enlist(spec):
                read[spec.path] = said
                registered[spec.spec_id] = said[1]
        for path in self._read.keys() - {spec.path for spec in found}:
            said = self._read[path]
            if said[1].spec_id not in registered and _was_passed_over(path):  # nobody said that it is to stop
                read[path] = said
                registered[said[1].spec_id] = said[1]
        self._read = read
        self._roll = RegistrySnapshot(
            registered, frozenset(self._known - registered.keys()), passed_over, frozenset(directories)
        )
        return self._roll

    def _as_known(self, spec: SpecFile) -> SpecFile:
        """`spec`; if it was enlisted and its front matter is broken now, as it was: nobody said that it is to stop.

        Its spec_id is as the run log knows it, whatever bytes the file has there.
        """
        spec = replace(spec, spec_id=text(spec.spec_id))
        known = self._read.get(spec.path)
        if known is None or spec.type:
            return spec
        return replace(spec, spec_id=known[1].spec_id, type="integration", status=IN_PROGRESS)

    def _enlist(self, spec: SpecFile) -> tuple[State | None, RegisteredSpec] | None:
        """What the file says; None if it has gone meanwhile."""
        file = text(str(spec.path.resolve().relative_to(self._workspace)))
        state = file_state(spec.path)
        try:
            known = self._read.get(spec.path)
            if known is not None and known[0] == state:
                return known
            return state, RegisteredSpec(spec.spec_id, spec.path, file, prepare(spec.path).integration)
        except FileNotFoundError:
            return None
        except (SpeclabError, OSError) as error:
            return state, RegisteredSpec(spec.spec_id, spec.path, file, None, _words(file, error))


def _words(file: str, error: SpeclabError | OSError) -> str:
    """Why the spec in `file` cannot run, in a line."""
    errors = [one for one in error.problems if one.level is Level.ERROR] if isinstance(error, SpecError) else []
    if not errors:
        return text(str(error))
    first, others = errors[0], len(errors) - 1
    more = f" (and {others} more)" if others else ""
    return text(f"{file}:{first.line}:{first.column}: {first.code} {first.message}{more}")


def _was_passed_over(path: Path) -> bool:
    """Whether the spec at `path`, which was not found, is there all the same: out of reach now, or a moment ago."""
    try:
        read_head(path, 1)
    except (FileNotFoundError, NotADirectoryError):
        return False
    except (OSError, UsageError):
        return True
    return read_spec_file(path) is not None
