"""Processes that the app starts: runs and connection tests."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final
from urllib.parse import quote

from speclab.core.errors import SpecError, SpeclabError
from speclab.core.json import Record, decode
from speclab.core.outcome import Level
from speclab.core.plugins import load_in_thread
from speclab.core.processes import describe_exit, start_speclab, wait_for_exit
from speclab.spec.document import SOURCE_AUTH, SOURCE_SYSTEM, TARGET_AUTH, TARGET_SYSTEM, Document
from speclab.spec.outline import comparable
from speclab.spec.parser import read_endpoint

if TYPE_CHECKING:
    import subprocess

    from speclab.connectors.auth.login import LoginPrompt
    from speclab.connectors.check import ConnectionCheck
    from speclab.spec.integration import Endpoint, Role

_PREFIX: Final = "speclab: "
"""The prefix of an error message of `speclab`."""

_MOST: Final = 2
"""Lines of a long error, such as the problems of a spec, that are shown."""

_CRASH: Final = "Traceback (most recent call last):"


@dataclass(frozen=True, slots=True)
class Launched:
    """A launched process, and the file with its output."""

    process: subprocess.Popen[bytes]
    output: Path

    def read_lines(self) -> list[str]:
        """Return the lines of output. Raises `SpeclabError` if the file is gone."""
        try:
            text = self.output.read_text("utf-8", "replace")
        except OSError as error:
            raise SpeclabError(f"the output cannot be read: {self.output}: {error.strerror or error}") from error
        return text.removesuffix("\n").split("\n") if text else []  # JSON may contain other line ends

    def read_rows(self) -> list[Record]:
        """Return the JSON rows of the output. Raises as `read_lines`."""
        values = (decode(line.encode()) for line in self.read_lines() if line.startswith("{"))
        return [value for value in values if isinstance(value, dict)]

    async def end(self) -> SpeclabError | None:
        """Wait until the process has ended and return its error; None if it has none."""
        code = await wait_for_exit(self.process)
        if code in (0, 130):
            return None
        how = describe_exit(code)
        try:
            said = self.read_lines()
        except SpeclabError as error:
            return SpeclabError(f"{how}; {error.message}")
        starts = [number for number, line in enumerate(said) if line.startswith(_PREFIX)]
        if starts:
            first, *rest = (line.strip() for line in said[starts[-1] :])
            if (more := len(rest) - _MOST) > 1:
                rest[_MOST:] = [f"{more} more are in {self.output}"]
            return SpeclabError(first.removeprefix(_PREFIX), hint="\n".join(rest))
        if code == 1 and _CRASH not in said:
            return None  # it ran, and some records failed: the run log has the details
        last = said[-1] if said else "no output"
        return SpeclabError(f"{how}: {last}", hint=f"All output is in {self.output}.")


def launch(spec: Path, name: str, workspace: Path, runlog: Path) -> Launched:
    """Start a run of the spec at `spec`, called `name`; its output goes to `.speclab/runs/NAME.log`.

    Raises `SpeclabError` if no process can be started.
    """
    from speclab.spec.workspace import state_directory

    output = state_directory(workspace) / "runs" / f"{quote(name, safe=' ')}.log"
    return _start(("run", str(spec), "--runlog", str(runlog)), output)


def launch_retry(spec_id: str, which: Sequence[str], workspace: Path, runlog: Path) -> Launched:
    """Start `speclab retry --json` for failures of a spec; `which` are their ids, or options that select them.

    Raises as `launch`.
    """
    from speclab.spec.workspace import state_directory

    output = state_directory(workspace) / "runs" / f"{quote(spec_id, safe=' ')}.retry.log"
    return _start(("retry", spec_id, *which, "--json", "--runlog", str(runlog)), output, directory=workspace)


def launch_service(directory: Path, workspace: Path, runlog: Path) -> Launched:
    """Start `speclab up` for the specs in `directory`; its output goes to `.speclab/up.log`.

    The output of the previous one stays in `up.log.old`. Raises as `launch`.
    """
    from speclab.spec.workspace import state_directory

    output = state_directory(workspace) / "up.log"
    return _start(("up", str(directory), "--runlog", str(runlog)), output, before=output.with_name("up.log.old"))


def _start(
    arguments: Sequence[str], output: Path, before: Path | None = None, directory: Path | None = None
) -> Launched:
    """Start `speclab` with `arguments` in `directory` (default: here); move old content of `output` to `before`."""
    if before is not None:
        try:
            output.replace(before)
        except FileNotFoundError:
            pass  # the first one
        except OSError as error:
            raise SpeclabError(f"{error.filename or output}: {error.strerror or error}") from error
    return Launched(start_speclab(*arguments, output=output, directory=directory), output)


_ADDRESSES: Final[dict[Role, tuple[str, str]]] = {
    "source": (SOURCE_SYSTEM, SOURCE_AUTH),
    "target": (TARGET_SYSTEM, TARGET_AUTH),
}
_TITLES: Final = {
    role: tuple(comparable(address.rpartition(" > ")[2]) for address in addresses)
    for role, addresses in _ADDRESSES.items()
}
"""The titles of the sections with the connection settings of a system."""


@dataclass(frozen=True, slots=True)
class ConnectionTest:
    """The state of a connection test: `step` is the current step, empty when the test is over.

    `sections` are the tested texts: the result is valid while they stay the same. `reports` are warnings of the
    connector, `error` is why the test could not start.
    """

    sections: tuple[str, ...]
    title: str
    step: str = ""
    check: ConnectionCheck | None = None
    reports: tuple[str, ...] = ()
    error: SpeclabError | None = None
    stopped: bool = False


@dataclass(frozen=True, slots=True)
class ConnectionCallbacks:
    """Functions that a connection test calls."""

    changed: Callable[[], None]
    """Called after each step."""
    allow: Callable[[Path, Endpoint], Awaitable[bool]]
    """Return whether the spec may connect to this system."""
    show_login: Callable[[Role, LoginPrompt], None]
    close_login: Callable[[], None]


class ConnectionTests:
    """The connection tests of this session; one runs at a time."""

    def __init__(self, callbacks: ConnectionCallbacks) -> None:
        self._callbacks = callbacks
        self._tests: dict[tuple[Path, Role], ConnectionTest] = {}

    def get(self, document: Document, path: Path, role: Role) -> ConnectionTest | None:
        """Return the last test of a system, if its sections are unchanged since."""
        test = self._tests.get((path, role))
        return test if test is not None and test.sections == _section_texts(document, role) else None

    async def run(self, document: Document, path: Path, role: Role) -> None:
        """Test the connection of the source or target of `document`; cancelling it ends it as stopped."""
        reports: list[str] = []  # a connector may report from another thread
        test = ConnectionTest(_section_texts(document, role), role, "resolving settings")

        def update(now: ConnectionTest) -> None:
            nonlocal test
            test = replace(now, reports=tuple(reports))
            self._tests[path, role] = test
            self._callbacks.changed()

        update(test)
        try:
            endpoint = await load_in_thread(partial(read_endpoint, document, role))
            if not await self._callbacks.allow(path, endpoint):
                return  # it ends as stopped
            check_connection = await load_in_thread(partial(_prepare, endpoint, path, reports))
            update(replace(test, title=f"{role}: {endpoint.system.connector}, {endpoint.login}"))

            def report_progress(check: ConnectionCheck) -> None:
                wants_token = endpoint.auth.type == "oauth2" and check.token is None
                update(replace(test, check=check, step="getting a token" if wants_token else "asking the system"))
                if check.token is not None:
                    self._callbacks.close_login()

            check = await check_connection(on_progress=report_progress, show=partial(self._callbacks.show_login, role))
            test = replace(test, check=check, step="")
        except SpecError as error:
            test = replace(test, error=error, step="")
        finally:
            self._callbacks.close_login()
            update(replace(test, step="", stopped=bool(test.step)))


def get_role(section_title: str) -> Role | None:
    """Return the system whose connection a section configures; None for other sections."""
    title = comparable(section_title)
    return next((role for role, titles in _TITLES.items() if title in titles), None)


def _prepare(endpoint: Endpoint, path: Path, reports: list[str]) -> Callable[..., Awaitable[ConnectionCheck]]:
    """Load the connector and return the function that tests the connection. Raises `SpecError`."""
    from speclab.connectors.check import check_connection
    from speclab.connectors.registry import load_parts
    from speclab.connectors.trust import this_machine

    def report(level: Level, message: str) -> None:
        if level is not Level.INFO:
            reports.append(message)

    load_parts(endpoint.system)
    references, context = this_machine(path, [endpoint], report=report)
    return partial(check_connection, endpoint, references, context)


def _section_texts(document: Document, role: Role) -> tuple[str, ...]:
    """Return the texts of the sections with the connection settings of a system."""
    titles = _TITLES[role]
    return tuple(document.body(section) for section in document.sections if comparable(section.title) in titles)
