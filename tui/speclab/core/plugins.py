"""Plugins: objects that installed packages register under an entry-point group, and why some cannot be used.

Imports that take long run in a thread, one at a time (`load_in_thread`).

speclab's own connectors are found the same way (PyPA entry points specification); their names are reserved.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from threading import Lock
from typing import TYPE_CHECKING, Final, TypeVar

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint


T = TypeVar("T")

_OWN: Final = "speclab"
"""The package whose entry points take precedence."""


@dataclass(frozen=True, slots=True)
class BrokenPlugin:
    """Stands for a plugin that cannot be used: the reason, and what to do about it."""

    reason: str


class InvalidPlugin(Exception):
    """An entry point refers to the wrong kind of object; the message continues after its name."""


class PluginRegistry(Mapping[str, T | BrokenPlugin]):
    """The plugins of `group` by name; each is loaded when it is first requested.

    `check` returns a loaded object or raises `InvalidPlugin`. Errors of a package are not raised: its entry is a
    `BrokenPlugin`.
    """

    def __init__(self, group: str, check: Callable[[object], T]) -> None:
        self._group = group
        self._check = check
        self._loaded: dict[str, T | BrokenPlugin] = {}

    def __getitem__(self, name: str) -> T | BrokenPlugin:
        """Return the plugin `name`. Raise `KeyError`."""
        if name not in self._loaded:
            self._loaded[name] = self._load(self._found[name])
        return self._loaded[name]

    def __iter__(self) -> Iterator[str]:
        """Iterate over the names, speclab's own first."""
        return iter(self._found)

    def __len__(self) -> int:
        return len(self._found)

    def __contains__(self, name: object) -> bool:
        """Whether there is such a name; nothing is loaded to know it."""
        return name in self._found

    def provider(self, name: str) -> str:
        """Return the package and version that provides `name`; empty for speclab itself."""
        found = self._found[name]
        return "" if _is_own(found[0]) else _packages(found)

    @cached_property
    def _found(self) -> Mapping[str, tuple[EntryPoint, ...]]:
        """The entry points of each name: one, unless several packages provide it."""
        from importlib.metadata import entry_points

        found: dict[str, tuple[EntryPoint, ...]] = {}
        for entry in sorted(entry_points(group=self._group), key=lambda entry: (not _is_own(entry), entry.name)):
            others = found.get(entry.name, ())
            if not others or not _is_own(others[0]):
                found[entry.name] = (*others, entry)
        return found

    def _load(self, found: tuple[EntryPoint, ...]) -> T | BrokenPlugin:
        entry = found[0]
        if len(found) > 1:
            return BrokenPlugin(f"{entry.name!r} is given by {_packages(found)}; uninstall all but one of them")
        origin = f"{entry.value} of {_packages(found)}"
        try:
            return self._check(entry.load())
        except InvalidPlugin as error:
            return BrokenPlugin(f"{origin} {error}; fix the package, or uninstall it")
        except (Exception, SystemExit) as error:  # noqa: BLE001 - a package may do anything when it is imported
            return BrokenPlugin(
                f"{origin} cannot be loaded: {describe_exception(error)}; fix the package, or uninstall it"
            )


def describe_exception(error: BaseException) -> str:
    """Return an exception of a package with its location in the package."""
    from traceback import extract_tb

    frames = [
        frame
        for frame in extract_tb(error.__traceback__)
        if not frame.filename.startswith("<") and frame.filename != __file__ and "importlib" not in frame.filename
    ]
    where = f" at {frames[-1].filename}:{frames[-1].lineno}" if frames else ""
    return f"{type(error).__name__}: {error}{where}"


def _is_own(entry: EntryPoint) -> bool:
    return entry.module.partition(".")[0] == _OWN


def _packages(found: Iterable[EntryPoint]) -> str:
    """Return the packages of `found`, with their versions."""
    return " and ".join(sorted(f"{entry.dist.name} {entry.dist.version}" for entry in found if entry.dist))


_ONE_LOAD: Final = Lock()


async def load_in_thread(load: Callable[[], T]) -> T:
    """Return the result of `load`, a function that imports; it runs in a thread, one at a time."""
    return await asyncio.to_thread(_load, load)


def _load(load: Callable[[], T]) -> T:
    with _ONE_LOAD:
        return load()
