"""Commands that report the runs of other tools: `log` for shell scripts and cron, and `wrap` around a command."""

from __future__ import annotations

import os
import selectors
import signal
import subprocess
import sys
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Final, TypeVar

import click

from speclab.cli.output import Function, json_option, print_error, print_json, print_message
from speclab.core.errors import SpeclabError, UsageError
from speclab.core.outcome import ErrorClass, Level, RunState, Stage

if TYPE_CHECKING:
    from speclab.core.json import Json
    from speclab.runlog import RunRow
    from speclab.runlog.reports import Report, RunReports

ReportT = TypeVar("ReportT", bound="Report")

RUN: Final = "SPECLAB_RUN"
"""The variable with the id of the run that a script reports; `speclab wrap` sets it for its command."""
RUNLOG: Final = "SPECLAB_RUNLOG"

_COUNTS: Final = {
    "read": "Records read from the source, including failed ones.",
    "written": "Records written.",
    "created": "Records created; they count as written.",
    "updated": "Records updated; they count as written.",
    "deleted": "Records deleted; they count as written.",
    "unchanged": "Records that were at the target already.",
    "filtered": "Records left out on purpose.",
    "bytes-in": "Bytes received from the source.",
    "bytes-out": "Bytes sent to the target.",
}


def _reporting(function: Function) -> Function:
    return click.option(
        "--runlog",
        type=click.Path(dir_okay=False, path_type=Path),
        envvar=RUNLOG,
        show_default=".speclab/runlog.db in the workspace",
        help=f"Path of the run log; also ${RUNLOG}.",
    )(function)


def _run_option(function: Function) -> Function:
    return click.option("--run", "run_id", metavar="ID", envvar=RUN, help=f"Id of the run; also ${RUN}.")(function)


def _counts(function: Function) -> Function:
    for name, text in reversed(_COUNTS.items()):
        function = click.option(f"--{name}", type=click.IntRange(0), metavar="N", help=text)(function)
    return function


@click.group(short_help="Report the run of a script.")
def log() -> None:
    """Report the run of a script or another tool, step by step. `speclab status` and the Monitor then show it.

    \b
    export SPECLAB_RUN=$(speclab log start nightly-export)
    speclab log fail c_8841 "no such country: XX"
    speclab log end --read 120 --written 119

    `speclab wrap` reports a whole command without changes to it.
    """  # noqa: D301 - click's mark for a paragraph that keeps its lines


@log.command(short_help="Start a run, and print its id.")
@click.argument("name")
@click.option("--title", default="", help="Title of the integration.")
@click.option("--trigger", default="script", show_default=True, help="What started the run, such as `cron`.")
@click.option(
    "--pid",
    type=click.IntRange(1),
    help="Process that does the work: once it is gone, the run is marked as interrupted.",
)
@_reporting
def start(name: str, title: str, trigger: str, pid: int | None, runlog: Path | None) -> None:
    """Start a run of the integration NAME, and print its id.

    NAME is the spec_id of its spec, if it has one. With `--pid $$`, a run whose script dies is marked as interrupted.
    """
    from speclab.runlog.reports import RunStarted

    if pid is not None:
        _require_process(pid)
    report = _validate(RunStarted, {"integration": name, "title": title, "trigger": trigger})
    with _open(runlog, create=True) as reports:
        click.echo(reports.start(report, pid).run)


@log.command(short_help="Add counts to a run.")
@_run_option
@_counts
@click.option("--key", "keys", multiple=True, help="Key of a record that arrived: its earlier failures are closed.")
@click.option("--message", default="", help="Line for the event log.")
@click.option(
    "--level",
    type=click.Choice([one.value for one in Level]),
    default="info",
    show_default=True,
    help="Level of the message.",
)
@_reporting
@json_option
def progress(run_id: str | None, runlog: Path | None, as_json: bool, **given: Json) -> None:  # noqa: FBT001
    """Add counts to a run. Each record that was read needs one outcome by the end of the run."""
    from speclab.runlog.reports import ProgressReported

    report = _validate(ProgressReported, given)
    with _open(runlog) as reports:
        _print(reports.add(_require_run(run_id), report), as_json=as_json)


