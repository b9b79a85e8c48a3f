"""The API of connectors: readers, writers, pages, results, and the context of a run."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, BinaryIO, Final, Generic, NamedTuple, Protocol, TypeVar, runtime_checkable

from speclab.core.clock import Clock, format_timestamp
from speclab.core.json import Json, Record, describe_unfit, encode_canonical, is_same_json
from speclab.core.outcome import Effect, ErrorClass, Level
from speclab.core.telemetry import NO_TELEMETRY, Telemetry

if TYPE_CHECKING:
    import httpx

    from speclab.connectors.secrets.references import References
    from speclab.mapping.fields import Field
    from speclab.spec.auth import Auth
    from speclab.spec.integration import Role
    from speclab.spec.settings import RetrySettings


@dataclass(frozen=True, slots=True)
class Wait:
    """A wait and its reason."""

    reason: str
    until: str


@dataclass(slots=True)
class Activity:
    """Counters of one run.

    `page` is the number of the page in progress, `records` how many records it has, `sent` how many of them the target
    has answered. `records` is 0 while the page is being read. `requests` counts all HTTP requests of the run.
    """

    page: int = 0
    records: int = 0
    sent: int = 0
    requests: int = 0
    telemetry: Telemetry = NO_TELEMETRY
    _waits: list[Wait] = field(default_factory=list)

    def read_page(self, number: int) -> None:
        """Start to read page `number`."""
        self.page, self.records, self.sent = number, 0, 0

    def send_page(self, records: int) -> None:
        """Start to write the page that was read."""
        self.records, self.sent = records, 0

    @contextmanager
    def waiting(self, reason: str, seconds: float, clock: Clock) -> Iterator[None]:
        """Show inside the block that the run waits for `seconds`, and why."""
        wait = Wait(reason, format_timestamp(clock.now() + timedelta(seconds=seconds)))
        self._waits.append(wait)
        try:
            yield
        finally:
            self._waits.remove(wait)

    def progress(self) -> Record:
        """Return the counters and the longest current wait as the run log stores them."""
        wait = max(self._waits, key=lambda one: one.until, default=None)
        return {
            "page": self.page,
            "records": self.records,
            "sent": self.sent,
            "requests": self.requests,
            **({"wait": wait.reason, "until": wait.until} if wait is not None else {}),
        }


MAX_KEPT: Final = 100_000
"""Bytes of an unreadable record that are kept."""
MAX_LINE: Final = 10_000_000
"""Bytes of a line that are read."""
_LINE_CHUNK: Final = 1 << 20


class UnreadableRecord(dict[str, Json]):
    """A record with a part that cannot be represented, as far as it can be read.

    `raw` are its bytes, or the first of `size` bytes; `reason` says what is wrong, and `place` where in the source.
    """

    __slots__ = ("place", "raw", "reason", "size")

    def __init__(self, fields: Mapping[str, Json], raw: bytes, reason: str, place: str = "", size: int = 0) -> None:
        super().__init__(fields)
        self.raw = raw[:MAX_KEPT]
        self.size = size or len(raw)
        self.reason = reason
        self.place = place

    @property
    def text(self) -> str:
        """The bytes as text, shortened, with bytes that are not UTF-8 escaped."""
        text = self.raw.decode("utf-8", "backslashreplace")
        return text if self.size <= MAX_KEPT else f"{text}… ({self.size:,} bytes)"

    def with_fields(self, fields: Mapping[str, Json]) -> UnreadableRecord:
        """Return the record with more fields."""
        return UnreadableRecord({**self, **fields}, self.raw, self.reason, self.place, self.size)


def check_readable(record: Record, raw: bytes | None = None, place: str = "", hint: str = "") -> Record:
    """Return `record`, which was decoded leniently, or an `UnreadableRecord` if a part cannot be represented.

    `raw` are its bytes; without them, they are encoded again. `hint` is added to the reason.
    """
    reason = describe_unfit(record)
    if reason is None:
        return record
    return UnreadableRecord(record, json.dumps(record).encode() if raw is None else raw, reason + hint, place)


def limited_lines(stream: BinaryIO) -> Iterator[tuple[bytes, int]]:
    """Yield each line with its line end, and its size; of a line longer than `MAX_LINE`, only the beginning."""
    while raw := stream.readline(MAX_LINE + 1):
        size = len(raw)
        if size > MAX_LINE and not raw.endswith(b"\n"):
            raw = raw[: MAX_KEPT + 1]
            while rest := stream.readline(_LINE_CHUNK):
                size += len(rest)
                if rest.endswith(b"\n"):
                    break
        yield raw, size


def too_long(raw: bytes, size: int, place: str) -> UnreadableRecord:
    """Return the record of a line that begins with `raw` and is too long to be read."""
    return UnreadableRecord({}, raw, f"the line has {size:,} bytes; at most {MAX_LINE:,} are read", place, size)


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
    target returns it. A writer that identifies records by a key of their payload returns a `target_id` only where it
    differs from the record's key, so that the others share one result.
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


class RecordLister(Protocol):
    """Lists the records of a target without changing anything. `speclab reconcile` compares with them.

    Subclass it to inherit the defaults, which are for targets that store JSON values as they are.
    """

    def pages(self, fields: Sequence[str], /) -> AsyncIterator[Sequence[Record]]:
        """Yield all records, in any order, with at least those of `fields` (names at the top level) that exist.

        Raises `Unreachable`, `Unauthorized` or `BadResponse`.
        """
        ...

    def normalize_key(self, key: Sequence[Json], /) -> Sequence[str]:
        """Return the parts of a key as texts that are equal for keys that the target treats as equal."""
        return [part if isinstance(part, str) else encode_canonical(part).decode() for part in key]

    def is_same(self, field: str, stored: Json, mapped: Json, /) -> bool:
        """Return whether the `stored` value of a field is what the target stores for the `mapped` one."""
        del field
        return is_same_json(stored, mapped)

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
    telemetry: Telemetry = NO_TELEMETRY
    tokens: Path | None = None  # directory of the OAuth tokens; None: in the user's state directory


S = TypeVar("S")
S_contra = TypeVar("S_contra", contravariant=True)
T_co = TypeVar("T_co", covariant=True)


class OpenFunction(Protocol[S_contra, T_co]):
    """Opens a reader, a writer, a lookup or a lister for settings whose references are not resolved yet."""

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
    `discover` is None if only its records show the fields of the system. `lister` is None, or returns None for settings
    that allow no list: the records of the target cannot be listed.
    """

    reader: OpenFunction[S, Reader] | None = None
    writer: OpenFunction[S, Writer] | None = None
    check: CheckFunction[S] | None = None
    lookup: OpenFunction[S, RecordLookup | None] | None = None
    discover: DiscoverFunction[S] | None = None
    lister: OpenFunction[S, RecordLister | None] | None = None


@dataclass(frozen=True, slots=True)
class Connector(Generic[S]):
    """One kind of system: the object that an entry point of the group `speclab.connectors` names.

    `settings` is the model of the system's settings, a subclass of `speclab.spec.settings.System`. It is all that
    linting a spec needs. `load` returns the parts that a run needs, and imports what they need.
    """

    settings: type[S]
    load: Callable[[], ConnectorParts[S]]
