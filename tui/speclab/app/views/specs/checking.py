"""The errors of every spec in the workspace, counted in the background. Unchanged files are not read again."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from functools import partial
from pathlib import Path

from speclab.core.errors import SpeclabError
from speclab.core.files import resolve_path
from speclab.core.outcome import Level
from speclab.spec.workspace import SpecFile, State, file_state
from speclab.workbench.samples import loaded


class SpecErrors:
    """The number of errors of each spec file, by its resolved path, as far as they were counted."""

    def __init__(self) -> None:
        self.counts: dict[Path, int] = {}
        self._states: dict[Path, State | None] = {}

    async def count(self, specs: Iterable[SpecFile]) -> AsyncIterator[Path]:
        """Count the errors of those that changed since the last count; yield the path of each that has others now."""
        paths = [resolve_path(spec.path) for spec in specs]
        for gone in self.counts.keys() - set(paths):
            del self.counts[gone], self._states[gone]
        for path in paths:
            state = file_state(path)
            if path in self.counts and self._states[path] == state:
                continue
            count = await loaded(partial(_errors, path))
            changed = self.counts.get(path, 0) != count
            self.counts[path], self._states[path] = count, state
            if changed:
                yield path


def _errors(path: Path) -> int:
    from speclab.mapping import lint
    from speclab.spec.document import Document

    try:
        problems = lint(Document.load(path))
    except SpeclabError:  # it went away since it was found, or cannot be read: opening it says why
        return 0
    return sum(problem.level is Level.ERROR for problem in problems)
