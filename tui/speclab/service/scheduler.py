"""The service: runs what is in progress on its schedule, each run a process of its own, until it is told to stop.

It keeps nothing that a crash could lose. What ran is in the run log, what is to run follows from the specs, and up to
when a schedule is served stands in the heartbeat, from which the next service takes over.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from contextlib import aclosing, contextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

from speclab.connectors.api import Report
from speclab.core.clock import Clock, format_timestamp
from speclab.core.errors import RunLogError, RunLogTooNew, SpeclabError, UsageError, WorkspaceLocked
from speclab.core.locks import hold_workspace, is_running
from speclab.core.outcome import AlertState, Level, RunState, Trigger
from speclab.runlog import AlertRow, IntegrationRow, RunLog, RunLogReader, RunRow
from speclab.runlog.statistics import get_last_start, has_running_run
from speclab.service import heartbeat
from speclab.service.heartbeat import PERIOD, Heartbeat, HeartbeatWriter, ServedSpec
from speclab.service.process import ProcessExit, RunProcess
from speclab.service.run_queue import QueuedRun, RunQueue
from speclab.service.schedule import local_zone
from speclab.service.spec_registry import RegisteredSpec, RegistrySnapshot, SpecRegistry
from speclab.spec.integration import Alert
from speclab.spec.workspace import file_changes, is_spec
from speclab.sync.signals import StopRequest

Evaluate = Callable[[RunLog, RunLogReader, str, Sequence[Alert], datetime], Sequence[AlertRow]]
"""Evaluates and records the alerts of an integration; gives those that began or ended firing."""

_TICK: Final = 0.5
"""Seconds between two looks at the run log and the agenda."""
_MINUTE: Final = 60.0
_PRUNE_EVERY: Final = timedelta(hours=1)
_CUT_SHORT: Final = (RunState.CANCELLED, RunState.INTERRUPTED)


@dataclass(frozen=True, slots=True)
class Serving:
    """What a service works on: the specs in `directory` that belong to `workspace`, at most `jobs` of them at once.

    `options` are what each run is given beside.
    """

    directory: Path
    workspace: Path
    runlog: Path
    jobs: int
    options: tuple[str, ...] = ()


async def serve(serving: Serving, evaluate: Evaluate, clock: Clock, tell: Report, stop: StopRequest) -> None:
    """Run specs on their schedules until `stop`.

    Raises `WorkspaceLocked` if another process does, and `RunLogError` if the run log cannot be opened, or if another
    takes its place, or a newer speclab brings it up to date. Other trouble with it is told, and the service goes on.
    """
    unproven = heartbeat.unproven_service(serving.workspace, clock.now())
    with (
        hold_workspace(serving.workspace, clock),
        RunLog.open(serving.runlog, clock) as log,
        RunLogReader.open(serving.runlog) as reader,
    ):
        if unproven is not None:
            raise WorkspaceLocked(
                f"the specs in {serving.workspace} are run on their schedules already, by process {unproven.pid} of "
                f"{unproven.user} on {unproven.host}, whose lock file was deleted",
                hint="Stop that one first.",
            )
        await _Service(serving, evaluate, clock, tell, stop, log, reader).go()


@dataclass(slots=True)
class _Service:
    """A service at work."""

    serving: Serving
    evaluate: Evaluate
    clock: Clock
    tell: Report
    stop: StopRequest
    log: RunLog
    reader: RunLogReader
    before: Heartbeat | None = None  # of the service this one takes over from
    run_queue: RunQueue = field(default_factory=lambda: RunQueue(local_zone()))
    roll: RegistrySnapshot = field(default_factory=lambda: RegistrySnapshot({}, frozenset(), {}, frozenset()))
    roll_is_stale: asyncio.Event = field(default_factory=asyncio.Event)
    wake: asyncio.Event = field(default_factory=asyncio.Event)
    rewatch: asyncio.Event = field(default_factory=asyncio.Event)
    taken_in: dict[str, RegisteredSpec] = field(
        default_factory=dict
    )  # of the roll: what the agenda and the run log know
    children: dict[str, RunProcess] = field(default_factory=dict)
    tasks: set[asyncio.Task[None]] = field(default_factory=set)
    version: tuple[int, int] = (-1, -1)  # of the run log, as last seen
    revisions: dict[str, int] = field(default_factory=dict)  # of each integration in it
    pruned_at: datetime | None = None
    trouble: dict[str, str] = field(default_factory=dict)  # what is in trouble, and what was told of it
    over: RunLogError | None = None  # why it cannot go on: the run log is not what it serves any more

    async def go(self) -> None:
        """Serve, from taking over to the last beat."""
        heartbeat_writer = HeartbeatWriter(self.serving.workspace, self.clock.now())
        registry = SpecRegistry(self.serving.directory, self.serving.workspace)
        file = _file(self.serving.runlog)
        self._take_over()
        self._call_roll(registry.call())
        if not self.roll.registered:
            self.tell(Level.INFO, "no spec is in progress; one is run from when its front matter says `in-progress`")
        async with asyncio.TaskGroup() as group:
            group.create_task(self._watch())
            group.create_task(self._keep())
            while not self.stop.graceful.is_set():
                if _file(self.serving.runlog) not in (file, None):
                    self._give_up(_replaced(self.serving.runlog))
                    break
                with self._surviving("the agenda"):
                    await self._tick(group, registry)
                with self._surviving("the heartbeat"):  # it is alive, whatever else is wrong
                    heartbeat_writer.beat(self.clock.now(), self._served())
                await self._rest(_TICK, self.wake)
                self.wake.clear()
            self.rewatch.set()
            await self._wind_down(heartbeat_writer)
        if self.over is not None:  # it is for another service to beat
            raise self.over
        with self._surviving("the heartbeat"):
            heartbeat_writer.end(self.clock.now(), self._served())

    # --- what is to run ------------------------------------------------------------------------------------------

    def _take_over(self) -> None:
        """Put in order what a service, or a run, that ended without a word has left."""
        before = self.before = heartbeat.last(self.serving.workspace)
        if before is not None and before.stopped is None:
            self.tell(
                Level.WARNING, f"the service before, process {before.pid}, ended without a word; this one goes on"
            )
        for run in self._interrupted():
            self.tell(Level.WARNING, f"{run.spec_id}: a run was interrupted; the next goes on from its checkpoint")

    async def _tick(self, group: asyncio.TaskGroup, registry: SpecRegistry) -> None:
        """See what has changed, and start what is due."""
        if self.roll_is_stale.is_set():
            self.roll_is_stale.clear()
            self._call_roll(registry.call())
        self._learn()
        now = self.clock.now()
        for job in self.run_queue.due(now):
            if len(self.children) == self.serving.jobs:
                break
            spec = self.roll.registered[job.spec_id]
            if spec.integration is None or job.spec_id in self.children:
                continue
            if not has_running_run(self.reader, job.spec_id):
                with self._surviving(job.spec_id):  # what stands in the way of one is no matter of the others
                    await self._start(group, job, spec, now)

    def _call_roll(self, roll: RegistrySnapshot) -> None:
        """Bring the agenda up to what the specs say now."""
        known, self.roll = self.roll, roll
        for spec_id in [spec_id for spec_id in self.run_queue if spec_id not in roll.registered]:
            self.run_queue.drop(spec_id)
            self.trouble.pop(spec_id, None)
            self.tell(Level.INFO, f"{spec_id}: not in progress any more")
        self.taken_in = {spec_id: spec for spec_id, spec in self.taken_in.items() if spec_id in roll.registered}
        for spec_id, spec in list(roll.registered.items()):
            if self.taken_in.get(spec_id) is not spec:
                with self._surviving(f"the entry of {spec_id}"):
                    self._enlist(spec)
                    self.taken_in[spec_id] = spec
        for path, why in roll.passed_over.items():
            if known.passed_over.get(path) != why:
                self.tell(Level.WARNING, f"{path} is not run: {why}")
        if roll.directories != known.directories:
            self.rewatch.set()

    def _enlist(self, spec: RegisteredSpec) -> None:
        """Take in a spec that is new or was edited."""
        if spec.integration is not None:
            schedule = spec.integration.schedule
            left = self._left_by_the_service_before(spec.spec_id)
            served = left is not None and left.schedule == schedule.text
            since = datetime.fromisoformat(left.since) if left is not None and served else self.clock.now()
            try:
                self.run_queue.put(spec.spec_id, schedule, since)
            except UsageError as error:
                spec = replace(spec, integration=None, problem=f"{error.message}; {error.hint}")
                self.roll.registered[spec.spec_id] = spec
        if spec.integration is None:
            self._event(spec.spec_id, f"cannot run: {spec.problem}")
            return
        text, title, status = spec.integration.schedule.text, spec.integration.title, spec.integration.status
        self.log.register(spec.spec_id, title=title, path=spec.file, status=status, schedule=text)
        start = self.run_queue.next(spec.spec_id)
        when = f"next at {start.astimezone(self.run_queue.local):%Y-%m-%d %H:%M:%S}" if start else "runs when told to"
        self.tell(Level.INFO, f"{spec.spec_id}: {text or 'On-demand'}, {when}")

    def _interrupted(self) -> list[RunRow]:
        return self.log.mark_interrupted(partial(is_running, self.serving.workspace))

    def _left_by_the_service_before(self, spec_id: str) -> ServedSpec | None:
        return self.before.specs.get(spec_id) if self.before else None

    def _learn(self) -> None:
        """Take in what the run log says of runs, whoever made them, of retry queues and of pauses."""
        version = self.reader.version()
        if version == self.version:
            return
        for row in self.reader.integrations():
            spec_id = row.spec_id
            if spec_id not in self.run_queue or row.revision == self.revisions.get(spec_id):
                continue
            self.revisions[spec_id] = row.revision
            self._pause(row)
            self.run_queue.queue(spec_id, datetime.fromisoformat(row.next_attempt_at) if row.next_attempt_at else None)
            parked = {end: datetime.fromisoformat(at) for end, at in self.reader.get_parked(spec_id).items()}
            self.run_queue.park(spec_id, source=parked.get("source"), target=parked.get("target"))
            if spec_id not in self.children:  # what is under way may yet be cut short
                started = get_last_start(self.reader, spec_id, self.clock.now())
                if started is not None:
                    self.run_queue.served(spec_id, started)
        self.version = version

    def _pause(self, row: IntegrationRow) -> None:
        """Leave an integration alone while it is paused."""
        paused = row.paused_at is not None
        if paused != self.run_queue.paused(row.spec_id):
            self.run_queue.pause(row.spec_id, paused=paused)
            self.tell(Level.INFO, f"{row.spec_id}: {f'paused by {row.paused_by}' if paused else 'resumed'}")

    # --- runs ----------------------------------------------------------------------------------------------------

    async def _start(self, group: asyncio.TaskGroup, job: QueuedRun, spec: RegisteredSpec, now: datetime) -> None:
        output = self.serving.workspace / ".speclab" / "runs" / f"{quote(job.spec_id, safe=' ')}.up.log"
        serving = self.serving
        child = await RunProcess.start(
            spec.path, job.trigger, serving.runlog, serving.workspace, output, serving.options
        )
        self.run_queue.begin(job, now)
        self.children[job.spec_id] = child
        late = job.trigger is Trigger.SCHEDULE and (now - job.at).total_seconds() > _MINUTE
        self.tell(Level.INFO, f"{job.spec_id}: started by {job.trigger}{f', due since {job.at}' if late else ''}")
        task = group.create_task(self._see_through(job, child))
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)

    async def _see_through(self, job: QueuedRun, child: RunProcess) -> None:
        """Wait for the end of a job, and take in what it came to."""
        ended = await child.end()
        del self.children[job.spec_id]
        with self._surviving(f"the end of {job.spec_id}"):
            self._tell_end(job, ended)
        with self._surviving("the agenda"):
            self.revisions.pop(job.spec_id, None)
            self.version = (-1, -1)
            self._learn()
        cut_short = ended.row is None or ended.row["state"] in _CUT_SHORT
        if not (cut_short and self.stop.graceful.is_set()):  # what is, is for the next service to make up for
            self.run_queue.end(job, self.clock.now(), news=ended.news)
        self.wake.set()

    def _tell_end(self, job: QueuedRun, ended: ProcessExit) -> None:
        if ended.row is not None:
            counts = [f"{ended.row[name]:,} {name}" for name in ("read", "written", "waiting", "dead", "unknown")]
            self.tell(Level.INFO, f"{job.spec_id}: {ended.row['state']}, {', '.join(counts)}")
        elif ended.code < 0:
            begun = any(run.spec_id == job.spec_id for run in self._interrupted())
            if begun or not self.stop.graceful.is_set():
                self._event(job.spec_id, f"the run ended without a word: {ended.why}")
            else:
                self.tell(Level.INFO, f"{job.spec_id}: stopped before it began")
        else:
            self._event(job.spec_id, f"could not run: {ended.why}")

    async def _wind_down(self, heartbeat_writer: HeartbeatWriter) -> None:
        """Let every run finish the page in hand; end them at once where that is told."""
        if self.children:
            self.tell(Level.INFO, f"stopping once {', '.join(self.children)} finished the page in hand")
        for child in self.children.values():
            child.stop()
        with self._surviving("the heartbeat"):
            heartbeat_writer.stopping(self.clock.now(), self._served())
        ended = asyncio.gather(*self.tasks)
        told = asyncio.ensure_future(self.stop.immediate.wait())
        either: set[asyncio.Future[Any]] = {ended, told}
        while not any(one.done() for one in either):  # a page may take a while, and others are to see that it is alive
            await asyncio.wait(either, timeout=PERIOD, return_when=asyncio.FIRST_COMPLETED)
            with self._surviving("the heartbeat"):
                heartbeat_writer.beat(self.clock.now(), self._served())
        told.cancel()
        for child in self.children.values():  # there are none left, unless it was told
            child.kill()
        await ended

    # --- beside them ---------------------------------------------------------------------------------------------

    async def _watch(self) -> None:
        """Notice at once when specs change; where that cannot be, it is noticed within a minute."""
        while not self.stop.graceful.is_set():
            self.rewatch.clear()
            try:
                async with aclosing(file_changes(self.roll.directories, is_spec, self.rewatch)) as changes:
                    async for _ in changes:
                        self.roll_is_stale.set()
                        self.wake.set()
            except FileNotFoundError:  # a directory went; the roll says which there are
                self.roll_is_stale.set()
                await self._rest(_TICK)
            except OSError as error:
                self.tell(Level.WARNING, f"changed specs are noticed once a minute only: {error}")
                return

    async def _keep(self) -> None:
        """Once a minute: alerts, runs that died, rows that are kept no longer, and specs that changed unnoticed."""
        while not self.stop.graceful.is_set():
            with self._surviving("what is kept in order"):
                await asyncio.to_thread(self._keep_order, dict(self.roll.registered), self.roll.idle)
            now = self.clock.now()
            await self._rest(_MINUTE - (now.second + now.microsecond / 1e6))
            self.roll_is_stale.set()

    def _keep_order(self, registered: Mapping[str, RegisteredSpec], idle: AbstractSet[str]) -> None:
        now = self.clock.now()
        self._interrupted()
        with RunLogReader.open(self.serving.runlog) as reader:
            paused = {row.spec_id for row in reader.integrations() if row.paused_at}
            for spec in registered.values():
                if spec.integration is not None and spec.spec_id not in paused:
                    for alert in self.evaluate(self.log, reader, spec.spec_id, spec.integration.alerts, now):
                        self._tell_alert(alert)
            for spec_id in {alert.spec_id for alert in reader.alerts()} & idle:
                self.log.save_alerts(spec_id, [])  # of a spec that is not in progress nobody needs to hear
            for spec_id in {alert.spec_id for alert in reader.alerts() if alert.state is AlertState.PENDING} & paused:
                rows = [alert for alert in reader.alerts(spec_id) if alert.state is not AlertState.PENDING]
                self.log.save_alerts(spec_id, rows)  # nobody looks in a pause whether it still holds
        if self.pruned_at is None or now - self.pruned_at >= _PRUNE_EVERY:
            self.pruned_at = now
            for spec in registered.values():
                if spec.integration is not None:
                    kept = spec.integration.logging
                    self.log.prune(spec.spec_id, retention=kept.retention, failures=kept.failures)

    def _tell_alert(self, alert: AlertRow) -> None:
        if alert.state is AlertState.FIRING:
            self.tell(Level.WARNING, f"{alert.spec_id}: alert: {alert.name}: {alert.detail}")
        else:
            self.tell(Level.INFO, f"{alert.spec_id}: alert over: {alert.name}")

    def _served(self) -> dict[str, ServedSpec]:
        """What the heartbeat tells of each spec."""
        served = {}
        for spec_id, spec in self.roll.registered.items():
            if spec_id not in self.run_queue:
                left = self._left_by_the_service_before(spec_id) or ServedSpec("", format_timestamp(self.clock.now()))
                served[spec_id] = replace(left, next=None, running=False, problem=spec.problem)
                continue
            start = self.run_queue.next(spec_id)
            served[spec_id] = ServedSpec(
                schedule=self.run_queue.schedule(spec_id).text,
                since=format_timestamp(self.run_queue.since(spec_id)),
                next=format_timestamp(start) if start else None,
                running=spec_id in self.children,
                problem=spec.problem or self.trouble.get(spec_id, ""),
            )
        return served

    def _event(self, spec_id: str, message: str) -> None:
        """Tell of trouble with a spec, here and in the run log."""
        self.tell(Level.ERROR, f"{spec_id}: {message}")
        self.log.log_event(spec_id, None, Level.ERROR, "service", message)

    @contextmanager
    def _surviving(self, what: str) -> Iterator[None]:
        """Tell what goes wrong with `what`, once until it is over, and go on: a full disk may be over soon."""
        try:
            yield
        except RunLogTooNew as error:
            self._give_up(error)
        except SpeclabError as error:
            if error.message not in self.trouble.values():
                self.tell(Level.ERROR, f"{error.message}; {error.hint}" if error.hint else error.message)
            self.trouble[what] = error.message
        else:
            self.trouble.pop(what, None)

    def _give_up(self, error: RunLogError) -> None:
        """Stop, for what is served is for another service."""
        self.over = error
        self.stop.graceful.set()

    async def _rest(self, seconds: float, *events: asyncio.Event) -> None:
        """Wait `seconds`, or until one of `events` or until it is to stop."""
        waits = [asyncio.ensure_future(event.wait()) for event in (self.stop.graceful, *events)]
        pause = asyncio.ensure_future(self.clock.sleep(seconds))
        await asyncio.wait([pause, *waits], return_when=asyncio.FIRST_COMPLETED)
        for one in (pause, *waits):
            one.cancel()


def _replaced(path: Path) -> RunLogError:
    return RunLogError(
        f"{path}: the run log that was served is gone, and another in its place",
        hint="start `speclab up` anew, which serves that one",
    )


def _file(path: Path) -> tuple[int, int] | None:
    """Which file is at `path`; None while there is none, or it is out of reach."""
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_dev, status.st_ino