@log.command(short_help="Add a dead letter to a run.")
@click.argument("key")
@click.argument("message")
@_run_option
@click.option(
    "--class",
    "error_class",
    type=click.Choice([one.value for one in ErrorClass]),
    default="rejected",
    show_default=True,
    help="Class of the error.",
)
@click.option(
    "--stage",
    type=click.Choice([one.value for one in Stage]),
    default="write",
    show_default=True,
    help="Stage in which it failed.",
)
@click.option("--status", type=click.IntRange(100, 599), help="Status of the HTTP response.")
@click.option("--record", metavar="JSON", help="The record as read from the source.")
@_reporting
@json_option
def fail(run_id: str | None, record: str | None, runlog: Path | None, as_json: bool, **given: Json) -> None:  # noqa: FBT001
    """Add the record KEY to a run as a dead letter, with the reason MESSAGE. Count it as read, too."""
    from speclab.runlog.reports import FailureReported

    report = _validate(FailureReported, given | {"record": _parse_record(record)})
    with _open(runlog) as reports:
        _print(reports.fail(_require_run(run_id), report), as_json=as_json)


@log.command(short_help="End a run.")
@_run_option
@_counts
@click.option("--key", "keys", multiple=True, help="Key of a record that arrived: its earlier failures are closed.")
@click.option(
    "--status",
    type=click.Choice(["succeeded", "failed", "cancelled"]),
    default="succeeded",
    show_default=True,
    help="How the run ended.",
)
@click.option("--error", default="", help="Why the run failed.")
@click.option("--message", default="", help="Line for the event log.")
@_reporting
@json_option
def end(run_id: str | None, runlog: Path | None, as_json: bool, **given: Json) -> None:  # noqa: FBT001
    """End a run, with counts that were not reported before.

    A run with dead letters is partial. A run whose outcomes do not add up to the records read is failed, and the
    command exits 1. Without --read, all records with an outcome count as read.
    """
    from speclab.runlog.reports import RunEndReported

    report = _validate(RunEndReported, given)
    with _open(runlog) as reports:
        row = reports.end(_require_run(run_id), report)
    _print(row, as_json=as_json)
    if row.state is RunState.FAILED and report.status != "failed":
        print_message(f"speclab: the run is failed: {row.error}")
        click.get_current_context().exit(1)


@log.command(short_help="Print the heartbeat URL of an integration.")
@click.argument("name")
@click.option(
    "--base", default="http://127.0.0.1:9464", show_default=True, metavar="URL", help="URL of `speclab up --listen`."
)
@click.option("--token", metavar="REF", help="Reference to the token of the server, as for `speclab up`.")
def url(name: str, base: str, token: str | None) -> None:
    """Print the heartbeat URL of the integration NAME, for tools that can only open a URL.

    It ends a run that succeeded; with /start, /fail, /log or /EXIT_CODE at its end it reports that. Whoever has the URL
    can report runs of this integration only.
    """
    from speclab.connectors.secrets.references import resolve_token
    from speclab.runlog.reports import RunStarted
    from speclab.service.http_api import build_ping_token
    from speclab.spec.workspace import workspace_of

    _validate(RunStarted, {"integration": name})
    secret = resolve_token(token, workspace_of(Path.cwd())) if token else ""
    click.echo(f"{base.rstrip('/')}/ping/{build_ping_token(name, secret)}")


def _print(row: RunRow, *, as_json: bool) -> None:
    if as_json:
        from speclab.runlog import run_json

        print_json(run_json(row))


