"""A tap or a target as a spec names it: its command and config, and the private files these are handed over in."""

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
    """What a process is started from, references resolved; `name` is what messages call it."""

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
        """The program of `system`. Raises `UnresolvedReference`."""
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
        """The path of the program; one with a slash is relative to the workspace. Raises `Unreachable`."""
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
    """Return the variables of `environ` that any program may have: of its surroundings, and none that may be secret."""
    return {name: value for name, value in environ.items() if _INHERITED.fullmatch(name.upper())}


def _name(command: Sequence[str]) -> str:
    """What a command is known by: what is called a tap or target in it (`uvx tap-github`), or else its program."""
    names = [Path(part).name for part in command]
    return next((name for name in names if name.startswith(("tap", "target"))), names[0])


class ProgramFiles(AbstractContextManager["ProgramFiles"]):
    """A directory that only this user can look into, for the length of a read or a write.

    When this process is killed, the directory stays behind, and whatever runs with its files may go on: the next one
    that is made ends and removes both.
    """

    def __init__(self) -> None:
        _sweep()
        self._path = Path(tempfile.mkdtemp(prefix=_PREFIX))  # 0700
        self._note(_OWNER, os.getpid())

    def config(self, value: Mapping[str, Json]) -> str:
        """The path of a file with the config in it; always the same."""
        path = self._path / "config.json"
        return str(path) if path.exists() else self.write("config", value)

    def rewritten(self, value: Mapping[str, Json]) -> bool:
        """Whether the file with the config says another thing than `value` by now."""
        try:
            return decode((self._path / "config.json").read_bytes()) != value
        except (OSError, ValueError):
            return True

    def write(self, name: Literal["config", "catalog", "state"], value: Json | Mapping[str, Json]) -> str:
        """Put `value` there as JSON, in a file that only this user can read; gives its path."""
        path = self._path / f"{name}.json"
        with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as stream:  # noqa: PTH123 - of a descriptor
            stream.write(encode(value))
        return str(path)

    def note(self, pid: int) -> None:
        """Remember that the process `pid`, which leads a group, runs with these files."""
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
    """Remove the directories of processes that are gone, for what is in them may be secret, and end what they began."""
    for path in Path(tempfile.gettempdir()).glob(f"{_PREFIX}*"):
        with suppress(FileNotFoundError, ProcessLookupError):  # another sweep was faster
            if path.lstat().st_uid != os.getuid():
                continue
            owner, leader = _noted(path / _OWNER), _noted(path / _LEADER)
            if owner is None or is_alive(owner):  # on another machine it is taken to be alive
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
