"""What a connector is: a reader of pages, a writer of batches, and the seams they get from outside."""

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
    """Records in the source's order, and where to go on after them.

    `cursor` is plain JSON, private to the connector, and resumes *after* this page; it is None only if the source
    cannot be resumed. `total` is how many records the source says the whole read holds, where it says so.
    `bytes_in` counts the body. `request` is the request line, secrets taken out.
    """

    records: Sequence[Record]
    cursor: Json
    bytes_in: int
    request: str
    total: int | None = None
    complete: bool = False
    """True of the last page of a read that went to the end. Its cursor is where the *next run* starts."""
    from_start: bool = False
    """True if the read began at the source's start: not at what changed since, and not where another was broken off."""
    whole: bool = False
    """True if the read is of all that the source holds: neither of what changed since nor only from a `start` on.

    One that goes on where another was broken off is, if that was. What such reads do not give, the source has no more.
    """


class MappedRecord(NamedTuple):
    """One record on its way to the target. As there is one for each: a frozen dataclass takes three times as long."""

    key: str  # identity of the record at the source, as text
    payload: Record  # the mapped record
    source: Record  # the record before mapping, for `{source.path}` templates
    idempotency_key: str  # UUID, the same on every attempt; empty for a writer that is not `keyed`
    delete: bool = False


@dataclass(frozen=True, slots=True)
class WriteError:
    """Why one item was not written.

    `sent` is False only if the target surely never saw it. `retry_after` is in seconds. `field` is the target path
    the answer blames, where it names one.
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
    """What became of one item: an effect or a refusal, never both; `bytes_out` is what its request's body weighed."""

    effect: Effect | None = None
    write_error: WriteError | None = None
    bytes_out: int = 0


class Reader(Protocol):
    """Reads a source, page by page."""

    def pages(self, cursor: Json, *, full: bool) -> AsyncIterator[Page]:
        """Pages from after `cursor` (None: from the start), to the end of the source.

        With `full`, a `since` setting is not applied; a full read that was broken off goes on. Raises `Unreachable`,
        `Unauthorized` or `BadAnswer`.
        """

    async def close(self) -> None:
        """Give back connections and files."""


class Writer(Protocol):
    """Writes to a target, a batch at a time.

    `batch` is how many items one call of `write` may take. `idempotent` is True if writing an item again does no
    harm (an upsert by key, or an idempotency key the target knows); `keyed` if it sends idempotency keys (items have
    an empty one otherwise); `deletes` if it knows what to do with an item that is a delete.
    """

    batch: int
    idempotent: bool
    keyed: bool
    deletes: bool

    async def write(self, items: Sequence[MappedRecord]) -> Sequence[WriteResult]:
        """One answer an item, in order.

        Never raises for what a target answers; a batch that fails whole answers with one refusal, the same object
        for each (the caller bisects it). What is not sent because an earlier item of the call was told to wait or was
        refused the credentials has one refusal, too, with `sent=False`. Raises `Unreachable` or `BadAnswer` where the
        target can take no record at all: no such file, table or column.
        """

    async def close(self) -> None:
        """Make all that was written durable, and give back connections and files."""


@runtime_checkable
class FullReplace(Writer, Protocol):
    """A writer whose target is, after a run, what that run wrote and nothing else.

    It is given every record, also one that has not changed, and `finish` after a read that went to the source's end. A
    run that is broken off does not finish; the one that goes on from its checkpoint adds to what it wrote, and one that
    reads from the start, for whatever reason, says so with `begin`.
    """

    async def begin(self) -> None:
        """Forget what was written so far, which is of another read. Raises as `write`."""

    async def finish(self) -> None:
        """Let what was written take the place of what was there."""


@runtime_checkable
class TransactionalDedup(Writer, Protocol):
    """A writer whose target remembers, in the transaction of its rows, what of the page in hand was written.

    A run that was killed between that and its own books sends the page again; what is remembered is answered as
    written, and not written twice. So the effect is once, also where nothing tells a row from one just like it.
    """

    def remember_for(self, spec_id: str) -> None:
        """Whose records these are; said before the first is written."""

    def booked(self) -> None:
        """All that was written is in the run log, and the next run goes on after it: it may be forgotten."""


