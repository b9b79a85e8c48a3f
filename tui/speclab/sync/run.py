"""A run: everything wired together for one pass over the source, and its end told in the run log."""

from __future__ import annotations

import asyncio
import gc
import sys
from collections.abc import Iterator
from contextlib import AsyncExitStack, ExitStack, contextmanager, suppress
from dataclasses import dataclass, replace
from functools import partial
from typing import Final

from speclab.connectors.activity import Activity
from speclab.connectors.api import RuntimeContext, SchemaAware, TransactionalDedup, Writer
from speclab.connectors.registry import open_reader, open_writer
from speclab.connectors.secrets.references import References
from speclab.core.clock import format_timestamp
from speclab.core.errors import RunLogError, SpecError, SpeclabError
from speclab.core.locks import hold_spec, is_running
from speclab.core.outcome import Level, RunState
from speclab.mapping.fields import Field
from speclab.runlog import RunRow, RunStore
from speclab.sync.deletes import DerivedDeletes, RecordIdentities
from speclab.sync.delivery import Delivery, Halt, WaitBudget
from speclab.sync.dry_run import NullWriter, dry_run_store
from speclab.sync.pipeline import PageLoop, RetryQueue
from speclab.sync.prepare import Prepared, way
from speclab.sync.retry_policy import ActionTable, RetryBudget, RetryPolicy
from speclab.sync.run_control import Show, Watch
from speclab.sync.transform import FailureFactory, Hasher, RecordKey, Transformer
from speclab.sync.write_intents import WriteIntents

_OBJECTS_A_PAGE: Final = 20_000
STOPPED: Final = "stopped in the middle of a page; the next run continues from the checkpoint"
_TURN: Final = 0.0001
"""Seconds for which a thread keeps Python's lock when another wants it."""


@dataclass(frozen=True, slots=True)
class RunOptions:
    """How a run is made.

    `full` reads from the start of the source, not from the checkpoint; `limit` is the most records to read; with
    `retries` nothing is read, and the retry queue is drained of what is due; a `dry_run` maps and checks but writes
    nothing, neither to the target nor to the run log. `wait_budget` is how many seconds in all the run may wait for
    retries and for what the target asks.
    """

    full: bool = False
    limit: int | None = None
    retries: bool = False
    dry_run: bool = False
    trigger: str = "manual"
    wait_budget: float = 60.0


@dataclass(frozen=True, slots=True)
class RunResult:
    """A run that is over: its row, and the error that ended it, where one did."""

    row: RunRow
    error: SpeclabError | None = None


async def run(
    prepared: Prepared,
    log: RunStore,
    references: References,
    context: RuntimeContext,
    options: RunOptions = RunOptions(),
    cancelled: asyncio.Event | None = None,
    show: Show = lambda _row: None,
) -> RunResult:
    """One run of a spec, from the checkpoint to the end of the source.

    What ends it early (a system out of reach, credentials refused, a target that is dying) is told in the row and
    given with it. `cancelled` lets the page in progress finish and then stops, as does a request in the run log
    (`RunLog.cancel`); a second request stops at once. `show` is given the row, with its progress, once a second. A dry
    run's row is in no run log.

    Raises `SpecHeld` if the spec is being run already, and `RunLogError` if the books cannot be kept.
    """
    spec_id = prepared.integration.spec_id
    with ExitStack() as stack:
        stack.enter_context(_tuned_interpreter())
        if options.dry_run:
            log = stack.enter_context(dry_run_store(log, context.report))
        else:
            # Before this run takes the lock of a dead one.
            interrupted = log.mark_interrupted(partial(is_running, prepared.workspace))
            stack.enter_context(hold_spec(prepared.workspace, spec_id, context.clock))
            if any(row.spec_id == spec_id for row in interrupted):
                context.report(Level.WARNING, "the run before was interrupted; this one goes on from its checkpoint")
        return await _Run(prepared, log, references, context, options, cancelled or asyncio.Event(), show).recorded()


@contextmanager
def _tuned_interpreter() -> Iterator[None]:
    """Have Python work as suits pages, which are many objects at once, and go out while the next ones come in.

    Full collections of garbage, caused by thousands of objects now and then, would go through all that was ever
    imported: 3 µs a record. The small ones, every 700 objects by default, cost another. And a thread that writes a
    page would wait for the lock until the next one is mapped: that takes less than the 5 ms for which it may be kept.
    """
    thresholds, interval = gc.get_threshold(), sys.getswitchinterval()
    gc.set_threshold(_OBJECTS_A_PAGE, *thresholds[1:])
    gc.freeze()
    sys.setswitchinterval(_TURN)
    try:
        yield
    finally:
        sys.setswitchinterval(interval)
        gc.unfreeze()
        gc.set_threshold(*thresholds)


def _survive_cancel() -> None:
    """Take back the cancellation of this task: it was meant for the run only, and the run has ended."""
    task = asyncio.current_task()
    while task is not None and task.cancelling():
        task.uncancel()


