"""A running Singer program, and what its exit means."""

from __future__ import annotations

import asyncio
import os
import re
import signal
from collections.abc import AsyncGenerator, Awaitable, Iterable, Sequence
from contextlib import suppress
from typing import Final, TypeVar

from speclab.connectors.singer.messages import ProgramLog
from speclab.connectors.singer.program import ProgramFiles, SingerProgram
from speclab.core.errors import BadResponse, EndpointError, Unauthorized, Unreachable
from speclab.core.outcome import ErrorClass
from speclab.core.processes import attach_child, detach_child
from speclab.spec.units import format_duration, format_size

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