@contextmanager
def _open(runlog: Path | None, *, create: bool = False) -> Iterator[RunReports]:
    """Open the run log for reports; it must exist, unless this may `create` it."""
    from speclab.runlog import RunLog
    from speclab.runlog.reports import RunReports
    from speclab.service.spec_registry import is_run_here
    from speclab.spec.workspace import runlog_path, state_directory, workspace_of

    path = runlog
    workspace = workspace_of(Path.cwd() if path is None else path.absolute().parent)
    if path is None:
        path = runlog_path(workspace)
        if create:
            state_directory(workspace)
    if not create and not path.exists():
        raise UsageError(f"there is no run log at {path}", hint="'speclab log start' creates it.")
    with RunLog.open(path) as log, RunLog.reader(path) as reader:
        yield RunReports(log, reader, partial(is_run_here, workspace))


def _require_run(run: str | None) -> str:
    if not run:
        raise UsageError("no run given", hint=f"Set ${RUN} to what 'speclab log start' printed, or use --run ID.")
    return run


def _require_process(pid: int) -> None:
    from speclab.core.locks import ProcessIdentity, is_alive

    if not is_alive(ProcessIdentity.of(pid)):
        raise UsageError(f"there is no process {pid}", hint="In a shell script, --pid $$ names the script.")


def _validate(kind: type[ReportT], given: dict[str, Json]) -> ReportT:
    """Build a report of the options that were given. Raise `UsageError` with the name of the invalid one."""
    from pydantic import ValidationError

    try:
        return kind.model_validate({name: value for name, value in given.items() if value is not None})
    except ValidationError as error:
        first = error.errors()[0]
        raise UsageError(f"{'.'.join(map(str, first['loc']))}: {first['msg']}") from None


def _parse_record(text: str | None) -> Json:
    import orjson

    if text is None:
        return None
    try:
        return orjson.loads(text)  # type: ignore[no-any-return]
    except orjson.JSONDecodeError as error:
        raise UsageError(
            f"--record: not valid JSON: {error}", hint='Give an object, such as {"id": "c_8841"}.'
        ) from None


_FORWARDED: Final = (signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2)
_OF_TERMINAL: Final = (signal.SIGINT, signal.SIGQUIT)
"""Signals that a terminal sends to the command itself."""
_CHUNK: Final = 65_536
_TAIL: Final = 8_192
"""Bytes of output kept to be reported."""
_POLL: Final = 0.1
"""Seconds between checks for the end of a command whose output is kept open by a process that it started."""
_CANNOT_RUN: Final = 126
_NOT_FOUND: Final = 127


@click.command(short_help="Run a command, and report it as a run.", context_settings={"ignore_unknown_options": True})
@click.argument("name")
@click.argument("command", nargs=-1, required=True, type=click.UNPROCESSED, metavar="-- COMMAND [ARGS]...")
@click.option("--title", default="", help="Title of the integration.")
@click.option("--trigger", default="script", show_default=True, help="What started the run, such as `cron`.")
@click.option(
    "--lines",
    type=click.IntRange(0, 200),
    default=20,
    show_default=True,
    help="Last lines of output to report; 0 for none.",
)
@_reporting
def wrap(name: str, command: Sequence[str], title: str, trigger: str, lines: int, runlog: Path | None) -> None:
    """Run COMMAND as a run of the integration NAME: with its exit code, its duration and its last lines of output.

    COMMAND keeps its standard input and output. Signals are passed on to it, and its exit code is the exit code of this
    command (128 plus the number of the signal that killed it). It runs even if the run log cannot be written.

    The command may report counts itself with `speclab log progress`: its environment names the run.

    \b
    speclab wrap nightly-export -- ./export.sh --all
    """  # noqa: D301
    from speclab.runlog.reports import RunStarted, get_last_lines

    started = _validate(RunStarted, {"integration": name, "title": title, "trigger": trigger})
    tail: deque[bytes] = deque()
    with ExitStack() as stack:
        environment = dict(os.environ)
        reports: RunReports | None = None
        with _tolerating_errors():
            opened = stack.enter_context(_open(runlog, create=True))
            run = opened.start(started, os.getpid()).run
            environment |= {RUN: run, RUNLOG: str(opened.path.absolute())}
            reports = opened
        code, stopped_by = _run_command(command, environment, tail)
        if reports is not None:
            with _tolerating_errors():
                _report_command(reports, environment[RUN], code, stopped_by, get_last_lines(b"".join(tail), lines))
    click.get_current_context().exit(code if code >= 0 else 128 - code)


