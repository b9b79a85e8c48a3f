"""The connector API: readers of pages, writers of batches, and the context they work in."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Generic, NamedTuple, Protocol, TypeVar, runtime_checkable

from speclab.connectors.activity import Activity
from speclab.core.clock import Clock
from speclab.core.json import Json, Record
from speclab.core.outcome import Effect, ErrorClass, Level

if TYPE_CHECKING:
    import httpx

    from speclab.connectors.secrets.references import References
    from speclab.mapping.fields import Field
    from speclab.spec.auth import Auth
    from speclab.spec.integration import Role
    from speclab.spec.settings import RetrySettings


@dataclass(frozen=True, slots=True)
class Page:
    """Records in the source's order, and the cursor that continues after them.

    `cursor` is plain JSON, private to the connector, and resumes *after* this page; it is None only if the source
    cannot be resumed. `total` is the number of records in the whole read, if the source reports it. `bytes_in` is the
    size of the body. `request` is the request line without secrets.
    """

    records: Sequence[Record]
    cursor: Json
    bytes_in: int
    request: str
    total: int | None = None
    complete: bool = False
    """True for the last page of a read that reached the end. Its cursor is where the *next run* starts."""
    from_start: bool = False
    """True if the read started at the beginning of the source: not incremental, and not resumed."""
    whole: bool = False
    """True if the read covers every record of the source, also if it was resumed; False for an incremental read.

    A record that no page of such a read contains no longer exists at the source.
    """


class MappedRecord(NamedTuple):
    """One record to be written to the target. A named tuple because a frozen dataclass takes three times as long."""

    key: str  # identity of the record at the source, as text
    payload: Record  # the mapped record
    source: Record  # the record before mapping, for `{source.path}` templates
    idempotency_key: str  # UUID, the same for every attempt; empty for a writer that is not `keyed`
    delete: bool = False


@dataclass(frozen=True, slots=True)
class WriteError:
    """Why a record was not written.

    `sent` is False only if the target certainly did not receive the record. `retry_after` is in seconds. `field` is the
    target path that the response blames, if it names one.
    """

    error_class: ErrorClass
    message: str
    request: str
    response: str = ""
    status: int | None = None
    retry_after: float | None = None
    field: str | None = None
    sent: bool = True


@dataclass(frozen=True, slots=True)
class WriteResult:
    """The result of writing one record: either `effect` or `error` is set.

    `bytes_out` is the size of the request body. `target_id` is the record's identity at the target, `version` its
    version there (an ETag, a row version) and `stored` the record as the target stored it; each is None unless the
    target returns it.
    """

    effect: Effect | None = None
    error: WriteError | None = None
    bytes_out: int = 0
    target_id: str | None = None
    version: str | None = None
    stored: Record | None = None


class Reader(Protocol):
    """Reads a source page by page. Subclass it to inherit the defaults."""

    def pages(self, cursor: Json, /, *, full: bool) -> AsyncIterator[Page]:
        """Yield the pages after `cursor` (None: from the start) to the end of the source.

        With `full`, read all records instead of only changed ones; a full read that was interrupted is resumed. Raises
        `Unreachable`, `Unauthorized` or `BadResponse`.
        """
        ...

    async def acknowledge(self, cursor: Json, /) -> None:
        """Confirm that the page with `cursor` is committed to the run log. By default, do nothing.

        A source that delivers each record until it is confirmed, such as a queue, confirms here.
        """
        del cursor

    async def close(self) -> None:
        """Release connections and files."""


class Writer(Protocol):
    """Writes batches of records to a target.

    `batch` is the largest number of records per call of `write`. `idempotent` is True if writing a record twice has the
    effect of writing it once (an upsert by key, or an idempotency key that the target honours). `keyed` is True if it
    sends idempotency keys; otherwise records have an empty one. `deletes` is True if it accepts records to delete.
    """

    batch: int
    idempotent: bool
    keyed: bool
    deletes: bool

    async def write(self, records: Sequence[MappedRecord], /) -> Sequence[WriteResult]:
        """Return one result per record, in order.

        An error of the target is a result, not an exception. If a batch is rejected as a whole, all its results share
        one `WriteError` object, and the caller bisects the batch. Records that are not sent because an earlier one of
        the call was throttled or not authorized get a `WriteError` with `sent=False`. Raises `Unreachable` or
        `BadResponse` if the target cannot take any record, for example because its table does not exist.
        """
        ...

    async def close(self) -> None:
        """Make all writes durable, and release connections and files."""


@runtime_checkable
class FullReplace(Writer, Protocol):
    """A writer whose target contains, after a run, exactly the records of that run.

    It receives every record, also unchanged ones, and `finish` after a read that reached the end of the source. An
    interrupted run does not finish; a run that resumes it adds to the records already written, and a run that reads
    from the start calls `begin` first.
    """

    async def begin(self) -> None:
        """Discard the records of an earlier, interrupted read. Raises as `write`."""

    async def finish(self) -> None:
        """Replace the old content of the target by the written records."""


@runtime_checkable
class TransactionalDedup(Writer, Protocol):
    """A writer that stores, in the transaction of its rows, which records of the current page are written.

    A run that was killed before its run log had the page sends the page again; records that the target has stored are
    reported as written and not written twice, also if no key distinguishes two rows.
    """

    def set_spec_id(self, spec_id: str) -> None:
        """Set the spec that the records belong to. Called before the first write."""

    def acknowledge(self) -> None:
        """Confirm that all writes are committed to the run log, so that they need not be remembered."""


@runtime_checkable
class SchemaAware(Writer, Protocol):
    """A writer that needs the fields of the records before it writes the first one."""

    def declare_fields(self, fields: Sequence[Field], /) -> None:
        """Set the fields that records may have, with their types. Called before the first write."""


class RecordLookup(Protocol):
    """Finds records at a target without changing anything. `speclab plan` compares with what it finds.

    `per_record` is True if each record costs a separate request.
    """

    per_record: bool

    async def find(self, records: Sequence[MappedRecord], /) -> Sequence[Record | WriteError | None]:
        """Return, in order, the stored record, None if there is none, or an error if the target does not say.

        A stored record has at least the fields of the payload that exist at the target. Raises `Unreachable` or
        `BadResponse` if no record can be looked up.
        """
        ...

    async def close(self) -> None:
        """Release connections and files."""


Report = Callable[[Level, str], None]
"""Adds a line to the run log, such as the remaining quota of a rate limit."""


def ignore_report(level: Level, message: str) -> None:
    """Discard a report."""


@dataclass(frozen=True, slots=True)
class RuntimeContext:
    """The outside world of a connector: network, time and randomness. Tests replace them."""

    clock: Clock
    random: Random
    transport: Callable[[], httpx.AsyncBaseTransport] | None = None  # None: the aiohttp transport
    report: Report = field(default=ignore_report)
    activity: Activity = field(default_factory=Activity)  # progress of the run within the current page
    tokens: Path | None = None  # directory of the OAuth tokens; None: in the user's state directory


S = TypeVar("S")
S_contra = TypeVar("S_contra", contravariant=True)
T_co = TypeVar("T_co", covariant=True)


class OpenFunction(Protocol[S_contra, T_co]):
    """Opens a reader, a writer or a lookup for settings whose references are not resolved yet."""

    def __call__(
        self, system: S_contra, auth: Auth, references: References, context: RuntimeContext, retry: RetrySettings, /
    ) -> T_co:
        """Return it, not connected yet.

        Raises `SpecError` for settings that cannot work and `UnresolvedReference` for a missing secret.
        """
        ...


class CheckFunction(Protocol[S_contra]):
    """Makes a request to a target that changes nothing, to check the connection and the credentials."""

    async def __call__(
        self, system: S_contra, auth: Auth, references: References, context: RuntimeContext, retry: RetrySettings, /
    ) -> str:
        """Return the request and its response in one line, without secrets.

        Raises `Unauthorized`, `Unreachable`, `BadResponse` or `SpecError`.
        """
        ...


@dataclass(frozen=True, slots=True)
class DiscoveredSchema:
    """The fields of an endpoint, in its order, and their `origin`, such as `the columns of contacts`."""

    fields: tuple[Field, ...]
    origin: str


class DiscoverFunction(Protocol[S_contra]):
    """Asks an endpoint for its fields without changing anything."""

    async def __call__(
        self, role: Role, system: S_contra, auth: Auth, references: References, context: RuntimeContext, limit: int, /
    ) -> DiscoveredSchema | None:
        """Return the fields from the endpoint's schema, or from at most `limit` of its records.

        None if only the records of a reader show the fields. Raises as a reader does, and `SpeclabError` if the fields
        cannot be known.
        """
        ...


@dataclass(frozen=True, slots=True)
class ConnectorParts(Generic[S]):
    """The functions of a connector.

    `reader` is None if the system cannot be a source, `writer` if it cannot be a target. `check` is None if a
    connection cannot be checked without writing. `lookup` is None, or returns None for settings that allow no lookup.
    `discover` is None if only its records show the fields of the system.
    """

    reader: OpenFunction[S, Reader] | None = None
    writer: OpenFunction[S, Writer] | None = None
    check: CheckFunction[S] | None = None
    lookup: OpenFunction[S, RecordLookup | None] | None = None
    discover: DiscoverFunction[S] | None = None


@dataclass(frozen=True, slots=True)
class Connector(Generic[S]):
    """One kind of system: the object that an entry point of the group `speclab.connectors` names.

    `settings` is the model of the system's settings, a subclass of `speclab.spec.settings.System`. It is all that
    linting a spec needs. `load` returns the parts that a run needs, and imports what they need.
    """

    settings: type[S]
    load: Callable[[], ConnectorParts[S]]
