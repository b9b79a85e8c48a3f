"""A tap or a target: its command and config, and the private files that pass the config to it."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import signal
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Final, Literal

from speclab.connectors.api import RuntimeContext
from speclab.connectors.secrets.redaction import Redactor
from speclab.connectors.secrets.references import References
from speclab.connectors.singer.messages import ProgramLog
from speclab.connectors.singer.settings import SingerSystem
from speclab.core.errors import Unreachable
from speclab.core.json import Json, decode, encode
from speclab.core.locks import ProcessIdentity, is_alive

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