@contextmanager
def _tolerating_errors() -> Iterator[None]:
    """Print an error of the run log, and continue: it must not keep the command from running."""
    try:
        yield
    except SpeclabError as error:
        print_error(error)


def _report_command(reports: RunReports, run: str, code: int, stopped_by: int | None, output: Sequence[str]) -> None:
    """End the run of a command that ended with `code`, after it was `stopped_by` a signal to this process."""
    from speclab.runlog.reports import MAX_TEXT, RunEndReported

    status, error = "succeeded", ""
    if code:
        how = f"exit code {code}" if code > 0 else f"killed by {signal.Signals(-code).name}"
        last = output[-1] if output else ""
        error = f"{how}: {last}" if last else how
        status = "cancelled" if stopped_by is not None and code in (-stopped_by, 128 + stopped_by) else "failed"
    reports.log_lines(run, output, Level.WARNING if code else Level.INFO)
    row = reports.end(run, RunEndReported.model_validate({"status": status, "error": error[:MAX_TEXT]}))
    if row.state is RunState.FAILED and not code:
        print_message(f"speclab: the run is failed: {row.error}")


def _run_command(command: Sequence[str], environment: Mapping[str, str], tail: deque[bytes]) -> tuple[int, int | None]:
    """Run a command, copy its output to ours, and keep the end of it in `tail`.

    Return its exit code (negative for the signal that killed it), and the last signal that was passed on to it.
    """
    received: list[int] = []
    process: subprocess.Popen[bytes] | None = None

    def forward(number: int, frame: FrameType | None) -> None:
        del frame
        received.append(number)
        if process is not None and (number not in _OF_TERMINAL or not sys.stdin.isatty()):
            process.send_signal(number)

    handlers = {number: signal.signal(number, forward) for number in (*_FORWARDED, *_OF_TERMINAL)}
    try:
        process = subprocess.Popen(
            list(command), env=dict(environment), stdout=subprocess.PIPE, stderr=subprocess.PIPE, bufsize=0
        )
    except OSError as error:
        print_message(f"speclab: {command[0]}: {error.strerror}")
        tail.append(f"{command[0]}: {error.strerror}".encode())
        return _NOT_FOUND if isinstance(error, FileNotFoundError) else _CANNOT_RUN, None
    else:
        if received:  # while it was started
            process.send_signal(received[-1])
        _copy_output(process, tail)
        return process.wait(), received[-1] if received else None
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)


def _copy_output(process: subprocess.Popen[bytes], tail: deque[bytes]) -> None:
    """Copy the output of a process until it ends, also if a process that it started keeps it open."""
    size = 0
    with selectors.DefaultSelector() as selector:
        for number, stream in ((1, process.stdout), (2, process.stderr)):
            assert stream is not None  # noqa: S101 - both are pipes
            selector.register(stream, selectors.EVENT_READ, number)
        while selector.get_map():
            ended = process.poll() is not None
            ready = selector.select(_POLL)
            if ended and not ready:
                break
            for key, _ in ready:
                chunk = os.read(key.fd, _CHUNK)
                if not chunk:
                    selector.unregister(key.fileobj)
                    continue
                _write(key.data, chunk)
                tail.append(chunk)
                size += len(chunk)
                while size - len(tail[0]) >= _TAIL:
                    size -= len(tail.popleft())


def _write(number: int, data: bytes) -> None:
    """Write output of the command to our own; output that nobody reads is dropped, and the command goes on."""
    view = memoryview(data)
    with suppress(OSError):
        while view:
            view = view[os.write(number, view) :]
