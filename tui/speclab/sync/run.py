"""One run of a spec, or a manual retry of some of its records."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack, ExitStack, suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Final

from speclab.connectors.api import Activity, RuntimeContext, SchemaAware, TransactionalDedup, Writer
from speclab.connectors.registry import open_reader, open_writer
from speclab.connectors.secrets.references import References
from speclab.core.clock import format_timestamp
from speclab.core.errors import RunLogError, SpecError, SpeclabError, SpecLocked
from speclab.core.locks import ProcessIdentity, hold_spec, is_alive, is_running
from speclab.core.outcome import Level, Outcome, RunState, Trigger
from speclab.mapping.fields import Field
from speclab.runlog import RetryResult, RunLog, RunRow, RunStore
from speclab.sync.deletes import DerivedDeletes, RecordIdentities
from speclab.sync.delivery import Delivery, Halt, WaitBudget
from speclab.sync.failures import FailureFactory
from speclab.sync.guards import SchemaDrift
from speclab.sync.pipeline import PageLoop
from speclab.sync.prepare import NullWriter, PreparedSpec, build_route, dry_run_store, send_events
from speclab.sync.record_keys import Hasher, RecordKey
from speclab.sync.repair import Repair, repair_target
from speclab.sync.retry_policy import ActionTable, RetryBudget, RetryPolicy
from speclab.sync.retry_queue import RetryQueue, WriteIntents
from speclab.sync.run_control import RunMonitor, Show
from speclab.sync.transform import Transformer

STOPPED: Final = "stopped in the middle of a page; the next run continues from the checkpoint"


@dataclass(frozen=True, slots=True)
class RunOptions:
    """The options of a run.

    `full` reads from the start of the source instead of the checkpoint. `limit` is the maximum number of records to
    read. With `retries`, nothing is read and only due records of the retry queue are sent. With `repair`, the whole
    source is read, only the records that it selects are sent, and the checkpoint stays. A `dry_run` maps and checks but
    writes nothing to the target or the run log. `wait_budget` is the total time, in seconds, that the
    run may wait for retries and for rate limits of the target.
    """

    full: bool = False
    limit: int | None = None
    retries: bool = False
    dry_run: bool = False
    trigger: str = "manual"
    wait_budget: float = 60.0
    repair: Repair | None = None


@dataclass(frozen=True, slots=True)
class RunResult:
    """A finished run: its row, and the error that ended it, if there is one."""

    row: RunRow
    error: SpeclabError | None = None


async def run(
    prepared: PreparedSpec,
    log: RunStore,
    references: References,
    context: RuntimeContext,
    options: RunOptions = RunOptions(),
    cancelled: asyncio.Event | None = None,
    show: Show = lambda _row: None,
) -> RunResult:
    """Run a spec once, from the checkpoint to the end of the source.

    What ends the run early (an unreachable system, rejected credentials, a failing target) is in the result. When
    `cancelled` is set, or the run log has a request to cancel (`RunLog.cancel`), the run finishes the page in progress
    and stops; a second request stops it at once. `show` is called with the row and its progress once a second. The row
    of a dry run is in no run log.

    Raises `SpecLocked` if the spec is already running, and `RunLogError` if the run log cannot be written.
    """
    spec_id = prepared.integration.spec_id
    with ExitStack() as stack:
        if options.dry_run:
            log = stack.enter_context(dry_run_store(log, context.report))
        else:
            # Before the lock is taken: it would make the process of a killed run look alive.
            interrupted = log.mark_interrupted(partial(is_running, prepared.workspace))
            stack.enter_context(hold_spec(prepared.workspace, spec_id, context.clock))
            _refuse_second_run(log, spec_id)
            if any(row.spec_id == spec_id for row in interrupted):
                context.report(
                    Level.WARNING, "the previous run was interrupted; this run continues from its checkpoint"
                )
        return await _Run(prepared, log, references, context, options, cancelled or asyncio.Event(), show).execute()


def _refuse_second_run(log: RunStore, spec_id: str) -> None:
    """Raise `SpecLocked` if another live process of this machine runs the spec: its lock file was deleted."""
    this_process = ProcessIdentity.of(os.getpid())
    others: list[ProcessIdentity] = []

    def find_others(running_id: str, process: ProcessIdentity) -> bool:
        alive = is_alive(process)
        if alive and running_id == spec_id and process.host == this_process.host and process != this_process:
            others.append(process)
        return True

    log.mark_interrupted(find_others)
    if others:
        raise SpecLocked(
            f"{spec_id} is being run by process {others[0].pid} on {others[0].host}, whose lock file was deleted",
            hint="wait until that run ends, or stop it",
        )


@dataclass(frozen=True, slots=True)
class _Run:
    """The arguments of `run`, for the steps of the run."""

    prepared: PreparedSpec
    log: RunStore
    references: References
    context: RuntimeContext
    options: RunOptions
    cancelled: asyncio.Event
    show: Show

    async def execute(self) -> RunResult:
        """Start the run in the run log, sync, and finish the run in every case."""
        spec, log = self.prepared.integration, self.log
        schedule = spec.schedule.text
        log.register(spec.spec_id, title=spec.title, path=self.prepared.file, status=spec.status, schedule=schedule)
        run = log.start_run(spec.spec_id, spec.hash, self.options.trigger)
        activity = Activity(telemetry=self.context.telemetry)
        monitor = RunMonitor(log, run, activity, self.cancelled, self.context.report, self.show)
        try:
            async with monitor.monitoring():
                halt = await self._sync(run, activity)
        except RunLogError:
            raise
        except SpeclabError as error:
            halt = Halt(RunState.FAILED, error.message, error)
        except BaseException as crash:
            if monitor.stopped and isinstance(crash, asyncio.CancelledError):
                _clear_cancellation()
                return RunResult(log.finish_run(run, STOPPED, RunState.CANCELLED))
            stopped = isinstance(crash, asyncio.CancelledError | KeyboardInterrupt)
            # The message of a bug may contain what it stumbled over, such as a secret.
            message = STOPPED if stopped else self.references.redactor.redact(f"a bug: {crash!r}")
            with suppress(RunLogError):  # the crash itself matters more
                log.finish_run(run, message, RunState.CANCELLED if stopped else RunState.FAILED)
            raise
        if halt is None:
            return RunResult(log.finish_run(run))
        if halt.until is not None:
            until = format_timestamp(halt.until)
            message = f"the {halt.endpoint} will not receive requests before {until}"
            log.log_event(spec.spec_id, run, Level.INFO, "parked", message, {"until": until, "end": halt.endpoint})
        return RunResult(log.finish_run(run, halt.reason, halt.state, halt.error_class), halt.error)

    async def _sync(self, run: str, activity: Activity) -> Halt | None:
        """Open both systems, process the source, and close them; return why the run ends early, if it does."""
        spec, references = self.prepared.integration, self.references
        as_event = spec.logging.destination == "stderr" and not self.options.dry_run
        logged = Level(spec.logging.level).severity

        def report(level: Level, message: str) -> None:
            self.log.log_event(spec.spec_id, run, level, "log", message)
            if not (as_event and level.severity >= logged):
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
            text = references.redactor.redact(self.prepared.document.text)  # which knows all secrets by now
            self.log.save_spec_version(spec.hash, text)
            if isinstance(writer, TransactionalDedup):
                writer.set_spec_id(spec.spec_id)
            if isinstance(writer, SchemaAware):
                writer.declare_fields([Field(row.target, row.kind) for row in self.prepared.mapper.rows])
            loop = self._build_loop(run, writer, context)
            if self.options.retries:
                return await loop.retries.drain()
            if self.options.repair is not None:
                return await repair_target(loop, reader, self.options.repair)
            return await loop.sync(reader, full=self.options.full, limit=self.options.limit)

    def _build_loop(self, run: str, writer: Writer, context: RuntimeContext) -> PageLoop:
        """Return the page loop of this run with all its parts. Raise `SpecError` if the spec cannot work."""
        spec, prepared, log = self.prepared.integration, self.prepared, self.log
        source, target = map(self.references.resolve_settings, (spec.source, spec.target))
        actions = ActionTable(spec.error_rules, idempotent=writer.idempotent)
        failures = FailureFactory(spec, prepared.file)
        wait_budget = WaitBudget(context.clock, self.options.wait_budget, self.cancelled, context.activity)
        budget = RetryBudget(half_open=log.get_last_run_state(spec.spec_id) is RunState.FAILED)
        transformer = Transformer(
            spec_id=spec.spec_id,
            target=target.destination(),
            key=RecordKey(spec.source.key),
            mapper=prepared.mapper,
            is_deleted=prepared.is_deleted,
            hasher=Hasher(target.destination()),
            failures=failures,
            keyed=writer.keyed,
            deletes=writer.deletes,
        )
        delivery = Delivery(
            writer=writer, actions=actions, retry=spec.retry, context=context, wait_budget=wait_budget, budget=budget
        )
        write_intents = WriteIntents(log, spec.spec_id, transformer.hasher)
        policy = RetryPolicy(actions=actions, retry=spec.retry, failures=failures, context=context, budget=budget)
        retries = RetryQueue(
            run=run,
            spec_id=spec.spec_id,
            log=log,
            transformer=transformer,
            delivery=delivery,
            write_intents=write_intents,
            retry_policy=policy,
            wait_budget=wait_budget,
            clock=context.clock,
        )
        missing = None
        if self._deletes_missing(transformer, delivery):
            missing = DerivedDeletes(
                run=run,
                spec_id=spec.spec_id,
                log=log,
                identities=RecordIdentities(spec.source, target),
                transformer=transformer,
                delivery=delivery,
                write_intents=write_intents,
                retry_policy=policy,
                wait_budget=wait_budget,
                report=self.context.report,
            )
        return PageLoop(
            run=run,
            spec=spec,
            route=build_route(source, target),
            log=log,
            transformer=transformer,
            delivery=delivery,
            write_intents=write_intents,
            retry_policy=policy,
            retries=retries,
            drift=SchemaDrift(
                log.get_field_profile(spec.spec_id),
                prepared.mapper.rows,
                prepared.file,
                transformer.is_mapped,
                spec.volume.guard,
            ),
            wait_budget=wait_budget,
            clock=context.clock,
            activity=context.activity,
            report=self.context.report,
            source_location=f"{prepared.file}:{spec.source_line}",
            missing=missing,
        )

    def _deletes_missing(self, transformer: Transformer, delivery: Delivery) -> bool:
        """Return whether this run deletes at the target what the source no longer has. Raise `SpecError`."""
        if not self.prepared.integration.source.deletes_missing() or self.options.retries or delivery.full_replace:
            return False
        if self.options.dry_run:
            self.context.report(Level.INFO, "a dry run does not look for missing records; `speclab plan` does")
            return False
        if not transformer.deletes:
            raise SpecError(
                "`missing: delete` needs a target that can delete records",
                hint="remove the setting, or say under Target System how to delete",
            )
        return True


def _clear_cancellation() -> None:
    """Clear the cancellation of this task: it was meant for the run only, and the run has ended."""
    task = asyncio.current_task()
    while task is not None and task.cancelling():
        task.uncancel()


@dataclass(frozen=True, slots=True)
class ManualRetry:
    """The result of a manual retry.

    `outcomes` has the outcome of each failure that was tried, by its id. `result` is that of the run; None if another
    process is running the spec (`locked`): that process finds the failures first in its retry queue.
    """

    result: RunResult | None
    outcomes: Mapping[str, Outcome]
    locked: SpecLocked | None = None


async def retry_failures(
    prepared: PreparedSpec,
    runlog: Path,
    failures: Sequence[str],
    references: References,
    context: RuntimeContext,
    options: RunOptions,
    cancelled: asyncio.Event | None = None,
) -> ManualRetry:
    """Retry open failures of a spec by id, also dead letters and unknown ones, and all others that are due.

    Of `options`, only `wait_budget` is used. If a newer record of the same key was read in the meantime, the failure is
    closed and nothing is sent. Raises `RunLogError` if the run log cannot be written.
    """
    options = replace(options, retries=True, trigger=Trigger.RETRY.value)
    outcomes: dict[str, Outcome] = {}

    def save_outcomes(results: Sequence[RetryResult]) -> None:
        outcomes.update((result.failure, result.outcome) for result in results)

    with RunLog.open(runlog, context.clock, on_retries=save_outcomes) as log:
        send_events(log, prepared)
        log.requeue(failures)
        try:
            result = await run(prepared, log, references, context, options, cancelled)
        except SpecLocked as locked:
            return ManualRetry(None, {}, locked)
        return ManualRetry(result, outcomes)
