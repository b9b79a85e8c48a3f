"""The program of a tap or target: its configuration, and its process."""

from __future__ import annotations

import asyncio
import os
import re
import shlex
import shutil
import signal
import tempfile
from collections.abc import AsyncGenerator, Awaitable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Final, Literal, TypeVar

from speclab.connectors.api import RuntimeContext
from speclab.connectors.secrets.redaction import Redactor
from speclab.connectors.secrets.references import References
from speclab.connectors.singer.catalog import ProgramLog
from speclab.connectors.singer.settings import SingerSystem
from speclab.core.errors import BadResponse, EndpointError, Unauthorized, Unreachable
from speclab.core.json import Json, decode, encode
from speclab.core.locks import ProcessIdentity, is_alive
from speclab.core.outcome import ErrorClass
from speclab.core.processes import attach_child, detach_child
from speclab.spec.settings_types import format_duration, format_size

_INHERITED: Final = re.compile(
    r"PATH|HOME|USER|LOGNAME|SHELL|LANG|LANGUAGE|LC_\w+|TZ|TERM|TMPDIR|TEMP|TMP|XDG_\w+|NO_COLOR|VIRTUAL_ENV"
    r"|(?:HTTP|HTTPS|ALL|NO|FTP)_PROXY|SSL_CERT_(?:FILE|DIR)|REQUESTS_CA_BUNDLE|CURL_CA_BUNDLE"
    r"|PYTHON(?:PATH|HOME|UTF8|IOENCODING|UNBUFFERED|DONTWRITEBYTECODE|WARNINGS|HASHSEED)|LD_LIBRARY_PATH|DYLD_\w+"
    r"|SYSTEMROOT|COMSPEC|PATHEXT|WINDIR|APPDATA|LOCALAPPDATA|PROGRAMDATA|USERPROFILE"
)
"""Names of environment variables that a tap or target inherits."""
_PREFIX: Final = "speclab-singer-"
_OWNER: Final = "owner.json"
_LEADER: Final = "leader.json"


@dataclass(frozen=True, slots=True)
class SingerProgram:
    """The command, config and environment of a process, references resolved; messages call it `name`."""

    name: str
    command: tuple[str, ...]
    config: Mapping[str, Json]
    environment: Mapping[str, str]
    directory: Path
    silence: float
    longest: int
    redactor: Redactor
    log: ProgramLog

    @classmethod
    def of(cls, system: SingerSystem, references: References, context: RuntimeContext) -> SingerProgram:
        """Return the program of `system`. Raise `UnresolvedReference`."""
        command = tuple(shlex.split(system.command))
        resolved = references.resolve_settings(system)
        name = references.redactor.redact(_name(command))
        return cls(
            name=name,
            command=command,
            config=resolved.config,
            environment=_inherited(os.environ) | resolved.env,
            directory=references.base,
            silence=resolved.limits.timeout,
            longest=resolved.limits.response,
            redactor=references.redactor,
            log=ProgramLog(name, references.redactor, context.report),
        )

    @property
    def executable(self) -> str:
        """Return the path of the program; one with a slash is relative to the workspace. Raise `Unreachable`."""
        program = self.command[0]
        place = str(self.directory / Path(program).expanduser()) if os.sep in program else program
        found = shutil.which(place)
        if found is None:
            raise Unreachable(
                f"{self.name}: there is no such program",
                hint="Install it in an environment of its own, such as with `pipx install`, and put its path into "
                "`command` if it is not on the PATH.",
            )
        return found


def _inherited(environ: Mapping[str, str]) -> dict[str, str]:
    """Return the variables of `environ` that every program may inherit: settings of the environment, never secrets."""
    return {name: value for name, value in environ.items() if _INHERITED.fullmatch(name.upper())}


def _name(command: Sequence[str]) -> str:
    """Return the display name of a command: its tap or target (`uvx tap-github`), or else its program."""
    names = [Path(part).name for part in command]
    return next((name for name in names if name.startswith(("tap", "target"))), names[0])


class ProgramFiles(AbstractContextManager["ProgramFiles"]):
    """A directory with mode 0700 for the duration of a read or a write.

    If this process is killed, the directory and the program that uses it remain. The next `ProgramFiles` ends that
    program and removes the directory.
    """

    def __init__(self) -> None:
        _sweep()
        self._path = Path(tempfile.mkdtemp(prefix=_PREFIX))  # 0700
        self._note(_OWNER, os.getpid())

    def config(self, value: Mapping[str, Json]) -> str:
        """The path of the config file; constant."""
        path = self._path / "config.json"
        return str(path) if path.exists() else self.write("config", value)

    def rewritten(self, value: Mapping[str, Json]) -> bool:
        """Whether the program has changed its config file since `value` was written."""
        try:
            return decode((self._path / "config.json").read_bytes()) != value
        except (OSError, ValueError):
            return True

    def write(self, name: Literal["config", "catalog", "state"], value: Json | Mapping[str, Json]) -> str:
        """Write `value` as JSON to a file with mode 0600. Return its path."""
        path = self._path / f"{name}.json"
        with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as stream:  # noqa: PTH123 - of a descriptor
            stream.write(encode(value))
        return str(path)

    def note(self, pid: int) -> None:
        """Record that the process `pid`, the leader of its group, uses these files."""
        self._note(_LEADER, pid)

    def _note(self, name: str, pid: int) -> None:
        process = ProcessIdentity.of(pid)
        (self._path / name).write_bytes(encode([process.pid, process.host, process.started]))

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with suppress(FileNotFoundError):
            shutil.rmtree(self._path)


