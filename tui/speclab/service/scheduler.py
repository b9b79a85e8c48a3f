"""The scheduler: runs the specs in progress on their schedules, each run in its own process, until it is stopped.

A crash loses nothing: finished runs are in the run log, the specs say what to run, and the heartbeat stores up to when
each schedule is done, from which the next service continues.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping
from collections.abc import Set as AbstractSet
from contextlib import AsyncExitStack, aclosing, contextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote

from speclab.connectors.api import Report
from speclab.connectors.trust import approve_all, refuse
from speclab.core.clock import Clock, format_timestamp
from speclab.core.errors import RunLogError, RunLogTooNew, SpeclabError, UsageError, WorkspaceLocked
from speclab.core.locks import hold_workspace, is_running
from speclab.core.outcome import AlertState, Level, RunState, Trigger
from speclab.runlog import AlertRow, IntegrationRow, RunLog, RunLogReader, RunRow
from speclab.runlog.retention import get_last_start, has_running_run
from speclab.service import heartbeat
from speclab.service.heartbeat import PERIOD, Heartbeat, HeartbeatWriter, ServedSpec
from speclab.service.notifications import Notifier, evaluate_specs
from speclab.service.process import ProcessExit, RunProcess
from speclab.service.run_queue import QueuedRun, RunQueue, find_local_zone
from speclab.service.spec_registry import RegisteredSpec, RegistrySnapshot, SpecRegistry
from speclab.spec.workspace import file_changes, is_spec
from speclab.sync.prepare import build_destination
from speclab.sync.run_control import StopRequest

if TYPE_CHECKING:
    from speclab.service.http_api import ListenOptions

_TICK: Final = 0.5
"""Seconds between two checks of the run log and the run queue."""
_MINUTE: Final = 60.0
_FAREWELL: Final = 5.0
"""Maximum seconds that the end of the service waits for notifications in progress."""
_EARLY: Final = timedelta(seconds=30)
"""Maximum time that a run of another tool may start before its scheduled time."""
_PRUNE_EVERY: Final = timedelta(hours=1)
_CUT_SHORT: Final = (RunState.CANCELLED, RunState.INTERRUPTED)


@dataclass(frozen=True, slots=True)
class ServiceOptions:
    """The options of a service: it runs the specs in `directory` that belong to `workspace`, at most `jobs` at once.

    `options` are additional options of each `speclab run`. `listen` is the address of the HTTP server, if it has one.
    """

    directory: Path
    workspace: Path
    runlog: Path
    jobs: int
    options: tuple[str, ...] = ()
    listen: ListenOptions | None = None

    @property
    def trusts_all(self) -> bool:
        """Whether specs are run without asking for trust."""
        return "--trust" in self.options


async def serve(service: ServiceOptions, clock: Clock, report: Report, stop: StopRequest) -> None:
    """Run specs on their schedules until `stop`.

    Raises `WorkspaceLocked` if another process does so already, and `RunLogError` if the run log cannot be opened, is
    replaced, or is upgraded by a newer speclab. Other errors are reported, and the service continues.
    """
    unproven = heartbeat.find_unproven_service(service.workspace, clock.now())
    with (
        hold_workspace(service.workspace, clock),
        RunLog.open(service.runlog, clock) as log,
        RunLogReader.open(service.runlog) as reader,
    ):
        if unproven is not None:
            raise WorkspaceLocked(
                f"the specs in {service.workspace} are already run on their schedules by process {unproven.pid} of "
                f"{unproven.user} on {unproven.host}, whose lock file was deleted",
                hint="Stop that one first.",
            )
        async with AsyncExitStack() as stack:
            if service.listen is not None:
                from speclab.service.http_api import open_http_api

                api = open_http_api(service.listen, service.workspace, service.runlog, clock)
                report(Level.INFO, f"listening on {await stack.enter_async_context(api)}")
            notifier = Notifier(log, clock, report, approve_all if service.trusts_all else refuse)
            await _Scheduler(service, clock, report, stop, log, reader, notifier).run()


@dataclass(slots=True)
class _Scheduler:
    """The state of a running service."""

    service: ServiceOptions
    clock: Clock
    report: Report
    stop: StopRequest
    log: RunLog
    reader: RunLogReader
    notifier: Notifier
    previous: Heartbeat | None = None  # the last heartbeat of the previous service
    run_queue: RunQueue = field(default_factory=lambda: RunQueue(find_local_zone()))
    snapshot: RegistrySnapshot = field(default_factory=lambda: RegistrySnapshot({}, frozenset(), {}, frozenset()))
    specs_changed: asyncio.Event = field(default_factory=asyncio.Event)
    wake: asyncio.Event = field(default_factory=asyncio.Event)
    rewatch: asyncio.Event = field(default_factory=asyncio.Event)
    queued: dict[str, RegisteredSpec] = field(default_factory=dict)  # the specs as the run queue and run log have them
    children: dict[str, RunProcess] = field(default_factory=dict)
    tasks: set[asyncio.Task[None]] = field(default_factory=set)
    version: tuple[int, int] = (-1, -1)  # of the run log, when it was last read
    revisions: dict[str, int] = field(default_factory=dict)  # of each integration in it
    pruned_at: datetime | None = None
    errors: dict[str, str] = field(default_factory=dict)  # the error last reported, by spec or task
    fatal: RunLogError | None = None  # why the service must end: the run log was replaced or upgraded

    async def run(self) -> None:
        """Serve until a stop is requested."""
        heartbeat_writer = HeartbeatWriter(self.service.workspace, self.clock.now())
        registry = SpecRegistry(self.service.directory, self.service.workspace)
        file = _get_file_id(self.service.runlog)
        self._take_over()
        self._update_queue(registry.scan())
        if not self.snapshot.registered:
            self.report(Level.INFO, "no spec has the status `in-progress` in its front matter, so none is run")
        async with asyncio.TaskGroup() as group:
            group.create_task(self._watch_specs())
            group.create_task(self._maintain())
            while not self.stop.graceful.is_set():
                if _get_file_id(self.service.runlog) not in (file, None):
                    self._end_with(_build_replaced_error(self.service.runlog))
                    break
                with self._reporting_errors("the run queue"):
                    await self._tick(group, registry)
                with self._reporting_errors("notifications"):
                    self.notifier.start_due(self.snapshot.registered)
                with self._reporting_errors("the heartbeat"):  # the service is alive in spite of other errors
                    heartbeat_writer.beat(self.clock.now(), self._build_served())
                await self._wait(_TICK, self.wake)
                self.wake.clear()
            self.rewatch.set()
            await self._wind_down(heartbeat_writer)
            await self.notifier.finish(_FAREWELL)
        if self.fatal is not None:  # the heartbeat belongs to another service now
            raise self.fatal
        with self._reporting_errors("the heartbeat"):
            heartbeat_writer.write_end(self.clock.now(), self._build_served())

    # --- the run queue -------------------------------------------------------------------------------------------

    def _take_over(self) -> None:
        """Continue from the previous service, and mark runs that were killed."""
        previous = self.previous = heartbeat.read_heartbeat(self.service.workspace)
        if previous is not None and previous.stopped is None:
            self.report(Level.WARNING, f"the previous service, process {previous.pid}, died; this one continues")
        for run in self._mark_interrupted():
            self.report(Level.WARNING, f"{run.spec_id}: a run was interrupted; the next continues from its checkpoint")

    async def _tick(self, group: asyncio.TaskGroup, registry: SpecRegistry) -> None:
        """Read changes, and start the runs that are due."""
        if self.specs_changed.is_set():
            self.specs_changed.clear()
            self._update_queue(registry.scan())
        self._read_run_log()
        now = self.clock.now()
        for run in self.run_queue.get_due(now):
            if len(self.children) == self.service.jobs:
                break
            spec = self.snapshot.registered[run.spec_id]
            if spec.integration is None or spec.integration.runs_elsewhere or run.spec_id in self.children:
                continue
            if not has_running_run(self.reader, run.spec_id):
                with self._reporting_errors(run.spec_id):  # an error of one spec does not affect the others
                    await self._start(group, run, spec, now)

    def _update_queue(self, snapshot: RegistrySnapshot) -> None:
        """Update the run queue from the current specs."""
        previous, self.snapshot = self.snapshot, snapshot
        for spec_id in [spec_id for spec_id in self.run_queue if spec_id not in snapshot.registered]:
            self.run_queue.remove(spec_id)
            self.errors.pop(spec_id, None)
            self.report(Level.INFO, f"{spec_id}: no longer in progress")
        self.queued = {spec_id: spec for spec_id, spec in self.queued.items() if spec_id in snapshot.registered}
        for spec_id, spec in list(snapshot.registered.items()):
            if self.queued.get(spec_id) is not spec:
                with self._reporting_errors(f"the entry of {spec_id}"):
                    self._add_to_queue(spec)
                    self.queued[spec_id] = spec
        for path, reason in snapshot.skipped.items():
            if previous.skipped.get(path) != reason:
                self.report(Level.WARNING, f"{path} is not run: {reason}")
        if snapshot.directories != previous.directories:
            self.rewatch.set()

    def _add_to_queue(self, spec: RegisteredSpec) -> None:
        """Add a spec that is new or was edited."""
        if spec.integration is not None:
            schedule = spec.integration.schedule
            previous = self._get_previous(spec.spec_id)
            continues = previous is not None and previous.schedule == schedule.text
            since = datetime.fromisoformat(previous.since) if previous is not None and continues else self.clock.now()
            try:
                self.run_queue.put(spec.spec_id, schedule, since)
            except UsageError as error:
                spec = replace(spec, integration=None, problem=f"{error.message}; {error.hint}")
                self.snapshot.registered[spec.spec_id] = spec
        if spec.integration is None:
            self._log_error(spec.spec_id, f"cannot run: {spec.problem}")
            return
        text, title, status = spec.integration.schedule.text, spec.integration.title, spec.integration.status
        destination = build_destination(spec.integration, self.service.workspace)
        if destination is not None and destination.kind != "stderr":  # where this service reports the same
            self.log.send_events(spec.spec_id, destination)
        self.log.register(spec.spec_id, title=title, path=spec.file, status=status, schedule=text)
        start = self.run_queue.get_next(spec.spec_id)
        when = f"next at {start.astimezone(self.run_queue.local):%Y-%m-%d %H:%M:%S}" if start else "runs on demand"
        if spec.integration.runs_elsewhere:
            when = f"run by another tool, {when}"
        self.report(Level.INFO, f"{spec.spec_id}: {text or 'On-demand'}, {when}")

    def _mark_interrupted(self) -> list[RunRow]:
        return self.log.mark_interrupted(partial(is_running, self.service.workspace))

    def _get_previous(self, spec_id: str) -> ServedSpec | None:
        """Return the state of a spec in the previous service."""
        return self.previous.specs.get(spec_id) if self.previous else None

    def _read_run_log(self) -> None:
        """Update the run queue from the runs, retry queues and pauses in the run log."""
        version = self.reader.version()
        if version == self.version:
            return
        for row in self.reader.integrations():
            spec_id = row.spec_id
            if spec_id not in self.run_queue or row.revision == self.revisions.get(spec_id):
                continue
            self.revisions[spec_id] = row.revision
            self._update_paused(row)
            retry_at = datetime.fromisoformat(row.next_attempt_at) if row.next_attempt_at else None
            self.run_queue.set_retry(spec_id, retry_at)
            parked = {end: datetime.fromisoformat(at) for end, at in self.reader.get_parked(spec_id).items()}
            self.run_queue.park(spec_id, source=parked.get("source"), target=parked.get("target"))
            if spec_id not in self.children:  # a run in progress may still be cut short
                started = get_last_start(self.reader, spec_id, self.clock.now())
                if started is not None:
                    self.run_queue.mark_started(spec_id, started + self._get_tolerance(spec_id))
        self.version = version

    def _get_tolerance(self, spec_id: str) -> timedelta:
        """Return how long before its time a run may start and still count for it: another tool has another clock."""
        spec = self.snapshot.registered.get(spec_id)
        if spec is None or spec.integration is None or not spec.integration.runs_elsewhere:
            return timedelta()
        every = spec.integration.schedule.every
        return min(_EARLY, timedelta(seconds=every / 10)) if every is not None else _EARLY

    def _update_paused(self, row: IntegrationRow) -> None:
        paused = row.paused_at is not None
        if paused != self.run_queue.is_paused(row.spec_id):
            self.run_queue.set_paused(row.spec_id, paused=paused)
            self.report(Level.INFO, f"{row.spec_id}: {f'paused by {row.paused_by}' if paused else 'resumed'}")

    # --- runs ----------------------------------------------------------------------------------------------------

    async def _start(self, group: asyncio.TaskGroup, run: QueuedRun, spec: RegisteredSpec, now: datetime) -> None:
        service = self.service
        output = service.workspace / ".speclab" / "runs" / f"{quote(run.spec_id, safe=' ')}.up.log"
        child = RunProcess.start(spec.path, run.trigger, service.runlog, service.workspace, output, service.options)
        self.run_queue.begin(run, now)
        self.children[run.spec_id] = child
        late = run.trigger is Trigger.SCHEDULE and (now - run.at).total_seconds() > _MINUTE
        self.report(Level.INFO, f"{run.spec_id}: started by {run.trigger}{f', due since {run.at}' if late else ''}")
        task = group.create_task(self._wait_for(run, child))
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)

    async def _wait_for(self, run: QueuedRun, child: RunProcess) -> None:
        """Wait for the end of a run, and update the run queue."""
        ended = await child.wait()
        del self.children[run.spec_id]
        with self._reporting_errors(f"the end of {run.spec_id}"):
            self._report_end(run, ended)
        with self._reporting_errors("the run queue"):
            self.revisions.pop(run.spec_id, None)
            self.version = (-1, -1)
            self._read_run_log()
        cut_short = ended.row is None or ended.row["state"] in _CUT_SHORT
        if not (cut_short and self.stop.graceful.is_set()):  # the next service makes up for a run that was cut short
            self.run_queue.end(run, self.clock.now(), has_changes=ended.has_changes)
        self.wake.set()

    def _report_end(self, run: QueuedRun, ended: ProcessExit) -> None:
        if ended.row is not None:
            counts = [f"{ended.row[name]:,} {name}" for name in ("read", "written", "waiting", "dead", "unknown")]
            self.report(Level.INFO, f"{run.spec_id}: {ended.row['state']}, {', '.join(counts)}")
        elif ended.code < 0:
            started = any(row.spec_id == run.spec_id for row in self._mark_interrupted())
            if started or not self.stop.graceful.is_set():
                self._log_error(run.spec_id, f"the run died before finishing: {ended.reason}")
            else:
                self.report(Level.INFO, f"{run.spec_id}: stopped before it started")
        else:
            self._log_error(run.spec_id, f"could not run: {ended.reason}")

    async def _wind_down(self, heartbeat_writer: HeartbeatWriter) -> None:
        """Let every run finish the page in progress; if an immediate stop is requested, end the runs at once."""
        if self.children:
            names = ", ".join(self.children)
            self.report(Level.INFO, f"stopping after the pages in progress of {names}")
        for child in self.children.values():
            child.stop()
        with self._reporting_errors("the heartbeat"):
            heartbeat_writer.write_stopping(self.clock.now(), self._build_served())
        ended = asyncio.gather(*self.tasks)
        immediate = asyncio.ensure_future(self.stop.immediate.wait())
        either: set[asyncio.Future[Any]] = {ended, immediate}
        while not any(future.done() for future in either):  # a page may take long, and the service is still alive
            await asyncio.wait(either, timeout=PERIOD, return_when=asyncio.FIRST_COMPLETED)
            with self._reporting_errors("the heartbeat"):
                heartbeat_writer.beat(self.clock.now(), self._build_served())
        immediate.cancel()
        for child in self.children.values():  # none are left without an immediate stop
            child.kill()
        await ended

    # --- maintenance ---------------------------------------------------------------------------------------------

    async def _watch_specs(self) -> None:
        """Notice at once when specs change; if files cannot be watched, changes are noticed within a minute."""
        while not self.stop.graceful.is_set():
            self.rewatch.clear()
            try:
                async with aclosing(file_changes(self.snapshot.directories, is_spec, self.rewatch)) as changes:
                    async for _ in changes:
                        self.specs_changed.set()
                        self.wake.set()
            except FileNotFoundError:  # a directory was deleted; the next scan finds the others
                self.specs_changed.set()
                await self._wait(_TICK)
            except OSError as error:
                self.report(Level.WARNING, f"changes of specs are only noticed once a minute: {error}")
                return

    async def _maintain(self) -> None:
        """Once a minute: evaluate alerts, mark killed runs, delete old rows, and look for changed specs."""
        while not self.stop.graceful.is_set():
            with self._reporting_errors("maintenance"):
                await asyncio.to_thread(self._run_maintenance, dict(self.snapshot.registered), self.snapshot.idle)
            now = self.clock.now()
            await self._wait(_MINUTE - (now.second + now.microsecond / 1e6))
            self.specs_changed.set()

    def _run_maintenance(self, registered: Mapping[str, RegisteredSpec], idle: AbstractSet[str]) -> None:
        now = self.clock.now()
        self._mark_interrupted()
        with RunLogReader.open(self.service.runlog) as reader:
            for alert in evaluate_specs(self.log, reader, registered, idle, now):
                self._report_alert(alert)
        if self.pruned_at is None or now - self.pruned_at >= _PRUNE_EVERY:
            self.pruned_at = now
            for spec in registered.values():
                if spec.integration is not None:
                    logging = spec.integration.logging
                    self.log.prune(
                        spec.spec_id,
                        retention=logging.retention,
                        failures=logging.failures,
                        runs=logging.runs,
                        payloads=logging.payloads,
                    )

    def _report_alert(self, alert: AlertRow) -> None:
        if alert.state is AlertState.FIRING:
            self.report(Level.WARNING, f"{alert.spec_id}: alert: {alert.name}: {alert.detail}")
        else:
            self.report(Level.INFO, f"{alert.spec_id}: alert over: {alert.name}")

    def _build_served(self) -> dict[str, ServedSpec]:
        """Return the state of each spec for the heartbeat."""
        served = {}
        for spec_id, spec in self.snapshot.registered.items():
            if spec_id not in self.run_queue:
                previous = self._get_previous(spec_id) or ServedSpec("", format_timestamp(self.clock.now()))
                served[spec_id] = replace(previous, next=None, running=False, problem=spec.problem)
                continue
            start = self.run_queue.get_next(spec_id)
            served[spec_id] = ServedSpec(
                schedule=self.run_queue.get_schedule(spec_id).text,
                since=format_timestamp(self.run_queue.get_since(spec_id)),
                next=format_timestamp(start) if start else None,
                running=spec_id in self.children,
                problem=spec.problem or self.errors.get(spec_id, ""),
            )
        return served

    def _log_error(self, spec_id: str, message: str) -> None:
        """Report an error of a spec, also in the run log."""
        self.report(Level.ERROR, f"{spec_id}: {message}")
        self.log.log_event(spec_id, None, Level.ERROR, "service", message)

    @contextmanager
    def _reporting_errors(self, name: str) -> Iterator[None]:
        """Report an error of `name` once until it is over, and continue: a full disk may soon have space again."""
        try:
            yield
        except RunLogTooNew as error:
            self._end_with(error)
        except SpeclabError as error:
            if error.message not in self.errors.values():
                self.report(Level.ERROR, f"{error.message}; {error.hint}" if error.hint else error.message)
            self.errors[name] = error.message
        else:
            self.errors.pop(name, None)

    def _end_with(self, error: RunLogError) -> None:
        """Stop the service: the run log belongs to another one."""
        self.fatal = error
        self.stop.graceful.set()

    async def _wait(self, seconds: float, *events: asyncio.Event) -> None:
        """Wait `seconds`, or until one of `events` is set or a stop is requested."""
        waits = [asyncio.ensure_future(event.wait()) for event in (self.stop.graceful, *events)]
        pause = asyncio.ensure_future(self.clock.sleep(seconds))
        await asyncio.wait([pause, *waits], return_when=asyncio.FIRST_COMPLETED)
        for future in (pause, *waits):
            future.cancel()


def _build_replaced_error(path: Path) -> RunLogError:
    return RunLogError(
        f"{path}: the run log was replaced by another file",
        hint="restart `speclab up` to use the new one",
    )


def _get_file_id(path: Path) -> tuple[int, int] | None:
    """Return the identity of the file at `path`; None while it does not exist or cannot be reached."""
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_dev, status.st_ino
