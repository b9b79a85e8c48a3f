"""Sample records for the mapping: from a file, from the live source, or from the dead letters of earlier runs."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final, TypeAlias
from urllib.parse import quote

from speclab.app.loading import loaded
from speclab.connectors.jsontext import decode, encode
from speclab.errors import SpecError, UsageError
from speclab.jsonvalue import Record
from speclab.spec.files import read_head
from speclab.spec.integration import End
from speclab.spec.workspace import workspace_of
from speclab.statefiles import STATE, find_link, make_private_directory, refuse_links

if TYPE_CHECKING:
    from speclab.connectors import References
    from speclab.connectors.base import Description, Seams
    from speclab.mapping.fields import Field
    from speclab.runlog import FailureRow
    from speclab.spec.integration import Integration
    from speclab.spec.settings import RetrySettings

_Sample: TypeAlias = "Callable[..., Awaitable[list[Record]]]"
_Describe: TypeAlias = "Callable[[End, References, Seams], Awaitable[Description]]"

LIMIT: Final = 500
"""Records that are asked of a live source."""


@dataclass(frozen=True, slots=True)
class Records:
    """Sample records, and where they are from, in a few words; `failures` are theirs, one for each, if they failed."""

    records: tuple[Record, ...]
    origin: str
    failures: tuple[FailureRow, ...] = ()


MAX_SAMPLE: Final = 8_000_000
"""Bytes of a sample file: all of its records are held while the spec is open."""

NONE: Final = Records((), "")
_EXPECTED: Final = "expected a JSON object on each line"


def kept_at(spec: Path, spec_id: str) -> Path:
    """Where the sample of a spec is kept."""
    return workspace_of(spec) / STATE / "samples" / f"{quote(spec_id, safe=' ')}.jsonl"


def named(text: str, spec: Path) -> Path:
    """The file that a person means by `text`: seen from the workspace of the spec."""
    return workspace_of(spec) / Path(text).expanduser()


def read_records(path: Path) -> Records:
    """The records in a file of JSON lines. Raises `UsageError` with the line that is none."""
    if (link := find_link(path)) is not None:
        raise UsageError(f"{link}: is a symbolic link, and speclab follows none in {STATE}")
    try:
        text, _ = read_head(path, MAX_SAMPLE + 1)  # a pipe would be waited for
    except OSError as error:
        raise UsageError(f"{path}: cannot be read: {error.strerror or error}") from error
    if len(text) > MAX_SAMPLE:
        raise UsageError(
            f"{path}: a sample of more than {MAX_SAMPLE:,} bytes", hint="Keep some of its lines: head -n 500 FILE."
        )
    records = [_record(path, number, line) for number, line in enumerate(text.split(b"\n"), 1) if line.strip()]
    if not records:
        raise UsageError(f"{path}: there is no record in it", hint=_EXPECTED)
    return Records(tuple(records), path.name)


def _record(path: Path, number: int, line: bytes) -> Record:
    try:
        value = decode(line)
    except ValueError as error:
        raise UsageError(f"{path}:{number}: no JSON: {error}", hint=_EXPECTED) from error
    if not isinstance(value, dict):
        raise UsageError(f"{path}:{number}: a JSON {type(value).__name__} is no record", hint=_EXPECTED)
    return value


def keep(records: Sequence[Record], spec: Path, spec_id: str) -> Path:
    """Write `records` to where the sample of the spec is looked for; the directory is the user's alone."""
    from speclab.spec.store import create

    path = kept_at(spec, spec_id)
    refuse_links(path)
    make_private_directory(path.parent)
    path.unlink(missing_ok=True)
    create(path, "".join(f"{encode(record).decode()}\n" for record in records))
    return path


async def live(end: End, retry: RetrySettings, spec: Path) -> Records:
    """Return the first records of the source `end` of `spec`. Raises as a reader does."""
    sample, references, seams = await loaded(partial(_means, end, spec))
    found = await sample(end.system, end.auth, references, seams, LIMIT, retry)
    if not found:
        raise SpecError("the source has no records", hint="Check that `read` in Source System names the right list.")
    return Records(tuple(found), "live")


def _means(end: End, spec: Path) -> tuple[_Sample, References, Seams]:
    """Load what reads a source, with the machine's own time, chance, network and environment."""
    from speclab.connectors import sample, this_machine

    return sample, *this_machine(spec, [end])


async def fields_at_target(integration: Integration) -> tuple[Field, ...]:
    """The fields the integration's target has. Raises as a reader does, and `SpeclabError` where it cannot say."""
    target = integration.ends[1]
    describe, references, seams = await loaded(partial(_describing, integration.path, target))
    return (await describe(target, references, seams)).fields


def _describing(spec: Path, end: End) -> tuple[_Describe, References, Seams]:
    from speclab.connectors import describe, this_machine

    return describe, *this_machine(spec, [end])


def of_failures(failures: Sequence[FailureRow]) -> Records:
    """The records of `failures` as they were read, before mapping."""
    kept = tuple(failure for failure in failures if failure.source is not None)
    return Records(tuple(failure.source for failure in kept if failure.source is not None), "dead letters", kept)
