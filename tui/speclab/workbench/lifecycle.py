"""The lifecycle of a spec: what holds of it now, and what is missing for its next status."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Final

from speclab.core.errors import SpecError, SpeclabError, StatusRefused
from speclab.core.outcome import DRY_RUN_EVENT, Level
from speclab.core.text import format_count
from speclab.spec.approval import CHANGED, approve, read_approval
from speclab.spec.document import ALERTS, CRITERIA, Document
from speclab.spec.guide import is_template_text
from speclab.spec.integration import Role
from speclab.spec.problems import Problem, ProblemCollector
from speclab.spec.rules import Criterion, read_alerts, read_criteria
from speclab.spec.tasks import SpecProgress, name_criterion
from speclab.spec.workspace import STATUSES, has_other_type

if TYPE_CHECKING:
    from speclab.runlog import RunLogReader

_SHOWN: Final = 5  # problems or criteria in a message
_APPROVED: Final = ("approved", "in-progress", "completed")
_ROLES: Final[tuple[Role, Role]] = ("source", "target")


def read_progress(document: Document, path: Path, reader: RunLogReader, now: datetime) -> SpecProgress:
    """Return what holds of the spec at `path` now, read as `document`, without credentials. Raises `RunLogError`."""
    from speclab.spec.parser import examine, is_external

    spec_id = get_spec_id(document, path)
    status = document.front_matter.get_text("status", document.text)
    integration = next(iter(reader.integrations(spec_id)), None)
    has_run = integration is not None and integration.arrived_at is not None
    return SpecProgress(
        problems=find_open_problems(document),
        rows=len(examine(document).rows),
        is_external=is_external(document),
        has_dry_run=reader.has_event(spec_id, DRY_RUN_EVENT),
        has_run=has_run,
        has_alerts=_has_alerts(document),
        is_approved=read_approval(document) is not None or status in _APPROVED,
        is_scheduled=status in ("in-progress", "completed"),
        passing=_find_passing(document, reader, spec_id, now),
    )


def with_credentials(progress: SpecProgress, document: Document, path: Path) -> SpecProgress:
    """Return `progress` with the references of both systems, and whether they resolve on this machine.

    Those of a spec that is not trusted do not. No system is contacted except a secret store.
    """
    references = _find_references(document)
    return replace(
        progress,
        credentials={role: bool(names) and _resolves(document, path, role) for role, names in references.items()},
        references={role: names or () for role, names in references.items()},
    )


def get_spec_id(document: Document, path: Path) -> str:
    """Return the spec_id of a spec; the stem of its file if it has none."""
    return document.front_matter.get_text("spec_id", document.text) or path.stem


def find_open_problems(document: Document) -> tuple[Problem, ...]:
    """Return the problems to resolve before the spec can be approved; what a draft may omit is one of them.

    A file of another type does not run and has none.
    """
    from speclab.sync.prepare import find_problems

    if has_other_type(document):
        return ()
    found = find_problems(document)
    return tuple(one for one in found if one.level is not Level.INFO and one.code != CHANGED)


def find_missing(document: Document, status: str, progress: SpecProgress) -> list[str]:
    """Return what is missing for `document` to get `status`, as sentences; nothing is required of a step back."""
    old = document.front_matter.get_text("status", document.text)
    if has_other_type(document) or status not in STATUSES or _get_rank(status) <= _get_rank(old):
        return []
    return list(_find_missing(document, status, progress))


def require_status(document: Document, path: Path, status: str, reader: RunLogReader, now: datetime) -> None:
    """Check that the spec at `path` may get `status`. Raises `StatusRefused` with what is missing."""
    missing = find_missing(document, status, read_progress(document, path, reader, now))
    if missing:
        listed = "\n".join(f"  {line}" for line in missing)
        raise StatusRefused(
            f"{get_spec_id(document, path)} cannot become {status} yet:\n{listed}",
            hint="Nothing was changed. --force sets the status anyway.",
        )


def with_approval(document: Document, by: str, at: datetime) -> Document:
    """Return `document` approved by `by`; a draft gets the status `approved`, a later status is kept."""
    if _get_rank(document.front_matter.get_text("status", document.text)) < _get_rank("approved"):
        document = document.with_front_matter("status", "approved")
    return approve(document, by, at)


def _get_rank(status: str) -> int:
    return STATUSES.index(status) if status in STATUSES else -1


def _find_missing(document: Document, status: str, progress: SpecProgress) -> Iterator[str]:
    if status == "approved" and progress.problems:
        yield f"{format_count(len(progress.problems), 'problem')} to resolve:"
        yield from _shorten([f"  line {one.line}: {one.code} {one.message}" for one in progress.problems])
    if status == "in-progress" and not (progress.has_dry_run or progress.has_run or progress.is_external):
        spec_id = document.front_matter.get_text("spec_id", document.text) or "SPEC"
        yield f"no run or dry run has succeeded: speclab run {spec_id} --dry-run"
    if status == "completed":
        criteria = find_criteria(document)
        unmet = [name for one in criteria if not one.ticked and (name := name_criterion(one)) not in progress.passing]
        if not criteria:
            yield "the spec has no acceptance criteria"
        elif unmet:
            yield f"{len(unmet)} of {len(criteria)} acceptance criteria not met:"
            yield from _shorten([f"  {name}" for name in unmet])


def _shorten(lines: list[str]) -> list[str]:
    more = len(lines) - _SHOWN
    return lines if more <= 0 else [*lines[:_SHOWN], f"  and {more} more"]


def find_criteria(document: Document) -> tuple[Criterion, ...]:
    """Return the acceptance criteria of `document`, without the examples of the template."""
    section = next(iter(document.outline.at(CRITERIA)), None)
    return read_criteria(document, section) if section and not is_template_text(document, section) else ()


def _find_passing(document: Document, reader: RunLogReader, spec_id: str, now: datetime) -> frozenset[str]:
    from speclab.monitor.criteria import CriterionState, verify

    results = verify(document, reader, spec_id, now).results
    return frozenset(name_criterion(one.criterion) for one in results if one.state is CriterionState.PASS)


def _find_references(document: Document) -> dict[Role, tuple[str, ...] | None]:
    """Return the references of each system that has some; None for a system that is not valid yet."""
    from speclab.connectors.secrets.references import find_references
    from speclab.spec.parser import read_endpoint

    found: dict[Role, tuple[str, ...] | None] = {}
    for role in _ROLES:
        try:
            end = read_endpoint(document, role)
        except SpecError:
            found[role] = None
        else:
            if names := tuple(dict.fromkeys((*find_references(end.system), *find_references(end.auth)))):
                found[role] = names
    return found


def _resolves(document: Document, path: Path, role: Role) -> bool:
    """Whether all references of a system resolve on this machine, for a spec that is trusted."""
    from speclab.connectors.trust import this_machine
    from speclab.spec.parser import read_endpoint

    end = read_endpoint(document, role)
    try:
        references, _ = this_machine(path, [end])
        references.resolve_settings(end.system)
        references.resolve_settings(end.auth)
    except SpeclabError:  # not trusted, not set, or a store that cannot be reached
        return False
    return True


def _has_alerts(document: Document) -> bool:
    section = next(iter(document.outline.at(ALERTS)), None)
    return section is not None and bool(read_alerts(document, section, ProblemCollector("", document.text)))
