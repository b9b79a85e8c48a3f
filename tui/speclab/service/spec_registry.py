"""The spec registry: the specs of a workspace that the service runs, read again when their files change."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from speclab.core.errors import SpecError, SpeclabError, UsageError
from speclab.core.files import STATE_DIRECTORY, read_head
from speclab.core.outcome import Level
from speclab.core.text import describe_choices
from speclab.runlog import IntegrationRow
from speclab.runlog.connection import encode_text
from speclab.spec.document import Document
from speclab.spec.integration import Integration
from speclab.spec.parser import is_external
from speclab.spec.workspace import STATUSES, SpecFile, State, file_state, find_specs, read_spec_file, workspace_of
from speclab.sync.prepare import prepare

IN_PROGRESS: Final = "in-progress"
"""The `status` of a spec that the service runs."""


@dataclass(frozen=True, slots=True)
class RegisteredSpec:
    """A spec that the service runs: its path and content, or the `problem` that prevents a run.

    `file` is the path as the run log names it.
    """

    spec_id: str
    path: Path
    file: str
    integration: Integration | None
    problem: str = ""


@dataclass(frozen=True, slots=True)
class RegistrySnapshot:
    """The content of the registry at one time.

    `idle` are specs that are not run, including deleted ones; `skipped` are files that are probably meant to be run,
    with the reason why they are not; `directories` contain any of them.
    """

    registered: dict[str, RegisteredSpec]
    idle: frozenset[str]
    skipped: dict[Path, str]
    directories: frozenset[Path]


class SpecRegistry:
    """Finds the specs in `directory` that belong to `workspace` and have the status in-progress."""

    def __init__(self, directory: Path, workspace: Path) -> None:
        self._directory = directory
        self._workspace = workspace
        self._known: set[str] = set()
        self._read: dict[Path, tuple[State | None, RegisteredSpec]] = {}
        self._snapshot: RegistrySnapshot | None = None

    def scan(self) -> RegistrySnapshot:
        """Read the specs that have changed, and return the current snapshot; unchanged specs are the same objects.

        While the workspace is unreachable, such as on a detached disk, return the previous snapshot.
        """
        if self._snapshot is not None and file_state(self._workspace / STATE_DIRECTORY) is None:
            return self._snapshot
        registered: dict[str, RegisteredSpec] = {}
        skipped: dict[Path, str] = {}
        directories = {self._directory}
        read = {}
        found = [self._restore_registered(spec) for spec in find_specs(self._directory)]
        for spec in found:
            if spec.type != "integration" or workspace_of(spec.path) != self._workspace:
                continue
            directories.add(spec.path.parent)
            self._known.add(spec.spec_id)
            if spec.status not in ("", *STATUSES):
                hint = describe_choices(spec.status, STATUSES, "expected one of")
                skipped[spec.path] = f"its status is {encode_text(spec.status)!r}; {hint}"
            if spec.status != IN_PROGRESS:
                continue
            if spec.spec_id in registered:
                skipped[spec.path] = f"its spec_id is the one of {registered[spec.spec_id].path}"
            elif entry := self._read_spec(spec):
                read[spec.path] = entry
                registered[spec.spec_id] = entry[1]
        for path in self._read.keys() - {spec.path for spec in found}:
            entry = self._read[path]
            if entry[1].spec_id not in registered and _is_unreadable_spec(path):  # it was not stopped
                read[path] = entry
                registered[entry[1].spec_id] = entry[1]
        self._read = read
        self._snapshot = RegistrySnapshot(
            registered, frozenset(self._known - registered.keys()), skipped, frozenset(directories)
        )
        return self._snapshot

    def _restore_registered(self, spec: SpecFile) -> SpecFile:
        """Return `spec`; if its front matter is broken now, as it was registered before, because it was not stopped.

        Its spec_id is changed to the form that the run log stores, even if it is not valid UTF-8.
        """
        spec = replace(spec, spec_id=encode_text(spec.spec_id))
        known = self._read.get(spec.path)
        if known is None or spec.type:
            return spec
        return replace(spec, spec_id=known[1].spec_id, type="integration", status=IN_PROGRESS)

    def _read_spec(self, spec: SpecFile) -> tuple[State | None, RegisteredSpec] | None:
        """Return the state and the content of the file; None if it was deleted in the meantime."""
        file = encode_text(str(spec.path.resolve().relative_to(self._workspace)))
        state = file_state(spec.path)
        try:
            known = self._read.get(spec.path)
            if known is not None and known[0] == state:
                return known
            return state, RegisteredSpec(spec.spec_id, spec.path, file, prepare(spec.path).integration)
        except FileNotFoundError:
            return None
        except (SpeclabError, OSError) as error:
            return state, RegisteredSpec(spec.spec_id, spec.path, file, None, _describe_error(file, error))


def is_run_here(workspace: Path, integration: IntegrationRow) -> bool:
    """Return whether speclab runs an integration itself: its spec in `workspace` exists and is not external."""
    path = workspace / integration.path
    if not integration.path or not path.is_file():
        return False
    try:
        return not is_external(Document.load(path))
    except (SpeclabError, OSError):  # it cannot be read now
        return True


def _describe_error(file: str, error: SpeclabError | OSError) -> str:
    """Return in one line why the spec in `file` cannot run."""
    errors = (
        [problem for problem in error.problems if problem.level is Level.ERROR] if isinstance(error, SpecError) else []
    )
    if not errors:
        return encode_text(str(error))
    first, others = errors[0], len(errors) - 1
    more = f" (and {others} more)" if others else ""
    return encode_text(f"{file}:{first.line}:{first.column}: {first.code} {first.message}{more}")


def _is_unreadable_spec(path: Path) -> bool:
    """Return whether the spec at `path`, which was not found, exists but cannot or could not be read."""
    try:
        read_head(path, 1)
    except (FileNotFoundError, NotADirectoryError):
        return False
    except (OSError, UsageError):
        return True
    return read_spec_file(path) is not None
