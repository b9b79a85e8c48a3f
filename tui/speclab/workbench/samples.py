"""Sample records: from files, from the source, and from dead letters."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final, TypeAlias
from urllib.parse import quote

from speclab.core.errors import SpecError, UsageError
from speclab.core.files import STATE_DIRECTORY, find_symlink, make_private_directory, read_head, refuse_symlinks
from speclab.core.json import Record, decode, encode
from speclab.core.plugins import load_in_thread
from speclab.spec.integration import Endpoint
from speclab.spec.workspace import workspace_of

if TYPE_CHECKING:
    from speclab.connectors.api import DiscoveredSchema, RuntimeContext
    from speclab.connectors.secrets.references import References
    from speclab.mapping.fields import Field
    from speclab.runlog import FailureRow
    from speclab.spec.integration import Integration
    from speclab.spec.settings import RetrySettings


_Sample: TypeAlias = "Callable[..., Awaitable[list[Record]]]"
_Discover: TypeAlias = "Callable[[Endpoint, References, RuntimeContext], Awaitable[DiscoveredSchema]]"

LIMIT: Final = 500
"""Records that are read from a live source."""


@dataclass(frozen=True, slots=True)
class SampleRecords:
    """Sample records and their origin in words; `failures` has one per record if they are dead letters."""

    records: tuple[Record, ...]
    origin: str
    failures: tuple[FailureRow, ...] = ()


MAX_SAMPLE: Final = 8_000_000
"""Bytes of a sample file: all of its records are held while the spec is open."""

NO_SAMPLES: Final = SampleRecords((), "")
_EXPECTED: Final = "expected a JSON object on each line"


def kept_sample_path(spec: Path, spec_id: str) -> Path:
    """Return the path of the kept sample of a spec."""
    return workspace_of(spec) / STATE_DIRECTORY / "samples" / f"{quote(spec_id, safe=' ')}.jsonl"


def resolve_sample_path(text: str, spec: Path) -> Path:
    """Resolve a path that the user typed, relative to the workspace of the spec."""
    return workspace_of(spec) / Path(text).expanduser()


def read_records(path: Path) -> SampleRecords:
    """Read the records of a JSON Lines file. Raises `UsageError` with the invalid line."""
    if (link := find_symlink(path)) is not None:
        raise UsageError(f"{link}: is a symbolic link, and speclab follows none in {STATE_DIRECTORY}")
    try:
        text, _ = read_head(path, MAX_SAMPLE + 1)  # a pipe would be waited for
    except OSError as error:
        raise UsageError(f"{path}: cannot be read: {error.strerror or error}") from error
    if len(text) > MAX_SAMPLE:
        raise UsageError(
            f"{path}: a sample of more than {MAX_SAMPLE:,} bytes", hint="Use some of its lines: head -n 500 FILE."
        )
    records = [_record(path, number, line) for number, line in enumerate(text.split(b"\n"), 1) if line.strip()]
    if not records:
        raise UsageError(f"{path}: the file has no records", hint=_EXPECTED)
    return SampleRecords(tuple(records), path.name)


def _record(path: Path, number: int, line: bytes) -> Record:
    try:
        value = decode(line)
    except ValueError as error:
        raise UsageError(f"{path}:{number}: not JSON: {error}", hint=_EXPECTED) from error
    if not isinstance(value, dict):
        raise UsageError(f"{path}:{number}: expected a record, got a JSON {type(value).__name__}", hint=_EXPECTED)
    return value


def save_sample(records: Sequence[Record], spec: Path, spec_id: str) -> Path:
    """Write `records` as the kept sample of the spec, in a directory that only the user can read."""
    from speclab.spec.store import create

    path = kept_sample_path(spec, spec_id)
    refuse_symlinks(path)
    make_private_directory(path.parent)
    path.unlink(missing_ok=True)
    create(path, "".join(f"{encode(record).decode()}\n" for record in records))
    return path


async def read_live_sample(end: Endpoint, retry: RetrySettings, spec: Path) -> SampleRecords:
    """Return the first records of the source `end` of `spec`. Raises as a reader does."""
    sample, references, context = await load_in_thread(partial(_load_sampler, end, spec))
    found = await sample(end.system, end.auth, references, context, LIMIT, retry)
    if not found:
        raise SpecError("the source has no records", hint="Check that `read` in Source System names the right list.")
    return SampleRecords(tuple(found), "live")


def _load_sampler(end: Endpoint, spec: Path) -> tuple[_Sample, References, RuntimeContext]:
    """Load the function that reads a sample, with this machine's references and context."""
    from speclab.connectors.registry import sample
    from speclab.connectors.trust import this_machine

    return sample, *this_machine(spec, [end])


async def fetch_target_fields(integration: Integration) -> tuple[Field, ...]:
    """Return the fields of the target. Raises as a reader does, and `SpeclabError` if they are not known."""
    target = integration.ends[1]
    discover_schema, references, context = await load_in_thread(partial(_load_discovery, integration.path, target))
    return (await discover_schema(target, references, context)).fields


def _load_discovery(spec: Path, end: Endpoint) -> tuple[_Discover, References, RuntimeContext]:
    from speclab.connectors.check import discover_schema
    from speclab.connectors.trust import this_machine

    return discover_schema, *this_machine(spec, [end])


def from_failures(failures: Sequence[FailureRow]) -> SampleRecords:
    """Return the source records of `failures`."""
    kept = tuple(failure for failure in failures if failure.source is not None)
    return SampleRecords(tuple(failure.source for failure in kept if failure.source is not None), "dead letters", kept)
