"""The commands `speclab alerts`: list, evaluate once, test a channel, silence."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click

from speclab.cli.output import (
    DurationType,
    complete_spec,
    json_option,
    open_reader,
    print_error,
    print_json,
    print_message,
    print_rows,
    report,
    runlog_option,
    spec_id_of,
)
from speclab.cli.systems import approval, trust_option
from speclab.core.errors import SpeclabError, UsageError
from speclab.core.text import describe_choices

if TYPE_CHECKING:
    from speclab.connectors.trust import Approve
    from speclab.core.json import Record
    from speclab.runlog import RunLogReader
    from speclab.service.spec_registry import RegistrySnapshot
    from speclab.spec.notifications import NotificationSettings

_ALL = "all"


@click.group(invoke_without_command=True, short_help="List alerts, notify channels, silence alerts.")
@click.option("--once", is_flag=True, help="Evaluate all alerts and deliver due messages, then exit: for cron.")
@click.option("--spec", shell_complete=complete_spec, help="Only the alerts of this spec.")
@trust_option
@runlog_option
@json_option
@click.pass_context
def alerts(
    context: click.Context,
    once: bool,  # noqa: FBT001 - click hands flags by name
    spec: str | None,
    trust: bool,  # noqa: FBT001
    runlog: Path | None,
    as_json: bool,  # noqa: FBT001
) -> None:
    """List the alerts of the specs in the current workspace, as evaluated last.

    `speclab up` evaluates alerts once a minute and notifies the channels of Error Notifications. Where specs are run by
    cron, run `speclab alerts --once` there: it evaluates the specs that are in-progress below the current directory,
    delivers due messages, and reports a `speclab up` that died.

    \b
    speclab alerts --once
    speclab alerts test ops
    speclab alerts silence "Many records fail" --for 2h --reason "the CRM is being upgraded"

    Exits 1 if an alert is firing.
    """  # noqa: D301 - click's mark for a paragraph that keeps its lines
    if context.invoked_subcommand is not None:
        return
    if once:
        _evaluate_once(runlog, approval(trust=trust))
    with open_reader(runlog) as log:
        of = spec_id_of(log, spec) if spec is not None else None
        rows = list(_list_alerts(log, of))
    for row in rows if as_json else ():
        print_json(row)
    if rows and not as_json:
        print_rows(rows, ["spec_id", "alert", "state", "since", "severity", "silenced_until", "undelivered", "detail"])
    elif not rows:
        print_message("No alerts yet. `speclab up` or `speclab alerts --once` evaluates them.")
    context.exit(any(row["state"] == "firing" for row in rows))


def _list_alerts(log: RunLogReader, spec_id: str | None) -> Iterator[Record]:
    """Yield the alerts, firing ones first."""
    from speclab.core.clock import SystemClock
    from speclab.core.outcome import AlertState, NoticeState
    from speclab.runlog.outbox import get_notices, get_silences

    silences = get_silences(log, SystemClock().now(), spec_id)
    due = get_notices(log, spec_id, NoticeState.DUE, limit=10_000)
    order = [AlertState.FIRING, AlertState.PENDING, AlertState.OK]
    for row in sorted(log.alerts(spec_id), key=lambda row: order.index(row.state)):
        mine = [one for one in silences if one.spec_id == row.spec_id and one.alert in (None, row.name)]
        waiting = [one for one in due if (one.spec_id, one.alert) == (row.spec_id, row.name)]
        yield {
            "spec_id": row.spec_id,
            "alert": row.name,
            "state": row.state.value,
            "since": row.since,
            "severity": row.severity,
            "detail": row.detail,
            "notified_at": row.notified_at,
            "silenced_until": max((one.until for one in mine), default=None),
            "silenced_by": mine[0].by if mine else None,
            "silence_reason": mine[0].reason if mine else None,
            "undelivered": len(waiting),
            "delivery_error": next((one.error for one in waiting if one.error), None),
        }


def _evaluate_once(runlog: Path | None, approve: Approve) -> None:
    """Evaluate the specs in progress, and deliver due messages."""
    import asyncio

    from speclab.core.clock import SystemClock
    from speclab.runlog import RunLog, RunLogReader
    from speclab.service.notifications import Notifier, evaluate_specs, find_outage
    from speclab.spec.workspace import runlog_path, state_directory, workspace_of

    directory = Path.cwd()
    workspace = workspace_of(directory)
    state_directory(workspace)
    snapshot = _scan(directory, workspace)
    clock = SystemClock()
    with RunLog.open(runlog or runlog_path(workspace)) as log, RunLogReader.open(log.path) as reader:
        for spec in snapshot.registered.values():
            if (known := spec.integration) is not None:  # a spec that has never run is overdue from now on
                text = known.schedule.text
                log.register(spec.spec_id, title=known.title, path=spec.file, status=known.status, schedule=text)
        now = clock.now()
        evaluate_specs(log, reader, snapshot.registered, snapshot.idle, now, find_outage(workspace, now))

        async def deliver() -> None:
            notifier = Notifier(log, clock, report, approve)
            notifier.start_due(snapshot.registered)
            await notifier.finish(_PATIENCE)

        asyncio.run(deliver())


_PATIENCE = 150.0
"""Maximum seconds of all deliveries of `--once`: more than the longest timeout of one."""


def _scan(directory: Path, workspace: Path) -> RegistrySnapshot:
    from speclab.service.spec_registry import SpecRegistry

    snapshot = SpecRegistry(directory, workspace).scan()
    for path, reason in snapshot.skipped.items():
        print_message(f"{path} is not evaluated: {reason}")
    for spec in snapshot.registered.values():
        if spec.integration is None:
            print_message(f"{spec.spec_id} is not evaluated: {spec.problem}")
    return snapshot


@alerts.command(short_help="Send a test message to a channel.")
@click.argument("channel")
@click.option("--spec", shell_complete=complete_spec, help="The spec that defines the channel, if several do.")
@trust_option
def test(channel: str, spec: str | None, trust: bool) -> None:  # noqa: FBT001
    """Send a test message to CHANNEL of Error Notifications.

    Without --spec, it is sent to the channel of that name of every spec below the current directory, once to each
    receiver.
    """
    import asyncio

    from speclab.connectors.trust import open_channels
    from speclab.core.clock import SystemClock
    from speclab.service.notifications import build_test_notice, deliver

    failed = 0
    for path, spec_id, title, settings in _find_channels(channel, spec):
        found = settings.get_channel(channel)
        if found is None or found.kind in ("log", "dashboard"):
            print_message(f"{channel} of {spec_id}: shows messages on this machine; nothing to send")
            continue
        notice = build_test_notice(title, spec_id, SystemClock().now())
        try:
            references = open_channels(path, settings, approval(trust=trust))
            asyncio.run(deliver(found, references, [notice], []))
        except SpeclabError as error:
            failed += 1
            print_message(f"{channel} of {spec_id}: not delivered")
            print_error(error)
        else:
            print_message(f"{channel} of {spec_id}: delivered ({found.kind})")
    click.get_current_context().exit(1 if failed else 0)


def _find_channels(name: str, spec: str | None) -> list[tuple[Path, str, str, NotificationSettings]]:
    """Return the specs that define the channel, once for each receiver: path, spec_id, title and settings.

    Raises `UsageError` if no spec does.
    """
    from speclab.core.errors import SpecError
    from speclab.spec.document import Document
    from speclab.spec.parser import read_notifications
    from speclab.spec.workspace import find_spec, find_specs, read_spec_file

    specs = find_specs(Path()) if spec is None else [read_spec_file(find_spec(Path(), spec))]
    found: dict[str, tuple[Path, str, str, NotificationSettings]] = {}
    known: set[str] = set()
    for one in specs:
        if one is None or one.type != "integration":
            continue
        try:
            document = Document.load(one.path)
            settings = read_notifications(document)
        except (SpecError, OSError) as error:
            print_message(f"{one.path} is skipped: {error}")
            continue
        known |= settings.channels.keys()
        if (channel := settings.get_channel(name)) is not None:
            found.setdefault(channel.model_dump_json(), (one.path, one.spec_id, document.title, settings))
    if not found:
        hint = describe_choices(name, sorted(known), "Channels are") if known else _NO_CHANNELS
        raise UsageError(f"no channel {name!r}", hint=hint)
    return list(found.values())


_NO_CHANNELS = "Define channels in a settings block of the section Error Notifications."


@alerts.command(short_help="Silence an alert for some time.")
@click.argument("alert")
@click.option("--for", "seconds", type=DurationType(), help="Duration, such as 2h.")
@click.option("--reason", default="", help="Reason, shown with the alert.")
@click.option("--spec", shell_complete=complete_spec, help="Only the alert of this spec.")
@click.option("--end", is_flag=True, help="End the silence.")
@runlog_option
def silence(
    alert: str,
    seconds: float | None,
    reason: str,
    spec: str | None,
    end: bool,  # noqa: FBT001
    runlog: Path | None,
) -> None:
    """Suppress the notifications of ALERT for some time; `all` silences all alerts.

    The alert is still evaluated. If it fires when the silence ends, its channels are notified then. For planned work,
    use `maintenance` in the section Error Notifications instead.
    """
    from datetime import timedelta

    from speclab.core.clock import SystemClock
    from speclab.core.locks import get_user_name
    from speclab.runlog import RunLog

    if not end and (not seconds or not reason.strip()):
        raise UsageError("--for and --reason are required", hint='Example: --for 2h --reason "CRM is being upgraded"')
    with open_reader(runlog) as reader:
        spec_ids = _find_alert(reader, alert, spec_id_of(reader, spec) if spec is not None else None)
        path = reader.path
    name, user = None if alert == _ALL else alert, get_user_name()
    with RunLog.open(path) as log:
        for spec_id in spec_ids:
            if end:
                ended = log.end_silence(spec_id, name, user)
                print_message(f"{spec_id}: {alert}: {'no longer silenced' if ended else 'was not silenced'}")
                continue
            until = SystemClock().now() + timedelta(seconds=seconds or 0.0)
            log.silence(spec_id, name, until, user, reason.strip())
            print_message(f"{spec_id}: {alert}: silenced until {until.astimezone():%Y-%m-%d %H:%M}")


def _find_alert(reader: RunLogReader, alert: str, spec_id: str | None) -> list[str]:
    """Return the integrations that have the alert. Raises `UsageError` if none has."""
    rows = reader.alerts(spec_id)
    if alert == _ALL:
        found = [row.spec_id for row in reader.integrations(spec_id)]
    else:
        found = [row.spec_id for row in rows if row.name == alert]
    if not found:
        names = sorted({row.name for row in rows})
        hint = describe_choices(alert, names, "Alerts are") if names else "No alert was evaluated yet."
        raise UsageError(f"no alert {alert!r}", hint=hint)
    return found