@dataclass(frozen=True, slots=True)
class _Run:
    """What `run` was given, on its way through the run."""

    prepared: Prepared
    log: RunStore
    references: References
    context: RuntimeContext
    options: RunOptions
    cancelled: asyncio.Event
    show: Show

    async def recorded(self) -> RunResult:
        """Make the run, between its start and its end in the run log, whatever happens in between."""
        spec, log = self.prepared.integration, self.log
        schedule = spec.schedule.text
        log.register(spec.spec_id, title=spec.title, path=self.prepared.file, status=spec.status, schedule=schedule)
        run = log.start_run(spec.spec_id, spec.hash, self.options.trigger)
        log.save_spec_version(spec.hash, self.prepared.document.text)
        activity = Activity()
        watch = Watch(log, run, activity, self.cancelled, self.context.report, self.show)
        try:
            async with watch.watching():
                halt = await self._made(run, activity)
        except RunLogError:
            raise
        except SpeclabError as error:
            halt = Halt(RunState.FAILED, error.message, error)
        except BaseException as crash:
            if watch.stopped and isinstance(crash, asyncio.CancelledError):
                _survive_cancel()
                return RunResult(log.finish_run(run, STOPPED, RunState.CANCELLED))
            stopped = isinstance(crash, asyncio.CancelledError | KeyboardInterrupt)
            state = RunState.CANCELLED if stopped else RunState.FAILED
            with suppress(RunLogError):  # what is on its way up matters more
                log.finish_run(run, STOPPED if stopped else self._bug(crash), state)
            raise
        if halt is None:
            return RunResult(log.finish_run(run))
        if halt.until is not None:
            at = format_timestamp(halt.until)
            message, fields = f"the {halt.end} is not asked again before {at}", {"until": at, "end": halt.end}
            log.log_event(spec.spec_id, run, Level.INFO, "parked", message, fields)
        return RunResult(log.finish_run(run, halt.reason, halt.state, halt.error_class), halt.error)

    def _bug(self, crash: BaseException) -> str:
        """What to say of an error that is ours; it may hold what it stumbled over, such as a secret."""
        return self.references.redactor.redact(f"a bug: {crash!r}")

    async def _made(self, run: str, activity: Activity) -> Halt | None:
        """Open both ends, go through the source, and close them; gives why it ended early, where it did."""
        spec, references = self.prepared.integration, self.references

        def report(level: Level, message: str) -> None:
            self.log.log_event(spec.spec_id, run, level, "log", message)
            self.context.report(level, message)

        context = replace(self.context, report=report, activity=activity)
        await references.fetch(spec.source, spec.source_auth, spec.target, spec.target_auth)
        async with AsyncExitStack() as stack:
            reader = open_reader(spec.source, spec.source_auth, references, context, spec.retry)
            stack.push_async_callback(reader.close)
            writer: Writer = NullWriter()
            if not self.options.dry_run:
                writer = open_writer(spec.target, spec.target_auth, references, context, spec.retry)
            stack.push_async_callback(writer.close)
            if isinstance(writer, TransactionalDedup):
                writer.set_spec_id(spec.spec_id)
            if isinstance(writer, SchemaAware):
                writer.declare_fields([Field(row.target, row.kind) for row in self.prepared.mapper.rows])
            loop = self._loop(run, writer, context)
            if self.options.retries:
                await loop.drain()
            else:
                await loop.go(reader, full=self.options.full, limit=self.options.limit)
            return loop.delivery.halt

    def _loop(self, run: str, writer: Writer, context: RuntimeContext) -> PageLoop:
        """The page loop of this run, with all that it works with."""
        spec = self.prepared.integration
        resolved = self.references.resolve_settings(spec.target)
        target = resolved.destination()
        table = ActionTable(spec.error_rules, idempotent=writer.idempotent)
        failures = FailureFactory(spec, self.prepared.file)
        wait_budget = WaitBudget(context.clock, self.options.wait_budget, self.cancelled, context.activity)
        transformer = Transformer(
            spec_id=spec.spec_id,
            target=target,
            key=RecordKey(spec.source.key),
            mapper=self.prepared.mapper,
            deleted=self.prepared.deleted,
            hasher=Hasher(target),
            failures=failures,
            keyed=writer.keyed,
            deletes=writer.deletes,
        )
        budget = RetryBudget(half_open=self.log.get_last_run_state(spec.spec_id) is RunState.FAILED)
        write_intents = WriteIntents(self.log, spec.spec_id, transformer.hasher)
        writer = write_intents.noting(writer)
        delivery = Delivery(
            writer=writer, table=table, retry=spec.retry, context=context, wait_budget=wait_budget, budget=budget
        )
        retry_policy = RetryPolicy(table=table, retry=spec.retry, failures=failures, context=context, budget=budget)
        return PageLoop(
            run=run,
            spec=spec,
            file=self.prepared.file,
            way=way(self.references.resolve_settings(spec.source), resolved),
            log=self.log,
            transformer=transformer,
            delivery=delivery,
            write_intents=write_intents,
            retry_policy=retry_policy,
            retries=RetryQueue(
                run, spec.spec_id, self.log, transformer, delivery, write_intents, retry_policy, context.clock
            ),
            wait_budget=wait_budget,
            clock=context.clock,
            activity=context.activity,
            tell=self.context.report,
            missing=self._missing(run, transformer, delivery, retry_policy, wait_budget),
        )

    def _missing(
        self, run: str, transformer: Transformer, delivery: Delivery, retry_policy: RetryPolicy, wait_budget: WaitBudget
    ) -> DerivedDeletes | None:
        """What deletes at the target what the source has no more, if the spec wants that. Raises `SpecError`."""
        spec = self.prepared.integration
        if not spec.source.deletes_missing() or self.options.retries or delivery.anew:
            return None
        if self.options.dry_run:
            self.context.report(Level.INFO, "a dry run looks for nothing that is missing; `speclab plan` does")
            return None
        if not transformer.deletes:
            raise SpecError(
                "`missing: delete` needs a target that can delete", hint="leave it out, or say how to delete"
            )
        names = RecordIdentities(spec.source, self.references.resolve_settings(spec.target))
        return DerivedDeletes(
            run, spec.spec_id, self.log, names, transformer, delivery, retry_policy, wait_budget, self.context.report
        )
