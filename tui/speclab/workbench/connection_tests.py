"""Connection tests of the open spec: their progress and results, one per system of each spec."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final

from speclab.core.errors import SpecError, SpeclabError
from speclab.core.outcome import Level
from speclab.spec.document import SOURCE_AUTH, SOURCE_SYSTEM, TARGET_AUTH, TARGET_SYSTEM, Document
from speclab.spec.outline import comparable
from speclab.spec.parser import read_endpoint
from speclab.workbench.samples import loaded

if TYPE_CHECKING:
    from speclab.connectors.auth.login import LoginPrompt
    from speclab.connectors.check import ConnectionCheck
    from speclab.spec.integration import Endpoint, Role

_ADDRESSES: Final[dict[Role, tuple[str, str]]] = {
    "source": (SOURCE_SYSTEM, SOURCE_AUTH),
    "target": (TARGET_SYSTEM, TARGET_AUTH),
}
_TITLES: Final = {
    role: tuple(comparable(address.rpartition(" > ")[2]) for address in addresses)
    for role, addresses in _ADDRESSES.items()
}
"""The titles of the sections that say how a system is reached."""


@dataclass(frozen=True, slots=True)
class ConnectionTest:
    """A connection test, as far as it has come: `step` is what it waits for, empty once it is over.

    `sections` are the texts that were tested: the result holds while they stay the same. `reports` are warnings of
    the connector, `error` is why the test could not begin.
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
    """What a connection test needs of whoever runs it."""

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
        """Return the last test of a system, if its sections are still what was tested."""
        test = self._tests.get((path, role))
        return test if test is not None and test.sections == _section_texts(document, role) else None

    async def run(self, document: Document, path: Path, role: Role) -> None:
        """Test the connection of the source or target of `document`; cancelling it ends it as stopped."""
        reports: list[str] = []  # a connector may report from a thread of its own
        test = ConnectionTest(_section_texts(document, role), role, "resolving settings")

        def update(now: ConnectionTest) -> None:
            nonlocal test
            test = replace(now, reports=tuple(reports))
            self._tests[path, role] = test
            self._callbacks.changed()

        update(test)
        try:
            endpoint = await loaded(partial(read_endpoint, document, role))
            if not await self._callbacks.allow(path, endpoint):
                return  # it ends as stopped
            check_connection = await loaded(partial(_prepare, endpoint, path, reports))
            update(replace(test, title=f"{role}: {endpoint.system.connector}, {endpoint.login}"))

            def tell(check: ConnectionCheck) -> None:
                wants_token = endpoint.auth.type == "oauth2" and check.token is None
                update(replace(test, check=check, step="getting a token" if wants_token else "asking the system"))
                if check.token is not None:
                    self._callbacks.close_login()

            check = await check_connection(tell=tell, show=partial(self._callbacks.show_login, role))
            test = replace(test, check=check, step="")
        except SpecError as error:
            test = replace(test, error=error, step="")
        finally:
            self._callbacks.close_login()
            update(replace(test, step="", stopped=bool(test.step)))


def get_role(section_title: str) -> Role | None:
    """Return the system that a section says how to reach; None for other sections."""
    title = comparable(section_title)
    return next((role for role, titles in _TITLES.items() if title in titles), None)


def _prepare(endpoint: Endpoint, path: Path, reports: list[str]) -> Callable[..., Awaitable[ConnectionCheck]]:
    """Load the connector and return the function that tests the connection. Raises `SpecError`."""
    from speclab.connectors.check import check_connection
    from speclab.connectors.machine import this_machine
    from speclab.connectors.registry import load_parts

    def report(level: Level, message: str) -> None:
        if level is not Level.INFO:
            reports.append(message)

    load_parts(endpoint.system)
    references, context = this_machine(path, [endpoint], report=report)
    return partial(check_connection, endpoint, references, context)


def _section_texts(document: Document, role: Role) -> tuple[str, ...]:
    """Return the text of each section that says how a system is reached."""
    titles = _TITLES[role]
    return tuple(document.body(section) for section in document.sections if comparable(section.title) in titles)