@runtime_checkable
class SchemaAware(Writer, Protocol):
    """A writer whose target must be told what records look like before it is given any."""

    def declare(self, fields: Sequence[Field]) -> None:
        """The fields that records may have, and of what kinds they are; said before the first is written."""


class RecordLookup(Protocol):
    """Looks records up at a target and changes nothing there; a plan goes by it.

    `dear` is True if every record is a request of its own.
    """

    dear: bool

    async def find(self, items: Sequence[MappedRecord]) -> Sequence[Record | WriteError | None]:
        """What the target has of each item, in order: a record, nothing, or a refusal where it cannot be told.

        Of a record at least the fields that the item's payload has are given, where the target has them. Raises
        `Unreachable` or `BadAnswer` where nothing can be asked at all.
        """

    async def close(self) -> None:
        """Give back connections and files."""


Report = Callable[[Level, str], None]
"""Tells the run log something worth a line, such as what a rate limit has left."""


def ignore_report(level: Level, message: str) -> None:
    """A `Report` for those who do not listen."""


@dataclass(frozen=True, slots=True)
class RuntimeContext:
    """What connectors take from outside: the network, time and chance. A test gives its own."""

    clock: Clock
    random: Random
    transport: Callable[[], httpx.AsyncBaseTransport] | None = None  # None: the aiohttp transport
    report: Report = field(default=ignore_report)
    activity: Activity = field(default_factory=Activity)  # of the run: what it does within the page in progress
    tokens: Path | None = None  # where OAuth tokens are kept; None: in the user's state directory


S_contra = TypeVar("S_contra", contravariant=True)
T_co = TypeVar("T_co", covariant=True)


class OpenFunction(Protocol[S_contra, T_co]):
    """Opens one end of a system whose settings still hold their references.

    Raises `SpecError` for settings that cannot work and `UnresolvedReference` for a secret that is not there.
    """

    def __call__(
        self, system: S_contra, auth: Auth, references: References, context: RuntimeContext, retry: RetrySettings
    ) -> T_co:
        """The reader or writer, not connected yet."""


class ProbeFunction(Protocol[S_contra]):
    """Asks a target something that changes nothing, to see whether it lets us in."""

    async def __call__(
        self, system: S_contra, auth: Auth, references: References, context: RuntimeContext, retry: RetrySettings
    ) -> str:
        """What was asked and answered, secrets taken out.

        Raises `Unauthorized`, `Unreachable`, `BadAnswer` or `SpecError`.
        """


@dataclass(frozen=True, slots=True)
class DiscoveredSchema:
    """What fields one end has, in its order, and `origin`: how that is known, such as `the columns of contacts`."""

    fields: tuple[Field, ...]
    origin: str


class DiscoverFunction(Protocol[S_contra]):
    """Asks a system what fields it has at one end, and changes nothing there."""

    async def __call__(
        self, role: Role, system: S_contra, auth: Auth, references: References, context: RuntimeContext, limit: int
    ) -> DiscoveredSchema | None:
        """Its fields, by what it says of itself or by no more than `limit` of its records.

        None where all there is to go by are the records that a reader gives. Raises as a reader does, and
        `SpeclabError` where it cannot be known.
        """


@dataclass(frozen=True, slots=True)
class Connector(Generic[S_contra]):
    """One kind of system; what an entry point of the group `speclab.connectors` leads to.

    `reader` is None for what is no source, `writer` for what is no target. `probe` is None for what cannot be asked
    without being written to; `finder` gives None for settings by which nothing can be looked up; `fields` is None for
    what says nothing of its fields but in its records.
    """

    reader: OpenFunction[S_contra, Reader] | None
    writer: OpenFunction[S_contra, Writer] | None
    probe: ProbeFunction[S_contra] | None = None
    finder: OpenFunction[S_contra, RecordLookup | None] | None = None
    fields: DiscoverFunction[S_contra] | None = None