def _sweep() -> None:
    """Remove the directories of processes that are gone, which may contain secrets, and end their programs."""
    for path in Path(tempfile.gettempdir()).glob(f"{_PREFIX}*"):
        with suppress(FileNotFoundError, ProcessLookupError):  # another process removed it first
            if path.lstat().st_uid != os.getuid():
                continue
            owner, leader = _noted(path / _OWNER), _noted(path / _LEADER)
            if owner is None or is_alive(owner):  # a process on another machine counts as alive
                continue
            if leader is not None and leader.host == owner.host and is_alive(leader):
                os.killpg(leader.pid, signal.SIGKILL)
            shutil.rmtree(path)


def _noted(path: Path) -> ProcessIdentity | None:
    try:
        noted = decode(path.read_bytes())
    except (OSError, ValueError):
        return None
    match noted:
        case [int(pid), str(host), str(started)]:
            return ProcessIdentity(pid, host, started)
    return None


_MEANINGS: Final = (
    (
        re.compile(
            r"\b40[13]\b.*(client error|unauthori[sz]ed|forbidden)|unauthori[sz]ed|invalid_grant|authentication failed",
            re.IGNORECASE,
        ),
        ErrorClass.UNAUTHORIZED,
    ),
    (re.compile(r"timed? ?out|timeout ?error", re.IGNORECASE), ErrorClass.TIMEOUT),
    (
        re.compile(
            r"connection (refused|reset|aborted)|could not connect|failed to (connect|establish)|no route to host"
            r"|name or service not known|name resolution|nodename nor servname|getaddrinfo|max retries exceeded",
            re.IGNORECASE,
        ),
        ErrorClass.NETWORK,
    ),
)
"""How the libraries of taps and targets phrase failures: a Singer process reports only that it failed."""

_PLACE: Final = re.compile(
    r"\[Errno \d+\]|permission denied|no space left|read-only file system|disk full", re.IGNORECASE
)


def classify_log(text: str) -> ErrorClass | None:
    """Classify a log line by the failure it describes; None if a record may be the cause."""
    return next((kind for pattern, kind in _MEANINGS if pattern.search(text)), None)


def is_environment_failure(text: str) -> bool:
    """Whether a log line is about the machine or the destination rather than a record."""
    return _PLACE.search(text) is not None


def describe_exit(program: SingerProgram, code: int) -> str:
    """Describe a process that failed, with its last output."""
    how = f"ended by {_signal(-code)}" if code < 0 else f"ended with exit code {code}"
    cause = program.log.cause
    return f"{program.name}: {how}: {cause}" if cause else f"{program.name}: {how} and said nothing"


def build_failure(program: SingerProgram, code: int, request: str) -> EndpointError:
    """Return the error of a tap or target that exited with `code`; its last lines are the response."""
    message, response = describe_exit(program, code), program.log.tail
    match classify_log(program.log.cause):
        case ErrorClass.UNAUTHORIZED:
            return Unauthorized(message, request=request, response=response, hint="Check the secrets in `config`.")
        case ErrorClass.NETWORK | ErrorClass.TIMEOUT:
            return Unreachable(message, request=request, response=response)
    hint = "Its last lines are in the run log." if response else "Try it by hand."
    if code == -signal.SIGKILL:
        hint = "Nothing here kills a program at work; is there too little memory?"
    return BadResponse(message, request=request, response=response, hint=hint)


def _signal(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


_CHUNK: Final = 1 << 18
_GRACE: Final = 3.0
"""Seconds between SIGTERM and SIGKILL."""
_LONGEST_LOG: Final = 1 << 16

T = TypeVar("T")


class SilentProgram(Unreachable):
    """A process neither wrote nor read anything for the configured timeout."""


class SingerProcess:
    """One process of a program, in its own process group, so that its children end with it."""

    def __init__(self, program: SingerProgram, process: asyncio.subprocess.Process) -> None:
        self._program = program
        self._process = process
        self._heard = _now()
        self._log = asyncio.create_task(self._follow_log())

    @classmethod
    async def start(
        cls, program: SingerProgram, files: ProgramFiles, arguments: Sequence[str], *, fed: bool = False
    ) -> SingerProcess:
        """Start `program` with its config file and `arguments`; `fed` if it receives lines on stdin.

        Raise `Unreachable`.
        """
        executable = program.executable
        program.log.begin()
        try:
            process = await asyncio.create_subprocess_exec(
                executable,
                *program.command[1:],
                "--config",
                files.config(program.config),
                *arguments,
                stdin=asyncio.subprocess.PIPE if fed else asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.PIPE,
                cwd=program.directory,
                env=program.environment,
                start_new_session=True,
                limit=_CHUNK,
            )
        except OSError as error:
            raise Unreachable(f"{program.name}: cannot be started: {error.strerror or error}") from None
        attach_child(process.pid)
        running = cls(program, process)
        try:
            files.note(process.pid)
        except OSError:
            await running.stop()
            raise
        return running

    async def lots(self) -> AsyncGenerator[list[bytes], None]:
        """Yield lines of its stdout without line ends, as many as are available at a time, never an empty batch.

        Output is read only when the next batch is requested, which gives back-pressure. The incomplete last line of a
        process that fails is dropped. Raise `SilentProgram`, and `BadResponse` for a line that is too long.
        """
        stdout = self._process.stdout
        assert stdout is not None  # noqa: S101 - it is a pipe
        parts: list[bytes] = []
        size = count = 0
        while chunk := await self._patiently(stdout.read(_CHUNK)):
            *lines, rest = chunk.split(b"\n")
            size += len(lines[0]) if lines else len(rest)
            if max(size, *map(len, lines[1:]), 0) > self._program.longest:
                raise self._too_long(count + 1)
            count += len(lines)
            if lines:
                lines[0] = b"".join([*parts, lines[0]])
                parts, size = [], len(rest)
                yield lines
            parts.append(rest)
        if size and await self.ended() == 0:
            yield [b"".join(parts)]

    async def feed(self, lines: Iterable[bytes]) -> bool:
        """Write `lines`, each with its line end, and close stdin. Return False if the process stopped reading before.

        Raise `SilentProgram`.
        """
        stdin = self._process.stdin
        assert stdin is not None  # noqa: S101 - it is a pipe
        written = 0
        try:
            for line in lines:
                stdin.write(line)
                written += len(line)
                if written >= _CHUNK:
                    await self._patiently(stdin.drain())
                    written = 0
            stdin.close()
            await self._patiently(stdin.wait_closed())
        except (BrokenPipeError, ConnectionResetError):
            return False
        return True

    async def ended(self) -> int:
        """Return its exit code, or the negative number of the signal that ended it. Raise `SilentProgram`."""
        code = await self._patiently(self._process.wait())
        await self.stop()  # its whole output is in the log by then, and its children have ended
        return code

    async def stop(self) -> None:
        """Terminate the process and its children, and wait until they are gone."""
        if self._process.stdin is not None:
            self._process.stdin.close()
        rest = asyncio.create_task(self._drain())  # it may have to flush output before it can end
        try:
            if self._process.returncode is None:
                self._signal(signal.SIGTERM)
                with suppress(TimeoutError):
                    await asyncio.wait_for(self._process.wait(), _GRACE)
            else:
                await asyncio.wait({rest}, timeout=_GRACE)  # a child may still be running and hold the pipes open
        finally:
            self._signal(signal.SIGKILL)
        await self._process.wait()
        detach_child(self._process.pid)
        with suppress(TimeoutError):
            await asyncio.wait_for(rest, _GRACE)

    async def _drain(self) -> None:
        """Drain the pipes, so that they close."""
        stdout = self._process.stdout
        while stdout is not None and await stdout.read(_CHUNK):
            pass
        await self._log

    def _signal(self, number: signal.Signals) -> None:
        with suppress(ProcessLookupError, PermissionError):  # the group is empty; macOS reports EPERM for zombies
            os.killpg(self._process.pid, number)

    async def _patiently(self, work: Awaitable[T]) -> T:
        """Await `work`. Raise `SilentProgram` if it does not end and nothing is logged for the timeout."""
        self._heard = _now()
        waiting = asyncio.ensure_future(work)
        try:
            while not waiting.done():
                left = self._heard + self._program.silence - _now()
                if left <= 0:
                    raise self._silent()
                await asyncio.wait({waiting}, timeout=left)
        finally:
            if not waiting.done():
                waiting.cancel()
                with suppress(asyncio.CancelledError):
                    await waiting
        return waiting.result()

    def _silent(self) -> SilentProgram:
        program = self._program
        return SilentProgram(
            f"{program.name}: wrote and read nothing for {format_duration(program.silence)}",
            request=program.name,
            response=program.log.tail,
            hint="If it needs that long, give the system `limits: {timeout: ...}`.",
        )

    def _too_long(self, line: int) -> BadResponse:
        program = self._program
        return BadResponse(
            f"{program.name}: its output has a line, number {line} or soon after, of more than "
            f"{format_size(program.longest)}",
            request=program.name,
            hint="Give the system `limits: {response: ...}` with the size of its largest record.",
        )

    async def _follow_log(self) -> None:
        stderr = self._process.stderr
        assert stderr is not None  # noqa: S101 - it is a pipe
        log: ProgramLog = self._program.log
        line = b""
        while chunk := await stderr.read(_CHUNK):
            self._heard = _now()
            *lines, rest = chunk.replace(b"\r", b"\n").split(b"\n")
            for each in lines:
                log.add((line + each)[:_LONGEST_LOG])
                line = b""
            line = (line + rest)[:_LONGEST_LOG]  # the rest of a longer line is skipped
        log.add(line)


def _now() -> float:
    return asyncio.get_running_loop().time()
